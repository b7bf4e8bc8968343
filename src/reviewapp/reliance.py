"""How far people go by the model's answer because they see it, and how often they overrule it.

A lot decides which records of the queue are judged *blind*: the reviewer says what they think before the options are
shown. The share of such answers that are the model's own is what people would say without it; the share of the others
that agree is what they say with the answer before their eyes. As the lot parts them, the records of both kinds are
alike but for chance, and the difference is what seeing the answer does.

Counted is the first verdict on each record that went to a person: only such a record can be drawn, and never one that
somebody has judged before. Left out is what people said of their own requests, whose answers they had, and what was
said of a drawn record by somebody who saw its answer all the same, outside of the queue: only so are the two kinds
parted by nothing but the lot. A verdict that was later taken back counts: it is what the person said.

Intervals are of 95 %: Wilson's of shares; of the difference method 10 of Newcombe (1998), "Interval estimation for the
difference between independent proportions: comparison of eleven methods", Statistics in Medicine 17, 873-890.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from .evaluation import wilson
from .reviews import Judged, Said, rejects

Share = dict[str, Any]


def reliance(judged: Sequence[Judged], drawn: Callable[[str], bool]) -> dict[str, Any]:
    """Return the shares that give or accept the model's answer, `blind` and `sighted`, and how far they differ.

    A share is `{"count", "of", "value", "low", "high"}`, its value None where there is nothing to count of;
    `difference` is sighted less blind, None where either is missing. `overridden`: of the sighted verdicts, those that
    reject the answer. `switched`: of the blind answers that differed from the model's, those whose author later agreed
    with it. `unsure` counts the first verdicts that did not say. `agreement`: of the records that two people or more
    judged, those that the first two say the same of. `drawn` says by a prediction's id whether the lot had it judged
    blind.
    """
    same: dict[bool, list[bool]] = {True: [], False: []}
    unsure, differed, switched = {True: 0, False: 0}, 0, 0
    for one in judged:
        first = one.said[0]
        in_queue, own = one.referred or one.audit, first.author == one.asker
        if not in_queue or own or first.blind is not drawn(one.id):
            continue
        wrong = rejects(first, one.output)
        if wrong is None:
            unsure[first.blind] += 1
            continue
        same[first.blind].append(not wrong)
        if first.blind and wrong:
            differed += 1
            switched += _came_round(one)
    blind, sighted = (_share(sum(same[kind]), len(same[kind])) for kind in (True, False))
    return {
        "blind": blind,
        "sighted": sighted,
        "difference": _difference(sighted, blind),
        "overridden": _share(sighted["of"] - sighted["count"], sighted["of"]),
        "switched": _share(switched, differed),
        "unsure": {"blind": unsure[True], "sighted": unsure[False]},
        "agreement": _agreement(judged),
    }


def _agreement(judged: Sequence[Judged]) -> Share:
    """Count the records of which the first two people who judged them say the same: what is right, or that all is."""
    same = of = 0
    for one in judged:
        first: dict[str, Said] = {}
        for said in one.said:
            if rejects(said, one.output) is not None:
                first.setdefault(said.author, said)
        if len(first) > 1:
            a, b = list(first.values())[:2]
            of += 1
            same += _right(a, one.output) == _right(b, one.output)
    return _share(same, of)


def _right(said: Said, output: Mapping[str, Any]) -> Any:
    """Return what a verdict says is right: a label, a value outside of the interval, that all is, or that it is not."""
    if rejects(said, output) is False:
        return True
    return said.label if said.value is None and said.label is not None else said.value


def _came_round(judged: Judged) -> bool:
    """Whether who judged first agrees with the model's answer in the end."""
    own = [one for one in judged.said if one.author == judged.said[0].author]
    return rejects(own[-1], judged.output) is False


def _share(count: int, of: int) -> Share:
    low, high = wilson(count, of)
    return {"count": count, "of": of, "value": count / of if of else None, "low": low, "high": high}


def _difference(one: Share, other: Share) -> dict[str, float] | None:
    """Return how far a share lies above another, with Newcombe's interval of the difference."""
    if not (one["of"] and other["of"]):
        return None
    value = one["value"] - other["value"]
    below = math.hypot(one["value"] - one["low"], other["high"] - other["value"])
    above = math.hypot(one["high"] - one["value"], other["value"] - other["low"])
    return {"value": value, "low": value - below, "high": value + above}


def tell_reliance(found: dict[str, Any]) -> str | None:
    """Return the difference in words, or None where it is not known: it needs verdicts of both kinds."""
    blind, sighted, moved = found["blind"], found["sighted"], found["difference"]
    if moved is None:
        return None
    return (
        f"Reliance: with the answer in sight {100 * sighted['value']:.0f} % of {sighted['of']} first verdicts agree "
        f"with it, of {blind['of']} given blind {100 * blind['value']:.0f} % are the same; seeing it moves them by "
        f"{100 * moved['value']:+.0f} points (95 % interval {100 * moved['low']:+.0f} to {100 * moved['high']:+.0f})."
    )
