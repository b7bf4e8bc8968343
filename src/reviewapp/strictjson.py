"""Read JSON strictly: what RFC 8259 leaves open (duplicate names, NaN, lone surrogates, depth) is refused.

Numbers keep their meaning: a literal that no 64-bit type holds is not a syntax error, so it is handed on as a
float (perhaps infinite) for the contract's limits to refuse with a pointer.

orjson reads first, several times faster; what it read counts only where the strict decoder would have read the same.
That one is the authority on all that is odd, and the only one that says what is wrong.
"""

from __future__ import annotations

import json
import re
from typing import Any

import orjson

from .errors import NotJSON

MAX_DEPTH = 32
_LONGEST_INT64 = len(str(-(2**63)))  # more characters than this hold no 64-bit integer


_EXACT = 2.0**63  # orjson gives a float for an integer literal beyond 64 bits, where the strict decoder may give an int
_COLON = re.compile(rb'"[ \t\n\r]*:')


class _Doubt(Exception):
    """What orjson read may not be what the strict decoder would have read."""


def loads(raw: bytes) -> Any:
    """Return the value that the UTF-8 bytes `raw` say, or raise NotJSON naming what is wrong and where."""
    try:
        value = orjson.loads(raw)
        members = _members(value, MAX_DEPTH)
    except (orjson.JSONDecodeError, _Doubt):
        return _strict(raw)
    # Of a member named twice orjson keeps the last. Each member has a colon of its own, so as many colons as members
    # leave none over for a second; inside a text there may be more colons, but none after a bare quotation mark.
    if raw.count(b":") != members and len(_COLON.findall(raw)) != members:
        return _strict(raw)
    return value


def _members(value: Any, depth: int) -> int:
    """Return how many members the objects within a value have; raise _Doubt where it nests deeper, or by a number."""
    kind = type(value)
    if kind is dict:
        found, inside = len(value), value.values()
    elif kind is list:
        found, inside = 0, value
    else:
        if kind is float and not -_EXACT < value < _EXACT:
            raise _Doubt
        return 0
    if not depth:
        raise _Doubt
    for one in inside:
        kind = type(one)
        if kind is dict or kind is list or kind is float:
            found += _members(one, depth - 1)
    return found


def _strict(raw: bytes) -> Any:
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise NotJSON(f"Byte {error.start} is not UTF-8; JSON is sent as UTF-8 without a byte order mark.") from None
    # Fewer brackets than the limit cannot nest deeper; only a body with many of them pays for the exact count.
    if raw.count(b"[") + raw.count(b"{") > MAX_DEPTH and _depth(raw) > MAX_DEPTH:
        raise NotJSON(f"Arrays and objects may nest {MAX_DEPTH} deep, not deeper.")
    try:
        value = _DECODER.decode(text)
    except json.JSONDecodeError as error:
        raise NotJSON(f"{error.msg} at line {error.lineno}, column {error.colno}.") from None
    if b"\\u" in raw and _has_lone_surrogate(value):
        raise NotJSON("A \\u escape names half of a surrogate pair, which is no character.")
    return value


def dumps(value: Any) -> bytes:
    """Return compact JSON; non-finite numbers cannot occur in what we send, orjson would write them as null."""
    return orjson.dumps(value)


def _depth(raw: bytes) -> int:
    """Return how deep brackets nest, those inside strings left out, in one pass without recursion."""
    depth = deepest = 0
    in_string = escaped = False
    for byte in raw:
        if in_string:
            if escaped:
                escaped = False
            elif byte == 0x5C:  # backslash
                escaped = True
            elif byte == 0x22:  # quotation mark
                in_string = False
        elif byte == 0x22:
            in_string = True
        elif byte in b"[{":
            depth += 1
            if depth > deepest:
                deepest = depth
                if deepest > MAX_DEPTH:
                    break
        elif byte in b"]}":
            depth -= 1
    return deepest


def _has_lone_surrogate(value: Any) -> bool:
    try:
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        return True
    return False


def _refuse_constant(name: str) -> Any:
    raise NotJSON(f"{name} is not JSON; a number is finite, and a missing value is null.")


def _integer(literal: str) -> int | float:
    return int(literal) if len(literal) <= _LONGEST_INT64 else float(literal)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise NotJSON("An object names the same member twice; which one is meant cannot be known.")
    return members


_DECODER = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_refuse_constant, parse_int=_integer, strict=True)
