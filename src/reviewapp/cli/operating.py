"""Running the service: starting it, and who may use it."""

from __future__ import annotations

import subprocess
import sys

import click

from ..accounts import ROLES
from ..config import load_settings
from ..factory import create_app, make_parts
from ..parts import Parts
from ..samples import example_record
from ..server import address, check_address, hold_instance
from ..server import serve as run_server
from ..snippets import curl
from .group import _parts, main

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

    def greet() -> None:
        _print_welcome(parts)
        parts.store.close()

    parts.store.close()
    run_server(settings, create_app, greet)


def _print_welcome(parts: Parts) -> None:
    settings = parts.settings
    if settings.bind.startswith("unix:"):
        click.echo(f"reviewapp answers on {settings.bind}.")
        return
    base, token, link = address(settings), None, ""
    if settings.auth == "token":
        token = parts.accounts.create_token(RUN_TOKEN, "submit", days=1)
        if settings.loopback:
            link = f"/sign-in?link={parts.accounts.create_link('owner', 'admin')}"
    example = example_record(parts.registry.contract())
    click.echo(f"\nreviewapp answers on {base} (stop: Ctrl+C)")
    if link:
        click.echo(f"\nSign in, once, within an hour:\n  {base}{link}")
    elif token is None:
        click.echo(f"\nSign-in is off: everyone on this machine is admin. Open\n  {base}/")
    click.echo(f"\nAsk from a script (the token lasts a day):\n  {curl(base, example, token, joint=' ')}\n")
    sys.stdout.flush()


@main.group()
def token() -> None:
    """Make, list and revoke API tokens."""


@token.command("create")
@click.argument("name")
@click.option("--role", type=click.Choice(ROLES), required=True)
@click.option("--days", type=click.IntRange(1, 36500), help="Days until it expires.")
def create_token(name: str, role: str, days: int | None) -> None:
    """Print a new token for NAME, once; only its hash is kept."""
    click.echo(_parts().accounts.create_token(name, role, days))


@token.command("list")
def list_tokens() -> None:
    """List the tokens; never the secrets."""
    for row in _parts().accounts.tokens():
        state = "revoked" if row["revoked_at"] else f"until {row['expires_at'] or 'revoked'}"
        click.echo(f"{row['id']}  {row['role']:<7}{row['name']:<20}{state}")


@token.command("revoke")
@click.argument("token_id")
def revoke_token(token_id: str) -> None:
    """End the token with the id that `token list` shows, at once."""
    _parts().accounts.revoke_token(token_id)
    click.echo("Revoked.")
