"""`reviewapp build`: from a table, and perhaps a pipeline of one's own, to a release, or to one clear sentence."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from sklearn.compose import make_column_transformer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from reviewapp import estimators
from reviewapp import release as releases
from reviewapp.adapter import ModelAdapter
from reviewapp.building.figures import PERSON
from reviewapp.cli import main
from reviewapp.prediction import Call
from reviewapp.release import Release
from reviewapp.trust import TrustedTypes

from . import tables

OWN = """
import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, TransformerMixin
from sklearn.compose import make_column_selector, make_column_transformer
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import RandomForestClassifier, VotingClassifier
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.linear_model import LinearRegression, LogisticRegression, RidgeClassifier
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler
from sklearn.semi_supervised import SelfTrainingClassifier
from sklearn.svm import SVC


def features():
    return make_column_transformer((OneHotEncoder(handle_unknown="ignore"), ["b"]), (StandardScaler(), ["a"]))


class Own(ClassifierMixin, BaseEstimator):
    def fit(self, X, y):
        self.classes_ = np.unique(y)
        return self

    def predict(self, X):
        return np.where(X["a"] > 0, self.classes_[-1], self.classes_[0])


class Fails(Own):
    def fit(self, X, y):
        raise ValueError("there is no\\nway")


class FailsLater(Own):
    def predict(self, X):
        raise RuntimeError("not today")


class Rules:
    def __init__(self, no="no"):
        self.no = no

    def predict(self, X):
        return ["yes" if a > 0 else self.no for a in X["a"]]


proba = make_pipeline(features(), RandomForestClassifier(20, n_jobs=-1))
decision = make_pipeline(features(), SVC())
ridge = make_pipeline(features(), RidgeClassifier())
label = make_pipeline(features(), VotingClassifier([("a", LogisticRegression()), ("b", KNeighborsClassifier())]))
search = GridSearchCV(make_pipeline(features(), LogisticRegression()), {"logisticregression__C": [0.1, 1]}, cv=2)
strict = make_pipeline(
    make_column_transformer((OneHotEncoder(), ["b"]), (FunctionTransformer(np.log1p), ["a"])), LogisticRegression()
)
regressor = make_pipeline(features(), LinearRegression())
process = make_pipeline(features(), GaussianProcessRegressor(alpha=0.01))
nameless = make_pipeline(FunctionTransformer(lambda X: X[["a"]]), LogisticRegression())
own, fails, fails_later, rules, stranger = Own(), Fails(), FailsLater(), Rules(), Rules("perhaps")
half = SelfTrainingClassifier()
number = 3


class AsAWhole(TransformerMixin, BaseEstimator):
    def fit(self, X, y=None):
        return self

    def transform(self, X):
        return X - X.mean()


LEVELS = OneHotEncoder(handle_unknown="ignore")
positions = make_pipeline(make_column_transformer((StandardScaler(), [0]), (LEVELS, [1])), LogisticRegression())
mask = make_pipeline(
    make_column_transformer((LEVELS, [False, True]), (StandardScaler(), [True, False])), LogisticRegression()
)
span = make_pipeline(
    make_column_transformer((StandardScaler(), slice("a", "a")), (LEVELS, slice(1, 2))), LogisticRegression()
)
selected = make_pipeline(
    make_column_transformer(
        (StandardScaler(), make_column_selector(dtype_include="number")),
        (LEVELS, make_column_selector(dtype_include=object)),
    ),
    LogisticRegression(),
)
passed = make_pipeline(make_column_transformer(("passthrough", ["a", "c"])), LogisticRegression())
whole = make_pipeline(make_column_transformer((AsAWhole(), ["a"])), LogisticRegression())
drawn = DummyClassifier(strategy="stratified")


def made():
    return make_pipeline(features(), LogisticRegression())
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in, with an instance of its own and a module of pipelines."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("REVIEWAPP_INSTANCE", str(tmp_path / "instance"))
    (tmp_path / "own.py").write_text(OWN)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    yield tmp_path
    sys.modules.pop("own", None)


def build(*words: str) -> Result:
    return CliRunner().invoke(main, ["build", *map(str, words)])


def built(folder: Path, *words: str) -> Release:
    """Build and return the release that lies there, read as a service reads it."""
    result = build(*words)
    assert result.exit_code == 0, result.output
    [path] = (folder / "instance" / "releases").glob("*/*/release.json")
    release = releases.read(path.parent, trusted=TrustedTypes(folder / "instance").names())
    ModelAdapter(release).check_golden()
    return release


def refused(folder: Path, *words: str) -> str:
    """Build, see that nothing was written, and return the one sentence."""
    result = build(*words)
    assert result.exit_code == 2, result.output
    assert result.exception is None or isinstance(result.exception, SystemExit)
    assert not list((folder / "instance").rglob("*.json"))
    [said] = [line for line in result.stderr.splitlines() if line.startswith("reviewapp: ")]
    return said.removeprefix("reviewapp: ")


# ---- without a pipeline -----------------------------------------------------------------------------------------


