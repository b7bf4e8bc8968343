"""An estimator that the caller brings: loaded by name or from a skops file, and held to what a service needs of it."""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, is_classifier, is_regressor
from sklearn.exceptions import NotFittedError
from sklearn.model_selection._search import BaseSearchCV
from sklearn.utils.validation import check_is_fitted

from .. import estimators
from ..contract import Contract, Field, Record
from ..errors import ReleaseRefused, UntrustedTypes, UsageError
from ..frames import to_frame
from .kinds import is_integer

METHODS = ("predict_proba", "decision_function", "predict")


def load_given(named: str, option: str, trusted: Sequence[str]) -> Any:
    """Return the estimator that MODULE:NAME or FILE.skops names; raise UsageError saying why there is none.

    NAME may be an estimator or a function without arguments that returns one. Modules are also looked for in the
    current folder. A skops file may hold types of one's own only if they are `trusted`.
    """
    found = _from_file(Path(named), option, trusted) if named.endswith(".skops") else _from_module(named, option)
    if not any(hasattr(found, method) for method in (*METHODS, "fit")):
        raise UsageError(f"{option} {named} is a {type(found).__name__}, and has none of {', '.join(METHODS)}.")
    return found


def _from_file(path: Path, option: str, trusted: Sequence[str]) -> Any:
    try:
        packed = path.read_bytes()
    except OSError as error:
        raise UsageError(f"{option} {path} cannot be read: {error.strerror}.") from None
    _look_here()
    try:
        return estimators.load(packed, str(path), trusted)
    except UntrustedTypes as error:
        raise UsageError(f"{option} {error.detail}{trust_hint(error.types)}") from None
    except ReleaseRefused as error:
        raise UsageError(f"{option} {error.detail}") from None


def trust_hint(types: Sequence[str]) -> str:
    """Return what to do about types that nobody trusts yet."""
    nameless = [name for name in types if "<" in name]
    if nameless:
        return f" {nameless[0]} has no name that could be imported again: define it in a module."
    return f" If you trust that code: {' '.join(f'--trust {name}' for name in types)}"


def _from_module(named: str, option: str) -> Any:
    module_name, colon, name = named.partition(":")
    if not (colon and module_name and name):
        raise UsageError(f"{option} {named} must be MODULE:NAME or a file that ends in .skops.")
    _look_here()
    try:
        found: Any = importlib.import_module(module_name)
        for part in name.split("."):
            found = getattr(found, part)
        if (callable(found) and not hasattr(found, "fit")) or isinstance(found, type):
            found = found()
    except Exception as error:  # code of the caller's own can fail in any way
        raise UsageError(f"{option} {named} cannot be loaded: {said(error)}") from None
    return found


def _look_here() -> None:
    """Let modules of the current folder be imported, as `python` in that folder does."""
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)


def folder_of(type_name: str) -> Path:
    """Return the folder from which the module of a type is imported."""
    top = sys.modules[type_name.partition(".")[0]]
    file = Path(str(top.__file__)).resolve()
    return file.parent.parent if file.stem == "__init__" else file.parent


def said(error: Exception) -> str:
    """Return an error of the caller's own code in one line."""
    first = _line(str(error))
    return f"{type(error).__name__}: {first}" if first else f"{type(error).__name__}."


def _line(text: str) -> str:
    return next((line.strip()[:300] for line in text.splitlines() if line.strip()), "")


def is_fitted(estimator: Any) -> bool:
    if not hasattr(estimator, "fit"):
        return True
    try:
        check_is_fitted(estimator)
    except (NotFittedError, TypeError):
        return False
    return True


def check_task(estimator: Any, task: str, option: str) -> None:
    """Raise UsageError where a classifier is to give values, or a regressor labels."""
    of_sklearn = hasattr(estimator, "__sklearn_tags__")
    other = of_sklearn and (is_regressor(estimator) if task == "classification" else is_classifier(estimator))
    if other:
        kind, right = ("regressor", "regression") if task == "classification" else ("classifier", "classification")
        raise UsageError(
            f"{option} is a {kind}, and the target is taken for a {task}; if that is wrong, add --task {right}."
        )


