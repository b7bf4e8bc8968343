"""Words counted in many texts at once: digit for digit what scikit-learn's own vectorizers give."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.compose import ColumnTransformer
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import FeatureUnion, Pipeline

from reviewapp.adapter import ModelAdapter
from reviewapp.engine import manywords
from reviewapp.engine.manywords import ManyWords, for_many, knows
from reviewapp.frames import to_frame
from reviewapp.release import Release
from reviewapp.transformers import Words
from reviewapp.triage import generator

LEARNT = [
    "please pay the invoice", "The invoice is wrong, the INVOICE!", "größe und Straße", "ﬁne İstanbul ǅ ß",
    "日本 語 注文", "a b cd x_1 _ __ 12 ١٢", "pay the bill; pay the bill", "",
]  # fmt: skip
WORDS = [
    "pay",
    "the",
    "invoice",
    "Invoice",
    "bill",
    "a",
    "_",
    "__",
    "größe",
    "İstanbul",
    "日本",
    "x_1",
    "12",
    "١٢",
    "ﬁne",
]
texts = st.lists(
    st.lists(st.sampled_from(WORDS) | st.text(max_size=4), max_size=12).map(" ".join)
    | st.lists(st.sampled_from([*WORDS, ".", ",", "\x01", "\x1c", "\x85"]), max_size=12).map("".join),
    max_size=8,
)
WAYS: list[tuple[type, dict[str, Any]]] = [
    (CountVectorizer, {}),
    (CountVectorizer, {"ngram_range": (1, 2), "binary": True}),
    (CountVectorizer, {"ngram_range": (2, 2), "lowercase": False, "dtype": np.float32}),
    (TfidfVectorizer, {"ngram_range": (1, 2), "sublinear_tf": True}),
    (TfidfVectorizer, {"max_features": 5, "norm": "l1", "use_idf": False}),
]


@pytest.mark.parametrize("pairs", [manywords.MOST_PAIRS, 0])
@pytest.mark.parametrize(("kind", "how"), WAYS)
def test_the_matrix_is_scikit_learns_own(
    kind: type, how: dict[str, Any], pairs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(manywords, "MOST_PAIRS", pairs)
    fitted = kind(**how).fit(LEARNT)
    quick = ManyWords(fitted)

    @settings(max_examples=40)
    @given(texts)
    def holds(some: list[str]) -> None:
        some = [*some, *LEARNT]
        own, ours = fitted.transform(some), quick.transform(some)
        assert (own.shape, own.dtype, own.indices.dtype) == (ours.shape, ours.dtype, ours.indices.dtype)
        for part in ("indptr", "indices", "data"):
            assert getattr(own, part).tolist() == getattr(ours, part).tolist()

    holds()


def test_what_is_no_text_is_left_to_scikit_learn() -> None:
    fitted = CountVectorizer().fit(LEARNT)
    with pytest.raises(ValueError, match=r"np\.nan"):
        ManyWords(fitted).transform(["pay", np.nan])
    assert ManyWords(fitted).transform(["pay\0pay the"]).sum() == 3


@pytest.mark.parametrize(
    "how",
    [
        {"analyzer": "char"}, {"stop_words": ["the"]}, {"strip_accents": "unicode"}, {"tokenizer": str.split},
        {"token_pattern": r"(?u)\b\w+\b"}, {"ngram_range": (1, 3)}, {"vocabulary": ["a", "pay"]},
        {"vocabulary": ["x y z"]},
    ],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore:The parameter 'token_pattern':UserWarning")
def test_another_analyzer_is_left_as_it_is(how: dict[str, Any]) -> None:
    fitted = CountVectorizer(**how).fit(LEARNT)
    assert not knows(fitted)
    assert for_many(fitted) is fitted


def test_it_is_found_wherever_it_stands_in_a_pipeline_and_the_given_one_stays_as_it_was() -> None:
    union = FeatureUnion([("w", TfidfVectorizer()), ("c", TfidfVectorizer(analyzer="char"))])
    columns = ColumnTransformer([("a", union, 0), ("b", Words(), 1)])
    table = np.array([LEARNT, LEARNT[::-1]], dtype=object).T
    fitted = Pipeline([("columns", columns), ("model", LogisticRegression())]).fit(table, [0, 1] * 4)
    quick = for_many(fitted)
    assert np.array_equal(quick.predict_proba(table), fitted.predict_proba(table))
    made = quick[0].transformers_[0][1].transformer_list[0][1]
    assert "transform" in vars(made)
    assert "transform" not in vars(fitted[0].transformers_[0][1].transformer_list[0][1])


def test_the_adapter_answers_many_rows_with_it_only_where_the_golden_requests_agree(
    release: Release, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    frame = to_frame(release.contract, [one.record for one in generator.generate(300, 8)])
    expected = release.model.predict_proba(frame)
    order = [list(release.model.classes_).index(label) for label in release.contract.outcome.labels]
    assert np.array_equal(ModelAdapter(release).figures("model", frame), expected[:, order])
    assert not caplog.records
    monkeypatch.setattr(ManyWords, "_of_ascii", lambda self, texts: np.full(len(texts), manywords._END))
    assert np.array_equal(ModelAdapter(release).figures("model", frame), expected[:, order])
    assert "counted by scikit-learn itself" in caplog.text
