"""The evidence: tables keep every digit, a changed digit is named, trials find what they must, and nothing is typed."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from reviewapp.adapter import ModelAdapter
from reviewapp.cli import main
from reviewapp.config import load_settings
from reviewapp.errors import NotReady, UsageError
from reviewapp.evidence import (
    answers,
    comparison,
    confidence,
    examples,
    latency,
    outcomes,
    run,
    simulation,
    testruns,
    watching,
)
from reviewapp.evidence.answers import Answers
from reviewapp.evidence.behaviour import change, read_cases
from reviewapp.evidence.pack import REQUESTS, Pack, changed_files, compare, facts, folder_of, source_digest
from reviewapp.evidence.running import RunningService, Trial
from reviewapp.evidence.scoring import OPTIONS, read_criteria, scoring
from reviewapp.evidence.tables import EXACT, FREE, TIMING, Column, Table, differences, key
from reviewapp.policy import Policy
from reviewapp.release import Release

from .small import RULE

ROOT = Path(__file__).resolve().parent.parent
COLUMNS = (
    key("option", "Option"),
    Column("n", "n", "d"),
    Column("share", "Share", ".3f"),
    Column("p50", "p50 (ms)", ".1f", TIMING),
    Column("max", "Longest", ".1f", FREE),
    Column("note", "Note"),
)


def table(*rows: tuple[Any, ...]) -> Table:
    names = [column.name for column in COLUMNS]
    return Table("t", "A table", "What it says.", COLUMNS, [dict(zip(names, row, strict=True)) for row in rows])


MODEL = ("model", 2000, 0.1 + 0.2, 5.0, 99.0, 'a "b", c')


# ---- tables -----------------------------------------------------------------------------------------------------


def test_a_table_survives_csv_to_the_last_digit() -> None:
    made = table(MODEL, ("rules", 0, None, None, None, ""))
    assert Table.from_csv(made.to_csv(), json.loads(json.dumps(made.described()))).rows == made.rows


def test_people_read_formatted_figures() -> None:
    shown = table(MODEL, ("rules", 0, None, None, None, "")).as_frame("option", "share", option="model")
    assert shown.to_dict("list") == {"Option": ["model"], "Share": ["0.300"]}
    assert table(("rules", 0, None, None, None, "")).as_frame("share").iloc[0, 0] == "–"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "option,n\nmodel,1\n",
        "option,n,share,p50,max,note\na\n",
        "option,n,share,p50,max,note\nmodel,x,,,,\n",
        'option,n,share,p50,max,note\nmodel,1,,,,"broken off',
    ],
)
def test_a_file_that_is_not_the_table_described_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"t\.csv"):
        Table.from_csv(text, table(MODEL).described())


def test_asking_for_what_is_not_there_is_named() -> None:
    with pytest.raises(UsageError, match="no column 'colour'"):
        table(MODEL).column("colour")
    with pytest.raises(UsageError, match="0 rows"):
        table(MODEL).row(option="rules")


@pytest.mark.parametrize(
    ("after", "same_machine", "moved"),
    [
        (MODEL, True, []),
        ((*MODEL[:2], 0.3, *MODEL[3:]), True, ["t: model: share was 0.30000000000000004 and is 0.3"]),
        ((*MODEL[:2], 0.3, *MODEL[3:]), False, []),
        ((*MODEL[:2], 0.30049, *MODEL[3:]), False, []),
        ((*MODEL[:2], 0.3006, *MODEL[3:]), False, ["t: model: share was 0.30000000000000004 and is 0.3006"]),
        ((*MODEL[:1], 1999, *MODEL[2:]), False, ["t: model: n was 2000 and is 1999"]),
        ((*MODEL[:3], 49.0, 1.0, MODEL[5]), True, []),
        ((*MODEL[:3], 51.0, 1.0, MODEL[5]), True, ["t: model: p50 was 5.0 and is 51.0"]),
        ((*MODEL[:3], None, 1.0, MODEL[5]), True, ["t: model: p50 was 5.0 and is "]),
        ((*MODEL[:5], "other"), False, ['t: model: note was a "b", c and is other']),
        (
            ("other", *MODEL[1:]),
            True,
            ["t: the row model is only in the old run", "t: the row other is only in the new run"],
        ),
    ],
)
def test_two_runs_differ_where_a_figure_moved(after: tuple[Any, ...], same_machine: bool, moved: list[str]) -> None:
    found = list(differences(table(MODEL), table(after), same_machine=same_machine, whole=True, factor=10))
    assert found == moved


def test_a_quick_run_is_held_only_to_what_both_have() -> None:
    assert not list(differences(table(MODEL), table(), same_machine=True, whole=False, factor=10))


def test_a_figure_at_the_border_of_two_roundings_has_not_moved_on_another_machine() -> None:
    old, new = table((*MODEL[:2], 0.0625 - 1e-12, *MODEL[3:])), table((*MODEL[:2], 0.0625 + 1e-12, *MODEL[3:]))
    assert not list(differences(old, new, same_machine=False, whole=True, factor=10))
    assert Column("p", "p", ".1%").decimals == 3
    assert Column("n", "n", "d").decimals == 0


# ---- comparison -------------------------------------------------------------------------------------------------


def two_labels(confidence_of_a: list[float], actual: str, threshold: float) -> Answers:
    shares = np.array([[share, 1 - share] for share in confidence_of_a])
    policy = Policy(cost_wrong=10, cost_review=2, threshold=threshold, rollback=RULE)
    return Answers(shares, np.array(list(actual)), ["a", "b"], policy)


def test_cost_counts_wrong_automatic_answers_and_looks() -> None:
    made = two_labels([0.9, 0.9, 0.6, 0.2], "abab", 0.8)
    assert made.right.tolist() == [True, False, True, True]
    assert made.automatic.tolist() == [True, True, False, True]
    assert made.cost.tolist() == [0, 10, 2, 0]


def test_calibration_error_is_the_gap_between_confidence_and_share_right() -> None:
    made = two_labels([0.9, 0.9, 0.6, 0.6], "aabb", 0.8)
    # the answers at 0.9 are right always, those at 0.6 never: (0.1 * 2 + 0.6 * 2) / 4
    assert confidence.calibration_error(made) == pytest.approx(0.35)


@pytest.fixture(scope="module")
def compared(release: Release) -> dict[str, Table]:
    made = comparison.comparison(subject(release))
    return {one.name: one for one in made}


def subject(release: Release) -> Trial:
    cut = {part: rows[:300] for part, rows in examples.generated().items()}
    nothing: Any = None
    return Trial(
        release=release, adapter=ModelAdapter(release), examples=cut, seed=1, service=nothing, headers={},
        memo=ROOT / "memo", quick=True,
    )  # fmt: skip


def test_the_comparison_adds_up(compared: dict[str, Table]) -> None:
    for row in compared["pairs"].rows:
        assert row["both"] + row["only_model"] + row["only_baseline"] + row["neither"] == row["n"]
        model = compared["comparison"].row(part=row["part"], option="model")
        assert model["accuracy"] == pytest.approx((row["both"] + row["only_model"]) / row["n"])
        assert model["accuracy_low"] < model["accuracy"] < model["accuracy_high"]
        assert model["cost_low"] < model["cost_per_100"] < model["cost_high"]
        [against] = compared["differences"].find(part=row["part"], measure="cost of 100", against="manual")
        assert against["difference"] == pytest.approx(model["cost_per_100"] - 200)
        assert against["low"] < against["difference"] < against["high"]


def test_the_manual_process_costs_a_look_each_and_the_oracle_least(compared: dict[str, Table]) -> None:
    cost = {row["option"]: row["cost_per_100"] for row in compared["comparison"].find(part="test")}
    assert cost["manual"] == 200
    assert min(cost, key=cost.__getitem__) == "oracle"


def test_the_chosen_threshold_is_the_cheapest_of_the_curve(release: Release) -> None:
    whole = replace(subject(release), examples=examples.generated())
    curve = confidence.threshold_table(answers.options(whole, "calibrate"), release.policy.threshold)
    model = curve.find(option="model")
    chosen = curve.row(option="model", threshold="chosen")
    assert chosen["cost_per_100"] <= min(row["cost_per_100"] for row in model) + 1e-9


def test_small_slices_have_no_figures(compared: dict[str, Table]) -> None:
    for row in compared["slices"].rows:
        assert (row["model"] is None) == (row["n"] < comparison.SMALLEST)
    assert any(row["model"] is None for row in compared["slices"].rows)
    assert sum(row["n"] for row in compared["slices"].find(by="Channel")) == 300


# ---- files that people write ------------------------------------------------------------------------------------

CASE = '[[case]]\nkind = "minimum"\ntitle = "One"\nlabel = "billing"\ninputs = [{subject = "Refund"}]\n'
CHANGE = '[[case]]\nkind = "invariance"\ntitle = "x"\n'


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "case: Missing data"),
        ("[[case", "cannot be read"),
        ("case = []", "case: This may not be empty"),
        ("case = [3]", "case 1, kind: This must be minimum, "),
        (CASE + "[other]\n", "other: Unknown field"),
        (CASE + CASE, "'One' is there twice"),
        (CASE.replace('"minimum"', '"magic"'), "case 1, kind: This must be minimum, "),
        (CASE.replace('"minimum"', '["minimum"]'), "case 1, kind: This must be minimum, "),
        (CASE + CASE.replace('"One"', "3"), "case 2, title: Not a valid string"),
        (CASE.replace("label =", "lable ="), "case 1, label: Missing data.* case 1, lable: Unknown field"),
        (CASE + 'at_least = "most"\n', "case 1, at_least: Not a valid number"),
        (CASE + "at_least = 90\n", "case 1, at_least: Must be greater than or equal to 0 and less than or equal to 1"),
        (CASE.replace('{subject = "Refund"}', ""), "case 1, inputs: This may not be empty"),
        (CASE.replace('{subject = "Refund"}', "3"), "case 1, inputs 1: Not a valid mapping"),
        (CASE.replace("billing", "invoices"), "none of the labels"),
        (CASE.replace("subject", "sbject"), "/input/sbject"),
        (CHANGE + "change = 3\n", "case 1, change: Not a valid mapping"),
        (CHANGE + 'change = {colour = "red"}\n', "no field 'colour'"),
    ],
)
def test_a_case_that_cannot_be_tried_is_named(release: Release, tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "cases.toml").write_text(text)
    with pytest.raises(UsageError, match=says):
        read_cases(tmp_path / "cases.toml", release.contract)


def test_a_change_keeps_what_was_there_where_it_says_so() -> None:
    record = {"a": "old", "b": None, "n": 3}
    assert change(record, {"a": "new {}", "b": "{}!", "n": 4}) == {"a": "new old", "b": "!", "n": 4}


CRITERIA = (
    '[options]\nbaseline_or_manual_process = "rules"\nai_assisted_or_advanced_option = "model"\n'
    '[[criterion]]\nname = "Share"\nweight = 3\nreason = "r"\n'
    'figure = { table = "t", column = "share", row = { note = "x" }, worst = 0, best = 0.5 }\n'
    '[[criterion]]\nname = "Fast"\nweight = 1\nreason = "r"\nfigure = { table = "t", column = "p50", limit = 6 }\n'
    '[[criterion]]\nname = "Plain"\nweight = 1\nreason = "r"\njudgement = { baseline = 9, model = 4 }\n'
)
SCORED = table(("model", 9, 0.4, 7.0, 1.0, "x"), ("rules", 9, 0.1, 5.0, 1.0, "x"))


def test_scores_come_from_figures_or_are_said_to_be_judgements(tmp_path: Path) -> None:
    (tmp_path / "scoring.toml").write_text(CRITERIA)
    scored, sensitivity = scoring(tmp_path, {"t": SCORED}, seed=1)
    scores = {row["criterion"]: tuple(row[option] for option in OPTIONS) for row in scored.rows}
    assert scores["Share"] == pytest.approx((2, 8))
    assert scores["Fast"] == (10, 0)
    assert scores["Plain"] == (9, 4)
    assert scores["Weighted mean"] == pytest.approx(((6 + 10 + 9) / 5, (24 + 0 + 4) / 5))
    assert scored.row(criterion="Plain")["source"] == "judgement"
    assert scored.row(criterion="Fast")["ai_assisted_or_advanced_option_figure"] == "above 6"
    assert sensitivity.row(weights="judgements only")["model_wins"] == 0
    assert 0 < sensitivity.row(weights="drawn at random")["model_wins"] < 1


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("[options]", "[option]", "options: Missing data.* option: Unknown field"),
        ('name = "Plain"', 'nam = "Plain"', "criterion 3, name: Missing data"),
        ("judgement = {", "figure = 3\njudgement = {", "criterion 3, figure: Invalid input type"),
        ("judgement = { baseline = 9, model = 4 }", "", "criterion 3: Give either a figure or a judgement"),
        ("model = 4", "modle = 4", "criterion 3, judgement, model: Missing data"),
        ("model = 4", "model = 40", "criterion 3, judgement, model: Must be .* less than or equal to 10"),
        ("best = 0.5", "best = 0", "criterion 1, figure: Give a limit, or a worst and another best"),
        (", limit = 6", "", "criterion 2, figure: Give a limit"),
        ("weight = 3", "weight = -1", "criterion 1, weight: Must be greater than or equal to 0"),
        ("weight = ", "weight = 0.0 # ", "One weight at least"),
        ("Fast", "Share", "'Share' is there twice"),
        ('column = "p50"', 'column = "note"', "has no figure there"),
        ('table = "t", column = "p50"', 'table = "u", column = "p50"', "no table 'u'"),
        ('column = "p50"', 'column = "p49"', "no column 'p49'"),
    ],
)
def test_a_criterion_that_cannot_be_scored_is_named(tmp_path: Path, old: str, new: str, says: str) -> None:
    (tmp_path / "scoring.toml").write_text(CRITERIA.replace(old, new))
    with pytest.raises(UsageError, match=says):
        read_criteria(tmp_path / "scoring.toml")
        scoring(tmp_path, {"t": SCORED}, seed=1)


# ---- requests and tests -----------------------------------------------------------------------------------------


def test_the_requests_are_the_same_each_time_and_break_every_rule_once(release: Release) -> None:
    trial = replace(subject(release), examples=examples.generated())
    first, second = outcomes.synthetic_requests(trial), outcomes.synthetic_requests(trial)
    assert [one.as_json() for one in first] == [one.as_json() for one in second]
    assert sum(one.kind == "valid" for one in first) >= 1000
    rules = [one.rule for one in first if one.kind != "valid"]
    assert len(set(rules)) == len(rules)
    assert {"NaN", "duplicate key", "deep nesting", "too large", "no token", "role too low"} <= set(rules)
    for name in release.contract.names:
        assert any(rule.startswith(f"/input/{name}: ") for rule in rules)


def junit(folder: Path, source: str) -> Path:
    report = folder / "build" / "junit.xml"
    report.parent.mkdir()
    report.write_text(
        f'<testsuites><testsuite><properties><property name="source" value="{source}"/></properties>'
        '<testcase classname="tests.test_api"/><testcase classname="tests.test_api"><failure/></testcase>'
        '<testcase classname="tests.test_ui"><skipped/></testcase><testcase classname="tests.test_memo"/>'
        "</testsuite></testsuites>"
    )
    return folder


def test_test_runs_count_by_area_and_leave_themselves_out(tmp_path: Path) -> None:
    found = testruns.test_runs(junit(tmp_path, "s"), "s")
    assert found is not None
    assert [tuple(row.values()) for row in found.rows] == [("api", 2, 1, 0), ("ui", 1, 0, 1), ("all", 3, 1, 1)]


def test_a_test_run_of_other_code_counts_for_nothing(tmp_path: Path) -> None:
    assert testruns.test_runs(tmp_path, "s") is None
    assert testruns.test_runs(junit(tmp_path, "other"), "s") is None


def test_the_source_digest_follows_every_file_that_figures_depend_on(tmp_path: Path) -> None:
    for name in ("src/reviewapp/a.py", "templates/a.html", "constraints.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("1")
    seen = {source_digest(tmp_path)}
    for name in ("src/reviewapp/a.py", "templates/a.html", "constraints.txt"):
        (tmp_path / name).write_text("2")
        seen.add(source_digest(tmp_path))
    (tmp_path / "src/reviewapp/a.py").rename(tmp_path / "src/reviewapp/b.py")
    seen.add(source_digest(tmp_path))
    assert len(seen) == 5
    (tmp_path / "src/reviewapp/__pycache__").mkdir()
    (tmp_path / "src/reviewapp/__pycache__/b.pyc").write_text("3")
    (tmp_path / "README.md").write_text("3")
    assert source_digest(tmp_path) in seen


# ---- the whole of it --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def small() -> Iterator[None]:
    """Everything `reviewapp evidence` does, on fewer rows and shorter loads."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(outcomes, "VALID", 60)
        patch.setattr(watching, "REQUESTS", 300)
        patch.setattr(comparison, "RESAMPLES", 99)
        patch.setattr(simulation, "MONTHS", 40)
        patch.setattr(simulation, "RUNS", 20)
        patch.setattr(latency, "CONNECTIONS", (1, 4))
        patch.setattr(latency, "SHARES", (40,))
        patch.setattr(latency, "WARM_UP", 0.1)
        patch.setattr(Trial, "seconds", 0.6)
        yield


