"""Whatever is changed in the ledger after the fact is found by its chain, and what was recorded as it should is not."""

# ruff: noqa: S608 (names of our own)

import random
import re
import shutil
import threading
from pathlib import Path
from typing import Any

import pytest
from pysqlite3 import dbapi2

from reviewapp.chain import BEGIN, KINDS, digest_of, link_hash, purged_entry
from reviewapp.errors import ReviewappError, UsageError
from reviewapp.intact import Whole, verify
from reviewapp.ledger import Ledger
from reviewapp.prediction import Call
from reviewapp.purging import Purge, Selection
from reviewapp.registry import Registry
from reviewapp.release import ReleaseId
from reviewapp.statements import AT_ONCE
from reviewapp.store import Store

from .conftest import Clock
from .test_ledger import prediction, verdict
from .test_store import RECORDED, older_store, put

pytestmark = pytest.mark.both


def filled(path: Path) -> None:
    """Make a ledger with commits of every kind: alone, of many, with more beside, verdicts, moves, a purge."""
    store, clock = Store(f"sqlite:///{path}"), Clock()
    ledger = Ledger(store, clock)
    made = [
        prediction(
            clock, input={"text": f"Grüße {n} 🙂", "n": n}, reference=f"A-{n}" if n % 2 else None,
            comparison={"option": "baseline", "output": {"label": "b"}} if n % 3 else None, audit=n % 4 == 0,
            explanation={"method": "linear", "fields": [{"contribution": 1e-17 * n}]} if n % 5 else None,
            warnings=[{"pointer": "/input/n", "code": "c", "detail": "d"}] if n % 2 else [],
        )
        for n in range(AT_ONCE + 12)
    ]  # fmt: skip
    for some in (made[:1], made[1:3], made[3:4]):
        ledger.add_predictions(some, Call())
    ledger.add_predictions(made[4:], Call(beside=lambda connection: None))
    for n, one in enumerate(made[:6]):
        said = verdict("corrected", clock, label="b", note=f"note {n}" if n % 2 else None, reasons=["other"])
        ledger.add_verdict(one.id, said)
    ledger.withdraw_verdict(made[0].id, "ann")
    registry = Registry(path.parent, store, lambda release: None)  # type: ignore[arg-type,return-value]
    for version in (1, 2):
        registry.add(Built(ReleaseId("triage", version, f"sha256:{version}")), "ann")  # type: ignore[arg-type]
    Purge(store, Selection([made[1].id, made[7].id]), "asked for", "ann", clock).run()
    store.close()


class Built:
    def __init__(self, id: ReleaseId) -> None:
        self.id = id


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, empty_database: Path) -> Path:
    path = tmp_path_factory.mktemp("chain") / "ledger.sqlite3"
    shutil.copy(empty_database, path)
    filled(path)
    return path


@pytest.fixture
def copy(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(whole, tmp_path / "ledger.sqlite3"))


def verified(path: Path, since: str | None = None) -> Whole:
    store = Store(f"sqlite:///{path}", read_only=True)
    try:
        return verify(store, since)
    finally:
        store.close()


def changed(path: Path, *statements: str | tuple[str, tuple[Any, ...]]) -> None:
    """Change the file as somebody does who can write to it: without the service, and without its functions."""
    connection = dbapi2.connect(path)
    for trigger in ("predictions_link", "predictions_wait"):
        connection.execute(f"DROP TRIGGER IF EXISTS {trigger}")
    for statement in statements:
        connection.execute(*([statement] if isinstance(statement, str) else statement))
    connection.commit()
    connection.close()


def test_what_was_recorded_as_it_should_is_whole_and_counted(whole: Path) -> None:
    found = verified(whole)
    assert found.rows == {"predictions": AT_ONCE + 12, "verdicts": 7, "release_events": 3, "purges": 1}
    assert found.links == 4 + 7 + 2 + 1
    assert re.fullmatch("[0-9a-f]{64}", found.newest)
    assert str(found).endswith(f"7 verdicts, 3 release events, 1 purge in 14 commits.\nThe newest link: {found.newest}")


def test_an_empty_ledger_is_whole(empty_database: Path) -> None:
    found = verified(empty_database)
    assert (found.links, found.newest) == (0, BEGIN.hex())
    assert verified(empty_database, since=found.newest) == found


CHAINED = [*KINDS, "links", "purged"]


