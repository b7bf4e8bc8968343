"""The baseline is a few rules that a person could follow, and answers as its sentences say."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from reviewapp.building.simple import simple_baseline, with_margin
from reviewapp.contract import Contract, Outcome
from reviewapp.errors import ContractError
from reviewapp.field import Field
from reviewapp.frames import to_frame
from reviewapp.rulelist import RuleList

FIELDS = (
    Field(name="age", kind="integer", nullable=True, required=False),
    Field(name="size", kind="number"),
    Field(name="a/b", kind="category", choices=("red", "<b>")),
    Field(name="flag", kind="boolean"),
    Field(name="text", kind="text"),
    Field(name="day", kind="date", date_format="%d.%m.%Y"),
)
LABELS = Contract(name="c", fields=FIELDS, outcome=Outcome(name="y", labels=("no", "yes")))
VALUES = Contract(name="c", fields=FIELDS, outcome=Outcome(name="y", task="regression"))


def rows(n: int = 400, seed: int = 0) -> list[dict[str, Any]]:
    rng = np.random.default_rng(seed)
    return [
        {
            "age": None if rng.random() < 0.2 else int(rng.integers(0, 90)),
            "size": round(float(rng.normal()), 3),
            "a/b": str(rng.choice(["red", "<b>"])),
            "flag": bool(rng.random() < 0.5),
            "text": " ".join(rng.choice(["Pay", "now", "later", "please"], 4)),
            "day": f"{int(rng.integers(1, 29)):02}.{int(rng.integers(1, 13)):02}.2024",
        }
        for _ in range(n)
    ]


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        (lambda r: r["age"] is not None and r["age"] > 40, "age is at most 40 (or not known)"),
        (lambda r: r["size"] > 0.25, "size is at most 0.2"),
        (lambda r: r["a/b"] == "<b>", "a/b is not red"),
        (lambda r: r["flag"], "flag is not true"),
        (lambda r: "pay" in r["text"].lower(), "text does not hold the word pay"),
        (lambda r: r["day"][3:5] >= "07", "day is at most 29.06.2024"),
    ],
    ids=["integer and missing", "number", "category", "boolean", "word", "date"],
)
def test_what_decides_is_found_and_said_in_a_sentence(rule: Any, words: str) -> None:
    records = rows()
    answers = ["yes" if rule(record) else "no" for record in records]
    found = simple_baseline(LABELS, records, answers, seed=0)
    assert any(words in line for line in found.in_words()), found.in_words()
    shares = found.predict_proba(to_frame(LABELS, records))
    assert np.mean([LABELS.outcome.labels[i] for i in shares.argmax(axis=1)] == np.array(answers)) > 0.97


@pytest.mark.parametrize(("name", "value"), [("age", 7), ("number", 0.5), ("day", "03.05.2024")])
@pytest.mark.parametrize("contract", ["labels", "values"])
def test_whether_there_is_a_value_can_be_what_decides(name: str, value: Any, contract: str) -> None:
    fields = (*FIELDS[:-1], Field(name="number", kind="number"), FIELDS[-1])
    fields = tuple(replace(one, nullable=True, required=False) if one.name == name else one for one in fields)
    of = replace(LABELS if contract == "labels" else VALUES, fields=fields)
    records = [{**row, "number": 0.1, name: value if i % 2 else None} for i, row in enumerate(rows())]
    answers: list[Any] = [("yes" if i % 2 else "no") if contract == "labels" else 10.0 * (i % 2) for i in range(400)]
    found = simple_baseline(of, records, answers, seed=0)
    assert found.in_words()[0].startswith((f"If {name} is known: ", f"If {name} is known and ")), found.in_words()
    again = RuleList.from_json(found.to_json(), of)
    assert again.in_words() == found.in_words()
    matched = again.matching_rule(to_frame(of, records))
    assert len({(i % 2, match) for i, match in enumerate(matched)}) == len(found.rules)


def test_a_limit_takes_the_place_of_being_known() -> None:
    records = [{**row, "age": None if i % 2 else i % 40} for i, row in enumerate(rows())]
    answers = ["yes" if row["age"] is None or row["age"] > 30 else "no" for row in records]
    found = simple_baseline(LABELS, records, answers, seed=0)
    assert not any("is known and age" in line for line in found.in_words())
    told = found.predict_proba(to_frame(LABELS, records))
    assert [LABELS.outcome.labels[i] for i in told.argmax(axis=1)] == answers


def test_two_limits_on_the_same_side_are_said_as_one() -> None:
    records = rows()
    values = [float(30 if record["age"] is None else record["age"]) for record in records]
    found = simple_baseline(VALUES, records, values, seed=0)
    limits = [[(one.field, one.sign) for one in rule.when] for rule in found.rules]
    assert len(found.rules) == 4
    assert all(len(set(of_rule)) == len(of_rule) for of_rule in limits)
    told = found.predict_interval(to_frame(VALUES, records))[:, 0]
    assert np.abs(told - values).mean() < 8


def test_the_shares_are_those_of_the_rows_that_each_rule_meets() -> None:
    records = rows()
    answers = ["yes" if record["flag"] else "no" for record in records]
    found = simple_baseline(LABELS, records, answers, seed=0)
    assert sum(rule.rows for rule in found.rules) == len(records)
    assert all(0 < share < 1 for rule in found.rules for share in rule.answer.values())


def test_where_nothing_tells_more_than_the_most_frequent_answer_that_is_the_baseline() -> None:
    rng = np.random.default_rng(3)
    found = simple_baseline(LABELS, rows(), ["yes" if rng.random() < 0.3 else "no" for _ in range(400)], seed=0)
    assert found.in_words()[0].startswith("Always: no (")


def test_a_value_is_the_mean_of_a_rule_with_a_margin_that_was_measured() -> None:
    records = rows(600)
    values = [100.0 * record["flag"] + record["size"] for record in records]
    found = simple_baseline(VALUES, records[:400], values[:400], seed=0)
    found = with_margin(found, VALUES, records[400:], values[400:], 0.9)
    value, low, high = found.predict_interval(to_frame(VALUES, records[400:])).T
    assert np.mean((low <= values[400:]) & (values[400:] <= high)) >= 0.9
    assert np.abs(value - values[400:]).mean() < 2


def test_rules_come_back_from_their_file_and_answer_the_same() -> None:
    records = rows()
    answers = ["yes" if record["size"] > 0 and record["flag"] else "no" for record in records]
    found = simple_baseline(LABELS, records, answers, seed=0)
    again = RuleList.from_json(found.to_json(), LABELS)
    frame = to_frame(LABELS, records)
    assert np.array_equal(again.predict_proba(frame), found.predict_proba(frame))
    assert again.in_words() == found.in_words()


LAST = {"when": [], "answer": {"no": 0.5, "yes": 0.5}, "rows": 1}


@pytest.mark.parametrize(
    ("rules", "words"),
    [
        ("{", "rules.json holds 'rules'"),
        ([], "The last rule must hold for everything"),
        ([LAST | {"when": [{"field": "size", "above": 1}]}], "The last rule must hold for everything"),
        ([LAST | {"answer": {"no": 1}}], "a number for each of no, yes"),
        ([LAST | {"answer": {"no": 0.7, "yes": 0.7}}], "add up to 1"),
        ([LAST | {"answer": {"no": "1", "yes": 0}}], "a number for each"),
        ([LAST | {"when": [{"field": "x", "above": 1}]}, LAST], "Rule 1: it reads 'x'"),
        ([LAST | {"when": [{"field": "text", "above": 1}]}, LAST], "'text' is text, of which 'above' says nothing"),
        ([LAST | {"when": [{"field": "size", "above": "1"}]}, LAST], "'1' is no number"),
        ([LAST | {"when": [{"field": "size", "known": "yes"}]}, LAST], "'yes' is not true or false"),
        ([LAST | {"when": [{"field": "day", "above": "2024-01-01"}]}, LAST], "no date written DD.MM.YYYY"),
        ([LAST | {"when": [{"field": "flag", "is": "yes"}]}, LAST], "not true or false"),
        ([LAST | {"when": [{"field": "size"}]}, LAST], "rules.json holds 'rules'"),
    ],
)
def test_a_file_of_rules_that_cannot_be_understood_is_named(rules: Any, words: str) -> None:
    text = rules if isinstance(rules, str) else json.dumps({"rules": rules})
    with pytest.raises(ContractError) as refused:
        RuleList.from_json(text, LABELS)
    assert words in refused.value.detail
