"""Trial: does every request get the answer that the contract and the protocol promise?

Requests are made from the contract and the generator with a seed: valid ones, one for every rule of every field, one
for every rule of the protocol. Each says beforehand what must come back.
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from ..bodies import MAX_BATCH, verdict_fields
from ..contract import Contract
from ..samples import broken_requests, example_record, valid_record
from .running import TEST, Answer, Trial
from .tables import Column, Row, Table, key

VALID = 1000
SENDERS = 8
PREDICT = "/api/v1/predictions"
VALUES = ("value", "low", "high")  # what an output is made of where it is a value
TOLERANCE = 1e-9  # between the answer over HTTP and the model asked directly


@dataclass(frozen=True)
class Request:
    """One request and what must come back. `role` signs it in, None not at all; `body` is sent as it is."""

    name: str
    kind: str
    rule: str
    body: bytes | None
    status: int
    code: str = ""
    pointer: str = ""
    method: str = "POST"
    path: str = PREDICT
    role: str | None = "submit"
    headers: Mapping[str, str] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        shown: dict[str, Any] = {"name": self.name, "kind": self.kind, "rule": self.rule}
        if self.kind == "protocol":
            body = None if self.body is None else self.body[:200].decode("latin-1")
            size = 0 if self.body is None else len(self.body)
            shown |= {"method": self.method, "path": self.path, "role": self.role, "headers": dict(self.headers)}
            shown |= {"body": body, "bytes": size}
        else:
            shown |= {"body": json.loads(self.body or b"null")}
        return shown | {"expected": {"status": self.status, "code": self.code, "pointer": self.pointer}}


def synthetic_requests(trial: Trial) -> list[Request]:
    """Return all requests of the trial, the same ones for the same release and seed."""
    rng = random.Random(trial.seed)  # noqa: S311 (samples, not secrets)
    contract = trial.release.contract
    records = [dict(example.record) for example in trial.examples[TEST][: VALID // 2]]
    records += [valid_record(contract, rng) for _ in range(VALID - len(records))]
    valid = [
        Request(f"valid-{n:04}", "valid", "", _json({"input": record}), 201) for n, record in enumerate(records, 1)
    ]
    broken = [
        Request(f"field-{n:03}", "field", f"{one.pointer}: {one.rule}", _json({"input": one.record}), 422, one.code,
                one.pointer)
        for n, one in enumerate(broken_requests(contract, rng), 1)
    ]  # fmt: skip
    return [*valid, *broken, *protocol_requests(contract)]


def protocol_requests(contract: Contract) -> Iterator[Request]:
    """Yield one request for each rule of the protocol."""
    record = example_record(contract)
    good = _json({"input": record})
    batch = f"{PREDICT}/batch"
    json_type = {"Content-Type": "application/json"}
    inner = _json(record).decode()
    number = 0

    def one(rule: str, status: int, code: str, body: bytes | None = good, pointer: str = "", **more: Any) -> Request:
        nonlocal number
        number += 1
        return Request(f"protocol-{number:02}", "protocol", rule, body, status, code, pointer, **more)

    # who asks, and for what
    yield one("no token", 401, "unauthenticated", role=None)
    yield one("unknown token", 401, "unauthenticated", role=None, headers={"Authorization": "Bearer no-such-token"})
    yield one("another scheme", 401, "unauthenticated", role=None, headers={"Authorization": "Basic YTpi"})
    yield one("role too low", 403, "forbidden", None, method="GET")
    yield one(
        "role too low to move a release", 403, "forbidden", _json({"reason": "x"}), path="/api/v1/releases/rollback"
    )
    yield one("unknown route", 404, "not-found", None, method="GET", path="/api/v1/nothing")
    yield one("unknown prediction", 404, "not-found", None, method="GET", path=f"{PREDICT}/no-such-id")
    yield one("wrong method", 405, "method-not-allowed", None, method="DELETE")
    yield one("foreign host", 400, "bad-request", headers={"Host": "elsewhere.example"})
    yield one("answer of another kind wanted", 406, "not-acceptable", headers={"Accept": "text/csv"})
    # how the body is sent
    yield one("wrong media type", 415, "unsupported-media-type", headers={"Content-Type": "text/plain"})
    yield one(
        "other character set",
        415,
        "unsupported-media-type",
        headers={"Content-Type": "application/json; charset=utf-16"},
    )
    yield one("compressed", 415, "unsupported-media-type", headers={**json_type, "Content-Encoding": "gzip"})
    yield one("too large", 413, "too-large", b'{"input": "' + b"x" * (1 << 20) + b'"}')
    # strict JSON
    for rule, body in {
        "empty body": b"",
        "not JSON": b"input=1",
        "broken off": good[:-1],
        "two documents": good + good,
        "NaN": b'{"input": NaN}',
        "Infinity": b'{"input": -Infinity}',
        "duplicate key": b'{"input": {}, "input": ' + inner.encode() + b"}",
        "deep nesting": b'{"input": ' + b"[" * 40 + b"]" * 40 + b"}",
        "very deep nesting": b"[" * 100_000,
        "lone surrogate": b'{"input": "\\ud800"}',
        "bad UTF-8": b'{"input": "\xff"}',
        "byte order mark": b"\xef\xbb\xbf" + good,
        "UTF-16": good.decode().encode("utf-16"),
    }.items():  # fmt: skip
        yield one(rule, 400, "not-json", body)
    # the envelope
    yield one("not an object", 422, "not_an_object", b"[]")
    yield one("no input", 422, "missing", b"{}", "/input")
    yield one("unknown member", 422, "unknown_member", _json({"input": record, "extra": 1}), "/extra")
    yield one("reference too long", 422, "too_long", _json({"input": record, "reference": "x" * 201}), "/reference")
    yield one("reference of another type", 422, "wrong_type", _json({"input": record, "reference": 1}), "/reference")
    yield one("empty batch", 422, "too_few_items", _json({"inputs": []}), "/inputs", path=batch)
    yield one("too many rows", 422, "too_many_items", _json({"inputs": [{}] * (MAX_BATCH + 1)}), "/inputs", path=batch)
    yield one("one bad row", 422, "not_an_object", _json({"inputs": [record, 3, record]}), "/inputs/1", path=batch)
    # options and headers
    yield one("unknown option", 422, "unknown_member", pointer="/query/colour", path=f"{PREDICT}?colour=red")
    yield one("option of another type", 422, "wrong_type", pointer="/query/explain", path=f"{PREDICT}?explain=perhaps")
    yield one(
        "option given twice", 422, "given_twice", pointer="/query/explain", path=f"{PREDICT}?explain=true&explain=false"
    )
    yield one(
        "page size too large",
        422,
        "too_large",
        None,
        "/query/limit",
        method="GET",
        path=f"{PREDICT}?limit=201",
        role="review",
    )
    yield one("idempotency key too long", 400, "bad-request", headers={**json_type, "Idempotency-Key": "k" * 256})
    yield one("idempotency key, first use", 201, "", headers={**json_type, "Idempotency-Key": "evidence"})
    yield one("idempotency key, same request again", 201, "", headers={**json_type, "Idempotency-Key": "evidence"})
    yield one(
        "idempotency key, another request",
        422,
        "idempotency-key-reused",
        _json({"input": record, "reference": "other"}),
        headers={**json_type, "Idempotency-Key": "evidence"},
    )
    yield one(
        "no such verdict",
        422,
        "not_a_choice",
        _json({"verdict": "perhaps"}),
        "/verdict",
        method="PUT",
        path=f"{PREDICT}/{{id}}/verdict",
        role="review",
    )
    yield one(
        "a correction without what is right",
        422,
        "missing",
        _json({"verdict": "corrected"}),
        f"/{verdict_fields(contract.outcome)[1].name}",
        method="PUT",
        path=f"{PREDICT}/{{id}}/verdict",
        role="review",
    )
    yield one("a move without a reason", 422, "missing", b"{}", "/reason", path="/api/v1/releases/rollback",
              role="admin")  # fmt: skip


def outcomes(trial: Trial, requests: Sequence[Request]) -> list[Table]:
    """Send the requests and return what came back: one row each, and the sum by kind."""
    valid = [request for request in requests if request.kind == "valid"]
    with ThreadPoolExecutor(SENDERS) as senders:
        answers = list(senders.map(lambda request: _send(trial, request, ""), valid))
    expected = _direct_answers(trial, valid)
    rows = [
        _row(request, answer) | {"ok": _same(answer, output)}
        for request, answer, output in zip(valid, answers, expected, strict=True)
    ]
    recorded = str(answers[0][1].get("id"))
    rows += [_row(one, _send(trial, one, recorded)) for one in requests if one.kind != "valid"]
    return [_outcomes_table(rows, trial.release.contract), _summary_table(rows)]


def _send(trial: Trial, request: Request, prediction_id: str) -> Answer:
    headers = {**(trial.headers[request.role] if request.role else {}), **request.headers}
    if request.body is not None:
        headers.setdefault("Content-Type", "application/json")
    path = request.path.replace("{id}", prediction_id)
    return trial.service.call(request.method, path, request.body, headers, fresh=request.kind == "protocol")


def _direct_answers(trial: Trial, requests: Sequence[Request]) -> list[dict[str, Any]]:
    contract = trial.release.contract
    records = [{name: json.loads(one.body or b"")["input"].get(name) for name in contract.names} for one in requests]
    return trial.adapter.outputs("model", records)


def _same(answer: Answer, expected: Mapping[str, Any]) -> str:
    """Return yes where an answer is the model's own, asked directly: its label and probabilities, or its value."""
    if answer[0] != 201:
        return "no"
    return "yes" if same_output(answer[1]["output"], expected) else "no"


