"""Trial: what the rollback rule is worth, on synthetic verdicts, as tables (simulating.py computes them).

How often it fires on nothing, how soon it finds what is worse, and whether the figure that it is about is right where
people judge all that goes to them, but of the automatic answers only those drawn by lot.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .. import simulating
from ..policy import RollbackRule
from ..simulating import HARDER, LONGEST, MONTHS, SOON, STREAMS, Traffic, expected
from .running import Subject
from .tables import Column, Table, key

RUNS = 500  # of the estimate


def simulation(subject: Subject) -> list[Table]:
    """Return false alarms, power and the estimate against the truth, for the rule and the requests of a release."""
    policy, traffic = subject.release.policy, expected(subject.release.policy, subject.release.evaluation)
    return [
        *of_rule(policy.rollback, traffic, MONTHS, subject.seed),
        _unbiased(simulating.unbiased(subject.release, traffic, RUNS, seed=subject.seed)),
    ]


def of_rule(rule: RollbackRule, traffic: Traffic, months: int, seed: int) -> list[Table]:
    """Return false alarms and power of a rule."""
    return [
        _alarms(rule, simulating.false_alarms(rule, months, seed)),
        _power(rule, traffic, simulating.power(rule, traffic, months, seed)),
    ]


def _alarms(rule: RollbackRule, rows: Sequence[simulating.Row]) -> Table:
    columns = [
        key("of_limit", "True rate, of the limit"),
        Column("rate", "True rate", ".3f"),
        Column("months", "Months", "d"),
        Column("alone", "Months with an alarm", ".3f"),
        Column("long", "Alarms a month, long streams", ".3f"),
        Column("stated", "Stated, at most", ".3f"),
        Column("fixed", "Fixed-size test: months with an alarm", ".3f"),
    ]
    reading = (
        f"A month is a window of {rule.window_verdicts:,} verdicts, looked at after each one, and nothing is wrong: "
        f"the limit is {rule.limit:g}. Months begun each from nothing, and {STREAMS} long streams begun anew after "
        "each alarm. A test of the same confidence and of a fixed size is looked at as often."
    )
    return Table("alarms", "How often the trigger fires on nothing", reading, columns, [_named(row) for row in rows])


def _power(rule: RollbackRule, traffic: Traffic, rows: Sequence[simulating.Row]) -> Table:
    columns = [
        key("good_before", "Good verdicts before"),
        key("of_limit", "True rate, of the limit"),
        Column("rate", "True rate", ".3f"),
        Column("runs", "Runs", "d"),
        Column("median", "Verdicts to the trigger, median", ",d"),
        Column("most", "95 % of runs within", ",d"),
        Column("requests_median", "Requests, median", ",d"),
        Column("requests_most", "95 % of runs within", ",d"),
        Column("soon", f"Found within {SOON} verdicts", ".3f"),
        Column("never", f"Not within {LONGEST} windows", ".3f"),
        Column("since", "Test since the beginning, median", ",d"),
    ]
    reading = (
        f"The limit is {rule.limit:g}; before it gets worse, {traffic.wrong:.3f} of the answers are wrong. A verdict "
        f"takes a request that is answered without a person ({traffic.automatic:.3f}) and drawn ({traffic.drawn:g} of "
        "these), by chance. A test since the beginning has to outweigh the good verdicts."
    )
    named = [_named(row) | {"good_before": str(row["good_before"])} for row in rows]
    return Table("power", "How soon the trigger finds what is worse", reading, columns, named)


def _unbiased(rows: Sequence[simulating.Row]) -> Table:
    columns = [key("of_limit", "True rate, of the limit"), Column("rate", "True rate", ".3f")]
    columns += [Column("runs", "Runs", "d"), Column("requests", "Requests each", "d")]
    columns += [*_estimate("estimate", "Estimate"), Column("rate_of_referred", "True rate of what is referred", ".3f")]
    columns += [Column("rate_of_all", "True rate of all", ".3f"), *_estimate("overall", "Estimate of all")]
    columns += [
        Column("plain", "Plain share of wrong verdicts", ".3f"),
        Column("plain_low", "from", ".3f"),
        Column("plain_high", "to", ".3f"),
    ]
    reading = (
        "People judge all that goes to them, which is wrong oftener (also "
        f"{HARDER:g} of what would be right), and automatic answers drawn by lot. Means over the runs, by how many "
        "standard errors they are off, the middle 95 % of the runs, and how often a 95 % interval held the truth."
    )
    return Table("unbiased", "Is the estimate right?", reading, columns, [_named(row) for row in rows])


def _estimate(name: str, title: str) -> list[Column]:
    return [
        Column(name, f"{title}, mean", ".3f"),
        Column(f"{name}_off", "standard errors off", "+.1f"),
        Column(f"{name}_low", "from", ".3f"),
        Column(f"{name}_high", "to", ".3f"),
        Column(f"{name}_covered", "Truth inside the interval", ".3f"),
    ]


def _named(row: simulating.Row) -> dict[str, Any]:
    return {**row, "of_limit": f"{row['of_limit']:g}"}
