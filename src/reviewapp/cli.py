"""The `reviewapp` command. Exit codes: 0 done, 1 a check failed, 2 wrong use or wrong input (one sentence)."""

from __future__ import annotations

import html
import json
import signal
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource
from tqdm import tqdm

from . import __version__, places
from .accounts import ROLES
from .building.build import SEED as BUILD_SEED
from .building.build import STEPS, Built, Order
from .building.build import build as build_from_table
from .building.card import report, summary
from .building.infer import Asked
from .building.subject import subject
from .config import load_settings, settings_table
from .errors import InvalidInput, NotReady, ReleaseRefused, ReviewappError, UsageError
from .evidence import run as trials
from .export import KINDS, export, write_beside
from .factory import create_app, make_parts
from .filters import EXPORT_OPTIONS, to_export
from .monitoring import ABOVE, monitored, tell_monitor
from .parts import Parts
from .reliance import reliance, tell_reliance
from .samples import example_record
from .server import address, check_address, hold_instance
from .server import serve as run_server
from .snippets import curl
from .triage import build as triage
from .trust import TrustedTypes
from .wording import answered, how_sure

RUN_TOKEN = "make-run"  # noqa: S105 (a name, no secret)
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


@main.command(context_settings={"show_default": True})
@click.option(
    "--data", type=click.Path(path_type=Path), help="The table: CSV or Parquet. Without it: the default model."
)
@click.option("--target", help="The column to predict.")
@click.option("--pipeline", metavar="MODULE:NAME|FILE.skops", help="Your own estimator, fitted or not.")
@click.option("--baseline", metavar="MODULE:NAME", help="What to compare it with.  [default: simple rules]")
@click.option("--name", help="The name of the release.  [default: the file's]")
@click.option("--contract", type=click.Path(path_type=Path), help="The contract, inferred before and corrected.")
@click.option("--na", multiple=True, metavar="MARKER", help="What a missing cell holds.  [default: nothing]")
@click.option("--drop", multiple=True, metavar="COLUMN", help="Leave this column out of the request.")
@click.option("--text", multiple=True, metavar="COLUMN", help="This column is free text.")
@click.option("--category", multiple=True, metavar="COLUMN", help="This column is a category, whatever it looks like.")
@click.option("--number", multiple=True, metavar="COLUMN", help="This column is a number.")
@click.option("--date", multiple=True, metavar="COLUMN", help="This column is a date.")
@click.option("--time", metavar="COLUMN", help="Split in the order of this column instead of at random.")
@click.option("--trust", multiple=True, metavar="TYPE", help="Let a model hold this type of your own: its code runs.")
@click.option("--task", type=click.Choice(["classification", "regression"]), help="[default: by the target]")
@click.option("--cost-wrong", type=float, default=10.0, help="What a wrong answer costs.")
@click.option("--cost-review", type=float, default=2.0, help="What a look by a person costs.")
@click.option(
    "--coverage", type=click.FloatRange(0.5, 0.99), default=0.9, help="Share of intervals that hold the truth."
)
@click.option("--widest-interval", type=float, help="A wider one needs a person.  [default: the baseline's]")
@click.option(
    "--blind-share", type=click.FloatRange(0, 1), default=0.1, help="Of the queue, judged before the options show."
)
@click.option("--reason", multiple=True, metavar="TEXT", help="Offer this reason for a verdict.  [default: four]")
@click.option("--review-contract", is_flag=True, help="Write contract.json and a report on it, and stop.")
@click.pass_context
def build(context: click.Context, /, review_contract: bool, **options: Any) -> None:
    """Build a release from a table; the first one goes live.

    Options that take several values are repeated: --na '' --na '?'.
    """
    order = _order(context, options)
    if order is not None and review_contract:
        _write_contract(order)
        return
    parts = _parts()
    # of a pipeline that was fitted without names; it is told once that its columns go by their order
    warnings.filterwarnings("ignore", message="X has feature names, but")
    with tqdm(total=STEPS, bar_format="{desc:<18}{bar:30} {n_fmt}/{total_fmt} {elapsed}", file=sys.stderr) as bar:

        def progress(step: str) -> None:
            bar.set_description_str(step)
            bar.update()

        if order is None:
            built = Built(triage.build(parts.settings.releases, progress), ())
        else:
            built = build_from_table(order, parts.settings.releases, TrustedTypes(parts.settings.instance), progress)
        bar.update(STEPS - bar.n)
    release = built.release
    first = parts.registry.add(release, ACTOR)
    click.echo(f"\n{release.id}  {release.id.digest}\n{summary(release, built.notes)}")
    click.echo(f"It lies in {parts.registry.folder(release.id)}.")
    if first:
        click.echo("It is live. Next: reviewapp serve")
        return
    breaking = any(one.breaking for one in parts.registry.compare(release.id.version)[1])
    click.echo(f"Next: reviewapp promote {release.id.version} --reason …{' --breaking' if breaking else ''}")
    if breaking:
        click.echo(
            "It breaks callers of the live release, which has another contract. For another model, keep another "
            "instance: REVIEWAPP_INSTANCE=folder"
        )


