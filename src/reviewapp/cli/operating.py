"""Running the service: starting it, who may use it, and keeping what it keeps."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace as changed
from datetime import datetime
from pathlib import Path

import click
from tqdm import tqdm

from .. import backup as backups
from .. import copying, ledgerfile, restoring
from ..accounts import ROLES
from ..config import Settings, load_settings
from ..doctor import WRONG, Case, examine
from ..errors import NotReady, ReleaseRefused, UsageError
from ..factory import create_app, make_parts
from ..intact import verify
from ..parts import Parts
from ..purging import Purge, Selection
from ..samples import example_record
from ..server import address, check_address, hold_instance
from ..server import serve as run_server
from ..snippets import curl
from ..store import Store
from .command import say
from .group import ACTOR, _parts, end_tidily, main

RUN_TOKEN = "make-run"  # noqa: S105 (a name, no secret)


@main.command()
def serve() -> None:
    """Start the service (gunicorn); builds the default release if there is none."""
    settings = load_settings()
    check_address(settings)
    hold_instance(settings)
    parts = make_parts(settings)
    if parts.registry.live() is None:
        # In a process of its own: nothing of a model may be in memory when the workers are forked.
        built = subprocess.run([sys.executable, "-m", "reviewapp", "build"], check=False)
        if built.returncode:
            sys.exit(built.returncode)
    try:
        parts.registry.prove_live()  # after an update it may take longer than a worker gives a request
    except (ReleaseRefused, NotReady) as error:  # it starts nevertheless, and readiness says the same
        refused = "is refused" if isinstance(error, ReleaseRefused) else "cannot be had now"
        say(f"The live release {refused}: {error.detail}", err=True)

    def greet() -> None:
        _print_welcome(parts)
        parts.store.close()

    parts.store.close()
    run_server(settings, create_app, greet)


def _print_welcome(parts: Parts) -> None:
    settings = parts.settings
    if settings.bind.startswith("unix:"):
        say(f"reviewapp answers on {settings.bind}.")
        return
    base, token, link = address(settings), None, ""
    if settings.auth == "token":
        token = parts.accounts.create_token(RUN_TOKEN, "submit", days=1)
        if settings.loopback:
            link = f"/sign-in?link={parts.accounts.create_link('owner', 'admin')}"
    say(f"\nreviewapp answers on {base} (stop: Ctrl+C)")
    if link:
        say(f"\nSign in, once, within an hour:\n  {base}{link}")
    elif token is None:
        say(f"\nSign-in is off: everyone on this machine is admin. Open\n  {base}/")
    try:
        example = example_record(parts.registry.contract())
        say(f"\nAsk from a script (the token lasts a day):\n  {curl(base, example, token, joint=' ')}\n")
    except (ReleaseRefused, NotReady) as error:  # an earlier release may answer, and readiness says what is wrong
        say(f"\nThere is no example of a request: {error.detail}\n")
    sys.stdout.flush()


@main.group()
def token() -> None:
    """Make, list and revoke API tokens; see who is signed in on the pages, and sign them out."""


@token.command("create")
@click.argument("name")
@click.option("--role", type=click.Choice(ROLES), required=True)
@click.option("--days", type=click.IntRange(1, 36500), help="Days until it expires.")
def create_token(name: str, role: str, days: int | None) -> None:
    """Print a new token for NAME, once; only its hash is kept."""
    say(_parts().accounts.create_token(name, role, days))


@token.command("list")
def list_tokens() -> None:
    """List the tokens; never the secrets."""
    for row in _parts().accounts.tokens():
        state = "revoked" if row["revoked_at"] else f"until {row['expires_at'] or 'revoked'}"
        say(f"{row['id']}  {row['role']:<7}{row['name']:<20}{state}")


@token.command("revoke")
@click.argument("token_id")
def revoke_token(token_id: str) -> None:
    """End the token with the id that `token list` shows, at once."""
    _parts().accounts.revoke_token(token_id)
    say("Revoked.")


@token.command("sessions")
def list_sessions() -> None:
    """List who is signed in on the pages, and the sign-in links not used yet; never the secrets."""
    for one in _parts().accounts.signed_in():
        by = f"by token {one['token_id']}" if one["token_id"] else "by link" if one["kind"] == "session" else "not used"
        say(f"{one['kind']:<9}{one['role']:<7}{one['name']:<20}until {one['expires_at']}  {by}")


@token.command("sign-out")
@click.argument("name")
def sign_out(name: str) -> None:
    """End every page session and unused sign-in link of NAME, at once; `token revoke` ends their tokens."""
    ended, links = _parts().accounts.sign_out(name)
    say(f"Ended: {ended} session{'s' * (ended != 1)}, {links} link{'s' * (links != 1)}.")


# ---- keeping it ---------------------------------------------------------------------------------------------------


@main.command()
@click.argument("file", type=click.Path(path_type=Path))
def backup(file: Path) -> None:
    """Write all that this instance keeps into FILE, a tar archive, while the service runs.

    In it are the ledger, the releases, the list of trusted types and config.py: whoever may read it may read all that
    was asked. It goes back into SQLite and PostgreSQL alike. Exit code 1 where a release is damaged; it is in the
    backup as it is.
    """
    end_tidily()
    parts = _parts()
    with _copying() as progress:
        made = backups.make(parts.settings, parts.store, file, progress)
    parts.store.close()
    say(f"{file}: {made.in_words()}. It was read again and is whole.")
    _end_with(made.wrong)


@main.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--replace", is_flag=True, help="Put aside the ledger that is here; it is renamed, never deleted.")
def restore(file: Path, replace: bool) -> None:
    """Put the backup FILE into this instance, whose service is stopped; all of it or nothing.

    A ledger in PostgreSQL goes into an empty database; --replace puts no rows aside there.
    """
    end_tidily()
    parts = _parts()
    hold_instance(parts.settings)
    copying.check_unused(parts.store)
    with _copying() as progress:
        found, aside = restoring.restore(file, parts.settings, parts.store, replace=replace, progress=progress)
    parts.store.close()
    say(f"Restored what was kept at {found.made_at}: {found.in_words()}.")
    for path in aside:
        say(f"What was here before lies in {path}.")
    say("Tokens that were revoked since then are valid again; look at: reviewapp token list")
    say("What was purged since then is here again; purge it anew.")
    say("Next: reviewapp serve")
    _end_with(found.wrong)


@main.command()
@click.argument("ids", metavar="[ID]...", nargs=-1)
@click.option("--before", type=click.DateTime(["%Y-%m-%d"]), metavar="DATE", help="All from before this day (UTC).")
@click.option("--client", metavar="NAME", help="All that this client asked for.")
@click.option("--reason", required=True, help="Why; kept in the ledger.")
@click.option("--dry-run", is_flag=True, help="Say how many there are; erase nothing.")
def purge(ids: tuple[str, ...], before: datetime | None, client: str | None, reason: str, dry_run: bool) -> None:
    """Erase what was asked, by the ID of predictions, by day or by client; that it was answered stays."""
    selection = Selection(ids, None if before is None else before.date(), client)
    store = _parts().store
    if not store.exists():  # it would be made, and a wrong REVIEWAPP_INSTANCE not be noticed
        raise UsageError(f"There is no ledger at {store.place}; nothing was erased.")
    asked = Purge(store, selection, reason, ACTOR)
    n = asked.count() if dry_run else asked.run()
    say(f"{n:,} prediction{'s' * (n != 1)} {'would be' if dry_run else 'erased'}{' erased' * dry_run}.")


def _end_with(wrong: list[str]) -> None:
    for line in wrong:
        say(f"Damaged when the backup was made: release {line}", err=True)
    sys.exit(int(bool(wrong)))


@main.command()
@click.option(
    "--nginx",
    multiple=True,
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    metavar="FILE",
    help="Hold this file of nginx to the settings, too.",
)
@click.option("--json", "as_json", is_flag=True, help="Print all of it as JSON.")
def doctor(nginx: tuple[Path, ...], as_json: bool) -> None:
    """Check the deployment, a line each: ok, warning or wrong, and what to do. Exit code 1 where something is wrong."""
    findings = examine(Case(_parts(), nginx=nginx))
    if as_json:
        say(json.dumps([found.as_json() for found in findings], indent=2))
    else:
        say("\n".join(map(str, findings)))
    sys.exit(int(any(found.state == WRONG for found in findings)))


@main.group()
def db() -> None:
    """Look at the ledger, check it, bring it up to date, copy it into another database."""


@db.command()
def status() -> None:
    """Say what the ledger is: where it lies, its size, its schema, its rows."""
    store = _parts().store
    found = ledgerfile.look_at(store)
    say(f"{store.place}\n{found.size:,} bytes\nschema {found.schema} ({_STATES[found.state]})")
    for name, number in found.rows.items():
        say(f"{number:,} {name.replace('_', ' ')}")


_STATES = {
    ledgerfile.CURRENT: "that of this version",
    ledgerfile.OLDER: "older than this version's; `reviewapp db upgrade` or a start brings it up to date",
    ledgerfile.UNKNOWN: "made by a newer version, which this one leaves alone",
}


@db.command()
def check() -> None:
    """Let SQLite check the whole file; in PostgreSQL, read all rows against the chain. Exit code 1: it is not whole."""
    store = Store(load_settings().database_url, read_only=True)
    ledgerfile.look_at(store)
    if not store.is_file:
        with closing(store):
            say(str(verify(store)))
        say("PostgreSQL itself holds rows to what they refer to; pg_amcheck checks its files.")
        return
    wrong = ledgerfile.flaws(store.path)
    say("\n".join(wrong) or "The ledger's file is whole.")
    sys.exit(int(bool(wrong)))


@db.command()
def upgrade() -> None:
    """Bring the ledger's schema up to date, as the next start does; the service must be stopped."""
    settings = load_settings()
    hold_instance(settings)
    store = Store(settings.database_url)
    before = ledgerfile.look_at(store).schema
    with store.reading():  # whoever opens it brings it up to date, in one transaction
        after = ledgerfile.look_at(store).schema
    store.close()
    say(f"Schema {before} is up to date." if before == after else f"Schema {before} became {after}.")


