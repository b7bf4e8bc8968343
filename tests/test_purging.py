"""What was asked can be erased: it is nowhere any more, what is left says so, and the chain stays valid."""

from collections.abc import Callable
from datetime import UTC, date, datetime
from typing import Any

import pytest
from flask.testing import FlaskClient
from sqlalchemy import func, select, text

from reviewapp import search
from reviewapp.errors import NotFound, ReviewappError, UsageError
from reviewapp.export import export
from reviewapp.intact import verify
from reviewapp.ledger import Ledger
from reviewapp.monitoring import monitored
from reviewapp.parts import Parts
from reviewapp.prediction import Call, IdempotencyKey
from reviewapp.purging import AT_A_TIME, Purge, Selection
from reviewapp.release import Release
from reviewapp.store import Store
from reviewapp.tables import idempotency_keys, metadata, predictions, purged, purges

from .conftest import Clock
from .page import JSON, Page, as_csv, latest, send_file
from .test_ledger import prediction, verdict

pytestmark = pytest.mark.both

CANARY = "zanzibar"


@pytest.fixture
def ledger(store: Store, clock: Clock) -> Ledger:
    return Ledger(store, clock)


def purge(store: Store, *ids: str, **asked: Any) -> int:
    return Purge(store, Selection(ids, **asked), "they asked for it", "ann").run()


def held(store: Store, *words: str) -> list[str]:
    """Return which of the words are in the files of a ledger, as bytes; on a server, in any row of any table."""
    if store.is_file:
        path = store.path
        files = b"".join(file.read_bytes().lower() for file in path.parent.glob(f"{path.name}*"))
    else:
        with store.reading() as connection:
            names = ["words", *metadata.tables]
            asked = " UNION ALL ".join(f"SELECT t::text FROM {name} AS t" for name in names)  # noqa: S608
            files = "".join(connection.scalars(text(asked))).lower().encode()
    return [word for word in words if word.encode() in files]


def erased(ledger: Ledger) -> list[str]:
    return [one.id for one in ledger.predictions({}, 100, sort="oldest")[0] if one.input is None]


