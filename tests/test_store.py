"""The store keeps what was acknowledged: durable settings, whole transactions, a schema that only goes forward."""

import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from pysqlite3 import dbapi2
from sqlalchemy import Connection, Engine, bindparam, create_engine, event, func, insert, make_url, select, update
from sqlalchemy.exc import IntegrityError, OperationalError

from reviewapp import schema
from reviewapp.adapter import ModelAdapter
from reviewapp.errors import StoreBusy, StoreError, StoreFull
from reviewapp.ledgerfile import CURRENT, flaws, look
from reviewapp.registry import Registry
from reviewapp.sqlite import SqliteFile
from reviewapp.statements import statement
from reviewapp.store import Store
from reviewapp.tables import metadata, predictions, probe, queue, tokens


@pytest.fixture
def new_store(tmp_path: Path) -> Iterator[Store]:
    """A store whose tables are made by the migrations, on first use."""
    made = Store(f"sqlite:///{tmp_path / 'new.sqlite3'}")
    yield made
    made.close()


def test_settings_are_the_durable_ones(new_store: Store) -> None:
    with new_store.reading() as connection:
        pragmas = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in (
                "journal_mode",
                "synchronous",
                "foreign_keys",
                "busy_timeout",
                "wal_autocheckpoint",
                "journal_size_limit",
            )
        }
        version = tuple(map(int, connection.exec_driver_sql("select sqlite_version()").scalar().split(".")))
    assert pragmas == {
        "journal_mode": "wal",
        "synchronous": 2,
        "foreign_keys": 1,
        "busy_timeout": 15000,
        "wal_autocheckpoint": 4000,
        "journal_size_limit": 20_480_000,
    }
    assert version >= (3, 51, 3)


def test_the_migrations_make_just_the_tables_that_the_code_uses(new_store: Store) -> None:
    with new_store.reading() as connection:
        ours = {
            "include_name": lambda name, kind, _: kind != "table" or not name.startswith("words")
        }  # the index's own
        assert compare_metadata(MigrationContext.configure(connection, opts=ours), metadata) == []
        made = dict(connection.exec_driver_sql("SELECT name, sql FROM sqlite_master WHERE type = 'index'").all())
    for table in metadata.tables.values():
        for index in table.indexes:
            kept = index.dialect_options["sqlite"]["where"]
            assert made[index.name].partition(" WHERE ")[2] == ("" if kept is None else str(kept))


def test_the_file_is_its_owners_alone(new_store: Store) -> None:
    new_store.check_writable("now")
    assert new_store.path.stat().st_mode & 0o077 == 0


def test_what_fails_half_way_leaves_nothing(store: Store) -> None:
    with pytest.raises(ZeroDivisionError), store.writing() as connection:
        connection.execute(insert(probe).values(id=9, written_at="x"))
        raise ZeroDivisionError
    with store.reading() as connection:
        assert connection.execute(select(probe)).all() == []


def _count_up(path: Path, times: int) -> None:
    store = Store(f"sqlite:///{path}")
    for _ in range(times):
        with store.writing() as connection:
            at = connection.scalar(select(probe.c.written_at))
            connection.execute(probe.update().values(written_at=str(int(at) + 1)))
    store.close()


def test_no_update_of_concurrent_processes_is_lost(store: Store) -> None:
    with store.writing() as connection:
        connection.execute(insert(probe).values(id=1, written_at="0"))
    store.close()
    spawn = multiprocessing.get_context("spawn")
    workers = [spawn.Process(target=_count_up, args=(store.path, 50)) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    with store.reading() as connection:
        assert connection.scalar(select(probe.c.written_at)) == "150"


def test_processes_that_start_together_make_one_schema(tmp_path: Path) -> None:
    stores = [Store(f"sqlite:///{tmp_path / 'new.sqlite3'}") for _ in range(4)]
    failed: list[Exception] = []

    def open_(store: Store) -> None:
        try:
            with store.reading() as connection:
                connection.execute(select(tokens)).all()
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=open_, args=(store,)) for store in stores]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for store in stores:
        store.close()
    assert failed == []


