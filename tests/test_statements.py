"""What every request looks up is what is committed now, whoever committed it, and asking keeps nothing back."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest
from pysqlite3 import dbapi2
from sqlalchemy import bindparam, create_engine, insert, select
from sqlalchemy.exc import IntegrityError

from reviewapp.errors import StoreBusy, StoreFull
from reviewapp.statements import Statement
from reviewapp.store import Store
from reviewapp.tables import predictions, probe

NUMBERS = select(probe.c.written_at, probe.c.id).where(probe.c.id == bindparam("id"), probe.c.id < 9).limit(1)


def test_a_look_up_finds_what_was_committed_last_in_whatever_process(store: Store) -> None:
    assert store.lookup(NUMBERS, id=1) is None
    other = Store(str(store.url))
    for text in ("one", "two"):
        other.check_writable(text)
        assert store.lookup(NUMBERS, id=1) == (text, 1)
    assert store.lookup(NUMBERS, id=2) is None
    with other.writing() as connection:
        connection.execute(probe.update().values(written_at="not committed"))
        assert store.lookup(NUMBERS, id=1) == ("two", 1)
    other.close()


def test_a_look_up_on_its_own_opens_the_store(tmp_path: Path) -> None:
    new = Store(f"sqlite:///{tmp_path / 'new.sqlite3'}")
    assert new.lookup(NUMBERS, id=1) is None
    new.close()


def test_a_look_up_keeps_no_state_of_the_store_back(store: Store) -> None:
    store.check_writable("first")
    assert store.lookup(NUMBERS, id=1) == ("first", 1)
    store.check_writable("second")
    with create_engine(str(store.url), module=dbapi2).connect() as connection:
        busy, left, done = connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)").one()
    assert (busy, left, done) == (0, 0, 0)


def test_a_look_up_that_finds_many_gives_the_first_and_keeps_nothing_back(store: Store) -> None:
    with store.writing() as connection:
        connection.execute(insert(probe), [{"id": number, "written_at": f"{number}"} for number in range(5)])
    assert store.lookup(select(probe.c.id).order_by(probe.c.id.desc())) == (4,)
    store.check_writable("later")
    with create_engine(str(store.url), module=dbapi2).connect() as connection:
        assert connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)").one() == (0, 0, 0)


def test_each_thread_asks_for_itself_and_lets_go_when_it_ends(store: Store) -> None:
    store.check_writable("now")
    found = []

    def ask() -> None:
        found.extend(store.lookup(NUMBERS, id=1) for _ in range(50))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [("now", 1)] * 400
    assert len(store.database.lookups._open) == 0


def test_a_child_leaves_the_connections_of_its_parent_alone(store: Store) -> None:
    store.check_writable("parent")
    assert store.lookup(NUMBERS, id=1) == ("parent", 1)
    child = os.fork()
    if child == 0:
        try:
            none = len(store.database.lookups._open) == 0
            ok = none and store.lookup(NUMBERS, id=1) == ("parent", 1) and len(store.database.lookups._open) == 1
            os._exit(0 if ok else 1)
        except BaseException:
            os._exit(2)
    assert os.waitpid(child, 0)[1] == 0
    store.check_writable("again")
    assert store.lookup(NUMBERS, id=1) == ("again", 1)


def test_after_closing_nothing_is_left_open_and_a_look_up_opens_anew(store: Store) -> None:
    store.check_writable("now")
    assert store.lookup(NUMBERS, id=1) == ("now", 1)
    store.close()
    assert not Path(f"{store.path}-wal").exists()
    assert store.lookup(NUMBERS, id=1) == ("now", 1)


def test_errors_of_a_look_up_are_those_of_the_store(tmp_path: Path, store: Store) -> None:
    path = tmp_path / "bad.sqlite3"
    path.write_bytes(b"this is no database at all" * 400)
    with pytest.raises(StoreBusy, match="damaged"):
        Store(f"sqlite:///{path}").lookup(NUMBERS, id=1)
    assert store.lookup(NUMBERS, id=1) is None
    with store.writing() as connection:
        connection.exec_driver_sql("DROP TABLE probe")
    with pytest.raises(StoreBusy):
        store.lookup(NUMBERS, id=1)


def test_a_value_that_is_not_given_is_not_taken_for_null(store: Store) -> None:
    with pytest.raises(KeyError):
        store.lookup(NUMBERS)


def test_values_are_written_as_sqlalchemy_writes_them(store: Store) -> None:
    names = [column.name for column in predictions.c if column.name != "seq"]
    row = {
        **dict.fromkeys(names, "x"), "release_version": 3, "input": {"größe": 0.1, "n": None}, "output": [1],
        "label": None, "reasons": [], "warnings": [None], "comparison": None, "explanation": {}, "audit": True,
        "doubt": 1, "salt": b"x", "seal": b"y",
    }  # fmt: skip
    made = Statement(insert(predictions).values({name: bindparam(name) for name in names}), store.engine.dialect)
    with store.writing() as connection:
        connection.execute(insert(predictions), row | {"id": "one"})
        made.run(connection, [made.values(row | {"id": "two"})])
        raw = [found[2:] for found in connection.exec_driver_sql("SELECT * FROM predictions ORDER BY seq")]
    assert raw[0] == raw[1]


def test_errors_of_a_statement_are_those_of_the_store(store: Store) -> None:
    made = Statement(insert(probe).values(id=bindparam("id"), written_at=bindparam("at")), store.engine.dialect)
    with pytest.raises(IntegrityError, match="UNIQUE") as refused, store.writing() as connection:
        made.run(connection, [(1, "x"), (1, "secret")])
    assert "secret" not in str(refused.value)
    assert store.lookup(NUMBERS, id=1) is None
    with store.reading() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar()
    with store.engine.connect() as connection:
        connection.exec_driver_sql(f"PRAGMA max_page_count={pages}")
    with pytest.raises(StoreFull), store.writing() as connection:
        made.run(connection, [(1, "x" * 100_000)])
