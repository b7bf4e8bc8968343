"""What is sent to break the service: values, JSON, heads of requests, forms and CSV files that must be refused."""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

Record = dict[str, Any]
Named = tuple[str, bytes]

NUMBER, TEXT = "open_tickets", "subject"  # of the default model's contract

# What is no number of this contract in any kind of text: a JSON string, a form field, a cell.
NOT_NUMBERS = [
    "NaN",
    "nan",
    "Infinity",
    "-Infinity",
    "inf",
    "1e999",
    "-1e999",
    "9" * 400,
    "9" * 5000,
    "1" + "0" * 4000,
    str(2**63),
    str(-(2**63) - 1),
    "1_000",
    "１２",
    "٣",
    "0x10",
    "1e",
    "--1",
    "3.7",
    "true",
    "[]",
    "{}",
    "1,5",
    "1 000",
]
# The same as literals of JSON, where what stands for itself is no text.
NOT_NUMBER_LITERALS = [
    "NaN",
    "Infinity",
    "-Infinity",
    "1e999",
    "-1e999",
    "9" * 400,
    "9" * 5000,
    "1" + "0" * 4000,
    str(2**63),
    str(-(2**63) - 1),
    "01",
    ".5",
    "+1",
    "0x10",
    "1e",
    "3.7",
    "true",
    "false",
    "null",
    "[]",
    "{}",
    '""',
    '"5"',
    "1_000",
]
NOT_TEXTS = {"NUL": "a\0b", "bell": "a\x07b", "escape": "\x1b[2J", "delete": "a\x7f", "too long": "a" * 201}
NOT_TEXT_LITERALS = {
    "half a pair": '"\\ud800"',
    "the other half": '"\\udfff"',
    "NUL": '"a\\u0000b"',
    "object": '{"a": 1}',
    "number": "1",
    "list": '["a"]',
    "megabyte": '"' + "a" * 1_000_000 + '"',
    "null": "null",
}


def request(record: Record) -> bytes:
    """Return a request that is right."""
    return json.dumps({"input": record}).encode()


def json_bodies(record: Record, before: bytes = b'{"input": ', after: bytes = b"}") -> Iterator[Named]:
    """Yield bodies of which none is a request of the contract; what stands `before` and `after` an input is given."""
    good = before + json.dumps(record).encode() + after

    def with_literal(field: str, literal: str) -> bytes:
        return before + json.dumps({**record, field: "@@"}).replace('"@@"', literal).encode() + after

    for literal in NOT_NUMBER_LITERALS:
        yield f"number {literal[:12]} ({len(literal)})", with_literal(NUMBER, literal)
    for text in NOT_NUMBERS:
        yield f"number as text {text[:12]} ({len(text)})", with_literal(NUMBER, json.dumps(text))
    for name, literal in NOT_TEXT_LITERALS.items():
        yield f"text {name}", with_literal(TEXT, literal)
    for name, text in NOT_TEXTS.items():
        yield f"text {name}", with_literal(TEXT, json.dumps(text))
    yield "text with a raw control character", with_literal(TEXT, '"a\tb"')
    yield "text with a surrogate's bytes", with_literal(TEXT, '"@S"').replace(b"@S", b"\xed\xa0\x80")
    yield "text with bad UTF-8", with_literal(TEXT, '"@S"').replace(b"@S", b"\xff\xfe")
    yield "text with an overlong form", with_literal(TEXT, '"@S"').replace(b"@S", b"\xc0\xaf")
    for codec in ("utf-16", "utf-16-le", "utf-32", "utf-8-sig", "utf-7"):
        yield codec, good.decode().encode(codec) if codec != "utf-7" else b"+AHs-}"
    many = before + json.dumps({f"k{i}": 1 for i in range(20_000)}).encode() + after
    bodies = {
        "nothing": b"",
        "blanks": b" \n",
        "null": b"null",
        "list": b"[]",
        "number": b"1",
        "text": b'"a"',
        "more after it": good + b" x",
        "two": good + good,
        "comment": b"/**/" + good,
        "trailing comma": good[:-1] + b",}",
        "single quotes": good.replace(b'"', b"'"),
        "cut off": good[:-5],
        "unknown member": good[:-1] + b',"zz":1}',
        "unknown field": before + json.dumps({**record, "zz": 1}).encode() + after,
        "__proto__": before + json.dumps({**record, "__proto__": {"a": 1}}).encode() + after,
        "member twice": good[:-1] + b',"input":{}}',
        "field twice": good.replace(b'"subject"', b'"subject":"a","subject"', 1),
        "field twice, escaped": good.replace(b'"subject"', b'"subject":"a","\\u0073ubject"', 1),
        "field missing": before
        + json.dumps({name: value for name, value in record.items() if name != TEXT}).encode()
        + after,
        "33 deep": with_literal(TEXT, "[" * 33 + "]" * 33),
        "thousand deep": with_literal(TEXT, "[" * 1000 + "]" * 1000),
        "100,000 deep": b"[" * 100_000 + b"]" * 100_000,
        "objects in objects": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
        "20,000 fields": many,
        "no request": json.dumps(record).encode(),
    }
    yield from bodies.items()


