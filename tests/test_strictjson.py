"""JSON is read strictly: what is ambiguous is refused, and refused quickly."""

import math

import pytest

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
