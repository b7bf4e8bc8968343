"""A release folder is accepted only as it was made, and never runs anything on the way in."""

import io
import json
import os
import pickle
import re
import shutil
import sys
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import skops.io
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import FunctionTransformer

from reviewapp import estimators, manifest, releasestore
from reviewapp import release as releases
from reviewapp.adapter import ModelAdapter
from reviewapp.errors import ReleaseRefused
from reviewapp.manifest import (
    ENGINE,
    FILES,
    MANIFEST,
    MAX_FILE,
    MAX_MANIFEST,
    PROFILE,
    check_files,
    digest_of,
    sha256,
)
from reviewapp.release import NATIVE, Release
from reviewapp.staging import held

from .small import with_limit

OWN = (*FILES, ENGINE, PROFILE, "rules.csv")  # what the default release holds


@pytest.fixture
def folder(release: Release, releases_root: Path, tmp_path: Path) -> Path:
    """A copy of the default release that a test may damage."""
    copy = tmp_path / "copy"
    shutil.copytree(releases_root / "triage" / str(release.id.version), copy)
    return copy


def refused(folder: Path, digest: str | None = None) -> str:
    with pytest.raises(ReleaseRefused) as error:
        ModelAdapter(releases.read(folder, digest)).check_golden()
    return error.value.detail


def reseal(folder: Path) -> str:
    """Make every checksum right again, as someone who may write the folder can; return the digest."""
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest["files"] = {name: sha256((folder / name).read_bytes()) for name in manifest["files"]}
    manifest["digest"] = digest_of(manifest)
    (folder / MANIFEST).write_text(json.dumps(manifest))
    return str(manifest["digest"])


def edit(name: str, change: Callable[[Any], Any]) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        document = json.loads((folder / name).read_text())
        change(document)
        (folder / name).write_text(json.dumps(document))

    return damage


def test_a_release_is_read_as_it_was_written(release: Release, folder: Path) -> None:
    again = releases.read(folder, release.id.digest)
    ModelAdapter(again).check_golden()
    assert again.id == release.id
    assert again.contract.as_json() == release.contract.as_json()
    assert (again.policy, again.golden, again.evaluation) == (release.policy, release.golden, release.evaluation)
    assert (again.card, again.seed, again.libraries) == (release.card, release.seed, release.libraries)
    assert again.baseline.rules == release.baseline.rules


def test_the_manifest_names_everything_that_lies_there(folder: Path) -> None:
    manifest = json.loads((folder / MANIFEST).read_text())
    assert set(manifest["files"]) == set(OWN) == {path.name for path in folder.iterdir()} - {MANIFEST}
    assert {"python", "scikit-learn", "numpy", "scipy", "pandas", "skops"} == set(manifest["libraries"])


@pytest.mark.parametrize("name", OWN)
def test_one_changed_bit_in_any_file_is_found(folder: Path, name: str) -> None:
    content = bytearray((folder / name).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / name).write_bytes(content)
    assert name in refused(folder)


@pytest.mark.parametrize("name", [*OWN, MANIFEST])
@pytest.mark.parametrize("damage", ["missing", "empty", "link", "pipe", "folder"])
def test_a_file_that_is_not_there_or_no_plain_file_is_refused(folder: Path, name: str, damage: str) -> None:
    path = folder / name
    path.unlink()
    if damage == "empty":
        path.write_bytes(b"")
    elif damage == "link":
        path.symlink_to("/etc/hostname")
    elif damage == "pipe":
        os.mkfifo(path)
    elif damage == "folder":
        path.mkdir()
    assert name in refused(folder)


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / "extra.py").write_text("x"),
        edit(MANIFEST, lambda m: m["files"].update({"../../etc/passwd": "sha256:0"})),
        edit(MANIFEST, lambda m: m["files"].pop("card.md")),
        edit(MANIFEST, lambda m: m.pop("seed")),
        edit(MANIFEST, lambda m: m.update(more=1)),
        edit(MANIFEST, lambda m: m.update(format=99)),
        edit(MANIFEST, lambda m: m.update(version="1")),
        lambda folder: (folder / MANIFEST).write_text("[]"),
        edit(MANIFEST, lambda m: m.update(digest="sha256:0")),
        edit(MANIFEST, lambda m: m.update(seed=1)),
        lambda folder: (folder / MANIFEST).write_text("[" * 100_000),
    ],
)
def test_a_manifest_that_does_not_agree_with_the_folder_is_refused(folder: Path, damage: Any) -> None:
    damage(folder)
    assert refused(folder)


