"""The command that all others belong to, and what they share."""

from __future__ import annotations

import signal
import sys
from typing import Any

import click

from .. import __version__
from ..config import load_settings
from ..errors import ReviewappError
from ..factory import make_parts
from ..parts import Parts

ACTOR = "command line"


class _Group(click.Group):
    """Turns our errors into one clear sentence on standard error and the exit code of their kind."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except ReviewappError as error:
            click.echo(f"reviewapp: {error.detail}", err=True)
            ctx.exit(error.exit_code)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
def main() -> None:
    """Turn a fitted scikit-learn model into a service that people can review before they trust it."""


def _parts() -> Parts:
    return make_parts(load_settings())


def end_tidily() -> None:
    """Let SIGTERM end this command as an error does, so that it takes away what it has half made."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
