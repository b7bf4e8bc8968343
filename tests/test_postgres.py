"""What only PostgreSQL is asked for: one who writes on all machines, a server that goes away, its own way to fail."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import psycopg
import pytest
from flask.testing import FlaskClient
from sqlalchemy import func, insert, select

from reviewapp import postgres as server
from reviewapp.errors import Conflict, StoreBusy, StoreError, UsageError
from reviewapp.intact import verify
from reviewapp.ledger import Ledger
from reviewapp.prediction import Call, IdempotencyKey
from reviewapp.store import Store
from reviewapp.tables import links, metadata, predictions, probe, queue

from .conftest import Clock
from .postgres import Postgres, packaged
from .test_ledger import prediction

COUNT_UP = """
import sys
from sqlalchemy import select, update
from reviewapp.store import Store
from reviewapp.tables import probe
store = Store(sys.argv[1])
for _ in range(50):
    with store.writing() as connection:
        count = int(connection.scalar(select(probe.c.written_at)))
        connection.execute(update(probe).values(written_at=str(count + 1)))
"""
RECORD = """
import sys
from reviewapp.ledger import Ledger
from reviewapp.prediction import Call
from reviewapp.store import Store
from tests.conftest import Clock
from tests.test_ledger import prediction
ledger, clock = Ledger(Store(sys.argv[1])), Clock()
for number in range(25):
    ledger.add_predictions([prediction(clock, decision="review", reasons=["unsure"])] * 1, Call())
