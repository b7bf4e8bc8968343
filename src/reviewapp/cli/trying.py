"""Trying a rollback rule before it acts: on what was recorded, and on synthetic verdicts; for `reviewapp monitor`."""

from __future__ import annotations

import json
import textwrap
from pathlib import Path
from typing import Any

import click

from .. import strictjson
from ..errors import BadRequest, ReleaseRefused, UsageError
from ..evidence.simulation import of_rule
from ..parts import Parts
from ..policy import Policy
from ..release import Release
from ..replaying import read_span, replay, tell_replay
from ..simulating import MONTHS, SEED, expected
from .command import say
from .group import _parts

WIDE = 100  # characters of a line of prose

_OPTIONS = (
    click.option(
        "--replay",
        "span",
        metavar="FROM..TO",
        help="Try a rule on what was recorded: days (TO meant whole) or times (UTC); either may be left out.",
    ),
    click.option("--simulate", is_flag=True, help="How often a rule fires on nothing, and how soon on what is worse."),
    click.option(
        "--policy",
        "file",
        type=click.Path(path_type=Path, exists=True, dir_okay=False),
        metavar="FILE",
        help="The policy.json whose rule is tried.  [default: that of the live release]",
    ),
    click.option("--months", type=click.IntRange(20, 100_000), help=f"How many are simulated.  [default: {MONTHS}]"),
    click.option("--seed", type=click.IntRange(0), help=f"What chance in a simulation begins with.  [default: {SEED}]"),
)


def tries_rules(command: Any) -> Any:
    """Give a command the options of `try_rule`."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def try_rule(
    *, span: str | None, simulate: bool, file: Path | None, months: int | None, seed: int | None, as_json: bool
) -> bool:
    """Replay or simulate a rule where that is asked for, and say what was found; return whether it was."""
    if simulate and span is not None:
        raise UsageError("Take either --replay or --simulate.")
    if not simulate and (months, seed) != (None, None):
        raise UsageError("--months and --seed are of --simulate.")
    if simulate:
        _simulate(file, months or MONTHS, SEED if seed is None else seed, as_json=as_json)
    elif span is not None:
        _replay(span, file, as_json=as_json)
    elif file is not None:
        raise UsageError("--policy is of --replay and --simulate: what answers follows the policy of its release.")
    return simulate or span is not None


def _replay(text: str, file: Path | None, *, as_json: bool) -> None:
    span, parts = read_span(text), _parts()
    ledger, log = parts.ledger, parts.registry.events()
    policy = _policy(file) if file else _live_release(parts).policy
    found = replay(policy.rollback, log, span, lambda one: ledger.reviews(one).judged, ledger.last_prediction)
    say(json.dumps(found, indent=2) if as_json else tell_replay(found))


def _simulate(file: Path | None, months: int, seed: int, *, as_json: bool) -> None:
    if file:
        policy = _policy(file)
        traffic = expected(policy, {})
    else:
        release = _live_release(_parts())
        policy, traffic = release.policy, expected(release.policy, release.evaluation)
    tables = of_rule(policy.rollback, traffic, months, seed)
    if as_json:
        say(json.dumps({table.name: list(table.rows) for table in tables}, indent=2))
        return
    for table in tables:
        say(f"{table.title}\n\n{table.as_text()}\n\n{textwrap.fill(table.reading, WIDE)}\n")


def _live_release(parts: Parts) -> Release:
    pointer = parts.registry.live()
    if pointer is None:
        raise UsageError("No release is live yet; `reviewapp build` makes one, or name a policy: --policy FILE.")
    try:
        return parts.registry.load(pointer).release
    except ReleaseRefused as error:
        raise UsageError(f"{pointer} does not load: {error.detail}") from None


def _policy(file: Path) -> Policy:
    try:
        return Policy.from_json(strictjson.loads(file.read_bytes()))
    except (BadRequest, ReleaseRefused) as error:
        raise UsageError(f"{file}: {error.detail}") from None
