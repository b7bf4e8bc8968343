"""A release folder, pinned whole: each file, the manifest, and the sentence with which each damage is refused."""

import hashlib
import json
import os
import platform
import stat
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LogisticRegression

from reviewapp import release as releases
from reviewapp.contract import Contract, Outcome
from reviewapp.errors import ReleaseRefused
from reviewapp.field import Field
from reviewapp.policy import Policy, RollbackRule
from reviewapp.profile import Profile, Signal
from reviewapp.release import EngineChoice, Golden, Release, ReleaseId
from reviewapp.rulelist import RuleList
from reviewapp.rules import Rule, RuleTable

CONTRACT = Contract(
    name="small",
    fields=(Field(name="größe", kind="number"), Field(name="note", kind="text")),
    outcome=Outcome(name="o", labels=("a", "b")),
)
POLICY = Policy(cost_wrong=10.0, cost_review=2.0, threshold=0.6, rollback=RollbackRule(limit=0.2))
LINES = RuleTable([Rule("a", "note", "pay", 3, 4), Rule("b", "*", "", 1, 2)], CONTRACT)
LISTED = RuleList.from_json(
    json.dumps({"rules": [{"when": [], "answer": {"a": 0.75, "b": 0.25}, "rows": 4}]}), CONTRACT
)
GOLDEN = (
    Golden({"größe": 1.5, "note": "pay"}, {"model": {"label": "a"}, "baseline": {"label": "b"}}, "A clear one"),
    Golden({"größe": 2.5, "note": ""}, {"model": {"label": "b"}, "baseline": {"label": "b"}}),
)
LIBRARIES = {name: version(name) for name in ("scikit-learn", "numpy", "scipy", "pandas", "skops")}
FILES = ["card.md", "contract.json", "engine.json", "evaluation.json", "golden.json", "model.skops", "policy.json"]


def model() -> LogisticRegression:
    return LogisticRegression().fit(np.array([[0.0], [1.0], [2.0], [3.0]]), ["a", "a", "b", "b"])


def whole(baseline: Any = LINES) -> Release:
    return Release(
        id=ReleaseId("small", 0, ""), contract=CONTRACT, policy=POLICY, model=model(), baseline=baseline,
        golden=GOLDEN, evaluation={"figure": 0.1 + 0.2, "word": "größer"}, card="# Größe\n", seed=7,
        libraries=releases.libraries_here(), engine=EngineChoice("compiled", rows=2000, furthest=1e-15),
    )  # fmt: skip


def sha256(content: bytes) -> str:
    return "sha256:" + hashlib.sha256(content).hexdigest()


def digest(manifest: dict[str, Any]) -> str:
    """Return the digest as anyone can work it out: of the manifest but for its version and its digest."""
    named = {name: value for name, value in manifest.items() if name not in ("version", "digest")}
    return sha256(json.dumps(named, sort_keys=True, separators=(",", ":")).encode())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / str(releases.write(whole(), tmp_path).id)


def manifest_of(folder: Path) -> dict[str, Any]:
    manifest: dict[str, Any] = json.loads((folder / "release.json").read_text())
    return manifest


def reseal(folder: Path, **changes: Any) -> None:
    """Make every checksum of what is listed right again, as someone who may write the folder can."""
    manifest = manifest_of(folder) | changes
    manifest["files"] = {name: sha256((folder / name).read_bytes()) for name in manifest["files"]}
    (folder / "release.json").write_text(json.dumps(manifest | {"digest": digest(manifest)}))


