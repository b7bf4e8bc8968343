"""What the commands share."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import click

from ..config import load_settings
from ..export import write_beside
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


def put(pieces: Iterator[bytes], output: Path | None) -> None:
    """Write a file, or to standard output."""
    if output is not None:
        write_beside(pieces, output)
        return
    for piece in pieces:  # click ends quietly where the reader has closed the pipe
        click.echo(piece, nl=False)
