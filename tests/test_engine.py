"""The compiled engine answers as scikit-learn does, alone and among others, or it is not used; the release says why."""

import random
import re
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import BaseEstimator, ClassifierMixin, TransformerMixin, clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer
from sklearn.decomposition import PCA, TruncatedSVD
from sklearn.ensemble import (
    ExtraTreesClassifier,
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.feature_extraction.text import CountVectorizer, TfidfTransformer, TfidfVectorizer
from sklearn.feature_selection import SelectKBest, f_classif
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.naive_bayes import GaussianNB, MultinomialNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import FeatureUnion, Pipeline, make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    KBinsDiscretizer,
    MaxAbsScaler,
    MinMaxScaler,
    OneHotEncoder,
    OrdinalEncoder,
    PolynomialFeatures,
    QuantileTransformer,
    RobustScaler,
    StandardScaler,
)
from sklearn.svm import LinearSVC
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from reviewapp.adapter import ModelAdapter, difference
from reviewapp.calibration import IntervalRegressor
from reviewapp.contract import Contract, Outcome
from reviewapp.engine import parity
from reviewapp.engine.encoding import STEPS
from reviewapp.engine.engines import Compiled, Native
from reviewapp.engine.heads import DECISIONS, FEW_ROWS, HEADS
from reviewapp.engine.parity import ROWS, TOLERANCE, choose, compare, odd_records
from reviewapp.field import Field, Record
from reviewapp.frames import to_frame
from reviewapp.policy import choose_threshold
from reviewapp.prediction import Call
from reviewapp.release import COMPILED, NATIVE, EngineChoice
from reviewapp.samples import valid_record
from reviewapp.transformers import DayParts, Topics, Words

from .small import small_release

FIELDS = (
    Field(name="text", kind="text", max_length=300),
    Field(name="x", kind="number", nullable=True, minimum=-1e6, maximum=1e6, seen_minimum=-3, seen_maximum=3),
    Field(name="y", kind="number", minimum=-1e6, maximum=1e6, seen_minimum=-3, seen_maximum=3),
    Field(name="n", kind="integer", minimum=0, maximum=10**9, seen_minimum=0, seen_maximum=20),
    Field(name="flag", kind="boolean", nullable=True),
    Field(name="color", kind="category", choices=("red", "blue", "green", "rare")),
    Field(name="place", kind="category", required=False, nullable=True, seen_choices=("here", "there", "far")),
    Field(name="day", kind="date", nullable=True, seen_minimum="2020-01-01", seen_maximum="2024-12-31"),
)  # fmt: skip
THREE = Contract(name="three", fields=FIELDS, outcome=Outcome(name="o", labels=("a", "b", "c")))
TWO = replace(THREE, outcome=Outcome(name="o", labels=("no", "yes")))
VALUE = replace(THREE, outcome=Outcome(name="o", task="regression"))
COUNT = replace(VALUE, outcome=Outcome(name="count", task="regression", minimum=0))
WORDS = ["pay", "bug", "help", "now", "slow", "invoice", "Größe", "注文", "the", "and"]


def training(n: int = 240) -> list[Record]:
    rng = random.Random(7)
    made = []
    for number in range(n):
        record = valid_record(THREE, rng)
        record["text"] = " ".join(rng.choices(WORDS, k=rng.randint(0, 8)))
        record["place"] = rng.choice([None, "here", "there", "far"])
        record["color"] = rng.choice(["red", "blue", "green"]) if number else "rare"
        made.append(record)
    return made


def fitted(contract: Contract, model: Any) -> Any:
    rows = training()
    score = np.array([
        (row["x"] or 0) + row["y"] + 2 * ("pay" in row["text"]) - (row["place"] == "far") + (row["color"] == "red")
        for row in rows
    ])  # fmt: skip
    answers: Any = score if contract is VALUE else np.exp(score / 3)
    if contract.outcome.labels:
        labels = np.array(contract.outcome.labels)
        answers = labels[np.digitize(score, np.quantile(score, np.arange(1, len(labels)) / len(labels)))]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return clone(model).fit(to_frame(contract, rows), answers)