def test_a_connection_of_the_parent_is_never_used_by_a_child(store: Store) -> None:
    store.check_writable("parent")
    child = os.fork()
    if child == 0:
        try:
            with store.reading() as connection:
                ok = connection.scalar(select(probe.c.written_at)) == "parent"
            os._exit(0 if ok else 1)
        except BaseException:
            os._exit(2)
    assert os.waitpid(child, 0)[1] == 0
    store.check_writable("again")


def test_a_newer_schema_is_left_alone(store: Store) -> None:
    with store.writing() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    later = Store(str(store.url))
    with pytest.raises(StoreError, match="newer version"), later.reading():
        pass
    later.close()


def test_a_foreign_database_is_left_alone(tmp_path: Path) -> None:
    import sqlite3

    path = tmp_path / "other.sqlite3"
    other = sqlite3.connect(path)
    other.execute("create table mine (a)")
    other.commit()
    other.close()
    store = Store(f"sqlite:///{path}")
    with pytest.raises(StoreError, match="did not make"), store.reading():
        pass
    store.close()


@pytest.mark.parametrize(
    "url", ["nonsense", "sqlite://", "sqlite:///:memory:", "mysql://localhost/x", "postgresql+psycopg://localhost"]
)
def test_a_url_that_names_no_database_is_refused(url: str) -> None:
    with pytest.raises(StoreError, match="REVIEWAPP_DATABASE_URL"):
        Store(url)


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot be opened"):
        Store(f"sqlite:///{tmp_path / 'file' / 'x.sqlite3'}").check_writable("now")