def columns(path: Path) -> list[tuple[str, str]]:
    connection = dbapi2.connect(path)
    names = [(table, row[1]) for table in CHAINED for row in connection.execute(f"PRAGMA table_info({table})")]
    connection.close()
    return names


def other(value: Any, rng: random.Random) -> Any:
    """Return another value than the one that is there: of its kind, nothing, or of another kind."""
    if isinstance(value, str):
        place = rng.randrange(len(value) + 1)
        kin: Any = value[:place] + rng.choice("x0é") + value[place:]
    elif isinstance(value, bytes):
        kin = bytes([value[0] ^ 1]) + value[1:]
    else:
        kin = (value or 0) + rng.choice([1, -1, 7])
    return rng.choice(
        [one for one in (kin, kin, b"\xff", "1e", None, 0) if one != value or type(one) is not type(value)]
    )


@pytest.mark.parametrize("seed", range(3))
def test_any_other_value_in_any_column_is_found(copy: Path, seed: int) -> None:
    rng, kept = random.Random(seed), copy.read_bytes()
    tried = 0
    for table, column in columns(copy):
        copy.write_bytes(kept)
        connection = dbapi2.connect(copy)
        rows = connection.execute(f'SELECT "{column}", * FROM {table}').fetchall()
        row = rng.choice(rows)
        keys = [named[1] for named in connection.execute(f"PRAGMA table_info({table})")]
        mine = " AND ".join(f'"{name}" IS ?' for name in keys)
        try:
            done = connection.execute(
                f'UPDATE {table} SET "{column}" = ? WHERE {mine}', (other(row[0], rng), *row[1:])
            ).rowcount
        except dbapi2.Error:  # the table itself does not take it
            done = 0
        [after] = connection.execute(f"SELECT count(*) FROM {table} WHERE {mine}", row[1:]).fetchone()
        connection.commit()
        connection.close()
        if done and not after:
            tried += 1
            with pytest.raises(ReviewappError):
                print(table, column, row, verified(copy))
    assert tried > 40


@pytest.mark.parametrize("table", CHAINED)
def test_any_row_that_is_taken_out_is_found(copy: Path, table: str) -> None:
    kept = copy.read_bytes()
    connection = dbapi2.connect(copy)
    keys = [row[1] for row in connection.execute(f"PRAGMA table_info({table})") if row[5]]
    rows = connection.execute(f"SELECT {', '.join(keys)} FROM {table}").fetchall()
    connection.close()
    for row in {rows[0], *random.Random(7).choices(rows, k=5), rows[-1]}:
        copy.write_bytes(kept)
        mine = " AND ".join(f"{key} = ?" for key in keys)
        changed(copy, (f"DELETE FROM {table} WHERE {mine}", row))
        last = table == "links" and row == rows[-1]
        with pytest.raises(ReviewappError, match="in no link" if last else None):
            verified(copy)


@pytest.mark.parametrize("table", KINDS)
@pytest.mark.parametrize("number", ["0", "max(seq) + 1"], ids=["before", "after"])
def test_any_row_that_is_put_in_is_found(copy: Path, table: str, number: str) -> None:
    connection = dbapi2.connect(copy)
    names = [row[1] for row in connection.execute(f"PRAGMA table_info({table})") if row[1] != "seq"]
    connection.close()
    taken = ", ".join("id || 'x'" if name == "id" else f'"{name}"' for name in names)
    quoted = ", ".join(f'"{name}"' for name in names)
    which = f"(SELECT min(seq) FROM {table})"
    changed(
        copy,
        f"INSERT INTO {table} (seq, {quoted}) SELECT (SELECT {number} FROM {table}), {taken} FROM {table}"
        f" WHERE seq = {which}",
    )
    with pytest.raises(ReviewappError):
        verified(copy)


@pytest.mark.parametrize("table", [*KINDS, "links"])
def test_rows_that_change_places_are_found(copy: Path, table: str) -> None:
    swap = [f"UPDATE {table} SET seq = {to} WHERE seq = {of}" for of, to in ((1, -1), (2, 1), (-1, 2))]
    connection = dbapi2.connect(copy)
    two = connection.execute(f"SELECT count(*) > 1 FROM {table}").fetchone()[0]
    connection.close()
    assert two or table == "purges"
    changed(copy, *(swap if two else swap[:1]))
    with pytest.raises(ReviewappError):
        verified(copy)