def written(document: Any) -> str:
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def test_a_release_is_a_folder_of_its_files_and_a_manifest_that_names_them_all(tmp_path: Path) -> None:
    proved: list[str] = []
    root = tmp_path / "far" / "away"

    def prove(building: Path, *more: Any) -> None:
        assert building.parent == root
        assert building.name.startswith(".building-")
        unnumbered = manifest_of(building)
        assert (unnumbered["version"], unnumbered["digest"]) == (0, digest(unnumbered))
        proved.extend(sorted(path.name for path in building.iterdir()))

    made = releases.write(whole(), root, prove)
    folder = root / "small" / "1"
    content = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert sorted(content) == proved == sorted([*FILES, "rules.csv", "release.json"])
    texts = {name: text.decode() for name, text in content.items() if name not in ("model.skops", "release.json")}
    assert texts == {
        "contract.json": written(CONTRACT.as_json()),
        "policy.json": written(POLICY.as_json()),
        "golden.json": written(
            {
                "requests": [
                    {"title": "A clear one", "input": GOLDEN[0].input, "answers": GOLDEN[0].answers},
                    {"input": GOLDEN[1].input, "answers": GOLDEN[1].answers},
                ]
            }
        ),
        "evaluation.json": written({"figure": 0.1 + 0.2, "word": "größer"}),
        "card.md": "# Größe\n",
        "engine.json": written({"kind": "compiled", "rows": 2000, "largest_difference": 1e-15}),
        "rules.csv": LINES.to_csv(),
    }
    manifest = json.loads(content.pop("release.json"))
    assert manifest == {
        "format": 3,
        "name": "small",
        "files": {name: sha256(text) for name, text in content.items()},
        "libraries": {"python": platform.python_version(), **LIBRARIES},
        "seed": 7,
        "version": 1,
        "digest": digest(manifest),
    }
    assert (folder / "release.json").read_text() == written(manifest)
    assert made.id == ReleaseId("small", 1, manifest["digest"])
    assert stat.S_IMODE(folder.stat().st_mode) == 0o755
    assert sorted(path.name for path in root.iterdir()) == [".lock", "small"]
    again = releases.write(whole(), root)
    assert (str(again.id), again.id.digest) == ("small/2", made.id.digest)
    assert again.id.as_json() == {"name": "small", "version": 2, "digest": made.id.digest}


def test_what_is_refused_when_it_is_to_be_proved_leaves_nothing(tmp_path: Path) -> None:
    def prove(*given: Any) -> None:
        raise ReleaseRefused("no")

    with pytest.raises(ReleaseRefused, match="no"):
        releases.write(whole(), tmp_path, prove)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("baseline", "name"), [(LINES, "rules.csv"), (LISTED, "rules.json"), (DummyClassifier, "baseline.skops")]
)
def test_a_release_is_read_with_all_that_was_written(tmp_path: Path, baseline: Any, name: str) -> None:
    given = whole(baseline().fit([[0.0], [1.0]], ["a", "b"]) if baseline is DummyClassifier else baseline)
    made = releases.write(given, tmp_path)
    assert (tmp_path / "small" / "1" / name).is_file()
    again = releases.read(tmp_path / "small" / "1", made.id.digest)
    for member in ("policy", "golden", "evaluation", "card", "seed", "libraries", "engine"):
        assert getattr(again, member) == getattr(given, member)
    assert again.id == made.id
    assert again.contract.as_json() == CONTRACT.as_json()
    assert again.samples == (GOLDEN[0],)
    assert again.model.predict_proba([[1.2]]).tolist() == given.model.predict_proba([[1.2]]).tolist()
    assert type(again.baseline) is type(given.baseline)
    if name != "baseline.skops":
        assert vars(again.baseline)["rules"] == given.baseline.rules


def test_a_draft_has_the_name_of_its_contract_and_nothing_that_is_still_to_be_found_out() -> None:
    given = model()
    draft = releases.draft(CONTRACT, POLICY, given, LINES, 7)
    assert draft == Release(
        ReleaseId("small", 0, ""), CONTRACT, POLICY, given, LINES, (), {}, "", 7,
        {"python": platform.python_version(), **LIBRARIES}, EngineChoice("native", "It was not compared yet."),
    )  # fmt: skip


