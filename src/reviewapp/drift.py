"""Drift: whether the requests of late are spread as the rows of the table were, each field and the answers by itself.

The requests of a release are cut into blocks of BLOCK in the order they came, and each block is held once against the
release's profile. A signal is a table of two rows, how many rows of the training table and how many requests fell into
each bin, and its statistic is the chi-square of homogeneity. How large that gets by chance depends on how many there
are, so there is no fixed limit: the same counts are dealt out at random again and again, which is what they are where
nothing has changed (a permutation test; the deals are multivariate hypergeometric), and the p-value is the share of the
deals that differ as much. Dealing ends at ENOUGH of them, which leaves it a p-value (Besag and Clifford 1991,
"Sequential Monte Carlo p-values", Biometrika 78). Where there are more than 100 signals, and all have moved, that would
take minutes: then at most MOST_DEALS are dealt, the bin that is furthest off is tested exactly beside them, and the
smaller one of the two p-values is doubled. An alarm is what Holm's procedure (1979) rejects over all signals together:
while nothing has changed, a block raises any with a probability of ALPHA at most, over tables and blocks together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import hypergeom

from . import dates
from .blocks import Block
from .contract import Contract
from .field import Field
from .ledger import Ledger
from .profile import ANSWERS, LENGTH, MISSING, UNSEEN, VALUES, Signal, moment
from .registry import Registry
from .release import Release
from .rounds import Rounds

ROUND, EVERY_SECONDS = "drift", 60.0
BLOCK = 500  # requests
FEWEST = 100  # that have the field, or an answer of the model: fewer say too little
ALPHA = 0.01  # the chance of a false alarm, for all signals of a block together
ENOUGH = 10  # deals that differ as much, after which no more are dealt
SMALLEST = 2  # of so many times as small a p-value as the first step of Holm asks for, the deals can tell
AT_ONCE = 100, 10_000  # deals, at first and at most
MOST_DEALS = 20_000  # of a signal, enough for 100 of them
NO_PROFILE, TOO_FEW, SAME, MOVED = "no_profile", "too_few", "same", "moved"
STATES = (NO_PROFILE, TOO_FEW, SAME, MOVED)

Counts = NDArray[np.int64]
Floats = NDArray[np.float64]


def look_again(registry: Registry, ledger: Ledger, rounds: Rounds) -> dict[str, Any] | None:
    """Return the drift of the live release, None where there is none: the work of a round, which keeps it for all."""
    if registry.live() is None:
        return None
    before = rounds.found(ROUND)
    return drift(registry.adapter().release, ledger, None if before is None else before.result)


def drift(release: Release, ledger: Ledger, before: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return what the last full block of a release says, as the monitor's document has it.

    `before` is what was returned earlier: where it is of the same block it is returned again, and nothing is computed.
    """
    known = None
    if before is not None and before["release"] == release.id.as_json() and before["block"] is not None:
        known = before["block"]["number"]
    block = ledger.block(release.id, BLOCK, known=known)
    if before is not None and known is not None and block.number == known:
        return {**before, "requests": block.requests}
    return look(release, block)


def look(release: Release, block: Block) -> dict[str, Any]:
    """Return how a block differs from the release's table: pure, and the same each time."""
    found: dict[str, Any] = {
        "release": release.id.as_json(),
        "state": NO_PROFILE if release.profile is None else TOO_FEW,
        "requests": block.requests,
        "needed": block.size,
        "alpha": ALPHA,
        "block": None,
        "signals": [],
    }
    there = [row for row in block.rows if row.input is not None]
    if block.number is not None:
        found["block"] = {
            "number": block.number,
            "n": len(there),
            "since": block.rows[0].created_at,
            "until": block.rows[-1].created_at,
        }
    if release.profile is None or len(there) < FEWEST:
        return found
    records = [row.input for row in there if row.input is not None]
    outputs = [said for row in there if (said := row.model_output) is not None]
    counts = release.profile.counts(release.contract, records, outputs)
    # not of the digest: it is another one on another processor, where the same requests would be dealt otherwise
    seed = list(f"{release.id.name}/{release.id.version}/{block.number}".encode())
    signals = compare(release.contract, release.profile.signals, counts, seed)
    return {**found, "state": MOVED if any(one["alarm"] for one in signals) else SAME, "signals": signals}


