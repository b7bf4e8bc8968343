"""From a table to a release."""

from __future__ import annotations

import html
import json
import sys
import warnings
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource
from tqdm import tqdm

from ..building.build import SEED as BUILD_SEED
from ..building.build import STEPS, Built, Order
from ..building.build import build as build_from_table
from ..building.card import report, summary
from ..building.infer import Asked
from ..building.subject import subject
from ..errors import UsageError
from ..policy import ACTIONS, BASELINE
from ..server import make_instance
from ..triage import build as triage
from ..trust import TrustedTypes
from .command import say
from .group import ACTOR, _parts, end_tidily, main


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
    "--audit-share", type=click.FloatRange(0, 1), default=0.1, help="Of automatic answers, checked by a person."
)
@click.option(
    "--rollback-action", type=click.Choice(ACTIONS), default=BASELINE, help="What follows where too many are wrong."
)
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
    end_tidily()
    parts = _parts()
    make_instance(parts.settings)
    # of a pipeline that was fitted without names; it is told once that its columns go by their order
    warnings.filterwarnings("ignore", message="X has feature names, but")
    with tqdm(total=STEPS, bar_format="{desc:<18}{bar:30} {n_fmt}/{total_fmt} {elapsed}", file=sys.stderr) as bar:

        def progress(step: str) -> None:
            bar.set_description_str(step)
            bar.update()

        if order is None:
            built = Built(triage.build(parts.registry.place, progress), ())
        else:
            built = build_from_table(order, parts.registry.place, TrustedTypes(parts.settings.instance), progress)
        bar.update(STEPS - bar.n)
    release = built.release
    first = parts.registry.add(release, ACTOR)
    say(f"\n{release.id}  {release.id.digest}\n{summary(release, built.notes)}")
    say(f"It lies in {parts.registry.place}/{release.id}.")
    if first:
        say("It is live. Next: reviewapp serve")
        return
    breaking = any(one.breaking for one in parts.registry.compare(release.id.version)[1])
    say(f"Next: reviewapp promote {release.id.version} --reason …{' --breaking' if breaking else ''}")
    if breaking:
        say(
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
    say(report(of_table))
    say(f"{' and '.join(texts)} written. Correct the contract, then build with --contract contract.json.")
