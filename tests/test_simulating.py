"""The rollback rule on synthetic verdicts: seldom on nothing, soon on what is worse, and of a figure that is right."""

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from reviewapp import cli
from reviewapp.evaluation import wilson
from reviewapp.evidence import simulation
from reviewapp.evidence.pictures import OF_RULE, draw
from reviewapp.evidence.tables import Column, Table, key
from reviewapp.monitoring import monitored
from reviewapp.policy import Policy, RollbackRule
from reviewapp.release import Release
from reviewapp.reviews import Reviews
from reviewapp.simulating import (
    NOON,
    SHARES,
    SOON,
    STREAMS,
    WORSE,
    Row,
    Traffic,
    _all_that_may_be_said,
    _of_fixed_size,
    _since_beginning,
    _Streams,
    expected,
    false_alarms,
    power,
    unbiased,
)
from reviewapp.trigger import alternatives, needed, watch

RULE = RollbackRule(limit=0.2)
TRAFFIC = Traffic(automatic=0.8, drawn=0.25, wrong=0.06)


@pytest.mark.parametrize(
    "rule",
    [
        RULE,
        replace(RULE, minimum_verdicts=0, window_verdicts=50),
        replace(RULE, consecutive_failures=4, limit=0.3),
        replace(RULE, minimum_verdicts=120, confidence=0.8),
    ],
)
def test_many_streams_at_once_fire_where_the_rule_itself_does_and_begin_anew(rule: RollbackRule) -> None:
    rng = np.random.default_rng(1)
    wrong = rng.random((500, 8)) < np.linspace(0.2, 0.7, 8)
    streams = _Streams(rule, 8)
    fired = np.array([streams.look(row) for row in wrong])
    for i in range(8):
        by_hand, left = [], wrong[:, i].tolist()
        while (at := watch(rule, left).fired_at) is not None:
            by_hand.append(at + (by_hand[-1] if by_hand else 0))
            left = left[at:]
        assert (np.flatnonzero(fired[:, i]) + 1).tolist() == by_hand
    assert fired.any()


@pytest.fixture(scope="module")
def alarms() -> list[Row]:
    return false_alarms(RULE)


def test_of_a_thousand_months_no_more_fire_than_stated_alone_or_in_long_streams(alarms: list[Row]) -> None:
    assert [row["of_limit"] for row in alarms] == list(SHARES)
    for row in alarms:
        assert row["months"] == 1000
        assert row["rate"] == row["of_limit"] * 0.2
        assert row["alone"] <= row["stated"] == pytest.approx(0.05)
        assert row["long"] <= row["stated"]
    assert alarms[-1]["alone"] > alarms[0]["alone"] == 0


def test_a_test_of_a_fixed_size_would_fire_by_chance_again_and_again(alarms: list[Row]) -> None:
    near = next(row for row in alarms if row["of_limit"] == 0.98)
    assert near["fixed"] > 4 * near["stated"]


def test_a_test_of_a_fixed_size_is_the_lower_end_of_wilsons_interval() -> None:
    bound = _of_fixed_size(RULE)
    for n in (30, 31, 100, 300):
        wrong = int(bound[n - 1])
        assert wilson(wrong, n, 0.9)[0] > 0.2 >= wilson(wrong - 1, n, 0.9)[0]  # one side of 90 % is 95 %
    assert (bound[:29] > np.arange(1, 30)).all()


@pytest.fixture(scope="module")
def found() -> list[Row]:
    return power(RULE, TRAFFIC)


def row_of(rows: list[Row], good: int, times: float) -> Row:
    return next(row for row in rows if (row["good_before"], row["of_limit"]) == (good, times))


@pytest.mark.parametrize("good", [0, 1000])
def test_twice_the_limit_is_found_within_150_verdicts_in_95_of_100_runs(found: list[Row], good: int) -> None:
    row = row_of(found, good, 2)
    assert SOON == 150
    assert row["soon"] >= 0.95
    assert row["never"] == 0
    assert row["median"] < row["most"] <= 150


def test_the_worse_it_is_the_sooner_it_is_found_and_a_good_year_costs_nothing(found: list[Row]) -> None:
    for name in ("median", "most", "requests_median", "requests_most"):
        for good in (0, 1000):
            figures = [row_of(found, good, times)[name] for times in WORSE]
            assert figures == sorted(figures, reverse=True)
        for times in WORSE:
            assert row_of(found, 1000, times)[name] <= 1.1 * row_of(found, 0, times)[name]