def columns(*steps: tuple[Any, Any], **more: Any) -> ColumnTransformer:
    return ColumnTransformer([(f"s{i}", step, names) for i, (step, names) in enumerate(steps)], **more)


def filled(*more: Any, **how: Any) -> Pipeline:
    return make_pipeline(SimpleImputer(**how), *more)


LEVELS = OneHotEncoder(handle_unknown="ignore")
NUMBERS = ["x", "y", "n"]
USUAL = (
    (TfidfVectorizer(sublinear_tf=True, ngram_range=(1, 2)), "text"),
    (LEVELS, ["color", "place"]),
    (filled(StandardScaler()), NUMBERS),
    ("passthrough", ["y"]),
)  # fmt: skip
CODES = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=np.nan, encoded_missing_value=np.nan)
TREE_FEATURES = ((CODES, ["color", "place"]), ("passthrough", ["x", "y", "n", "flag"]))
LINEAR = LogisticRegression(max_iter=500)
BOOSTED_VALUES = HistGradientBoostingRegressor


def hist(task: Any = HistGradientBoostingClassifier, **how: Any) -> Any:
    return task(max_iter=12, min_samples_leaf=5, random_state=0, **how)


def whole(*steps: tuple[Any, Any], head: Any = LINEAR, **more: Any) -> Pipeline:
    return Pipeline([("features", columns(*steps, **more)), ("head", head)])