def fields_of(estimator: Any, names: Sequence[str], option: str) -> list[str]:
    """Return the columns that a fitted estimator was fitted with; raise UsageError where the table lacks one.

    One that knows no names takes all columns, if they are as many as it was fitted with.
    """
    known = getattr(estimator, "feature_names_in_", None)
    if known is not None:
        lacking = [name for name in known if name not in names]
        if lacking:
            raise UsageError(f"{option} was fitted with a column {lacking[0]!r}, which no request has.")
        return [str(name) for name in known]
    wanted = getattr(estimator, "n_features_in_", len(names))
    if wanted != len(names):
        raise UsageError(
            f"{option} was fitted with {wanted} columns without names, and a request has {len(names)}: "
            f"{', '.join(map(repr, names))}. Leave others out with --drop."
        )
    return list(names)


def seeded(estimator: Any, seed: int) -> Any:
    """Set every `random_state` inside an unfitted estimator that is left open, so that two builds make the same."""
    if isinstance(estimator, BaseEstimator):
        names = [name for name in estimator.get_params() if name == "random_state" or name.endswith("__random_state")]
        estimator.set_params(**{name: seed for name in names if estimator.get_params()[name] is None})
    return estimator


def typed(answers: Sequence[Any]) -> Sequence[Any]:
    """Return labels as a table's reader would give them to an estimator: whole numbers as such, else texts."""
    if all(isinstance(answer, str) and is_integer(answer) for answer in answers):
        return [int(answer) for answer in answers]
    return answers


