"""The baseline is a table that a person can read, edit and trust as far as it was right."""

import numpy as np
import pytest

from reviewapp.contract import Contract, Outcome
from reviewapp.errors import ContractError
from reviewapp.field import Field
from reviewapp.frames import to_frame
from reviewapp.rules import RuleTable

CONTRACT = Contract(
    name="c",
    fields=(
        Field(name="subject", kind="text"),
        Field(name="body", kind="text", required=False, nullable=True),
        Field(name="n", kind="integer"),
    ),
    outcome=Outcome(name="o", labels=("bill", "bug", "other")),
)
RULES = 'label,field,words\nbug,subject,crash\nbill,*,"invoice|pay (now)"\nother,*,\n'


def table(text: str = RULES) -> RuleTable:
    return RuleTable.from_csv(text, CONTRACT)


def frame(*texts: tuple[str, str | None]) -> object:
    return to_frame(CONTRACT, [{"subject": subject, "body": body, "n": 1} for subject, body in texts])


def test_the_first_rule_that_matches_answers() -> None:
    rows = frame(
        ("A crash", "invoice"),
        ("x", "CRASH"),
        ("Invoices", None),
        ("", "please PAY (now)"),
        ("reinvoice", "repay"),
        ("", None),
    )
    assert table().matching_rule(rows) == [0, 2, 1, 1, 2, 2]


def test_confidence_is_the_share_of_right_answers_and_the_rest_is_spread() -> None:
    rows = frame(("crash", ""), ("crash", ""), ("crash", ""), ("crash", ""), ("x", ""), ("invoice", ""))
    counted = table().calibrated(rows, ["bug", "bug", "bug", "bill", "other", "other"])
    assert [(rule.right, rule.matched) for rule in counted.rules] == [(3, 4), (0, 1), (1, 1)]
    shares = counted.predict_proba(frame(("crash", ""), ("invoice", ""), ("x", "")))
    assert np.allclose(shares, [[0.125, 0.75, 0.125], [0, 0.5, 0.5], [0, 0, 1]])


def test_a_rule_that_matched_nothing_is_trusted_as_the_whole_table_is() -> None:
    counted = table().calibrated(frame(("crash", ""), ("x", "")), ["bug", "bug"])
    assert counted.predict_proba(frame(("invoice", "")))[0][0] == 0.5
    assert np.allclose(table().predict_proba(frame(("crash", "")))[0], [0, 1, 0])


def test_a_table_survives_being_written_and_read() -> None:
    counted = table().calibrated(frame(("crash", ""), ("x", "")), ["bug", "bug"])
    assert RuleTable.from_csv(counted.to_csv(), CONTRACT).rules == counted.rules


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "header"),
        ("label,words\n", "header"),
        ("label,field,words\n", "last rule"),
        ("label,field,words\nbug,subject,\n", "last rule"),
        ("label,field,words\nsales,*,\n", "sales"),
        ("label,field,words\nbug,n,x\nother,*,\n", "'n'"),
        ("label,field,words,right,matched\nother,*,,2,1\n", "line 2"),
        ("label,field,words,right,matched\nother,*,,x,1\n", "line 2"),
        ("label,field,words,right,matched\nother,*,,1,1,1\n", "line 2"),
    ],
)
def test_a_table_that_cannot_be_understood_is_refused_with_the_place(text: str, says: str) -> None:
    with pytest.raises(ContractError) as refused:
        table(text)
    assert says in refused.value.detail