def same_output(given: Mapping[str, Any], expected: Mapping[str, Any]) -> bool:
    """Whether two outputs agree: in label and probabilities, or in value and interval, relative to their size."""
    if "label" not in expected:
        size = max(abs(expected[name]) for name in VALUES)
        return all(abs(given[name] - expected[name]) <= TOLERANCE * size for name in VALUES)
    shares = expected["probabilities"]
    close = (math.isclose(given["probabilities"][k], v, rel_tol=0, abs_tol=TOLERANCE) for k, v in shares.items())
    return bool(given["label"] == expected["label"]) and all(close)


def _row(request: Request, answer: Answer) -> dict[str, Any]:
    status, body, _ = answer
    code = pointer = ""
    if status >= 400 and isinstance(body, dict):
        flaws = body.get("errors", [])
        code = " ".join(flaw["code"] for flaw in flaws) or str(body.get("type", "")).rpartition("/")[2]
        pointer = " ".join(flaw["pointer"] for flaw in flaws)
    same = (request.status, request.code, request.pointer) == (status, code, pointer)
    return {
        "name": request.name,
        "kind": request.kind,
        "rule": request.rule,
        "expected_status": request.status,
        "expected_code": request.code,
        "expected_pointer": request.pointer,
        "status": status,
        "code": code,
        "pointer": pointer,
        "ok": "yes" if same else "no",
    }


