"""Whatever is recorded is there whole or not at all, wherever it is broken off, and the chain over it is valid."""

import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pysqlite3 import dbapi2
from sqlalchemy import event, insert

from reviewapp.errors import StoreBusy
from reviewapp.intact import verify
from reviewapp.ledger import Ledger
from reviewapp.prediction import Call, IdempotencyKey
from reviewapp.purging import Purge, Selection
from reviewapp.registry import Registry
from reviewapp.release import ReleaseId
from reviewapp.store import Store
from reviewapp.tables import metadata, probe

from .conftest import Clock
from .test_intact import Built
from .test_ledger import prediction, verdict

FIRST = "019c13ec-9e7b-7000-8000-00000000000{}"
REVIEW = {"decision": "review", "reasons": ["low_confidence"]}
KEY = IdempotencyKey("ann", "k-1", "f" * 64)
EVERY = 13  # steps of SQLite's machine from one place where a statement is interrupted to the next


def plain(store: Store, clock: Clock) -> None:
    Ledger(store, clock).add_predictions([prediction(clock, **REVIEW) for _ in range(3)], Call())


def with_more(store: Store, clock: Clock) -> None:
    """As a batch with a key, or a chunk of a file, is recorded."""

    def beside(connection: Any) -> None:
        connection.execute(insert(probe).values(id=9, written_at="x"))

    made = [prediction(clock, **REVIEW) for _ in range(3)]
    Ledger(store, clock).add_predictions(made, Call(key=KEY, beside=beside))


def judge(store: Store, clock: Clock) -> None:
    Ledger(store, clock).add_verdict(FIRST.format(2), verdict("agree", clock, note="n"))


def take_back(store: Store, clock: Clock) -> None:
    Ledger(store, clock).withdraw_verdict(FIRST.format(1), "ann")


def build(store: Store, clock: Clock) -> None:
    Registry(store.path.parent, store, lambda release: None, clock).add(  # type: ignore[arg-type,return-value]
        Built(ReleaseId("triage", 2, "sha256:2")),  # type: ignore[arg-type]
        "ann",
    )


def purge(store: Store, clock: Clock) -> None:
    Purge(store, Selection([FIRST.format(1)]), "asked for", "ann", clock).run()


WORK = [plain, with_more, judge, take_back, build, purge]
STRIDE = {purge: 9}  # of the statements of a purge, most are the search's own


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory, empty_database: Path) -> Path:
    """A ledger with three predictions that wait, a verdict on one of them, and its words in the search."""
    path, clock = tmp_path_factory.mktemp("prepared") / "ledger.sqlite3", Clock()
    shutil.copy(empty_database, path)
    store = Store(f"sqlite:///{path}")
    ledger = Ledger(store, clock)
    ledger.add_predictions([prediction(clock, id=FIRST.format(n), **REVIEW) for n in (1, 2, 3)], Call())
    ledger.add_verdict(FIRST.format(1), verdict("agree", clock, note="well"))
    ledger.predictions({"q": "a"}, 1)
    store.close()
    return path


@pytest.fixture
def fresh(prepared: Path, tmp_path: Path) -> Iterator[Callable[[], Store]]:
    """Give a store on a copy of the prepared ledger, anew each time."""
    made: list[Store] = []

    def copy() -> Store:
        folder = tmp_path / str(len(made))
        folder.mkdir()
        made.append(Store(f"sqlite:///{shutil.copy(prepared, folder)}"))
        return made[-1]

    yield copy
    for store in made:
        store.close()


def contents(store: Store) -> dict[str, int]:
    """Return how many rows each table has, and how many requests are erased."""
    with store.reading() as connection:
        counts = {
            name: connection.exec_driver_sql(f"SELECT count(*) FROM {name}").scalar_one()  # noqa: S608 (names of our own)
            for name in metadata.tables
        }
        erased = connection.exec_driver_sql("SELECT count(*) FROM predictions WHERE input IS NULL").scalar_one()
        return counts | {"erased": erased}


def both(fresh: Callable[[], Store], work: Callable[[Store, Clock], None]) -> list[dict[str, int]]:
    store = fresh()
    before = contents(store)
    work(store, Clock())
    after = contents(store)
    assert before != after
    return [before, after]


@pytest.mark.parametrize("work", WORK)
def test_a_process_that_is_killed_at_any_statement_leaves_all_of_a_commit_or_nothing(
    fresh: Callable[[], Store], work: Callable[[Store, Clock], None]
) -> None:
    states, met = both(fresh, work), []
    for number in range(1, 1000, STRIDE.get(work, 1)):
        store = fresh()
        killed = _killed_at(store, work, number)
        after = contents(store)
        assert after in states, number
        assert verify(store)
        met.append(states.index(after))
        if not killed:
            break
    assert met[0] == 0
    assert met[-1] == 1
    assert met == sorted(met)
    assert len(met) > 2


def _killed_at(store: Store, work: Callable[[Store, Clock], None], number: int) -> bool:
    """Do the work in a process that is killed as its n-th statement begins, those of triggers among them."""
    child = os.fork()
    if child == 0:
        left = number

        def count(statement: str) -> None:
            nonlocal left
            left -= 1
            if not left:
                os.kill(os.getpid(), signal.SIGKILL)

        event.listen(store.engine, "checkout", lambda connection, *_: connection.set_trace_callback(count))
        try:
            work(store, Clock())
            os._exit(0)
        except BaseException:
            os._exit(1)
    status = os.waitpid(child, 0)[1]
    assert status in (0, signal.SIGKILL)
    return bool(status)


@pytest.mark.parametrize("work", WORK)
def test_a_statement_that_fails_at_any_place_leaves_all_of_a_commit_or_nothing_and_can_be_done_again(
    fresh: Callable[[], Store], work: Callable[[Store, Clock], None]
) -> None:
    states, failed = both(fresh, work), 0
    left = 0

    def count() -> bool:
        nonlocal left
        left -= 1
        return left == 0

    def watch(connection: Any, *_: Any) -> None:
        connection.set_progress_handler(count, 1)

    for number in range(1, 100_000, EVERY * STRIDE.get(work, 1)):
        store = fresh()
        event.listen(store.engine, "checkout", watch)
        left = number
        try:
            work(store, Clock())
        except (StoreBusy, dbapi2.OperationalError):  # the driver's own: not one statement was in a transaction yet
            failed += 1
            if (found := contents(store)) == states[0]:
                work(store, Clock())
            else:
                assert found == states[1]
        through, left = left > 0, -1
        assert contents(store) == states[1]
        assert verify(store)
        if through:
            break
    assert failed > 2
