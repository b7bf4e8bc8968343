"""A release is loaded where it was shown to load: once, in a process of its own, whatever becomes of that one."""

import json
import resource
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from reviewapp import proof, proving
from reviewapp import release as releases
from reviewapp.errors import ReleaseRefused
from reviewapp.manifest import MANIFEST
from reviewapp.proof import Proofs, in_child
from reviewapp.release import NATIVE, EngineChoice, Release
from reviewapp.trust import TrustedTypes

from .test_release import edit, reseal

OWN = """
import os, signal
import numpy as np
from sklearn.base import BaseEstimator


class Own(BaseEstimator):
    def __init__(self, labels, how="well"):
        self.labels, self.how = labels, how
        self.classes_ = np.array(labels)

    def predict_proba(self, X):
        if self.how == "dies":
            os.kill(os.getpid(), signal.SIGSEGV)
        elif self.how == "is killed":
            os.kill(os.getpid(), signal.SIGTERM)
        elif self.how == "leaves":
            os._exit(0)
        elif self.how == "lies":
            print("accepted 27", flush=True)
            os._exit(0)
        elif self.how == "eats":
            np.ones(1 << 29)
        elif self.how == "writes":
            os.write(1, b"x" * 100_000)
            os.write(1, b"x")
        return np.full((len(X), len(self.labels)), 1 / len(self.labels))
"""


@pytest.fixture
def folder(release: Release, releases_root: Path, tmp_path: Path) -> Path:
    """A copy of the default release that a test may damage."""
    return Path(shutil.copytree(releases_root / str(release.id), tmp_path / "copy"))


@pytest.fixture
def own(release: Release, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], tuple[Path, str]]:
    """Write a release whose model behaves in a way of its own, trusted in `instance`; return its folder and digest."""
    (tmp_path / "own_model.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "own_model", raising=False)
    import own_model

    TrustedTypes(tmp_path / "instance").add({"own_model.Own": tmp_path})

    def write(how: str) -> tuple[Path, str]:
        model = own_model.Own(list(release.contract.outcome.labels), how)
        made = releases.write(replace(release, model=model, engine=EngineChoice(NATIVE, "")), tmp_path / "releases")
        return tmp_path / "releases" / str(made.id), made.id.digest

    return write


# ---- the other process ------------------------------------------------------------------------------------------


@pytest.fixture
def there(monkeypatch: pytest.MonkeyPatch) -> None:
    """Start the process that a service starts, where the other tests do the same in theirs."""
    monkeypatch.setattr(proof, "in_child", in_child)


def test_a_release_that_answers_as_it_must_is_accepted(there: None, release: Release, folder: Path) -> None:
    assert in_child(folder, release.id.digest, folder.parent) == len(release.golden)
    assert sorted(path.name for path in folder.parent.iterdir()) == ["copy"]


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ("dies", "ended the process that tried, by a segmentation fault"),
        ("is killed", "ended the process that tried, by signal 15"),
        ("leaves", "ended the process that tried, without a word"),
        ("lies", "ended the process that tried, without a word"),
        ("eats", "failed on a valid request (MemoryError)"),
        ("writes", "ended the process that tried, without a word"),
        ("well", "Golden request 1, model"),
    ],
)
def test_whatever_a_release_does_to_the_process_that_loads_it_is_a_reason_to_refuse_it(
    there: None, own: Callable[[str], tuple[Path, str]], tmp_path: Path, how: str, says: str
) -> None:
    folder, digest = own(how)
    with pytest.raises(ReleaseRefused) as refused:
        Proofs(tmp_path / "instance").demand(folder, digest)
    assert says in refused.value.detail
    assert not (tmp_path / "instance" / proof.FOLDER).exists()


def test_one_that_takes_too_long_is_refused(there: None, release: Release, folder: Path) -> None:
    with pytest.raises(ReleaseRefused, match="took more than 0 seconds"):
        in_child(folder, release.id.digest, folder.parent, seconds=0)


def test_what_has_another_digest_is_not_even_loaded(there: None, folder: Path, release: Release) -> None:
    (folder / "model.skops").write_bytes(b"")
    reseal(folder)
    with pytest.raises(ReleaseRefused, match=f"the ledger knows {release.id.digest}"):
        in_child(folder, release.id.digest, folder.parent)


def test_a_folder_that_is_gone_is_said_to_be(there: None, tmp_path: Path, release: Release) -> None:
    with pytest.raises(ReleaseRefused, match="There is no such folder"):
        in_child(tmp_path / "gone", release.id.digest, tmp_path)