class Shares(TransformerMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn is untyped
    """A transformer of somebody's own that takes arrays: each number's share of the row's total size."""

    def fit(self, matrix: Any, y: Any = None) -> Any:
        self.fitted_ = True
        return self

    def transform(self, matrix: Any) -> Any:
        values = np.asarray(matrix, dtype=np.float64)
        return values / (1 + np.abs(values).sum(axis=1, keepdims=True))


ENCODERS = {
    "the usual": USUAL,
    "counts": [(CountVectorizer(binary=True), "text")],
    "counts, then weights": [(make_pipeline(CountVectorizer(), TfidfTransformer(norm="l1", use_idf=False)), "text")],
    "characters": [
        (TfidfVectorizer(analyzer="char_wb", ngram_range=(1, 3), norm=None, strip_accents="unicode"), "text")
    ],
    "stop words, case": [(TfidfVectorizer(stop_words="english", lowercase=False, smooth_idf=False), "text")],
    "words of our own": [(Words(50), "text"), (LEVELS, ["color"])],
    "topics of our own": [(make_pipeline(Words(), Topics(4)), "text")],
    "directions": [(make_pipeline(TfidfVectorizer(), TruncatedSVD(3, random_state=0), StandardScaler()), "text")],
    "words chosen": [(make_pipeline(TfidfVectorizer(), SelectKBest(f_classif, k=4)), "text")],
    "words scaled": [(make_pipeline(CountVectorizer(), MaxAbsScaler()), "text")],
    "words scaled without a mean": [(make_pipeline(CountVectorizer(), StandardScaler(with_mean=False)), "text")],
    "days": [(make_pipeline(DayParts(), SimpleImputer(add_indicator=True), StandardScaler()), "day")],
    "rare levels": [(OneHotEncoder(handle_unknown="infrequent_if_exist", min_frequency=5), ["color", "place"])],
    "first level dropped": [(OneHotEncoder(drop="first", handle_unknown="ignore"), ["color", "place"])],
    "dense levels": [(OneHotEncoder(sparse_output=False, handle_unknown="ignore"), ["color", "flag"])],
    "levels filled": [(filled(LEVELS, strategy="most_frequent"), ["place", "color"])],
    "levels filled with a word": [(filled(LEVELS, strategy="constant", fill_value="none"), ["place"])],
    "levels of numbers": [(OneHotEncoder(handle_unknown="ignore"), ["n", "flag"])],
    "signs of what is missing": [(filled(add_indicator=True, strategy="median"), NUMBERS)],
    "flags filled": [(SimpleImputer(strategy="most_frequent"), ["flag"]), ("passthrough", ["y", "n"])],
    "other scales": [(filled(MinMaxScaler(clip=True)), NUMBERS), (filled(RobustScaler()), ["x"])],
    "first steps of scikit-learn": [(StandardScaler(), ["y", "n"]), (QuantileTransformer(n_quantiles=20), ["y"])],
    "bins and products": [(filled(PolynomialFeatures(2)), ["x", "y"]), (KBinsDiscretizer(4), ["n"])],
    "main directions": [(filled(StandardScaler(), PCA(2)), NUMBERS)],
    "unions": [(FeatureUnion([("a", filled()), ("b", filled(MinMaxScaler()))]), NUMBERS), (LEVELS, ["color"])],
    "a function": [(filled(FunctionTransformer(np.abs)), NUMBERS), (FunctionTransformer(), ["y"])],
    "a step of somebody's own": [(filled(Shares(), StandardScaler()), NUMBERS), (LEVELS, ["color"])],
    "dropped": [("drop", ["n"]), ("passthrough", ["y"]), (LEVELS, ["color"])],
}  # fmt: skip

MODELS: dict[str, tuple[Contract, Any]] = {
    **{f"{name}, three labels": (THREE, whole(*steps)) for name, steps in ENCODERS.items()},
    "two labels": (TWO, whole(*USUAL)),
    "never sparse": (TWO, whole(*USUAL, sparse_threshold=0)),
    "the rest passes": (
        TWO, whole((LEVELS, ["color", "place"]), ("drop", ["text", "day", "x", "flag"]), remainder="passthrough")
    ),
    "columns by place": (TWO, whole((StandardScaler(), [2, 3]), (LEVELS, slice(5, 7)))),
    "chosen of all": (THREE, Pipeline([("features", columns(*USUAL)), ("few", SelectKBest(k=6)), ("head", LINEAR)])),
    "scaled after all": (THREE, Pipeline([("f", columns(*USUAL)), ("s", MaxAbsScaler()), ("head", LINEAR)])),
    "Bayes": (THREE, whole((CountVectorizer(), "text"), (LEVELS, ["color"]), head=MultinomialNB())),
    "values": (VALUE, whole(*USUAL, head=Ridge())),
    "plain values": (VALUE, whole(*USUAL, head=LinearRegression())),
    "a tree": (THREE, whole(*TREE_FEATURES, head=DecisionTreeClassifier(max_depth=6, random_state=0))),
    "a forest": (THREE, whole(*TREE_FEATURES, head=RandomForestClassifier(8, random_state=0))),
    "a forest of two labels": (TWO, whole(*TREE_FEATURES, head=ExtraTreesClassifier(8, random_state=0))),
    "a forest of values": (VALUE, whole(*TREE_FEATURES, head=RandomForestRegressor(8, random_state=0))),
    "a tree of values": (VALUE, whole(*TREE_FEATURES, head=DecisionTreeRegressor(random_state=0))),
    "boosting": (THREE, whole(*TREE_FEATURES, head=hist())),
    "boosting of categories": (TWO, whole(*TREE_FEATURES, head=hist(categorical_features=[0, 1]))),
    "boosting of three": (THREE, whole(*TREE_FEATURES, head=hist(categorical_features=[0, 1, 5]))),
    "boosting of values": (VALUE, whole(*TREE_FEATURES, head=hist(BOOSTED_VALUES, categorical_features=[1]))),
    "boosting of quantiles": (VALUE, whole(*TREE_FEATURES, head=hist(BOOSTED_VALUES, loss="quantile", quantile=0.7))),
    "boosting of counts": (COUNT, whole(*TREE_FEATURES, head=hist(BOOSTED_VALUES, loss="poisson"))),
    "boosting of words": (
        TWO, whole((make_pipeline(Words(), Topics(5)), "text"), *TREE_FEATURES, sparse_threshold=0, head=hist())
    ),
    "other heads: boosting": (THREE, whole(*USUAL, head=GradientBoostingClassifier(n_estimators=5, random_state=0))),
    "other heads: neurons": (TWO, whole(*USUAL, head=MLPClassifier(5, max_iter=30, random_state=0))),
    "other heads: neighbours": (TWO, whole((filled(StandardScaler()), NUMBERS), head=KNeighborsClassifier(3))),
    "other heads: Gauss": (THREE, whole((filled(StandardScaler()), NUMBERS), head=GaussianNB())),
    **{
        f"calibrated by {method}, {name}": (
            contract, CalibratedClassifierCV(whole(*USUAL, sparse_threshold=0, head=head), method=method, cv=2)
        )
        for method in ("sigmoid", "isotonic", "temperature")
        for name, contract, head in [
            ("two labels", TWO, LinearSVC()), ("three labels", THREE, LINEAR),
            ("a forest", TWO, RandomForestClassifier(5, random_state=0)), ("trees", THREE, hist()),
        ]
    },
    "a calibrated head": (THREE, whole(*USUAL, head=CalibratedClassifierCV(LinearSVC(), cv=2))),
}  # fmt: skip


FEWER = 400  # each edge of each field is in one in fifty at least
LEFT_TO_OTHERS = {"main directions, three labels", "other heads: neurons"}  # BLAS adds in an order of its own


@pytest.fixture(autouse=True)
def fewer_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compare on fewer requests than a build does, which takes less; a test of its own compares on all of them."""
    monkeypatch.setattr(parity, "ROWS", FEWER)


@pytest.fixture(scope="module")
def models() -> Callable[[str], tuple[Contract, Any]]:
    """Each model is fitted once, and wrapped as a build wraps it where it gives values."""
    made: dict[str, tuple[Contract, Any]] = {}

    def get(name: str) -> tuple[Contract, Any]:
        if name not in made:
            contract, model = MODELS[name]
            model = fitted(contract, model)
            if not contract.outcome.labels:
                rows = training(120)
                model = IntervalRegressor(model).fit(to_frame(contract, rows), [row["y"] for row in rows])
            made[name] = contract, model
        return made[name]

    return get


def odd_rows(contract: Contract) -> st.SearchStrategy[list[Record]]:
    def values(field: Field) -> st.SearchStrategy[Any]:
        kinds = {
            "text": st.text(max_size=300) | st.lists(st.sampled_from(WORDS), max_size=20).map(" ".join),
            "number": st.floats(-1e6, 1e6) | st.sampled_from([0.0, -0.0, 1e-300]),
            "integer": st.integers(0, 10**9) | st.integers(0, 20),
            "boolean": st.booleans(),
            "category": st.sampled_from(field.choices or (*(field.seen_choices or ()), "", "unheard", "HERE")),
            "date": st.dates().filter(lambda day: day.year >= 1000).map(str),
        }
        return st.none() | kinds[field.kind] if field.nullable else kinds[field.kind]

    record = st.fixed_dictionaries({field.name: values(field) for field in contract.fields})
    return st.lists(record, min_size=1, max_size=6)


@pytest.mark.filterwarnings("ignore:Found unknown categories")
@pytest.mark.parametrize("name", MODELS)
def test_compiled_native_alone_in_a_batch_and_met_are_the_same_answer(
    models: Callable[[str], tuple[Contract, Any]], name: str
) -> None:
    contract, model = models(name)
    native = Native(model, contract)
    compiled = Compiled(model, contract, native)
    release = small_release(contract, model)
    choice = compare(native, compiled, release)
    assert choice.kind == COMPILED, choice.why
    assert choice.furthest <= TOLERANCE
    adapters = [ModelAdapter(release), ModelAdapter(replace(release, engine=choice))]

    @settings(max_examples=8)
    @given(odd_rows(contract))
    def check(rows: list[Record]) -> None:
        expected = native.figures(rows)
        np.testing.assert_allclose(native.figures(rows[:1]), expected[:1], rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(compiled.figures(rows), expected, rtol=1e-9, atol=1e-9)
        alone = np.concatenate([compiled.figures([row]) for row in rows])
        if name in LEFT_TO_OTHERS:
            np.testing.assert_allclose(alone, expected, rtol=1e-9, atol=1e-9)
        else:
            np.testing.assert_array_equal(alone, compiled.figures(rows))
        for adapter in adapters:
            met = adapter._answer([(some, Call()) for some in (rows[:2], rows[2:])])
            assert [made.output for answered in met for made in answered] == adapter.outputs("model", rows)

    check()


@pytest.mark.parametrize("name", ["the usual, three labels", "a forest", "values"])
def test_a_build_compares_thousands_of_requests(
    models: Callable[[str], tuple[Contract, Any]], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parity, "ROWS", ROWS)
    contract, model = models(name)
    choice = choose(small_release(contract, model))
    assert (choice.kind, choice.why) == (COMPILED, "")
    assert choice.rows >= 2000
    assert choice.furthest <= TOLERANCE


class Wrong:
    """A compiled engine that is wrong in one way."""

    def __init__(self, inner: Any, spoil: Callable[[Any, list[Record]], Any]) -> None:
        self._inner, self._spoil = inner, spoil

    def figures(self, records: Any) -> Any:
        return self._spoil(self._inner.figures(records).copy(), records)


def failing(figures: Any, records: list[Record]) -> Any:
    if any(record["n"] == 0 for record in records):
        raise KeyError(0)
    return figures


def off_at_one_color(figures: Any, records: list[Record]) -> Any:
    figures[[record["color"] == "rare" for record in records], :2] += (3e-9, -3e-9)
    return figures


def not_a_number(figures: Any, records: list[Record]) -> Any:
    figures[[record["x"] is None for record in records]] = np.nan
    return figures


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (lambda figures, records: figures[:, ::-1], "another label"),
        (lambda figures, records: figures[:, :2], "another label"),
        (off_at_one_color, "3e-09 off"),
        (not_a_number, ""),
        (failing, "does not answer"),
    ],
    ids=["labels", "shape", "digits", "not a number", "failing"],
)
def test_a_compiled_engine_that_is_wrong_anywhere_is_not_used(
    models: Callable[[str], tuple[Contract, Any]], spoil: Any, why: str
) -> None:
    contract, model = models("the usual, three labels")
    native = Native(model, contract)
    choice = compare(native, Wrong(Compiled(model, contract, native), spoil), small_release(contract, model))
    assert choice.kind == NATIVE
    assert why in choice.why


def test_an_engine_that_answers_what_scikit_learn_refuses_is_not_used() -> None:
    encoder = OneHotEncoder(handle_unknown="error")
    model = fitted(TWO, whole((encoder, ["place"])))

    class Lenient:
        def figures(self, records: Any) -> Any:
            return np.tile([0.5, 0.5], (len(records), 1))

    native = Native(model, TWO)
    assert compare(native, Compiled(model, TWO, native), small_release(TWO, model)).kind == COMPILED
    choice = compare(native, Lenient(), small_release(TWO, model))
    assert choice.kind == NATIVE


class Doubled(TransformerMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn is untyped
    """A transformer of somebody's own, of which nobody here knows what it does."""

    def fit(self, frame: Any, y: Any = None) -> Any:
        self.fitted_ = True
        return self

    def transform(self, frame: Any) -> Any:
        return np.nan_to_num(frame.to_numpy(dtype=float)) * 2


class Voting(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn is untyped
    """An estimator of somebody's own."""

    def fit(self, matrix: Any, y: Any) -> Any:
        self.classes_ = np.unique(y)
        return self

    def predict_proba(self, matrix: Any) -> Any:
        return np.full((len(matrix), len(self.classes_)), 1 / len(self.classes_))


@pytest.mark.parametrize(
    ("model", "why"),
    [
        (whole((Doubled(), ["x", "y"])), "Doubled does not take its columns as an array."),
        (whole((StandardScaler(), ["x", "y"]), head=Voting()), "Voting is not known to the compiled engine."),
    ],
)
def test_what_is_not_known_is_answered_by_scikit_learn_and_named(model: Any, why: str) -> None:
    choice = choose(small_release(TWO, fitted(TWO, model)))
    assert (choice.kind, choice.why) == (NATIVE, why)
    assert choice.as_json() == {"kind": "native", "why": why}


def test_the_adapter_answers_and_explains_alike_by_both_engines(
    models: Callable[[str], tuple[Contract, Any]],
) -> None:
    for name in ("the usual, three labels", "values", "two labels", "a forest"):
        contract, model = models(name)
        release = small_release(contract, model, baseline=model)
        slow = ModelAdapter(release)
        fast = ModelAdapter(replace(release, engine=EngineChoice(COMPILED, "", 2000, 0.0)))
        assert isinstance(fast._engines["model"], Compiled)
        rows = odd_records(contract, [], 20, random.Random(3))
        for one, other in zip(
            slow.predict(rows, Call(dry_run=True), explain=True),
            fast.predict(rows, Call(dry_run=True), explain=True),
            strict=True,
        ):
            assert difference(one.output, other.output) is None
            assert (one.decision, one.reasons, one.warnings) == (other.decision, other.reasons, other.warnings)
            first, second = flat(one.explanation), flat(other.explanation)
            assert second == pytest.approx(first, abs=1e-9)


def flat(explanation: Any) -> dict[str, Any]:
    found = {key: value for key, value in explanation.items() if key != "fields"}
    for field in explanation["fields"]:
        found[f"field {field['field']}"] = field["contribution"]
        found |= {f"term {field['field']} {term['term']}": term["contribution"] for term in field.get("terms", [])}
    return found


def test_many_rows_of_trees_are_left_to_scikit_learn(models: Callable[[str], tuple[Contract, Any]]) -> None:
    contract, model = models("a forest")

    class Counted(Native):
        asked = 0

        def figures(self, records: Any) -> Any:
            self.asked += 1
            return super().figures(records)

    native = Counted(model, contract)
    compiled = Compiled(model, contract, native)
    rows = odd_records(contract, [], FEW_ROWS + 1, random.Random(1))
    compiled.figures(rows[:-1])
    assert native.asked == 0
    compiled.figures(rows)
    assert native.asked == 1


def test_a_decision_at_the_threshold_itself_does_not_hang_on_the_last_digit(
    models: Callable[[str], tuple[Contract, Any]],
) -> None:
    contract, model = models("the usual, three labels")
    rows = odd_records(contract, [], 40, random.Random(9))
    slow = ModelAdapter(small_release(contract, model))
    confidence = np.array([output["confidence"] for output in slow.outputs("model", rows)])
    for lowest in sorted(confidence)[1::8]:
        right = confidence >= lowest
        policy = replace(slow.release.policy, threshold=choose_threshold(confidence, right.tolist(), 10.0, 2.0))
        release = replace(slow.release, policy=policy, engine=EngineChoice(COMPILED, "", 2000, 0.0))
        fast = ModelAdapter(release)
        answered = ["low_confidence" not in fast.predict([row], Call(dry_run=True))[0].reasons for row in rows]
        assert answered == right.tolist()


def test_the_document_names_every_part_that_is_compiled() -> None:
    told = (Path(__file__).parents[1] / "docs/engine.md").read_text()
    for part in [*STEPS, *HEADS, *DECISIONS]:
        assert (
            f"`{re.sub('(?<=.)(Classifier|Regressor)$', '…', part.__name__)}`" in told or f"`{part.__name__}`" in told
        )