def test_a_test_since_the_beginning_has_to_outweigh_the_good_verdicts_first(found: list[Row]) -> None:
    assert row_of(found, 0, 2)["since"] < row_of(found, 0, 2)["median"]
    assert row_of(found, 1000, 2)["since"] > 10 * row_of(found, 1000, 2)["median"]
    assert row_of(found, 1000, 1.25)["since"] is None  # not within ten windows


def test_a_test_since_the_beginning_is_the_mean_likelihood_ratio() -> None:
    bound, rates = _since_beginning(RULE, 400), alternatives(0.2)

    def speaks(n: int, wrong: int) -> bool:
        ratios = (rates / 0.2) ** wrong * ((1 - rates) / 0.8) ** (n - wrong)
        return bool(ratios.mean() >= needed(RULE))

    for n in (30, 31, 77, 200, 400):
        wrong = int(bound[n - 1])
        assert speaks(n, wrong)
        assert not speaks(n, wrong - 1)
    assert (bound[:29] == np.arange(2, 31)).all()  # more than there are: fewer than the minimum decide nothing


def test_a_verdict_takes_as_many_requests_as_are_not_drawn(found: list[Row]) -> None:
    for row in found:  # a fifth leads to a verdict: 0.8 * 0.25
        assert row["requests_median"] == pytest.approx(5 * row["median"], rel=0.1)
        assert row["requests_most"] > row["most"]
    [row, *_] = power(RULE, replace(TRAFFIC, automatic=1, drawn=1), runs=50)
    assert (row["requests_median"], row["requests_most"]) == (row["median"], row["most"])
    [row, *_] = power(RULE, replace(TRAFFIC, drawn=0), runs=50)
    assert (row["requests_median"], row["requests_most"]) == (None, None)


def test_the_same_seed_draws_the_same_verdicts() -> None:
    assert power(RULE, TRAFFIC, 40, 1) == power(RULE, TRAFFIC, 40, 1) != power(RULE, TRAFFIC, 40, 2)
    assert false_alarms(RULE, 40, 1) == false_alarms(RULE, 40, 1)


def test_what_is_never_found_has_no_figure() -> None:
    [row, *_] = power(replace(RULE, confidence=1 - 1e-12, window_verdicts=20), TRAFFIC, runs=20)
    assert (row["median"], row["most"], row["soon"], row["never"]) == (None, None, 0, 1)


@pytest.mark.parametrize("limit", [0.001, 0.95])
def test_any_limit_can_be_simulated_and_drawn(limit: float, release: Release) -> None:
    rule = RollbackRule(limit=limit, window_verdicts=60)
    tables = {table.name: table for table in simulation.of_rule(rule, TRAFFIC, STREAMS, 1)}
    assert [row["rate"] < 1 for row in tables["power"].rows] == [True] * (2 * len(WORSE) if limit < 0.3 else 0)
    other = replace(release, policy=replace(release.policy, rollback=rule))
    tables["unbiased"] = simulation._unbiased(unbiased(other, TRAFFIC, 10, 200))
    for picture in OF_RULE:
        assert draw(picture, tables).startswith(b"\x89PNG")


# ---- what is supposed of the requests ---------------------------------------------------------------------------


def test_what_is_supposed_of_the_requests_is_what_the_evaluation_says(release: Release) -> None:
    seen = release.evaluation["results"]["test"]["model"]
    assert expected(release.policy, release.evaluation) == Traffic(
        1 - seen["referred"], release.policy.audit_share, 1 - seen["accuracy_of_automatic"]
    )


@pytest.mark.parametrize(
    ("seen", "traffic"),
    [
        ({}, Traffic(1, 0.1, 0.2 / 3)),
        ({"referred": 0.25, "coverage": 0.95}, Traffic(0.75, 0.1, 0.05)),
        ({"referred": 0.25, "accuracy_of_automatic": 0.7}, Traffic(0.75, 0.1, 0.1)),  # half of the limit at most
        ({"referred": 1.0, "accuracy_of_automatic": None}, Traffic(0, 0.1, 0.2 / 3)),
    ],
)
def test_where_it_says_nothing_something_is_supposed(seen: dict[str, Any], traffic: Traffic) -> None:
    policy = Policy(cost_wrong=10, cost_review=2, rollback=RULE)
    supposed = expected(policy, {"results": {"test": {"model": seen}}})
    assert vars(supposed) == pytest.approx(vars(traffic))


