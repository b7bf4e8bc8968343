"""What has changed is found and named, and what has not raises no alarm, however few requests or many fields."""

import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy.stats import binom, chi2_contingency, fisher_exact

from reviewapp import drift as drifts
from reviewapp.adapter import ModelAdapter
from reviewapp.blocks import Asked, Block
from reviewapp.contract import Contract, Outcome
from reviewapp.drift import (
    ALPHA,
    BLOCK,
    MOVED,
    NO_PROFILE,
    SAME,
    TOO_FEW,
    compare,
    holm,
    look,
    p_of_bins,
    p_value,
    tell_drift,
)
from reviewapp.field import Field, Record
from reviewapp.profile import ANSWERS, LENGTH, MISSING, UNSEEN, VALUES, Profile, Signal
from reviewapp.release import Release
from reviewapp.triage import generator

from .small import small_release

CONTRACT = Contract(
    name="t",
    fields=(
        Field(name="a number", kind="number"),
        Field(name="n", kind="integer"),
        Field(name="flag", kind="boolean"),
        Field(name="", kind="category", nullable=True),
        Field(name="text", kind="text"),
        Field(name="day", kind="date", date_format="%d.%m.%Y"),
    ),
    outcome=Outcome(name="y", labels=("a", "b")),
)
WORDS = [f"word{i}" for i in range(30)]


def record(rng: random.Random) -> Record:
    return {
        "a number": rng.gauss(0, 1),
        "n": rng.choice([0, 0, 0, 1, 2, 5]),
        "flag": rng.random() < 0.2,
        "": None if rng.random() < 0.1 else rng.choice(["x", "x", "y", "z"]),
        "text": " ".join(rng.choices(WORDS, k=rng.randint(1, 12))),
        "day": f"{rng.randint(1, 28):02}.{rng.randint(1, 12):02}.2024",
    }


def answer(rng: random.Random) -> dict[str, Any]:
    return {"label": rng.choice("aaab")}


def profile(seed: int = 0) -> Profile:
    rng = random.Random(seed)
    parts = {part: [record(rng) for _ in range(n)] for part, n in (("train", 1500), ("calibrate", 700), ("test", 800))}
    return Profile.of(CONTRACT, parts, {part: [answer(rng) for _ in parts[part]] for part in ("calibrate", "test")})


RELEASE = small_release(CONTRACT, None, profile=profile())


def block(
    n: int = BLOCK, change: Callable[[random.Random, Record], Any] = lambda rng, one: None, seed: int = 1
) -> Block:
    """A block of requests as those of the table are, each changed."""
    rng, rows = random.Random(seed), []
    for _ in range(n):
        one, output = record(rng), answer(rng)
        output = change(rng, one) or output
        rows.append(Asked("2026-01-31T12:00:00.000Z", one, "model", output))
    return Block(BLOCK, 2 * BLOCK + 7, 1, rows)


def alarms(found: dict[str, Any]) -> list[tuple[str | None, str]]:
    return [(one["field"], one["signal"]) for one in found["signals"] if one["alarm"]]


# ---- the test ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reference", "recent"),
    [((40, 10), (23, 14)), ((300, 20), (95, 5)), ((6, 60), (15, 60))],
)
def test_a_table_of_two_bins_gets_the_p_value_of_fishers_exact_test(
    reference: Sequence[int], recent: Sequence[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drifts, "ENOUGH", 10**9)
    exact = fisher_exact([reference, recent]).pvalue
    _, p = p_value(reference, recent, 40_000, np.random.default_rng(1))
    assert p == pytest.approx(exact, abs=4 * (exact / 40_000) ** 0.5)


def test_of_many_requests_the_p_value_is_that_of_the_chi_square_distribution(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drifts, "ENOUGH", 10**9)
    rng = np.random.default_rng(2)
    shares = np.arange(1, 12) / 66
    for moved in (0.0, 0.01):
        recent = rng.multinomial(5000, shares + moved * np.array([1, -1, *[0] * 9]))
        reference = rng.multinomial(40_000, shares)
        expected = chi2_contingency([reference, recent], correction=False)
        statistic, p = p_value(reference.tolist(), recent.tolist(), 20_000, rng)
        assert statistic == pytest.approx(expected.statistic)
        assert p == pytest.approx(expected.pvalue, abs=4 * (expected.pvalue / 20_000) ** 0.5 + 1e-4)


def test_dealing_ends_early_where_nothing_has_changed_and_the_p_value_holds_all_the_same() -> None:
    """At most a share x of p-values is x or less, also of few requests in very unequal bins."""
    rng = np.random.default_rng(3)
    shares = [0.9, 0.07, 0.02, 0.01]
    found = np.array(
        [
            p_value(rng.multinomial(300, shares).tolist(), rng.multinomial(100, shares).tolist(), 999, rng)[1]
            for _ in range(1500)
        ]
    )
    for x in (0.01, 0.05, 0.2):
        assert (found <= x).sum() <= binom.ppf(0.999, len(found), x)
    assert p_value([5, 0], [5, 0], 999, rng) == (0.0, 1.0)  # no more than one bin is in use


def test_p_values_are_adjusted_as_holm_does() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.4, 0.9]) == pytest.approx([0.8, 0.9])
    assert holm([]) == []


