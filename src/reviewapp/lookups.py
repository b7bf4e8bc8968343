"""What both doors read and write for whoever asks: the same filters, the same rows, the same rule of whose they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from .contract import Field
from .desk import Lease
from .errors import Conflict, Flaw, InvalidInput, NotReady, pointer
from .parts import parts
from .policy import Policy
from .prediction import DECISIONS, OPTIONS, SOURCES, Prediction, timestamp, utcnow, verdict_of
from .protocol import read_query
from .schemas import VERDICTS
from .security import client


def option(name: str, kind: str, title: str, description: str, **limits: Any) -> Field:
    """Return an option of a query: it may be left out, or empty."""
    return Field(name=name, kind=kind, title=title, description=description, required=False, nullable=True, **limits)


FILTERS = (
    option("decision", "category", "Decision", "Only these.", choices=DECISIONS),
    option("label", "category", "Answer", "Only answers with this label."),
    option("option", "category", "Option", "Only answers of this option.", choices=OPTIONS),
    option("audit", "boolean", "Drawn for a check", "Only automatic answers that a person should check, or not."),
    option("release", "category", "Release", "A version, name/version or digest.", max_length=100),
    option("verdict", "category", "Verdict", "The verdict that holds; none: not judged.", choices=(*VERDICTS, "none")),
    option("source", "category", "Source", "The door the request came through.", choices=SOURCES),
    option("reference", "text", "Reference", "The caller's own id.", max_length=200),
    option("since", "text", "Since", "From this time on (RFC 3339; without a zone: UTC).", max_length=40),
    option("until", "text", "Until", "Before this time (RFC 3339; without a zone: UTC).", max_length=40),
    option("q", "text", "Words", "Words in the input or the reference.", max_length=200),
)
LIST_OPTIONS = (
    *FILTERS,
    option("limit", "integer", "Rows", "How many on a page.", minimum=1, maximum=200),
    option("cursor", "text", "Page", "`next` of the page before.", max_length=100),
)
PAGE = 50


def prediction(prediction_id: str, *, hidden: bool = False) -> Prediction:
    """Return a prediction; who may not review sees only their own.

    What the reader is about to judge blind is theirs with the options `hidden`, where that is allowed, else a Conflict.
    """
    [found] = _veiled([parts.ledger.prediction(prediction_id, None if client().may("review") else client().name)])
    if found.hidden and not hidden:
        raise Conflict("You have this record before you in the queue: give your own answer first.")
    return found


def predictions() -> tuple[list[Prediction], str | None]:
    """Return the predictions that the query asks for, newest first, and the cursor of the next page."""
    filters = read_query(LIST_OPTIONS)
    limit, cursor = filters.pop("limit") or PAGE, filters.pop("cursor")
    for name in ("since", "until"):
        filters[name] = _time(name, filters[name])
    found, following = parts.ledger.predictions(filters, limit, cursor)
    return _veiled(found), following


def _veiled(found: Sequence[Prediction]) -> list[Prediction]:
    """Return predictions with the answers hidden that the reader has to judge without knowing them."""
    hidden = parts.desk.hidden(client().name) if client().may("review") else set()
    return [replace(one, hidden=True) if one.id in hidden else one for one in found]


def add_verdict(prediction_id: str, values: Mapping[str, Any], *, own_answer: bool = False) -> Prediction:
    """Append a checked verdict in the name of who asks."""
    given = verdict_of(values, client().name, utcnow())
    return parts.ledger.add_verdict(prediction_id, given, own_answer=own_answer)


def next_in_queue() -> tuple[Lease, Prediction] | None:
    """Lease the next record that waits for whoever asks; None: none is left that nobody else has."""
    rules = policy()
    lease = parts.desk.next(client().name, lambda one: rules is not None and rules.blind(one))
    return None if lease is None else (lease, prediction(lease.prediction_id, hidden=True))


def policy() -> Policy | None:
    """Return the policy of the live release; None while nothing answers, when what waits can be judged all the same."""
    try:
        return parts.registry.adapter().release.policy
    except NotReady:
        return None


def releases() -> list[dict[str, Any]]:
    """Return every release there is, newest first."""
    live = parts.registry.live()
    return [
        event.id.as_json() | {"active": event.id == live, "built_at": event.created_at}
        for event in parts.registry.built()
    ]


def active_release() -> dict[str, Any]:
    """Return the release that answers now, its policy and what it was evaluated at."""
    release = parts.registry.adapter().release
    return release.id.as_json() | {
        "policy": release.policy.as_json(),
        "evaluation": release.evaluation,
        "libraries": release.libraries,
        "problem": parts.registry.problem(),
    }


def _time(name: str, text: str | None) -> str | None:
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
        return timestamp(moment if moment.tzinfo else moment.replace(tzinfo=UTC))
    except (ValueError, OverflowError):
        detail = "This must be a time as 2026-01-31T12:00:00Z."
        raise InvalidInput([Flaw(pointer("query", name), "not_a_time", detail)]) from None