def test_a_lock_held_by_another_is_busy_and_ends(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reviewapp.store.BUSY_SECONDS", 0)
    store.check_writable("first")
    with store.writing():
        second = Store(str(store.url))
        with pytest.raises(StoreBusy) as busy:
            second.check_writable("second")
        second.close()
    assert busy.value.retry_after == 1
    store.check_writable("third")


def test_a_thread_that_waits_too_long_for_another_one_is_told_so(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.check_writable("first")
    monkeypatch.setattr("reviewapp.store.BUSY_SECONDS", 0)
    met: list[StoreBusy] = []

    def write() -> None:
        try:
            store.check_writable("second")
        except StoreBusy as error:
            met.append(error)

    with store.writing():
        thread = threading.Thread(target=write)
        thread.start()
        thread.join()
    assert [error.retry_after for error in met] == [1]
    store.check_writable("third")


def test_whoever_waits_for_its_turn_gets_it_when_the_other_one_leaves(store: Store) -> None:
    second = Store(str(store.url))
    for first, then in ((store, second), (store, store)):
        with first.writing() as connection:
            thread = threading.Thread(target=then.check_writable, args=("then",))
            thread.start()
            connection.exec_driver_sql("DELETE FROM probe")
        thread.join()
        assert store.lookup(select(probe.c.written_at)) == ("then",)
    second.close()


APPENDS = insert(probe).values(id=bindparam("id"), written_at=bindparam("at"))


def append(store: Store, *rows: tuple[int, str]) -> None:
    with store.turn() as turn:
        turn.append(statement(APPENDS, store.engine.dialect), rows)


def numbers(store: Store) -> list[tuple[int, str]]:
    with store.reading() as connection:
        return [(number, at) for number, at in connection.execute(select(probe.c.id, probe.c.written_at))]


def test_rows_appended_in_one_call_are_there_all_or_none(store: Store) -> None:
    append(store, (1, "a"))
    append(store, (2, "b"), (3, "c"))
    with pytest.raises(IntegrityError, match="UNIQUE") as refused:
        append(store, (4, "secret"), (2, "b"))
    assert "secret" not in str(refused.value)
    append(store, (5, "d"))
    other = Store(str(store.url))
    assert numbers(other) == [(1, "a"), (2, "b"), (3, "c"), (5, "d")]
    other.close()


def test_appending_has_the_durable_settings(store: Store) -> None:
    append(store, (1, "a"))
    assert store.database.appends._kept is not None
    asked = [
        store.database.appends._kept.execute(f"PRAGMA {name}").fetchone() for name in ("synchronous", "foreign_keys")
    ]
    assert asked == [(2,), (1,)]


def test_appending_waits_while_another_process_writes(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    second = Store(str(store.url))
    append(second, (1, "first"))
    with store.writing() as connection:
        thread = threading.Thread(target=append, args=(second, (2, "then")))
        thread.start()
        connection.exec_driver_sql("DELETE FROM probe")
    thread.join()
    assert numbers(store) == [(2, "then")]
    monkeypatch.setattr("reviewapp.store.BUSY_SECONDS", 0)
    with store.writing(), pytest.raises(StoreBusy) as busy:
        append(second, (3, "late"))
    assert busy.value.retry_after == 1
    append(second, (4, "again"))
    assert numbers(store) == [(2, "then"), (4, "again")]
    second.close()


def test_a_child_appends_on_a_connection_of_its_own(store: Store) -> None:
    append(store, (1, "parent"))
    child = os.fork()
    if child == 0:
        try:
            none = store.database.appends._kept is None
            append(store, (2, "child"))
            os._exit(0 if none else 1)
        except BaseException:
            os._exit(2)
    assert os.waitpid(child, 0)[1] == 0
    append(store, (3, "parent"))
    assert numbers(store) == [(1, "parent"), (2, "child"), (3, "parent")]


def test_after_closing_the_next_append_opens_anew(store: Store) -> None:
    append(store, (1, "a"))
    store.close()
    assert not Path(f"{store.path}-wal").exists()
    append(store, (2, "b"))
    assert numbers(store) == [(1, "a"), (2, "b")]


def test_a_damaged_file_is_said_where_it_is_met_while_appending(store: Store) -> None:
    append(store, (1, "a"))
    store.close()
    with store.path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * (store.path.stat().st_size - 4096))
    with pytest.raises(StoreBusy, match="damaged"):
        append(store, (2, "b"))


def test_whatever_records_a_prediction_lets_it_wait_with_it(new_store: Store) -> None:
    """The migrations' own tables: one that makes the table of predictions anew must keep the trigger."""
    with new_store.writing() as connection:
        unsure = {**RECORDED, "decision": "review", "reasons": '["low_confidence", "outside_seen"]'}
        put(connection, "predictions", id="1", **unsure)
        put(connection, "predictions", id="2", decision="auto", audit=False, **RECORDED)
        put(connection, "predictions", id="3", decision="auto", audit=True, **RECORDED)
        connection.execute(update(queue).where(queue.c.prediction_id == "1").values(place=7))
        put(connection, "predictions", id="4", **unsure)
    with new_store.reading() as connection:
        waits = connection.execute(select(queue.c.prediction_id, queue.c.why, queue.c.place).order_by(queue.c.place))
        assert waits.all() == [("3", "audit", 2), ("1", "low_confidence", 7), ("4", "low_confidence", 8)]


def test_waiting_to_write_leaves_the_settings_of_a_connection_as_they_were(store: Store) -> None:
    with store.writing() as connection:
        assert connection.exec_driver_sql("PRAGMA busy_timeout").scalar() == 15000


WRITE = """
import sys
from reviewapp.store import Store
with Store(sys.argv[1]).writing() as connection:
    connection.exec_driver_sql("INSERT INTO probe (id, written_at) VALUES (1, 'half')")
    print("writing", flush=True)
    sys.stdin.read()
"""


def test_the_turn_of_a_process_that_is_killed_is_the_next_ones(store: Store) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", WRITE, str(store.url)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"writing\n"
        writer.kill()
        writer.wait()
    assert store.lookup(select(probe.c.written_at)) is None
    store.check_writable("whole")


def test_a_child_that_is_forked_while_its_parent_writes_has_no_turn_to_wait_for(store: Store) -> None:
    with store.writing():
        child = os.fork()
        if child == 0:
            os._exit(1 if store._writer.locked() else 0)
    assert os.waitpid(child, 0)[1] == 0
    store.check_writable("again")


def test_a_full_disk_is_said_and_over_when_there_is_room(store: Store) -> None:
    with store.reading() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar()
    with store.engine.connect() as connection:
        connection.exec_driver_sql(f"PRAGMA max_page_count={pages}")
    with pytest.raises(StoreFull), store.writing() as connection:
        connection.execute(insert(probe).values(id=1, written_at="x" * 100_000))
    with store.engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA max_page_count=1000000")
    store.check_writable("now")


@pytest.mark.parametrize(
    ("code", "kind", "says"),
    [
        (5, StoreBusy, "locked"),  # as sqlite3.h names them: BUSY
        (13, StoreFull, "full"),  # FULL
        (10 | 19 << 8, StoreFull, "full"),  # IOERR_SHMSIZE: a new connection on a full disk
        (10 | 3 << 8, StoreBusy, "disk of the ledger fails"),  # IOERR_WRITE
        (8, StoreBusy, "can be read, but not written"),  # READONLY
        (14, StoreBusy, "cannot be opened"),  # CANTOPEN
    ],
)
def test_each_failure_says_what_would_help_and_when_to_ask_again(
    store: Store, code: int, kind: type[Exception], says: str
) -> None:
    failure = dbapi2.OperationalError("whatever SQLite says")
    failure.sqlite_errorcode = code

    def failing() -> None:
        raise OperationalError("INSERT", None, failure)

    with pytest.raises(kind, match=says) as told, store.reading():
        failing()
    assert told.value.retry_after >= 1  # type: ignore[attr-defined]


def test_whoever_waits_in_vain_is_the_last_to_wait_for_long(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reviewapp.store.PROBE_SECONDS", 0)
    waiting = Store(str(store.url), patience=1.0)
    took = []
    with store.writing():
        for _ in range(3):
            began = time.monotonic()
            with pytest.raises(StoreBusy), waiting.writing():
                raise AssertionError
            took.append(time.monotonic() - began)
    assert took[0] >= 1.0
    assert max(took[1:]) < 1.0
    append(waiting, (1, "again"))
    assert numbers(store) == [(1, "again")]
    waiting.close()


def test_who_asks_only_whether_it_can_be_written_waits_for_nobody(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reviewapp.store.READY_SECONDS", 0)
    other = Store(str(store.url))
    with store.writing(), pytest.raises(StoreBusy):
        other.check_writable("now")
    other.close()


def test_a_store_is_opened_while_another_process_writes(store: Store) -> None:
    with store.writing() as connection:
        connection.execute(insert(probe).values(id=1, written_at="x"))
        other = Store(str(store.url), patience=0)
        assert numbers(other) == []
        other.close()


def copied(store: Store, folder: Path) -> Path:
    """A whole copy of a ledger elsewhere, with one row that tells it from the other."""
    made = folder / "copy.sqlite3"
    with closing(dbapi2.connect(str(store.path))) as source, closing(dbapi2.connect(str(made))) as target:
        source.backup(target)
        target.execute("INSERT INTO probe VALUES (77, 'copy')")
        target.commit()
    return made


def test_a_ledger_that_has_gone_is_no_empty_ledger(store: Store, tmp_path: Path) -> None:
    append(store, (1, "a"))
    assert store.lookup(select(probe.c.written_at)) == ("a",)
    store.path.rename(tmp_path / "elsewhere")
    for _ in range(2):
        with pytest.raises(StoreBusy, match="gone"):
            append(store, (2, "b"))
        assert store.lookup(select(probe.c.written_at)) == ("a",)
        assert not store.path.exists()
    (tmp_path / "elsewhere").rename(store.path)
    append(store, (3, "c"))
    assert numbers(store) == [(1, "a"), (3, "c")]


def test_nothing_is_acknowledged_that_went_into_a_file_no_longer_there(store: Store, tmp_path: Path) -> None:
    append(store, (1, "a"))
    copy, log = copied(store, tmp_path), Path(f"{store.path}-wal")
    with pytest.raises(StoreBusy, match="was replaced; ask again"), store.writing() as connection:
        connection.execute(insert(probe).values(id=2, written_at="b"))
        log.unlink()
        copy.rename(store.path)
    append(store, (3, "c"))
    assert numbers(store) == [(1, "a"), (3, "c"), (77, "copy")]
    assert store.lookup(select(probe.c.written_at).where(probe.c.id == 77)) == ("copy",)


def test_a_copy_that_the_log_of_the_old_file_would_spoil_is_not_opened(store: Store, tmp_path: Path) -> None:
    append(store, (1, "a"))
    log = Path(f"{store.path}-wal")
    copied(store, tmp_path).rename(store.path)
    with pytest.raises(StoreBusy, match="remove the -wal"):
        append(store, (2, "b"))
    log.unlink()
    with pytest.raises(StoreBusy, match="ask again"):
        append(store, (2, "b"))
    append(store, (2, "b"))
    assert numbers(store) == [(1, "a"), (2, "b"), (77, "copy")]


def test_a_file_that_is_no_ledger_is_not_made_one_in_its_place(store: Store) -> None:
    append(store, (1, "a"))
    for end in ("", "-wal", "-shm"):
        Path(f"{store.path}{end}").unlink()
    store.path.touch()
    with pytest.raises(StoreBusy, match="ask again"):
        append(store, (2, "b"))
    with pytest.raises(StoreBusy, match="did not make"):
        append(store, (2, "b"))


def test_a_file_that_is_replaced_between_two_opens_is_gone_in_between(store: Store, tmp_path: Path) -> None:
    append(store, (1, "a"))
    copy = copied(store, tmp_path)
    Path(f"{store.path}-wal").unlink()
    copy.rename(store.path)
    with pytest.raises(StoreBusy, match="ask again"):
        append(store, (2, "b"))
    store.path.rename(copy)
    with pytest.raises(StoreBusy, match="cannot be opened"):
        append(store, (2, "b"))
    copy.rename(store.path)
    append(store, (2, "b"))
    assert numbers(store) == [(1, "a"), (2, "b"), (77, "copy")]


def test_the_log_that_a_long_reader_let_grow_is_cut_when_it_ends(store: Store) -> None:
    log = Path(f"{store.path}-wal")
    append(store, (1, "a"))
    with store.reading() as connection:
        connection.execute(select(probe)).all()
        append(store, (2, "x" * 30_000_000))
        append(store, (3, "c"))
        assert log.stat().st_size > 30_000_000
    append(store, (4, "d"))
    append(store, (5, "e"))
    assert log.stat().st_size <= 20_480_000


def test_a_folder_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    with (
        pytest.raises(StoreError, match="folder cannot be opened"),
        SqliteFile(make_url(f"sqlite:///{tmp_path}/none/file")).one_process_at_a_time(),
    ):
        raise AssertionError


def test_who_finds_no_connection_free_is_told_so(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reviewapp.sqlite.POOL", 1)
    small = Store(str(store.url), patience=0.1)
    with small.reading():
        with pytest.raises(StoreBusy, match="No connection") as told, small.reading():
            raise AssertionError
        assert told.value.retry_after == 1
    assert numbers(small) == []
    small.close()


def test_a_library_with_the_bug_is_refused(new_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reviewapp.sqlite.FIXED_SQLITE", (99, 0, 0))
    with pytest.raises(StoreError, match="WAL-reset bug"):
        new_store.check_writable("now")


def test_what_another_process_has_brought_up_to_date_is_left_as_it_is(store: Store) -> None:
    with store.writing() as connection:
        schema.upgrade(connection, only_check=False)
    append(store, (1, "a"))


def test_threads_that_open_together_open_once(store: Store) -> None:
    found = []
    with store._lock:
        thread = threading.Thread(target=lambda: found.append(store.engine))
        thread.start()
        time.sleep(0.1)
        store._engine = opened = store._opened()
    thread.join()
    assert found == [opened]


def test_what_a_child_does_at_its_start_leaves_it_a_store_of_its_own(store: Store, new_store: Store) -> None:
    new_store._forget_parent()
    append(store, (1, "a"))
    assert store.lookup(select(probe.c.written_at)) == ("a",)
    kept, engine = store.database.appends._kept, store.engine
    store._forget_parent()
    assert (store.database.appends._kept, store.engine) == (None, engine)
    append(store, (2, "b"))
    assert store.database.appends._kept is not kept
    assert numbers(store) == [(1, "a"), (2, "b")]


def test_a_damaged_file_is_said(tmp_path: Path) -> None:
    path = tmp_path / "bad.sqlite3"
    path.write_bytes(b"this is no database at all" * 400)
    store = Store(f"sqlite:///{path}")
    with pytest.raises(StoreBusy, match="damaged"):
        store.check_writable("now")
    store.close()


def test_a_store_that_is_only_read_makes_and_changes_nothing(tmp_path: Path, empty_database: Path) -> None:
    absent = Store(f"sqlite:///{tmp_path / 'none' / 'ledger.sqlite3'}", read_only=True)
    with pytest.raises(StoreError, match="no ledger yet"), absent.reading():
        pass
    assert not (tmp_path / "none").exists()
    shutil.copy(empty_database, tmp_path / "ledger.sqlite3")
    store = Store(f"sqlite:///{tmp_path / 'ledger.sqlite3'}", read_only=True)
    with store.reading() as connection:
        assert connection.scalar(select(func.count()).select_from(predictions)) == 0
    with pytest.raises(StoreBusy), store.writing() as connection:
        connection.execute(probe.insert().values(id=1))
    store.close()


def test_a_ledger_of_another_version_is_not_brought_up_to_date_by_reading(tmp_path: Path, empty_database: Path) -> None:
    shutil.copy(empty_database, tmp_path / "ledger.sqlite3")
    url = f"sqlite:///{tmp_path / 'ledger.sqlite3'}"
    older = Store(url)
    with older.writing() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '0001'")
    older.close()
    store = Store(url, read_only=True)
    with pytest.raises(StoreError, match="another version"), store.reading():
        pass
    store.close()


def older_store(url: str, version: str) -> Connection:
    """Return a connection to a ledger as an earlier version of the code made it."""
    connection = create_engine(url, module=dbapi2).connect()
    config = Config()
    config.set_main_option("script_location", "reviewapp:migrations")
    config.attributes["connection"] = connection
    command.upgrade(config, version)
    return connection


def put(connection: Connection, table: str, **values: Any) -> None:
    names, marks = ", ".join(f'"{name}"' for name in values), ", ".join("?" * len(values))
    connection.exec_driver_sql(f"INSERT INTO {table} ({names}) VALUES ({marks})", tuple(values.values()))  # noqa: S608 (names of our own)


RECORDED = {
    "created_at": "2026-01-31T12:00:00.000Z", "release_name": "triage", "release_version": 1, "release_digest": "x",
    "option": "model", "source": "api", "client": "ann", "request_id": "r", "input": "{}", "warnings": "[]",
    "output": '{"label": "bug", "confidence": 0.75, "probabilities": {}}', "label": "bug", "reasons": "[]",
}  # fmt: skip


def test_what_was_recorded_before_audits_were_drawn_was_not_drawn(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'ledger.sqlite3'}"
    with older_store(url, "0001") as connection:
        put(connection, "predictions", id="1", decision="auto", **RECORDED)
        connection.commit()
    again = Store(url)
    with again.reading() as connection:
        assert connection.scalars(select(predictions.c.audit)).all() == [False]
    again.close()


def test_of_moves_that_were_kept_before_it_is_not_known_what_they_changed(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'ledger.sqlite3'}"
    with older_store(url, "0002") as connection:
        put(connection, "release_events", kind="promoted", name="triage", version=1, digest="sha256:x", reason="older",
            actor="ann", created_at="2026-01-31T12:00:00.000Z")  # fmt: skip
        connection.commit()
    again = Store(url)
    [event] = Registry(tmp_path, again, ModelAdapter).events()
    assert (event.reason, event.breaking, event.differences) == ("older", False, [])
    again.close()


def test_what_waited_before_there_was_a_queue_waits_in_it(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'ledger.sqlite3'}"
    with older_store(url, "0003") as connection:
        unsure = {**RECORDED, "decision": "review", "reasons": '["low_confidence", "outside_seen"]'}
        for number in range(1, 5):
            put(connection, "predictions", id=str(number), **unsure)
        put(connection, "predictions", id="5", decision="auto", audit=True, **RECORDED)
        put(connection, "predictions", id="6", decision="auto", **RECORDED)
        value = {"output": '{"value": 2, "low": 1, "high": 3.5}', "label": None, "decision": "review"}
        put(connection, "predictions", id="7", **{**RECORDED, **value, "reasons": '["wide_interval"]'})
        given = {"reasons": "[]", "author": "ann", "created_at": "x"}
        for seq, verdict in ((2, "agree"), (3, "agree"), (3, "withdrawn"), (4, "withdrawn"), (4, "unsure")):
            put(connection, "verdicts", prediction_seq=seq, verdict=verdict, **given)
        connection.commit()
    again = Store(url)
    with again.reading() as connection:
        waits = select(queue.c.prediction_id, queue.c.why).order_by(queue.c.place)
        low, wide = "low_confidence", "wide_interval"
        assert connection.execute(waits).all() == [("1", low), ("3", low), ("5", "audit"), ("7", wide)]
        assert connection.scalars(select(predictions.c.doubt)).all() == [*[0.25] * 6, 2.5]
    again.close()


def upgraded_and_killed_at(url: str, statement: int) -> bool:
    """Let a process bring a ledger up to date, and kill it before a statement; return whether it came that far."""
    child = os.fork()
    if child == 0:
        numbers = count()

        @event.listens_for(Engine, "before_cursor_execute")
        def _kill(*_: Any) -> None:
            if next(numbers) == statement:
                os.kill(os.getpid(), signal.SIGKILL)

        try:
            with Store(url).reading():
                os._exit(0)
        except BaseException:
            os._exit(1)
    ended = os.waitpid(child, 0)[1]
    assert ended in {0, signal.SIGKILL}
    return ended == signal.SIGKILL


def test_a_process_that_is_killed_while_it_brings_a_ledger_up_to_date_leaves_the_old_or_the_new_schema(
    tmp_path: Path,
) -> None:
    old = tmp_path / "old.sqlite3"
    with older_store(f"sqlite:///{old}", "0001") as connection:
        put(connection, "predictions", id="1", decision="auto", **RECORDED)
        connection.commit()
    killed = list[str]()
    while True:
        path = tmp_path / f"{len(killed)}.sqlite3"
        shutil.copy(old, path)
        url = f"sqlite:///{path}"
        if not upgraded_and_killed_at(url, len(killed) * 4):
            break
        with pytest.raises(StoreError, match="another version"), Store(url, read_only=True).reading():
            pass
        assert look(path).schema == "0001"
        store = Store(url)
        with store.reading() as connection:
            assert connection.scalars(select(predictions.c.id)).all() == ["1"]
        store.close()
        assert (look(path).state, flaws(path)) == (CURRENT, [])
        killed.append(url)
    assert len(killed) > 10
    assert look(path).state == CURRENT
