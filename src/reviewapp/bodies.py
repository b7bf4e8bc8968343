"""What the routes take as JSON, and the pages' forms of it as text: marshmallow schemas of whole request bodies."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, cast

from marshmallow import ValidationError

from .contract import Contract, Outcome
from .errors import Flaw, InvalidInput, pointer
from .field import Field, Record
from .schemas import MISSING, ListOf, Member, ObjectOf, RecordSchema, Schema, flaws_of
from .stages import stage

MAX_BATCH = 1000
NOT_HERE = "not_allowed_here"

REFERENCE = Field(
    name="reference",
    kind="text",
    title="Your own id",
    description="Kept with the prediction; the list can be filtered by it.",
    required=False,
    nullable=True,
    max_length=200,
    example="ticket-4711",
)
SUMMARY = Field(
    name="summary", kind="boolean", required=False, nullable=True, title="Summary",
    description="End CSV with a row that says, as its problem, how many rows there were of each kind.",
)  # fmt: skip
VERDICTS = ("agree", "corrected", "disagree", "unsure")


class _Envelope:
    """A request body: an object around records."""

    def __init__(self, members: Mapping[str, Any]) -> None:
        self._schema = type("Envelope", (Schema,), dict(members))()

    @stage("validate")
    def _load(self, body: Any) -> dict[str, Any]:
        try:
            loaded = self._schema.load(body)
        except ValidationError as error:
            raise InvalidInput(flaws_of(error.messages_dict, "")) from None
        return dict(loaded)


class PredictionRequest(_Envelope):
    """`{"input": {…}, "reference": "…"}`"""

    def __init__(self, contract: Contract) -> None:
        self._records, self._around = RecordSchema(contract.fields), RecordSchema((REFERENCE,))
        super().__init__(
            {"input": ObjectOf(self._records.type, required=True), "reference": Member(REFERENCE, text=False)}
        )

    @stage("validate")
    def load(self, body: Any) -> tuple[Record, str | None]:
        if type(body) is dict and "input" in body:
            around = dict(body)
            record, beside = self._records.quick(around.pop("input")), self._around.quick(around)
            if record is not None and beside is not None:
                return record, cast("str | None", beside["reference"])
        loaded = self._load(body)
        return self._records.named(loaded["input"]), loaded["reference"]


class BatchRequest(_Envelope):
    """`{"inputs": [{…}, …]}`, one to MAX_BATCH of them."""

    def __init__(self, contract: Contract) -> None:
        self._records = RecordSchema(contract.fields)
        rows = ListOf(ObjectOf(self._records.type), shortest=1, longest=MAX_BATCH, required=True)
        super().__init__({"inputs": rows})

    @stage("validate")
    def load(self, body: Any) -> list[Record]:
        rows = body.get("inputs") if type(body) is dict and len(body) == 1 else None
        if type(rows) is list and 0 < len(rows) <= MAX_BATCH:
            records = [record for record in map(self._records.quick, rows) if record is not None]
            if len(records) == len(rows):
                return records
        return [self._records.named(row) for row in self._load(body)["inputs"]]


REASON = Field(name="reasons", kind="text", max_length=100)
NOTE = Field(
    name="note", kind="text", title="Note", description="Why, in your own words.", required=False, nullable=True,
    max_length=2000,
)  # fmt: skip
MAX_REASONS = 20


def verdict_fields(outcome: Outcome) -> tuple[Field, Field, Field]:
    """Return the members of a verdict: what is right is a label or a value, as the outcome says."""
    verdict = Field(name="verdict", kind="category", title="Verdict", choices=VERDICTS)
    if outcome.task == "classification":
        right = Field(
            name="label",
            kind="category",
            title="Right label",
            choices=outcome.labels,
            required=False,
            nullable=True,
        )
    else:
        right = Field(
            name="value", kind="number", title="Right value", unit=outcome.unit, required=False, nullable=True,
            minimum=outcome.minimum, maximum=outcome.maximum,
        )  # fmt: skip
    return verdict, right, NOTE


class VerdictRequest(_Envelope):
    """`{"verdict": …, "label"|"value": …, "reasons": […], "note": …}`; text mode reads the page's form."""

    def __init__(self, outcome: Outcome, *, text: bool = False) -> None:
        self._right = verdict_fields(outcome)[1]
        members: dict[str, Any] = {field.name: Member(field, text=text) for field in verdict_fields(outcome)}
        members["reasons"] = ListOf(
            Member(REASON, text=text), shortest=0, longest=MAX_REASONS, load_default=list, allow_none=False
        )
        super().__init__(members)

    def load(self, body: Any) -> dict[str, Any]:
        """Return verdict, label or value, reasons and note; a correction says what is right, nothing else does."""
        loaded, right = self._load(body), self._right
        if loaded["verdict"] == "corrected" and loaded[right.name] is None:
            detail = f"A correction says the right {right.name}."
            raise InvalidInput([Flaw(pointer(right.name), MISSING.code, detail, right.choices)])
        if loaded["verdict"] != "corrected" and loaded[right.name] is not None:
            detail = f"Only the verdict 'corrected' takes a {right.name}."
            raise InvalidInput([Flaw(pointer(right.name), NOT_HERE, detail)])
        return loaded


MOVE_REASON = Field(
    name="reason", kind="text", title="Reason", max_length=500, description="Why; kept in the release log."
)


BREAKING = Field(
    name="breaking", kind="boolean", title="Callers are ready for this", required=False, nullable=True,
    description="Needed where the contract changes in a way that breaks callers.",
)  # fmt: skip


class MoveRequest(_Envelope):
    """`{"reason": …}` of a roll-back; text mode reads the page's form."""

    def __init__(self, *, text: bool = False) -> None:
        super().__init__({MOVE_REASON.name: Member(MOVE_REASON, text=text)})

    def load(self, body: Any) -> str:
        return _said(self._load(body)["reason"])


class PromoteRequest(_Envelope):
    """`{"reason": …, "breaking": true}` of a promotion; text mode reads the page's form."""

    def __init__(self, *, text: bool = False) -> None:
        super().__init__({field.name: Member(field, text=text) for field in (MOVE_REASON, BREAKING)})

    def load(self, body: Any) -> tuple[str, bool]:
        """Return the reason, and whether the callers are ready; left out or null they are not."""
        loaded = self._load(body)
        return _said(loaded["reason"]), bool(loaded["breaking"])


def _said(reason: str) -> str:
    if not reason.strip():
        raise InvalidInput([Flaw(pointer("reason"), MISSING.code, "A reason is needed; it is kept in the log.")])
    return reason


# Each is compiled once: a contract or an outcome lives as long as its release is loaded.
prediction_request = lru_cache(maxsize=8)(PredictionRequest)
batch_request = lru_cache(maxsize=8)(BatchRequest)
verdict_request = lru_cache(maxsize=8)(VerdictRequest)
move_request = lru_cache(maxsize=2)(MoveRequest)
promote_request = lru_cache(maxsize=2)(PromoteRequest)
