"""Row 1: whatever is asked for, the answer is one that the service's own OpenAPI document promises.

Schemathesis reads the document from the running service and makes requests of it: examples, boundaries, right and
wrong values at random, and chains in which one answer's id is the next request's.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import schemathesis
from schemathesis.config import SchemathesisConfig
from schemathesis.engine import events, from_schema
from tests.service import Service

from .figures import Figure, all_of, below, none
from .instances import served, signed_in

SEEDS = (1, 2, 3)
CASES, SHORT = 50_000, 1_500  # at least so many, of all seeds; the short form has one, for boundaries need no seed
EXAMPLES, SHORT_EXAMPLES = 1100, 55  # of an operation, with one seed; boundaries and chains come on top
SLOWEST, SHORT_SLOWEST = 2.0, 20.0  # seconds; the short form runs where much else does

# What a check is about, as the figures say it. Any other is of what the document promises, too.
PROMISES = {
    "not_a_server_error": "answers of 500 and above",
    "status_code_conformance": "answers of a status that the document does not have",
    "content_type_conformance": "answers that do not match their schema, type or headers",
    "response_schema_conformance": "answers that do not match their schema, type or headers",
    "response_headers_conformance": "answers that do not match their schema, type or headers",
}
REST = "answers that differ otherwise: refused though right, taken though wrong, without a token, a wrong Allow"
NEVER_SENT = "requests that could not be made or sent"

# What no schema can say. Of a request that is right by the document: what depends on other requests or on the calendar.
UNSAID = {"/problems/idempotency-key-reused", "other_order", "not_a_cursor", "not_a_time"}
# Of an operation: what a file holds, whose rows are right or wrong each for itself; and that there may be no verdict to
# take back from a prediction that is there.
UNSAID_OF = [
    {"include-name": "POST /api/v1/predictions/bulk",
     "checks": {"positive_data_acceptance": {"enabled": False}, "negative_data_rejection": {"enabled": False}}},
    {"include-name": "DELETE /api/v1/predictions/{prediction_id}/verdict",
     "checks": {"ensure_resource_availability": {"enabled": False}}},
]  # fmt: skip


class Found:
    """What the answers of all seeds have in common."""

    def __init__(self) -> None:
        self.cases, self.slowest = 0, 0.0
        self.kinds: Counter[str] = Counter()
        self.answered: set[str] = set()  # operations
        self._shown: set[tuple[str, str]] = set()

    def add(self, recorder: Any) -> None:
        """Count a scenario: requests that belong together, their answers, and what was checked of them."""
        for case, sent in recorder.interactions.items():
            self.cases += 1
            if sent.response is not None:
                self.slowest = max(self.slowest, sent.response.elapsed)
                if case in recorder.cases:
                    self.answered.add(recorder.cases[case].value.operation.label)
        for case, checks in recorder.checks.items():
            for check in checks:
                if check.failure_info is not None:
                    self._fail(recorder.interactions[case], recorder.label, check)

    def _fail(self, sent: Any, label: str, check: Any) -> None:
        if check.name == "positive_data_acceptance" and _says(sent.response) & UNSAID:
            return
        self.kinds[PROMISES.get(check.name, REST)] += 1
        answer = b"" if sent.response is None else sent.response.content[:1000]
        asked = f"{sent.request.method} {sent.request.uri} {sent.request.body!r:.1000}"
        self.show(label, check.name, f"{check.failure_info.failure}\n{asked}\n{answer!r}")

    def lack(self, label: str, reason: str) -> None:
        self.kinds[NEVER_SENT] += 1
        self.show(label, NEVER_SENT, reason)

    def show(self, label: str, kind: str, what: str) -> None:
        """Print the first of a kind, for whoever has to mend it."""
        if (label, kind) not in self._shown:
            self._shown.add((label, kind))
            print(f"{label}: {kind}: {what}", file=sys.stderr)


def run(folder: Path, *, full: bool) -> list[Figure]:
    wanted, seeds, found = (CASES, SEEDS, Found()) if full else (SHORT, SEEDS[:1], Found())
    with served(folder / "instance") as service:
        admin = signed_in(service, "admin")
        operations = 0
        for seed in seeds:
            operations = _ask(service, admin, seed, EXAMPLES if full else SHORT_EXAMPLES, found)
    return [
        Figure(f"requests made of the document, {len(seeds)} seeds", f">= {wanted:,}", f"{found.cases:,}",
               found.cases >= wanted),
        all_of("operations that were asked and answered", len(found.answered), operations),
        *(none(kind, found.kinds[kind]) for kind in [*dict.fromkeys(PROMISES.values()), REST, NEVER_SENT]),
        below("the slowest answer", found.slowest, SLOWEST if full else SHORT_SLOWEST, "s"),
    ]  # fmt: skip


def _ask(service: Service, admin: dict[str, str], seed: int, examples: int, found: Found) -> int:
    """Let every phase run with a seed; return how many operations the document has."""
    given = {
        "seed": seed,
        "headers": admin,
        "generation": {"max-examples": examples, "no-shrink": True, "database": "none"},
        "continue-on-failure": True,
        "operations": UNSAID_OF,
        "request-timeout": 30,
    }
    config = SchemathesisConfig.from_dict(given)
    schema = schemathesis.openapi.from_url(f"http://127.0.0.1:{service.port}/api/v1/openapi.json", config=config)
    for event in from_schema(schema).execute():
        if isinstance(event, events.ScenarioFinished):
            found.add(event.recorder)
        elif isinstance(event, events.NonFatalError):
            found.lack(event.label, str(event.value))
        elif isinstance(event, events.FatalError):
            raise event.exception
    return int(schema.statistic.operations.total)


def _says(response: Any) -> set[str]:
    """Return what a problem calls itself, and the codes of its mistakes."""
    problem = json.loads(response.content)
    kind = problem["type"][problem["type"].find("/problems/") :]
    return {kind, *(one["code"] for one in problem.get("errors", []))}


@schemathesis.serializer("application/x-ndjson")
def lines(context: Any, value: Any) -> bytes:
    """A file of one request."""
    return value if isinstance(value, bytes) else json.dumps(value).encode() + b"\n"
