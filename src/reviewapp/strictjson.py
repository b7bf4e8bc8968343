"""Read JSON strictly: what RFC 8259 leaves open (duplicate names, NaN, lone surrogates, depth) is refused.

Numbers keep their meaning: a literal that no 64-bit type holds is not a syntax error, so it is handed on as a
float (perhaps infinite) for the contract's limits to refuse with a pointer.
"""

from __future__ import annotations

import json
from typing import Any

import orjson

from .errors import NotJSON

MAX_DEPTH = 32
_LONGEST_INT64 = len(str(-(2**63)))  # more characters than this hold no 64-bit integer


def loads(raw: bytes) -> Any:
    """Return the value that the UTF-8 bytes `raw` say, or raise NotJSON naming what is wrong and where."""
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