"""


@pytest.fixture
def url(postgres: Postgres, postgres_templates: dict[str, str]) -> Iterator[str]:
    made = postgres.database(postgres_templates["empty"])
    yield made
    postgres.drop(made)


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    made = Store(url, patience=0.5)
    yield made
    made.close()


def run(*programs: str, url: str) -> None:
    """Run programs at once, to their end."""
    started = [subprocess.Popen([sys.executable, "-c", program, url]) for program in programs]
    assert [one.wait(60) for one in started] == [0] * len(started)


def test_no_update_of_concurrent_processes_is_lost(store: Store, url: str) -> None:
    with store.writing() as connection:
        connection.execute(insert(probe).values(id=1, written_at="0"))
    run(COUNT_UP, COUNT_UP, COUNT_UP, url=url)
    assert store.lookup(select(probe.c.written_at)) == ("150",)


def test_what_processes_record_at_once_is_numbered_without_gaps_in_one_chain(store: Store, url: str) -> None:
    run(RECORD, RECORD, RECORD, url=url)
    whole = verify(store)
    assert (whole.rows["predictions"], whole.links) == (75, 75)
    with store.reading() as connection:
        assert connection.scalar(select(func.max(predictions.c.seq))) == 75
        assert list(connection.scalars(select(queue.c.place).order_by(queue.c.place))) == list(range(1, 76))


def test_a_commit_that_fails_leaves_no_gap(store: Store) -> None:
    ledger = Ledger(store)
    first, second = prediction(Clock()), prediction(Clock())
    ledger.add_predictions([first], Call())

    def fail(connection: object) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        ledger.add_predictions([prediction(Clock())], Call(beside=fail))
    ledger.add_predictions([second], Call())
    with store.reading() as connection:
        assert list(connection.scalars(select(predictions.c.seq).order_by(predictions.c.seq))) == [1, 2]
    assert verify(store).rows["predictions"] == 2


def test_who_waits_too_long_for_the_turn_is_told_to_ask_again(store: Store, url: str) -> None:
    other = Store(url, patience=0.1)
    with store.writing(), pytest.raises(StoreBusy, match="locked"):
        Ledger(other).add_predictions([prediction(Clock())], Call())
    with store.writing(), pytest.raises(StoreBusy, match="locked"):
        other.check_writable("now")
    other.check_writable("now")
    other.close()


def test_a_state_is_read_as_it_was_at_the_beginning(store: Store) -> None:
    ledger = Ledger(store)
    with store.reading() as connection:
        assert connection.scalar(select(func.count()).select_from(predictions)) == 0
        ledger.add_predictions([prediction(Clock())], Call())
        assert connection.scalar(select(func.count()).select_from(predictions)) == 0
    assert store.lookup(select(func.count()).select_from(predictions)) == (1,)


def test_a_server_that_went_away_is_busy_and_back_as_soon_as_it_is(store: Store, postgres: Postgres) -> None:
    ledger, made = Ledger(store), prediction(Clock())
    ledger.add_predictions([made], Call())
    postgres.stop("immediate")
    for refused in (
        lambda: ledger.add_predictions([prediction(Clock())], Call()),
        lambda: store.check_writable("now"),
        lambda: ledger.prediction(made.id),
        lambda: store.lookup(select(probe.c.id)),
    ):
        with pytest.raises(StoreBusy, match="cannot be reached"):
            refused()
    postgres.start()
    back = threading.Event()
    for _ in range(100):  # a connection that broke is found out once
        try:
            ledger.add_predictions([prediction(Clock())], Call())
            break
        except StoreBusy:
            back.wait(0.1)
    assert ledger.prediction(made.id) == made
    assert verify(store).rows["predictions"] == 2


def terminated(url: str) -> None:
    """Have the server end all connections to a database; return once they are gone."""
    with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as connection:
        others = "FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        connection.execute(f"SELECT pg_terminate_backend(pid, 10000) {others}")


def test_who_only_reads_does_not_notice_that_idle_connections_were_ended(store: Store, url: str) -> None:
    count, threads = select(func.count()).select_from(probe), ThreadPoolExecutor(8)
    with ExitStack() as several:
        for _ in range(6):  # that wait in the pool afterwards
            several.enter_context(store.reading())
    list(threads.map(lambda _: store.lookup(count), range(200)))
    terminated(url)
    assert list(threads.map(lambda _: store.lookup(count), range(20))) == [(0,)] * 20
    threads.shutdown()


def test_a_lock_is_taken_although_the_session_of_the_locks_was_ended(store: Store, url: str) -> None:
    locks, key = store.key_locks(), IdempotencyKey("ann", "a", "x")
    with locks.hold(key):
        pass
    terminated(url)
    with locks.hold(key), pytest.raises(Conflict), Store(url).key_locks().hold(key):
        pass


def test_where_nobody_may_write_for_a_while_one_writes_as_soon_as_one_may(store: Store, url: str) -> None:
    ledger, name = Ledger(store), url.rpartition("/")[2]

    def write_by_default(value: str) -> None:
        may = "-c default_transaction_read_only=off"
        with psycopg.connect(url.replace("+psycopg", ""), autocommit=True, options=may) as connection:
            connection.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = {value}")

    def record() -> None:
        ledger.add_predictions([prediction(Clock())], Call())

    def probe_it() -> None:
        store.check_writable("now")

    write_by_default("on")
    for write in (record, probe_it):
        with pytest.raises(StoreBusy):
            write()
    write_by_default("off")
    for write in (record, probe_it):
        write()


def test_a_standby_is_busy_until_it_is_promoted(store: Store, url: str, postgres: Postgres) -> None:
    ledger, signal = Ledger(store), postgres.folder / "data" / "standby.signal"
    ledger.add_predictions([prediction(Clock())], Call())
    postgres.stop()
    signal.touch()
    postgres.start()
    for _ in range(3):
        assert store.lookup(select(func.count()).select_from(predictions)) == (1,)
        with pytest.raises(StoreBusy):
            ledger.add_predictions([prediction(Clock())], Call())
        with store.reading() as connection:  # which gives it back as one that writes
            assert connection.scalar(select(func.count()).select_from(predictions)) == 1
        with pytest.raises(StoreBusy):
            store.check_writable("now")
    with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute("SELECT pg_promote()")
    store.check_writable("now")
    ledger.add_predictions([prediction(Clock())], Call())
    assert verify(store).rows["predictions"] == 2


def test_what_libpq_does_not_know_is_told_in_a_sentence(url: str) -> None:
    with pytest.raises(UsageError, match='libpq does not know: invalid connection option "hos"'):
        Store(f"{url}?hos=db.example.org").check_writable("now")


def test_a_connection_that_breaks_while_it_records_leaves_open_what_was_recorded(store: Store, url: str) -> None:
    ledger = Ledger(store)
    ledger.add_predictions([prediction(Clock())], Call())
    terminated(url)
    with pytest.raises(StoreBusy, match="may be or may not be"):
        ledger.add_predictions([prediction(Clock())], Call())
    nowhere = Store("postgresql+psycopg://x@127.0.0.1:1/x")
    with pytest.raises(StoreBusy, match="nothing was recorded"):
        Ledger(nowhere).add_predictions([prediction(Clock())], Call())


def test_who_has_the_turn_and_says_nothing_loses_it(store: Store, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a host does that was stopped in the middle of a transaction; its silence is not for all others to keep."""
    monkeypatch.setattr(server, "IDLE_SECONDS", 0.2)
    other = Store(url)
    with pytest.raises(StoreBusy), store.writing() as connection:
        other.check_writable("now")
        connection.execute(insert(probe).values(id=2, written_at="lost"))
    assert store.lookup(select(func.count()).select_from(probe)) == (1,)
    other.close()