def test_a_table_becomes_a_release_that_says_how_good_it_is(folder: Path) -> None:
    tables.written(folder, tables.PLAIN, rows=600)
    result = build("--data", "table.csv", "--target", "y", "--name", "plain")
    assert result.exit_code == 0, result.output
    assert "It is live. Next: reviewapp serve" in result.stdout
    assert "baseline, as rules" in result.stdout
    release = releases.read(folder / "instance" / "releases" / "plain" / "1")
    test = release.evaluation["results"]["test"]
    assert test["model"]["accuracy"] > 0.75
    low, high = test["model"]["intervals"]["accuracy"]
    assert low < test["model"]["accuracy"] < high
    assert set(test["model"]["by_label"]) == {"yes", "no"}
    assert [one["against"] for one in release.evaluation["differences"]] == ["the baseline", PERSON]
    assert release.evaluation["choice"]["chosen"] in release.evaluation["choice"]["candidates"]
    assert 0.5 <= release.policy.threshold <= 1
    assert f"{test['model']['accuracy']:.3f}" in release.card
    assert f"{test['model']['accuracy']:.3f}" in result.stdout


def test_the_same_call_makes_the_same_digest_whatever_the_order_of_sets(folder: Path) -> None:
    tables.written(folder, tables.ODD, rows=200)
    digests = set()
    for seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-m", "reviewapp", "build", "--data", "table.csv", "--target", tables.ODD_TARGET],
            env={"PATH": "/usr/bin:/bin", "PYTHONHASHSEED": seed, "REVIEWAPP_INSTANCE": str(folder / seed)},
            capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        digests.add(json.loads((folder / seed / "releases/table/1/release.json").read_text())["digest"])
    assert len(digests) == 1


def test_the_parts_share_no_row_and_the_test_part_is_never_chosen_on(folder: Path) -> None:
    from reviewapp.building.infer import Asked
    from reviewapp.building.subject import subject

    of = subject(tables.written(folder, tables.PLAIN), Asked(target="y"))
    lines = {part: set(rows.lines) for part, rows in of.parts.items()}
    assert sum(map(len, lines.values())) == len(set.union(*lines.values())) == 300
    assert {part: round(len(rows) / 300, 1) for part, rows in lines.items()} == {
        "train": 0.6, "calibrate": 0.2, "test": 0.2,
    }  # fmt: skip
    for rows in of.parts.values():  # drawn, not cut off a file that may be sorted; every label in each
        assert set(rows.answers) == {"yes", "no"}
        assert min(rows.lines) < 60
        assert max(rows.lines) > 240


def test_a_column_of_times_parts_the_rows_in_its_order(folder: Path) -> None:
    from reviewapp.building.infer import Asked
    from reviewapp.building.subject import subject

    rows = [[f"{1 + i % 28:02}.{1 + i // 28:02}.2024", *row] for i, row in enumerate(tables.plain())]
    path = tables.write(folder / "t.csv", ["day", "a", "b", "y"], rows[::-1])
    of = subject(path, Asked(target="y", time="day"))
    assert "day" not in of.contract.names
    assert max(of.parts["test"].lines) < min(of.parts["calibrate"].lines)  # the file is the other way round
    assert max(of.parts["calibrate"].lines) < min(of.parts["train"].lines)


def test_a_value_comes_with_intervals_that_hold_the_truth_as_often_as_stated(folder: Path) -> None:
    tables.written(folder, tables.VALUES, rows=2000)
    release = built(folder, "--data", "table.csv", "--target", "price", "--coverage", "0.8")
    figures = release.evaluation["results"]["test"]["model"]
    assert abs(figures["coverage"] - 0.8) < 0.06
    assert figures["intervals"]["coverage"][0] < 0.8 < figures["intervals"]["coverage"][1]
    assert figures["r2"] > 0.9
    widths = [g.answers["model"]["high"] - g.answers["model"]["low"] for g in release.golden]
    assert max(widths) > 1.5 * min(widths)  # wide where errors are large
    assert (release.policy.primary_metric, release.policy.coverage) == ("mean_absolute_error", 0.8)


def test_what_is_wider_than_the_policy_allows_goes_to_a_person(folder: Path) -> None:
    tables.written(folder, tables.VALUES)
    release = built(folder, "--data", "table.csv", "--target", "price", "--widest-interval", "1")
    assert release.evaluation["results"]["test"]["model"]["referred"] == 1


def test_labels_too_rare_for_every_part_are_put_aside_and_named(folder: Path) -> None:
    rows = tables.plain() + [["1.0", "x", "odd"]] * 5 + [["2.0", "y", "odder"]]
    tables.write(folder / "t.csv", ["a", "b", "y"], rows)
    release = built(folder, "--data", "t.csv", "--target", "y")
    assert release.contract.outcome.labels == ("no", "yes")
    assert "'odder' (1), 'odd' (5)" in release.card


def test_one_row_in_a_hundred_is_learned_too(folder: Path) -> None:
    import random

    rng = random.Random(0)
    rows = [[f"{rng.gauss(4 if i % 100 == 0 else 0, 1):.3f}", "1" if i % 100 == 0 else "0"] for i in range(2000)]
    tables.write(folder / "t.csv", ["a", "fraud"], rows)
    release = built(folder, "--data", "t.csv", "--target", "fraud")
    assert release.evaluation["results"]["test"]["model"]["by_label"]["1"]["recall"] > 0
    assert {part: release.evaluation["data"]["parts"][part] > 0 for part in ("calibrate", "test")}


