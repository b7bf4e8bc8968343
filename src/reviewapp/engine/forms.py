"""The forms that a request takes on its way to a model's head: Cells, Dense, Sparse, Features."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse

from ..field import Record, Value

Dense = NDArray[np.float64]  # shape (rows, columns)
LISTED_ROWS = 8  # up to so many rows, lists are faster than arrays
MOST_TERMS = 1 << 22  # of a product that are in memory at a time


class NotCompiled(Exception):
    """A part is not known to the compiled engine; says which, in words."""


@dataclass(frozen=True)
class Cells:
    """The columns `names` of records; a value that is missing is None."""

    records: Sequence[Record]
    names: Sequence[str]

    def column(self, name: str) -> list[Value]:
        return [record.get(name) for record in self.records]

    def columns(self) -> list[list[Value]]:
        return [self.column(name) for name in self.names]

    def dense(self) -> Dense:
        """Return numbers of shape (rows, columns); what is missing is not-a-number."""
        return np.array([[record.get(name) for name in self.names] for record in self.records], dtype=np.float64)


@dataclass(frozen=True)
class Sparse:
    """Row i has `values[starts[i]:starts[i + 1]]` in the columns of the same places; all else is 0.

    They are plain lists: for the few terms of one request, each call of NumPy costs more than a loop.
    """

    starts: list[int]
    columns: list[int]
    values: list[float]
    width: int

    @property
    def rows(self) -> int:
        return len(self.starts) - 1

    def matrix(self) -> sparse.csr_array:
        """Return it as scikit-learn would: some of its estimators take indices of 32 bits only."""
        places = np.array(self.columns, dtype=np.int32), np.array(self.starts, dtype=np.int32)
        return sparse.csr_array((np.array(self.values), *places), shape=(self.rows, self.width))


@dataclass(frozen=True)
class Features:
    """What the branches of a union give, side by side; `sparse` says in which form scikit-learn hands them on."""

    blocks: Sequence[Dense | Sparse]
    sparse: bool

    def joined(self) -> Dense | Sparse:
        """Return one block, in the form that scikit-learn would give."""
        if not self.sparse:
            return np.hstack([dense(block) for block in self.blocks])
        return side_by_side(self.blocks)


def side_by_side(blocks: Sequence[Dense | Sparse]) -> Sparse:
    """Return blocks of the same rows as one."""
    if len(blocks) == 1 and isinstance(blocks[0], Sparse):
        return blocks[0]
    columns, values, starts, width = terms_of(blocks)
    return Sparse(starts.tolist(), columns.tolist(), values.tolist(), width)


def terms_of(
    blocks: Sequence[Dense | Sparse], always: Sequence[float] = ()
) -> tuple[NDArray[np.intp], Dense, NDArray[np.intp], int]:
    """Return the columns and values of all blocks side by side, row by row, where each row starts, and the width.

    `always` are the values of more columns at the end, which each row begins with. For a few rows lists are faster.
    """
    rows = _rows(blocks[0])
    offsets = list(accumulate((width_of(block) for block in blocks), initial=0))
    first = range(offsets[-1], offsets[-1] + len(always))
    if rows <= LISTED_ROWS:
        columns: list[int] = []
        values: list[float] = []
        begins = [0]
        for row in range(rows):
            columns += first
            values += always
            for block, offset in zip(blocks, offsets, strict=False):
                if isinstance(block, Sparse):
                    start, end = block.starts[row : row + 2]
                    columns += [column + offset for column in block.columns[start:end]]
                    values += block.values[start:end]
                else:
                    columns += range(offset, offset + block.shape[1])
                    values += block[row].tolist()
            begins.append(len(columns))
        return np.array(columns, dtype=np.intp), np.array(values, dtype=np.float64), np.array(begins), first.stop
    each = [(np.tile(first, rows), np.tile(always, rows), np.repeat(np.arange(rows), len(always)))]
    for block, offset in zip(blocks, offsets[:-1], strict=True):
        if isinstance(block, Sparse):
            owners = np.repeat(np.arange(rows), np.diff(block.starts))
            each.append((np.array(block.columns, dtype=np.intp) + offset, np.array(block.values), owners))
        else:
            places = np.tile(np.arange(offset, offset + block.shape[1]), rows)
            each.append((places, block.ravel(), np.repeat(np.arange(rows), block.shape[1])))
    whole = [np.concatenate(parts) for parts in zip(*each, strict=True)]
    order = np.argsort(whole[2], kind="stable")
    starts = np.searchsorted(whole[2][order], np.arange(rows + 1))
    return whole[0][order].astype(np.intp), whole[1][order], starts, first.stop


class Sums:
    """The product with a matrix of shape (columns, k), and a constant of shape (k,) added to each row.

    Each row's terms are added in their own order, so that a row has the same digits alone and among others; BLAS and
    SciPy do not promise that, and for one row they are no faster.
    """

    def __init__(self, weights: Dense, constant: Dense) -> None:
        self._weights, self._constant = np.ascontiguousarray(weights), constant
        self._with_constant = np.vstack([weights, constant])  # as the weights of one more column, which is always 1

    def of(self, form: Form) -> Dense:
        """Return the sums, shape (rows, k), of what a union gave, or of one block."""
        blocks = form.blocks if isinstance(form, Features) else [form if isinstance(form, Sparse) else dense(form)]
        numbers = [block for block in blocks if not isinstance(block, Sparse)]
        if len(numbers) < len(blocks):
            return self._sparse(blocks)
        return self._dense(numbers[0] if len(numbers) == 1 else np.hstack(numbers))

    def _dense(self, rows: Dense) -> Dense:
        step = max(1, MOST_TERMS // self._weights.size)
        parts = [rows[i : i + step, :, np.newaxis] * self._weights for i in range(0, len(rows), step)]
        return np.concatenate([part.sum(axis=1) for part in parts]) + self._constant

    def _sparse(self, blocks: Sequence[Dense | Sparse]) -> Dense:
        columns, values, starts, _ = terms_of(blocks, (1.0,))
        if len(columns) * self._weights.shape[1] <= MOST_TERMS:
            return self._added(columns, values, starts)
        return np.concatenate([
            self._added(columns[start:end], values[start:end], np.array([0, end - start]))
            for start, end in pairwise(starts.tolist())
        ])  # fmt: skip

    def _added(self, columns: NDArray[np.intp], values: Dense, starts: NDArray[np.intp]) -> Dense:
        terms = self._with_constant[columns]
        terms *= values[:, np.newaxis]
        return np.asarray(np.add.reduceat(terms, starts[:-1], axis=0))  # there is no empty row: each has the constant


def _rows(block: Dense | Sparse) -> int:
    return block.rows if isinstance(block, Sparse) else len(block)


def width_of(block: Dense | Sparse) -> int:
    return block.width if isinstance(block, Sparse) else int(block.shape[1])


Form = Any  # Cells, Dense, Sparse or Features
Step = Callable[[Form], Form]


def one_block(form: Form) -> Form:
    return form.joined() if isinstance(form, Features) else form


def dense(form: Form) -> Dense:
    """Return the numbers of any form, shape (rows, columns)."""
    form = one_block(form)
    if isinstance(form, Cells):
        return form.dense()
    return np.asarray(form.matrix().toarray() if isinstance(form, Sparse) else form)


def matrix(form: Form) -> Any:
    """Return what scikit-learn's own next step would be given: an array, or a sparse matrix."""
    form = one_block(form)
    return form.matrix() if isinstance(form, Sparse) else dense(form)