def test_the_version_is_no_part_of_the_digest(folder: Path, release: Release) -> None:
    edit(MANIFEST, lambda m: m.update(version=77))(folder)
    assert releases.read(folder, release.id.digest).id.digest == release.id.digest


def test_a_release_resealed_after_a_change_is_not_the_one_the_ledger_knows(folder: Path, release: Release) -> None:
    edit("policy.json", lambda p: p.update(threshold=0.0))(folder)
    reseal(folder)
    assert releases.read(folder).policy.threshold == 0
    assert release.id.digest in refused(folder, release.id.digest)


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (edit("contract.json", lambda c: c.pop("required")), "allow null"),
        (edit("policy.json", lambda p: p.pop("threshold")), "policy.json"),
        (edit("golden.json", lambda g: g["requests"].clear()), "golden.json"),
        (edit("golden.json", lambda g: g["requests"][0].pop("answers")), "answers"),
        (
            edit("golden.json", lambda g: g["requests"][3]["answers"]["model"].update(label="other?")),
            "request 4, model",
        ),
        (edit("golden.json", lambda g: g["requests"][0]["answers"].pop("baseline")), "request 1, baseline"),
        (lambda folder: (folder / "evaluation.json").write_text("{"), "evaluation.json"),
        (lambda folder: (folder / "rules.csv").write_text("label,field,words\nother,*,\n"), "baseline"),
        (lambda folder: (folder / "rules.csv").write_bytes(b"\xff"), "utf-8"),
        (lambda folder: (folder / "model.skops").write_bytes(pickle.dumps(LogisticRegression())), "model.skops"),
        (lambda folder: (folder / "model.skops").write_bytes(skops.io.dumps(LogisticRegression())), "model"),
        (edit(MANIFEST, lambda m: m["libraries"].update({"scikit-learn": "1.0"})), "scikit-learn 1.0"),
    ],
)
def test_a_resealed_release_that_is_wrong_inside_is_refused(folder: Path, damage: Any, says: str) -> None:
    damage(folder)
    reseal(folder)
    assert says in refused(folder)


def test_a_model_that_answers_differently_is_another_model(folder: Path, release: Release) -> None:
    changed = estimators.load((folder / "model.skops").read_bytes(), "model.skops")
    changed[-1].intercept_[0] += 1e-4
    (folder / "model.skops").write_bytes(estimators.dump(changed))
    reseal(folder)
    assert "Golden request" in refused(folder)


def test_last_digits_may_move(folder: Path, release: Release) -> None:
    changed = estimators.load((folder / "model.skops").read_bytes(), "model.skops")
    changed[-1].intercept_[0] += 1e-8
    (folder / "model.skops").write_bytes(estimators.dump(changed))
    reseal(folder)
    ModelAdapter(releases.read(folder)).check_golden()


def test_a_type_that_is_not_trusted_is_refused_by_name() -> None:
    packed = skops.io.dumps(FunctionTransformer(func=os.system))
    with pytest.raises(ReleaseRefused, match="system"):
        estimators.load(packed, "model.skops")


def test_a_zip_that_unpacks_to_too_much_is_refused_before_it_is_unpacked() -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as packed, packed.open("schema.json", "w") as member:
        for _ in range(257):
            member.write(bytes(1 << 20))
    with pytest.raises(ReleaseRefused, match="unpacks"):
        estimators.load(out.getvalue(), "model.skops")


def test_a_zip_in_a_zip_that_unpacks_to_too_much_is_refused_before_it_is_unpacked() -> None:
    inner, out = io.BytesIO(), io.BytesIO()
    with zipfile.ZipFile(inner, "w", zipfile.ZIP_DEFLATED) as packed, packed.open("data.npy", "w") as member:
        for _ in range(257):
            member.write(bytes(1 << 20))
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("0.npz", inner.getvalue())
    assert len(out.getvalue()) < 10_000
    with pytest.raises(ReleaseRefused, match="unpacks"):
        estimators.load(out.getvalue(), "model.skops")