def test_a_hundred_and_fifty_labels_are_no_matter(folder: Path) -> None:
    rows = [[f"w{i % 150} w{i % 7} and more", f"L{i % 150}"] for i in range(1500)]
    tables.write(folder / "t.csv", ["text", "y"], rows)
    release = built(folder, "--data", "t.csv", "--target", "y", "--text", "text")
    assert len(release.contract.outcome.labels) == 150
    assert list(release.evaluation["choice"]["candidates"]) == ["linear"]
    assert "With more than 20 labels only the linear candidate is tried" in release.card
    assert release.evaluation["results"]["test"]["model"]["accuracy"] > 0.9


def test_that_a_value_is_missing_may_be_what_tells(folder: Path) -> None:
    rows = [[f"{i % 7}.5", str(i % 16) if i % 2 else "", "yes" if i % 2 else "no"] for i in range(200)]
    tables.write(folder / "t.csv", ["a", "boat", "y"], rows)
    release = built(folder, "--data", "t.csv", "--target", "y")
    assert release.baseline.in_words()[0].startswith("If boat is known: yes")
    assert release.evaluation["results"]["test"]["baseline"]["accuracy"] == 1


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (lambda i: f"${i},000", "The target: looks like numbers with commas or signs; written plainly"),
        (lambda i: "inf" if i == 7 else str(i), "not 'inf' in 1 row: mend the table, or, if it means missing: --na"),
        (lambda i: f"20{i:02}-01-31", "The target: looks like dates written YYYY-MM-DD"),
    ],
)
def test_a_target_that_is_no_label_is_told_for_what_it_looks_like(
    folder: Path, value: Callable[[int], str], words: str
) -> None:
    tables.write(folder / "t.csv", ["a", "y"], [[str(i % 7), value(i)] for i in range(99)])
    assert words in refused(folder, "--data", "t.csv", "--target", "y")


def test_costs_decide_what_goes_to_a_person(folder: Path) -> None:
    tables.written(folder, tables.PLAIN)
    shares = []
    for wrong in ("3", "30"):
        release = built(folder, "--data", "table.csv", "--target", "y", "--cost-wrong", wrong)
        assert release.policy.rollback.limit == pytest.approx(2 / float(wrong))
        shares.append(release.evaluation["results"]["test"]["model"]["referred"])
        shutil.rmtree(folder / "instance")
    assert shares[0] < shares[1]


# ---- a contract that a person corrects --------------------------------------------------------------------------


def test_the_contract_can_be_read_corrected_and_handed_back(folder: Path) -> None:
    tables.written(folder, tables.PLAIN)
    asked = ("--data", "table.csv", "--target", "y", "--name", "mine")
    result = build(*asked, "--review-contract")
    assert result.exit_code == 0, result.output
    assert not (folder / "instance").exists()
    report = (folder / "contract-report.md").read_text()
    assert "a closed list" in report
    assert "| 'a' | number | 0 | " in report
    document = json.loads((folder / "contract.json").read_text())
    document["title"] = "Is it so?"
    document["properties"]["a"] |= {"title": "The first", "x-reviewapp-unit": "cm", "minimum": -9}
    (folder / "contract.json").write_text(json.dumps(document))
    release = built(folder, *asked, "--contract", "contract.json")
    a = release.contract.fields[0]
    assert (release.contract.title, a.title, a.unit, a.minimum) == ("Is it so?", "The first", "cm", -9)


def test_a_contract_that_is_there_already_is_not_overwritten(folder: Path) -> None:
    tables.written(folder, tables.PLAIN)
    (folder / "contract.json").write_text("{}")
    result = build("--data", "table.csv", "--target", "y", "--review-contract")
    assert result.exit_code == 2
    assert "contract.json is here already" in result.stderr
    assert (folder / "contract.json").read_text() == "{}"
    assert not (folder / "contract-report.md").exists()


def test_the_report_is_no_html(folder: Path) -> None:
    tables.written(folder, tables.ODD)
    build("--data", "table.csv", "--target", tables.ODD_TARGET, "--review-contract")
    assert "<" not in (folder / "contract-report.md").read_text()


def test_rows_that_a_corrected_contract_refuses_are_put_aside(folder: Path) -> None:
    tables.written(folder, tables.PLAIN)
    build("--data", "table.csv", "--target", "y", "--review-contract")
    document = json.loads((folder / "contract.json").read_text())
    document["properties"]["b"]["enum"] = ["x", "y"]
    (folder / "contract.json").write_text(json.dumps(document))
    release = built(folder, "--data", "table.csv", "--target", "y", "--contract", "contract.json")
    assert "rows break the contract and are put aside" in release.card
    assert sum(release.evaluation["data"]["parts"].values()) < 300


