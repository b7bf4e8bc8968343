"""The `reviewapp` command. Exit codes: 0 done, 1 a check failed, 2 wrong use or wrong input (one sentence).

`command` is the command itself; the others add to it, each what one person does: `building` makes a release,
`operating` runs the service, `reading` tells what is there, moves what is live, and asks it, `trying` tries a rollback
rule before it acts, `scoring` answers whole files, `verifying` looks at a folder or at the ledger.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from . import verifying as verifying
from .command import main as main


def __getattr__(name: str) -> Any:
    """Import a module of commands when it is asked for."""
    if name in ("building", "group", "operating", "reading", "scoring"):
        return import_module(f".{name}", __name__)
    raise AttributeError(name)