def test_an_estimator_of_another_scikit_learn_is_refused_whatever_the_manifest_says(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with monkeypatch.context() as another:
        another.setattr("sklearn.base.__version__", "1.0")
        packed = skops.io.dumps(LogisticRegression().fit([[0], [1]], [0, 1]))
    with pytest.raises(ReleaseRefused, match=r"was fitted with scikit-learn 1\.0, and .* runs here: build it again"):
        estimators.load(packed, "model.skops")


def test_a_model_whose_module_is_not_here_is_refused_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gone_module.py").write_text("class Gone:\n    pass\n")
    with monkeypatch.context() as there:
        there.syspath_prepend(tmp_path)
        import gone_module

        packed = skops.io.dumps(gone_module.Gone())
    del sys.modules["gone_module"]
    with pytest.raises(ReleaseRefused, match="needs the module 'gone_module'"):
        estimators.load(packed, "model.skops", ["gone_module.Gone"])


def test_a_folder_that_vanishes_meanwhile_is_refused(
    folder: Path, release: Release, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = manifest.read_manifest

    def vanishes(path: Path, *given: Any) -> Any:
        found = whole(path, *given)
        shutil.rmtree(path)
        return found

    monkeypatch.setattr(manifest, "read_manifest", vanishes)
    with pytest.raises(ReleaseRefused, match="The folder cannot be read: No such file"):
        check_files(folder)


def test_each_file_of_a_folder_is_held_against_its_digest_and_named(folder: Path, release: Release) -> None:
    whole = check_files(folder, release.id.digest)
    assert whole["digest"] == release.id.digest
    for name in whole["files"]:
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        with pytest.raises(ReleaseRefused, match=f"^{re.escape(name)} was changed after the release was made"):
            check_files(folder, release.id.digest)
        (folder / name).write_bytes(content)
    assert check_files(folder, release.id.digest) == whole


def test_a_disk_that_fails_is_said_as_what_it_is(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("hashlib.file_digest", fail)
    with pytest.raises(ReleaseRefused, match=r"card\.md cannot be read: Input/output error"):
        check_files(folder)


def test_what_is_too_large_is_not_read(folder: Path) -> None:
    os.truncate(folder / "card.md", MAX_FILE + 1)
    assert "card.md has 268,435,457 bytes; more than 268,435,456 is refused" in refused(folder)
    os.truncate(folder / MANIFEST, MAX_MANIFEST + 1)
    assert "release.json has 65,537 bytes" in refused(folder)


def test_odd_names_are_shown_so_that_they_can_be_read_and_not_all_of_them(folder: Path) -> None:
    (folder / "a\n\x1b[31m").touch()
    (folder / os.fsdecode(b"\xff")).mkdir()
    assert r"wrong: 'a\n\x1b[31m', '\udcff'." in refused(folder)
    for number in range(300):
        (folder / f"{number:03}").touch()
    said = refused(folder)
    assert (len(said) < 500, " more." in said) == (True, True)


@pytest.mark.parametrize("value", [True, 1.0, "1", None, [1], float("nan")])
@pytest.mark.parametrize("name", ["version", "seed", "format", "digest", "libraries"])
def test_a_manifest_with_a_value_of_another_kind_is_refused(folder: Path, name: str, value: object) -> None:
    document = {**json.loads((folder / MANIFEST).read_text()), name: value}
    document["digest"] = document["digest"] if name == "digest" else digest_of(document)
    (folder / MANIFEST).write_text(json.dumps(document))
    assert refused(folder)


@pytest.mark.parametrize("value", [None, 5, [], {"a": 1}, "", float("nan")], ids=str)
def test_a_digest_that_is_no_text_fits_no_file(folder: Path, value: object) -> None:
    document = json.loads((folder / MANIFEST).read_text())
    document["files"]["card.md"] = value
    document["digest"] = digest_of(document)
    (folder / MANIFEST).write_text(json.dumps(document))
    assert "card.md was changed" in refused(folder)


@pytest.mark.parametrize("name", ["model.skops", "rules.csv", "card.md"])
def test_a_device_and_a_link_to_the_right_content_are_refused(folder: Path, tmp_path: Path, name: str) -> None:
    (folder / name).rename(tmp_path / "elsewhere")
    for target in (tmp_path / "elsewhere", Path("/dev/zero")):
        (folder / name).symlink_to(target)
        assert f"{name} cannot be read" in refused(folder)
        (folder / name).unlink()
    (folder / "sub").mkdir()
    assert "wrong: " in refused(folder)


def test_a_build_that_fails_leaves_nothing_behind(release: Release, tmp_path: Path) -> None:
    broken = Release(**{**vars(release), "evaluation": {"figure": float("nan")}})
    with pytest.raises(ValueError, match="JSON"):
        releases.write(broken, tmp_path)
    assert releasestore.versions(tmp_path / "triage") == []
    assert [path.name for path in tmp_path.iterdir()] == []


def test_versions_count_on_and_ignore_what_is_no_version(release: Release, tmp_path: Path) -> None:
    (tmp_path / "triage" / "7").mkdir(parents=True)
    (tmp_path / "triage" / "note").mkdir()
    (tmp_path / "triage" / "9").write_text("a file")
    assert releases.write(release, tmp_path).id.version == 8
    assert releasestore.versions(tmp_path / "nowhere") == []


def test_versions_count_through_all_names_so_that_a_number_names_one_release(release: Release, tmp_path: Path) -> None:
    for folder in ("other/4", ".building-x/8", ".hidden/9"):
        (tmp_path / folder).mkdir(parents=True)
    made = releases.write(release, tmp_path).id
    assert (str(made), releasestore.versions(tmp_path / ".hidden")) == ("triage/5", [])
    assert releases.read(tmp_path / "triage" / "5").id == made
    assert str(releases.write(with_limit(release, None, "other"), tmp_path).id) == "other/6"


def test_two_builds_at_once_get_different_versions_whatever_their_names(
    release: Release, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    contents = releases._contents(release)
    monkeypatch.setattr(releases, "_contents", lambda release: contents)
    named = [with_limit(release, None, f"name-{number % 3}") for number in range(12)]
    with ThreadPoolExecutor(len(named)) as pool:
        made = list(pool.map(lambda one: releases.write(one, tmp_path), named))
    assert sorted(one.id.version for one in made) == list(range(1, 13))
    assert all((tmp_path / str(one.id) / MANIFEST).is_file() for one in made)


def test_a_build_waits_while_another_one_holds_the_numbers(release: Release, tmp_path: Path) -> None:
    with ThreadPoolExecutor(1) as pool:
        with held(tmp_path / releasestore.LOCK):
            waiting = pool.submit(releases.write, release, tmp_path)
            while not list(tmp_path.glob(".building-*/card.md")):  # it has begun to write
                assert not waiting.done()
            (tmp_path / "other" / "1").mkdir(parents=True)
        assert waiting.result().id.version == 2


def test_a_contract_can_be_read_alone_and_is_refused_where_it_is_none(folder: Path, release: Release) -> None:
    assert releases.read_contract(folder, release.id.digest).as_json() == release.contract.as_json()
    edit("contract.json", lambda document: document.update(type="array"))(folder)
    with pytest.raises(ReleaseRefused, match="digest differs"):
        releases.read_contract(folder, release.id.digest)
    reseal(folder)
    with pytest.raises(ReleaseRefused, match=f"the ledger knows {release.id.digest}"):
        releases.read_contract(folder, release.id.digest)
    with pytest.raises(ReleaseRefused, match="'type': 'object'"):
        releases.read_contract(folder, json.loads((folder / MANIFEST).read_text())["digest"])


def test_what_is_no_folder_is_no_release(tmp_path: Path) -> None:
    assert "no such folder" in refused(tmp_path / "nothing")


def test_a_release_from_before_the_compiled_engine_answers_by_scikit_learn_and_says_so(folder: Path) -> None:
    manifest = json.loads((folder / MANIFEST).read_text())
    for name in (ENGINE, PROFILE):
        (folder / name).unlink()
        del manifest["files"][name]
    (folder / MANIFEST).write_text(json.dumps({**manifest, "format": 1}))
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest["digest"] = digest_of(manifest)
    (folder / MANIFEST).write_text(json.dumps(manifest))
    old = releases.read(folder)
    assert (old.engine.kind, "build it again" in old.engine.why) == (NATIVE, True)
    ModelAdapter(old).check_golden()


@pytest.mark.parametrize(
    "engine",
    [
        {"kind": "faster"},
        {"kind": "native"},
        {"kind": "compiled", "rows": "all", "largest_difference": 0.0},
        {"kind": "compiled", "rows": 2000, "largest_difference": 0.0, "why": ""},
        ["native"],
    ],
    ids=str,
)
def test_an_engine_that_is_none_is_refused(folder: Path, engine: Any) -> None:
    (folder / ENGINE).write_text(json.dumps(engine))
    reseal(folder)
    assert "engine.json must say" in refused(folder)