@pytest.mark.parametrize(
    ("change", "options", "words"),
    [
        (lambda d: d.pop("properties"), (), "'properties'"),
        (lambda d: d["properties"]["a"].update(type="text"), (), "Field 'a': type"),
        (
            lambda d: (d["properties"].update(c=d["properties"]["a"]), d["required"].append("c")),
            (),
            "field 'c', and the table has no such column",
        ),
        (lambda d: d["properties"]["b"].update(enum="x"), (), "enum must be a list"),
        (lambda d: d["properties"]["b"].update({"x-reviewapp-missing": "?"}), (), "x-reviewapp-missing"),
        (lambda d: d["properties"]["a"].update(examples=["x"]), (), "Field 'a': its example is not one that it allows"),
        (lambda d: None, ("--drop", "a"), "field 'a', which an option takes out"),
        (lambda d: None, ("--drop", "a", "--number", "a"), "Column 'a' cannot be both --drop and --number"),
        (lambda d: None, ("--text", "b"), "'b' is category, and --text"),
        (lambda d: None, ("--na", "?"), "leave --na out"),
        (lambda d: None, ("--task", "regression"), "--task says regression"),
        (lambda d: d["x-reviewapp-output"].update(name="z"), (), "--target names 'y'"),
    ],
)
def test_a_contract_that_does_not_fit_is_named_by_its_place(
    folder: Path, change: Callable[[Any], Any], options: tuple[str, ...], words: str
) -> None:
    tables.written(folder, tables.PLAIN)
    asked = ("--data", "table.csv", "--target", "y")
    build(*asked, "--review-contract")
    document = json.loads((folder / "contract.json").read_text())
    change(document)
    (folder / "contract.json").write_text(json.dumps(document))
    result = build(*asked, "--contract", "contract.json", *options)
    assert result.exit_code == 2
    assert words in result.stderr


# ---- a pipeline of one's own ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["proba", "decision", "ridge", "label", "search", "made"])
def test_any_classifier_is_taken_calibrated_and_with_one_job(folder: Path, name: str) -> None:
    tables.written(folder, tables.PLAIN)
    release = built(folder, "--data", "table.csv", "--target", "y", "--pipeline", f"own:{name}")
    assert release.evaluation["results"]["test"]["model"]["accuracy"] > 0.7
    jobs = [value for key, value in release.model.get_params().items() if key.endswith("n_jobs")]
    assert set(jobs) <= {1, None}
    assert release.model.estimator.__class__.__name__ != "GridSearchCV"


@pytest.mark.parametrize("name", ["positions", "mask", "span", "selected", "passed"])
def test_a_linear_pipeline_is_explained_exactly_however_it_names_its_columns(folder: Path, name: str) -> None:
    rows = [[a, b, "true" if i % 3 else "false", y] for i, (a, b, y) in enumerate(tables.plain())]
    tables.write(folder / "t.csv", ["a", "b", "c", "y"], rows)
    drop = ("--drop", "b") if name == "passed" else ("--drop", "c")
    release = built(folder, "--data", "t.csv", "--target", "y", "--pipeline", f"own:{name}", *drop)
    asked = [one.input for one in release.golden]
    for made in ModelAdapter(release).predict(asked, Call(dry_run=True), explain=True):
        told = made.explanation
        assert told["method"] == "linear"
        odds = math.log(made.output["probabilities"][told["label"]] / made.output["probabilities"][told["against"]])
        assert told["intercept"] + sum(one["contribution"] for one in told["fields"]) == pytest.approx(odds, rel=1e-4)


def test_a_pipeline_without_a_seed_gets_one(folder: Path) -> None:
    tables.written(folder, tables.PLAIN)
    digests = set()
    for _ in range(2):
        digests.add(built(folder, "--data", "table.csv", "--target", "y", "--pipeline", "own:proba").id.digest)
        shutil.rmtree(folder / "instance")
        sys.modules.pop("own")
    assert len(digests) == 1


def test_a_fitted_pipeline_says_which_columns_a_request_has_and_which_labels(folder: Path) -> None:
    import pandas as pd

    frame = pd.read_csv(tables.written(folder, tables.PLAIN))
    pipeline = make_pipeline(
        make_column_transformer((StandardScaler(), ["a"]), (OneHotEncoder(handle_unknown="ignore"), ["b"])),
        LogisticRegression(),
    ).fit(frame[["b", "a"]], [*frame["y"][:-20], *["rare"] * 20])
    (folder / "fitted.skops").write_bytes(estimators.dump(pipeline))
    more = [[*row[:2], "unread", row[2]] for row in tables.plain()]
    tables.write(folder / "more.csv", ["a", "b", "c", "y"], more)
    release = built(folder, "--data", "more.csv", "--target", "y", "--pipeline", "fitted.skops")
    assert release.contract.names == ("b", "a")
    assert release.contract.outcome.labels == ("no", "yes", "rare")
    assert "does not read 'c'" in release.card
    assert "came fitted" in release.card


def test_labels_that_are_numbers_reach_the_pipeline_as_numbers_and_the_caller_as_texts(folder: Path) -> None:
    rows = [[*row[:2], "1" if row[2] == "yes" else "0"] for row in tables.plain()]
    tables.write(folder / "t.csv", ["a", "b", "y"], rows)
    release = built(folder, "--data", "t.csv", "--target", "y", "--pipeline", "own:proba")
    assert release.contract.outcome.labels == ("0", "1")
    assert release.model.estimator.classes_.dtype.kind == "i"