@pytest.fixture(scope="module")
def measured(small: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The memo folder of a small run, without the memo's template: its words are about the whole run."""
    memo = tmp_path_factory.mktemp("memo")
    for name in ("behaviour.toml", "scoring.toml"):
        shutil.copy(ROOT / "memo" / name, memo)
    (memo / "memo.md.j2").write_text('Cost: {{ figure("comparison", "cost_per_100", part="test", option="model") }}\n')
    done = evidence(memo, "--quick")
    assert done.exit_code == 0, done.output
    return memo


def evidence(memo: Path, *words: str) -> Any:
    settings = {"REVIEWAPP_EVIDENCE": str(memo / "evidence"), "REVIEWAPP_INSTANCE": str(memo / "no-instance")}
    return CliRunner().invoke(main, ["evidence", *words], env=settings)


@pytest.fixture
def pack(measured: Path, tmp_path: Path) -> Pack:
    shutil.copytree(measured, tmp_path / "memo")
    return Pack.read(tmp_path / "memo" / "evidence")


def test_without_git_the_commit_is_unknown_and_nothing_else(release: Release, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = facts(ROOT, release, 1, quick=True)
    monkeypatch.setenv("PATH", "")
    assert facts(ROOT, release, 1, quick=True) == whole | {"commit": None}


class Interrupted(RunningService):
    def _ready(self) -> bool:
        raise KeyboardInterrupt


@pytest.mark.server
def test_a_service_under_trial_does_not_outlive_an_interrupted_or_failed_start(tmp_path: Path) -> None:
    service = Interrupted(tmp_path / "instance")
    with pytest.raises(KeyboardInterrupt):
        service.start()
    assert service.process.poll() is not None
    service = RunningService(tmp_path / "other", REVIEWAPP_THREADS="none")
    with pytest.raises(NotReady, match="REVIEWAPP_THREADS"):
        service.start()
    assert service.process.poll() is not None


@pytest.mark.server
def test_a_run_measures_everything_and_a_second_one_finds_the_same(measured: Path) -> None:
    pack = Pack.read(measured / "evidence")
    assert not list(changed_files(pack.folder))
    assert {
        "outcomes",
        "latency",
        "drill",
        "stages",
        "behaviour",
        "comparison",
        "slices",
        "threshold",
        "watching",
        "scoring",
    } < set(pack.tables)
    assert pack.table("outcomes_by_kind").row(kind="all")["missed"] == 0
    latencies = pack.table("latency")
    assert all(row["n"] > 0 and row["p50"] <= row["max"] for row in latencies.rows)
    for payload in ("single", "batch"):  # no more arrives than can be answered, whatever the machine
        most = max(row["per_second"] for row in latencies.find(payload=payload, loop="closed"))
        assert all(row["per_second"] < max(most, 2.5) for row in latencies.find(payload=payload, loop="open"))
    assert sum(row["share"] for row in pack.table("stages").find(payload="single")) == pytest.approx(1)
    assert len((pack.folder / REQUESTS).read_text().splitlines()) == len(pack.table("outcomes").rows)
    assert not (measured / "no-instance").exists()
    again = evidence(measured, "--quick", "--check")
    assert (again.exit_code, again.stdout) == (0, "The same: every figure was found again.\n")


@pytest.mark.server
@pytest.mark.parametrize("name", ["comparison.csv", "latency.csv", "manifest.json", "cost.png", REQUESTS])
def test_one_changed_digit_in_the_pack_is_named(pack: Pack, name: str) -> None:
    content = bytearray((pack.folder / name).read_bytes())
    at = max(i for i, byte in enumerate(content) if chr(byte).isdigit())
    content[at] = ord("0") + (content[at] - ord("0") + 1) % 10
    (pack.folder / name).write_bytes(content)
    assert [line.split(":")[0] for line in changed_files(pack.folder)] == [name]


@pytest.mark.server
def test_what_no_run_made_and_what_is_missing_are_named(pack: Pack) -> None:
    (pack.folder / "more.csv").write_text("")
    (pack.folder / "pairs.csv").unlink()
    assert list(changed_files(pack.folder)) == ["pairs.csv: it is missing", "more.csv: no run made this file"]
    with pytest.raises(UsageError, match="table of the evidence is missing"):
        Pack.read(pack.folder)


@pytest.mark.server
def test_a_changed_memo_is_named_by_its_line(pack: Pack) -> None:
    memo = pack.folder.parent / "memo.md"
    assert not run.memo_is_stale(pack)
    given = memo.read_text()
    memo.write_text(given.replace("1", "2").replace("8", "9") + "more\n")
    lines = run.memo_is_stale(pack)
    assert lines[0].startswith("memo/memo.md, line 1: it is ")
    assert lines[-1] == "memo/memo.md: it has 2 lines, and the evidence makes 1"


@pytest.mark.server
def test_other_code_another_release_and_other_requests_are_named(pack: Pack) -> None:
    other = {
        "source": "x",
        "seed": 2,
        "release": {},
        "files": {**pack.manifest["files"], REQUESTS: "x"},
        "quick": False,
    }
    lines = list(compare(pack, replace(pack, manifest={**pack.manifest, **other}), 10.0))
    assert [line.split(":")[0] for line in lines] == ["source", "release", "seed", REQUESTS]


@pytest.mark.server
def test_trials_that_miss_fail_the_run(pack: Pack) -> None:
    def spoiled(name: str, **changes: Any) -> Pack:
        one = pack.table(name)
        rows = [{**one.rows[0], **changes}, *one.rows[1:]]
        return replace(pack, tables={**pack.tables, name: replace(one, rows=rows)})

    assert run.failures(pack) == []
    assert run.failures(spoiled("outcomes", ok="no", status=500))[0].startswith(
        "outcomes: valid-0001 (valid): expected 201"
    )
    assert run.failures(spoiled("behaviour", ok="no", held=0))[0].startswith("behaviour: Plain requests about money")
    assert run.failures(spoiled("latency", errors=3)) == ["latency: single, closed loop, 1 connection: 3 errors"]


@pytest.mark.server
def test_a_second_run_leaves_folders_of_other_measurements_alone(pack: Pack, release: Release) -> None:
    (pack.folder / "bench").mkdir()
    (pack.folder / "old.csv").write_text("")
    bound = {name: pack.manifest[name] for name in ("release", "source", "seed", "quick", "machine", "policy", "data")}
    run.write(pack.folder, bound, list(pack.tables.values()), {}, ())
    assert (pack.folder / "bench").is_dir()
    assert not (pack.folder / "old.csv").exists()
    assert not list(changed_files(pack.folder))


def test_without_evidence_the_check_says_what_to_do(tmp_path: Path) -> None:
    found = evidence(tmp_path, "--check")
    assert found.exit_code == 2
    assert "run `make evidence`" in found.stderr


def test_an_installed_package_says_that_evidence_needs_the_source(monkeypatch: Any, tmp_path: Path) -> None:
    monkeypatch.setattr("reviewapp.places.checkout", lambda: None)
    found = evidence(tmp_path)
    assert (found.exit_code, "from a checkout" in found.stderr) == (2, True)
    assert folder_of(load_settings({"instance": tmp_path}), None) == tmp_path / "evidence"


def test_the_live_release_is_measured_and_its_ledger_is_only_read(
    release: Release, releases_root: Path, live_database: Path, tmp_path: Path
) -> None:
    shutil.copy(live_database, tmp_path / "reviewapp.sqlite3")
    before = (tmp_path / "reviewapp.sqlite3").read_bytes()
    settings = load_settings({"instance": tmp_path, "releases": releases_root})
    assert run._release(settings, run._live(settings), tmp_path / "copy").id == release.id
    assert (tmp_path / "copy" / "releases" / "triage" / str(release.id.version) / "release.json").is_file()
    assert (tmp_path / "reviewapp.sqlite3").read_bytes() == before


def test_exact_is_what_a_column_is_unless_it_says_otherwise() -> None:
    assert Column("n", "n").kind == EXACT


def test_there_are_no_labelled_requests_of_a_release_that_came_from_elsewhere(release: Release) -> None:
    other = replace(release, id=replace(release.id, name="other"))
    with pytest.raises(UsageError, match="The live release is other/1: labelled requests are made for triage"):
        examples.labelled_requests(other, None)


def test_the_default_model_needs_no_table(release: Release, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"was not built from a table, .* leave --data out"):
        examples.labelled_requests(release, tmp_path / "table.csv")
