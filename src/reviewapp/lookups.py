"""What both doors read and write for whoever asks: the same filters, the same rows, the same rule of whose they are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .filters import LIST_OPTIONS, PAGE, with_times
from .finding import SORTS
from .parts import parts
from .prediction import Prediction, utcnow, verdict_of
from .protocol import read_query
from .security import client


def prediction(prediction_id: str) -> Prediction:
    """Return a prediction; who may not review sees only their own."""
    return parts.ledger.prediction(prediction_id, None if client().may("review") else client().name)


def predictions() -> tuple[list[Prediction], str | None]:
    """Return the predictions that the query asks for, in its order, and the cursor of the next page."""
    filters = with_times(read_query(LIST_OPTIONS))
    limit, cursor, sort = filters.pop("limit") or PAGE, filters.pop("cursor"), filters.pop("sort") or SORTS[0]
    return parts.ledger.predictions(filters, limit, cursor, sort)


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
