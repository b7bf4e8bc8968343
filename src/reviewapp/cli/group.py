"""What the commands share."""

from __future__ import annotations

from ..config import load_settings
from ..factory import make_parts
from ..parts import Parts
from .command import main

__all__ = ["main"]  # and what is written here

ACTOR = "command line"


def _parts() -> Parts:
    return make_parts(load_settings())