def test_what_a_url_says_to_the_server_holds(url: str) -> None:
    store = Store(f"{url}?options=-c%20work_mem%3D7MB&connect_timeout=3&application_name=x")
    asked = "SELECT current_setting('work_mem'), current_setting('lock_timeout'), current_setting('application_name')"
    with store.reading() as connection:
        assert tuple(connection.exec_driver_sql(asked).one()) == ("7MB", "15s", "reviewapp")
    store.close()


def test_two_that_open_a_new_database_make_its_tables_once(postgres: Postgres) -> None:
    url = postgres.database()
    stores = [Store(url), Store(url)]
    threads = [threading.Thread(target=store.check_writable, args=("now",)) for store in stores]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for store in stores:
        assert store.lookup(select(probe.c.id)) == (1,)
        store.close()
    postgres.drop(url)


def test_a_database_of_others_is_left_alone(postgres: Postgres) -> None:
    url = postgres.database()
    with psycopg.connect(url.replace("+psycopg", "")) as theirs:
        theirs.execute("CREATE TABLE theirs (id int)")
    store = Store(url)
    with pytest.raises(StoreError, match="did not make"):
        store.check_writable("now")
    store.close()
    postgres.drop(url)


def test_a_store_that_only_reads_makes_and_changes_nothing(store: Store, url: str, postgres: Postgres) -> None:
    reader = Store(url, read_only=True)
    with reader.reading() as connection:
        assert connection.scalar(select(func.count()).select_from(links)) == 0
    with pytest.raises(StoreBusy):
        reader.check_writable("now")
    reader.close()
    empty = postgres.database()
    reader = Store(empty, read_only=True)
    assert not reader.exists()
    with pytest.raises(StoreError, match="another version"), reader.reading():
        pass
    reader.close()
    postgres.drop(empty)


def test_what_is_about_a_file_says_that_there_is_none(store: Store) -> None:
    with pytest.raises(UsageError, match="lies in PostgreSQL"):
        assert store.path
    assert store.exists()
    assert store.size() > 1_000_000


def test_texts_sort_by_their_code_points_whatever_the_database_does(store: Store) -> None:
    columns = [column for table in metadata.tables.values() for column in table.c]
    kinds = {str(column.type.compile(store.engine.dialect)) for column in columns}
    assert {kind for kind in kinds if "TEXT" in kind or "CHAR" in kind} == {'TEXT COLLATE "C"'}


def test_the_packaged_server_does_where_the_system_has_none() -> None:
    server = Postgres(packaged())
    server.start()
    store = Store(server.database())
    Ledger(store).add_predictions([prediction(Clock())], Call())
    assert verify(store).rows["predictions"] == 1
    store.close()
    server.close()


@pytest.mark.both
def test_what_no_text_can_hold_is_found_nowhere_and_breaks_nothing(api: Any, page: FlaskClient) -> None:
    for path in ("/predictions/%00", "/predictions/a%00b"):
        assert api("get", path).status_code == 404
    assert api("post", "/queue/%00/skip", role="review").status_code == 404
    assert api("put", "/predictions/%00/verdict", role="review", json={"verdict": "agree"}).status_code == 404
    for path in ("/history/%00", "/what-if/%00", "/upload/%00", "/sign-in?link=%00"):
        assert page.get(path).status_code < 500
    for name in ("reference", "label", "release", "q", "since", "cursor"):
        assert api("get", f"/predictions?{name}=a%00b", role="review").status_code in (200, 422)
        assert page.get(f"/history?{name}=a%00b").status_code < 500