# Each with a body that would be right.
WRONG_HEADERS: list[dict[str, str]] = [
    *(
        {"Content-Type": kind}
        for kind in (
            "",
            "text/plain",
            "text/json",
            "application/vnd.x+json",
            "application/x-www-form-urlencoded",
            "multipart/form-data",
            "multipart/form-data; boundary=",
            "application/json, text/html",
            "application/json;charset=utf-16",
        )
    ),
    *(
        {"Content-Type": "application/json", "Content-Encoding": one}
        for one in ("gzip", "br", "zstd", "deflate", "no such")
    ),
]
BOMB = gzip.compress(b"0" * 10_000_000)
WRONG_METHODS = ["PUT", "DELETE", "PATCH", "TRACE", "FOO", "CONNECT"]


def heads(path: str) -> Iterator[Named]:
    """Yield requests that no two readers may read differently; `path` answers a GET."""
    get = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n".encode()
    post = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n".encode()
    hidden = b"GET /evil HTTP/1.1\r\nHost: evil.example\r\n\r\n"
    yield "length and chunks", post + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + hidden
    for value in (
        b"xchunked",
        b"chunked, identity",
        b"gzip, chunked",
        b"identity",
        b"\x0bchunked",
        b"chunked;q=1",
        b"chu\0nked",
        b"chunked\r\nTransfer-Encoding: chunked",
        b"chunked\r\nTransfer-Encoding: x",
    ):
        yield f"transfer encoding {value!r}", post + b"Transfer-Encoding: " + value + b"\r\n\r\n0\r\n\r\n" + hidden
    for value in (
        b"+2",
        b"-1",
        b"1_0",
        b"0x2",
        b"2 2",
        b"2, 2",
        b"2\r\nContent-Length: 3",
        b"9" * 20,
        b"\xb2",
        b"2a",
        b"",
    ):
        yield f"length {value!r}", post + b"Content-Length: " + value + b"\r\n\r\n{}" + hidden
    lines = {
        "a blank before the colon": b"X-A : 1",
        "a folded line": b"X-A: 1\r\n 2",
        "a NUL": b"X-A: a\0b",
        "no name": b": v",
        "a bare CR": b"X-A: a\rb",
        "no colon": b"X-A",
        "a blank in a name": b"X A: 1",
        "Host twice": b"Host: evil.example",
        "a header of 9 kB": b"X-A: " + b"a" * 9000,
        "500 headers": b"\r\n".join(b"X-%d: 1" % n for n in range(500)),
    }
    for name, line in lines.items():
        yield name, get + line + b"\r\n\r\n"
    yield "no Host", f"GET {path} HTTP/1.1\r\nConnection: close\r\n\r\n".encode()
    for host in (
        b"a b/../",
        b"evil.example",
        b"127.0.0.1@evil.example",
        b"127.0.0.1, evil.example",
    ):
        yield f"Host {host!r}", get.replace(b"127.0.0.1", host) + b"\r\n"
    for target in (
        b"*",
        b"x",
        b"//evil.example/",
        b"http://evil.example/livez",
        b"/%00",
        b"/..%2f..%2fetc%2fpasswd",
        b"/../../etc/passwd",
        b"/static/..%2f..%2fsetup.cfg",
        b"/static/%2e%2e/setup.cfg",
        b"/\xff",
        b"/%ff",
        b"/%zz",
        b"/evil\0",
        b"/" + b"a" * 9000,
    ):
        yield f"target {target[:24]!r}", get.replace(path.encode(), target, 1) + b"\r\n"
    yield "another version", get.replace(b"HTTP/1.1", b"HTTP/9.9") + b"\r\n"
    yield "no version", b"GET /livez evil\r\n\r\n"
    yield "TLS", b"\x16\x03\x01\x02\x00" + b"\x01" * 60 + b"\r\n\r\n"
    for chunks in (
        b"zz\r\n{}\r\n0\r\n\r\n",
        b"-2\r\n{}\r\n0\r\n\r\n",
        b"0x2\r\n{}\r\n0\r\n\r\n",
        b"2\r\n{}evil0\r\n\r\n",
    ):
        yield f"chunks {chunks!r}", post + b"Transfer-Encoding: chunked\r\n\r\n" + chunks
    yield "HTTP/2 without being asked", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


