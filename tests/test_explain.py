"""Explanations are exact where the model is linear, and a change in the answer where it is not."""

import math
from typing import Any

import numpy as np
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.decomposition import PCA
from sklearn.ensemble import RandomForestClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler

from reviewapp.adapter import ModelAdapter
from reviewapp.contract import Contract, Outcome
from reviewapp.explain import LinearParts
from reviewapp.field import Field
from reviewapp.frames import to_frame
from reviewapp.prediction import Call
from reviewapp.release import Release

from .small import small_release

CONTRACT = Contract(
    name="small",
    fields=(
        Field(name="text", kind="text"),
        Field(name="a", kind="number", example=0.5),
        Field(name="b", kind="number", example=0.5),
        Field(name="color", kind="category", choices=("red", "blue", "green")),
        Field(name="size", kind="category", choices=("s", "l"), required=False, nullable=True),
    ),
    outcome=Outcome(name="o", labels=("no", "yes")),
)


def rows(n: int = 80, seed: int = 0) -> list[dict[str, Any]]:
    rng = np.random.default_rng(seed)
    words = ["pay", "bug", "help", "now", "slow"]
    return [
        {
            "text": " ".join(rng.choice(words, 3)),
            "a": float(rng.normal()),
            "b": float(rng.normal()),
            "color": str(rng.choice(["red", "blue", "green"])),
            "size": None if rng.random() < 0.2 else str(rng.choice(["s", "l"])),
        }
        for _ in range(n)
    ]


def fitted(numbers: Any = None, head: Any = None, *, drop: str | None = None) -> Pipeline:
    records = rows()
    labels = ["yes" if "pay" in row["text"] or row["a"] > 0.5 else "no" for row in records]
    features = ColumnTransformer(
        [
            ("text", TfidfVectorizer(), "text"),
            ("numbers", StandardScaler() if numbers is None else numbers, ["a", "b"]),
            ("categories", OneHotEncoder(handle_unknown="ignore", drop=drop), ["color", "size"]),
        ]
    )
    return Pipeline([("features", features), ("head", LogisticRegression() if head is None else head)]).fit(
        to_frame(CONTRACT, records), labels
    )


def explained(release: Release, record: dict[str, Any]) -> tuple[dict[str, Any], dict[str, float]]:
    [prediction] = ModelAdapter(release).predict([record], Call(dry_run=True), explain=True)
    assert prediction.explanation is not None
    return prediction.explanation, prediction.output["probabilities"]


def check_exact(explanation: dict[str, Any], shares: dict[str, float]) -> None:
    total = explanation["intercept"] + sum(field["contribution"] for field in explanation["fields"])
    assert total == pytest.approx(math.log(shares[explanation["label"]] / shares[explanation["against"]]), abs=1e-9)
    for field in explanation["fields"]:
        if "terms" in field:
            terms = sum(term["contribution"] for term in field["terms"]) + field["other_terms"]
            assert terms == pytest.approx(field["contribution"], abs=1e-12)


@pytest.mark.parametrize("drop", [None, "first", "if_binary"])
@pytest.mark.parametrize("numbers", ["passthrough", StandardScaler(), FunctionTransformer()], ids=str)
def test_contributions_of_a_linear_model_add_up_to_the_log_odds(numbers: Any, drop: str | None) -> None:
    release = small_release(CONTRACT, fitted(numbers, drop=drop))
    for record in rows(20, seed=1):
        explanation, shares = explained(release, record)
        assert explanation["method"] == "linear"
        assert {field["field"] for field in explanation["fields"]} == set(CONTRACT.names)
        check_exact(explanation, shares)


def test_contributions_of_the_default_model_add_up_for_every_label(adapter: ModelAdapter, records: list) -> None:
    for prediction in adapter.predict(records, Call(), explain=True):
        assert prediction.explanation is not None
        check_exact(prediction.explanation, prediction.output["probabilities"])


@pytest.mark.parametrize(
    "model",
    [
        fitted(PCA(2)),  # as many columns out as in, but none of them is a field's own
        fitted(head=RandomForestClassifier(5, random_state=0)),
        fitted(make_pipeline(StandardScaler(), PCA(2))),
    ],
    ids=["pca", "forest", "nested"],
)
def test_what_is_not_known_to_be_linear_by_field_is_explained_by_blanking(model: Pipeline) -> None:
    assert LinearParts.of(model) is None
    record = {"text": "pay now", "a": 2.0, "b": 0.1, "color": "red", "size": "l"}
    explanation, shares = explained(small_release(CONTRACT, model), record)
    assert explanation["method"] == "blanking"
    by_field = {field["field"]: field["contribution"] for field in explanation["fields"]}
    assert set(by_field) == {"text", "a", "b", "size"}  # a colour has neither null nor an example
    blanked = to_frame(CONTRACT, [{**record, "text": ""}])
    without = model.predict_proba(blanked)[0][list(model.classes_).index(explanation["label"])]
    assert by_field["text"] == pytest.approx(shares[explanation["label"]] - without, abs=1e-12)


@pytest.mark.parametrize("model", [LogisticRegression(), make_pipeline(StandardScaler(), LogisticRegression())])
def test_other_estimators_have_no_linear_parts(model: Any) -> None:
    assert LinearParts.of(model) is None
