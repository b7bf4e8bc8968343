"""A table made ready to learn from: its contract, and its rows in the parts that train, calibrate and test."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from .. import strictjson
from ..contract import Contract, Outcome
from ..errors import ContractError, NotJSON, UsageError
from ..field import Record
from ..schemas import Broken, checker
from . import given
from .infer import Asked, ColumnReport, check_columns, default_name, infer
from .kinds import is_number
from .leaks import suspected_leaks
from .rows import Labelled, labelled
from .splits import check_rows, in_time, known_labels, moments_of, shuffled, without_rare
from .table import Table, read_table


@dataclass(frozen=True)
class Subject:
    """What a release is built from, and its evidence measured on.

    `rows` counts those of the table, `sha256` is that of its file. `columns` says what became of each column, `drops`
    which of them should probably go, `notes` what a person should know of the table and the rows. `time` is the column
    that orders the rows, or None where they are drawn at random.
    """

    contract: Contract
    parts: Mapping[str, Labelled]
    rows: int
    sha256: str
    notes: tuple[str, ...] = ()
    columns: tuple[ColumnReport, ...] = ()
    drops: tuple[str, ...] = ()
    time: str | None = None

    @property
    def records(self) -> list[Record]:
        """The requests of all parts."""
        return [row for part in self.parts.values() for row in part.records]


def subject(
    data: Path,
    asked: Asked,
    name: str | None = None,
    contract_file: Path | None = None,
    seed: int = 0,
    pipeline: Any = None,
) -> Subject:
    """Read a table and make it ready; raise UsageError saying what does not go together.

    A fitted `pipeline` decides which columns a request has, and in which order.
    """
    table = read_table(data)
    columns: tuple[ColumnReport, ...] = ()
    drops: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    on_target: tuple[str, ...] = ()
    if contract_file is None:
        inferred = infer(table, asked, name or default_name(data), data.name)
        contract, columns, drops, notes = inferred.contract, inferred.columns, inferred.drops, inferred.notes
        on_target = inferred.on_target
        notes += tuple(f"{column.name!r}: {note}" for column in columns for note in column.notes if column.kind)
    else:
        contract = read_contract(contract_file, table, asked)
        contract = contract if name is None else replace(contract, name=name)
        unused = {*table.names} - {*contract.names, *asked.drop, asked.target, asked.time}
        unread = ", ".join(repr(column) for column in table.names if column in unused)
        notes = (f"{len(table):,} rows ({table.source}), read by {contract_file.name}.",)
        notes += (f"The contract has no field for {unread}; left out of a request.",) if unread else ()
    if pipeline is not None and given.is_fitted(pipeline):
        contract, left_out = _of_pipeline(contract, pipeline)
        notes += left_out
    try:
        contract, parts, told = parts_of(table, contract, asked.time, seed, pipeline)
    except UsageError as error:  # the reason often is what the target was taken for
        raise UsageError(" ".join((error.detail, *on_target))) from None
    leaks = suspected_leaks(contract, parts["train"].records, parts["train"].answers, seed)
    notes += tuple(
        f"{field!r} tells {share:.0%} of the target alone: if it is only known afterwards, --drop {field!r}"
        for field, share in leaks.items()
    )
    return Subject(contract, parts, len(table), table.sha256, notes + told, columns, drops, asked.time)


def parts_of(
    table: Table, contract: Contract, time: str | None, seed: int, pipeline: Any = None
) -> tuple[Contract, dict[str, Labelled], tuple[str, ...]]:
    """Return the contract with the labels that can be learned, the rows by part, and notes on what is put aside.

    The same table, contract and seed give the same parts. Labels that a fitted `pipeline` answers are kept, whether or
    not the table shows them.
    """
    outcome = contract.outcome
    rows = labelled(table, contract, outcome.name)
    moments: Sequence[float] = ()
    if time is not None:
        rows, moments = moments_of(table, time, rows, contract.missing)
    if outcome.task == "regression":
        by_line = dict(zip(rows.lines, moments, strict=True)) if time is not None else {}
        rows = _with_values(rows, outcome)
        moments = [by_line[line] for line in rows.lines] if time is not None else ()
        check_rows(rows)
        parts = shuffled(rows.answers, stratify=False, seed=seed) if time is None else in_time(moments)
        return contract, _each_part(rows, parts), rows.notes
    kept = without_rare(rows, outcome.labels)
    if time is not None:
        # of all rows: the labels that are put aside later must not move the borders, or the parts are others again
        place = {line: i for i, line in enumerate(kept.lines)}
        lines = {part: [rows.lines[i] for i in chosen] for part, chosen in in_time(moments).items()}
        kept, numbers = known_labels(kept, {part: [place[n] for n in of if n in place] for part, of in lines.items()})
    check_rows(kept)
    labels = [label for label in outcome.labels if label in set(kept.answers)]
    if len(labels) < 2:
        raise UsageError(f"Only the label {labels[0]!r} has rows enough to learn from. {' '.join(kept.notes)}")
    if time is None:
        numbers = shuffled(kept.answers, stratify=True, seed=seed)
    if pipeline is not None and given.is_fitted(pipeline):
        names = given.names_of_classes(pipeline, labels, "--pipeline")
        labels += [name for name in names.values() if name not in labels]
    contract = replace(contract, outcome=replace(outcome, labels=tuple(labels)))
    return contract, _each_part(kept, numbers), kept.notes


def _each_part(rows: Labelled, numbers: Mapping[str, Sequence[int]]) -> dict[str, Labelled]:
    empty = next((part for part, chosen in numbers.items() if not chosen), None)
    if empty is not None:
        raise UsageError(f"No row is left to {empty}. {' '.join(rows.notes)}")
    return {part: rows.only(chosen) for part, chosen in numbers.items()}


def read_contract(path: Path, table: Table, asked: Asked) -> Contract:
    """Read a contract that a person has corrected; raise UsageError where table or options say something else."""
    check_columns(table, asked)
    try:
        contract = Contract.from_json(strictjson.loads(path.read_bytes()))
    except OSError as error:
        raise UsageError(f"--contract {path} cannot be read: {error.strerror}.") from None
    except (NotJSON, ContractError) as error:
        raise UsageError(f"--contract {path}: {error.detail}") from None
    if contract.outcome.name != asked.target:
        raise UsageError(
            f"--contract {path} is about {contract.outcome.name!r} (x-reviewapp-output, name), and --target names "
            f"{asked.target!r}."
        )
    for one in contract.fields:
        try:
            if one.example is not None:
                checker(one)(one.example)
        except Broken as error:
            raise UsageError(
                f"--contract {path}: Field {one.name!r}: its example is not one that it allows. {error.flaw.detail}"
            ) from None
    by_name = {one.name: one for one in contract.fields}
    for column in [*asked.drop, *([] if asked.time is None else [asked.time]), asked.target]:
        if column in by_name:
            raise UsageError(f"--contract {path} has a field {column!r}, which an option takes out: remove it there.")
    for column, kind in asked.kinds.items():
        if column in by_name and by_name[column].kind != kind and (kind, by_name[column].kind) != ("number", "integer"):
            raise UsageError(
                f"--contract {path} says that {column!r} is {by_name[column].kind}, and --{kind} names it."
            )
    if asked.task not in (None, contract.outcome.task):
        raise UsageError(f"--contract {path} is of a {contract.outcome.task}, and --task says {asked.task}.")
    if asked.na is not None and set(asked.na) != set(contract.missing):
        raise UsageError(f"--contract {path} has its own x-reviewapp-missing: leave --na out, or correct it there.")
    return contract


def _of_pipeline(contract: Contract, pipeline: Any) -> tuple[Contract, tuple[str, ...]]:
    names = given.fields_of(pipeline, contract.names, "--pipeline")
    by_name = {one.name: one for one in contract.fields}
    unread = [name for name in contract.names if name not in names]
    notes = (f"The pipeline does not read {', '.join(map(repr, unread))}; left out of a request.",) if unread else ()
    return replace(contract, fields=tuple(by_name[name] for name in names)), notes


def _with_values(rows: Labelled, outcome: Outcome) -> Labelled:
    """Return the rows with their answers as numbers; raise UsageError where one is none."""
    for answer, line in zip(rows.answers, rows.lines, strict=True):
        if not is_number(answer.strip()):
            raise UsageError(f"The target must be a number, and line {line:,} has {answer!r}.")
    counts = Counter(rows.answers)
    if len(counts) < 2:
        raise UsageError("The target has one value in all rows that are left; there is nothing to predict.")
    values = [float(answer) for answer in rows.answers]
    low, high = outcome.minimum, outcome.maximum
    kept = [i for i, v in enumerate(values) if (low is None or low <= v) and (high is None or v <= high)]
    beyond = len(values) - len(kept)
    notes = [f"{beyond:,} rows have a target outside of the contract's range; they are put aside."] if beyond else []
    return replace(rows, answers=values).only(kept, *notes)
