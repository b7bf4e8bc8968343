"""Which predictions a page holds: filters and an order → the numbers of its rows, found along indexes.

One index is walked in the order of the page, that of the order or that of a filter; without either, the table itself,
whose order is that of the row's number. Every other filter is asked of each step at an index of its own, so that of a
long walk no row is read but those that are shown. A page ends after a few steps, or, where hardly anything matches,
after one look at each entry of the index that is walked; nothing is ever sorted.

Pages go by the row's number, because a clock may jump. Where a time is asked for they go by the time and then by the
number: only so one index holds both the span and the order.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, TextClause, text

from .errors import Flaw, InvalidInput
from .search import SCANNED, match
from .sqlwords import POSTGRESQL

_TIME = "[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}[.][0-9]{3}Z"
CURSOR = f"[a-z](([0-9a-f]{{16}}|{_TIME})_)?[0-9]{{1,18}}"  # callers hand it back as it is; what it says is ours


@dataclass(frozen=True)
class _Order:
    """An order of pages: by a column (None: the row's number alone), up or down. `letter` begins its cursors."""

    letter: str
    key: str | None
    down: bool


_ORDERS = {
    "newest": _Order("c", None, True),
    "oldest": _Order("o", None, False),
    "least_sure": _Order("l", "doubt", True),
    "most_sure": _Order("m", "doubt", False),
}
_ORDERS_IN_TIME = {"newest": _Order("t", "created_at", True), "oldest": _Order("u", "created_at", False)}
SORTS = tuple(_ORDERS)


@dataclass(frozen=True)
class _Way:
    """Something to walk along: what comes after FROM, the column with the row's number, and a condition."""

    source: str
    seq: str
    condition: str = "true"


@dataclass(frozen=True)
class _Filter:
    """One filter: the condition to ask of a step (`{seq}` is its number), and a way that has no other rows."""

    asked: str
    way: _Way | None = None


_ALL = _Way("predictions AS w", "w.seq")
_BY_KEY = {key: f"predictions AS w INDEXED BY ix_predictions_{key}_seq" for key in ("doubt", "created_at")}
_LAST_VERDICT = "(SELECT verdict FROM verdicts WHERE prediction_seq = {seq} ORDER BY seq DESC LIMIT 1)"
_NOT_THE_LAST = "EXISTS (SELECT 1 FROM verdicts AS l WHERE l.prediction_seq = w.prediction_seq AND l.seq > w.seq)"
# The one value that the index of a column holds, of two; SQLite uses such an index only for the value as it is written.
_RARE = {"option": ("baseline", "'baseline'"), "audit": (True, "1")}
_IN_TIME = "created_at >= :since AND created_at < :until"
_MATCHES = "words MATCH :q"
_MENTIONS = r"""{seq} > (SELECT max(seq) FROM predictions) - :scanned AND EXISTS (
 SELECT 1 FROM predictions AS p WHERE p.seq = {seq} AND (p.label LIKE :q ESCAPE '\' OR p.reference LIKE :q ESCAPE '\'
 OR EXISTS (SELECT 1 FROM json_each(p.input) AS m WHERE CAST(m.value AS TEXT) LIKE :q ESCAPE '\')))"""

# What PostgreSQL says in other words, or, as it counts rows, need not be told.
_IN_POSTGRESQL = [
    (re.compile(r" INDEXED BY \w+"), ""),
    (re.compile(r"\bLIKE\b"), "ILIKE"),
    (re.compile(re.escape("json_each(p.input) AS m")), "json_each_text(p.input::json) AS m"),
    (re.compile(re.escape(_MATCHES)), "words.text @@ CAST(:q AS tsquery)"),
]

_LIKE, _ESCAPED = re.compile(r"[%_\\]"), r"\\\g<0>"


def find(
    connection: Connection,
    filters: Mapping[str, Any],
    sort: str,
    limit: int,
    cursor: str | None = None,
    up_to: int | None = None,
    without: Collection[str] = (),
) -> tuple[list[int], str | None]:
    """Return the numbers of at most `limit` rows in their order, and the cursor of what follows, if anything does.

    Filters that are None say nothing. `up_to` leaves out rows that were recorded after the one of that number,
    `without` those with an id. Raises InvalidInput for a cursor that is not of this order.
    """
    given = {name: value for name, value in filters.items() if value is not None}
    order = _order(given, sort)
    values: dict[str, Any] = {"limit": limit + 1, "up_to": up_to}
    asked = dict(_filters(connection, given, values))
    way = _way(asked, order)
    conditions = [way.condition, *(one.asked.format(seq=way.seq) for one in asked.values() if one.way is not way)]
    if up_to is not None:
        conditions.append(f"{way.seq} <= :up_to")
    if without:
        values |= {f"without_{number}": one for number, one in enumerate(without)}
        ids = ", ".join(f":without_{number}" for number in range(len(without)))
        conditions.append(f"{way.seq} NOT IN (SELECT seq FROM predictions WHERE id IN ({ids}))")  # noqa: S608 (names of our own)
    keys = [*([f"w.{order.key}"] if order.key else []), way.seq]
    if cursor is not None:
        values |= _read(cursor, order)
        place = ", ".join([*([":key"] if order.key else []), ":seq"])
        conditions.append(f"({', '.join(keys)}) {'<' if order.down else '>'} ({place})")
    by = ", ".join(f"{key} {'DESC' if order.down else 'ASC'}" for key in keys)
    query = f"SELECT {', '.join(keys)} FROM {way.source} WHERE {' AND '.join(conditions)} ORDER BY {by} LIMIT :limit"  # noqa: S608 (names of our own)
    rows = connection.execute(_said(connection, query), values).all()
    following = _written(order, tuple(rows[limit - 1])) if len(rows) > limit else None
    return [row[-1] for row in rows[:limit]], following


def _said(connection: Connection, query: str) -> TextClause:
    """Return a query as the database takes it."""
    if connection.dialect.name == POSTGRESQL:
        for ours, theirs in _IN_POSTGRESQL:
            query = ours.sub(theirs, query)
    return text(query)


def _order(given: Mapping[str, Any], sort: str) -> _Order:
    in_time = "since" in given or "until" in given
    return _ORDERS_IN_TIME.get(sort, _ORDERS[sort]) if in_time else _ORDERS[sort]


def _way(asked: Mapping[str, _Filter], order: _Order) -> _Way:
    """Return what to walk along: where the order is not that of numbers, its index, else the narrowest filter's."""
    if order.key == "created_at":
        return asked["time"].way or _ALL
    if order.key is not None:
        return _Way(_BY_KEY[order.key], "w.seq")
    few = ("reference", "option", "q", "audit", "release", "verdict", "label", "source", "decision")
    ways = [asked[name].way for name in few if name in asked]
    return next((way for way in ways if way is not None), _ALL)


def _filters(connection: Connection, given: Mapping[str, Any], values: dict[str, Any]) -> Iterator[tuple[str, _Filter]]:
    """Yield the filters that are given; put what they ask for into `values`."""
    for name in ("reference", "label", "source", "decision"):
        if name in given:
            values[name] = given[name]
            yield name, _equal(name, f"ix_predictions_{name}_seq", f"= :{name}")
    for name, (rare, literal) in _RARE.items():
        if name in given:
            found = _equal(name, f"ix_predictions_{name}_seq", f"= {literal}")
            yield name, found if given[name] == rare else _Filter(f"NOT {found.asked}")
    if "release" in given:
        digests = _digests(connection, given["release"])
        values |= {f"release_{number}": digest for number, digest in enumerate(digests)}
        one_of = f"IN ({', '.join(f':release_{number}' for number in range(len(digests)))})"
        found = _equal("release_digest", "ix_predictions_release_digest_seq_decision_audit", one_of)
        yield "release", found if len(digests) == 1 else _Filter(found.asked)  # several are in no order of numbers
    if "verdict" in given:  # what was taken back is not judged
        values["verdict"] = verdict = "withdrawn" if given["verdict"] == "none" else given["verdict"]
        way = _Way("verdicts AS w", "w.prediction_seq", f"w.verdict = :verdict AND NOT {_NOT_THE_LAST}")
        last = f"coalesce({_LAST_VERDICT}, 'withdrawn') = :verdict"
        yield "verdict", _Filter(last, None if verdict == "withdrawn" else way)
    if "since" in given or "until" in given:
        values |= {"since": given.get("since", ""), "until": given.get("until", "~")}  # "~" is after every time
        inside = f"+{{seq}} IN (SELECT seq FROM predictions WHERE {_IN_TIME})"  # noqa: S608 (names of our own)
        yield "time", _Filter(inside, _Way(_BY_KEY["created_at"], "w.seq", _IN_TIME))
    if "q" in given:
        values["q"] = words = match(given["q"], connection.dialect)
        if words is None:
            values |= {"q": f"%{_LIKE.sub(_ESCAPED, given['q'])}%", "scanned": SCANNED}
            yield "q", _Filter(_MENTIONS)
        else:
            inside = f"+{{seq}} IN (SELECT rowid FROM words WHERE {_MATCHES})"  # noqa: S608 (names of our own)
            yield "q", _Filter(inside, _Way("words", "words.rowid", _MATCHES))


def _equal(column: str, index: str, value: str) -> _Filter:
    same = f"FROM predictions AS p INDEXED BY {index} WHERE p.{column} {value} AND p.seq = {{seq}}"
    return _Filter(
        f"EXISTS (SELECT 1 {same})",
        _Way(f"predictions AS w INDEXED BY {index}", "w.seq", f"w.{column} {value}"),
    )


def _digests(connection: Connection, release: str) -> list[str]:
    """Return the digests of the releases that a version, name/version or digest names."""
    name, _, version = release.rpartition("/")
    if not (version.isascii() and version.isdigit() and len(version) < 10):
        return [release]
    named = f"{_OF_ONE.format('release_name')} = :name" if "/" in release else "true"
    query = f"{_DIGESTS} WHERE {_OF_ONE.format('release_version')} = :version AND {named}"
    return list(connection.scalars(text(query), {"name": name, "version": int(version)})) or [""]


# Which releases have answered: one step along the index for each, however many predictions it has.
_DIGESTS = """WITH RECURSIVE digests (digest) AS (SELECT min(release_digest) FROM predictions UNION ALL
 SELECT (SELECT min(release_digest) FROM predictions WHERE release_digest > digest) FROM digests
 WHERE digest IS NOT NULL) SELECT digest FROM digests"""
_OF_ONE = "(SELECT {} FROM predictions WHERE release_digest = digest LIMIT 1)"


# ---- cursors ----------------------------------------------------------------------------------------------------


def _written(order: _Order, row: tuple[Any, ...]) -> str:
    key = f"{_sign(row[0])}_" if order.key else ""
    return f"{order.letter}{key}{row[-1]}"


def _sign(key: float | str) -> str:
    return key if isinstance(key, str) else struct.pack(">d", key).hex()  # all bits of it


def _read(cursor: str, order: _Order) -> dict[str, Any]:
    """Return the place that a cursor stands for; raise InvalidInput where it is none, or one of another order."""
    letters = {one.letter for one in (*_ORDERS.values(), *_ORDERS_IN_TIME.values())}
    if re.fullmatch(CURSOR, cursor) and cursor[0] in letters - {order.letter}:
        raise _refused("other_order", "This is the `next` of a list in another order; begin again without it.")
    found = re.fullmatch(f"{order.letter}{_SIGNS[order.key]}([0-9]{{1,18}})", cursor)
    sign = found.group(1) if found else ""
    key = struct.unpack(">d", bytes.fromhex(sign))[0] if order.key == "doubt" and found else sign
    if found is None or (isinstance(key, float) and not math.isfinite(key)):
        raise _refused("not_a_cursor", "This must be the `next` of an earlier page.")
    return {"key": key, "seq": int(found.group(2))}


_SIGNS = {None: "()", "doubt": "([0-9a-f]{16})_", "created_at": f"({_TIME})_"}


def _refused(code: str, detail: str) -> InvalidInput:
    return InvalidInput([Flaw("/query/cursor", code, detail)])
