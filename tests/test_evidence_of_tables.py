"""Evidence for a release that was built from a table: its own rows, the same trials, and words that fit."""

import csv
import json
import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from reviewapp import evaluation, places
from reviewapp.adapter import ModelAdapter
from reviewapp.building.build import SEED, Order, build
from reviewapp.building.infer import Asked
from reviewapp.building.subject import parts_of
from reviewapp.building.table import read_table
from reviewapp.cli import main
from reviewapp.config import load_settings
from reviewapp.contract import Contract, Outcome
from reviewapp.errors import UsageError
from reviewapp.evaluation import sign_test
from reviewapp.evidence import latency, outcomes, run, simulation, slices, testruns, values
from reviewapp.evidence.behaviour import read_cases
from reviewapp.evidence.examples import of_table
from reviewapp.evidence.pack import REQUESTS, Pack, folder_of
from reviewapp.evidence.running import Subject, Trial
from reviewapp.evidence.tables import Table
from reviewapp.evidence.values import Values
from reviewapp.factory import create_app
from reviewapp.field import Field
from reviewapp.parts import EXTENSION
from reviewapp.policy import Policy
from reviewapp.registry import Registry
from reviewapp.release import Release
from reviewapp.store import Store
from reviewapp.trust import TrustedTypes

from .page import JSON, Page
from .small import RULE

LABELS = ("<b>", "R&D", 'a "third"')
PLACES = ("<north>", "a & b", "süd")


def table(path: Path, target: str, rows: int = 320) -> Path:
    """Write a table with odd names, missing cells and a target that its other columns tell something of."""
    rng = random.Random(target)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["when", "a/b", "class", "x.y", "is it?", target])
        for n in range(rows):
            size, kind, flag = rng.uniform(0, 10), rng.choice(PLACES), rng.random() < 0.5
            if target == "label <&>":
                answer: Any = rng.choice(LABELS) if rng.random() < 0.2 else LABELS[0 if size > 6 else 1 + flag]
            else:
                answer = round(1000 * size + 500 * PLACES.index(kind) + rng.gauss(0, 300), 2)
            cell = "" if rng.random() < 0.1 else f"{size:.3f}"
            writer.writerow(
                [n, cell, kind, "" if rng.random() < 0.1 else rng.randint(0, 99), str(flag).lower(), answer]
            )
    return path


@dataclass(frozen=True)
class Made:
    """A release of a table, live in an instance of its own."""

    instance: Path
    data: Path
    release: Release

    @property
    def folder(self) -> Path:
        return self.instance / "releases" / self.release.id.name / str(self.release.id.version)

    def evidence(self, *words: str) -> Result:
        return CliRunner().invoke(main, ["evidence", *words], env={"REVIEWAPP_INSTANCE": str(self.instance)})


def make(folder: Path, target: str) -> Made:
    instance = folder / "instance"
    data = table(folder / "it's a table.csv", target)
    order = Order(data=data, asked=Asked(target=target, drop=("when",)), name="of_table")
    release = build(order, instance / "releases", TrustedTypes(instance)).release
    store = Store(f"sqlite:///{instance / 'reviewapp.sqlite3'}")
    Registry(instance / "releases", store, ModelAdapter).add(release, "test")
    store.close()
    return Made(instance, data, release)