@db.command("copy")
@click.argument("source", metavar="FROM")
@click.argument("target", metavar="[TO]", required=False)
def copy_ledger(source: str, target: str | None) -> None:
    """Copy the ledger FROM into the empty one TO, from SQLite to PostgreSQL or back; all of it or nothing.

    Both are URLs as REVIEWAPP_DATABASE_URL takes them, or files of SQLite; without TO it is the ledger of the settings.
    The service must be stopped, on every host. Nothing of FROM is changed.
    """
    end_tidily()
    settings = load_settings()
    with (
        closing(Store(_url(source), read_only=True)) as old,
        closing(Store(_url(target) if target else settings.database_url)) as new,
        _copying() as progress,
    ):
        _hold_all(settings, old, new)
        copied = copying.copy(old, new, progress)
    for name, rows in copied.rows.items():
        say(f"{rows:>12,} {name}")
    say(f"{new.place} has every row of {old.place}, and no other. {copied.whole}")


@contextmanager
def _copying() -> Iterator[copying.Progress]:
    """Give what shows how far a copy is, on a terminal."""
    with tqdm(unit=" rows", file=sys.stderr, disable=None, leave=False, delay=0.5) as bar:

        def progress(name: str, rows: int, total: int) -> None:
            bar.total = total
            bar.set_description_str(name, refresh=False)
            bar.update(rows)

        yield progress


def _url(named: str) -> str:
    return named if "://" in named else f"sqlite:///{Path(named).absolute()}"


def _hold_all(settings: Settings, *stores: Store) -> None:
    """Make sure that no service uses these ledgers, and that none starts from their folders meanwhile."""
    for store in stores:
        copying.check_unused(store)
    folders = {settings.instance, *(store.path.parent for store in stores if store.is_file)}
    for folder in {one.resolve() for one in folders if one.is_dir()}:
        if folder == settings.instance.resolve() or (folder / "serve.lock").exists():
            hold_instance(changed(settings, instance=folder))