def test_the_smallest_p_value_that_the_deals_can_tell_is_small_enough_for_the_first_step_of_holm() -> None:
    for many in (1, 3, 20, 100):
        signals = [Signal("x", VALUES, ("a",), (1000, 1000))] * many
        found = compare(CONTRACT, signals, [[500, 0]] + [[250, 250]] * (many - 1), [1])
        assert found[0]["alarm"]
        assert found[0]["adjusted_p"] == pytest.approx(ALPHA / 2)


def test_of_very_many_signals_each_is_dealt_so_often_and_no_oftener(monkeypatch: pytest.MonkeyPatch) -> None:
    dealt: list[int] = []
    asked = p_value
    monkeypatch.setattr(
        drifts,
        "p_value",
        lambda reference, recent, most, rng: dealt.append(most) or asked(reference, recent, most, rng),
    )
    monkeypatch.setattr(drifts, "MOST_DEALS", 500)
    signals = [Signal("x", VALUES, ("a", "b", "c"), (1000, 500, 400, 100))] * 250
    counts = [[150, 125, 100, 125]] * 50 + [[250, 125, 100, 25]] * 200
    found = compare(CONTRACT, signals, counts, [1])
    assert set(dealt) == {500}
    assert [one["alarm"] for one in found] == [True] * 50 + [False] * 200


def test_the_exact_p_value_of_the_bins_holds_and_is_fishers_for_each() -> None:
    rng = np.random.default_rng(4)
    shares = [0.6, 0.3, 0.09, 0.01]
    found = np.array(
        [p_of_bins(rng.multinomial(300, shares).tolist(), rng.multinomial(100, shares).tolist()) for _ in range(2000)]
    )
    for x in (0.01, 0.05, 0.2):
        assert (found <= x).sum() <= binom.ppf(0.999, len(found), x)
    more = fisher_exact([[25, 75], [30, 470]], alternative="greater").pvalue
    assert p_of_bins([30, 470, 0], [25, 75, 0]) == pytest.approx(2 * 2 * more)


# ---- no false alarms --------------------------------------------------------------------------------------------

BLOCKS = 400
DECILES = (400,) * 10
UNEQUAL = (3600, 300, 60, 30, 8, 2)


def psi(reference: Any, recent: Any) -> float:
    """The population stability index, an empty bin counted as half a request."""
    p, q = (np.maximum(counts, 0.5) / np.sum(counts) for counts in (np.asarray(reference), np.asarray(recent)))
    return float(((q - p) * np.log(q / p)).sum())


@pytest.mark.parametrize("n", [100, 500])
@pytest.mark.parametrize(
    "references", [[DECILES] * 10, [UNEQUAL] * 10, [DECILES, UNEQUAL] * 15], ids=["deciles", "unequal", "thirty"]
)
def test_requests_like_those_of_the_table_raise_an_alarm_in_one_block_of_a_hundred_at_most(
    n: int, references: list[tuple[int, ...]]
) -> None:
    rng = np.random.default_rng(n)
    bins = {len(one): tuple(f"{i}" for i in range(len(one) - 1)) for one in references}
    signals = [Signal("x", VALUES, bins[len(one)], one) for one in references]
    fired = by_rule = 0
    for number in range(BLOCKS):
        counts = [rng.multinomial(n, np.array(one) / sum(one)).tolist() for one in references]
        fired += any(one["alarm"] for one in compare(CONTRACT, signals, counts, [number]))
        by_rule += any(psi(one, recent) > 0.1 for one, recent in zip(references, counts, strict=True))
    assert fired <= binom.ppf(0.999, BLOCKS, ALPHA)
    if n == 100:  # what a fixed limit makes of the same requests
        assert by_rule > 0.15 * BLOCKS


