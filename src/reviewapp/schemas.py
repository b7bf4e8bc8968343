"""Contract → marshmallow: the one schema that every door (JSON, form, CSV) validates with.

Two modes of the same schema. JSON mode is strict: a value has its own type or is refused. Text mode is for forms
and CSV cells: the text is first read as the field's kind, then goes through the very same rules. Mistakes come out
as `Flaw`s with the JSON pointer of the member; attribute names inside are neutral (`f0`, `f1` …) and the column's
own name is the `data_key`, because marshmallow nests `x.y` and loses a column called `Meta`.

A right record needs none of marshmallow's walk: `RecordSchema.quick` calls the very same checks in one loop, and leaves
whatever is odd to marshmallow, which alone says what is wrong.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, ClassVar, cast

import marshmallow
from marshmallow import ValidationError, fields

from .contract import CONTROL_CHARACTER, NOTHING, Contract, Field, Outcome, Record, Value
from .errors import Flaw, InvalidInput, pointer
from .stages import stage

MAX_BATCH = 1000
_WHOLE_TEXT = re.compile(r"[+-]?[0-9]+")
_NUMBER_TEXT = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?")
_BOOLEAN_TEXT = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}

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
VERDICTS = ("agree", "corrected", "disagree", "unsure")


class Broken(Exception):
    """A rule is broken; becomes a Flaw where the member's pointer is known."""

    def __init__(self, code: str, detail: str, allowed: tuple[str, ...] | None = None) -> None:
        super().__init__(code)
        self.flaw = Flaw("", code, detail, allowed)


NOT_HERE = "not_allowed_here"
MISSING = Flaw("", "missing", "This is required.")
NULL = Flaw("", "null_not_allowed", "This may not be null.")
UNKNOWN = Flaw("", "unknown_member", "The contract knows no member of this name.")
NOT_AN_OBJECT = Flaw("", "not_an_object", "This must be an object with named members.")
NOT_A_LIST = Flaw("", "not_a_list", "This must be a list.")


# ---- values ---------------------------------------------------------------------------------------------------


def _number(field: Field) -> Callable[[Any], Value]:
    low, high = field.limits
    whole = field.kind == "integer"
    unit = f" {field.unit}" if field.unit else ""

    def check(value: Any) -> Value:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise Broken("wrong_type", "This must be a whole number." if whole else "This must be a number.")
        if whole and isinstance(value, float) and not value.is_integer() and math.isfinite(value):
            raise Broken("wrong_type", "This must be a whole number, without a fraction.")
        if value < low:
            raise Broken("too_small", f"This must be {low}{unit} or more.")
        if not value <= high:  # written so that it refuses not-a-number, too
            raise Broken("too_large", f"This must be {high}{unit} or less.")
        return int(value) if whole else float(value)

    return check


def _boolean(_: Field) -> Callable[[Any], Value]:
    def check(value: Any) -> Value:
        if not isinstance(value, bool):
            raise Broken("wrong_type", "This must be true or false.")
        return value

    return check


def _plain_text(value: Any) -> str:
    if not isinstance(value, str):
        raise Broken("wrong_type", "This must be text.")
    return value


def _choice(field: Field) -> Callable[[Any], Value]:
    choices = field.choices or ()
    known = frozenset(choices)

    def check(value: Any) -> Value:
        if _plain_text(value) not in known:
            raise Broken("not_a_choice", "This must be one of the allowed values.", choices)
        return str(value)

    return check


def _free_text(field: Field) -> Callable[[Any], Value]:
    longest = field.length_limit

    def check(value: Any) -> Value:
        text = _plain_text(value)
        if longest is not None and len(text) > longest:
            raise Broken("too_long", f"This must have {longest} characters or fewer.")
        if CONTROL_CHARACTER.search(text):
            raise Broken("control_character", "This may hold no control characters but tab and line breaks.")
        return text

    return check


def _date(field: Field) -> Callable[[Any], Value]:
    def check(value: Any) -> Value:
        text = _plain_text(value)
        try:
            field.parse_date(text)
        except ValueError:
            raise Broken("not_a_date", f"This must be an existing day, written {field.date_words}.") from None
        return text

    return check


