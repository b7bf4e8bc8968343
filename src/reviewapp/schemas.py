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
from typing import Any, ClassVar

import marshmallow
from marshmallow import ValidationError, fields

from .contract import Contract
from .errors import Flaw, InvalidInput, pointer
from .field import CONTROL_CHARACTER, NOTHING, Field, Record, Value
from .stages import stage

WHOLE_TEXT = re.compile(r"[+-]?[0-9]+")
NUMBER_TEXT = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?")
_BOOLEAN_TEXT = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


class Broken(Exception):
    """A rule is broken; becomes a Flaw where the member's pointer is known."""

    def __init__(self, code: str, detail: str, allowed: tuple[str, ...] | None = None) -> None:
        super().__init__(code)
        self.flaw = Flaw("", code, detail, allowed)


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
    if field.kind in ("number", "integer") and WHOLE_TEXT.fullmatch(trimmed):
        return int(trimmed) if len(trimmed) < 400 else math.copysign(math.inf, -(trimmed[0] == "-"))
    if field.kind in ("number", "integer") and NUMBER_TEXT.fullmatch(trimmed):
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


class Member(_Flaws, fields.Field[Value]):
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


class ObjectOf(_Flaws, fields.Nested):
    pass


class ListOf(_Flaws, fields.List[Any]):
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


class Schema(marshmallow.Schema):
    error_messages = {"unknown": UNKNOWN, "type": NOT_AN_OBJECT}  # type: ignore[dict-item]  # noqa: RUF012


def flaws_of(errors: Mapping[Any, Any], parent: str) -> list[Flaw]:
    """Return the Flaws of marshmallow's nested error dictionary, each with its JSON pointer."""
    found: list[Flaw] = []
    for key, inside in sorted(errors.items(), key=_unknown_last):
        at = parent + pointer(key)
        if isinstance(inside, Mapping):
            found += flaws_of(inside, at)
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
        body = {f"f{i}": Member(field, text=text, missing=missing) for i, field in enumerate(members)}
        self.type: type[Schema] = type("Record", (Schema,), dict(body))
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
            raise InvalidInput(flaws_of(error.messages_dict, parent)) from None

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


@lru_cache(maxsize=8)
def form_schema(contract: Contract) -> RecordSchema:
    """Return the schema in text mode, for forms and CSV cells."""
    return RecordSchema(contract.fields, text=True, missing=contract.missing)
