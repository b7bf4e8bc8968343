"""The one place where records become a DataFrame, for training and for serving alike."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from .contract import Contract
from .field import Field, Record

MISSING = float("nan")


def to_frame(contract: Contract, records: Sequence[Record]) -> pd.DataFrame:
    """Return records as a frame: one column a field, in the contract's order, in one constructor call.

    The dtype depends on the contract alone, never on the rows, so one row and many give the same answer: float64
    for a number and wherever an integer or a boolean may be null, else int64 or bool; object for category, text and
    date. `None` and an absent member become NaN, the missing value of the training table.
    """
    columns = {field.name: _column(field, [record.get(field.name) for record in records]) for field in contract.fields}
    return pd.DataFrame(columns, copy=False)


def _column(field: Field, values: list[object]) -> pd.Series:
    if field.nullable or not field.required:
        values = [MISSING if value is None else value for value in values]
    if field.kind in ("number", "integer", "boolean"):
        plain = {"number": np.float64, "integer": np.int64, "boolean": np.bool_}[field.kind]
        return pd.Series(np.array(values, dtype=np.float64 if field.nullable else plain))
    return pd.Series(values, dtype=object)
