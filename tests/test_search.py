"""Search finds words and their beginnings in any script, takes in what is new, and holds nobody up for long."""

import threading
from typing import Any

import pytest
from sqlalchemy import column, delete, table, text

from reviewapp import search
from reviewapp.ledger import Ledger
from reviewapp.prediction import Call
from reviewapp.store import Store

from .conftest import Clock
from .test_ledger import prediction

pytestmark = pytest.mark.both


@pytest.fixture
def ledger(store: Store, clock: Clock) -> Ledger:
    return Ledger(store, clock)


def keep(ledger: Ledger, clock: Clock, *texts: str, **changes: Any) -> list[str]:
    """Record one prediction for each text; return their ids."""
    made = [prediction(clock, input={"subject": one, "n": 37}, **changes) for one in texts]
    ledger.add_predictions(made, Call())
    return [one.id for one in made]


def found(ledger: Ledger, words: str, **filters: Any) -> list[str]:
    return [one.input["subject"] for one in ledger.predictions({"q": words, **filters}, 200)[0] if one.input]


TEXTS = {
    "The invoice for März is wrong, refund it.": ["invoice", "INVOI", "refund invoice", "marz", "Ma\u0308rz", "in."],
    "Straße 12-b, C++ and node.js": ["12-b", "straße 12", "node.js", "c++", "no js"],
    "ｆｕｌｌ ｗｉｄｔｈ": ["full", "ｗｉｄｔｈ"],
    "注文書を送ってください": ["注文", "文書", "送って", "くださ", "注文 送"],
    "ขอใบแจ้งหนี้ของเดือนนี้": ["แจ้งหนี้", "เดือน"],
    "ກະລຸນາ ផ្ញើវិក្កយបត្រ ငွေတောင်းခံလွှာ": ["ລຸນາ", "វិក្កយ", "တောင်း"],
    "заказ не пришёл": ["заказ", "пришёл", "ПРИШ", "прише\u0308л"],
    "हिन्दी में लिखा है": ["हिन्दी", "लिखा"],
    "مرحبا بالعالم": ["مرحبا", "بالع"],
    "한국어로 쓴 글": ["한국", "글"],
}  # fmt: skip


def test_words_and_their_beginnings_are_found_in_any_script(ledger: Ledger, clock: Clock) -> None:
    keep(ledger, clock, *TEXTS)
    assert [words for one, asked in TEXTS.items() for words in asked if one not in found(ledger, words)] == []
    for words in ("nvoice", "refund nothing", "文注", "書文", "subject", "37x", "b 12-c"):
        assert found(ledger, words) == [], words


def test_the_answer_and_the_reference_are_searched_too(ledger: Ledger, clock: Clock) -> None:
    keep(ledger, clock, "one", reference="Ticket-4711")
    keep(ledger, clock, "two", output={"label": "feature wish", "confidence": 1.0, "probabilities": {}})
    assert found(ledger, "ticket-47") == found(ledger, "4711") == ["one"]
    assert found(ledger, "wish") == ["two"]


HOSTILE = ['"', '""" OR 1', "NEAR(a b)", "text:x", "^a", "a*", "-a", "(", "a AND", "x' OR '1'='1", "{a b}: c", "+",
           "\\", "a" * 200, "' --", "a\tb\nc", "\u202e", "NOT", "word OR other", "́", "a" + "́" * 50]  # fmt: skip


def test_no_sign_of_a_query_has_a_meaning_of_its_own(ledger: Ledger, clock: Clock) -> None:
    ids = keep(ledger, clock, *HOSTILE, "x" * 10_000)
    for words in HOSTILE:
        assert words in found(ledger, words), words
    assert found(ledger, "zzz OR word") == []
    assert found(ledger, "x" * 100) == ["x" * 10_000]
    assert len(ids) == len(set(ids))