def test_what_does_not_fit_is_named(copy: Path) -> None:
    kept = copy.read_bytes()
    for statement, said in {
        "UPDATE verdicts SET verdict = 'agree' WHERE seq = 3": "Verdict 3: changed after it was recorded",
        "UPDATE predictions SET label = 'b' WHERE seq = 2": r"Prediction 2 \(.+\) to prediction 3 \(.+\): changed",
        "UPDATE predictions SET input = '{}' WHERE seq = 2": r"Prediction 2 \(.+\) was erased, and holds something",
        "UPDATE predictions SET seal = x'00' WHERE seq = 1": r"The seal of prediction 1 \(.+\) was changed",
        "DELETE FROM release_events WHERE seq = 2": "Release event 2 is missing",
        "DELETE FROM verdicts WHERE seq = 7": "Verdict 7 is missing; link 11 of the chain has it",
        "UPDATE links SET hash = x'00' WHERE seq = 4": "Link 4 of the chain was changed",
        "UPDATE links SET last = 'x' WHERE seq = 4": "Link 4 of the chain was changed",
        "UPDATE links SET seal = 'x' WHERE seq = 4": "Link 4 of the chain was changed",
        "UPDATE purged SET digest = x'00'": r"Prediction 2 \(.+\) was erased, and what stayed of it was changed",
        "INSERT INTO purged VALUES (1, 'words', 1, x'00')": "Purge 1: changed after it was recorded",
        "UPDATE purged SET digest = 'x' WHERE what = 'verdicts'": "Verdict 2 was erased, and what stayed of it was",
        "UPDATE predictions SET client = x'ff' WHERE seq = 1": r"Prediction 1 \(.+\): changed",
        "UPDATE predictions SET client = CAST(x'ff' AS TEXT) WHERE seq = 1": r"Prediction 1 \(.+\): changed",
        "UPDATE verdicts SET prediction_seq = 99 WHERE seq = 1": "Row 1 of verdicts belongs to a row of predictions",
        "INSERT INTO purged VALUES (2, 'predictions', 1, x'00')": "A row of purged belongs to a row of purges",
    }.items():  # fmt: skip
        copy.write_bytes(kept)
        changed(copy, statement)
        with pytest.raises(ReviewappError, match=said):
            verified(copy)


def test_what_is_said_to_be_erased_by_no_purge_is_found(copy: Path) -> None:
    """Whoever takes the purge and its link away leaves rows that claim to be erased."""
    changed(copy, "DELETE FROM links WHERE what = 'purges'", "DELETE FROM purged", "DELETE FROM purges")
    with pytest.raises(ReviewappError, match=r"Prediction 2 .+ changed after"):
        verified(copy)


def test_a_damaged_file_is_said_to_be_damaged(copy: Path) -> None:
    connection = dbapi2.connect(copy)
    connection.execute("PRAGMA writable_schema = ON")
    connection.execute("DELETE FROM sqlite_master WHERE name = 'ix_predictions_label_seq'")
    connection.commit()
    connection.close()
    with pytest.raises(ReviewappError, match=r"The file of the ledger is damaged: .*; restore a backup"):
        verified(copy)


def test_a_chain_that_was_made_anew_is_found_by_a_link_that_was_noted(copy: Path) -> None:
    """Who may write to the file can make everything fit again; only what is kept elsewhere shows it."""
    noted = verified(copy).newest
    connection = dbapi2.connect(copy)
    connection.execute("DELETE FROM verdicts WHERE seq = 7")
    rows = connection.execute("SELECT seq, what, last, seal FROM links WHERE NOT (what = 'verdicts' AND last = 7)")
    before, made = BEGIN, []
    for number, (_, what, last, sealed) in enumerate(rows.fetchall(), 1):
        before = link_hash(before, what, last, sealed)
        made.append((number, what, last, sealed, before))
    connection.execute("DELETE FROM links")
    connection.executemany("INSERT INTO links VALUES (?, ?, ?, ?, ?)", made)
    connection.commit()
    connection.close()
    assert verified(copy).rows["verdicts"] == 6
    with pytest.raises(ReviewappError, match=f"Link {noted} is not in the chain"):
        verified(copy, since=noted)


