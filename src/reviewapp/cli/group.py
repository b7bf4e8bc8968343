"""What the commands share."""

from __future__ import annotations

import signal
import sys

from ..config import load_settings
from ..factory import make_parts
from ..parts import Parts
from .command import main

__all__ = ["main"]  # and what is written here

ACTOR = "command line"


def _parts() -> Parts:
    return make_parts(load_settings())


def end_tidily() -> None:
    """Let SIGTERM end this command as an error does, so that it takes away what it has half made."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
