"""The baseline as a short list of rules on any kind of field (`rules.json`), such as a person could follow.

The first rule whose conditions all hold answers; the last has none. A condition names a field and says `at_most` or
`above` (numbers and dates), `is` or `is_not` (a category, true or false), `holds` or `holds_not` (a word of a text),
or `known` (true or false: whether there is a value). `or_unknown` lets a missing value pass. An answer is the share of
each label, or a value and its margin.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from .contract import Contract
from .errors import ContractError
from .field import Field

SIGNS = {"at_most": "is at most", "above": "is above", "is": "is", "is_not": "is not", "holds": "holds the word",
         "holds_not": "does not hold the word"}  # fmt: skip
KNOWN = "known"
_KINDS = {
    "at_most": ("number", "integer", "date"), "above": ("number", "integer", "date"),
    "is": ("category", "boolean"), "is_not": ("category", "boolean"), "holds": ("text",), "holds_not": ("text",),
}  # fmt: skip


@dataclass(frozen=True)
class Condition:
    field: str
    sign: str
    than: Any
    or_unknown: bool = False

    def as_json(self) -> dict[str, Any]:
        return {"field": self.field, self.sign: self.than} | ({"or_unknown": True} if self.or_unknown else {})

    def in_words(self) -> str:
        if self.sign == KNOWN:
            return f"{self.field or '(no name)'} is {'' if self.than else 'not '}known"
        unknown = " (or not known)" if self.or_unknown else ""
        than = str(self.than).lower() if isinstance(self.than, bool) else self.than
        return f"{self.field or '(no name)'} {SIGNS[self.sign]} {than}{unknown}"


@dataclass(frozen=True)
class ListedRule:
    """Conditions, the answer where all of them hold, and how many rows it was learned from."""

    when: tuple[Condition, ...]
    answer: Mapping[str, float]
    rows: int

    def as_json(self) -> dict[str, Any]:
        return {"when": [one.as_json() for one in self.when], "answer": dict(self.answer), "rows": self.rows}


class RuleList:
    """Answers as an estimator does: `predict_proba` where the contract has labels, else `predict_interval`."""

    def __init__(self, rules: Sequence[ListedRule], contract: Contract) -> None:
        self.rules = tuple(rules)
        self.labels = contract.outcome.labels
        self._fields = {one.name: one for one in contract.fields}
        names = self.labels or ("value", "margin")
        if not rules or rules[-1].when:
            raise ContractError("The last rule must hold for everything: 'when': [].")
        for number, rule in enumerate(rules, 1):
            if set(rule.answer) != set(names) or not all(map(_is_finite, rule.answer.values())):
                raise ContractError(f"Rule {number}: the answer must give a number for each of {', '.join(names)}.")
            for condition in rule.when:
                problem = _problem(condition, self._fields.get(condition.field))
                if problem:
                    raise ContractError(f"Rule {number}: {problem}")
        answers = [[float(rule.answer[name]) for name in names] for rule in rules]
        self._answers = np.array(answers, dtype=np.float64)
        if self.labels and ((self._answers < 0).any() or not np.allclose(self._answers.sum(axis=1), 1)):
            raise ContractError("The shares of a rule's answer must add up to 1.")

    @classmethod
    def from_json(cls, text: str, contract: Contract) -> RuleList:
        """Read `rules.json`; raise ContractError naming the rule that cannot be understood."""
        try:
            listed = json.loads(text)["rules"]
            rules = [
                ListedRule(tuple(map(_condition, one["when"])), dict(one["answer"]), int(one["rows"])) for one in listed
            ]
        except (ValueError, KeyError, TypeError) as error:
            raise ContractError(f"rules.json holds 'rules', each with when, answer and rows ({error!r}).") from None
        return cls(rules, contract)

    def to_json(self) -> str:
        return json.dumps({"rules": [rule.as_json() for rule in self.rules]}, indent=2, ensure_ascii=False) + "\n"

    def matching_rule(self, frame: pd.DataFrame) -> NDArray[np.int64]:
        """Return the number of the first rule that holds for each row, from 0."""
        found = np.full(len(frame), len(self.rules) - 1)
        for number in range(len(self.rules) - 2, -1, -1):
            holds = np.ones(len(frame), dtype=bool)
            for condition in self.rules[number].when:
                holds &= _holds(condition, self._fields[condition.field], frame[condition.field])
            found[holds] = number
        return found

    def predict_proba(self, frame: pd.DataFrame) -> NDArray[np.float64]:
        """Return shares of shape (rows, labels)."""
        shares: NDArray[np.float64] = self._answers[self.matching_rule(frame)]
        return shares

    def predict_interval(self, frame: pd.DataFrame) -> NDArray[np.float64]:
        """Return value, low and high: shape (rows, 3)."""
        value, margin = self._answers[self.matching_rule(frame)].T
        return np.column_stack([value, value - margin, value + margin])

    def in_words(self) -> list[str]:
        """Return one sentence a rule."""
        lines = []
        for number, rule in enumerate(self.rules):
            when = " and ".join(one.in_words() for one in rule.when)
            begin = f"If {when}" if when else "Otherwise" if number else "Always"
            if self.labels:
                best = max(self.labels, key=lambda label: rule.answer[label])
                said = f"{best} ({100 * rule.answer[best]:.0f} % of {rule.rows:,} rows)"
            else:
                said = f"{rule.answer['value']:.6g} (mean of {rule.rows:,} rows; ± {rule.answer['margin']:.6g})"
            lines.append(f"{begin}: {said}.")
        return lines


def _is_finite(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _condition(document: Mapping[str, Any]) -> Condition:
    [sign] = set(document) - {"field", "or_unknown"}
    return Condition(document["field"], sign, document[sign], document.get("or_unknown", False))


def _problem(condition: Condition, field: Field | None) -> str | None:
    if field is None:
        return f"it reads {condition.field!r}, which the contract has no field for."
    if condition.sign == KNOWN:
        return None if isinstance(condition.than, bool) else f"{condition.than!r} is not true or false."
    if field.kind not in _KINDS.get(condition.sign, ()):
        return f"{condition.field!r} is {field.kind}, of which {condition.sign!r} says nothing."
    if field.kind == "date":
        try:
            field.parse_date(str(condition.than))
        except ValueError:
            return f"{condition.than!r} is no date written {field.date_words}."
    elif condition.sign in ("at_most", "above"):
        return None if _is_finite(condition.than) else f"{condition.than!r} is no number."
    elif field.kind == "boolean":
        return None if isinstance(condition.than, bool) else f"{condition.than!r} is not true or false."
    return None if isinstance(condition.than, str) else f"{condition.than!r} is no text."


def _holds(condition: Condition, field: Field, column: pd.Series) -> NDArray[np.bool_]:
    unknown: NDArray[np.bool_] = column.isna().to_numpy(dtype=bool)
    if condition.sign == KNOWN:
        return ~unknown if condition.than else unknown
    known = column[~unknown].tolist()
    than: Any = condition.than
    if condition.sign in ("at_most", "above"):
        if field.kind == "date":
            known, than = [field.parse_date(text) for text in known], field.parse_date(than)
        hits = [(value <= than) == (condition.sign == "at_most") for value in known]
    elif condition.sign in ("is", "is_not"):
        hits = [(value == than) == (condition.sign == "is") for value in known]
    else:
        word = re.compile(rf"(?<!\w){re.escape(than)}(?!\w)", re.IGNORECASE)
        hits = [(word.search(text) is not None) == (condition.sign == "holds") for text in known]
    found = np.full(len(column), condition.or_unknown)
    found[~unknown] = hits
    return found
