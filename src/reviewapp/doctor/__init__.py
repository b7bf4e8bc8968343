"""What an operator should know before trusting a deployment: a list of checks, each of one thing.

Read in this order: finding (what a check is given and what it tells) · machine (libraries, the user, limits) · setup
(settings and the proxy's) · ledger (what it is and where its file lies) · server (PostgreSQL, where it lies there) ·
releases (what answers, what was left over).
Nothing is changed by looking; a ledger of another version is not brought up to date.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from . import ledger, machine, releases, server, setup
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
    server.server,
    server.commits,
    server.connections,
    server.encoding,
    server.server_clock,
    server.transport,
    releases.digests,
    releases.live,
    releases.trigger,
    releases.leftovers,
    releases.uploads,
)

_OF_FILE = {machine.sqlite, ledger.disk, ledger.space, ledger.durability, ledger.content}
_OF_SERVER = {
    server.server, server.commits, server.connections, server.encoding, server.server_clock, server.transport,
}  # fmt: skip


def checks_of(case: Case) -> list[Check]:
    """Return the checks that are about this deployment: its ledger is a file, or lies in PostgreSQL."""
    others = _OF_SERVER if case.parts.store.is_file else _OF_FILE
    return [check for check in CHECKS if check not in others]


def examine(case: Case) -> list[Finding]:
    """Return what the checks find, in their order, each with the name of its check."""
    return [replace(found, check=check.__name__) for check in checks_of(case) for found in check(case)]


__all__ = ["CHECKS", "OK", "WARNING", "WRONG", "Case", "Facts", "Finding", "checks_of", "examine"]
