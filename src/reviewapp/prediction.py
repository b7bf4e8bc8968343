"""One recorded answer and the verdicts on it: the shapes that adapter, ledger and both doors share."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from .contract import Outcome
from .field import Record
from .release import ReleaseId

SOURCES = ("api", "form", "upload", "bulk")
OPTIONS = ("baseline", "model")
DECISIONS = ("auto", "review")


@dataclass(frozen=True)
class Verdict:
    """What a person said of a prediction. `withdrawn` takes the one before back; nothing is overwritten."""

    verdict: str
    label: str | None
    value: float | None
    reasons: list[str]
    note: str | None
    author: str
    created_at: str
    blind: bool = False  # given before the options were shown

    @property
    def right(self) -> str | None:
        """What the person says is right, as text: a label or a value."""
        return self.label if self.value is None else f"{self.value:,.12g}"

    def as_json(self) -> dict[str, Any]:
        right = {"label": self.label} if self.value is None else {"value": self.value}
        return {
            "verdict": self.verdict,
            **right,
            "reasons": self.reasons,
            "note": self.note,
            "author": self.author,
            "created_at": self.created_at,
            "blind": self.blind,
        }


@dataclass(frozen=True)
class Prediction:
    """One answer, as it is given and as it is kept."""

    id: str
    created_at: str
    release: ReleaseId
    option: str
    reference: str | None
    input: Record | None
    output: dict[str, Any]
    decision: str
    reasons: list[str]
    warnings: list[dict[str, Any]]
    comparison: dict[str, Any] | None = None
    explanation: dict[str, Any] | None = None
    source: str = "api"
    client: str = ""
    request_id: str = ""
    audit: bool = False  # drawn for a person to check, though it is automatic
    verdicts: Sequence[Verdict] = field(default=())
    hidden: bool = False  # what the options say is kept from this reader until their own verdict

    @property
    def verdict(self) -> Verdict | None:
        """The verdict that holds: the last one, unless it was taken back."""
        last = self.verdicts[-1] if self.verdicts else None
        return None if last is None or last.verdict == "withdrawn" else last

    @property
    def outcome(self) -> Outcome:
        """The outcome that the prediction's own release had: its labels, not those of the live release."""
        labels = self.output.get("probabilities")
        if labels is None:
            return Outcome(name="outcome", task="regression")
        return Outcome(name="outcome", labels=tuple(labels))

    def as_json(self) -> dict[str, Any]:
        """Return the answer to the request that asked for it (design: one prediction)."""
        shown = {
            "id": self.id,
            "created_at": self.created_at,
            "release": self.release.as_json(),
            "option": self.option,
            "reference": self.reference,
            "output": self.output,
            "decision": self.decision,
            "reasons": self.reasons,
            "warnings": self.warnings,
        }
        if self.comparison is not None:
            shown["comparison"] = self.comparison
        if self.explanation is not None:
            shown["explanation"] = self.explanation
        return shown

    def as_record(self) -> dict[str, Any]:
        """Return the whole story: the answer, what was asked, by whom, and what people said of it.

        Where the answer is hidden, what was asked and by whom is all there is.
        """
        asked = {"input": self.input, "source": self.source, "client": self.client, "request_id": self.request_id}
        if self.hidden:
            known = {"id": self.id, "created_at": self.created_at, "release": self.release.as_json()}
            return known | {"reference": self.reference, "blind": True} | asked
        return (
            self.as_json()
            | asked
            | {
                "audit": self.audit,
                "verdict": None if self.verdict is None else self.verdict.as_json(),
                "verdicts": [verdict.as_json() for verdict in self.verdicts],
            }
        )


@dataclass(frozen=True)
class Call:
    """Who asks, how and for what: what a sink needs to know beside the predictions themselves.

    `beside` makes the changes that belong into the same commit as the predictions; it is given the connection, and may
    be called again where that commit failed.
    """

    source: str = "api"
    client: str = ""
    request_id: str = ""
    references: Sequence[str | None] = ()
    key: IdempotencyKey | None = None
    dry_run: bool = False
    beside: Callable[[Any], None] | None = None


Answered = tuple[Sequence[Prediction], Call]  # one call, and the predictions that answer it


@dataclass(frozen=True)
class IdempotencyKey:
    """A caller's promise that requests with this key are one and the same; `fingerprint` is how it is checked."""

    client: str
    key: str
    fingerprint: str


def new_id(now: datetime) -> str:
    """Return a UUID of version 7 (RFC 9562): 48 bits of milliseconds, then 74 random bits."""
    return new_ids(now, 1)[0]


def new_ids(now: datetime, n: int) -> list[str]:
    """Return `n` UUIDs of version 7 with the same milliseconds."""
    time = f"{int(now.timestamp() * 1000):012x}"
    random = secrets.token_hex(10 * n)
    return [_uuid7(time, random[start : start + 20]) for start in range(0, 20 * n, 20)]


def _uuid7(time: str, random: str) -> str:
    """Write 12 hexadecimal digits of time and 20 of chance, of which two become version and variant."""
    variant = "89ab"[int(random[3], 16) & 3]
    return f"{time[:8]}-{time[8:]}-7{random[:3]}-{variant}{random[4:7]}-{random[7:19]}"


def timestamp(now: datetime) -> str:
    """Return a time as answers give it: UTC, milliseconds, `Z`. Such texts sort as the times do."""
    return now.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def utcnow() -> datetime:
    return datetime.now(UTC)


def differ(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two outputs say different things: another label, or values whose intervals do not meet."""
    if "label" in one:
        return bool(one["label"] != other["label"])
    return bool(one["low"] > other["high"] or other["low"] > one["high"])


def doubt(output: Mapping[str, Any]) -> float:
    """Return how far an answer is from being sure: 1 - its confidence, or the width of its interval."""
    doubt = float(1 - output["confidence"] if "label" in output else output["high"] - output["low"])
    return doubt + 0.0  # SQLite keeps no sign of a zero


def verdict_of(values: Mapping[str, Any], author: str, now: datetime) -> Verdict:
    """Return a checked verdict request as the verdict to append."""
    return Verdict(
        verdict=values["verdict"],
        label=values.get("label"),
        value=values.get("value"),
        reasons=list(values["reasons"]),
        note=values["note"],
        author=author,
        created_at=timestamp(now),
    )
