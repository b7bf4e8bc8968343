"""Fields → a form: which control each one gets, and what was typed as the text that the schema reads."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .dates import ISO_DATE
from .errors import SHOWN_ERRORS, Flaw, pointer
from .field import Field, Record
from .samples import as_text

RADIOS = 6  # a list of more choices than this is a drop-down list
TALL = 2000  # a text that may have more characters than this gets a tall box
SUGGESTED = 100  # values of an open list are suggested, unless there are more
NOT_KNOWN = "Not known"


@dataclass(frozen=True)
class Input:
    """One control: `widget` names the macro that draws it, `choices` are (value sent, text shown)."""

    id: str
    name: str
    field: Field
    widget: str
    choices: Sequence[tuple[str, str]]
    value: str
    hint: str
    error: str | None

    @property
    def known(self) -> Sequence[str]:
        """The values to suggest."""
        seen = self.field.seen_choices or ()
        return seen if len(seen) <= SUGGESTED else ()

    @property
    def limit(self) -> int | None:
        """The most characters of a text, to be counted while it is typed."""
        return self.field.length_limit if self.widget == "text" else None

    @property
    def keys(self) -> str | None:
        """The keyboard of a phone for a number; some have no minus."""
        if self.field.minimum is None or self.field.minimum < 0:
            return None
        return {"integer": "numeric", "number": "decimal"}.get(self.field.kind)

    @property
    def narrow(self) -> bool:
        """Whether what is typed is short: a number or a date."""
        return self.widget in ("line", "date") and self.field.kind in ("integer", "number", "date")

    @property
    def tall(self) -> bool:
        return self.field.length_limit is None or self.field.length_limit > TALL


@dataclass(frozen=True)
class Mistake:
    """One line of the summary on top of a form; `anchor` is the control that it is about, where there is one."""

    anchor: str | None
    label: str
    detail: str


def inputs(
    fields: Sequence[Field],
    typed: Mapping[str, str] | None = None,
    flaws: Sequence[Flaw] = (),
    parent: str = "",
    *,
    form: str = "form",
    blank: str = NOT_KNOWN,
    words: Mapping[str, str] | None = None,
    compact: bool = False,
) -> list[Input]:
    """Return the controls of a form, filled with what was typed and with the mistakes found below `parent`.

    `form` begins the ids, so that two forms may share a page. `blank` is what leaving a value out means, `words` how
    choices are shown; a `compact` form has one line for each control.
    """
    found = {flaw.pointer: flaw.detail for flaw in reversed(flaws)}
    drawn = []
    for number, (field, name) in enumerate(zip(fields, control_names(fields), strict=True)):
        choices, value = _choices(field, words or {}), (typed or {}).get(field.name, "")
        if choices and field.nullable:
            choices = [*choices, ("", blank)]
        widget = _widget(field, choices, value, compact)
        drawn.append(
            Input(
                id=f"{form}-{number}",
                name=name,
                field=field,
                widget=widget,
                choices=choices,
                value=value,
                hint=_hint(field, widget, compact, blank),
                error=found.get(parent + pointer(field.name)),
            )
        )
    return drawn


def _widget(field: Field, choices: Sequence[tuple[str, str]], value: str, compact: bool) -> str:
    if choices:
        return "select" if compact or len(choices) > RADIOS else "radios"
    if field.kind == "date" and field.date_format == ISO_DATE:  # a date picker speaks this format alone
        return "date" if not value or _is_date(field, value) else "line"  # and would not show what is no date
    lines = field.kind == "text" or any(re.search(r"[\r\n]", one) for one in _listed(field))
    return "text" if lines and not compact else "line"


def _is_date(field: Field, text: str) -> bool:
    try:
        field.parse_date(text)
    except ValueError:
        return False
    return True


def mistakes(drawn: Sequence[Input], flaws: Sequence[Flaw], parent: str = "") -> list[Mistake]:
    """Return the flaws for the summary, as many as an answer names; those of a control with the way to it."""
    known = {parent + pointer(one.field.name): one for one in drawn}
    return [
        Mistake(known[flaw.pointer].id, known[flaw.pointer].field.label, flaw.detail)
        if flaw.pointer in known
        else Mistake(None, flaw.pointer.rpartition("/")[2], flaw.detail)
        for flaw in flaws[:SHOWN_ERRORS]
    ]


def control_names(fields: Sequence[Field]) -> list[str]:
    """Return what a form calls each field: its own name, but for the names that no form can send."""
    taken, names = {field.name for field in fields}, []
    for number, field in enumerate(fields):
        name = field.name
        if not name or re.search(r"[\r\n]", name):
            name = f"field-{number}"
            while name in taken:
                name += "_"
        names.append(name)
    return names


def typed(fields: Sequence[Field], form: Mapping[str, str]) -> dict[str, str]:
    """Return a submitted form under the fields' names; what the form holds besides is kept, for the schema to refuse.

    Browsers send every line break as CR LF. In a value of a field's list that is the line break of the list, else LF.
    """
    by_name = dict(zip(control_names(fields), fields, strict=True))
    found = {}
    for sent, text in form.items():
        plain, field = _with_lf(text), by_name.get(sent)
        listed = [one for one in _listed(field) if _with_lf(one) == plain] if field and "\n" in plain else []
        found[field.name if field else sent] = listed[0] if len(listed) == 1 else plain
    return found


def _with_lf(text: str) -> str:
    return re.sub(r"\r\n?", "\n", text)


def _listed(field: Field) -> Sequence[str]:
    return field.choices or field.seen_choices or ()


def as_typed(record: Record) -> dict[str, str]:
    """Return a record as a person would have typed it."""
    return {name: as_text(value) for name, value in record.items()}


def limits_in_words(field: Field) -> str:
    """Return the hard limits of a field as a sentence; a choice shows its own."""
    if field.kind in ("number", "integer"):
        kind = "A whole number" if field.kind == "integer" else "A number"
        low = "" if field.minimum is None else f", {field.minimum} or more"
        high = "" if field.maximum is None else f", {field.maximum} or less"
        return f"{kind}{low}{high}{f', in {field.unit}' if field.unit else ''}."
    if field.length_limit is not None and field.choices is None:
        return f"At most {field.length_limit} characters."
    return f"Written {field.date_words}." if field.kind == "date" else ""


def _hint(field: Field, widget: str, compact: bool, blank: str) -> str:
    if compact:
        return "" if field.choices else field.description
    parts = [field.description, "" if widget == "date" else limits_in_words(field)]
    if field.nullable and blank == NOT_KNOWN and not _choices(field, {}):
        parts.append("Leave it empty if it is not known.")
    return " ".join(part for part in parts if part)


def _choices(field: Field, words: Mapping[str, str]) -> list[tuple[str, str]]:
    if field.kind == "boolean":
        return [("true", "Yes"), ("false", "No")]
    return [(choice, words.get(choice, choice)) for choice in field.choices or ()]
