"""Native and Compiled: records in, figures out. The two answer alike, or only Native is used (see parity.py)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import pandas as pd
from sklearn.compose import ColumnTransformer

from ..contract import Contract
from ..field import Record
from ..frames import to_frame
from .encoding import step_of
from .forms import Cells, Dense, NotCompiled, Sparse, as_sparse
from .heads import FEW_ROWS, head_of, is_of_trees
from .manywords import for_many


class Engine(Protocol):
    def figures(self, records: Sequence[Record]) -> Dense:
        """Return what an option answers: shares (rows, labels in its own order), or value, low and high (rows, 3)."""


class Native:
    """scikit-learn itself, on a DataFrame."""

    def __init__(self, estimator: Any, contract: Contract) -> None:
        values = contract.outcome.task == "regression"
        self._estimator, self._method = estimator, "predict_interval" if values else "predict_proba"
        self._contract = contract

    def figures(self, records: Sequence[Record]) -> Dense:
        return self.of_frame(to_frame(self._contract, records))

    def of_frame(self, frame: pd.DataFrame) -> Dense:
        """Return the same for records that are a frame already (frames.py)."""
        return np.asarray(getattr(self._estimator, self._method)(frame), dtype=np.float64)

    def for_many(self) -> Native:
        """Return one that counts words in many texts at once (manywords.py); itself where there are none to count."""
        quick = for_many(self._estimator)
        return self if quick is self._estimator else Native(quick, self._contract)


class Compiled:
    """The fitted parts as plain functions. Raises NotCompiled where one of them is not known.

    Of trees, many rows are answered by `native`, which is faster there.
    """

    def __init__(self, estimator: Any, contract: Contract, native: Native) -> None:
        self._names = contract.names
        try:
            self._head = head_of(estimator)
        except NotCompiled:
            raise
        except Exception as error:  # an estimator that is damaged, or of a form that no code here has seen
            raise NotCompiled(f"the model cannot be taken apart ({type(error).__name__})") from error
        self._native = native
        self._most = FEW_ROWS if is_of_trees(estimator) else None

    def figures(self, records: Sequence[Record]) -> Dense:
        if self._most is not None and len(records) > self._most:
            return self._native.figures(records)
        return self._head(Cells(records, self._names))


class Encoder:
    """The features of one request, by the compiled form of a transformer."""

    def __init__(self, transformer: ColumnTransformer, contract: Contract) -> None:
        self._names, self._step = contract.names, step_of(transformer)

    def features(self, record: Record) -> Sparse:
        return as_sparse(self._step(Cells([record], self._names)))