# ---- the estimate -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def estimated(release: Release) -> list[Row]:
    return unbiased(release, expected(release.policy, release.evaluation), 300)


def test_the_estimate_is_right_where_people_see_what_is_referred_and_the_audit_share(estimated: list[Row]) -> None:
    """Within three and a half standard errors of the mean over the runs; there are ten means."""
    for row in estimated:
        assert abs(row["estimate_off"]) < 3.5
        assert abs(row["overall_off"]) < 3.5
        assert row["estimate_low"] < row["rate"] < row["estimate_high"]
        assert row["overall_low"] < row["rate_of_all"] < row["overall_high"]


def test_the_plain_share_of_wrong_verdicts_is_not_right(estimated: list[Row]) -> None:
    for row in estimated:
        assert row["plain_low"] > row["rate"] + 0.05
        assert row["plain"] > row["rate_of_all"] + 0.05


def test_the_intervals_hold_the_truth_about_as_often_as_they_say(estimated: list[Row]) -> None:
    runs = len(estimated) * 300
    for name in ("estimate_covered", "overall_covered"):
        covered = sum(row[name] for row in estimated) / len(estimated)
        assert abs(covered - 0.95) < 3.5 * math.sqrt(0.95 * 0.05 / runs) + 0.01  # Wilson's are about right, not exact


def test_what_is_estimated_is_what_monitor_tells(release: Release) -> None:
    """The third of four drawn answers is wrong, and one of two that went to a person, among ten automatic ones."""
    may = _all_that_may_be_said(6)
    said = [may[True, False][0], may[True, False][1], may[True, True][2], may[True, False][3],
            may[False, True][4], may[False, False][5]]  # fmt: skip
    found = monitored(release, Reviews({"auto": 10, "review": 2}, 4, said), now=NOON)
    assert found["metric"]["value"] == 1 / 4
    assert found["overall"]["value"] == pytest.approx(10 / 12 * 1 / 4 + 2 / 12 * 1 / 2)


def test_where_nothing_is_drawn_nothing_is_estimated(release: Release) -> None:
    assert unbiased(release, Traffic(automatic=0.8, drawn=0.0, wrong=0.1), 5, 100) == []
    assert unbiased(release, Traffic(automatic=0.0, drawn=0.5, wrong=0.1), 5, 100) == []
    for row in unbiased(release, Traffic(automatic=1.0, drawn=0.01, wrong=0.1), 20, 100):  # in two runs of three
        assert 2 <= row["runs"] < 20


# ---- the command ------------------------------------------------------------------------------------------------


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., Result]:
    def command(*words: str) -> Result:
        environment = {"REVIEWAPP_INSTANCE": str(tmp_path / "instance")}
        return CliRunner().invoke(cli.main, ["monitor", "--simulate", *words], env=environment)

    return command


def test_a_policy_alone_can_be_simulated(run: Callable[..., Result], tmp_path: Path) -> None:
    policy = Policy(cost_wrong=10, cost_review=2, rollback=replace(RULE, window_verdicts=60))
    (tmp_path / "policy.json").write_text(json.dumps(policy.as_json()))
    file = ("--policy", str(tmp_path / "policy.json"), "--months", "40")
    shown = run(*file)
    assert shown.exit_code == 0
    assert "How often the trigger fires on nothing" in shown.stdout
    assert "window of 60 verdicts" in shown.stdout
    assert max(map(len, shown.stdout.splitlines())) < 160
    found = json.loads(run(*file, "--json").stdout)
    assert found["alarms"][0]["months"] == 40
    assert [row["of_limit"] for row in found["power"]] == [f"{times:g}" for times in WORSE] * 2
    assert json.loads(run(*file, "--seed", "3", "--json").stdout) != found
    assert not (tmp_path / "instance").exists()


def test_without_a_release_and_a_policy_there_is_nothing_to_simulate(run: Callable[..., Result]) -> None:
    shown = run()
    assert (shown.exit_code, "No release is live yet" in shown.stderr) == (2, True)


def test_a_table_is_shown_with_its_figures_under_each_other() -> None:
    columns = [key("name", "Name"), Column("n", "How many there are of them", ",d"), Column("x", "x", ".2f")]
    rows = [{"name": "a", "n": 1234, "x": 0.5}, {"name": "long name", "n": None, "x": -1.0}]
    assert Table("t", "", "", columns, rows).as_text().splitlines() == [
        "               How many       ",
        "           there are of       ",
        "     Name          them      x",
        "        a         1,234   0.50",
        "long name             –  -1.00",
    ]