def test_what_the_contract_allows_and_the_pipeline_cannot_answer_is_taken_out_of_the_contract(folder: Path) -> None:
    rows = [[str(abs(float(a))), "rare" if i % 60 == 0 else b, y] for i, (a, b, y) in enumerate(tables.plain())]
    tables.write(folder / "t.csv", ["a", "b", "y"], rows)
    release = built(folder, "--data", "t.csv", "--target", "y", "--pipeline", "own:strict")
    a, b = release.contract.fields
    assert a.minimum == a.seen_minimum
    assert b.choices == ("rare", "x", "y", "z")
    assert "narrowed to the values of the rows that are kept" in release.card


def test_types_of_ones_own_need_the_operators_word_which_is_kept_beside_the_release(folder: Path) -> None:
    tables.written(folder, tables.PLAIN)
    asked = ("--data", "table.csv", "--target", "y", "--pipeline", "own:own")
    assert "--trust own.Own" in refused(folder, *asked)
    release = built(folder, *asked, "--trust", "own.Own")
    assert release.model.estimator.classes_.tolist() == ["no", "yes"]
    listed = json.loads((folder / "instance" / "trusted_types.json").read_text())
    assert listed == [{"type": "own.Own", "folder": str(folder)}]
    for path in (folder / "instance" / "releases").rglob("*.json"):
        assert "trust" not in path.name
    result = CliRunner().invoke(main, ["verify", "instance/releases/table/1"])
    assert result.exit_code == 0, result.output
    (folder / "instance" / "trusted_types.json").unlink()
    assert CliRunner().invoke(main, ["verify", "instance/releases/table/1"]).exit_code == 1


def test_a_file_with_a_type_of_ones_own_is_refused_until_the_operator_names_it(folder: Path) -> None:
    import own  # the module in the folder
    import pandas as pd

    frame = pd.read_csv(tables.written(folder, tables.PLAIN))
    (folder / "own.skops").write_bytes(estimators.dump(own.Own().fit(frame[["a", "b"]], frame["y"])))
    asked = ("--data", "table.csv", "--target", "y", "--pipeline", "own.skops")
    assert "own.skops holds types that are not trusted: own.Own" in refused(folder, *asked)
    assert built(folder, *asked, "--trust", "own.Own").contract.names == ("a", "b")


def test_a_baseline_may_be_anything_that_answers(folder: Path) -> None:
    tables.written(folder, tables.PLAIN)
    release = built(
        folder, "--data", "table.csv", "--target", "y", "--baseline", "own:rules", "--trust", "own.Rules"
    )  # fmt: skip
    assert 0.6 < release.evaluation["results"]["test"]["baseline"]["accuracy"] < 0.95
    assert type(release.baseline.estimator).__name__ == "Rules"


@pytest.mark.parametrize("name", ["regressor", "process"])
def test_a_regressor_of_ones_own_gets_intervals(folder: Path, name: str) -> None:
    rows = [[a, b, f"{3 * float(a) + (b == 'x'):.3f}"] for a, b, _ in tables.plain()]
    tables.write(folder / "t.csv", ["a", "b", "y"], rows)
    release = built(folder, "--data", "t.csv", "--target", "y", "--pipeline", f"own:{name}")
    assert "came fitted" not in release.card
    assert release.evaluation["results"]["test"]["model"]["r2"] > 0.99
    assert ModelAdapter(release).outputs("model", [release.golden[0].input])[0].keys() == {"value", "low", "high"}