def _order(context: click.Context, options: dict[str, Any]) -> Order | None:
    """Return what was asked for, or None for the default model; raise UsageError where it is incomplete or twofold."""
    if options["data"] is None:
        given = [one for one in context.params if context.get_parameter_source(one) is ParameterSource.COMMANDLINE]
        if given:
            raise UsageError(f"--{given[0].replace('_', '-')} needs a table: add --data FILE --target COLUMN.")
        return None
    if options["target"] is None:
        raise UsageError("--data needs --target COLUMN: which column to predict.")
    kinds: dict[str, str] = {}
    for kind in ("text", "category", "number", "date"):
        for column in options.pop(kind):
            if column in options["drop"]:
                raise UsageError(f"Column {column!r} cannot be both --drop and --{kind}.")
            if kinds.setdefault(column, kind) != kind:
                raise UsageError(f"Column {column!r} cannot be both --{kinds[column]} and --{kind}.")
    asked = Asked(
        target=options.pop("target"), na=options.pop("na") or None, drop=options.pop("drop"), kinds=kinds,
        task=options.pop("task"), time=options.pop("time"),
    )  # fmt: skip
    return Order(asked=asked, **options)


def _write_contract(order: Order) -> None:
    """Write the inferred contract and the report into the current folder; what is there already is left alone."""
    of_table = subject(order.data, order.asked, order.name, order.contract, seed=BUILD_SEED)
    texts = {
        "contract.json": json.dumps(of_table.contract.as_json(), indent=2, ensure_ascii=False) + "\n",
        "contract-report.md": html.escape(report(of_table), quote=False),  # Markdown may hold HTML; this holds none
    }
    for name, text in texts.items():
        if Path(name).exists() and not (Path(name).is_file() and Path(name).read_bytes() == text.encode()):
            raise UsageError(f"{name} is here already, and is something else; move it away first.")
    for name, text in texts.items():
        try:
            Path(name).write_text(text, encoding="utf-8")
        except OSError as error:
            raise UsageError(f"{name} cannot be written: {error.strerror}.") from None
    click.echo(report(of_table))
    click.echo(f"{' and '.join(texts)} written. Correct the contract, then build with --contract contract.json.")


@main.command()
@click.argument("path", type=click.Path(path_type=Path))
def verify(path: Path) -> None:
    """Say whether the release folder PATH would be accepted, and why not; a version of this instance will do."""
    parts = _parts()
    folders = {parts.registry.folder(event.id): event.id for event in parts.registry.built()}
    named = [folder for folder, found in folders.items() if str(path) in (str(found.version), str(found))]
    path = path if path.exists() or not named else named[0]
    known = [found.digest for folder, found in folders.items() if folder == path.absolute()]
    try:
        adapter = parts.registry.check(path, known[0] if known else None)
    except ReleaseRefused as error:
        raise ReleaseRefused(f"{path} is refused. {error.detail}") from error
    rows = len(adapter.release.golden)
    click.echo(f"{adapter.release.id} is accepted: {rows} golden requests answered right.\n{adapter.release.id.digest}")


@main.command()
def releases() -> None:
    """List the releases and say which one answers now."""
    parts = _parts()
    live, built = parts.registry.live(), parts.registry.built()
    if not built:
        click.echo("There is no release yet; `reviewapp build` makes one.")
    for event in built:
        mark = "live" if event.id == live else ""
        click.echo(f"{mark:<5}{event.id!s:<16}{event.created_at}  {event.id.digest}")


@main.command()
@click.argument("version", type=int)
@click.option("--reason", required=True, help="Why; kept in the release log.")
@click.option("--breaking", is_flag=True, help="The callers are ready for a contract that breaks them.")
def promote(version: int, reason: str, breaking: bool) -> None:
    """Let release VERSION answer from now on; say what changes in the contract."""
    registry = _parts().registry
    for one in registry.compare(version)[1]:  # said also where the promotion is then refused for it
        click.echo(f"{'breaks callers: ' if one.breaking else ''}{one.pointer}: {one.detail}")
    click.echo(f"{registry.promote(version, reason, ACTOR, breaking).id} is live.")


@main.command()
@click.option("--reason", required=True, help="Why; kept in the release log.")
def rollback(reason: str) -> None:
    """Let the release that was live before answer again."""
    click.echo(f"{_parts().registry.roll_back(reason, ACTOR).id} is live.")


@main.command()
@click.argument("prediction_id", metavar="ID")
def replay(prediction_id: str) -> None:
    """Answer the recorded request ID again with the release that answered it; say whether it is the same."""
    parts = _parts()
    recorded = parts.ledger.prediction(prediction_id)
    adapter = parts.registry.check(parts.registry.folder(recorded.release), recorded.release.digest)
    difference = adapter.replay(recorded)
    if difference is not None:
        raise ReviewappError(f"{recorded.release} answers prediction {recorded.id} differently now: {difference}.")
    said = f"{answered(recorded.output)}, {how_sure(recorded.output)}"
    click.echo(f"The same: {recorded.release} ({recorded.option}) answers {said}.")


