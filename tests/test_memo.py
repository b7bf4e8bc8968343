"""The memo: every figure is the evidence's, every claim is borne out, and its form is what was asked for."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from reviewapp.adapter import ModelAdapter
from reviewapp.errors import UsageError
from reviewapp.evidence import simulation
from reviewapp.evidence.memo import count_words, render
from reviewapp.evidence.pack import Pack, changed_files
from reviewapp.evidence.pictures import PICTURES
from reviewapp.evidence.run import SEED, memo_is_stale
from reviewapp.evidence.running import Subject
from reviewapp.evidence.tables import Column, Table, key
from reviewapp.evidence.watching import watching
from reviewapp.release import Release

ROOT = Path(__file__).resolve().parent.parent
MEMO = ROOT / "memo"


@pytest.fixture(scope="module")
def pack() -> Pack:
    return Pack.read(MEMO / "evidence")


@pytest.fixture(scope="module")
def memo() -> str:
    return (MEMO / "memo.md").read_text(encoding="utf-8")


def test_the_evidence_is_as_it_was_measured(pack: Pack) -> None:
    assert list(changed_files(pack.folder)) == []


def test_the_memo_is_what_the_evidence_makes_of_its_template(pack: Pack) -> None:
    assert memo_is_stale(pack) == []


def test_the_evidence_is_of_a_whole_run(pack: Pack) -> None:
    assert pack.manifest["quick"] is False, "run `make evidence`"
    assert pack.table("outcomes_by_kind").row(kind="valid requests")["sent"] >= 1000


def test_the_memo_has_its_length_and_its_headings(memo: str) -> None:
    assert 900 <= count_words(memo) <= 1200
    headings = re.findall(r"^## (.*)$", memo, re.MULTILINE)
    assert headings == ["Context", "Method", "Evidence", "Risks", "Recommendation", "Open questions"]


def test_words_of_tables_pictures_captions_and_headings_do_not_count() -> None:
    text = (
        "# Title here\n\nTwo words\n\n| a | b |\n|---|---|\n\n*A caption.*\n\n![x y](z.png)\n\n**three more words** –\n"
    )
    assert count_words(text) == 5


def test_every_test_file_and_picture_that_the_memo_names_is_there(memo: str) -> None:
    named = re.findall(r"`(test_\w+)`", memo)
    assert len(named) >= 4
    source = "".join(path.read_text() for path in (ROOT / "tests").glob("test_*.py"))
    assert [name for name in named if f"def {name}(" not in source] == []
    paths = re.findall(r"`((?:tests|memo|deploy)/[\w./-]+)`", memo) + re.findall(r"\]\(([\w./-]+)\)", memo)
    assert [path for path in paths if not (ROOT / path).exists() and not (MEMO / path).exists()] == []


def test_trigger_and_metric_are_the_policys(memo: str, pack: Pack) -> None:
    rule = pack.manifest["policy"]["rollback"]
    assert f"this rate is above {rule['limit']:g}" in memo
    assert f"after {rule['minimum_verdicts']} verdicts" in memo


def test_no_figure_is_typed_into_the_template() -> None:
    """Numbers in the prose are years, names, and what is asked for in future."""
    template = (MEMO / "memo.md.j2").read_text(encoding="utf-8").split("## Open questions")[0]
    prose = re.sub(r"\{\{.*?\}\}|\{%.*?%\}|`[^`]*`|\(\d{4}\)|[a-z.] \d{4}", "", template, flags=re.DOTALL)
    allowed = {
        "100",
        "95",
        "10",
        "5",
        "1",
        "2",
        "3",
        "60",
        "32",
        "50",
        "99",
    }  # per 100, intervals, of 10, 5xx, loads, p50, p99
    assert set(re.findall(r"\d+(?:\.\d+)?", prose)) <= allowed


def test_what_the_template_asks_of_the_trials_of_the_rule_they_do_find(
    pack: Pack, release: Release, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those tables are made here, on fewer runs; the others are the pack's."""
    monkeypatch.setattr(simulation, "MONTHS", 200)
    monkeypatch.setattr(simulation, "RUNS", 60)
    subject = Subject(release=release, adapter=ModelAdapter(release), examples={}, seed=SEED)
    tables = {table.name: table for table in [*simulation.simulation(subject), *watching(subject)]}
    manifest = {
        **pack.manifest,
        "policy": release.policy.as_json(),
        "pictures": [one.described() for one in PICTURES["classification"]],
    }
    template = (MEMO / "memo.md.j2").read_text(encoding="utf-8")
    memo = render(template, replace(pack, manifest=manifest, tables={**pack.tables, **tables}))
    assert "Then the baseline answers by itself, with the model in its shadow" in memo
    assert "](evidence/power.png)" in memo
    assert "*Is the estimate right? On the line" in memo
    assert 900 <= count_words(memo) <= 1200


@pytest.mark.parametrize(
    ("template", "says"),
    [
        ('{{ figure("nothing", "n") }}', "no table 'nothing'"),
        ('{{ figure("comparison", "n", part="test") }}', "5 rows"),
        ('{{ figure("comparison", "x", part="test", option="model") }}', "no column 'x'"),
        ('{{ picture("x") }}', "no picture 'x'"),
        ("{{ unheard_of }}", "unheard_of"),
        ('{{ claim("Pigs fly.", false) }}', "claims 'Pigs fly.'"),
    ],
)
def test_what_the_evidence_does_not_hold_cannot_be_said(pack: Pack, template: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        render(template, pack)


def test_the_memo_speaks_of_the_soak_once_all_of_it_was_measured_in_full(pack: Pack) -> None:
    template = (MEMO / "memo.md.j2").read_text(encoding="utf-8")

    def memo(*measured: tuple[str, str]) -> str:
        soak = {}
        for name, said, values in zip(
            ("reliability", "runs"), ("reached", "form"), zip(*measured, strict=True), strict=True
        ):
            lines = [{"row": str(n), said: value} for n, value in enumerate(values)]
            soak[name] = Table(name, "", "", [key("row", "Row"), Column(said, said)], lines)
        return render(template, replace(pack, tables={**pack.tables, **soak}))

    spoken = memo(("yes", "full"), ("yes", "full"))
    assert "All of it holds: 2 figures are what they must be." in spoken
    assert 900 <= count_words(spoken) <= 1200
    assert "Something breaks" not in memo(("yes", "full"), ("yes", "short"))
    with pytest.raises(UsageError, match="claims 'All of it holds:'"):
        memo(("yes", "full"), ("NO", "full"))