@pytest.fixture(scope="module")
def small() -> Iterator[None]:
    """Fewer requests, shorter loads, no REVIEWAPP_EVIDENCE of whoever runs the tests, nor what they ran before."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(testruns, "REPORT", Path("build") / "of_no_run.xml")
        patch.delenv("REVIEWAPP_EVIDENCE", raising=False)
        patch.setattr(evaluation, "RESAMPLES", 99)
        patch.setattr(outcomes, "VALID", 80)
        patch.setattr(slices, "SMALLEST", 15)
        patch.setattr(simulation, "MONTHS", 40)
        patch.setattr(simulation, "RUNS", 20)
        patch.setattr(latency, "CONNECTIONS", (1, 4))
        patch.setattr(latency, "SHARES", (40,))
        patch.setattr(latency, "WARM_UP", 0.1)
        patch.setattr(Trial, "seconds", 0.6)
        yield


@pytest.fixture(scope="module")
def of_labels(small: None, tmp_path_factory: pytest.TempPathFactory) -> Made:
    return make(tmp_path_factory.mktemp("labels"), "label <&>")


@pytest.fixture(scope="module")
def of_values(small: None, tmp_path_factory: pytest.TempPathFactory) -> Made:
    return make(tmp_path_factory.mktemp("values"), "price")


# ---- whose rows, and where to -----------------------------------------------------------------------------------


def test_rows_are_those_of_the_release_and_never_those_it_learned_from(of_labels: Made) -> None:
    found = of_table(of_labels.release, of_labels.data)
    _, parts, _ = parts_of(read_table(of_labels.data), of_labels.release.contract, None, SEED)
    assert list(found) == ["calibrate", "test"]
    for part, rows in found.items():
        assert [(one.record, one.answer) for one in rows] == list(
            zip(parts[part].records, parts[part].answers, strict=True)
        )
    learned = [*map(repr, parts["train"].records)]
    assert not any(repr(one.record) in learned for rows in found.values() for one in rows)


def test_a_table_in_order_of_time_is_parted_as_it_was_though_labels_were_put_aside(tmp_path: Path) -> None:
    lines = [["when", "x", "y"]]
    for n in range(300):
        answer = "new" if n >= 285 else "late" if n > 250 and n % 2 else "ab"[n * 7 % 3 % 2]
        lines.append([str(n), str(n % 17 + (answer == "a") * 3), answer])
    data = tmp_path / "t.csv"
    data.write_text("\n".join(map(",".join, lines)) + "\n")
    release = build(
        Order(data=data, asked=Asked(target="y", time="when")), tmp_path / "r", TrustedTypes(tmp_path)
    ).release
    assert release.contract.outcome.labels == ("a", "b")
    parts = release.evaluation["data"]["parts"]
    found = of_table(release, data)
    assert {part: len(rows) for part, rows in found.items()} == {part: parts[part] for part in ("calibrate", "test")}
    told = {**release.evaluation["data"], "parts": {**parts, "test": 1}}
    with pytest.raises(UsageError, match=r"parts the rows of t\.csv otherwise than t/1 was built"):
        of_table(replace(release, evaluation={**release.evaluation, "data": told}), data)


def test_the_file_is_needed_and_must_be_the_one_it_was_built_from(of_labels: Made, tmp_path: Path) -> None:
    without = of_labels.evidence("--quick")
    assert (without.exit_code, without.stdout) == (2, "")
    assert "of_table/1 was built from it's a table.csv and is tried on its rows: add --data FILE." in without.stderr
    other = tmp_path / "other.csv"
    other.write_bytes(of_labels.data.read_bytes() + b"\n")
    wrong = of_labels.evidence("--quick", "--data", str(other))
    assert wrong.exit_code == 2
    digest = of_labels.release.evaluation["data"]["sha256"][:12]
    assert "is not the table that of_table/1 was built from: its SHA-256 begins with " in wrong.stderr
    assert f"and that of it's a table.csv with {digest}." in wrong.stderr
    gone = of_labels.evidence("--quick", "--data", str(tmp_path / "gone.csv"))
    assert (gone.exit_code, "cannot be read: No such file" in gone.stderr) == (2, True)
    assert not (of_labels.instance / "evidence").exists()


def test_the_pack_lies_where_it_was_set_else_with_what_it_is_about(
    of_labels: Made, release: Release, releases_root: Path, tmp_path: Path
) -> None:
    memo = Path(str(places.checkout())) / "memo" / "evidence"
    settings = load_settings({"instance": of_labels.instance})
    triage = releases_root / "triage" / str(release.id.version)
    assert folder_of(settings, of_labels.folder) == of_labels.instance / "evidence"
    assert folder_of(settings, triage) == folder_of(settings, None) == memo
    assert folder_of(settings, tmp_path / "gone") == memo
    explicit = load_settings({"instance": of_labels.instance, "evidence": tmp_path / "mine"})
    assert {folder_of(explicit, one) for one in (of_labels.folder, triage, None)} == {tmp_path / "mine"}


# ---- values -----------------------------------------------------------------------------------------------------


def test_values_are_held_to_the_truth_and_to_their_width() -> None:
    policy = Policy(cost_wrong=10, cost_review=2, threshold=0.5, rollback=RULE, widest_interval=4)
    made = Values(np.array([[1.0, 0, 2], [5, 2, 8], [9, 7, 11]]), np.array([2.0, 1, 9]), policy)
    assert made.error.tolist() == [1, 4, 0]
    assert made.covered.tolist() == [True, False, True]
    assert made.referred.tolist() == [False, True, False]
    assert not replace(made, policy=replace(policy, widest_interval=None)).referred.any()


@pytest.mark.parametrize(
    ("apart", "form"), [(115_000.0, ",.0f"), (12.0, ",.1f"), (0.8, ",.3f"), (0.0002, ",.6f"), (0.0, ",.3f")]
)
def test_values_are_read_with_three_digits_of_how_far_they_lie_apart(apart: float, form: str) -> None:
    assert values.form_of(np.array([-apart, apart])) == form


def test_where_no_row_tells_two_options_apart_there_is_no_p_below_one() -> None:
    assert (sign_test(0, 0), sign_test(5, 5), sign_test(0, 10)) == (1.0, 1.0, pytest.approx(2 / 1024))


def test_an_answer_over_http_is_the_models_own_up_to_its_size() -> None:
    given = {"value": 5e6, "low": 4e6, "high": 6e6}
    assert outcomes.same_output({**given, "value": 5e6 + 1e-3}, given)
    assert not outcomes.same_output({**given, "low": 4e6 + 1e-2}, given)
    labels = {"label": "a", "probabilities": {"a": 0.7, "b": 0.3}}
    assert outcomes.same_output(labels, {**labels, "probabilities": {"a": 0.7 + 1e-10, "b": 0.3}})
    assert not outcomes.same_output({**labels, "label": "b"}, labels)
    assert not outcomes.same_output({**labels, "probabilities": {"a": 0.7 + 1e-8, "b": 0.3}}, labels)


def test_the_comparison_of_values_adds_up(of_values: Made) -> None:
    release = of_values.release
    examples = of_table(release, of_values.data)
    made = values.comparison_of_values(
        Subject(release=release, adapter=ModelAdapter(release), examples=examples, seed=1)
    )
    found: dict[str, Table] = {one.name: one for one in made}
    model, baseline = (found["comparison"].row(part="test", option=option) for option in ("model", "baseline"))
    stated = release.evaluation["results"]["test"]["model"]
    for name in ("mean_absolute_error", "r2", "coverage"):  # summed here in another order than there
        assert model[name] == pytest.approx(stated[name], rel=1e-12), name
    assert model["error_low"] < model["mean_absolute_error"] < model["error_high"]
    [difference] = found["differences"].rows
    assert difference["difference"] == pytest.approx(model["mean_absolute_error"] - baseline["mean_absolute_error"])
    [pair] = found["pairs"].rows
    assert pair["model"] + pair["baseline"] + pair["neither"] == pair["n"] == 64
    bins = found["calibration"].find(option="model")
    assert sum(row["covered"] * row["n"] for row in bins) == pytest.approx(model["coverage"] * 64)
    by_place = found["slices"].find(by="class")
    assert {row["value"] for row in by_place} == set(PLACES)
    assert sum(row["n"] for row in by_place) == 64
    for option in ("baseline", "model"):
        curve = [row for row in found["widest"].find(option=option) if row["limit"] != "chosen"]
        assert [row["referred"] for row in curve] == sorted((row["referred"] for row in curve), reverse=True)
        assert curve[-1]["referred"] == 0
    assert found["widest"].row(option="model", limit="chosen")["value"] == release.policy.widest_interval


PRICE = Contract(
    name="price",
    title="Price",
    fields=(Field(name="size", kind="number"),),
    outcome=Outcome(name="price", task="regression"),
)


@pytest.mark.parametrize(
    ("case", "says"),
    [
        ('kind = "minimum"\nlabel = "a"\ninputs = [{size = 1}]', "asks for a label, and the answer is a value"),
        ('kind = "directional"\nnever_lowers = "size"\nchange = {size = 9}', "never_lowers must be 'price'"),
    ],
)
def test_a_case_of_labels_cannot_be_tried_on_values(tmp_path: Path, case: str, says: str) -> None:
    (tmp_path / "behaviour.toml").write_text(f'[[case]]\ntitle = "One"\n{case}\n')
    with pytest.raises(UsageError, match=says):
        read_cases(tmp_path / "behaviour.toml", PRICE)


# ---- the whole of it --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pack_of_labels(of_labels: Made) -> Pack:
    done = of_labels.evidence("--quick", "--data", str(of_labels.data))
    assert done.exit_code == 0, done.output
    assert f"{of_labels.instance / 'evidence'}: 13 tables, 6 pictures.\nThere is no template" in done.stdout
    return Pack.read(of_labels.instance / "evidence")


CASES = """
[[case]]
kind = "directional"
title = "More of it never costs less"
change = { "a/b" = 10.0 }
never_lowers = "price"
at_least = 0.8

