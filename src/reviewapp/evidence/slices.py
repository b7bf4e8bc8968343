"""Groups of the tested rows that figures are given for on their own: by what a request says of itself."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from ..field import Record
from .running import TEST, Subject

SMALLEST = 30  # rows of a slice, below which a share says nothing
MOST_VALUES = 12  # of a field; with more of them most slices are too small, and the table too long


def slices(subject: Subject) -> Iterator[tuple[str, str, NDArray[np.bool_]]]:
    """Yield (title of a field, a value, which rows of the test part hold it) for categories and yes-or-no fields."""
    records = [example.record for example in subject.examples[TEST]]
    for field in subject.release.contract.fields:
        if field.kind in ("category", "boolean"):
            values = [_said(record, field.name) for record in records]
            if len(set(values)) <= MOST_VALUES:
                yield from grouped(field.label, values)


def grouped(title: str, values: Sequence[str]) -> Iterator[tuple[str, str, NDArray[np.bool_]]]:
    """Yield (title, value, rows) for each value."""
    for value in sorted(set(values)):
        yield title, value, np.array([one == value for one in values])


def _said(record: Record, name: str) -> str:
    value = record.get(name)
    return "not known" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
