"""The command that all others belong to."""

from __future__ import annotations

import errno
import unicodedata
from importlib import import_module
from typing import Any

import click

from .. import __version__
from ..errors import ReviewappError

MODULES = ("building", "operating", "reading", "scoring")  # whose import takes two seconds


class _Group(click.Group):
    """Turns our errors into one clear sentence on standard error and the exit code of their kind.

    The modules of its commands are imported when it is asked for one that is not there yet.
    """

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.commands:
            _import_all()
        return super().get_command(ctx, cmd_name)

    def list_commands(self, ctx: click.Context) -> list[str]:
        _import_all()
        return super().list_commands(ctx)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except ReviewappError as error:
            say(f"reviewapp: {error.detail}", err=True)
            ctx.exit(error.exit_code)
        except OSError as error:  # a disk that is full, a folder that may not be written
            if error.errno == errno.EPIPE:
                raise  # whoever reads has gone: click ends in silence
            where = error.filename or "A file or a folder"
            say(f"reviewapp: {where} cannot be used: {error.strerror or error}.", err=True)
            ctx.exit(ReviewappError.exit_code)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
def main() -> None:
    """Turn a fitted scikit-learn model into a service that people can review before they trust it."""


def say(text: str, *, err: bool = False) -> None:
    """Print text in which names may stand that others chose: a terminal must not do what is in them."""
    click.echo("".join(map(_visible, text)), err=err)


def _visible(character: str) -> str:
    kept = character == "\n" or character.isprintable() or unicodedata.category(character) == "Zs"
    return character if kept else ascii(character)[1:-1]


def _import_all() -> None:
    for name in MODULES:
        import_module(f".{name}", __package__)
