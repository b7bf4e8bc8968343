"""What many machines would need: the arithmetic and the simulation behind docs/scale.md."""

from __future__ import annotations

import math

import pytest
from bench.scale import Costs, read_costs, simulate, tables

from reviewapp.ledger import TOGETHER

COSTS = Costs("PostgreSQL", cpu=0.001, cpu_database=0.0003, bytes=1000, log=2000, commit=0.002, row=0.0001)


def test_the_most_of_a_chain_is_what_full_commits_make_it() -> None:
    assert COSTS.most == pytest.approx(TOGETHER / 0.012)


def test_who_is_alone_waits_for_their_own_commit() -> None:
    p99, busy = simulate(COSTS, rate=1, workers=1, requests=200)
    assert p99 == pytest.approx(0.0021, abs=0.0005)
    assert busy < 0.01


def test_below_its_most_a_chain_keeps_up_and_above_it_the_queue_grows() -> None:
    assert simulate(COSTS, 0.5 * COSTS.most, 2)[0] < 0.1
    assert math.isinf(simulate(COSTS, 1.5 * COSTS.most, 2)[0])


def test_many_workers_fill_the_turn_with_small_commits() -> None:
    few, many = (simulate(COSTS, 2000, workers)[0] for workers in (2, 40))
    assert many > 2 * few


def test_the_same_seed_gives_the_same_and_another_one_nearly_the_same() -> None:
    one, same, other = (simulate(COSTS, 1000, 4, seed=seed) for seed in (1, 1, 2))
    assert one == same
    assert other[0] == pytest.approx(one[0], rel=0.3)


def test_the_tables_are_of_the_costs_that_were_measured() -> None:
    shown = tables(read_costs())
    assert "SQLite | PostgreSQL" in shown
    assert f"{read_costs()[-1].bytes:,.0f}" in shown