def test_a_link_that_was_noted_stays_in_the_chain_when_more_is_recorded_and_erased(copy: Path, clock: Clock) -> None:
    noted = verified(copy).newest
    store = Store(f"sqlite:///{copy}")
    Ledger(store, clock).add_predictions([prediction(clock)], Call())
    Purge(store, Selection(client="ann"), "all of it", "ann", clock).run()
    store.close()
    found = verified(copy, since=noted)
    assert found.newest != noted
    assert found.rows["predictions"] == AT_ONCE + 13


@pytest.mark.parametrize("since", ["", "x", "A" * 64, "0" * 63])
def test_a_link_that_is_none_is_refused(whole: Path, since: str) -> None:
    with pytest.raises(UsageError, match="64 digits"):
        verified(whole, since)


def test_processes_and_threads_that_record_together_make_one_chain(store: Store, clock: Clock) -> None:
    second = Store(str(store.url))
    ledgers = [Ledger(store, clock), Ledger(second, clock)]

    def record(ledger: Ledger) -> None:
        for _ in range(10):
            ledger.add_predictions([prediction(clock) for _ in range(2)], Call())

    threads = [threading.Thread(target=record, args=(ledger,)) for ledger in ledgers * 3]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    second.close()
    found = verify(store)
    assert found.rows["predictions"] == 120
    assert 0 < found.links <= 60


def test_what_was_recorded_before_there_was_a_chain_is_in_its_first_links(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'ledger.sqlite3'}"
    with older_store(url, "0007") as connection:
        for number in range(1, 4):
            put(connection, "predictions", id=str(number), decision="auto", doubt=0.25, **RECORDED)
        put(connection, "verdicts", prediction_seq=2, verdict="agree", reasons="[]", author="ann", created_at="x")
        connection.commit()
    again = Store(url)
    found = verify(again)
    assert found.links == 2
    assert found.rows == {"predictions": 3, "verdicts": 1, "release_events": 0, "purges": 0}
    again.close()
    for statement in (
        "UPDATE predictions SET input = '{\"a\": 1}' WHERE seq = 2",
        "UPDATE predictions SET seq = 0 WHERE seq = 1",
        "UPDATE predictions SET seal = NULL",
    ):
        changed(Path(shutil.copy(tmp_path / "ledger.sqlite3", tmp_path / "copy.sqlite3")), statement)
        with pytest.raises(ReviewappError):
            verified(tmp_path / "copy.sqlite3")


def test_no_digest_of_what_was_erased_stands_for_the_row_beside_it(copy: Path) -> None:
    """A row whose entry is empty, and a neighbour whose digest holds both, would have the seal of their commit."""
    ledger = dbapi2.connect(copy)
    for trigger in ("predictions_link", "predictions_wait"):
        ledger.execute(f"DROP TRIGGER {trigger}")
    kind = KINDS["predictions"]
    names = ",".join(f'"{name}"' for name in kind.columns)

    def row(number: int) -> tuple[Any, ...]:
        return tuple(ledger.execute(f"SELECT {names} FROM predictions WHERE seq = ?", (number,)).fetchone())

    [(first,)] = ledger.execute("SELECT min(seq) FROM predictions WHERE seal IS NULL").fetchall()
    both = kind.entry(row(first)) + kind.digest(row(first + 1))
    ledger.execute("UPDATE predictions SET salt = 'x', client = 'somebody else' WHERE seq = ?", (first,))
    emptied = "reference = NULL, input = NULL, warnings = '[]', explanation = NULL, salt = NULL"
    ledger.execute(f"UPDATE predictions SET {emptied} WHERE seq = ?", (first + 1,))
    erased = digest_of([purged_entry("predictions", first + 1, both)]).hex()
    purge = ("2026-02-01T00:00:00.000Z", "ann", "asked for", '{"ids":1}', erased)
    insert = "INSERT INTO purges (created_at, actor, reason, selection, digest) VALUES (?, ?, ?, ?, ?)"
    number = ledger.execute(insert, purge).lastrowid
    ledger.execute("INSERT INTO purged VALUES (?, 'predictions', ?, ?)", (number, first + 1, both))
    seal = digest_of([KINDS["purges"].entry(purge)])
    [newest] = ledger.execute("SELECT hash FROM links ORDER BY seq DESC LIMIT 1").fetchone()
    link = ("purges", number, seal, link_hash(newest, "purges", number, seal))
    ledger.execute("INSERT INTO links (what, last, seal, hash) VALUES (?, ?, ?, ?)", link)
    ledger.commit()
    ledger.close()
    with pytest.raises(ReviewappError, match="Prediction"):
        verified(copy)
