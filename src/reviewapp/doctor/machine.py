"""The machine that the service runs on: its libraries, its user, its clock, its limits."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import metadata

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import NormalizedName, canonicalize_name

from .. import places
from ..postgres import POOL as SERVER_POOL
from ..sqlite import FIXED_SQLITE, POOL
from .finding import OK, WARNING, WRONG, Case, Finding, installed

BUGGY_SQLITE = (3, 7, 0)  # from here to FIXED_SQLITE
FIRST_YEAR = 2026  # a clock before it was never set
FEWEST_FILES, FEW_FILES = 256, 1024 + 4 * POOL  # a worker's connections, and three files for each of the ledger's


def sqlite(case: Case) -> Iterator[Finding]:
    """3.7.0 to 3.51.2 can corrupt a database in WAL mode that several connections write."""
    shown = ".".join(map(str, case.facts.sqlite))
    if BUGGY_SQLITE <= case.facts.sqlite < FIXED_SQLITE:
        yield Finding(WRONG, f"SQLite {shown} has the WAL-reset bug.", "Install pysqlite3 0.6.1 or newer.")
    else:
        yield Finding(OK, f"SQLite {shown}.")


def libraries(case: Case) -> Iterator[Finding]:
    """Those that are installed are those that reviewapp asks for; in a checkout, those that it was tested with."""
    facts, other, fits = case.facts, list[str](), True
    root = places.checkout()
    lines = (root / "constraints.txt").read_text(encoding="utf-8").splitlines() if root is not None else []
    pins = {canonicalize_name(name): pin for name, _, pin in (line.partition("==") for line in lines) if pin}
    wanted_python = SpecifierSet(metadata.metadata("reviewapp")["Requires-Python"])
    if not wanted_python.contains(facts.python):
        fits = False
        yield Finding(WRONG, f"This is Python {facts.python}.", f"Use Python {wanted_python}.")
    for name, wanted in sorted(_needed().items()):
        there, pin = facts.installed(name), pins.get(name)
        if there is None or not wanted.contains(there, prereleases=True):
            fits = False
            yield Finding(WRONG, f"{name} is {there or 'not there'}.", f"Install {name}{wanted}.")
        elif pin is not None and there != pin:
            other.append(f"{name} {there} (tested with {pin})")
    if other:
        yield Finding(
            WARNING, f"Other versions than those that were tested: {', '.join(other)}.", "Run make .venv/.run."
        )
    elif fits:
        yield Finding(OK, f"Python {facts.python} and the libraries are those that reviewapp asks for.")


def _needed() -> dict[NormalizedName, SpecifierSet]:
    """Return what reviewapp needs, and what that needs, each with the versions that will do for all."""
    found, todo = dict[NormalizedName, SpecifierSet](), ["reviewapp"]
    while todo:
        for text in metadata.requires(todo.pop()) or ():
            wanted = Requirement(text)
            if wanted.marker is None or wanted.marker.evaluate({"extra": ""}):
                name = canonicalize_name(wanted.name)
                if name not in found and installed(name) is not None:
                    todo.append(name)
                found[name] = found.get(name, SpecifierSet()) & wanted.specifier
    return found


def user(case: Case) -> Iterator[Finding]:
    if case.facts.user == 0:
        yield Finding(WARNING, "This is root, who may do more than the service needs.", "Run it as a user of its own.")
    else:
        yield Finding(OK, f"The user is no. {case.facts.user}, not root.")


def clock(case: Case) -> Iterator[Finding]:
    now = case.facts.clock()
    if now.year < FIRST_YEAR:
        yield Finding(WRONG, f"The clock says {now:%Y-%m-%d}.", "Set it, and keep it by NTP.")
    else:
        yield Finding(OK, f"The clock says {now:%Y-%m-%d %H:%M} UTC.")


def open_files(case: Case) -> Iterator[Finding]:
    most = case.facts.open_files
    if most < FEWEST_FILES:
        yield Finding(WRONG, f"A process may open {most} files, too few to serve.", "Raise `ulimit -n` (LimitNOFILE).")
    elif most < FEW_FILES:
        yield Finding(
            WARNING, f"A process may open {most:,} files; a worker can need {FEW_FILES:,}.", "Raise LimitNOFILE."
        )
    else:
        yield Finding(OK, f"A process may open {most:,} files.")


def workers(case: Case) -> Iterator[Finding]:
    settings, cores = case.parts.settings, case.facts.cores
    number, threads = settings.worker_count, settings.threads
    shown = f"{number} worker{'s' if number != 1 else ''} of {threads} thread{'s' if threads != 1 else ''}"
    if number == 1:
        yield Finding(
            WARNING, f"{shown}: while it is killed and started anew, nobody answers.", "Set REVIEWAPP_WORKERS to 2."
        )
    elif number > 4 * cores:
        yield Finding(
            WARNING, f"{shown} on {cores} cores: they wait for each other.", f"Set REVIEWAPP_WORKERS to {cores}."
        )
    most = POOL if case.parts.store.is_file else SERVER_POOL
    if threads == 1 or threads > most:
        why = "one slow client holds a worker" if threads == 1 else f"a worker has {most} connections to the ledger"
        yield Finding(WARNING, f"{shown}: {why}.", "Set REVIEWAPP_THREADS to 8.")
    elif 1 < number <= 4 * cores:
        yield Finding(OK, f"{shown} on {cores} core{'s' if cores != 1 else ''}.")