def test_so_do_requests_like_those_of_small_tables_whose_own_rows_make_the_bins() -> None:
    fired = 0
    for seed in range(BLOCKS // 2):
        rng = random.Random(seed)
        parts = {part: [record(rng) for _ in range(n)] for part, n in (("train", 120), ("calibrate", 35), ("test", 45))}
        outputs = {part: [answer(rng) for _ in parts[part]] for part in ("calibrate", "test")}
        small = small_release(CONTRACT, None, profile=Profile.of(CONTRACT, parts, outputs))
        fired += look(small, block(100, seed=1000 + seed))["state"] == MOVED
    assert fired <= binom.ppf(0.999, BLOCKS // 2, ALPHA)


def test_the_difference_that_it_takes_follows_how_many_there_are() -> None:
    signal = [Signal("x", VALUES, ("a",), (5000, 5000))]
    needed = {}
    for n in (100, 500, 2500):
        share = (k for k in range(n // 2, n) if compare(CONTRACT, signal, [[k, n - k]], [n])[0]["alarm"])
        needed[n] = next(share) / n - 0.5
    assert 0.11 < needed[100] < 0.16
    assert 0.05 < needed[500] < 0.07
    assert 0.02 < needed[2500] < 0.04


# ---- what has changed is found ----------------------------------------------------------------------------------


def set_to(name: str, value: Callable[[random.Random, Any], Any]) -> Callable[[random.Random, Record], None]:
    def change(rng: random.Random, one: Record) -> None:
        one[name] = value(rng, one[name])

    return change


CHANGES: list[tuple[Any, tuple[str | None, str], str]] = [
    (set_to("a number", lambda rng, x: x + 0.6), ("a number", VALUES), "to 3."),
    (set_to("a number", lambda rng, x: 1000 * x if rng.random() < 0.04 else x), ("a number", VALUES), "e"),
    (set_to("n", lambda rng, x: 1 if rng.random() < 0.3 else x), ("n", VALUES), "1: "),
    (set_to("n", lambda rng, x: -1 if rng.random() < 0.05 else x), ("n", VALUES), "below 0: "),
    (set_to("n", lambda rng, x: 60 if rng.random() < 0.05 else x), ("n", VALUES), "above 5: "),
    (set_to("flag", lambda rng, x: rng.random() < 0.4), ("flag", VALUES), "true: "),
    (set_to("", lambda rng, x: x and rng.choice("xyyyz")), ("", VALUES), "y: "),
    (set_to("", lambda rng, x: x and ("new" if rng.random() < 0.04 else x)), ("", VALUES), "another value: "),
    (set_to("", lambda rng, x: None if rng.random() < 0.15 else x), ("", MISSING), "missing: "),
    (set_to("text", lambda rng, x: f"{x} {x}"), ("text", LENGTH), " characters: "),
    (
        set_to("text", lambda rng, x: x.replace("word1", "wurd1") if rng.random() < 0.3 else x),
        ("text", UNSEEN),
        "some new words: ",
    ),
    (set_to("day", lambda rng, x: x.replace("2024", "2025") if rng.random() < 0.05 else x), ("day", VALUES), "above 2"),
    (lambda rng, one: {"label": rng.choice("aabb")}, (None, ANSWERS), "b: "),
]


@pytest.mark.parametrize(("change", "signal", "says"), CHANGES)
def test_each_thing_that_moves_is_found_alone_and_said_in_words(
    change: Any, signal: tuple[str | None, str], says: str
) -> None:
    found = look(RELEASE, block(change=change))
    assert (found["state"], alarms(found)) == (MOVED, [signal])
    [moved] = [one for one in found["signals"] if one["alarm"]]
    assert says in drifts.moved_words(moved)
    assert " % in the table" in tell_drift(found, CONTRACT)


def test_nothing_is_found_where_nothing_has_moved() -> None:
    found = look(RELEASE, block())
    assert (found["state"], alarms(found)) == (SAME, [])
    assert {(one["field"], one["signal"]) for one in found["signals"]} == {
        *((name, VALUES) for name in ("a number", "n", "flag", "", "day")),
        ("", MISSING), ("text", LENGTH), ("text", UNSEEN), (None, ANSWERS),
    }  # fmt: skip
    assert found == look(RELEASE, block())  # the deals are the same each time
    assert "are spread as the table was" in tell_drift(found, CONTRACT)


def test_no_text_of_a_request_is_told() -> None:
    found = look(RELEASE, block(change=set_to("text", lambda rng, x: "very secret words")))
    assert found["state"] == MOVED
    assert "secret" not in f"{found} {tell_drift(found, CONTRACT)}"


def test_the_default_models_later_requests_are_found_in_the_first_block(
    release: Release, adapter: ModelAdapter
) -> None:
    for drifted, state in ((False, SAME), (True, MOVED)):
        examples = generator.generate(BLOCK, 5, drifted=drifted)
        records = [dict(example.record) for example in examples]
        outputs = adapter.outputs("model", records)
        rows = [Asked("", one, "model", output) for one, output in zip(records, outputs, strict=True)]
        found = look(release, Block(BLOCK, BLOCK, 0, rows))
        assert found["state"] == state
    assert {("body", UNSEEN), ("channel", VALUES)} <= set(alarms(found))


def test_answers_that_are_values_are_compared_too() -> None:
    contract = replace(CONTRACT, outcome=Outcome(name="y", task="regression"))
    rng = random.Random(1)
    parts = {part: [record(rng) for _ in range(600)] for part in ("train", "calibrate", "test")}
    outputs = {part: [{"value": rng.gauss(100, 10)} for _ in range(600)] for part in ("calibrate", "test")}
    release = small_release(contract, None, profile=Profile.of(contract, parts, outputs))
    assert look(release, block(change=lambda rng, one: {"value": rng.gauss(100, 10)}))["state"] == SAME
    found = look(release, block(change=lambda rng, one: {"value": rng.gauss(108, 10)}))
    assert alarms(found) == [(None, ANSWERS)]
    assert "what the model answers: over 113.3 to 127.3: 23.6 % of 500, 10.0 % in" in tell_drift(found, contract)


# ---- too few ----------------------------------------------------------------------------------------------------


def test_a_release_without_a_profile_says_so() -> None:
    found = look(small_release(CONTRACT, None), block())
    assert (found["state"], found["signals"]) == (NO_PROFILE, [])
    assert "Build it again" in tell_drift(found, CONTRACT)


def test_before_a_block_is_full_there_are_too_few_to_tell() -> None:
    found = look(RELEASE, Block(BLOCK, 499))
    assert (found["state"], found["requests"], found["needed"]) == (TOO_FEW, 499, 500)
    assert (found["block"], found["signals"]) == (None, [])
    assert tell_drift(found, CONTRACT) == "Drift: too few requests; 499 of the 500 that a first look takes."


def test_requests_that_were_erased_are_left_out_and_too_few_of_the_others_say_nothing() -> None:
    full = block()
    for left, state in ((99, TOO_FEW), (100, SAME)):
        rows = [one if i < left else one._replace(input=None) for i, one in enumerate(full.rows)]
        found = look(RELEASE, replace(full, rows=rows))
        assert (found["state"], found["block"]["n"]) == (state, left)
        assert {one["n"] for one in found["signals"] if one["field"] == "n"} <= {left}
    few = look(RELEASE, replace(full, rows=[one._replace(input=None) for one in full.rows]))
    assert tell_drift(few, CONTRACT) == "Drift: too few requests; 0 of a block of 500 were not erased."


def test_a_field_that_hardly_any_request_has_is_too_little_to_tell_by() -> None:
    found = look(RELEASE, block(change=set_to("", lambda rng, x: None if rng.random() < 0.85 else "z")))
    [values] = [one for one in found["signals"] if (one["field"], one["signal"]) == ("", VALUES)]
    assert values["n"] < 100
    assert (values["p"], values["adjusted_p"], values["moved"], values["alarm"]) == (None, None, None, False)
    assert alarms(found) == [("", MISSING)]


def test_only_what_the_model_says_counts_as_its_answers_by_itself_or_beside_the_baseline() -> None:
    full = block()
    rows = [one._replace(option="baseline", output={"label": "b"}) for one in full.rows]
    [answers] = [one for one in look(RELEASE, replace(full, rows=rows))["signals"] if one["signal"] == ANSWERS]
    assert (answers["n"], answers["alarm"]) == (0, False)
    rows = [
        new._replace(comparison={"option": "model", "output": old.output})
        for new, old in zip(rows, full.rows, strict=True)
    ]
    [answers] = [one for one in look(RELEASE, replace(full, rows=rows))["signals"] if one["signal"] == ANSWERS]
    assert (answers["n"], answers["alarm"]) == (BLOCK, False)
