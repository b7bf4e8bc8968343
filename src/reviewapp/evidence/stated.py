"""Files that people write for the evidence (TOML): read strictly, and every mistake named by its place."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from marshmallow import Schema, ValidationError, validate

from ..errors import UsageError

FILLED = validate.Length(min=1, error="This may not be empty.")


def read_stated(path: Path, schema: Schema) -> dict[str, Any]:
    """Return what the file states as the schema loads it; raise UsageError naming the file, the places and why."""
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"{path.name} cannot be read: {error}.") from None
    try:
        loaded: dict[str, Any] = schema.load(document)
    except ValidationError as error:
        raise UsageError(f"{path.name}: {' '.join(_lines(error.messages))}") from None
    return loaded


def differ(values: Sequence[Any]) -> None:
    """Raise ValidationError where two are the same."""
    if len(set(values)) < len(values):
        again = next(value for i, value in enumerate(values) if value in values[:i])
        raise ValidationError(f"{again!r} is there twice; each needs a name of its own.")


def _lines(messages: Any, place: str = "") -> Iterator[str]:
    """Yield each mistake behind its place, such as `case 2, inputs`; people count from one."""
    if not isinstance(messages, Mapping):
        said = messages if isinstance(messages, list) else [messages]
        yield from (f"{place}: {one}" if place else one for one in said)
        return
    for name, below in messages.items():
        if isinstance(name, int):
            there = f"{place} {name + 1}"
        else:
            there = place if name == "_schema" else ", ".join(filter(None, (place, name)))
        yield from _lines(below, there)
