"""What is there: releases and which one is live, what was recorded, how it holds, and all that is measured of it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click
from tqdm import tqdm

from .. import places
from ..config import load_settings, settings_table
from ..drift import drift, tell_drift
from ..errors import InvalidInput, NotReady, ReleaseRefused, ReviewappError, UsageError
from ..evidence import run as trials
from ..export import KINDS, export
from ..filters import EXPORT_OPTIONS, to_export
from ..monitoring import monitored, tell_monitor
from ..releaselog import Standing
from ..trigger import ABOVE
from ..wording import answered, how_sure
from .command import say
from .group import ACTOR, _parts, end_tidily, main, put
from .trying import tries_rules, try_rule


@main.command()
def releases() -> None:
    """List the releases and say which one answers now."""
    parts = _parts()
    live, built = parts.registry.live(), parts.registry.built()
    if not built:
        say("There is no release yet; `reviewapp build` makes one.")
    for event in built:
        mark = "live" if event.id == live else ""
        say(f"{mark:<5}{event.id!s:<16}{event.created_at}  {event.id.digest}")


@main.command()
@click.argument("version", type=int)
@click.option("--reason", required=True, help="Why; kept in the release log.")
@click.option("--breaking", is_flag=True, help="The callers are ready for a contract that breaks them.")
def promote(version: int, reason: str, breaking: bool) -> None:
    """Let release VERSION answer from now on; say what changes in the contract."""
    registry = _parts().registry
    for one in registry.compare(version)[1]:  # said also where the promotion is then refused for it
        say(f"{'breaks callers: ' if one.breaking else ''}{one.pointer}: {one.detail}")
    say(f"{registry.promote(version, reason, ACTOR, breaking).id} is live.")


@main.command()
@click.option("--reason", required=True, help="Why; kept in the release log.")
def rollback(reason: str) -> None:
    """Let the release that was live before answer again."""
    say(f"{_parts().registry.roll_back(reason, ACTOR).id} is live.")


@main.command()
@click.argument("prediction_id", metavar="ID")
def replay(prediction_id: str) -> None:
    """Answer the recorded request ID again with the release that answered it; say whether it is the same."""
    parts = _parts()
    recorded = parts.ledger.prediction(prediction_id)
    adapter = parts.registry.load(recorded.release)
    difference = adapter.replay(recorded)
    if difference is not None:
        raise ReviewappError(f"{recorded.release} answers prediction {recorded.id} differently now: {difference}.")
    said = f"{answered(recorded.output)}, {how_sure(recorded.output)}"
    say(f"The same: {recorded.release} ({recorded.option}) answers {said}.")


@main.command()
@click.option("--json", "as_json", is_flag=True, help="Print all of it as JSON.")
@tries_rules
def monitor(as_json: bool, **tried: Any) -> None:
    """Compute monitoring metric, rollback trigger and drift from the ledger; exit code 1 where the trigger fired.

    With --replay or --simulate: try a rule, and write nothing; exit code 0.
    """
    if try_rule(**tried, as_json=as_json):
        return
    parts = _parts()
    pointer = parts.registry.live()
    if pointer is None:
        raise UsageError("No release is live yet; `reviewapp build` makes one.")  # not 1: that is a trigger that fired
    try:
        release = parts.registry.load(pointer).release
    except ReleaseRefused as error:
        raise UsageError(f"{pointer} does not load: {error.detail}") from None
    seen = parts.registry.standing() or Standing(release.id)
    reviews = parts.ledger.reviews(release.id, seen.after)
    found = monitored(release, reviews, seen) | {"drift": drift(release, parts.ledger)}
    told = [tell_monitor(found), tell_drift(found["drift"], release.contract)]
    say(json.dumps(found, indent=2) if as_json else "\n".join(told))
    sys.exit(int(found["trigger"]["state"] == ABOVE or found["trigger"]["fired"] is not None))


def _filters(command: Any) -> Any:
    """Give a command the filters and the order of History, as options of the same names."""
    for field in reversed(EXPORT_OPTIONS):
        named = "|".join(field.choices) if field.choices else {"boolean": "true|false"}.get(field.kind, "TEXT")
        command = click.option(f"--{field.name}", metavar=named, help=field.description)(command)
    return command


@main.command("export")
@click.option("--format", "kind", type=click.Choice(list(KINDS)), default="csv", show_default=True)
@click.option(
    "--output", type=click.Path(path_type=Path, dir_okay=False), help="Write this file.  [default: standard output]"
)
@_filters
def export_predictions(kind: str, output: Path | None, **typed: str | None) -> None:
    """Write the predictions that History finds, with their verdicts, as CSV or JSON Lines."""
    end_tidily()
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
    put(export(kind, parts.ledger, filters, sort, contract), output)


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
    end_tidily()  # which stops the service under trial, too
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
        say(line)
    if check:
        say(f"{len(wrong)} differences." if wrong else "The same: every figure was found again.")
    else:
        say(f"{pack.folder}: {len(pack.tables)} tables, {len(pack.manifest['pictures'])} pictures.")
        say(f"{memo} rendered." if memo else "There is no template of a memo beside it.")
    sys.exit(int(bool(wrong)))


@main.command()
def settings() -> None:
    """Print the table of the settings."""
    click.echo(settings_table(), nl=False)