# ---- what cannot be ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--pipeline", "own:fails"), "failed to fit: ValueError: there is no"),
        (("--pipeline", "own:fails_later"), "does not answer a row of the table: RuntimeError: not today"),
        (("--pipeline", "own:regressor"), "is a regressor, and the target is taken for a classification"),
        (("--pipeline", "own:nameless"), "define it in a module"),
        (("--pipeline", "own:whole", "--trust", "own.AsAWhole"), "otherwise when it is asked alone than among others"),
        (("--pipeline", "own:drawn"), "otherwise when it is asked alone than among others"),
        (("--coverage", "nan"), "--coverage is nan, and must lie from 0.5 to 0.99"),
        (("--pipeline", "own:half"), "--pipeline own:half is not whole: AttributeError"),
        (("--pipeline", "own:number"), "has none of predict_proba, decision_function, predict"),
        (("--pipeline", "own:stranger"), "answers 'perhaps'"),
        (("--pipeline", "own:nothing"), "cannot be loaded: AttributeError"),
        (("--pipeline", "nowhere:x"), "cannot be loaded: ModuleNotFoundError"),
        (("--pipeline", "own"), "must be MODULE:NAME"),
        (("--pipeline", "none.skops"), "No such file"),
        (("--pipeline", "table.csv.skops"), "cannot be read as a skops file"),
        (("--cost-review", "10"), "must lie above 0 and below --cost-wrong"),
        (("--cost-wrong", "nan"), "must lie above 0 and below --cost-wrong"),
        (("--name", "Not a name"), "name"),
        (("--text", "b", "--category", "b"), "both --text and --category"),
        (("--contract", "none.json"), "No such file"),
        (("--time", "b"), "neither numbers nor dates"),
    ],
)  # fmt: skip
def test_what_cannot_be_built_is_said_in_one_sentence_and_leaves_nothing(
    folder: Path, options: tuple[str, ...], words: str
) -> None:
    tables.written(folder, tables.PLAIN)
    shutil.copy(folder / "table.csv", folder / "table.csv.skops")
    assert words in refused(folder, "--data", "table.csv", "--target", "y", *options)


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (tables.plain(10), "50 are needed"),
        ([[a, b, "yes"] for a, b, _ in tables.plain()], "only the value 'yes'"),
        ([[a, b, ""] for a, b, _ in tables.plain()], "no value"),
        ([[a, b, "yes"] for a, b, _ in tables.plain()] + [["1", "x", "no"]] * 3, "Only the label 'yes'"),
    ],
)
def test_a_table_with_too_little_in_it_is_refused(folder: Path, rows: tables.Rows, words: str) -> None:
    tables.write(folder / "t.csv", ["a", "b", "y"], rows)
    assert words in refused(folder, "--data", "t.csv", "--target", "y")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--data", "table.csv"), "--data needs --target"),
        (("--target", "y"), "--target needs a table"),
        (("--review-contract",), "--review-contract needs a table"),
        (("--data", "table.csv", "--target", "z"), "no such column"),
        (("--data", "none.csv", "--target", "y"), "No such file"),
        (("--data", ".", "--target", "y"), "Is a directory"),
    ],
)
def test_an_order_that_is_incomplete_says_what_is_missing(folder: Path, options: tuple[str, ...], words: str) -> None:
    tables.written(folder, tables.PLAIN)
    assert words in refused(folder, *options)


# ---- what a service would stumble over --------------------------------------------------------------------------

MORE = """
import sys
import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.cluster import KMeans
from sklearn.compose import make_column_transformer
from sklearn.ensemble import IsolationForest
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.model_selection import FixedThresholdClassifier, GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder
from sklearn.svm import SVC


def levels(*columns):
    return make_pipeline(make_column_transformer((OneHotEncoder(), list(columns))), LogisticRegression())


class Throws(ClassifierMixin, BaseEstimator):
    def fit(self, X, y):
        self.classes_ = np.unique(y)
        return self

    def predict_proba(self, X):
        return np.random.default_rng().dirichlet(np.ones(2), len(X))


class Flat(Throws):
    def predict_proba(self, X):
        return np.full(len(X), 0.5)


class Bare:
    def fit(self, X, y):
        self.classes_ = np.unique(y)
        return self

    def predict_proba(self, X):
        share = 1 / (1 + np.exp(-X["a"].to_numpy()))
        return np.column_stack([1 - share, share])


class FirstWord(Throws):
    def predict_proba(self, X):
        share = np.array([0.9 if text.split()[0] == "pay" else 0.1 for text in X["text"]])
        return np.column_stack([1 - share, share])


class Elsewhere(Throws):  # answers otherwise in another process than the one that builds
    def predict_proba(self, X):
        share = 0.9 if sys.argv[0].endswith("proving.py") else 0.1
        return np.full((len(X), 2), [share, 1 - share])


class Raises(Elsewhere):
    def predict(self, X):
        raise NotImplementedError("only probabilities")


class Wide(Throws):
    def predict_proba(self, X):
        return np.full((len(X), 3), 1 / 3)


class Scores(BaseEstimator):
    def fit(self, X, y):
        self.classes_ = np.unique(y)
        return self

    def decision_function(self, X):
        return X["a"].to_numpy()


class Column(Scores):
    def predict(self, X):
        return np.where(X["a"] > 0, self.classes_[1], self.classes_[0]).reshape(-1, 1)


throws, flat, bare, first_word = Throws(), Flat(), Bare(), FirstWord()
raises, wide, scores, column, elsewhere = Raises(), Wide(), Scores(), Column(), Elsewhere()
pairs = make_pipeline(make_column_transformer(("passthrough", ["a", "c"])), SVC(decision_function_shape="ovo"))
level, by_b = levels("b"), levels("b")
outliers, clusters = IsolationForest(), KMeans(2)
not_refit = GridSearchCV(levels("b"), {"logisticregression__C": [1, 2]}, refit=False)
high = FixedThresholdClassifier(levels("b"), threshold=0.95)
ends = sys.exit
"""