def compare(
    contract: Contract, signals: Sequence[Signal], counts: Sequence[Sequence[int]], seed: Sequence[int]
) -> list[dict[str, Any]]:
    """Return for each signal what the counts of a block say, with p-values that are adjusted over all of them."""
    tested = [i for i, recent in enumerate(counts) if sum(recent) >= FEWEST]
    most = round(SMALLEST * len(tested) / ALPHA) - 1
    rng = np.random.default_rng(seed)
    chances = {i: p_value(signals[i].counts, counts[i], min(most, MOST_DEALS), rng) for i in tested}
    if most > MOST_DEALS:  # too few deals for the first step of Holm: the bins are asked, too
        bins = {i: p_of_bins(signals[i].counts, counts[i]) for i in tested}
        chances = {i: (statistic, min(1.0, 2 * min(p, bins[i]))) for i, (statistic, p) in chances.items()}
    adjusted = dict(zip(tested, holm([p for _, p in chances.values()]), strict=True))
    fields: dict[str | None, Field] = {field.name: field for field in contract.fields}
    found = []
    for i, (signal, recent) in enumerate(zip(signals, counts, strict=True)):
        statistic, p = chances.get(i, (None, None))
        found.append(
            {
                "field": signal.field,
                "signal": signal.name,
                "n": sum(recent),
                "statistic": statistic,
                "p": p,
                "adjusted_p": adjusted.get(i),
                "alarm": i in adjusted and adjusted[i] <= ALPHA,
                "moved": _moved(signal, recent, fields.get(signal.field)) if i in adjusted else None,
            }
        )
    return found


def p_value(
    reference: Sequence[int], recent: Sequence[int], most: int, rng: np.random.Generator
) -> tuple[float, float]:
    """Return the chi-square of homogeneity of two rows of counts, and its permutation p-value from `most` deals.

    While nothing has changed, a p-value of x or less has a probability of x at most, wherever the dealing ended.
    """
    pooled = np.asarray(reference, dtype=np.int64) + np.asarray(recent, dtype=np.int64)
    there = pooled > 0
    pooled, drawn = pooled[there], np.asarray(recent, dtype=np.int64)[there]
    n = int(drawn.sum())
    observed = float(_chi_square(pooled, drawn))
    as_much, dealt, size = 0, 0, AT_ONCE[0]
    while dealt < most:
        deals = rng.multivariate_hypergeometric(pooled, n, min(size, most - dealt), method="marginals")
        # of what is equal but for rounding, each counts as much as the other
        counted = as_much + np.cumsum(_chi_square(pooled, deals) >= observed * (1 - 1e-9))
        if counted[-1] >= ENOUGH:
            return observed, ENOUGH / (dealt + int(np.argmax(counted >= ENOUGH)) + 1)
        as_much, dealt, size = int(counted[-1]), dealt + len(deals), min(4 * size, AT_ONCE[1])
    return observed, (as_much + 1) / (most + 1)


def p_of_bins(reference: Sequence[int], recent: Sequence[int]) -> float:
    """Return the p-value of the bin that is furthest off, from its exact distribution, times how many bins there are.

    It needs no deals, however small it is: for tables of so many signals that the deals would take minutes.
    """
    pooled, drawn = (np.asarray(counts, dtype=np.int64) for counts in (np.add(reference, recent), recent))
    total, n, used = pooled.sum(), drawn.sum(), int((pooled > 0).sum())
    tails = hypergeom.sf(drawn - 1, total, pooled, n), hypergeom.cdf(drawn, total, pooled, n)
    return min(1.0, 2 * used * float(np.min(tails)))


def _chi_square(pooled: Counts, drawn: Counts) -> Floats:
    """Return the statistic of the drawn counts, shape (…, bins), against the rest of the pooled ones."""
    n, total = drawn.sum(axis=-1, keepdims=True), pooled.sum()
    off = drawn - pooled * (n / total)
    return np.asarray((off**2 / pooled).sum(axis=-1) * total**2 / (n * (total - n))[..., 0])


def holm(chances: Sequence[float]) -> list[float]:
    """Return p-values adjusted for being many (Holm 1979): what is at most ALPHA is rejected."""
    order = sorted(range(len(chances)), key=lambda i: chances[i])
    scaled = (min(1.0, (len(order) - rank) * chances[i]) for rank, i in enumerate(order))
    found = dict(zip(order, accumulate(scaled, max), strict=True))
    return [found[i] for i in range(len(order))]


# ---- in words ---------------------------------------------------------------------------------------------------