def checker(field: Field) -> Callable[[Any], Value]:
    """Return the function that checks one value of a field, once its rules are compiled.

    The function returns the value as the model gets it (an `int` for an integer, also for `3.0`), or raises Broken.
    """
    if field.kind == "category":
        return _choice(field) if field.choices is not None else _free_text(field)
    kinds = {"number": _number, "integer": _number, "boolean": _boolean, "text": _free_text, "date": _date}
    return kinds[field.kind](field)


def from_text(field: Field, text: str, missing: Sequence[str] = NOTHING) -> Value:
    """Return what `text`, typed into a form or standing in a CSV cell, means for a field.

    Where null is allowed, the texts in `missing` and in the field's own list stand for it, and so does empty text that
    can be nothing else.
    """
    nothing = text in missing or text in field.missing
    if field.nullable and (nothing or (text == "" and "" not in (field.choices or field.seen_choices or ()))):
        return None
    trimmed = text.strip(" \t\r\n")
    if field.kind in ("number", "integer", "boolean", "date") and not trimmed:
        if field.nullable:
            return None
        raise Broken(MISSING.code, MISSING.detail)
    if field.kind in ("number", "integer") and _WHOLE_TEXT.fullmatch(trimmed):
        return int(trimmed) if len(trimmed) < 400 else math.copysign(math.inf, -(trimmed[0] == "-"))
    if field.kind in ("number", "integer") and _NUMBER_TEXT.fullmatch(trimmed):
        return float(trimmed)
    if field.kind == "boolean":
        return _BOOLEAN_TEXT.get(trimmed.lower(), text)
    return trimmed if field.kind == "date" else text


# ---- marshmallow ----------------------------------------------------------------------------------------------


class _Flaws:
    """Mixed into marshmallow fields: their own messages become Flaws."""

    flaws: ClassVar = {"required": MISSING, "null": NULL, "type": NOT_AN_OBJECT, "invalid": NOT_A_LIST}

    def make_error(self, key: str, **_: Any) -> ValidationError:
        return ValidationError([self.flaws[key]])


class _Member(_Flaws, fields.Field[Value]):
    def __init__(self, field: Field, *, text: bool, missing: Sequence[str] = NOTHING, **kwargs: Any) -> None:
        if not field.required:
            kwargs["load_default"] = None
        super().__init__(data_key=field.name, required=field.required, allow_none=field.nullable, **kwargs)
        self._field, self._check, self._text, self._missing = field, checker(field), text, missing

    @property
    def check(self) -> Callable[[Any], Value]:
        """The check of a value that is given and not null."""
        return self._read if self._text else self._check

    def _read(self, value: Any) -> Value:
        read = from_text(self._field, _plain_text(value), self._missing)
        return None if read is None else self._check(read)

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **_: Any) -> Value:
        try:
            return self.check(value)
        except Broken as error:
            raise ValidationError([error.flaw]) from None


class _Object(_Flaws, fields.Nested):
    pass


class _List(_Flaws, fields.List[Any]):
    """A list whose length is checked before its items are looked at: a body full of `{}` costs nothing."""

    def __init__(self, inner: Any, *, shortest: int, longest: int, **kwargs: Any) -> None:
        super().__init__(inner, **kwargs)
        self._shortest, self._longest = shortest, longest

    def _deserialize(self, value: Any, attr: Any, data: Any, **kwargs: Any) -> list[Any]:
        if isinstance(value, list) and len(value) < self._shortest:
            raise ValidationError([Flaw("", "too_few_items", f"At least {self._shortest} must be given.")])
        if isinstance(value, list) and len(value) > self._longest:
            raise ValidationError([Flaw("", "too_many_items", f"At most {self._longest} may be given.")])
        return super()._deserialize(value, attr, data, **kwargs)


class _Schema(marshmallow.Schema):
    error_messages = {"unknown": UNKNOWN, "type": NOT_AN_OBJECT}  # type: ignore[dict-item]  # noqa: RUF012