def as_form(texts: dict[str, str]) -> bytes:
    """Return a form as browsers send it; what is percent-encoded in a text already stays as it is."""
    return "&".join(f"{quote(name)}={quote(text, safe='%')}" for name, text in texts.items()).encode()


def forms(texts: dict[str, str]) -> Iterator[Named]:
    """Yield forms of the first page of which none is a request of the contract; `texts` is one that is right."""

    def form(**changes: str) -> bytes:
        return as_form({**texts, **changes})

    for text in NOT_NUMBERS:
        yield f"number {text[:12]} ({len(text)})", form(**{NUMBER: text})
    for name, text in NOT_TEXTS.items():
        yield f"text {name}", form(**{TEXT: quote(text)})
    for name, text in {"surrogate": "%ED%A0%80", "bad UTF-8": "%FF%FE", "overlong": "%C0%AF"}.items():
        yield f"text {name}", form(**{TEXT: text})
    yield "field twice", form() + b"&subject=b"
    yield "unknown field", form() + b"&zz=1"
    yield "10,001 fields", b"&".join(b"k%d=1" % n for n in range(10_001))
    yield "half a megabyte of signs", b"&" * 500_000 + form() + b"&zz=1"


def as_csv(header: list[str], *rows: list[str], delimiter: str = ",", end: str = "\r\n") -> str:
    out = io.StringIO(newline="")
    csv.writer(out, delimiter=delimiter, lineterminator=end).writerows([header, *rows])
    return out.getvalue()


