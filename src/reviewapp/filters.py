"""What predictions can be asked for: the filters and the order, for the API, the page, the export and the command."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from .bodies import VERDICTS
from .errors import Flaw, InvalidInput
from .field import Field
from .finding import SORTS
from .prediction import DECISIONS, OPTIONS, SOURCES, timestamp
from .schemas import RecordSchema
from .search import SCANNED


def option(name: str, kind: str, title: str, description: str, **limits: Any) -> Field:
    """Return an option of a query: it may be left out, or empty."""
    return Field(name=name, kind=kind, title=title, description=description, required=False, nullable=True, **limits)


FILTERS = (
    option(
        "q", "text", "Search",
        "Words, or their beginnings, in the input, the answer or the reference; all of them must occur. Signs alone "
        f"(%, an emoji) are looked for in the newest {SCANNED:,} predictions.",
        max_length=200,
    ),
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
)  # fmt: skip
SORT = option(
    "sort", "category", "Order", "Newest first where it is left out; by how sure the answer is.", choices=SORTS
)
EXPORT_OPTIONS = (*FILTERS, SORT)
LIST_OPTIONS = (
    *EXPORT_OPTIONS,
    option("limit", "integer", "Rows", "How many on a page.", minimum=1, maximum=200),
    option("cursor", "text", "Page", "`next` of the page before; it belongs to one order.", max_length=100),
)
PAGE = 50
_EXPORTED = RecordSchema(EXPORT_OPTIONS, text=True)


def with_times(asked: Mapping[str, Any]) -> dict[str, Any]:
    """Return checked options with their times as the ledger writes them; raise InvalidInput."""
    times, flaws = {}, []
    for name in ("since", "until"):
        try:
            times[name] = _time(asked.get(name))
        except (ValueError, OverflowError):
            flaws.append(Flaw(f"/query/{name}", "not_a_time", "This must be a time as 2026-01-31T12:00:00Z."))
    if flaws:
        raise InvalidInput(flaws)
    return {**asked, **times}


def to_export(typed: Mapping[str, str]) -> tuple[dict[str, Any], str]:
    """Return the filters and the order of an export from their texts; raise InvalidInput, pointing under /query."""
    asked = with_times(_EXPORTED.load(typed, "/query"))
    return asked, asked.pop("sort") or SORTS[0]


def _time(text: str | None) -> str | None:
    if text is None:
        return None
    moment = datetime.fromisoformat(text)
    return timestamp(moment if moment.tzinfo else moment.replace(tzinfo=UTC))
