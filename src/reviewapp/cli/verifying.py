"""Whether a folder would be accepted as a release, and whether the ledger is as it was recorded.

The one command that starts without the large libraries.
"""

from __future__ import annotations

from pathlib import Path

import click

from .. import intact
from ..config import load_settings
from ..errors import UsageError
from ..store import Store
from ..verifying import verify as verified
from .command import main, say


@main.command()
@click.argument("path", type=click.Path(path_type=Path), required=False)
@click.option("--digest", metavar="sha256:…", help="Accept this one, which you know from elsewhere, and no other.")
@click.option("--ledger", is_flag=True, help="Verify the ledger instead: every row of it against its chain.")
@click.option("--since", metavar="LINK", help="The newest link of an earlier time; it must be in the chain still.")
def verify(path: Path | None, digest: str | None, ledger: bool, since: str | None) -> None:
    """Say whether the release folder PATH would be accepted, and why not; a version of this instance will do.

    It must have been built here: its digest is held to the one in the ledger. With --ledger: whether the ledger is as
    it was recorded, and the first thing in it that is not.
    """
    if ledger == (path is not None):
        raise UsageError("Name a release folder or say --ledger, one of both.")
    if since is not None and not ledger:
        raise UsageError("--since goes with --ledger.")
    if digest is not None and ledger:
        raise UsageError("--digest goes with a release folder.")
    if path is not None:
        found = verified(path, load_settings(), digest)
        name, version, known = found.identity
        say(f"{name}/{version} is accepted: {found.golden} golden requests answered right.\n{known}")
        return
    store = Store(load_settings().database_url, read_only=True)
    say(str(intact.verify(store, since)))
    store.close()
