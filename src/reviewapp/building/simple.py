"""The baseline where none is given: what is most frequent (or the mean), or a tree of depth two, as rules to follow.

Of the two the one is taken that answers better on rows it was not fitted on. The tree is fitted by scikit-learn; what
is kept are its rules, with thresholds rounded as people write them, and the shares counted anew by those rules.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import KFold
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from .. import dates
from ..calibration import margin
from ..contract import Contract
from ..field import Field, Record
from ..frames import to_frame
from ..rulelist import KNOWN, Condition, ListedRule, RuleList

DEPTH = 2
VALUES = 30  # of a category, so many values are asked for
WORDS = 150  # of a text, so many words are asked for
SHORTEST_WORD = 3  # letters
SMALLEST_LEAF = 0.02  # of the rows
FOLDS = 5
LIMITS = ("at_most", "above")
Floats = NDArray[np.float64]
_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 (a table's dates have no zone)


@dataclass(frozen=True)
class Question:
    """What the tree may ask of a field: how large it is, or, with a sign, whether it is or holds something."""

    field: Field
    sign: str = ""
    than: Any = None

    def figures(self, values: Sequence[Any]) -> list[float]:
        """Return the answer for each value: 1 or 0 for a yes-or-no question, not-a-number for what is not known."""
        if self.sign == "holds":
            return [float(value is not None and self.than in _words(value)) for value in values]
        if self.sign:
            return [float(value == self.than) for value in values]
        if self.field.kind == "date":
            return [np.nan if value is None else _days(self.field, value) for value in values]
        return [np.nan if value is None else float(value) for value in values]

    def condition(self, threshold: float, *, upper: bool, unknown: bool) -> Condition:
        """Return one side of the question; `unknown` says whether a missing value belongs to it."""
        if math.isinf(threshold):  # the tree parts what is missing from what is not
            return Condition(self.field.name, KNOWN, not upper)
        or_unknown = unknown and self.field.nullable
        if self.sign:
            return Condition(self.field.name, self.sign if upper else f"{self.sign}_not", self.than, or_unknown)
        than: Any = float(f"{threshold:.5g}")
        if self.field.kind == "integer":
            than = math.floor(threshold)
        elif self.field.kind == "date":
            than = dates.written(_EPOCH + timedelta(days=threshold), self.field.date_format)
        return Condition(self.field.name, "above" if upper else "at_most", than, or_unknown)


@dataclass(frozen=True)
class _Rows:
    """Rows to fit rules on: requests, right answers, and what the questions found, shape (rows, questions)."""

    contract: Contract
    questions: Sequence[Question]
    records: Sequence[Record]
    answers: Sequence[Any]
    figures: Floats

    def only(self, rows: Sequence[int]) -> _Rows:
        records, answers = [self.records[i] for i in rows], [self.answers[i] for i in rows]
        return _Rows(self.contract, self.questions, records, answers, self.figures[rows])


def simple_baseline(contract: Contract, records: Sequence[Record], answers: Sequence[Any], seed: int) -> RuleList:
    """Return the better of the two on folds of the rows; regression rules have a margin of 0 until one is measured."""
    questions = [question for one in contract.fields for question in _questions(one, records)]
    columns = [question.figures([record[question.field.name] for record in records]) for question in questions]
    rows = _Rows(contract, questions, records, answers, np.array(columns, dtype=np.float64).T)
    if not questions:
        return _always(rows)
    plain = tree = 0.0
    for train, test in KFold(FOLDS, shuffle=True, random_state=seed).split(records):
        learned, asked = rows.only(train), rows.only(test)
        plain += _loss(_always(learned), asked)
        tree += _loss(_tree(learned, seed), asked)
    return _tree(rows, seed) if tree < plain else _always(rows)


def with_margin(rules: RuleList, contract: Contract, records: Sequence[Record], values: Sequence[float],
                coverage: float) -> RuleList:  # fmt: skip
    """Return regression rules whose intervals hold the truth with the given probability (split conformal)."""
    said = rules.predict_interval(to_frame(contract, records))[:, 0]
    half = margin(np.abs(said - np.asarray(values, dtype=np.float64)), coverage)
    listed = [ListedRule(rule.when, {**rule.answer, "margin": half}, rule.rows) for rule in rules.rules]
    return RuleList(listed, contract)


def _loss(rules: RuleList, rows: _Rows) -> float:
    frame = to_frame(rows.contract, rows.records)
    if not rules.labels:
        return float(np.abs(rules.predict_interval(frame)[:, 0] - np.asarray(rows.answers, dtype=np.float64)).sum())
    shares = rules.predict_proba(frame)
    columns = [rules.labels.index(answer) for answer in rows.answers]
    return -float(np.log(shares[np.arange(len(columns)), columns]).sum())


def _always(rows: _Rows) -> RuleList:
    return _counted([()], rows)


def _counted(conditions: Sequence[tuple[Condition, ...]], rows: _Rows) -> RuleList:
    """Return rules whose answers are what the rows say that each of them is the first to match."""
    whole = _answer(rows.contract, rows.answers, None)
    rules = RuleList([ListedRule(when, whole, 0) for when in conditions], rows.contract)
    matched = rules.matching_rule(to_frame(rows.contract, rows.records))
    counted = []
    for number, rule in enumerate(rules.rules):
        own = [answer for answer, match in zip(rows.answers, matched, strict=True) if match == number]
        counted.append(ListedRule(rule.when, _answer(rows.contract, own, whole), len(own)))
    return RuleList(counted, rows.contract)


def _answer(contract: Contract, answers: Sequence[Any], whole: dict[str, float] | None) -> dict[str, float]:
    """Return the share of each label, with one row more that is spread as all rows are; or the mean."""
    labels = contract.outcome.labels
    if not labels:
        mean = float(np.mean(answers)) if answers else (whole or {}).get("value", 0.0)
        return {"value": mean, "margin": 0.0}
    counts = Counter(answers)
    prior = whole or dict.fromkeys(labels, 1 / len(labels))
    return {label: (counts[label] + prior[label]) / (len(answers) + 1) for label in labels}


# ---- the tree ---------------------------------------------------------------------------------------------------


def _tree(rows: _Rows, seed: int) -> RuleList:
    leaf = max(5, int(SMALLEST_LEAF * len(rows.records)))
    kind = DecisionTreeClassifier if rows.contract.outcome.labels else DecisionTreeRegressor
    fitted = kind(max_depth=DEPTH, min_samples_leaf=leaf, random_state=seed).fit(rows.figures, rows.answers)
    return _counted(_paths(fitted.tree_, rows.questions), rows)


def _paths(tree: Any, questions: Sequence[Question]) -> list[tuple[Condition, ...]]:
    """Return the conditions that lead to each leaf; the last leaf is what is left."""
    paths: list[tuple[Condition, ...]] = []

    def walk(node: int, above: tuple[Condition, ...]) -> None:
        below, beyond = int(tree.children_left[node]), int(tree.children_right[node])
        if below < 0:
            paths.append(above)
            return
        question, threshold = questions[tree.feature[node]], float(tree.threshold[node])
        unknown_below = bool(question.sign) or bool(tree.missing_go_to_left[node])  # of a yes-or-no question it is no
        walk(below, _tighter(above, question.condition(threshold, upper=False, unknown=unknown_below)))
        walk(beyond, _tighter(above, question.condition(threshold, upper=True, unknown=not unknown_below)))

    walk(0, ())
    return [*paths[:-1], ()]


def _tighter(above: tuple[Condition, ...], more: Condition) -> tuple[Condition, ...]:
    """Return the conditions of a node of the tree: a further one on the same field takes the place of what it implies.

    That is a limit on the same side, and whether there is a value at all.
    """
    same = [one for one in above if one.field == more.field and one.sign in (*LIMITS, KNOWN)]
    if more.sign == KNOWN and more.than and same:
        return tuple(replace(one, or_unknown=False) if one in same else one for one in above)
    if more.sign in LIMITS:
        more = replace(more, or_unknown=more.or_unknown and all(one.or_unknown for one in same))
        same = [one for one in same if one.sign in (more.sign, KNOWN)]
    return (*(one for one in above if one not in same), more)


def _questions(one: Field, records: Sequence[Record]) -> list[Question]:
    values = [record[one.name] for record in records if record[one.name] is not None]
    if one.kind == "boolean":
        return [Question(one, "is", True)]
    if one.kind == "category":
        return [Question(one, "is", value) for value, _ in sorted(Counter(values).most_common(VALUES))]
    if one.kind == "text":
        words = Counter(word for value in values for word in _words(str(value)) if len(word) >= SHORTEST_WORD)
        return [Question(one, "holds", word) for word in sorted(word for word, _ in words.most_common(WORDS))]
    return [Question(one)]


@lru_cache(maxsize=100_000)
def _words(text: str) -> frozenset[str]:
    return frozenset(re.findall(r"\w+", text.lower()))


def _days(one: Field, text: str) -> float:
    return (one.parse_date(text) - _EPOCH).total_seconds() / 86_400
