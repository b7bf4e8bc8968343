"""Search for words: a table (FTS5, or `tsvector`) of the words of each prediction, filled when somebody searches.

Recording a prediction never waits for it: the first search after predictions were recorded takes them in, in
transactions short enough that nobody waits long for their turn to write. What is taken in are the label, the reference
and every value of the input, not the names of its members.
"""

from __future__ import annotations

import re
import time
import unicodedata
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Dialect, RowMapping, Select, select, text

from .errors import NotReady
from .samples import as_text
from .sqlwords import POSTGRESQL
from .store import Store
from .tables import predictions

BATCH = 2000  # rows of one transaction: under a tenth of a second
SCANNED = 5000  # so many of the newest predictions are read for what is no word
# Scripts that write no spaces between words: each character is a word of its own, so that a run of them is found in
# the middle of a longer one. Thai and Lao, Myanmar, Khmer, kana, Han.
_UNSPACED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u19e0-\u19ff\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff"
    "\ua9e0-\ua9ff\uaa60-\uaa7f\uf900-\ufaff\uff66-\uff9f\U00020000-\U000323af]"
)
_ACCENTS = re.compile("[\u0300-\u036f]")
_APART = re.compile(r"[\W_]+")  # all but letters and numbers
LONGEST = 500  # characters of a word, and
MOST = 16_000  # words of a prediction, in PostgreSQL, which takes little more of either
_HIGHEST = text("SELECT rowid FROM words ORDER BY rowid DESC LIMIT 1")
_INSERT = {
    "sqlite": text("INSERT INTO words (rowid, text) VALUES (:seq, :text)"),
    POSTGRESQL: text("INSERT INTO words (rowid, text) VALUES (:seq, CAST(:text AS tsvector))"),
}
# What the words are taken from: what was read before a purge must not be taken in after it.
_STATE = text("SELECT coalesce(max(rowid), 0), (SELECT max(seq) FROM purges) FROM words")
_COLUMNS = predictions.c.seq, predictions.c.label, predictions.c.reference, predictions.c.input
_REMOVE = text("DELETE FROM words WHERE rowid = :seq")
_MERGE = text("INSERT INTO words (words, rank) VALUES ('merge', :pages)")
SECONDS = 5.0  # that one search takes in what was recorded; a request may not take much longer
MERGED = 500  # pages of the index that one commit writes anew


def match(words: str, dialect: Dialect) -> str | None:
    """Return the words of a query as the database asks for them: all of them, each a beginning; None for none."""
    pieces = [_spaced(piece.replace('"', " ")) for piece in words.split()]
    found = [piece for piece in pieces if any(unicodedata.category(sign)[0] in "LN" for sign in piece)]
    if dialect.name == POSTGRESQL:
        terms = [" <-> ".join(f"'{word}'" for word in split) for split in map(_split, found) if split]
        return " & ".join(f"({term}:*)" for term in terms) or None
    return " AND ".join(f'"{piece}"*' for piece in found) or None


def catch_up(store: Store) -> None:
    """Take in what was recorded since the last search; what other processes take in meanwhile is theirs.

    Raises NotReady where that takes longer than SECONDS; the next search goes on from there.
    """
    ends = time.monotonic() + SECONDS
    while True:
        with store.reading() as connection:
            state = connection.execute(_STATE).one()
            query = select(*_COLUMNS).where(predictions.c.seq > state[0]).order_by(predictions.c.seq).limit(BATCH)
            new = _words(connection, query)
        if not new:
            return
        if time.monotonic() > ends:
            raise NotReady("The search takes in what was recorded since the last one; ask again.", retry_after=1)
        with store.writing() as connection:
            if connection.execute(_STATE).one() == state:
                connection.execute(_INSERT[connection.dialect.name], new)


def forget(connection: Connection, numbers: Sequence[int]) -> None:
    """Take in anew what is left of predictions that were erased; in a transaction of the caller's."""
    highest = connection.scalar(_HIGHEST) or 0
    query = select(*_COLUMNS).where(predictions.c.seq.in_([number for number in numbers if number <= highest]))
    left = _words(connection, query)
    if left:
        connection.execute(_REMOVE, left)
        connection.execute(_INSERT[connection.dialect.name], left)


def tidy(store: Store) -> None:
    """Write the index anew, in short transactions, so that no word of what was erased is left in it."""
    if not store.is_file:  # what was replaced there, the store's own tidying takes away
        return
    pages = -MERGED  # of all of the index; then on with what was begun
    while True:
        with store.writing() as connection:
            driver: Any = connection.connection.driver_connection
            before = driver.total_changes
            connection.execute(_MERGE, {"pages": pages})
            if (
                driver.total_changes - before < 2
            ):  # it was whole already (https://www.sqlite.org/fts5.html#the_merge_command)
                return
        pages = MERGED


def _words(connection: Connection, query: Select[Any]) -> list[dict[str, Any]]:
    """Return what the rows of a query hold, as the database takes it in."""
    taken_in = _placed if connection.dialect.name == POSTGRESQL else _spaced
    rows = connection.execute(query).mappings()
    return [{"seq": row["seq"], "text": taken_in("\n".join(_texts(row)))} for row in rows]


def _texts(row: RowMapping) -> list[str]:
    return [as_text(value) for value in (row["label"], row["reference"], *(row["input"] or {}).values())]


def _placed(words: str) -> str:
    """Return the words of a text with their places, as PostgreSQL takes them in; MOST of them."""
    return " ".join(f"'{word}':{place}" for place, word in enumerate(_split(_spaced(words))[:MOST], 1))


def _split(words: str) -> list[str]:
    """Return the words of a text without accents, all small: what SQLite's `unicode61` makes of it."""
    plain = _ACCENTS.sub("", unicodedata.normalize("NFD", words)).lower()
    return [word[:LONGEST] for word in _APART.sub(" ", plain).split()]


def _spaced(words: str) -> str:
    """Return a text as index and query both take it: however its letters were encoded, and with words apart."""
    return _UNSPACED.sub(r" \g<0> ", unicodedata.normalize("NFKC", words))