def test_nothing_is_left_of_a_request_and_everything_still_works(
    page: FlaskClient, api: Any, parts: Parts, release: Release, example: dict[str, Any],
    ask: Callable[..., tuple[str, str]],
) -> None:  # fmt: skip
    for number in range(40):  # what stays, around it
        api(
            "post",
            "/predictions",
            json={"input": {**example, "subject": f"other {number}"}, "reference": f"b-{number}"},
        )
    _, by_form = ask(subject=f"{CANARY} form", open_tickets=10_000)
    page.post(f"/history/{by_form}/verdict", data={"verdict": "disagree", "note": f"{CANARY} note"})
    sent = {"input": {**example, "body": f"Hello {CANARY} 0, " * 150}, "reference": f"{CANARY}-17"}
    by_api = api("post", "/predictions?explain=true", json=sent, headers={"Idempotency-Key": "k-1"}).json["id"]
    rows = [{**example, "subject": f"{CANARY} file"}, {**example, "channel": f"{CANARY} channel"}]
    upload = send_file(page, as_csv(rows), answer="later").headers["Location"]
    page.post(f"{upload}/continue", headers=JSON)
    by_file = latest(parts).id
    assert parts.ledger.predictions({"q": CANARY}, 10)[0]
    ids = {by_form, by_api, by_file}
    before = parts.ledger.reviews(release.id)
    figures = monitored(release, before)
    assert held(parts.store, CANARY) == [CANARY]

    now = datetime.now(UTC).date()
    assert purge(parts.store, before=date(now.year + 1, 1, 1), client="owner") == 2
    assert purge(parts.store, by_api) == 1
    assert held(parts.store, CANARY) == []
    assert verify(parts.store).rows["purges"] == 2
    assert set(erased(parts.ledger)) == ids

    for one in sorted(ids):
        record = page.get(f"/history/{one}")
        assert "It was erased." in Page(record.text).text
        assert page.get(f"/what-if/{one}").status_code == 404
        assert page.get(f"/?prediction={one}").status_code == 200
        found = api("get", f"/predictions/{one}", role="review").json
        assert (found["input"], found["reference"], found["warnings"]) == (None, None, [])
        assert "explanation" not in found
        assert found["output"]["label"]
        with pytest.raises(NotFound, match="was erased"):
            parts.registry.adapter().replay(parts.ledger.prediction(one))
    assert api("get", f"/predictions/{by_form}", role="review").json["verdict"]["note"] is None
    assert "(erased)" in page.get("/history").text
    assert parts.ledger.predictions({"q": CANARY}, 10)[0] == []
    assert len(parts.ledger.predictions({"q": "other"}, 100)[0]) == 40
    label = parts.ledger.prediction(by_file).output["label"]
    assert by_file in [one.id for one in parts.ledger.predictions({"q": label}, 100)[0]]
    assert parts.ledger.predictions({"q": "%"}, 10)[0] == []  # no word: looked for in the requests themselves
    for address in ("/queue", "/monitor", "/evidence", "/releases", upload):
        assert page.get(address).status_code == 200
    assert CANARY not in page.get(f"{upload}/answers.csv").text
    for kind in ("csv", "jsonl"):
        written = b"".join(export(kind, parts.ledger, {}, "newest", release.contract)).decode()
        assert by_api in written
        assert CANARY not in written
    reviews = Ledger(parts.store).reviews(release.id)
    assert monitored(release, reviews) == figures
    assert reviews == before
    while (lease := api("post", "/queue/next", role="review")).status_code == 200:  # what waits can be judged still
        waiting = lease.json["id"]
        if waiting in ids:
            assert "It was erased." in page.get(f"/history/{waiting}").text
        api("put", f"/predictions/{waiting}/verdict", json={"verdict": "unsure"}, role="review")
    again = api("post", "/predictions", json=sent, headers={"Idempotency-Key": "k-1"}).json
    assert again["id"] != by_api  # nothing tells any more that it is the same request
    assert verify(parts.store)


def test_a_purge_says_when_why_by_whom_and_what(ledger: Ledger, store: Store, clock: Clock) -> None:
    made = [prediction(clock) for _ in range(3)]
    ledger.add_predictions(made, Call())
    ledger.add_verdict(made[1].id, verdict("agree", clock, note="the customer's words"))
    ledger.add_verdict(made[2].id, verdict("agree", clock))
    asked = Purge(store, Selection([made[1].id, made[2].id]), "a letter", "ann", clock)
    assert (asked.count(), asked.run(), asked.count(), asked.run()) == (2, 2, 0, 0)
    with store.reading() as connection:
        [row] = connection.execute(select(purges)).mappings().all()
        rows = connection.execute(select(purged.c.purge_seq, purged.c.what, purged.c.seq)).all()
    told = {name: row[name] for name in ("created_at", "actor", "reason", "selection")}
    assert told == {
        "created_at": "2026-01-31T12:00:00.123Z", "actor": "ann", "reason": "a letter", "selection": {"ids": 2},
    }  # fmt: skip
    assert sorted(rows) == [(1, "predictions", 2), (1, "predictions", 3), (1, "verdicts", 1)]
    assert erased(ledger) == [made[1].id, made[2].id]


def test_what_is_selected_is_erased_and_nothing_else(ledger: Ledger, store: Store, clock: Clock) -> None:
    made = []
    for _ in range(4):
        made += [prediction(clock, client=client) for client in ("ann", "bob")]
        ledger.add_predictions(made[-2:], Call())
        clock.forward(days=1)
    days = [one.created_at[:10] for one in made]
    assert Purge(store, Selection(before=date.fromisoformat(days[2])), "x", "ann").count() == 2
    assert purge(store, before=date.fromisoformat(days[4]), client="bob") == 2
    assert erased(ledger) == [made[1].id, made[3].id]
    assert purge(store, before=date.fromisoformat(days[2])) == 1
    assert purge(store, client="ann") == 3
    assert set(erased(ledger)) == {one.id for one in made} - {made[5].id, made[7].id}
    assert verify(store).rows["purges"] == 3


