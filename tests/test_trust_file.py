"""The list of trusted types as a file: written whole or not at all, and said where it cannot be understood."""

import sys
from pathlib import Path

import pytest

from reviewapp.errors import ReleaseRefused
from reviewapp.trust import TrustedTypes


def test_the_list_is_a_file_that_grows_sorted_and_is_replaced_in_one_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", ["/first", "/srv/b"])
    trust = TrustedTypes(tmp_path / "a" / "b")
    trust.add({"b.B": Path("/srv/b"), "c.Größe": Path("/srv/c")})
    trust.add({"a.A": Path("/srv/c"), "b.B": Path("/srv/b2")})
    assert (tmp_path / "a" / "b" / "trusted_types.json").read_bytes().decode() == (
        '[\n  {\n    "type": "a.A",\n    "folder": "/srv/c"\n  },\n  {\n    "type": "b.B",\n    "folder": "/srv/b2"\n'
        '  },\n  {\n    "type": "c.Größe",\n    "folder": "/srv/c"\n  }\n]\n'
    )
    assert trust.folders() == {"a.A": Path("/srv/c"), "b.B": Path("/srv/b2"), "c.Größe": Path("/srv/c")}
    assert [path.name for path in (tmp_path / "a" / "b").iterdir()] == ["trusted_types.json"]
    assert trust.names() == trust.names() == ("a.A", "b.B", "c.Größe")
    assert sys.path == ["/first", "/srv/b", "/srv/c", "/srv/b2"]


def test_a_list_that_cannot_be_understood_is_named_with_what_it_must_be(tmp_path: Path) -> None:
    path = tmp_path / "trusted_types.json"
    for content in (b"{", b"[1]", b'[{"folder": "/x"}]', b"3", b"\xff"):
        path.write_bytes(content)
        with pytest.raises(ReleaseRefused) as refused:
            TrustedTypes(tmp_path).names()
        assert refused.value.detail == (f"{path} must be a list of objects with type and folder; mend or remove it.")
    path.write_text("[]")
    assert TrustedTypes(tmp_path).names() == ()