def _flaws(errors: Mapping[Any, Any], parent: str) -> list[Flaw]:
    """Return the Flaws of marshmallow's nested error dictionary, each with its JSON pointer."""
    found: list[Flaw] = []
    for key, inside in sorted(errors.items(), key=_unknown_last):
        at = parent + pointer(key)
        if isinstance(inside, Mapping):
            found += _flaws(inside, at)
            continue
        for flaw in inside:
            # marshmallow files "not an object" under the name _schema, which may be a column's name, too
            whole = key == marshmallow.exceptions.SCHEMA and flaw is NOT_AN_OBJECT
            found.append(Flaw(parent if whole else at, flaw.code, flaw.detail, flaw.allowed))
    return found


def _unknown_last(item: tuple[Any, Any]) -> tuple[bool, str]:
    """The key that puts unknown members last, by name: marshmallow gives them in the order of a set."""
    unknown = item[1] == [UNKNOWN]
    return unknown, str(item[0]) if unknown else ""


class RecordSchema:
    """Checks objects made of given fields; the inside of every schema of this module."""

    def __init__(self, members: Sequence[Field], *, text: bool = False, missing: Sequence[str] = NOTHING) -> None:
        self.members = tuple(members)
        self.names = {f"f{i}": field.name for i, field in enumerate(members)}
        body = {f"f{i}": _Member(field, text=text, missing=missing) for i, field in enumerate(members)}
        self.type: type[_Schema] = type("Record", (_Schema,), dict(body))
        self._schema = self.type()
        self._quick = [(one.name, one.required, one.nullable, body[f"f{i}"].check) for i, one in enumerate(members)]

    @stage("validate")
    def load(self, value: Any, parent: str) -> Record:
        """Return the checked record under its own names; raise InvalidInput with every mistake at once."""
        record = self.quick(value)
        if record is not None:
            return record
        try:
            return self.named(self._schema.load(value))
        except ValidationError as error:
            raise InvalidInput(_flaws(error.messages_dict, parent)) from None

    def quick(self, value: Any) -> Record | None:
        """Return the checked record where nothing is odd, else None: `load` then says what is, or that nothing is."""
        if type(value) is not dict:
            return None
        record: Record = {}
        unread = len(value)
        try:
            for name, required, nullable, check in self._quick:
                if name in value:
                    given = value[name]
                    record[name] = None if given is None and nullable else check(given)
                    unread -= 1
                elif required:
                    return None
                else:
                    record[name] = None
        except Broken:
            return None
        return None if unread else record

    def named(self, loaded: Mapping[str, Any]) -> Record:
        """Return a loaded object under the contract's names, in the contract's order."""
        return {name: loaded[attribute] for attribute, name in self.names.items()}


class _Envelope:
    """A request body: an object around records."""

    def __init__(self, members: Mapping[str, Any]) -> None:
        self._schema = type("Envelope", (_Schema,), dict(members))()

    @stage("validate")
    def _load(self, body: Any) -> dict[str, Any]:
        try:
            loaded = self._schema.load(body)
        except ValidationError as error:
            raise InvalidInput(_flaws(error.messages_dict, "")) from None
        return dict(loaded)


class PredictionRequest(_Envelope):
    """`{"input": {…}, "reference": "…"}`"""

    def __init__(self, contract: Contract) -> None:
        self._records, self._around = RecordSchema(contract.fields), RecordSchema((REFERENCE,))
        super().__init__(
            {"input": _Object(self._records.type, required=True), "reference": _Member(REFERENCE, text=False)}
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
        rows = _List(_Object(self._records.type), shortest=1, longest=MAX_BATCH, required=True)
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
        members: dict[str, Any] = {field.name: _Member(field, text=text) for field in verdict_fields(outcome)}
        members["reasons"] = _List(
            _Member(REASON, text=text), shortest=0, longest=MAX_REASONS, load_default=list, allow_none=False
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
        super().__init__({MOVE_REASON.name: _Member(MOVE_REASON, text=text)})

    def load(self, body: Any) -> str:
        return _said(self._load(body)["reason"])


class PromoteRequest(_Envelope):
    """`{"reason": …, "breaking": true}` of a promotion; text mode reads the page's form."""

    def __init__(self, *, text: bool = False) -> None:
        super().__init__({field.name: _Member(field, text=text) for field in (MOVE_REASON, BREAKING)})

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


@lru_cache(maxsize=8)
def form_schema(contract: Contract) -> RecordSchema:
    """Return the schema in text mode, for forms and CSV cells."""
    return RecordSchema(contract.fields, text=True, missing=contract.missing)
