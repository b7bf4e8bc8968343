"""Does an estimator of the caller's answer what the contract allows? Tried before a release is made of it.

What it fails at is taken out of the contract where a limit can say so; else the build says plainly what does not fit.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

from .. import dates
from ..contract import Contract
from ..errors import UsageError
from ..field import Field, Record, Value
from ..frames import to_frame
from .given import METHODS, said
from .kinds import sorted_values

STRANGE = "\u2026"  # a text that no table holds
ALONE = 12  # rows that are asked one by one, too
SLACK = 0.01  # a share of rows at which ties may fall otherwise


@dataclass(frozen=True)
class Trial:
    """A value of a field that the table does not show and the contract allows; `limits` would refuse it."""

    of: Field
    value: Value
    what: str
    limits: Mapping[str, Any] = field(default_factory=dict)


def check_answers(estimator: Any, contract: Contract, records: Sequence[Record], option: str) -> None:
    """Raise UsageError where an estimator does not answer rows of the table, or a null that the contract allows."""
    methods = _methods(contract)
    if not any(hasattr(estimator, name) for name in methods):
        raise UsageError(f"{option} has none of {', '.join(methods)} once it is fitted.")

    def try_rows(rows: Sequence[Record], what: str) -> None:
        failure = _failure(estimator, contract, rows)
        if failure:
            raise UsageError(f"{option} does not answer {what}: {failure}")

    whole = _whole(records)
    try_rows([whole], "a row of the table")
    try_rows(records, "rows of the table")
    method = next(name for name in methods if hasattr(estimator, name))
    _check_alone(estimator, method, contract, records[:ALONE], option)
    nothing = {one.name: None for one in contract.fields if one.nullable}
    for name in nothing:
        try_rows([{**whole, name: None}], f"a request whose {name!r} is null, as in the table")
    if nothing:
        try_rows([{**whole, **nothing}], "a request in which all is null that may be")


def _check_alone(estimator: Any, method: str, contract: Contract, records: Sequence[Record], option: str) -> None:
    """Raise UsageError where the answer to a row depends on the rows beside it, or on when it is asked."""

    def answers(rows: Sequence[Record]) -> Any:
        return np.asarray(_ask(estimator, method, to_frame(contract, rows), option))

    together, alone = answers(records), np.concatenate([answers([record]) for record in records])
    same = (
        np.allclose(together.astype(np.float64), alone.astype(np.float64), rtol=1e-9, atol=1e-9)
        if together.dtype.kind in "biuf"
        else bool((together == alone).all())
    )
    if not same:
        raise UsageError(
            f"{option} answers a row of the table otherwise when it is asked alone than among others: "
            "its answer must depend on the row, and on nothing else."
        )


def narrowed(
    estimators: Mapping[str, Any], contract: Contract, records: Sequence[Record]
) -> tuple[Contract, tuple[str, ...]]:
    """Return the contract without what it allows and one of the estimators fails at, and a note for each such limit.

    `estimators` are by the option that named them; `records` are all rows. Raises UsageError where an estimator fails
    at what no limit of a contract can refuse.
    """
    whole = _whole(records)
    trials = [trial for one in contract.fields for trial in _trials(one, records)]
    rows = [{**whole, trial.of.name: trial.value} for trial in trials]
    changes: dict[str, dict[str, Any]] = {}
    notes = []
    for option, estimator in estimators.items():
        if not trials or not _failure(estimator, contract, rows):
            continue
        for trial, row in zip(trials, rows, strict=True):
            failure = _failure(estimator, contract, [row])
            if failure is None:
                continue
            name = trial.of.name
            if not trial.limits:
                raise UsageError(f"{option} does not answer {trial.what} of {name!r}, which is allowed: {failure}")
            limit, value = next(iter(trial.limits.items()))
            what = "the values of the rows that are kept" if limit == "choices" else f"{limit} {value}"
            notes.append(f"{option} fails at {trial.what} of {name!r}, so the contract is narrowed to {what}.")
            changes.setdefault(name, {}).update(trial.limits)
    fields = tuple(replace(one, **changes.get(one.name, {})) for one in contract.fields)
    return replace(contract, fields=fields), tuple(notes)


def check_labels(estimator: Any, names: Mapping[str, str], frame: pd.DataFrame, option: str) -> list[str]:
    """Return notes on a classifier's own labels: those that it says against its probabilities.

    Raises UsageError where its columns are not its classes, or it says a label that is none of them.
    """
    shares = None
    if hasattr(estimator, "predict_proba"):
        shares = np.asarray(_ask(estimator, "predict_proba", frame, option))
        if shares.shape[1] != len(names):
            raise UsageError(f"{option} gives {shares.shape[1]} probabilities a row, and has {len(names)} classes.")
    if not hasattr(estimator, "predict"):
        if shares is None:
            raise UsageError(f"{option} has scores and no predict, so nothing shows which label they speak for.")
        return []
    answered = [str(one) for one in np.ravel(_ask(estimator, "predict", frame, option))]
    strange = sorted(set(answered) - set(names))
    if strange:
        raise UsageError(f"{option} answers {strange[0]!r}, which is none of the labels {', '.join(list(names)[:20])}.")
    if shares is None:
        return []
    likeliest = np.asarray(list(names))[shares.argmax(axis=1)]
    share = float((likeliest != np.asarray(answered)).mean())
    if share <= SLACK:
        return []
    return [
        f"{option} says another label than its likeliest one for {share:.0%} of the rows; the likeliest one counts."
    ]


def _ask(estimator: Any, method: str, frame: pd.DataFrame, option: str) -> Any:
    try:
        return getattr(estimator, method)(frame)
    except (Exception, SystemExit) as error:  # code of the caller's own can fail in any way
        raise UsageError(f"{option} fails in its {method}: {said(error)}") from None


def _trials(one: Field, records: Sequence[Record]) -> Iterator[Trial]:
    """Yield values of a field that the contract allows and the table does not hold."""
    seen = {row[one.name] for row in records if row[one.name] is not None}
    if one.kind == "category" and one.choices is None:
        # of the rows alone that were answered: what was put aside, its labels too rare, is as unknown as any other
        closed = {"choices": sorted_values(map(str, seen)), "seen_choices": None, "max_length": None}
        yield Trial(one, STRANGE, "values that the table does not hold", closed)
    elif one.kind == "category":
        for choice in one.choices or ():
            if choice not in seen:
                yield Trial(one, choice, f"the choice {choice!r}")
    elif one.kind in ("number", "integer"):
        low, high = one.limits
        known = one.seen_minimum is not None  # a person may have taken it out of the contract
        yield Trial(one, low, "values below the table's", {"minimum": one.seen_minimum} if known else {})
        yield Trial(one, high, "values above the table's", {"maximum": one.seen_maximum} if known else {})
        between = _between([float(value) for value in seen if value is not None], whole=one.kind == "integer")
        if between is not None:
            hint = " (a code? then --category)" if one.kind == "integer" else ""
            yield Trial(one, between, f"the value {between:g} between the table's{hint}")
    elif one.kind == "text":
        for text, what in (("", "the empty text"), ("?!", "a text of signs alone"), (STRANGE, "a text without words")):
            yield Trial(one, text, what)
    elif one.kind == "date":
        days = sorted(one.parse_date(str(value)) for value in seen)
        if days:
            other = days[-1] + timedelta(days=1) if days[-1].year < 9999 else days[0] - timedelta(days=1)
            yield Trial(one, dates.written(other, one.date_format), "days that the table does not hold")


def _between(values: Sequence[float], *, whole: bool) -> int | float | None:
    """Return a value in the widest gap between values, or None where there is none."""
    ordered = sorted(set(values))
    gaps = [(b - a, a) for a, b in pairwise(ordered) if b - a > (1 if whole else 0)]
    if not gaps:
        return None
    width, start = max(gaps)
    return int(start + width // 2) if whole else start + width / 2


def _whole(records: Sequence[Record]) -> Record:
    return next((row for row in records if None not in row.values()), records[0])


def _methods(contract: Contract) -> tuple[str, ...]:
    return METHODS if contract.outcome.labels else ("predict",)


def _failure(estimator: Any, contract: Contract, rows: Sequence[Record]) -> str | None:
    """Return how an estimator fails to answer rows, in one line, or None."""
    labels = contract.outcome.labels
    method = next(name for name in _methods(contract) if hasattr(estimator, name))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            answers = np.asarray(getattr(estimator, method)(to_frame(contract, rows)))
    except (Exception, SystemExit) as error:  # code of the caller's own can fail in any way
        return said(error)
    if len(np.atleast_1d(answers)) != len(rows):
        return f"it gives {len(np.atleast_1d(answers))} answers to {len(rows)} rows."
    if method == "predict_proba" and (answers.ndim != 2 or answers.shape[1] < 2):
        return f"its predict_proba gives an array of shape {answers.shape}, and (rows, labels) is needed."
    if not labels and answers.size != len(rows):
        return f"it gives {answers.size // len(rows)} values a row, and one is needed."
    if labels and method == "predict":
        return None
    if answers.dtype.kind not in "biuf":
        return "it answers with something else than numbers."
    return (
        None if np.isfinite(answers.astype(np.float64)).all() else "it answers with something else than finite numbers."
    )
