"""The server of a ledger in PostgreSQL: is it reached, does it keep what is acknowledged, has it room for this host."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address

from ..errors import ReviewappError
from ..postgres import CONNECTIONS, OLDEST
from .finding import OK, WARNING, WRONG, Case, Finding, Server
from .ledger import TOLERANCE

ENCODING = "UTF8"
VERIFIED = ("verify-ca", "verify-full")  # the values of sslmode with which a server has to show who it is
_NOT_ASKED = Finding(WARNING, "Not looked at: the server does not answer.")


def server(case: Case) -> Iterator[Finding]:
    found, place = case.server, case.parts.store.place
    if isinstance(found, ReviewappError):
        yield Finding(
            WRONG, f"{place}: {found.detail}{_cause(found)}", "Start the server, or correct REVIEWAPP_DATABASE_URL."
        )
    elif found.version < OLDEST:
        yield Finding(WRONG, f"{place} is PostgreSQL {found.shown}.", f"Use version {OLDEST} or newer.")
    elif found.standby:
        yield Finding(
            WRONG, f"{place} is a standby, which nobody writes to.", "Name the primary in REVIEWAPP_DATABASE_URL."
        )
    else:
        yield Finding(OK, f"{place} is PostgreSQL {found.shown}.")


def _cause(error: ReviewappError) -> str:
    """Return what the driver says, which names no password."""
    said = str(getattr(error.__cause__, "orig", None) or "").strip().splitlines()
    return f" {said[0].rstrip('.')}." if said else ""


def _asked(case: Case) -> Server | None:
    return None if isinstance(case.server, ReviewappError) else case.server


def commits(case: Case) -> Iterator[Finding]:
    """What is acknowledged is on the server's disk, and what a lost machine leaves there can be read."""
    found = _asked(case)
    if found is None:
        yield _NOT_ASKED
        return
    if found.settings["fsync"] != "on":
        yield Finding(WRONG, "fsync is off: a lost machine can take the whole database with it.", "Set fsync = on.")
    if found.settings["synchronous_commit"] == "off":
        yield Finding(
            WRONG,
            "synchronous_commit is off: what was acknowledged can be lost.",
            "Set synchronous_commit = on, for the role of the service at least.",
        )
    if found.settings["full_page_writes"] != "on":
        yield Finding(
            WARNING,
            "full_page_writes is off: only a file system that writes whole pages makes that safe.",
            "Set full_page_writes = on.",
        )
    if found.durable:
        yield Finding(OK, f"fsync and full_page_writes are on, commits wait ({found.settings['synchronous_commit']}).")


def connections(case: Case) -> Iterator[Finding]:
    found = _asked(case)
    if found is None:
        yield _NOT_ASKED
        return
    workers = case.parts.settings.worker_count
    needed = workers * CONNECTIONS
    shown = f"{workers} worker{'s' * (workers != 1)} of this host can need {needed} connections"
    if needed > found.connections:
        yield Finding(
            WRONG,
            f"{shown}, and the service may have {found.connections}: requests will get 503.",
            "Raise max_connections (or the limit of the role or the database), or set REVIEWAPP_WORKERS.",
        )
    else:
        hosts = found.connections // needed
        yield Finding(OK, f"{shown} of {found.connections}: enough for {hosts} host{'s' * (hosts != 1)} like this one.")


def encoding(case: Case) -> Iterator[Finding]:
    found = _asked(case)
    if found is None:
        yield _NOT_ASKED
    elif found.settings["server_encoding"] != ENCODING:
        yield Finding(
            WRONG,
            f"The database has the encoding {found.settings['server_encoding']}: not every text can be kept.",
            "Make another one (CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0); `reviewapp db copy` moves it.",
        )
    else:
        yield Finding(OK, f"The encoding is {ENCODING}.")


def server_clock(case: Case) -> Iterator[Finding]:
    """Rows have the time of the host that recorded them: the server's clock stands for those of the other hosts."""
    found = _asked(case)
    if found is None:
        yield _NOT_ASKED
    elif abs(found.ahead) > TOLERANCE.total_seconds():
        way = "ahead of" if found.ahead > 0 else "behind"
        yield Finding(
            WRONG, f"The server's clock is {abs(found.ahead):,.0f} s {way} this host's.", "Set both; keep them by NTP."
        )
    else:
        yield Finding(OK, "The server's clock and this host's agree.")


def transport(case: Case) -> Iterator[Finding]:
    """Who can listen in between reads all that is asked; who can stand in between may answer as the server."""
    found, url = _asked(case), case.parts.store.url
    if found is None:
        yield _NOT_ASKED
    elif _is_local(url.host or str(url.query.get("host", ""))):
        yield Finding(OK, "The server is on this machine.")
    elif not found.encrypted:
        yield Finding(
            WARNING,
            f"What goes to {url.host} is not encrypted: who can listen reads all that is asked.",
            "Switch TLS on there, and add ?sslmode=verify-full to REVIEWAPP_DATABASE_URL.",
        )
    elif url.query.get("sslmode") not in VERIFIED and case.facts.environment.get("PGSSLMODE") not in VERIFIED:
        yield Finding(
            WARNING,
            f"TLS is used, and {url.host} need not show who it is.",
            "Add ?sslmode=verify-full&sslrootcert=FILE to REVIEWAPP_DATABASE_URL.",
        )
    else:
        yield Finding(OK, f"TLS is used, and {url.host} has shown who it is.")


def _is_local(host: str) -> bool:
    """Whether a host is this one; none, or a path, is a socket of this machine."""
    if not host or host.startswith("/"):
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
