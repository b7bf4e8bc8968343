"""Sign-ins that fail, limited for all workers together: so many of an address, and fewer once many addresses fail.

Secrets are 256 random bits: no guess succeeds, limited or not. The limit keeps guesses from being a load, and from
hiding in the log what matters. A failure is one short commit, what is refused writes nothing, and no row outlives the
window, so the failures of a window are all that is ever kept.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from datetime import datetime, timedelta
from math import ceil

from sqlalchemy import Connection, delete, func, insert, select

from .errors import TooManyRequests
from .prediction import timestamp
from .store import Store
from .tables import failed_sign_ins

WITHIN = timedelta(minutes=15)  # the window in which failures are counted
OF_ADDRESS = 10  # failures of one address
OF_ALL = 200  # failures of all addresses; from then on an address has one, not ten: nobody is locked out by others
LONGEST_ADDRESS = 64  # characters; what a proxy sends is text like any other


class Attempts:
    """Counts failed sign-ins by address. `clock` returns the time as an aware datetime."""

    def __init__(self, store: Store, clock: Callable[[], datetime]) -> None:
        self._store = store
        self._clock = clock

    def check(self, address: str) -> None:
        """Raise TooManyRequests where an address may not try to sign in now."""
        with self._store.reading() as connection:
            self._check(connection, counted_as(address), self._clock())

    def failed(self, address: str) -> None:
        """Keep that a sign-in failed; raise TooManyRequests, and keep nothing, where others were faster."""
        origin = counted_as(address)
        with self._store.writing() as connection:
            now = self._clock()  # once it is our turn: whoever wrote before us is counted
            self._check(connection, origin, now)
            row = failed_sign_ins.c
            # what lies ahead was counted before the clock was put back
            old = (row.created_at <= timestamp(now - WITHIN)) | (row.created_at > timestamp(now))
            connection.execute(delete(failed_sign_ins).where(old))
            connection.execute(insert(failed_sign_ins).values(address=origin, created_at=timestamp(now)))

    def _check(self, connection: Connection, origin: str, now: datetime) -> None:
        row = failed_sign_ins.c
        lately = (row.created_at > timestamp(now - WITHIN)) & (row.created_at <= timestamp(now))
        of_all = connection.scalar(select(func.count()).select_from(failed_sign_ins).where(lately)) or 0
        most = OF_ADDRESS if of_all < OF_ALL else 1
        own = select(row.created_at).where(row.address == origin, lately).order_by(row.created_at.desc())
        last = connection.scalars(own.limit(most)).all()
        if len(last) == most:
            wait = datetime.fromisoformat(last[-1]) + WITHIN - now
            raise TooManyRequests(
                "Too many sign-ins from this address failed; it can try again after the time that Retry-After says.",
                retry_after=max(1, ceil(wait.total_seconds())),
            )


def counted_as(address: str) -> str:
    """Return what an address is counted as: itself, or, of IPv6, the network of 64 bits that one customer is given."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:  # a Unix socket has none, and a proxy may send anything
        return address[:LONGEST_ADDRESS]
    if isinstance(parsed, ipaddress.IPv4Address):
        return str(parsed)
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.ip_network((parsed, 64), strict=False))