def as_sparse(form: Form) -> Sparse:
    """Return any form as the numbers that are not 0."""
    form = one_block(form)
    if isinstance(form, Sparse):
        return form
    rows = sparse.csr_array(form if sparse.issparse(form) else dense(form))
    return Sparse(rows.indptr.tolist(), rows.indices.tolist(), rows.data.tolist(), rows.shape[1])


def nameless(estimator: Any) -> Any:
    """Return a copy that was fitted on columns without names: it takes an array without asking for a DataFrame."""
    bare = copy.copy(estimator)
    if hasattr(bare, "feature_names_in_"):
        del bare.feature_names_in_
    return bare


def named_columns(columns: Any, names: Sequence[str] | None) -> list[str] | None:
    """Return the names that a ColumnTransformer's columns stand for, which may be positions, a mask or a slice."""
    if isinstance(columns, str):
        return [columns]
    if names is None:
        return None
    known = pd.DataFrame(columns=list(names))
    if isinstance(columns, slice):
        by_name = isinstance(columns.start, str) or isinstance(columns.stop, str)
        return list((known.loc[:, columns] if by_name else known.iloc[:, columns]).columns)
    if all(isinstance(column, str) for column in columns):
        return list(columns)
    return list(known.columns[np.asarray(columns)])


def is_nan(value: Any) -> bool:
    return isinstance(value, float) and math.isnan(value)


def columns_of(form: Form) -> list[list[Value]]:
    """Return the values of each column, a missing one as None."""
    if isinstance(form, Cells):
        return form.columns()
    return [[None if is_nan(value) else value for value in column] for column in dense(form).T.tolist()]
