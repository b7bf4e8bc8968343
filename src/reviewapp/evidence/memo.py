"""Figures into prose: the memo is a template that people write, in which every figure is looked up in the pack."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from jinja2 import Environment, StrictUndefined, TemplateError

from ..errors import UsageError
from .pack import Pack
from .tables import Column, Row

TEMPLATE, MEMO = "memo.md.j2", "memo.md"


def render(template: str, pack: Pack) -> str:
    """Return the memo; raise UsageError where the template asks for a figure that the pack does not have.

    The template may call `figure(table, column, form, **row)` (as people read it), `value(…)` (the number itself),
    `has(table)`, `count(table, **rows)`, `table(name, columns, **rows)` and `picture(name)`, and read `manifest`. What
    it says in words goes through `claim(words, holds)`, which refuses words that the figures do not bear out.
    """

    def value(name: str, column: str, **row: Any) -> Any:
        return pack.table(name).row(**row)[pack.table(name).column(column).name]

    def figure(name: str, column: str, form: str = "", **row: Any) -> str:
        found = value(name, column, **row)
        return format(found, form) if form and found is not None else pack.table(name).column(column).shown(found)

    def table(name: str, columns: Sequence[str] = (), **rows: Any) -> str:
        shown = pack.table(name)
        chosen = [shown.column(column) for column in columns] or list(shown.columns)
        return "\n".join(
            [*markdown(chosen, shown.find(**rows)), "", f"*{_ended(shown.title)} {_first(shown.reading)}*"]
        )

    def picture(name: str) -> str:
        found = [one for one in pack.manifest["pictures"] if one["name"] == name]
        if not found:
            raise UsageError(f"The evidence has no picture {name!r}.")
        [one] = found
        return f"![{one['title']}]({pack.folder.name}/{name}.png)\n\n*{_ended(one['title'])} {_first(one['reading'])}*"

    def count(name: str, **rows: Any) -> int:
        return len(pack.table(name).find(**rows))

    def claim(words: str, holds: bool) -> str:
        if not holds:
            raise UsageError(
                f"The memo claims {words!r}, and the evidence no longer bears that out: write {TEMPLATE} anew."
            )
        return words

    environment = Environment(undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, autoescape=False)  # noqa: S701 (Markdown)
    asked = {"value": value, "figure": figure, "table": table, "picture": picture, "count": count, "claim": claim}
    asked["has"] = pack.tables.__contains__
    try:
        text = environment.from_string(template).render(manifest=pack.manifest, **asked)
    except TemplateError as error:
        raise UsageError(f"{TEMPLATE}: {error}.") from None
    return text.rstrip() + "\n"


def _ended(title: str) -> str:
    return title if title.endswith("?") else f"{title}."


def _first(reading: str) -> str:
    """Return the first sentence; all of it stands on the page of the evidence."""
    return re.split(r"(?<=[.]) ", reading)[0]


def markdown(columns: Sequence[Column], rows: Sequence[Row]) -> list[str]:
    """Return the lines of a Markdown table; figures stand to the right."""
    lines = ["| " + " | ".join(column.title for column in columns) + " |"]
    lines.append("|" + "|".join("--:" if column.form else "---" for column in columns) + "|")
    lines += ["| " + " | ".join(column.shown(row[column.name]) for column in columns) + " |" for row in rows]
    return lines


def count_words(memo: str) -> int:
    """Return how many words of prose a memo has: tables, pictures, captions and headings apart."""
    prose = [line for line in memo.splitlines() if not re.match(r"\||!\[|\*[^*]|#", line)]
    return sum(any(character.isalnum() for character in word) for word in " ".join(prose).split())