def test_a_process_with_the_limits_is_ended_when_it_takes_more(folder: Path) -> None:
    code = f"""
import pathlib, sys
from reviewapp import proving
proving.CPU_SECONDS = 1
proving.limit(pathlib.Path({str(folder)!r}))
while True:
    pass
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=100)
    assert done.returncode == -signal.SIGXCPU
    assert "seconds of a core" in proof._DIED[signal.SIGXCPU]


def test_the_limits_leave_room_for_what_the_libraries_reserve_and_for_the_files(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_to: dict[int, tuple[int, int]] = {}
    monkeypatch.setattr(resource, "setrlimit", set_to.__setitem__)
    alarms: list[int] = []
    monkeypatch.setattr(signal, "alarm", alarms.append)
    proving.limit(folder)
    assert proof.ROOM < set_to[resource.RLIMIT_AS][0] < proof.ROOM + (16 << 30)
    assert set_to[resource.RLIMIT_CPU] == (proof.CPU_SECONDS, proof.CPU_SECONDS + 5)
    assert (set_to[resource.RLIMIT_FSIZE][0], set_to[resource.RLIMIT_CORE][0]) == (proof.SAID, 0)
    assert alarms == [proof.WALL_SECONDS]


# ---- what it says -----------------------------------------------------------------------------------------------


def test_the_last_word_is_a_verdict_in_one_line(
    release: Release, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words, limited = [str(folder), release.id.digest, str(folder.parent)], list[Path]()
    assert proving.main(words, limited.append) == 0
    assert capsys.readouterr().out == f"accepted {len(release.golden)}\n"
    assert limited == [folder]
    (folder / "card.md").unlink()
    assert proving.main(words, limited.append) == 1
    said = capsys.readouterr().out
    assert (said.startswith("refused The folder must"), "card.md" in said, said.count("\n")) == (True, True, 1)


def renamed(contract: dict[str, Any]) -> None:
    contract["properties"]["opened"] = contract["properties"].pop("open_tickets")
    contract["required"] = ["opened" if name == "open_tickets" else name for name in contract["required"]]


def closed(contract: dict[str, Any]) -> None:
    contract["properties"]["open_tickets"]["maximum"] = 0


def retyped(contract: dict[str, Any]) -> None:
    contract["properties"]["open_tickets"]["type"] = "boolean"
    for limit in ("minimum", "maximum", "x-reviewapp-seen"):
        contract["properties"]["open_tickets"].pop(limit, None)


def odd(golden: dict[str, Any]) -> None:
    golden["requests"][2]["input"]["odd"] = 1


@pytest.mark.parametrize(
    ("name", "change", "says"),
    [
        ("contract.json", renamed, "the contract has no 'values' of 'open_tickets'"),
        ("contract.json", closed, "/open_tickets"),
        ("contract.json", retyped, "Field 'open_tickets'"),
        ("golden.json", odd, "request 3 breaks the contract at /odd"),
        ("golden.json", lambda golden: golden["requests"][0]["answers"].update(model="x"), "request 1, model"),
        (
            "golden.json",
            lambda golden: golden["requests"][0].update(answers=[]),
            "cannot be loaded or asked (Attribute",
        ),
    ],
)
def test_a_contract_that_goes_with_another_model_is_refused_and_the_place_is_named(
    folder: Path, name: str, change: Callable[[Any], Any], says: str
) -> None:
    edit(name, change)(folder)
    with pytest.raises(ReleaseRefused) as refused:
        proving.accept(folder, reseal(folder), folder.parent)
    assert says in refused.value.detail


# ---- who remembers ----------------------------------------------------------------------------------------------


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The digests that were shown, in order, by a process that accepts all."""
    shown: list[str] = []
    monkeypatch.setattr(proof, "in_child", lambda folder, digest, instance, keep: shown.append(digest))
    return shown