def test_an_engine_is_told_in_json_and_in_words_and_read_back() -> None:
    native, compiled = EngineChoice("native", "Too odd."), EngineChoice("compiled", rows=2345, furthest=4.6e-15)
    assert native.as_json() == {"kind": "native", "why": "Too odd."}
    assert compiled.as_json() == {"kind": "compiled", "rows": 2345, "largest_difference": 4.6e-15}
    assert native.in_words() == "Requests are answered by scikit-learn itself. Too odd."
    assert compiled.in_words() == (
        "Requests are answered by the model's fitted parts, compiled: in 2,345 comparisons with scikit-learn no label "
        "differed, and no figure by more than 5e-15."
    )
    for engine in (native, compiled):
        assert EngineChoice.from_json(engine.as_json()) == engine
    told = "engine.json must say native and why, or compiled, rows and largest_difference."
    for document in (None, [], {"kind": "x"}, {"kind": "native", "why": 1}, {"kind": "native", "why": "", "rows": 1}):
        with pytest.raises(ReleaseRefused) as refused:
            EngineChoice.from_json(document)
        assert refused.value.detail == told


def change(name: str, /, **members: Any) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        document = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps(document | members))

    return damage


def resealed(damage: Callable[[Path], Any] | None = None, **changes: Any) -> Callable[[Path], None]:
    def work(folder: Path) -> None:
        if damage is not None:
            damage(folder)
        reseal(folder, **changes)

    return work


def relisted(*names: str, without: str = "") -> Callable[[Path], None]:
    """List these names, too, and not that one."""

    def work(folder: Path) -> None:
        files = {name: content for name, content in manifest_of(folder)["files"].items() if name != without}
        manifest = manifest_of(folder) | {"files": files | dict.fromkeys(names, "sha256:0")}
        (folder / "release.json").write_text(json.dumps(manifest | {"digest": digest(manifest)}))

    return work


def write(name: str, content: bytes = b"x") -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_bytes(content) and None


def remove(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def replaced(name: str, by: Callable[[Path], None]) -> Callable[[Path], None]:
    def work(folder: Path) -> None:
        (folder / name).unlink()
        by(folder / name)

    return work


HOLDS = (
    f"The folder must hold and list just {', '.join(FILES)} and one of rules.csv, rules.json, baseline.skops; wrong: "
)
KINDS = "release.json must hold just format, name, version, digest, files, libraries, seed, each of its own kind."
NOW = version("scikit-learn")


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        *((change("release.json", **{name: None}), KINDS) for name in ("format", "name", "version", "digest", "seed")),
        (change("release.json", more=1), KINDS),
        (change("release.json", seed=True), KINDS),
        (write("release.json", b"[]"), KINDS),
        (change("release.json", format=4), "It has format 4; this version reads 1, 2 and 3."),
        (change("release.json", format=0), "It has format 0; this version reads 1, 2 and 3."),
        (change("release.json", seed=8), "The digest in release.json is not that of its content."),
        (write("extra.py"), f"{HOLDS}extra.py."),
        (remove("card.md"), f"{HOLDS}card.md."),
        (relisted("extra.py"), f"{HOLDS}extra.py."),
        (relisted(without="card.md"), f"{HOLDS}card.md."),
        (relisted(without="rules.csv"), f"{HOLDS}rules.csv."),
        (relisted("rules.json"), f"{HOLDS}rules.json."),
        (write("card.md"), "card.md was changed after the release was made: its digest differs."),
        (replaced("card.md", lambda path: path.symlink_to("/etc/hostname")),
         "card.md cannot be read: Too many levels of symbolic links."),
        (replaced("card.md", os.mkfifo), "card.md is no plain file."),
        (resealed(libraries={"scikit-learn": "1.0"}),
         f"It was built with scikit-learn 1.0, and {NOW} runs here: build it again."),
        (resealed(libraries={}), f"It was built with scikit-learn None, and {NOW} runs here: build it again."),
        (resealed(change("contract.json", type="array")),
         "A contract has '$schema': 'https://json-schema.org/draft/2020-12/schema' and 'type': 'object'."),
        (resealed(write("golden.json", b'{"requests": []}')),
         "golden.json holds no request, so nothing shows that the model still answers right."),
        (resealed(write("golden.json", b"{}")), "'requests'"),
        (resealed(write("golden.json", b"{")),
         "golden.json is not JSON: Expecting property name enclosed in double quotes: line 1 column 2 (char 1)"),
        (resealed(write("evaluation.json", b"nought")),
         "evaluation.json is not JSON: Expecting value: line 1 column 1 (char 0)"),
        (resealed(change("policy.json", threshold=-1)), "policy.json: threshold must be a number, 0 or more."),
        (resealed(write("engine.json", b"[]")),
         "engine.json must say native and why, or compiled, rows and largest_difference."),
        (resealed(write("model.skops", b"no zip")), "model.skops cannot be read as a skops file (BadZipFile)."),
        (resealed(write("rules.csv", b"label\n")),
         "rules.csv begins with the header label,field,words,right,matched (the last two may be left out)."),
    ],
)  # fmt: skip
def test_a_folder_that_is_not_as_it_was_made_is_refused_in_a_sentence(
    folder: Path, damage: Callable[[Path], None], says: str
) -> None:
    damage(folder)
    with pytest.raises(ReleaseRefused) as refused:
        releases.read(folder)
    assert refused.value.detail == says