def files(record: Record) -> Iterator[tuple[str, bytes, bool]]:
    """Yield CSV files of one row, and whether that row is answered: else the file is refused, or the row is."""
    names = list(record)
    cells = [
        "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
        for value in record.values()
    ]
    good = as_csv(names, cells)

    def changed(name: str, cell: str) -> bytes:
        return as_csv(names, [cell if one == name else old for one, old in zip(names, cells, strict=True)]).encode()

    for name, text in {
        "as it is": good,
        "byte order mark": "\ufeff" + good,
        "semicolons": as_csv(names, cells, delimiter=";"),
        "tabs": as_csv(names, cells, delimiter="\t"),
        "lines ended by CR": as_csv(names, cells, end="\r"),
        "lines ended by LF": as_csv(names, cells, end="\n"),
        "empty lines": good + "\r\n" * 1000,
        "no line end": good.rstrip(),
        "columns in another order": as_csv(names[::-1], cells[::-1]),
    }.items():
        yield name, text.encode(), True
    yield "a formula", changed(TEXT, '=HYPERLINK("http://evil.example")'), True
    texts = {
        "a cell too few": as_csv(names, cells[:-1]),
        "a cell too many": as_csv(names, [*cells, "x"]),
        "column twice": as_csv([*names, names[0]], [*cells, cells[0]]),
        "column missing": as_csv(names[1:], cells[1:]),
        "column unknown": as_csv([*names, "zz"], [*cells, "1"]),
        "column without a name": as_csv([*names, ""], [*cells, "1"]),
        "no header": as_csv(cells),
        "no rows": as_csv(names),
        "empty first line": "\n" + good,
        "quote not closed": good + '"a',
        "more after a quote": good.replace("\r\n", '\r\n"a"b,', 1),
        "100,000 columns": ",".join(f"c{n}" for n in range(100_000)) + "\n1\n",
        "200 kB in a cell": changed(TEXT, "a" * 200_000).decode(),
        "megabyte of commas": good + "," * 1_000_000,
    }
    for name, text in texts.items():
        rows = name not in ("quote not closed", "megabyte of commas")  # these follow a row that is right
        yield name, text.encode() if rows else text.replace(good, good.split("\r\n")[0] + "\r\n").encode(), False
    odd = {
        "UTF-16": good.encode("utf-16"),
        "UTF-32": good.encode("utf-32"),
        "Latin-1": changed(TEXT, "é").decode().encode("latin-1"),
        "NUL": changed(TEXT, "a\0b"),
        "zip": b"PK\x03\x04" + bytes(range(256)) * 4,
        "gzip": gzip.compress(good.encode()),
        "nothing": b"",
        "blanks": b" \r\n \r\n",
        "page": b"<!doctype html><p>evil",
        "binary": bytes(range(256)) * 100,
    }
    for name, content in odd.items():
        yield name, content, False
    for text in NOT_NUMBERS:
        yield f"number {text[:12]} ({len(text)})", changed(NUMBER, text), False
    for name, text in NOT_TEXTS.items():
        yield f"text {name}", changed(TEXT, text), False


BOUNDARY = "reviewapp-soak"
FILE_HEAD = (
    f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="a.csv"\r\nContent-Type: text/csv\r\n\r\n'
)
FILE_END = f"\r\n--{BOUNDARY}--\r\n"


def file_form(content: bytes) -> bytes:
    """Return the form that the upload page sends, with a file in it that is answered at once."""
    return FILE_HEAD.encode() + content + FILE_END.encode()


def file_forms(record: Record) -> Iterator[Named]:
    """Yield forms with files that cannot be read as such."""
    [good] = [content for name, content, _ in files(record) if name == "as it is"]
    part = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{{}}"\r\n\r\n{{}}\r\n'
    end = f"--{BOUNDARY}--\r\n".encode()
    yield "cut off", file_form(good)[: -len(FILE_END) - 20]
    yield "1,001 parts", "".join(part.format(f"x{n}", n) for n in range(1001)).encode() + end
    yield "600 kB in a field", part.format("form", "a" * 600_000).encode() + file_form(good)
    yield "two files", FILE_HEAD.encode() + good + b"\r\n" + file_form(good)
    yield "another file", file_form(good).replace(b'name="file"', b'name="other"')
    yield "no file name", file_form(good).replace(b'; filename="a.csv"', b"")
    yield "a file name of 10 MB", file_form(good).replace(b"a.csv", b"a" * 10_000_000)
    yield "many CR", FILE_HEAD.encode() + b"\r" * 1_000_000
    yield "no form at all", good
    yield "nothing", b""