@pytest.fixture
def more(folder: Path) -> Path:
    (folder / "more.py").write_text(MORE)
    yield folder
    sys.modules.pop("more", None)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--widest-interval", "-1"), "--widest-interval is -1"),
        (("--widest-interval", "nan"), "--widest-interval is nan"),
        (("--cost-wrong", "inf"), "below --cost-wrong (inf)"),
        (
            ("--pipeline", "more:elsewhere", "--trust", "more.Elsewhere"),
            "would not be accepted by a service: Golden request 1",
        ),
        (("--pipeline", "more:throws", "--trust", "more.Throws"), "otherwise when it is asked alone"),
        (("--pipeline", "more:flat", "--trust", "more.Flat"), "an array of shape (1,), and (rows, labels) is needed"),
        (("--pipeline", "more:raises"), "fails in its predict: NotImplementedError: only probabilities"),
        (("--pipeline", "more:wide"), "gives 3 probabilities a row, and has 2 classes"),
        (("--pipeline", "more:scores"), "has scores and no predict"),
        (("--pipeline", "more:outliers"), "is a IsolationForest, which learns no target"),
        (("--pipeline", "more:clusters"), "is a KMeans, which learns no target"),
        (("--pipeline", "more:not_refit"), "set refit=True"),
        (("--pipeline", "more:ends"), "cannot be loaded: SystemExit"),
    ],
)
def test_what_no_service_could_answer_with_is_not_built(more: Path, options: tuple[str, ...], words: str) -> None:
    tables.written(more, tables.PLAIN)
    assert words in refused(more, "--data", "table.csv", "--target", "y", *options)
    assert not [path for path in (more / "instance").rglob("*") if path.is_file() and path.name != ".lock"]


def test_an_estimator_without_scikit_learns_base_class_is_taken_too(more: Path) -> None:
    tables.written(more, tables.PLAIN)
    asked = ("--data", "table.csv", "--target", "y", "--pipeline", "more:bare", "--trust", "more.Bare")
    assert built(more, *asked).evaluation["results"]["test"]["model"]["accuracy"] > 0.7


def test_labels_that_come_as_a_column_are_labels(more: Path) -> None:
    tables.written(more, tables.PLAIN)
    asked = ("--data", "table.csv", "--target", "y", "--pipeline", "more:column", "--trust", "more.Column")
    assert built(more, *asked).evaluation["results"]["test"]["model"]["accuracy"] > 0.7


def test_a_list_that_is_closed_holds_nothing_that_the_pipeline_fails_at(more: Path) -> None:
    rows = [[a, f"k{i % 40}", y] for i, (a, _, y) in enumerate(tables.plain(600))]
    tables.write(more / "t.csv", ["a", "b", "y"], [*rows, *[["1.0", "aside", "too rare"]] * 3])
    release = built(more, "--data", "t.csv", "--target", "y", "--pipeline", "more:level")
    choices = release.contract.fields[1].choices or ()
    assert (len(choices), "aside" in choices) == (40, False)
    adapter, record = ModelAdapter(release), release.golden[0].input
    for choice in choices:
        assert adapter.outputs("model", [{**record, "b": choice}])


def test_scores_of_pairs_of_labels_are_not_taken_for_scores_of_labels(more: Path) -> None:
    import random

    rng = random.Random(0)
    points = [(rng.gauss(0, 1), rng.gauss(0, 1)) for _ in range(600)]
    rows = [[f"{a:.3f}", f"{c:.3f}", "abc"[(a > 0.4) + (a > -0.4)]] for a, c in points]
    tables.write(more / "t.csv", ["a", "c", "y"], rows)
    release = built(more, "--data", "t.csv", "--target", "y", "--pipeline", "more:pairs")
    assert release.evaluation["results"]["test"]["model"]["accuracy"] > 0.9


def test_a_threshold_of_its_own_is_not_followed_and_that_is_said(more: Path) -> None:
    tables.written(more, tables.PLAIN)
    release = built(more, "--data", "table.csv", "--target", "y", "--pipeline", "more:high")
    assert "says another label than its likeliest one" in release.card


def test_a_list_that_is_closed_holds_every_value_of_the_table(more: Path) -> None:
    rows = [[a, f"k{i % 1100}", y] for i, (a, _, y) in enumerate(tables.plain(3300))]
    path = tables.write(more / "t.csv", ["a", "b", "y"], rows)
    import pandas as pd

    frame = pd.read_csv(path)
    sys.modules.pop("more", None)
    import more as module

    (more / "f.skops").write_bytes(estimators.dump(module.level.fit(frame[["b"]], frame["y"])))
    release = built(more, "--data", "t.csv", "--target", "y", "--pipeline", "f.skops")
    assert len(release.contract.fields[0].choices or ()) == 1100


def test_a_number_between_the_codes_that_an_encoder_knows_is_not_answered_with_an_error(more: Path) -> None:
    rows = [[a, str([1, 2, 5, 10][i % 4]), y] for i, (a, _, y) in enumerate(tables.plain())]
    tables.write(more / "t.csv", ["a", "b", "y"], rows)
    asked = ("--data", "t.csv", "--target", "y", "--pipeline", "more:level")
    assert "the value 7 between the table's (a code? then --category) of 'b'" in refused(more, *asked)
    sys.modules.pop("more")  # its pipeline was fitted
    assert built(more, *asked, "--category", "b").contract.fields[1].choices == ("1", "2", "5", "10")


def test_a_choice_that_a_person_adds_must_have_an_answer(more: Path) -> None:
    tables.written(more, tables.PLAIN)
    build("--data", "table.csv", "--target", "y", "--review-contract")
    document = json.loads((more / "contract.json").read_text())
    document["properties"]["b"]["enum"].append("new")
    (more / "contract.json").write_text(json.dumps(document))
    asked = ("--data", "table.csv", "--target", "y", "--contract", "contract.json")
    assert "the choice 'new' of 'b'" in refused_of(more, *asked, "--pipeline", "more:level")
    assert "new" in (built(more, *asked).contract.fields[1].choices or ())


