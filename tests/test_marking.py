"""A text with the terms that moved the answer marked is still that text, and marks only what it holds."""

import random
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reviewapp.marking import MARKS, SEARCHED, WHOLE, Piece, mark, shortened

TEXTS = st.text(alphabet=st.sampled_from("aAbB .,\n_éßİ日🙂\u202e<'(+"), max_size=300) | st.text(max_size=100)
TERMS = st.lists(st.tuples(st.text(alphabet=st.sampled_from("aAbB .é日+(["), max_size=4), st.floats(-5, 5)), max_size=8)


def marked(text: str, *terms: tuple[str, float]) -> list[tuple[str, float]]:
    return [(piece.text, piece.amount) for piece in mark(text, terms) if piece.amount]


@given(TEXTS, TERMS)
def test_joined_pieces_are_the_text_again(text: str, terms: list[tuple[str, float]]) -> None:
    pieces = mark(text, terms)
    assert "".join(piece.text for piece in pieces) == text
    assert all(piece.text for piece in pieces)
    assert {piece.amount for piece in pieces} <= {amount for _, amount in terms} | {0.0}


@given(st.integers(1, 40), st.sampled_from(["pay", "pay now", "nothing"]), st.integers(0, 3000))
def test_a_shortened_text_keeps_every_mark_and_says_how_much_is_left_out(words: int, term: str, gap: int) -> None:
    text = ("." * gap).join(["Pay now"] * words)
    whole = mark(text, [(term, 1.0)])
    shown = shortened(whole)
    assert [piece for piece in shown if piece.amount] == [piece for piece in whole if piece.amount]
    assert sum(len(piece.text) + piece.skipped for piece in shown) == len(text)
    assert all(bool(piece.text) != bool(piece.skipped) for piece in shown)
    if len(text) <= WHOLE:
        assert shown == whole


def test_a_term_is_marked_in_any_case_wherever_it_stands_as_a_word() -> None:
    assert marked("Refund! No refunds; REFUND.", ("refund", 1.5)) == [("Refund", 1.5), ("REFUND", 1.5)]


@pytest.mark.parametrize(
    ("text", "term", "found"),
    [
        ("Grünlich, GRÜN und grün", "grün", ["GRÜN", "grün"]),
        ("ПЛАТЁЖ платёжный платёж", "платёж", ["ПЛАТЁЖ", "платёж"]),
        ("日本 日本語", "日本", ["日本"]),
        ("naïve_x naïve", "naïve", ["naïve"]),
    ],
)
def test_words_of_every_language_have_boundaries(text: str, term: str, found: list[str]) -> None:
    assert [piece for piece, _ in marked(text, (term, 1))] == found


@pytest.mark.parametrize("between", [" ", ",\n", " – ", " a ", " 'a' I "])
def test_a_term_of_two_words_is_found_over_what_stands_between_them(between: str) -> None:
    """A vectorizer leaves out words of one letter before it makes pairs."""
    assert marked(f"Please send{between}Bill home", ("send bill", -2)) == [(f"send{between}Bill", -2)]
    assert marked("send the bill", ("send bill", -2)) == []


def test_where_terms_overlap_the_strongest_has_the_place() -> None:
    text = "reset password, password"
    pair, word = ("reset password", 1.0), ("password", -0.4)
    assert marked(text, word, pair) == [("reset password", 1.0), ("password", -0.4)]
    assert marked(text, pair, ("password", -1.4)) == [("password", -1.4), ("password", -1.4)]


@pytest.mark.parametrize("term", ["stem~", "", " ", "!", "(", "[", "\\", "*", "a" * 5000])
def test_a_term_that_the_text_does_not_hold_marks_nothing(term: str) -> None:
    assert mark("Stems, ( and [ !", [(term, 1.0)]) == [Piece("Stems, ( and [ !")]


def test_a_term_of_signs_of_an_analyser_of_your_own_is_found_as_it_is() -> None:
    assert marked("I write C++, not c or C+", ("c++", 1)) == [("C++", 1)]
    assert marked("an e-mail. email", ("e-mail", 1)) == [("e-mail", 1)]


def test_what_moved_nothing_is_not_marked() -> None:
    assert mark("pay", [("pay", 0.0)]) == [Piece("pay")]
    assert mark("", [("pay", 1.0)]) == []


def test_of_a_text_full_of_terms_so_many_are_marked() -> None:
    text = "pay now " * 1000
    assert len(marked(text, ("pay", 1), ("now", -1))) == MARKS
    assert "".join(piece.text for piece in mark(text, [("pay", 1)])) == text


def test_a_text_of_a_megabyte_made_to_be_slow_is_marked_at_once() -> None:
    rng = random.Random(0)
    began = time.process_time()
    for text in ("a " * 500_000, "ab" + " " * 999_990 + "a", "ab a " * 200_000,
                 "".join(rng.choice("ab .") for _ in range(1_000_000))):  # fmt: skip
        pieces = mark(text, [(f"{one} {other}", 1.0) for one in ("a", "ab", "b") for other in ("a", "b", "c", "ab")])
        assert "".join(piece.text for piece in pieces) == text
        assert sum(len(piece.text) for piece in shortened(pieces)) <= SEARCHED + 2 * WHOLE
    assert time.process_time() - began < 2