def test_a_release_is_proved_once_for_each_digest_and_each_version_of_a_library(
    asked: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(3):
        Proofs(tmp_path).demand(tmp_path, "sha256:1")
        Proofs(tmp_path).demand(tmp_path, "sha256:2")
    assert asked == ["sha256:1", "sha256:2"]
    kept = sorted((tmp_path / proof.FOLDER).iterdir())
    assert [path.name for path in kept] == ["1.json", "2.json"]
    modes = [stat.S_IMODE(path.stat().st_mode) for path in (kept[0].parent, *kept)]
    assert modes == [0o700, 0o600, 0o600]
    monkeypatch.setattr(proof, "libraries_here", lambda: {"numpy": "99"})
    Proofs(tmp_path).demand(tmp_path, "sha256:1")
    assert asked[2:] == ["sha256:1"]
    assert json.loads(kept[0].read_text())["numpy"] == "99"


def test_the_process_that_proves_keeps_the_proof_also_where_nobody_waits_for_it_any_more(
    release: Release, folder: Path, tmp_path: Path
) -> None:
    code = "import sys; from pathlib import Path; from reviewapp.proof import Proofs\n"
    code += "Proofs(Path(sys.argv[1])).demand(Path(sys.argv[2]), sys.argv[3])"
    instance = tmp_path / "instance"
    kept = instance / proof.FOLDER / f"{release.id.digest.removeprefix('sha256:')}.json"
    with subprocess.Popen([sys.executable, "-c", code, str(instance), str(folder), release.id.digest]) as waits:
        children = Path(f"/proc/{waits.pid}/task/{waits.pid}/children")
        wait_for(lambda: bool(children.read_text()))
        assert not kept.exists()
        waits.kill()
    wait_for(kept.exists)
    assert json.loads(kept.read_text()) == proof.environment()
    assert [stat.S_IMODE(path.stat().st_mode) for path in (kept.parent, kept)] == [0o700, 0o600]
    Proofs(instance).demand(tmp_path / "no-such-folder", release.id.digest)


def test_a_release_that_is_refused_is_not_kept_by_the_process_that_proves_either(
    folder: Path, release: Release, tmp_path: Path
) -> None:
    (folder / "card.md").unlink()
    instance = str(tmp_path / "instance")
    assert proving.main([str(folder), release.id.digest, instance, instance], lambda folder: None) == 1
    assert not Path(instance).exists()


def wait_for(done: Callable[[], bool]) -> None:
    ends = time.monotonic() + proof.WALL_SECONDS
    while not done():
        assert time.monotonic() < ends
        time.sleep(0.05)


def test_what_was_kept_and_cannot_be_read_is_proved_again(asked: list[str], tmp_path: Path) -> None:
    Proofs(tmp_path).demand(tmp_path, "sha256:1")
    (tmp_path / proof.FOLDER / "1.json").write_text("{")
    Proofs(tmp_path).demand(tmp_path, "sha256:1")
    assert len(asked) == 2


def test_a_proof_that_cannot_be_kept_is_said_and_holds_nobody_up(
    asked: list[str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / proof.FOLDER).write_text("a file")
    for _ in range(2):
        Proofs(tmp_path).demand(tmp_path, "sha256:1")
    assert len(asked) == 2
    assert "cannot be kept" in caplog.text


def test_a_release_that_was_refused_is_asked_for_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, keep: Path) -> int:
        raise ReleaseRefused("No.")

    monkeypatch.setattr(proof, "in_child", refuse)
    for own in ({}, {"own.Own": tmp_path}):
        with pytest.raises(ReleaseRefused, match=r"No\.(?: \(imported: own\.Own from .*\))?$"):
            Proofs(tmp_path).demand_with(own, tmp_path, "sha256:1")
    assert list(tmp_path.iterdir()) == []


def test_types_that_are_not_trusted_yet_are_trusted_for_the_proof_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    TrustedTypes(tmp_path).add({"a.A": tmp_path / "a"})
    seen: list[dict[str, Path]] = []
    monkeypatch.setattr(
        proof, "in_child", lambda folder, digest, instance, keep: seen.append(TrustedTypes(instance).folders())
    )
    Proofs(tmp_path).demand_with({"b.B": tmp_path / "b"}, tmp_path, "sha256:1")
    Proofs(tmp_path).demand(tmp_path, "sha256:1")
    assert seen == [{"a.A": tmp_path / "a", "b.B": tmp_path / "b"}]
    assert TrustedTypes(tmp_path).folders() == {"a.A": tmp_path / "a"}


def test_a_release_brings_no_list_of_trusted_types(folder: Path) -> None:
    (folder / "trusted_types.json").write_text("[]")
    with pytest.raises(ReleaseRefused, match=r"wrong: trusted_types\.json"):
        proving.accept(folder, json.loads((folder / MANIFEST).read_text())["digest"], folder.parent)


def test_no_process_is_left_behind(there: None, release: Release, folder: Path) -> None:
    def children() -> set[str]:
        """Of this process, ended or not; some may be those of a test beside this one."""
        return {pid for task in Path("/proc/self/task").iterdir() for pid in (task / "children").read_text().split()}

    before = children()
    with pytest.raises(ReleaseRefused):
        in_child(folder, release.id.digest, folder.parent, seconds=0)
    assert children() <= before