def fit(estimator: Any, frame: pd.DataFrame, answers: Sequence[Any], option: str) -> tuple[Any, list[str]]:
    """Fit the caller's estimator; return it with what it warned of. Raise UsageError saying why it fails."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            fitted = estimator.fit(frame, np.asarray(answers))
        except Exception as error:  # code of the caller's own can fail in any way
            raise UsageError(f"{option} failed to fit: {said(error)}") from None
    warned = dict.fromkeys(f"{option} warned: {_line(str(one.message))}" for one in caught)
    return estimator if fitted is None else fitted, list(warned)[:5]


def best_of(estimator: Any) -> Any:
    """Return the estimator that a search has found, for a search; it answers alone, without the log of the search."""
    return estimator.best_estimator_ if isinstance(estimator, BaseSearchCV) else estimator


def check_answers(estimator: Any, contract: Contract, records: Sequence[Record], option: str) -> None:
    """Raise UsageError where an estimator does not answer rows of the table, or a null that the contract allows."""
    if not any(hasattr(estimator, name) for name in METHODS):
        raise UsageError(f"{option} has none of {', '.join(METHODS)} once it is fitted.")

    def try_rows(rows: Sequence[Record], what: str) -> None:
        failure = _failure(estimator, contract, rows)
        if failure:
            raise UsageError(f"{option} does not answer {what}: {failure}")

    whole = _whole(records)
    try_rows([whole], "a row of the table")
    try_rows(records, "rows of the table")
    for one in contract.fields:
        if one.nullable:
            try_rows([{**whole, one.name: None}], f"a request whose {one.name!r} is null, as in the table")


def narrowed(
    estimator: Any, contract: Contract, records: Sequence[Record], option: str
) -> tuple[Contract, tuple[str, ...]]:
    """Return the contract without what it allows and the estimator fails at, and a note for each such limit.

    A category that training did not see, and a number at its hard limit, are valid requests: they get an answer, or the
    contract refuses them.
    """
    whole = _whole(records)
    trials: list[tuple[Field, dict[str, Any], Record]] = []
    for one in contract.fields:
        if one.kind == "category" and one.choices is None:
            values = sorted({str(row[one.name]) for row in records if row[one.name] is not None})
            closed = {"choices": one.seen_choices or tuple(values), "seen_choices": None, "max_length": None}
            trials.append((one, closed, {**whole, one.name: "\u2026"}))
        elif one.kind in ("number", "integer"):
            low, high = one.limits
            trials.append((one, {"minimum": one.seen_minimum}, {**whole, one.name: low}))
            trials.append((one, {"maximum": one.seen_maximum}, {**whole, one.name: high}))
    if not trials or not _failure(estimator, contract, [row for _, _, row in trials]):
        return contract, ()
    changes: dict[str, dict[str, Any]] = {}
    notes = []
    for one, change, row in trials:
        if _failure(estimator, contract, [row]):
            limit, value = next(iter(change.items()))
            what = "the values of the table" if limit == "choices" else f"{limit} {value}"
            notes.append(f"{option} fails at other values of {one.name!r}, so the contract is narrowed to {what}.")
            changes.setdefault(one.name, {}).update(change)
    fields = tuple(replace(one, **changes.get(one.name, {})) for one in contract.fields)
    return replace(contract, fields=fields), tuple(notes)


def _whole(records: Sequence[Record]) -> Record:
    return next((row for row in records if None not in row.values()), records[0])


def _failure(estimator: Any, contract: Contract, rows: Sequence[Record]) -> str | None:
    """Return how an estimator fails to answer rows, in one line, or None."""
    method = next(name for name in METHODS if hasattr(estimator, name))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            answers = np.asarray(getattr(estimator, method)(to_frame(contract, rows)))
    except Exception as error:  # code of the caller's own can fail in any way
        return said(error)
    if len(answers) != len(rows):
        return f"it gives {len(answers)} answers to {len(rows)} rows."
    if answers.dtype.kind == "f" and not np.isfinite(answers).all():
        return "it answers with something else than finite numbers."
    return None


def names_of_classes(estimator: Any, labels: Sequence[str], option: str) -> dict[str, str]:
    """Return the label for each class of a fitted classifier (as text), in the order of its columns.

    A class that the table does not show is called by its own text. Raises UsageError for a label it does not know.
    """
    classes = getattr(estimator, "classes_", None)
    if classes is None:
        return {label: label for label in labels}
    names = {str(one): str(one) for one in classes}
    for label in labels:
        same = [
            text for text in names if text == label or text.lower() == label.lower() or _number(text) == _number(label)
        ]
        if not same:
            raise UsageError(f"{option} knows no label {label!r}; it answers {', '.join(list(names)[:20])}.")
        names[label if label in same else same[0]] = label
    return names


def check_labels(estimator: Any, names: Mapping[str, str], frame: pd.DataFrame, option: str) -> None:
    """Raise UsageError where a classifier that only says a label says one that is none of its classes."""
    if hasattr(estimator, "predict_proba") or hasattr(estimator, "decision_function"):
        return
    strange = sorted({str(one) for one in estimator.predict(frame)} - set(names))
    if strange:
        raise UsageError(f"{option} answers {strange[0]!r}, which is none of the labels {', '.join(list(names)[:20])}.")


def _number(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


def one_job(estimator: Any) -> Any:
    """Set every `n_jobs` inside an estimator to 1, fitted parts included: a worker answers one request at a time.

    Measured for a forest of 200 trees and one row: 49 ms with all cores, 14 ms with one.
    """
    seen: set[int] = set()
    waiting = [estimator]
    while waiting:
        one = waiting.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        if isinstance(one, BaseEstimator):
            if getattr(one, "n_jobs", 1) != 1:
                one.n_jobs = 1
            waiting += vars(one).values()
        elif isinstance(one, dict):
            waiting += one.values()
        elif isinstance(one, (list, tuple)) or (isinstance(one, np.ndarray) and one.dtype == object):
            waiting += list(one)
    return estimator
