"""What the running app is made of, and `parts`, the proxy through which the blueprints reach it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from flask import current_app
from werkzeug.local import LocalProxy

from .accounts import Accounts
from .config import Settings
from .desk import Desk
from .ledger import Ledger
from .registry import Registry
from .store import Store
from .uploads import Uploads

EXTENSION = "reviewapp"


@dataclass(frozen=True)
class Parts:
    settings: Settings
    store: Store
    ledger: Ledger
    desk: Desk
    registry: Registry
    accounts: Accounts
    uploads: Uploads


parts = cast(Parts, LocalProxy(lambda: current_app.extensions[EXTENSION]))
