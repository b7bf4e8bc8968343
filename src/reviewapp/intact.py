"""Verifying a ledger: every row against the chain, in one pass that holds a few of them in memory.

It reads one state of the ledger, while the service writes on. What it finds is the first thing that does not fit.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from sqlalchemy import Connection, Result

from .chain import BEGIN, KINDS, Row, digest_of, in_order, link_hash, purged_entry
from .errors import ReviewappError, UsageError
from .sqlwords import POSTGRESQL
from .store import Store

LINK = re.compile("[0-9a-f]{64}")
_ONE = {"predictions": "prediction", "verdicts": "verdict", "release_events": "release event", "purges": "purge"}


@dataclass(frozen=True)
class Whole:
    """A ledger in which everything fits: how many rows and links there are, and the hash of the newest link."""

    rows: Mapping[str, int]
    links: int
    newest: str

    def __str__(self) -> str:
        rows = ", ".join(f"{count:,} {_ONE[what]}{'s' * (count != 1)}" for what, count in self.rows.items())
        return f"The ledger is whole: {rows} in {self.links:,} commits.\nThe newest link: {self.newest}"


def verify(store: Store, since: str | None = None) -> Whole:
    """Return what is there; raise ReviewappError naming the first thing that does not fit.

    `since` is the newest link of an earlier time: it must be in the chain still.
    """
    if since is not None and not LINK.fullmatch(since):
        raise UsageError(
            "--since takes the newest link as an earlier run of this command printed it: 64 digits 0-9a-f."
        )
    with store.reading() as connection:
        return verify_state(connection, since)


def verify_state(connection: Connection, since: str | None = None) -> Whole:
    """Do the same for the state of a ledger that a connection sees."""
    if connection.dialect.name == POSTGRESQL:  # the server keeps texts and references whole
        with closing(_Reader(connection)) as reader:
            return reader.read(since)
    driver: Any = connection.connection.driver_connection
    taken, driver.text_factory = driver.text_factory, _as_it_is
    try:
        _check_file(connection)
        with closing(_Reader(connection)) as reader:
            return reader.read(since)
    finally:
        driver.text_factory = taken


def _as_it_is(text: bytes) -> str:
    """Decode also what is no UTF-8: it was changed, and which row it is has to be said."""
    return text.decode("utf-8", "surrogateescape")


def _check_file(connection: Connection) -> None:
    found = connection.exec_driver_sql("PRAGMA integrity_check(1)").scalar()
    if found != "ok":
        raise ReviewappError(f"The file of the ledger is damaged: {' '.join(str(found).split())}; restore a backup.")
    lost = connection.exec_driver_sql("PRAGMA foreign_key_check").first()
    if lost is not None:
        row = f"Row {lost[1]}" if lost[1] is not None else "A row"
        raise ReviewappError(f"{row} of {lost[0]} belongs to a row of {lost[2]} that is not there.")


class _Rows:
    """The rows of a table in their order, of which the next one can be looked at."""

    def __init__(self, rows: Iterable[Row]) -> None:
        self._rows = iter(rows)
        self.next: Row | None = next(self._rows, None)

    def up_to(self, last: Any, place: int = 0) -> Iterator[Row]:
        """Yield the rows whose number (at a place of theirs) is not above the last one."""
        while self.next is not None and self.next[place] <= last:
            row, self.next = self.next, next(self._rows, None)
            yield row


class _Reader:
    def __init__(self, connection: Connection) -> None:
        self._open: list[Result[*tuple[Any, ...]]] = []
        self._connection = connection
        self._links = self._all("SELECT seq, what, last, seal, hash FROM links ORDER BY seq")
        purged = "SELECT purge_seq, what, seq, digest FROM purged ORDER BY purge_seq, what, seq"
        self._purged = _Rows(self._all(purged))
        self._rows = {what: _Rows(self._all(_query(what))) for what in KINDS}
        self._counts = Counter(dict.fromkeys(KINDS, 0))

    def _all(self, query: str) -> Result[*tuple[Any, ...]]:
        self._open.append(in_order(self._connection, query))
        return self._open[-1]

    def close(self) -> None:
        """Read no further."""
        for one in self._open:
            one.close()

    def read(self, since: str | None) -> Whole:
        before, n, met = BEGIN, 0, since in (None, BEGIN.hex())
        for n, link in enumerate(self._links, 1):
            seq, what, last, sealed, hash_ = link
            if seq != n or what not in KINDS or _hash(before, what, last, sealed) != hash_:
                raise ReviewappError(f"Link {seq} of the chain was changed, or does not follow the one before it.")
            self._check_commit(seq, what, last, sealed)
            before = hash_
            met = met or hash_.hex() == since
        for what, rows in self._rows.items():
            if rows.next is not None:
                raise ReviewappError(f"{_named(what, rows.next).capitalize()} is in no link of the chain.")
        if not met:
            raise ReviewappError(
                f"Link {since} is not in the chain: what was recorded up to it was taken out or made anew."
            )
        return Whole(dict(self._counts), n, before.hex())

    def _check_commit(self, link: int, what: str, last: int, sealed: bytes) -> None:
        rows, hashed, first, row = self._rows[what], sha256(), None, None
        for row in rows.up_to(last):
            first = row if first is None else first
            self._counts[what] += 1
            if row[0] != self._counts[what]:
                raise ReviewappError(f"{_ONE[what].capitalize()} {self._counts[what]} is missing.")
            hashed.update(self._entry(what, row))
            if row[-2] != (sealed if row[0] == last and "seal" in KINDS[what].table.c else None):
                raise ReviewappError(f"The seal of {_named(what, row)} was changed.")
        if first is None or row is None or row[0] != last:
            raise ReviewappError(f"{_ONE[what].capitalize()} {last} is missing; link {link} of the chain has it.")
        if hashed.digest() != sealed:
            to = "" if row[0] == first[0] else f" to {_named(what, row)}"
            raise ReviewappError(
                f"{_named(what, first).capitalize()}{to}: changed after it was recorded (link {link})."
            )

    def _entry(self, what: str, row: Row) -> bytes:
        kind, (number, *values, _, digest) = KINDS[what], row
        if digest is not None and (*kind.erased(values), *kind.salt(values)) != (*kind.emptied.values(), None):
            raise ReviewappError(f"{_named(what, row).capitalize()} was erased, and holds something again.")
        if digest is not None and (not isinstance(digest, bytes) or len(digest) != len(BEGIN)):
            raise ReviewappError(f"{_named(what, row).capitalize()} was erased, and what stayed of it was changed.")
        try:
            if what == "purges":
                erased = digest_of(purged_entry(*one[1:]) for one in self._purged.up_to(number))
                digest = None if erased.hex() == values[-1] else b""
            return kind.entry(values, digest)
        except TypeError:  # no entry may be empty: what is beside it could then be made to stand for both
            raise ReviewappError(f"{_named(what, row).capitalize()}: changed after it was recorded.") from None


def _hash(before: bytes, what: str, last: Any, sealed: Any) -> bytes | None:
    try:
        return link_hash(before, what, last, sealed)
    except TypeError:
        return None


def _query(what: str) -> str:
    kind = KINDS[what]
    columns = ", ".join(f't."{name}"' for name in kind.columns)
    sealed = "t.seal" if "seal" in kind.table.c else "NULL"
    return (
        f"SELECT t.seq, {columns}, {sealed}, p.digest FROM {what} AS t"  # noqa: S608 (names of our own)
        f" LEFT JOIN purged AS p ON p.what = '{what}' AND p.seq = t.seq ORDER BY t.seq"
    )


def _named(what: str, row: Row) -> str:
    known = f" ({row[1]})" if what == "predictions" else ""
    return f"{_ONE[what]} {row[0]}{known}"