def test_a_folder_is_held_to_the_digest_that_the_ledger_knows(folder: Path) -> None:
    known = manifest_of(folder)["digest"]
    assert releases.read(folder, known).id.digest == known
    with pytest.raises(ReleaseRefused) as refused:
        releases.read(folder, "sha256:0")
    assert refused.value.detail == f"Its digest is {known}, and the ledger knows sha256:0."
    with pytest.raises(ReleaseRefused) as refused:
        releases.read(folder / "nowhere")
    assert refused.value.detail == "There is no such folder."


def test_what_was_built_before_there_was_an_engine_says_so(folder: Path) -> None:
    (folder / "engine.json").unlink()
    files = manifest_of(folder)["files"]
    del files["engine.json"]
    reseal(folder, format=1, files=files)
    assert releases.read(folder).engine == EngineChoice(
        "native", "It was built before there was a compiled engine; build it again."
    )
    reseal(folder, format=2)
    with pytest.raises(ReleaseRefused, match=r"wrong: engine\.json\."):
        releases.read(folder)


def test_what_was_built_from_no_table_or_before_there_were_profiles_has_none(tmp_path: Path, folder: Path) -> None:
    assert releases.read(folder).profile is None
    reseal(folder, format=2)
    assert releases.read(folder).profile is None
    signal = Signal("note", "length", (3.5,), (1, 2))
    profile = Profile((signal,), {"note": frozenset({"größe", "pay"})})
    made = releases.write(replace(whole(), profile=profile), tmp_path / "more")
    folder = tmp_path / "more" / str(made.id)
    assert releases.read(folder).profile == profile
    assert (folder / "profile.json").read_text() == written(
        {
            "signals": [{"field": "note", "signal": "length", "bins": [3.5], "counts": [1, 2]}],
            "words": {"note": "größe pay"},
        }
    )
    reseal(folder, format=2)
    with pytest.raises(ReleaseRefused, match=r"wrong: profile\.json\."):
        releases.read(folder)
    (folder / "profile.json").write_text("[]")
    reseal(folder, format=3)
    with pytest.raises(ReleaseRefused, match=r"^profile\.json must hold just signals and words\.$"):
        releases.read(folder)


def test_a_file_that_is_too_large_is_refused_before_it_is_read(folder: Path) -> None:
    with (folder / "card.md").open("r+b") as file:
        file.truncate((256 << 20) + 1)
    with pytest.raises(ReleaseRefused) as refused:
        releases.read(folder)
    assert refused.value.detail == "card.md has 268,435,457 bytes; more than 268,435,456 is refused."


def test_a_type_of_an_operators_own_is_read_only_where_they_trust_it(tmp_path: Path) -> None:
    mine = f"{Own.__module__}.Own"
    given = whole(Own().fit([[0.0], [1.0]], ["a", "b"]))
    folder = tmp_path / str(releases.write(given, tmp_path).id)
    with pytest.raises(ReleaseRefused) as refused:
        releases.read(folder)
    assert refused.value.detail == f"baseline.skops holds types that are not trusted: {mine}."
    assert isinstance(releases.read(folder, None, [mine]).baseline, Own)


class Own(DummyClassifier):
    """A type that neither scikit-learn nor this service has."""