def _moved(signal: Signal, recent: Sequence[int], field: Field | None) -> dict[str, Any]:
    """Return the bin that has moved most, measured in standard deviations, with its share of late and in the table."""
    now, then = np.asarray(recent, dtype=np.float64), np.asarray(signal.counts, dtype=np.float64)
    share = (now + then) / (now.sum() + then.sum())
    spread = np.sqrt(share * (1 - share))
    far = np.abs(now / now.sum() - then / then.sum()) / np.where(spread > 0, spread, np.inf)
    shares, expected = now / now.sum(), then / then.sum()
    # of two that have moved as far, as both have where there are just two, the one that has grown
    most = max(range(len(far)), key=lambda i: (round(far[i], 9), shares[i] - expected[i]))
    return {
        "bin": bin_words(signal, most, field),
        "share": float(shares[most]),
        "expected": float(expected[most]),
    }


def bin_words(signal: Signal, number: int, field: Field | None) -> str:
    """Return the bin of a number in words: `free`, `4 to 7`, `below 0`, `missing`."""
    bins = signal.bins
    if isinstance(bins[0], str):
        rest = "given" if signal.name == MISSING else "another value"
        return str(bins[number]) if number < len(bins) else rest
    edges = [float(edge) for edge in bins]
    if signal.name == UNSEEN:
        if number == 0:
            return "no new word"
        over = f"over {_percent(edges[number - 1])} " if number > 1 else ""
        upto = f"up to {_percent(edges[number])} " if number < len(edges) else ""
        return f"{over}{upto or ('' if over else 'some ')}new words"
    whole = signal.name == LENGTH or (signal.name == VALUES and field is not None and field.kind == "integer")

    def words(value: float) -> str:
        if field is not None and field.kind == "date":
            return dates.written(moment(value), field.date_format)
        return f"{value:,.0f}" if value.is_integer() and abs(value) < 1e15 else f"{value:.4g}"

    unit = " characters" if signal.name == LENGTH else ""
    low = float(np.nextafter(edges[0], np.inf)) + 0.0  # of all that was seen: the first edge lies just below it
    if number == 0:
        return f"below {words(low)}{unit}"
    if number == len(edges):
        return f"above {words(edges[-1])}{unit}"
    start, end = low if number == 1 else edges[number - 1] + whole, edges[number]
    if start == end:
        return f"{words(end)}{unit}"
    return f"{words(start)} to {words(end)}{unit}" if whole or number == 1 else f"over {words(start)} to {words(end)}"


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"


SIGNAL_WORDS = {
    VALUES: "values",
    LENGTH: "length of the text",
    UNSEEN: "words that training did not see",
    MISSING: "whether it is given",
    ANSWERS: "what the model answers",
}


def chance_words(adjusted: float) -> str:
    """Return an adjusted p-value in words: how often chance alone does as much to any of the signals."""
    if adjusted >= 0.5:
        return "often"
    if adjusted <= ALPHA / SMALLEST:
        return f"less than once in {SMALLEST / ALPHA:.0f}"
    return f"once in {1 / adjusted:.0f}"


def moved_words(one: Mapping[str, Any]) -> str:
    """Return what moved most of a signal: `free: 61.0 % of 500, 34.0 % in the table`."""
    moved = one["moved"]
    return f"{moved['bin']}: {100 * moved['share']:.1f} % of {one['n']:,}, {100 * moved['expected']:.1f} % in the table"


def tell_drift(found: Mapping[str, Any], contract: Contract) -> str:
    """Return the drift in words: a line, and one for each alarm."""
    if found["state"] == NO_PROFILE:
        return "Drift: not known; the release keeps no profile of a table. Build it again."
    if found["state"] == TOO_FEW and found["block"] is not None:
        return f"Drift: too few requests; {found['block']['n']:,} of a block of {found['needed']:,} were not erased."
    if found["state"] == TOO_FEW:
        return f"Drift: too few requests; {found['requests']:,} of the {found['needed']:,} that a first look takes."
    alarms = [one for one in found["signals"] if one["alarm"]]
    block = f"the {found['block']['n']:,} requests until {found['block']['until']}"
    if not alarms:
        return f"Drift: none; {block} are spread as the table was."
    labels: dict[str | None, str] = {field.name: f"{field.label}, " for field in contract.fields}
    lines = [f"  {labels.get(one['field'], '')}{SIGNAL_WORDS[one['signal']]}: {moved_words(one)}" for one in alarms]
    return "\n".join([f"Drift: {block} differ from the table.", *lines])
