"""What an operator should know before trusting a deployment: a list of checks, each of one thing.

Read in this order: finding (what a check is given and what it tells) · machine (libraries, the user, limits) · setup
(settings and the proxy's) · ledger (the ledger's file and where it lies) · releases (what answers, what was left over).
Nothing is changed by looking; a ledger of another version is not brought up to date.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from . import ledger, machine, releases, setup
from .finding import OK, WARNING, WRONG, Case, Check, Facts, Finding

CHECKS: Sequence[Check] = (
    machine.sqlite,
    machine.libraries,
    machine.user,
    machine.clock,
    machine.open_files,
    machine.workers,
    setup.address,
    setup.proxies,
    setup.sign_in,
    setup.control_socket,
    setup.nginx,
    ledger.disk,
    ledger.space,
    ledger.modes,
    ledger.schema,
    ledger.durability,
    ledger.content,
    ledger.times,
    releases.digests,
    releases.live,
    releases.trigger,
    releases.leftovers,
    releases.uploads,
)


def examine(case: Case) -> list[Finding]:
    """Return what all checks find, in their order, each with the name of its check."""
    return [replace(found, check=check.__name__) for check in CHECKS for found in check(case)]


__all__ = ["CHECKS", "OK", "WARNING", "WRONG", "Case", "Facts", "Finding", "examine"]
