"""Whole files answered: as the bulk route does, to standard output, or by Dask, of any size, into a file."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import click
from tqdm import tqdm

from .. import bulk, strictjson
from ..errors import InvalidInput, ReviewappError, UsageError
from ..prediction import OPTIONS, Call, new_id, utcnow
from .command import say
from .group import ACTOR, _parts, end_tidily, main, put

EXTRA = "bulk"  # of setup.cfg
LIBRARIES = ("dask", "distributed", "fsspec", "pyarrow")
MODES = ("none", "summary", "all")


@main.command()
@click.argument("given", metavar="IN")
@click.argument("out", metavar="[OUT]", required=False)
@click.option(
    "--scheduler", metavar="ADDRESS", help="A Dask cluster that runs, as tcp://host:8786.  [default: the cores here]"
)
@click.option(
    "--workers", type=click.IntRange(1), help="Processes on this machine; 1: this one alone.  [default: one a core]"
)
@click.option("--option", type=click.Choice(OPTIONS), help="Which option answers.  [default: the one that answers now]")
@click.option(
    "--record",
    type=click.Choice(MODES),
    help="In the ledger: nothing, a row that counts the answers, or each of them.  [default: summary; all without OUT]",
)
@click.option(
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Without OUT: write this file.  [default: standard output]",
)
@click.option("--dry-run", is_flag=True, help="Record nothing: --record none.")
def score(
    given: str,
    out: str | None,
    scheduler: str | None,
    workers: int | None,
    option: str | None,
    record: str | None,
    output: Path | None,
    dry_run: bool,
) -> None:
    """Answer the requests in IN by the live release; exit code 1 where a row has a problem.

    With OUT, files of any size: IN is a file, a folder or a pattern, local or any address of fsspec, in CSV, JSON Lines
    or Parquet, by the ending of its name; so is OUT. OUT holds every row with its answer or its problem, in the same
    order; the rows with a problem also go to a file of their own, for answers.csv to answers.problems.csv. A run that
    was broken off goes on where it was. Only what is counted is recorded, for a million answers would bury the queue
    under rows that nobody waits for; --record all records each, as single requests are.

    Without OUT, one file as the bulk route answers it: CSV (name.csv), or a JSON request on each line (any other name).
    """
    end_tidily()
    if dry_run and record not in (None, "none"):
        raise UsageError("--dry-run records nothing; leave it out, or say --record none.")
    record = "none" if dry_run else record
    if out is None:
        if scheduler or workers or record == "summary":
            raise UsageError("--scheduler, --workers and --record summary need OUT, the file to write.")
        _as_the_route_does(Path(given), output, option, dry_run=record == "none")
        return
    if output is not None:
        raise UsageError("Say OUT or --output, not both.")
    _by_dask(given, out, scheduler, workers, option, record or "summary")


@main.command()
@click.option("--json", "as_json", is_flag=True, help="All that is known of each, a line of JSON each.")
def scorings(*, as_json: bool) -> None:
    """List the runs of score IN OUT that the ledger has counted, the newest first."""
    end_tidily()
    from ..scoring.recording import runs  # noqa: PLC0415 (takes a second)

    found = runs(_parts().store)
    if not found and not as_json:
        say("No run has been counted yet; `reviewapp score IN OUT` counts its answers.")
    for run in found:
        if as_json:
            say(strictjson.dumps(run).decode())
            continue
        say(
            f"{run['ended_at']}  {run['id']}  {run['release_name']}/{run['release_version']} {run['option']}  "
            f"{_in_words(run)}  {run['output']}"
        )


def _in_words(counts: Mapping[str, Any]) -> str:
    return (
        f"{counts['rows']:,} rows: {counts['predictions']:,} answered, {counts['review']:,} of them for review; "
        f"{counts['problems']:,} with a problem."
    )


def _by_dask(given: str, out: str, scheduler: str | None, workers: int | None, option: str | None, record: str) -> None:
    try:
        from ..scoring.run import Wish, score as run  # noqa: I001, PLC0415 (its libraries may not be installed)
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] not in LIBRARIES:
            raise
        raise UsageError(f"This needs more libraries: pip install 'reviewapp[{EXTRA}]'.") from None
    with tqdm(total=0, unit=" rows", unit_scale=True, file=sys.stderr, disable=None) as bar:

        def begin(rows: int, done: int) -> Callable[[int], object]:
            bar.reset(rows)
            bar.update(done)
            update: Callable[[int], object] = bar.update
            return update

        wish = Wish(given, out, option, record, scheduler, workers)
        found = run(_parts(), wish, ACTOR, begin, lambda text: say(text, err=True))
    counts = found.counts
    say(_in_words(counts))
    _end(counts["rows"], counts["problems"], f"each says which in its place, and in {found.problems}")


def _as_the_route_does(file: Path, output: Path | None, option: str | None, *, dry_run: bool) -> None:
    if not file.is_file():
        raise UsageError(f"{file} is no file. Several files are answered into one: say OUT.")
    adapter = _parts().registry.adapter()
    kind = bulk.CSV_TYPE if file.suffix.lower() == ".csv" else bulk.NDJSON_TYPE
    try:
        rows = _Counted(bulk.read(kind, file.read_bytes(), adapter.contract))
    except InvalidInput as error:
        raise UsageError(f"{file}: {bulk.in_words(error)}") from None
    call = Call(source="bulk", client=ACTOR, request_id=new_id(utcnow()), dry_run=dry_run)
    put(bulk.answer(rows, adapter, call, option=option), output)
    _end(rows.number, rows.problems, "each says which in its place")


def _end(rows: int, problems: int, where: str) -> None:
    if problems:
        raise ReviewappError(f"{problems:,} of {rows:,} rows have a problem; {where}.")


class _Counted:
    """The rows of a file, and once they are answered, how many there are and how many have a problem."""

    number = problems = 0

    def __init__(self, rows: bulk.Rows) -> None:
        self._rows = rows
        self.begin, self.write, self.waits = rows.begin, rows.write, rows.waits

    def __iter__(self) -> Iterator[bulk.Row]:
        return iter(self._rows)

    def end(self, rows: int, problems: int) -> bytes:
        self.number, self.problems = rows, problems
        return self._rows.end(rows, problems)