@main.command()
@click.option("--json", "as_json", is_flag=True, help="Print all of it as JSON.")
def monitor(as_json: bool) -> None:
    """Compute the monitoring metric and the rollback trigger from the ledger; exit code 1 where it has fired."""
    parts = _parts()
    pointer = parts.registry.live()
    if pointer is None:
        raise UsageError("No release is live yet; `reviewapp build` makes one.")  # not 1: that is a trigger that fired
    release = parts.registry.check(parts.registry.folder(pointer), pointer.digest).release
    reviews = parts.ledger.reviews(release.id)
    found = monitored(release, reviews)
    told = [tell_monitor(found), tell_reliance(reliance(reviews.judged, release.policy.blind))]
    click.echo(json.dumps(found, indent=2) if as_json else "\n".join(line for line in told if line))
    sys.exit(int(found["trigger"]["state"] == ABOVE))


def _filters(command: Any) -> Any:
    """Give a command the filters and the order of History, as options of the same names."""
    for field in reversed(EXPORT_OPTIONS):
        named = "|".join(field.choices) if field.choices else {"boolean": "true|false"}.get(field.kind, "TEXT")
        command = click.option(f"--{field.name}", metavar=named, help=field.description)(command)
    return command


@main.command("export")
@click.option("--format", "kind", type=click.Choice(list(KINDS)), default="csv", show_default=True)
@click.option("--output", type=click.Path(path_type=Path), help="Write this file.  [default: standard output]")
@_filters
def export_predictions(kind: str, output: Path | None, **typed: str | None) -> None:
    """Write the predictions that History finds, with their verdicts, as CSV or JSON Lines."""
    parts = _parts()
    try:
        filters, sort = to_export({name: text for name, text in typed.items() if text is not None})
    except InvalidInput as error:
        said = "; ".join(f"--{one.pointer.rpartition('/')[2]}: {one.detail}" for one in error.errors)
        raise UsageError(said) from None
    try:
        contract = parts.registry.contract()
    except (NotReady, ReleaseRefused):  # what was answered can be read also while nothing answers
        contract = None
    pieces = export(kind, parts.ledger, filters, sort, contract)
    if output is not None:
        write_beside(pieces, output)
        return
    for piece in pieces:  # click ends quietly where the reader has closed the pipe
        click.echo(piece, nl=False)


@main.command()
@click.option("--data", type=click.Path(path_type=Path), help="The table that the live release was built from, if any.")
@click.option("--quick", is_flag=True, help="Short runs of the load: under 90 seconds instead of several minutes.")
@click.option("--check", is_flag=True, help="Measure again and compare with what is there; write nothing.")
def evidence(data: Path | None, quick: bool, check: bool) -> None:
    """Measure the live release on a service of its own.

    Figures of the default model, which the memo states, go to memo/evidence/, those of a release that was built from a
    table to evidence/ of the instance folder.
    """
    root, settings = places.checkout(), load_settings()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # an end that stops the service under trial, too
    if root is None:
        raise UsageError("Evidence is bound to the source code: run this from a checkout of reviewapp.")
    with tqdm(
        total=trials.STEPS, bar_format="{desc:<12}{bar:30} {n_fmt}/{total_fmt} {elapsed}", file=sys.stderr
    ) as bar:

        def progress(step: str) -> None:
            bar.set_description_str(step)
            bar.update()

        if check:
            wrong = trials.check(root, settings, data=data, quick=quick, progress=progress)
        else:
            pack = trials.measure(root, settings, data=data, quick=quick, progress=progress)
            memo = trials.render_memo(pack)
            wrong = trials.failures(pack)
        bar.update(trials.STEPS - bar.n)
    for line in wrong:
        click.echo(line)
    if check:
        click.echo(f"{len(wrong)} differences." if wrong else "The same: every figure was found again.")
    else:
        click.echo(f"{pack.folder}: {len(pack.tables)} tables, {len(pack.manifest['pictures'])} pictures.")
        click.echo(f"{memo} rendered." if memo else "There is no template of a memo beside it.")
    sys.exit(int(bool(wrong)))


@main.group()
def token() -> None:
    """Make, list and revoke API tokens; see who is signed in on the pages, and sign them out."""


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


@token.command("sessions")
def list_sessions() -> None:
    """List who is signed in on the pages, and the sign-in links not used yet; never the secrets."""
    for one in _parts().accounts.signed_in():
        by = f"by token {one['token_id']}" if one["token_id"] else "by link" if one["kind"] == "session" else "not used"
        click.echo(f"{one['kind']:<9}{one['role']:<7}{one['name']:<20}until {one['expires_at']}  {by}")


@token.command("sign-out")
@click.argument("name")
def sign_out(name: str) -> None:
    """End every page session and unused sign-in link of NAME, at once; `token revoke` ends their tokens."""
    ended, links = _parts().accounts.sign_out(name)
    click.echo(f"Ended: {ended} session{'s' * (ended != 1)}, {links} link{'s' * (links != 1)}.")


@main.command()
def settings() -> None:
    """Print the table of the settings."""
    click.echo(settings_table(), nl=False)