def _outcomes_table(rows: Sequence[Row], contract: Contract) -> Table:
    columns = [
        key("name", "Request"),
        Column("kind", "Kind"),
        Column("rule", "Rule that is broken"),
        Column("expected_status", "Status expected", "d"),
        Column("expected_code", "Code expected"),
        Column("expected_pointer", "Pointer expected"),
        Column("status", "Status", "d"),
        Column("code", "Code"),
        Column("pointer", "Pointer"),
        Column("ok", "As expected"),
    ]
    reading = (
        "One row a request; a valid one is as expected if it got 201 and the model's own answer to "
        f"{TOLERANCE:g} {'in every probability' if contract.outcome.labels else 'of its size'}."
    )
    return Table("outcomes", "Validation outcomes, request by request", reading, columns, rows)


def _summary_table(rows: Sequence[Row]) -> Table:
    named = {"valid": "valid requests", "field": "a rule of a field broken", "protocol": "a rule of the protocol"}
    sums = []
    for kind, title in [*named.items(), ("", "all")]:
        of_kind = [row for row in rows if kind in ("", row["kind"])]
        right = sum(row["ok"] == "yes" for row in of_kind)
        sums.append(
            {
                "kind": title,
                "sent": len(of_kind),
                "as_expected": right,
                "missed": len(of_kind) - right,
                "failures": sum(row["status"] >= 500 for row in of_kind),
                "upper": 1 - 0.05 ** (1 / len(of_kind)) if right == len(of_kind) else None,
            }
        )
    columns = [
        key("kind", "Requests"),
        Column("sent", "Sent", "d"),
        Column("as_expected", "As expected", "d"),
        Column("missed", "Missed", "d"),
        Column("failures", "Status 5xx", "d"),
        Column("upper", "Rate of misses is below (95 %)", ".4f"),
    ]
    reading = (
        "Status, code and pointer are compared with what was expected beforehand. The last column is what no miss "
        "among so many shows."
    )
    return Table("outcomes_by_kind", "Validation outcomes", reading, columns, sums)


def _json(document: Any) -> bytes:
    return json.dumps(document, ensure_ascii=False).encode()