def refused_of(folder: Path, *words: str) -> str:
    """As `refused`, in a folder that holds a contract."""
    result = build(*words)
    assert result.exit_code == 2, result.output
    assert not list((folder / "instance").rglob("release.json"))
    return result.stderr


def test_a_text_that_the_contract_allows_must_have_an_answer(more: Path) -> None:
    rows = [
        [("pay " if y == "yes" else "bug ") + f"number {i} of them", y] for i, (_, _, y) in enumerate(tables.plain())
    ]
    tables.write(more / "t.csv", ["text", "y"], rows)
    asked = ("--data", "t.csv", "--target", "y", "--pipeline", "more:first_word", "--trust", "more.FirstWord")
    assert "does not answer the empty text of 'text', which is allowed: IndexError" in refused(more, *asked)


def test_the_baseline_of_ones_own_answers_what_the_contract_allows_too(more: Path) -> None:
    rows = [[a, f"k{i % 40}", y] for i, (a, _, y) in enumerate(tables.plain(600))]
    tables.write(more / "t.csv", ["a", "b", "y"], rows)
    release = built(more, "--data", "t.csv", "--target", "y", "--baseline", "more:by_b")
    assert len(release.contract.fields[1].choices or ()) == 40
    assert "--baseline fails at values that the table does not hold of 'b'" in release.card


def test_a_value_beyond_the_range_of_the_outcome_is_brought_to_it(folder: Path) -> None:
    tables.written(folder, tables.VALUES)
    asked = ("--data", "table.csv", "--target", "price")
    build(*asked, "--review-contract")
    document = json.loads((folder / "contract.json").read_text())
    document["x-reviewapp-output"] |= {"minimum": 0, "maximum": 12000, "unit": "EUR"}
    (folder / "contract.json").write_text(json.dumps(document))
    release = built(folder, *asked, "--contract", "contract.json")
    assert "outside of the contract's range; they are put aside" in release.card
    record = {**release.golden[0].input, "a": -1e9, "b": 1e9}
    for output in (ModelAdapter(release).outputs(option, [record])[0] for option in ("model", "baseline")):
        assert 0 <= output["low"] <= output["value"] <= output["high"] <= 12000 or output["value"] >= 0


@pytest.mark.parametrize(("coverage", "said"), [("0.8", True), ("0.85", False)])
def test_intervals_that_miss_as_often_as_the_trigger_allows_are_said_to_fire_it(
    folder: Path, coverage: str, said: bool
) -> None:
    tables.written(folder, tables.VALUES, rows=300)
    costs = ("--cost-wrong", "10", "--cost-review", "2")
    release = built(folder, "--data", "table.csv", "--target", "price", "--coverage", coverage, *costs)
    assert ("it may fire although nothing is wrong" in release.card) is said


def test_few_rows_promise_no_more_coverage_than_they_can_show(folder: Path) -> None:
    tables.written(folder, tables.VALUES, rows=60)
    release = built(folder, "--data", "table.csv", "--target", "price", "--coverage", "0.99")
    assert release.policy.coverage == pytest.approx(10 / 11)
    assert "can show a coverage of 0.909 at most" in release.card


@pytest.mark.parametrize(
    "change",
    [
        {"unit": 5},
        {"minimum": "a"},
        {"minimum": 10**400},
        {"minimum": 5, "maximum": 4},
        {"missing": "x"},
        {"missing": ["x", "x"]},
    ],
)
def test_an_outcome_that_a_person_wrote_wrongly_is_named(folder: Path, change: dict[str, Any]) -> None:
    tables.written(folder, tables.VALUES)
    asked = ("--data", "table.csv", "--target", "price")
    build(*asked, "--review-contract")
    document = json.loads((folder / "contract.json").read_text())
    document["x-reviewapp-output"] |= change
    (folder / "contract.json").write_text(json.dumps(document))
    result = build(*asked, "--contract", "contract.json")
    assert result.exit_code == 2, result.output
    assert "reviewapp: --contract contract.json: " in result.stderr


def test_two_labels_that_are_one_class_are_named(folder: Path) -> None:
    rows = [[a, b, "1" if y == "no" else ["2", "+2"][i % 2]] for i, (a, b, y) in enumerate(tables.plain())]
    tables.write(folder / "t.csv", ["a", "b", "y"], rows)
    said = refused(folder, "--data", "t.csv", "--target", "y", "--pipeline", "own:proba")
    assert "takes '+2' and '2' for one label" in said or "takes '2' and '+2' for one label" in said


def test_a_place_that_cannot_be_written_to_is_said(folder: Path) -> None:
    tables.written(folder, tables.PLAIN)
    (folder / "instance" / "releases").mkdir(parents=True)
    (folder / "instance" / "releases" / "table").write_text("a file")
    result = build("--data", "table.csv", "--target", "y")
    assert result.exit_code == 2
    assert "The release cannot be written below" in result.stderr
