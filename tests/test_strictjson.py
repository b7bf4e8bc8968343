"""JSON is read strictly: what is ambiguous is refused, and refused quickly."""

import json
import math
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from reviewapp import strictjson
from reviewapp.errors import NotJSON


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"nul",
        b"01",
        b".5",
        b"+1",
        b"0x10",
        b"{} x",
        b"/**/{}",
        b"{'a': 1}",
        b"[1,]",
        b"NaN",
        b'{"a": Infinity}',
        b"-Infinity",
        b'{"a": 1, "a": 1}',
        b'[{"a": {"b": 1, "b": 2}}]',
        b'"\\ud800"',
        b'["\\udc00 \\ud83d"]',
        b'{"\\ud800": 1}',
        b"\xef\xbb\xbf{}",
        '{"a": 1}'.encode("utf-16"),
        '{"a": 1}'.encode("utf-32"),
        b'"\xff"',
        b'"\xed\xa0\x80"',
        b'"a\nb"',
        b'"a\x00b"',
        b"[" * 33 + b"]" * 33,
        b"[" * 100_000 + b"]" * 100_000,
        b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
        b'{"a": "' + b"[" * 40,
    ],
)
def test_what_is_no_strict_json_is_refused_with_a_reason(body: bytes) -> None:
    with pytest.raises(NotJSON) as refused:
        strictjson.loads(body)
    assert refused.value.detail.endswith(".")


@pytest.mark.parametrize(
    ("body", "value"),
    [
        (b'{"a": [1, 2.5, "x", null, true]}', {"a": [1, 2.5, "x", None, True]}),
        (b'"\\ud83d\\ude42"', "🙂"),
        ('"Größe"'.encode(), "Größe"),
        (b"[" * 32 + b"]" * 32, None),
        (b'["' + b"[" * 500 + b'\\"]"]', None),
        (b'{"a": {"b": 1}, "b": 1}', {"a": {"b": 1}, "b": 1}),
    ],
)
def test_strict_json_is_read(body: bytes, value: object) -> None:
    read = strictjson.loads(body)
    assert value is None or read == value


def test_numbers_too_long_for_64_bits_are_left_for_the_contract_to_refuse() -> None:
    assert strictjson.loads(b"9223372036854775807") == 2**63 - 1
    assert strictjson.loads(b"9223372036854775808") == 2**63
    assert strictjson.loads(b"1e999") == math.inf
    assert strictjson.loads(b"9" * 5000) == math.inf
    assert strictjson.loads(b"-" + b"9" * 5000) == -math.inf


def test_a_megabyte_of_empty_objects_is_read() -> None:
    assert len(strictjson.loads(b"[" + b"{}," * 300_000 + b"{}]")) == 300_001


# ---- orjson reads first, and only what it reads as the strict decoder does counts -------------------------------

NUMBERS = ["-0", "-0.0", "1e400", "-1e400", "1e-400", "9223372036854775808", "18446744073709551616"]
NUMBERS += ["-9223372036854775809", "9" * 30, "9" * 400, "9" * 5000, "3.0", "1E5", "0.1", "123456789012345678901.5"]
SPACE = st.sampled_from(["", " ", "\n\t", "\r\n "])
NAMES = st.sampled_from(["a", "b", "a:", '\\"a\\":', "\\u0061", "é", "\\ud83d\\ude42", ""])  # as literals stand in JSON
LEAF = st.one_of(
    st.sampled_from(["null", "true", "false", "NaN", "Infinity", '"\\ud800"', '": "', '"\\":1"', '"a"', *NUMBERS]),
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.integers(-(2**70), 2**70).map(str),
    st.text(max_size=5).map(json.dumps),
    st.text(max_size=5).map(lambda text: json.dumps(text, ensure_ascii=False)),
)


def _list(inside: Any) -> Any:
    return st.tuples(SPACE, st.lists(inside, max_size=3)).map(lambda of: f"[{of[0]}{(',' + of[0]).join(of[1])}]")


def _object(inside: Any) -> Any:
    member = st.tuples(NAMES, SPACE, SPACE, inside).map(lambda of: f'"{of[0]}"{of[1]}:{of[2]}{of[3]}')
    return st.lists(member, max_size=4).map(lambda members: "{" + ",".join(members) + "}")


def read(body: bytes) -> tuple[str, Any]:
    """What is read, kinds of numbers and order of members included, or what is said to be wrong."""
    try:
        return "value", repr(strictjson.loads(body))
    except NotJSON as error:
        return "error", error.detail


def read_strictly(body: bytes) -> tuple[str, Any]:
    with patch.object(strictjson.orjson, "loads", side_effect=strictjson.orjson.JSONDecodeError("", "", 0)):
        return read(body)


@given(st.recursive(LEAF, lambda inside: st.one_of(_list(inside), _object(inside)), max_leaves=12))
@example('{"a":1,"a" :2}')
@example('{"a":":","a":":"}')
@example('{"a":{"b":1,"b":2},"c":"\\"x\\":"}')
def test_what_is_read_quickly_is_what_the_strict_decoder_reads_and_says(text: str) -> None:
    body = text.encode("utf-8", "surrogatepass")
    assert read(body) == read_strictly(body)


@given(st.binary(max_size=40), st.integers(0, 200))
def test_no_byte_put_into_a_request_is_read_quickly_that_the_strict_decoder_refuses(put: bytes, at: int) -> None:
    whole = '{"input": {"a": "é: x", "b" : [1, -2.5e3, null]}, "reference": "\\"r\\": 1"}'.encode()
    at %= len(whole)
    for body in (whole[:at] + put + whole[at:], whole[:at] + put + whole[at + len(put) :]):
        assert read(body) == read_strictly(body)


@pytest.mark.parametrize("deep", [31, 32, 33, 34])
def test_objects_and_lists_nest_as_deep_however_they_are_read(deep: int) -> None:
    for body in (b"[" * deep + b"]" * deep, b'{"a":' * deep + b"1" + b"}" * deep, b"[" * deep + b"1.5" + b"]" * deep):
        assert read(body) == read_strictly(body)
        assert (read(body)[0] == "value") == (deep <= strictjson.MAX_DEPTH)


def test_an_ordinary_request_needs_no_second_reading() -> None:
    body = b'{"input": {"subject": "Re: again: \\"no\\"", "n": 3, "share": 0.0, "x" : null}, "reference": null}'
    with patch.object(strictjson, "_strict", side_effect=AssertionError):
        assert strictjson.loads(body)["input"]["n"] == 3
