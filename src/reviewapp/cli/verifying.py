"""Whether a folder would be accepted as a release: the one command that starts without the large libraries."""

from __future__ import annotations

from pathlib import Path

import click

from ..config import load_settings
from ..verifying import verify as verified
from .command import main


@main.command()
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--digest", metavar="sha256:…", help="Accept this one, which you know from elsewhere, and no other.")
def verify(path: Path, digest: str | None) -> None:
    """Say whether the release folder PATH would be accepted, and why not; a version of this instance will do.

    It must have been built here: its digest is held to the one in the ledger.
    """
    found = verified(path, load_settings(), digest)
    name, version, digest = found.identity
    click.echo(f"{name}/{version} is accepted: {found.golden} golden requests answered right.\n{digest}")
