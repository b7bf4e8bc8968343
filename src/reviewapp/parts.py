"""What the running app is made of, and `parts`, the proxy through which the blueprints reach it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from flask import current_app
from werkzeug.local import LocalProxy

from .accounts import Accounts
from .config import Settings
from .desk import Desk
from .errors import EXTENSION
from .ledger import Ledger
from .metering import Meter
from .registry import Registry
from .rounds import Rounds
from .slo import Minutes
from .store import Store
from .tally import Tally
from .uploads import Uploads
from .watching import Watch

__all__ = ["EXTENSION", "Parts", "parts"]


@dataclass(frozen=True)
class Parts:
    settings: Settings
    store: Store
    ledger: Ledger
    desk: Desk
    registry: Registry
    accounts: Accounts
    uploads: Uploads
    watch: Watch
    rounds: Rounds
    meter: Meter
    tally: Tally
    minutes: Minutes


def own_parts() -> Parts:
    """Return the parts themselves, for who needs several of them: each use of the proxy looks them up anew."""
    return cast(Parts, current_app.extensions[EXTENSION])


parts = cast(Parts, LocalProxy(own_parts))
