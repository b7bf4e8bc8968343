"""The chain: one link for each commit that appends to the ledger, with a hash over the link before and all its rows.

A row is an entry: the digest of the columns that a purge empties, then the others. The seal of a commit is over its
entries; the hash of a link is over the hash before it, the seal, the table and the number of the last row. So whoever
changes, adds or takes away anything has to make all later links anew, and whoever noted one of these finds it out.

The link of predictions is written by the insert itself, whose trigger calls `link_hash`: the hash before it must be
read by who has the turn to write, and each further call of the driver would hold that up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from hashlib import sha256
from operator import itemgetter
from typing import Any

import orjson
from sqlalchemy import BindParameter, Connection, Result, Table, bindparam, func, insert, select, text, update

from .tables import links, predictions, purges, release_events, verdicts

BEGIN = bytes(32)  # the hash before the first link
SALT = 16  # bytes
AT_A_TIME = 1000  # rows that are in memory
NOTHING: Mapping[str, Any] = {}

Row = Sequence[Any]


class Kind:
    """A table that is only appended to. `emptied` are the columns that a purge empties, with what it leaves there.

    `later` are columns that came after the chain began: they count where they hold something, so that the rows from
    before stand for the same bytes as ever.
    """

    def __init__(self, table: Table, later: Sequence[str] = (), **emptied: Any) -> None:
        self.table, self.emptied, self.later = table, emptied, later
        self.columns = [column.name for column in table.c if column.name not in ("seq", "seal")]
        kept = [name for name in self.columns if name not in emptied and name != "salt" and name not in later]
        self.erased = _values_of(self.columns, emptied)
        self._kept = _values_of(self.columns, kept)
        self._later = _values_of(self.columns, later)
        self.salt = _values_of(self.columns, [name for name in self.columns if name == "salt"])

    def digest(self, row: Row) -> bytes:
        """Return the digest of what a purge empties; `row` are the raw values of `columns`, here as everywhere."""
        [salt] = self.salt(row) or (None,)
        return sha256((salt or b"") + orjson.dumps(self.erased(row))).digest()

    def entry(self, row: Row, digest: bytes | None = None) -> bytes:
        """Return the bytes that stand for a row; `digest` is the one that stayed of an erased row."""
        kept = self._kept(row)
        if self.later:
            held = {name: value for name, value in zip(self.later, self._later(row), strict=True) if value is not None}
            kept = (*kept, held) if held else kept
        return (self.digest(row) if digest is None else digest) + orjson.dumps(kept)


def _values_of(columns: Sequence[str], names: Iterable[str]) -> Callable[[Row], tuple[Any, ...]]:
    places = [columns.index(name) for name in names]
    if len(places) > 1:
        return itemgetter(*places)
    return lambda row: tuple(row[place] for place in places)


KINDS = {
    kind.table.name: kind
    for kind in (
        Kind(predictions, reference=None, input=None, warnings="[]", explanation=None),
        Kind(verdicts, note=None),
        Kind(release_events, later=("figures",)),
        Kind(purges),
    )
}


def digest_of(entries: Iterable[bytes]) -> bytes:
    """Return what stands for entries in their order: the seal of a commit, or what a purge has erased."""
    hashed = sha256()
    for entry in entries:
        hashed.update(entry)
    return hashed.digest()


def link_hash(before: bytes | None, what: str, last: int, sealed: bytes) -> bytes:
    """Return the hash of a link after one with the hash `before` (None: it is the first)."""
    return sha256((before or BEGIN) + sealed + orjson.dumps([what, last])).digest()


@contextmanager
def linked(connection: Connection, what: str) -> Iterator[None]:
    """Add one link over all rows that the block appends to a table, in the transaction of the connection."""
    number = KINDS[what].table.c.seq
    before = connection.scalar(select(func.max(number))) or 0
    yield
    append_link(connection, what, before)


def append_link(connection: Connection, what: str, after: int, *, later: bool = True) -> None:
    """Add a link over the rows of a table after the one of a number, if there are any, however many there are.

    `later` columns are there, except in the step of the schema that began the chain.
    """
    kind = KINDS[what]
    last = connection.scalar(select(func.max(kind.table.c.seq))) or 0
    if last == after:
        return
    rows = raw_rows(connection, what, "WHERE t.seq > :after", {"after": after}, later=later)
    sealed = digest_of(kind.entry(row) for _, *row in rows)
    if "seal" in kind.table.c:
        connection.execute(update(kind.table).where(kind.table.c.seq == last).values(seal=sealed))
    newest = connection.scalar(select(links.c.hash).order_by(links.c.seq.desc()).limit(1))
    hash_ = link_hash(newest, what, last, sealed)
    connection.execute(insert(links).values(what=what, last=last, seal=sealed, hash=hash_))


def raw_rows(
    connection: Connection, what: str, where: str = "", values: Mapping[str, Any] = NOTHING, *, later: bool = True
) -> Result[*tuple[Any, ...]]:
    """Return (number, *columns of the kind) of rows in their order, as `in_order` does."""
    kind = KINDS[what]
    columns = ", ".join(f't."{name}"' if later or name not in kind.later else "NULL" for name in kind.columns)
    query = f"SELECT t.seq, {columns} FROM {what} AS t {where} ORDER BY t.seq"  # noqa: S608 (names of our own)
    return in_order(connection, query, values)


def in_order(connection: Connection, query: str, values: Mapping[str, Any] = NOTHING) -> Result[*tuple[Any, ...]]:
    """Return rows as the driver has them, few of them in memory."""
    lists: list[BindParameter[Any]] = [
        bindparam(name, expanding=True) for name, value in values.items() if isinstance(value, Sequence)
    ]
    asked = text(query).bindparams(*lists)
    return connection.execute(asked, values, execution_options={"yield_per": AT_A_TIME})


def purged_entry(what: str, seq: int, digest: bytes) -> bytes:
    """Return the bytes that stand for a row of `purged` in the digest of its purge."""
    return digest + orjson.dumps([what, seq])