def test_what_is_no_word_is_looked_for_in_the_newest_predictions(
    ledger: Ledger, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reviewapp.finding.SCANNED", 3)
    keep(ledger, clock, "50% 🙂 old", "plain", "100% 🙂 a_b", "50% 🙂 new")
    assert found(ledger, "🙂") == found(ledger, "%") == ["50% 🙂 new", "100% 🙂 a_b"]
    assert found(ledger, "_") == ["100% 🙂 a_b"]
    assert found(ledger, "%", label="b") == []
    assert found(ledger, "50 🙂") == ["50% 🙂 new", "50% 🙂 old"]  # with a word, the word is what counts


def test_what_is_recorded_after_a_search_is_found_by_the_next(
    ledger: Ledger, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "BATCH", 2)
    keep(ledger, clock, *(f"early {number}" for number in range(5)))
    assert len(found(ledger, "early")) == 5
    keep(ledger, clock, "late")
    assert found(ledger, "late") == ["late"]
    with ledger._store.reading() as connection:
        assert connection.scalars(text("SELECT rowid FROM words ORDER BY rowid")).all() == [1, 2, 3, 4, 5, 6]


def test_an_erased_request_is_found_by_its_reference_alone(ledger: Ledger, clock: Clock) -> None:
    kept = prediction(clock, input=None, reference="R-9")
    ledger.add_predictions([kept], Call())
    assert ledger.predictions({"q": "r-9"}, 9)[0] == [kept]


def test_pages_of_a_search_go_on_in_every_order_with_other_filters(ledger: Ledger, clock: Clock) -> None:
    keep(ledger, clock, *(f"invoice {number:02}" for number in range(7)), source="form")
    keep(ledger, clock, "invoice by api", "nothing")
    for sort in ("newest", "oldest", "least_sure", "most_sure"):
        for more in ({}, {"since": "2026"}):
            seen: list[str] = []
            cursor = None
            while True:
                page, cursor = ledger.predictions({"q": "invoice", "source": "form", **more}, 3, cursor, sort)
                seen += [str((one.input or {})["subject"]) for one in page]
                if cursor is None:
                    break
            in_order = [f"invoice {number:02}" for number in range(7)]
            assert seen == (in_order if sort in ("oldest", "most_sure") else in_order[::-1]), (sort, more)


def test_searches_and_writers_at_the_same_time_take_in_each_row_once(
    ledger: Ledger, store: Store, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "BATCH", 5)
    failed: list[Exception] = []
    stores = [Store(str(store.url)) for _ in range(4)]

    def work(number: int) -> None:
        try:
            mine = Ledger(stores[number], clock)
            for step in range(12):
                if number % 2:
                    keep(mine, clock, f"word {number} {step}")
                else:
                    mine.predictions({"q": "word"}, 10)
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for one in stores:
        one.close()
    assert failed == []
    assert len(found(ledger, "word")) == 24
    with store.reading() as connection:
        assert connection.scalar(text("SELECT count(*) FROM words")) == 24


def test_taking_in_lets_others_write_between_its_transactions(
    ledger: Ledger, store: Store, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "BATCH", 1)
    monkeypatch.setattr("reviewapp.store.BUSY_SECONDS", 0)  # who does not get the lock at once fails
    keep(ledger, clock, "a", "b", "c")
    other, writing = Store(str(store.url)), store.writing
    turns: list[int] = []

    def between() -> Any:
        other.check_writable(str(len(turns)))
        turns.append(1)
        return writing()

    monkeypatch.setattr(store, "writing", between)
    search.catch_up(store)
    other.close()
    assert len(turns) == 3


def test_a_row_can_be_taken_out_again(ledger: Ledger, store: Store, clock: Clock) -> None:
    """The table of words is one that rows can be deleted from: an erased request must not be found by its words."""
    keep(ledger, clock, "secret", "other")
    assert found(ledger, "secret") == ["secret"]
    with store.writing() as connection:
        connection.execute(delete(table("words", column("rowid"))).where(column("rowid") == 1))
    assert found(ledger, "secret") == []
    assert found(ledger, "other") == ["other"]
