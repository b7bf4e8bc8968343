"""An estimator that the caller brings: loaded by name or from a skops file, and held to what a service needs of it."""

from __future__ import annotations

import importlib
import os
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, is_classifier, is_clusterer, is_outlier_detector, is_regressor
from sklearn.exceptions import NotFittedError
from sklearn.model_selection._search import BaseSearchCV
from sklearn.pipeline import Pipeline
from sklearn.utils import get_tags
from sklearn.utils.validation import check_is_fitted

from .. import estimators
from ..errors import ReleaseRefused, UntrustedTypes, UsageError
from .kinds import is_integer

METHODS = ("predict_proba", "decision_function", "predict")


def load_given(named: str, option: str, trusted: Sequence[str]) -> Any:
    """Return the estimator that MODULE:NAME or FILE.skops names; raise UsageError saying why there is none.

    NAME may be an estimator or a function without arguments that returns one. Modules are also looked for in the
    current folder. A skops file may hold types of one's own only if they are `trusted`.
    """
    found = _from_file(Path(named), option, trusted) if named.endswith(".skops") else _from_module(named, option)
    if not any(hasattr(found, method) for method in (*METHODS, "fit")):
        raise UsageError(f"{option} {named} is of type {type(found).__name__}, and has none of {', '.join(METHODS)}.")
    try:  # what is asked of it later on
        is_fitted(found)
        if isinstance(found, BaseEstimator):
            is_classifier(found)
            found.get_params()
    except Exception as error:  # an estimator without its parts, or of a class that does not play by the rules
        raise UsageError(f"{option} {named} is not whole: {said(error)}") from None
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
    if not (colon and module_name and name) or module_name.endswith(".py"):
        raise UsageError(f"{option} {named} must be MODULE:NAME (without .py) or a file that ends in .skops.")
    _look_here()
    try:
        found: Any = importlib.import_module(module_name)
        for part in name.split("."):
            found = getattr(found, part)
        if (callable(found) and not hasattr(found, "fit")) or isinstance(found, type):
            found = found()
    except (Exception, SystemExit) as error:  # code of the caller's own can fail in any way, or end the process
        raise UsageError(f"{option} {named} cannot be loaded: {said(error)}") from None
    return found


def _look_here() -> None:
    """Let modules of the current folder be imported, as `python` in that folder does."""
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)


def folder_of(type_name: str) -> Path:
    """Return the folder from which the module of a type is imported; of a package that is the one it lies in."""
    top = sys.modules[type_name.partition(".")[0]]
    paths = list(getattr(top, "__path__", [])) or [getattr(top, "__file__", None) or os.__file__]
    return Path(paths[0]).resolve().parent


def said(error: BaseException) -> str:
    """Return an error of the caller's own code in one line."""
    first = _line(str(error))
    return f"{type(error).__name__}: {first}" if first else f"{type(error).__name__}."


def _line(text: str) -> str:
    return next((line.strip()[:300] for line in text.splitlines() if line.strip()), "")


def is_fitted(estimator: Any) -> bool:
    if not hasattr(estimator, "fit"):
        return True
    if not isinstance(estimator, BaseEstimator):
        return _has_learned(estimator)
    steps = [step for _, step in estimator.steps if hasattr(step, "fit")] if isinstance(estimator, Pipeline) else []
    parts = steps or [estimator]  # scikit-learn asks the last step of a pipeline alone
    try:
        for part in parts:
            check_is_fitted(part)
    except NotFittedError:
        return False
    return get_tags(parts[-1]).requires_fit or _has_learned(parts[-1])  # a Gaussian process predicts unfitted, too


def _has_learned(estimator: Any) -> bool:
    return any(name.endswith("_") and not name.startswith("__") for name in vars(estimator))


def check_task(estimator: Any, task: str, option: str) -> None:
    """Raise UsageError where a classifier is to give values, or a regressor labels, or it was made for neither."""
    if not isinstance(estimator, BaseEstimator):
        return
    if is_clusterer(estimator) or is_outlier_detector(estimator):
        raise UsageError(f"{option} is a {type(estimator).__name__}, which learns no target; give one that does.")
    if is_regressor(estimator) if task == "classification" else is_classifier(estimator):
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
        except (Exception, SystemExit) as error:  # code of the caller's own can fail in any way
            holes = [repr(name) for name in frame.columns if frame[name].isna().any()]
            hint = f" Columns with missing cells, which are NaN: {', '.join(holes[:10])}." if holes else ""
            raise UsageError(f"{option} failed to fit: {said(error)}{hint}") from None
    warned = dict.fromkeys(f"{option} warned: {_line(str(one.message))}" for one in caught)
    return estimator if fitted is None else fitted, list(warned)[:5]


def best_of(estimator: Any, option: str) -> Any:
    """Return the estimator that a search has found, for a search; it answers alone, without the log of the search."""
    if not isinstance(estimator, BaseSearchCV):
        return estimator
    if not hasattr(estimator, "best_estimator_"):
        raise UsageError(f"{option} is a search that keeps no estimator; set refit=True.")
    return estimator.best_estimator_


def names_of_classes(estimator: Any, labels: Sequence[str], option: str) -> dict[str, str]:
    """Return the label for each class of a fitted classifier (as text), in the order of its columns.

    A class that the table does not show is called by its own text. Raises UsageError for a label it does not know, and
    for two that are one class to it.
    """
    classes = getattr(estimator, "classes_", None)
    if classes is None:
        if hasattr(estimator, "predict_proba") or hasattr(estimator, "decision_function"):
            raise UsageError(f"{option} has no classes_, so nothing says which label each of its columns is.")
        return {label: label for label in labels}
    names: dict[str, str | None] = {str(one): None for one in classes}
    exact = [label for label in labels if label in names]
    for label in [*exact, *(label for label in labels if label not in names)]:
        same = [
            text for text in names if text == label or text.lower() == label.lower() or _number(text) == _number(label)
        ]
        if not same:
            raise UsageError(f"{option} knows no label {label!r}; it answers {', '.join(list(names)[:20])}.")
        taken = names[label if label in same else same[0]]
        if taken is not None:
            raise UsageError(f"{option} takes {taken!r} and {label!r} for one label; write them alike in the table.")
        names[label if label in same else same[0]] = label
    return {text: text if label is None else label for text, label in names.items()}


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
