"""The list of trusted types is the operator's: it lies in the instance, and a broken one is said, not passed over."""

import json
import sys
from pathlib import Path

import pytest

from reviewapp.errors import ReleaseRefused
from reviewapp.trust import FILE, TrustedTypes


def test_types_are_added_and_kept_with_the_folder_of_their_module(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])
    trust = TrustedTypes(tmp_path / "new")
    assert trust.names() == ()
    trust.add({})
    assert not (tmp_path / "new").exists()
    trust.add({"b.B": tmp_path / "b"})
    trust.add({"a.A": tmp_path / "a"})
    assert trust.names() == ("a.A", "b.B")
    assert sys.path[-2:] == [str(tmp_path / "a"), str(tmp_path / "b")]
    assert [path.name for path in (tmp_path / "new").iterdir()] == [FILE]


@pytest.mark.parametrize("content", ["{", "[1]", '[{"type": "a.A"}]', "null"])
def test_a_list_that_cannot_be_understood_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / FILE).write_text(content)
    with pytest.raises(ReleaseRefused, match="must be a list"):
        TrustedTypes(tmp_path).names()


def test_what_is_trusted_is_written_for_people_to_read(tmp_path: Path) -> None:
    TrustedTypes(tmp_path).add({"own.Größe": Path("/srv/models")})
    assert json.loads((tmp_path / FILE).read_text()) == [{"type": "own.Größe", "folder": "/srv/models"}]
