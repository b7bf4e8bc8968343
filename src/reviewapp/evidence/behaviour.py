"""Trial: does the model behave as the product owner says, whatever its average figures are?

The cases stand in a file that people read and extend (memo/behaviour.toml), in the three kinds of CheckList (Ribeiro et
al. 2020): `minimum` (plain requests get their label), `invariance` (a change that must not matter changes no label) and
`directional` (a change never lowers the probability of a label). Where the answer is a value, a change that must not
matter leaves it as it is, one may be asked never to lower it (by the outcome's name), and there is no `minimum`. They
are asked through the API, as a dry run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from marshmallow import Schema, ValidationError, fields, validate, validates_schema

from ..bodies import MAX_BATCH, prediction_request
from ..contract import Contract
from ..errors import InvalidInput, UsageError
from ..field import Record
from ..samples import example_record
from .outcomes import PREDICT, same_output
from .running import TEST, Trial
from .stated import FILLED, differ, read_stated
from .tables import Column, Row, Table, key

FILE = "behaviour.toml"
ROWS = 300  # requests of the test part that a change is tried on
SLACK = 1e-9  # a probability counts as lowered by more than this, a value by more than this share of its size


class _Case(Schema):
    kind = fields.String(required=True)
    title = fields.String(required=True, validate=FILLED)
    at_least = fields.Float(load_default=1.0, validate=validate.Range(0, 1))  # share of requests on which it must hold


class _Minimum(_Case):
    label = fields.String(required=True)
    inputs = fields.List(fields.Dict(), required=True, validate=FILLED)


class _Invariance(_Case):
    change = fields.Dict(required=True, validate=FILLED)


class _Directional(_Invariance):
    never_lowers = fields.String(required=True)


KINDS: Mapping[str, type[_Case]] = {"minimum": _Minimum, "invariance": _Invariance, "directional": _Directional}


class _OfItsKind(fields.Field[Any]):
    """A case, which its `kind` says how to read."""

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> Any:
        kind = value.get("kind") if isinstance(value, dict) else None
        if not (isinstance(kind, str) and kind in KINDS):
            raise ValidationError({"kind": [f"This must be {', '.join(KINDS)}."]})
        return KINDS[kind]().load(value)


class _Cases(Schema):
    case = fields.List(_OfItsKind(), required=True, validate=FILLED)

    @validates_schema
    def _titles_differ(self, data: Mapping[str, Any], **_: Any) -> None:
        differ([case["title"] for case in data["case"]])


def behaviour(trial: Trial) -> list[Table]:
    """Return one row a case: on how many requests it holds, and whether that is enough."""
    contract = trial.release.contract
    cases = read_cases(trial.memo / FILE, contract)
    rows: list[Row] = []
    for case in cases:
        held = _minimum(trial, case) if case["kind"] == "minimum" else _changed(trial, case)
        share = sum(held) / len(held)
        rows.append(
            {
                "title": case["title"],
                "kind": case["kind"],
                "n": len(held),
                "held": sum(held),
                "share": share,
                "at_least": case["at_least"],
                "ok": "yes" if share >= case["at_least"] else "no",
            }
        )
    columns = [
        key("title", "Case"),
        Column("kind", "Kind"),
        Column("n", "Requests", "d"),
        Column("held", "Held", "d"),
        Column("share", "Share", ".3f"),
        Column("at_least", "Asked for", ".2f"),
        Column("ok", "Holds"),
    ]
    reading = f"Cases of {trial.memo.name}/{FILE}. Changes are tried on requests of the test part, through the API."
    return [Table("behaviour", "Behaviour that the product owner asks for", reading, columns, rows)]


def read_cases(path: Path, contract: Contract) -> list[dict[str, Any]]:
    """Read the file of cases; raise UsageError naming the case and what would be right."""
    cases: list[dict[str, Any]] = read_stated(path, _Cases())["case"]
    for number, case in enumerate(cases, 1):
        mistake = _mistake(case, contract)
        if mistake:
            raise UsageError(f"{path.name}: case {number} ({case['title']}): {mistake}.")
    return cases


def _mistake(case: Mapping[str, Any], contract: Contract) -> str | None:
    """Return what of a case does not fit the contract, in words, or None."""
    outcome, label = contract.outcome, case.get("label", case.get("never_lowers"))
    if outcome.task == "regression":
        if case["kind"] == "minimum":
            return (
                "it asks for a label, and the answer is a value: only an invariance or a directional case can be tried"
            )
        if label not in (None, outcome.name):
            return f"never_lowers must be {outcome.name!r}, the value that is answered"
    elif label is not None and label not in outcome.labels:
        return f"{label!r} is none of the labels {', '.join(outcome.labels)}"
    for record in case.get("inputs", []):
        try:
            prediction_request(contract).load({"input": {**example_record(contract), **record}})
        except InvalidInput as error:
            return f"{error.errors[0].pointer}: {error.errors[0].detail.rstrip('.')}"
    unknown = set(case.get("change", {})) - set(contract.names)
    if unknown:
        return f"the contract has no field {sorted(unknown)[0]!r}; it has {', '.join(contract.names)}"
    return None


def _minimum(trial: Trial, case: Mapping[str, Any]) -> list[bool]:
    example = example_record(trial.release.contract)
    outputs = _ask(trial, [{**example, **record} for record in case["inputs"]])
    return [output["label"] == case["label"] for output in outputs]


def _changed(trial: Trial, case: Mapping[str, Any]) -> list[bool]:
    pairs = []
    for example in trial.examples[TEST][:ROWS]:
        changed = change(example.record, case["change"])
        if _valid(trial.release.contract, changed):
            pairs.append((dict(example.record), changed))
    if not pairs:
        raise UsageError(f"{FILE}, {case['title']}: after the change no request keeps the contract.")
    before, after = (_ask(trial, list(records)) for records in zip(*pairs, strict=True))
    if case["kind"] == "invariance":
        return [
            a["label"] == b["label"] if "label" in a else same_output(b, a) for a, b in zip(before, after, strict=True)
        ]
    return [_not_lower(a, b, case["never_lowers"]) for a, b in zip(before, after, strict=True)]


def _not_lower(before: Mapping[str, Any], after: Mapping[str, Any], label: str) -> bool:
    if "value" in before:
        return bool(after["value"] >= before["value"] - SLACK * abs(before["value"]))
    return bool(after["probabilities"][label] >= before["probabilities"][label] - SLACK)


def change(record: Record, changes: Mapping[str, Any]) -> Record:
    """Return the record with the changes; in a text `{}` stands for what was there."""
    changed = dict(record)
    for name, value in changes.items():
        changed[name] = value.replace("{}", str(record[name] or "")) if isinstance(value, str) else value
    return changed


def _valid(contract: Contract, record: Record) -> bool:
    try:
        prediction_request(contract).load({"input": record})
    except InvalidInput:
        return False
    return True


def _ask(trial: Trial, records: Sequence[Record]) -> list[dict[str, Any]]:
    """Return what the service answers to the records, recording nothing."""
    outputs: list[dict[str, Any]] = []
    for start in range(0, len(records), MAX_BATCH):
        body = {"inputs": list(records[start : start + MAX_BATCH])}
        path, headers = f"{PREDICT}/batch?dry_run=true", dict(trial.headers["submit"])
        status, answer, _ = trial.service.call("POST", path, body, headers)
        if status != 200:
            raise UsageError(f"The service refused a batch of behaviour cases: {answer['detail']}")
        outputs += [prediction["output"] for prediction in answer["predictions"]]
    return outputs
