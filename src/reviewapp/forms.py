"""Contract → the form: which control each field gets, and what was typed as the text that the schema reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .contract import Contract, Field, Record
from .errors import Flaw, pointer
from .samples import as_text


@dataclass(frozen=True)
class Input:
    """One control of a form. `name` is neutral, because a column may have no name at all."""

    name: str
    field: Field
    value: str
    hint: str
    error: str | None

    @property
    def choices(self) -> Sequence[tuple[str, str]]:
        """(value sent, text shown) of a field that is chosen, not typed."""
        if self.field.kind == "boolean":
            return (("true", "Yes"), ("false", "No"))
        return tuple((choice, choice) for choice in self.field.choices or ())


def inputs(contract: Contract, values: Mapping[str, str] | None = None, flaws: Sequence[Flaw] = ()) -> list[Input]:
    """Return the controls of a contract's form, filled with what was typed and the mistakes found in it."""
    mistakes = {flaw.pointer: flaw for flaw in reversed(flaws)}
    drawn = []
    for number, field in enumerate(contract.fields):
        flaw = mistakes.get(pointer("input", field.name))
        value = (values or {}).get(field.name, "")
        drawn.append(Input(f"field-{number}", field, value, _hint(field), flaw.detail if flaw else None))
    return drawn


def typed(contract: Contract, form: Mapping[str, str]) -> dict[str, str]:
    """Return a submitted form under the contract's names; browsers send line breaks as CR LF, JSON callers as LF."""
    return {
        field.name: form[f"field-{number}"].replace("\r\n", "\n")
        for number, field in enumerate(contract.fields)
        if f"field-{number}" in form
    }


def as_typed(record: Record) -> dict[str, str]:
    """Return a record as a person would have typed it."""
    return {name: as_text(value) for name, value in record.items()}


def _hint(field: Field) -> str:
    """Return the field's meaning and its limits in words."""
    parts = [field.description]
    if field.kind in ("number", "integer"):
        kind = "A whole number" if field.kind == "integer" else "A number"
        low = "" if field.minimum is None else f", {field.minimum} or more"
        high = "" if field.maximum is None else f", {field.maximum} or less"
        parts.append(f"{kind}{low}{high}{f', in {field.unit}' if field.unit else ''}.")
    elif field.length_limit is not None and field.choices is None:
        parts.append(f"At most {field.length_limit} characters.")
    elif field.kind == "date":
        parts.append(f"Written {field.date_words}.")
    if field.nullable and field.choices is None and field.kind != "boolean":
        parts.append("Leave it empty if it is not known.")
    return " ".join(part for part in parts if part)
