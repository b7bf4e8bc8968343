"""The baseline as a table of keyword rules that a person can read and edit (`rules.csv`).

One rule a row, the first that matches answers: `label`, `field` (a text field, or `*` for all of them), `words`
(separated by `|`, matched at the beginning of a word, upper and lower case alike; empty matches everything), then
`right` and `matched`: how often the rule was right among the calibration requests it matched. Their quotient is the
rule's confidence; what is left is spread evenly over the other labels.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from .contract import Contract
from .errors import ContractError

_COLUMNS = ["label", "field", "words", "right", "matched"]


@dataclass(frozen=True)
class Rule:
    label: str
    field: str
    words: str
    right: int = 0
    matched: int = 0


class RuleTable:
    """Keyword rules that answer like an estimator: `predict_proba(frame)` gives one row of shares a request."""

    def __init__(self, rules: Sequence[Rule], contract: Contract) -> None:
        texts = [field.name for field in contract.fields if field.kind == "text"]
        for number, rule in enumerate(rules, 1):
            if rule.label not in contract.outcome.labels:
                raise ContractError(f"Rule {number} answers {rule.label!r}, which the contract has no label for.")
            if rule.field != "*" and rule.field not in texts:
                raise ContractError(f"Rule {number} reads {rule.field!r}, which is no text field of the contract.")
        if not rules or rules[-1].words or rules[-1].field != "*":
            raise ContractError("The last rule must match everything: field *, no words.")
        self.rules = tuple(rules)
        self.labels = contract.outcome.labels
        self._contract = contract
        self._columns = [texts if rule.field == "*" else [rule.field] for rule in rules]
        self._patterns = [_pattern(rule.words) for rule in rules]
        self._shares = np.array([self._rule_shares(rule) for rule in rules])

    def _rule_shares(self, rule: Rule) -> NDArray[np.float64]:
        total_right = sum(other.right for other in self.rules)
        total = sum(other.matched for other in self.rules)
        # A rule that matched nothing has no share of its own: it is trusted as much as the whole table.
        confidence = rule.right / rule.matched if rule.matched else total_right / total if total else 1.0
        shares = np.full(len(self.labels), (1 - confidence) / (len(self.labels) - 1))
        shares[self.labels.index(rule.label)] = confidence
        return shares

    @classmethod
    def from_csv(cls, text: str, contract: Contract) -> RuleTable:
        """Read `rules.csv`; raise ContractError naming the line that cannot be understood."""
        rows = csv.DictReader(io.StringIO(text, newline=""), strict=True)
        if rows.fieldnames is None or list(rows.fieldnames) not in (_COLUMNS, _COLUMNS[:3]):
            raise ContractError(
                f"rules.csv begins with the header {','.join(_COLUMNS)} (the last two may be left out)."
            )
        rules = []
        for row in rows:
            try:
                right, matched = int(row.get("right") or 0), int(row.get("matched") or 0)
            except ValueError:
                raise ContractError(f"rules.csv, line {rows.line_num}: right and matched are whole numbers.") from None
            if not 0 <= right <= matched or None in row:
                raise ContractError(f"rules.csv, line {rows.line_num}: five columns, and right not above matched.")
            rules.append(Rule(row["label"], row["field"], row["words"] or "", right, matched))
        return cls(rules, contract)

    def to_csv(self) -> str:
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(_COLUMNS)
        writer.writerows([rule.label, rule.field, rule.words, rule.right, rule.matched] for rule in self.rules)
        return out.getvalue()

    def calibrated(self, frame: pd.DataFrame, labels: Sequence[str]) -> RuleTable:
        """Return the same rules with their counts taken from labelled requests."""
        matches = self.matching_rule(frame)
        counted = []
        for number, rule in enumerate(self.rules):
            hits = [label for label, match in zip(labels, matches, strict=True) if match == number]
            counted.append(replace(rule, right=hits.count(rule.label), matched=len(hits)))
        return RuleTable(counted, self._contract)

    def matching_rule(self, frame: pd.DataFrame) -> list[int]:
        """Return the number of the first rule that matches each row."""
        texts = {name: frame[name].tolist() for names in self._columns for name in names}
        return [self._first_match({name: column[i] for name, column in texts.items()}) for i in range(len(frame))]

    def _first_match(self, row: dict[str, object]) -> int:
        for number, (names, pattern) in enumerate(zip(self._columns, self._patterns, strict=True)):
            if pattern is None or any(pattern.search(str(row[name])) for name in names if isinstance(row[name], str)):
                return number
        raise AssertionError("the last rule matches everything")

    def predict_proba(self, frame: pd.DataFrame) -> NDArray[np.float64]:
        """Return shares of shape (rows, labels), each row adding up to 1."""
        shares: NDArray[np.float64] = self._shares[self.matching_rule(frame)]
        return shares


def _pattern(words: str) -> re.Pattern[str] | None:
    listed = [re.escape(word.strip()) for word in words.split("|") if word.strip()]
    return re.compile(r"(?<!\w)(?:" + "|".join(listed) + ")", re.IGNORECASE) if listed else None
