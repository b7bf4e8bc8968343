"""What both doors read and write for whoever asks: the same filters, the same rows, the same rule of whose they are."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from .contract import Field
from .errors import Flaw, InvalidInput, pointer
from .parts import parts
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


def prediction(prediction_id: str) -> Prediction:
    """Return a prediction; who may not review sees only their own."""
    return parts.ledger.prediction(prediction_id, None if client().may("review") else client().name)


def predictions() -> tuple[list[Prediction], str | None]:
    """Return the predictions that the query asks for, newest first, and the cursor of the next page."""
    filters = read_query(LIST_OPTIONS)
    limit, cursor = filters.pop("limit") or PAGE, filters.pop("cursor")
    for name in ("since", "until"):
        filters[name] = _time(name, filters[name])
    return parts.ledger.predictions(filters, limit, cursor)


def add_verdict(prediction_id: str, values: Mapping[str, Any]) -> Prediction:
    """Append a checked verdict in the name of who asks."""
    return parts.ledger.add_verdict(prediction_id, verdict_of(values, client().name, utcnow()))


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