def test_more_than_one_commit_takes_are_erased_in_several(
    ledger: Ledger, store: Store, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger.add_predictions([prediction(clock) for _ in range(AT_A_TIME + 1)], Call())
    assert purge(store, client="ann") == AT_A_TIME + 1
    assert verify(store).rows["purges"] == 2


def test_a_note_that_was_given_after_a_purge_can_be_erased_too(ledger: Ledger, store: Store, clock: Clock) -> None:
    made = prediction(clock)
    ledger.add_predictions([made], Call())
    assert purge(store, made.id) == 1
    ledger.add_verdict(made.id, verdict("agree", clock, note=f"said {CANARY}"))
    assert purge(store, made.id) == 1
    assert ledger.prediction(made.id).verdicts[0].note is None
    assert verify(store).rows["purges"] == 2
    assert held(store, CANARY) == []


def test_a_purge_that_was_broken_off_is_finished_by_asking_again(
    ledger: Ledger, store: Store, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = [prediction(clock, input={"text": f"{CANARY} {number}"}) for number in range(3)]
    key = IdempotencyKey("ann", "k-1", CANARY)
    ledger.add_predictions(made, Call(key=key))
    assert ledger.predictions({"q": CANARY}, 5)[0]
    with monkeypatch.context() as broken:
        broken.setattr(search, "tidy", lambda store: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            purge(store, client="ann")
    assert purge(store, client="ann") == 0
    assert held(store, CANARY) == []
    with store.reading() as connection:
        assert connection.scalar(select(func.count()).select_from(idempotency_keys)) == 0


def test_words_that_are_being_taken_in_while_their_request_is_erased_are_left_out(
    ledger: Ledger, store: Store, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger.add_predictions([prediction(clock, input={"text": CANARY})], Call())
    writing, other = store.writing, Store(str(store.url))

    def between() -> Any:
        monkeypatch.setattr(store, "writing", writing)
        assert purge(other, client="ann") == 1
        return writing()

    monkeypatch.setattr(store, "writing", between)
    search.catch_up(store)
    assert ledger.predictions({"q": CANARY}, 5)[0] == []
    assert ledger.predictions({"q": "a"}, 5)[0] != []  # its label
    other.close()


@pytest.mark.sqlite
def test_who_reads_an_older_state_holds_its_pages_and_that_is_said(
    ledger: Ledger, store: Store, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reviewapp.store.BUSY_SECONDS", 0)
    made = prediction(clock, input={"text": CANARY})
    ledger.add_predictions([made], Call())
    other = Store(str(store.url))
    with other.reading() as connection:
        assert connection.scalar(select(predictions.c.id)) == made.id
        with pytest.raises(ReviewappError, match="run this again"):
            purge(store, made.id)
    assert purge(store, made.id) == 0
    assert held(store, CANARY) == []
    other.close()


@pytest.mark.parametrize(
    "asked", [{}, {"ids": ["x"], "client": "ann"}, {"ids": ["x"], "before": date(2026, 1, 1)}], ids=str
)
def test_a_selection_of_nothing_or_of_two_kinds_is_refused(asked: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="Say what to erase"):
        Selection(**asked)


def test_an_id_that_is_not_there_and_a_missing_reason_erase_nothing(ledger: Ledger, store: Store, clock: Clock) -> None:
    made = prediction(clock)
    ledger.add_predictions([made], Call())
    with pytest.raises(NotFound, match="no prediction with the id x; nothing was erased"):
        purge(store, made.id, "x")
    with pytest.raises(UsageError, match="A reason is needed"):
        Purge(store, Selection([made.id]), " ", "ann")
    assert erased(ledger) == []
