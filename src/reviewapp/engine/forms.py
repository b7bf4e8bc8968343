"""The forms that a request takes on its way to a model's head: Cells, Dense, Sparse, Features."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse

from ..contract import Record, Value

Dense = NDArray[np.float64]  # shape (rows, columns)
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
    """Row i has `values[starts[i]:starts[i + 1]]` in the columns of the same places; all else is 0."""

    starts: NDArray[np.intp]
    columns: NDArray[np.intp]
    values: Dense
    width: int

    @property
    def rows(self) -> int:
        return len(self.starts) - 1

    def matrix(self) -> sparse.csr_array:
        """Return it as scikit-learn would: some of its estimators take indices of 32 bits only."""
        places = self.columns.astype(np.int32), self.starts.astype(np.int32)
        return sparse.csr_array((self.values, *places), shape=(self.rows, self.width))


def product(block: Dense | Sparse, weights: Dense) -> Dense:
    """Return the product with a matrix of shape (columns, k): shape (rows, k).

    Each row's terms are added in their own order, so that a row has the same digits alone and among others; BLAS and
    SciPy do not promise that, and for one row they are no faster.
    """
    rows, size = _rows(block), weights.shape[1]
    terms = len(block.columns) if isinstance(block, Sparse) else block.size
    if terms * size > MOST_TERMS and rows > 1:
        half = rows // 2
        return np.vstack([product(_part(block, 0, half), weights), product(_part(block, half, rows), weights)])
    if not isinstance(block, Sparse):
        summed: Dense = (block[:, :, np.newaxis] * weights).sum(axis=1)
        return summed
    added = np.zeros((rows, size))
    if terms:
        filled = np.flatnonzero(np.diff(block.starts))  # reduceat knows no empty row
        parts = block.values[:, np.newaxis] * weights[block.columns]
        added[filled] = np.add.reduceat(parts, block.starts[filled], axis=0)
    return added


def _part(block: Dense | Sparse, start: int, end: int) -> Dense | Sparse:
    if not isinstance(block, Sparse):
        return block[start:end]
    first, last = block.starts[start], block.starts[end]
    starts = block.starts[start : end + 1] - first
    return Sparse(starts, block.columns[first:last], block.values[first:last], block.width)


@dataclass(frozen=True)
class Features:
    """What the branches of a union give, side by side; `sparse` says in which form scikit-learn hands them on."""

    blocks: Sequence[Dense | Sparse]
    sparse: bool

    def joined(self) -> Dense | Sparse:
        """Return one block, in the form that scikit-learn would give."""
        if not self.sparse:
            return np.hstack([dense(block) for block in self.blocks])
        if len(self.blocks) == 1 and isinstance(self.blocks[0], Sparse):
            return self.blocks[0]
        if _rows(self.blocks[0]) == 1:
            return self._one_row()
        matrices = [b.matrix() if isinstance(b, Sparse) else sparse.csr_array(b) for b in self.blocks]
        return as_sparse(sparse.hstack(matrices, format="csr"))

    def _one_row(self) -> Sparse:
        """The same for one row, for which matrices of SciPy's would cost more than all the rest."""
        columns: list[NDArray[np.intp]] = []
        values: list[Dense] = []
        start = 0
        for block in self.blocks:
            if isinstance(block, Sparse):
                columns.append(block.columns + start)
                values.append(block.values)
                start += block.width
            else:
                filled = np.flatnonzero(block[0])
                columns.append(filled + start)
                values.append(block[0, filled])
                start += block.shape[1]
        whole = np.concatenate(values)
        return Sparse(np.array([0, len(whole)]), np.concatenate(columns), whole, start)


def _rows(block: Dense | Sparse) -> int:
    return block.rows if isinstance(block, Sparse) else len(block)


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
    return Sparse(rows.indptr.astype(np.intp), rows.indices.astype(np.intp), rows.data, rows.shape[1])


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
