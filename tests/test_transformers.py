"""Texts of any sort become numbers, and dates, without a table being too small or too strange for it."""

import numpy as np
import pytest

from reviewapp.transformers import DayParts, Topics, Words


def test_words_and_pairs_that_occur_twice_count() -> None:
    words = Words().fit(["pay the bill", "pay the fine", None, float("nan")])
    assert set(words.get_feature_names_out()) == {"pay", "the", "pay the"}
    assert words.transform([None, "pay"]).toarray()[:, words.vocabulary_["pay"]].tolist() == [0, 1]


@pytest.mark.parametrize(
    "texts",
    [["every word differs", "none comes twice"], ["請給我退款", "無法登入"], ["!!!", "???"], ["x", "y"]],
    ids=["few rows", "without blanks", "signs alone", "single letters"],
)
def test_texts_that_share_no_word_are_told_apart_all_the_same(texts: list[str]) -> None:
    found = Words().fit(texts).transform(texts).toarray()
    assert found.any(axis=1).all()
    assert not np.array_equal(found[0], found[1])


def test_empty_texts_have_no_words_and_no_topics() -> None:
    words = Words().fit(["", None])
    assert words.transform(["a"]).shape == (1, 0)
    assert Topics().fit(words.transform(["", "a"])).transform(words.transform(["b"])).shape == (1, 0)
    assert len(words.get_feature_names_out()) == len(words.vocabulary_) == 0


def test_there_are_no_more_topics_than_words_or_rows() -> None:
    texts = ["pay now", "pay later", "pay never"]
    matrix = Words().fit(texts).transform(texts)
    topics = Topics(60, 0).fit(matrix)
    assert topics.transform(matrix).shape == (3, min(matrix.shape))
    assert len(topics.get_feature_names_out()) == min(matrix.shape)


def test_a_day_is_a_number_a_month_and_a_weekday() -> None:
    found = DayParts("%d.%m.%Y").fit(["x"]).transform(["02.01.1970", None])
    assert found[0].tolist() == [1.0, 1.0, 4.0]
    assert np.isnan(found[1]).all()
    assert DayParts("%Y-%m-%d %H:%M:%S").transform(["1970-01-01 12:00:00"])[0][0] == 0.5