[[case]]
kind = "invariance"
title = "What is there already changes nothing"
change = { class = "{}" }
"""
CRITERIA = """
[options]
baseline_or_manual_process = "baseline"
ai_assisted_or_advanced_option = "model"

[[criterion]]
name = "Near the truth"
weight = 1
reason = "It is what the answer is for."
figure = { table = "comparison", column = "r2", row = { part = "test" }, worst = 0, best = 1 }
"""


@pytest.fixture(scope="module")
def pack_of_values(of_values: Made) -> Pack:
    """With files of cases and criteria, and a template of a memo, beside the evidence."""
    (of_values.instance / "behaviour.toml").write_text(CASES)
    (of_values.instance / "scoring.toml").write_text(CRITERIA)
    (of_values.instance / "memo.md.j2").write_text(
        '{{ figure("comparison", "n", part="test", option="model") }} rows\n'
    )
    done = of_values.evidence("--quick", "--data", str(of_values.data))
    assert done.exit_code == 0, done.output
    assert (of_values.instance / "memo.md").read_text() == "64 rows\n"
    return Pack.read(of_values.instance / "evidence")


SERVICE = {"outcomes", "outcomes_by_kind", "latency", "stages"}
RULES = {"alarms", "power", "unbiased"}  # of the rollback rule
OF_RULE = ["power", "unbiased"]


@pytest.mark.server
def test_labels_have_every_table_but_those_of_the_generator(pack_of_labels: Pack, of_labels: Made) -> None:
    pack = pack_of_labels
    own = {"comparison", "pairs", "differences", "slices", "calibration", "threshold"}
    assert set(pack.tables) - {"tests"} == SERVICE | RULES | own
    assert [one["name"] for one in pack.manifest["pictures"]] == [
        "cost",
        "threshold",
        "calibration",
        *OF_RULE,
        "latency",
    ]
    assert run.failures(pack) == []
    assert pack.table("outcomes_by_kind").row(kind="all")["missed"] == 0
    options = [row["option"] for row in pack.table("comparison").rows]
    assert options == ["manual", "baseline", "baseline, own threshold", "model"]
    assert {row["part"] for row in pack.table("comparison").rows} == {"test"}
    assert "oracle" not in pack.table("comparison").reading
    assert {row["by"] for row in pack.table("slices").rows} == {"class", "is it?", "Right answer"}
    assert {row["value"] for row in pack.table("slices").find(by="Right answer")} == set(LABELS)
    sent = [json.loads(line) for line in (pack.folder / REQUESTS).read_text(encoding="utf-8").splitlines()]
    records = [one.record for one in of_table(of_labels.release, of_labels.data)["test"]]
    assert [one["body"]["input"] for one in sent[:40]] == records[:40]
    assert [one["expected"]["pointer"] for one in sent if one["rule"] == "a correction without what is right"] == [
        "/label"
    ]


@pytest.mark.server
def test_values_have_tables_of_their_own_and_are_found_again(pack_of_values: Pack, of_values: Made) -> None:
    pack = pack_of_values
    own = {"comparison", "pairs", "differences", "slices", "calibration", "widest"}
    stated = {"behaviour", "scoring", "sensitivity"}
    assert set(pack.tables) - {"tests"} == SERVICE | RULES | own | stated
    assert [one["name"] for one in pack.manifest["pictures"]] == ["differences", "calibration", *OF_RULE, "latency"]
    assert run.failures(pack) == []
    assert pack.table("outcomes_by_kind").row(kind="all")["missed"] == 0
    assert pack.table("outcomes").row(rule="a correction without what is right")["pointer"] == "/value"
    assert pack.table("scoring").row(criterion="Near the truth")["source"] == "comparison: r2"
    again = of_values.evidence("--quick", "--check", "--data", str(of_values.data))
    assert (again.exit_code, again.stdout) == (0, "The same: every figure was found again.\n")
    path = pack.folder / "pairs.csv"
    kept = path.read_bytes()
    path.write_bytes(kept.replace(b"64", b"65"))
    assert [line.split(":")[0] for line in run.changed_files(pack.folder)] == ["pairs.csv"]
    path.write_bytes(kept)


@pytest.mark.server
@pytest.mark.parametrize("which", ["of_labels", "of_values"])
def test_the_page_shows_it_in_words_that_fit(which: str, request: pytest.FixtureRequest) -> None:
    made: Made = request.getfixturevalue(which)
    pack: Pack = request.getfixturevalue(f"pack_{which}")
    app = create_app({"instance": made.instance})
    client = app.test_client()
    accounts = app.extensions[EXTENSION].accounts
    client.get(f"/sign-in?link={accounts.create_link('owner', 'admin')}")
    shown = Page(client.get("/evidence").text)
    assert "synthetic" not in shown.text
    assert "Read this first" not in shown.text
    rows = made.release.evaluation["data"]["parts"]
    words = f"rows of it's a table.csv that no option was fitted on: 64 that only test, and {rows['calibrate']} that"
    assert words in shown.text
    command = """reviewapp evidence --data 'it'"'"'s a table.csv'"""
    assert f"by {command} , on" in shown.text
    assert f"""{command.replace("evidence", "evidence --check")} .""" in shown.text
    for one in pack.tables.values():
        assert one.title in shown.text
    assert all(name in shown.text for name in PLACES)
    for name in pack.files:
        with client.get(f"/evidence/{name}") as got:
            assert (got.status_code, got.data) == (200, (pack.folder / name).read_bytes())
    twin = client.get("/evidence", headers=JSON).json
    assert twin is not None
    assert twin["tables"]["pairs"] == [dict(row) for row in pack.table("pairs").rows]
    app.extensions[EXTENSION].store.close()


def test_without_evidence_the_page_says_how_a_table_gets_it(
    of_labels: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = create_app({"instance": of_labels.instance, "evidence": tmp_path / "none"})
    client = app.test_client()
    accounts = app.extensions[EXTENSION].accounts
    client.get(f"/sign-in?link={accounts.create_link('owner', 'admin')}")
    assert "reviewapp evidence --data FILE" in Page(client.get("/evidence").text).text
    app.extensions[EXTENSION].store.close()
