"""Criteria by options: each cell computed from a figure of the evidence, or a judgement that says why.

Criteria and weights stand in a file (memo/scoring.toml). A figure becomes a score from 0 to 10 between its `worst` and
`best`, stated there too, or 10 up to a `limit`. Who wins is told again under other weights: that is what the reader may
disagree with.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from marshmallow import Schema, ValidationError, fields, validate, validates_schema

from ..errors import UsageError
from .stated import FILLED, differ, read_stated
from .tables import Column, Row, Table, key

FILE = "scoring.toml"
OPTIONS = ("baseline_or_manual_process", "ai_assisted_or_advanced_option")
DRAWS = 10_000  # random weightings


class _Options(Schema):
    baseline_or_manual_process = fields.String(required=True)
    ai_assisted_or_advanced_option = fields.String(required=True)


class _Figure(Schema):
    table = fields.String(required=True)
    column = fields.String(required=True)
    row = fields.Dict(load_default=dict)
    limit = fields.Float()
    worst = fields.Float()
    best = fields.Float()

    @validates_schema
    def _scale(self, data: Mapping[str, Any], **_: Any) -> None:
        scale = {"limit", "worst", "best"} & set(data)
        if scale not in ({"limit"}, {"worst", "best"}) or ("worst" in data and data["worst"] == data["best"]):
            raise ValidationError("Give a limit, or a worst and another best.")


class _Judgement(Schema):
    baseline = fields.Float(required=True, validate=validate.Range(0, 10))
    model = fields.Float(required=True, validate=validate.Range(0, 10))


class _Criterion(Schema):
    name = fields.String(required=True, validate=FILLED)
    weight = fields.Float(required=True, validate=validate.Range(0))
    reason = fields.String(required=True, validate=FILLED)
    figure = fields.Nested(_Figure)
    judgement = fields.Nested(_Judgement)

    @validates_schema
    def _one_source(self, data: Mapping[str, Any], **_: Any) -> None:
        if ("figure" in data) == ("judgement" in data):
            raise ValidationError("Give either a figure or a judgement.")


class _Criteria(Schema):
    options = fields.Nested(_Options, required=True)
    criterion = fields.List(fields.Nested(_Criterion), required=True, validate=FILLED)

    @validates_schema
    def _names_and_weights(self, data: Mapping[str, Any], **_: Any) -> None:
        differ([one["name"] for one in data["criterion"]])
        if not any(one["weight"] for one in data["criterion"]):
            raise ValidationError("One weight at least must be above 0.")


def scoring(folder: Path, tables: Mapping[str, Table], seed: int) -> list[Table]:
    """Return the scored criteria and how the winner depends on the weights; raise UsageError for a wrong file."""
    document = read_criteria(folder / FILE)
    rows = [_criterion(one, document["options"], tables) for one in document["criterion"]]
    weights = np.array([row["weight"] for row in rows], dtype=float)
    scores = np.array([[row[option] for option in OPTIONS] for row in rows], dtype=float)
    total = _totals(weights, scores)
    rows.append(
        {"criterion": "Weighted mean", "weight": float(weights.sum()), "source": "", "reason": ""}
        | {f"{option}_figure": "" for option in OPTIONS}
        | dict(zip(OPTIONS, total, strict=True))
    )
    columns = [
        key("criterion", "Criterion"),
        Column("weight", "Weight", ".0f"),
        *(Column(f"{option}_figure", f"Figure: {_short(option)}") for option in OPTIONS),
        *(Column(option, f"Score: {_short(option)}", ".1f") for option in OPTIONS),
        Column("source", "From"),
        Column("reason", "Why"),
    ]
    reading = (
        f"Scores from 0 to 10. Weights and judgements are those of {folder.name}/{FILE}: change them and measure again."
    )
    table = Table("scoring", "Criteria by options", reading, columns, rows)
    return [table, _sensitivity([row["criterion"] for row in rows[:-1]], weights, scores, rows[:-1], seed)]


def _short(option: str) -> str:
    return "baseline" if option == OPTIONS[0] else "model"


def read_criteria(path: Path) -> dict[str, Any]:
    """Read the file of criteria; raise UsageError naming the criterion and what would be right."""
    return read_stated(path, _Criteria())


def _criterion(one: Mapping[str, Any], options: Mapping[str, str], tables: Mapping[str, Table]) -> dict[str, Any]:
    row: dict[str, Any] = {"criterion": one["name"], "weight": one["weight"], "reason": one["reason"]}
    if "judgement" in one:
        judged = {option: one["judgement"][_short(option)] for option in OPTIONS}
        return row | judged | {f"{option}_figure": "" for option in OPTIONS} | {"source": "judgement"}
    figure = one["figure"]
    table = tables.get(figure["table"])
    if table is None:
        raise UsageError(f"{FILE}, criterion {one['name']}: there is no table {figure['table']!r}.")
    column = table.column(figure["column"])
    for option in OPTIONS:
        of_option = {"option": options[option]} if any(c.name == "option" for c in table.columns) else {}
        value = table.row(**{**figure["row"], **of_option})[column.name]
        if not isinstance(value, (int, float)):
            raise UsageError(f"{FILE}, criterion {one['name']}: {figure['table']} has no figure there.")
        if "limit" in figure:
            within = value <= figure["limit"]
            shown = f"{'up to' if within else 'above'} {figure['limit']:g}"
        else:
            within = (value - figure["worst"]) / (figure["best"] - figure["worst"])
            shown = column.shown(value)
        row |= {option: 10 * min(1.0, max(0.0, float(within))), f"{option}_figure": shown}
    return row | {"source": f"{table.name}: {column.name}"}


def _totals(weights: Any, scores: Any) -> tuple[float, float]:
    first, second = (weights @ scores / weights.sum()).tolist()
    return first, second


def _sensitivity(names: Sequence[str], weights: Any, scores: Any, rows: Sequence[Row], seed: int) -> Table:
    measured = np.array([row["source"] != "judgement" for row in rows])
    variants = [("as stated", weights), ("all weights equal", np.ones_like(weights))]
    variants += [("measured criteria only", weights * measured), ("judgements only", weights * ~measured)]
    for i, name in enumerate(names):
        one = np.arange(len(weights)) == i
        variants += [(f"without: {name}", weights * ~one), (f"three times: {name}", weights * np.where(one, 3, 1))]
    found: list[Row] = [
        {"weights": name, "runs": 1} | dict(zip(OPTIONS, totals := _totals(given, scores), strict=True))
        | {"model_wins": float(totals[1] > totals[0])}
        for name, given in variants
        if given.sum() > 0
    ]  # fmt: skip
    drawn = np.random.default_rng(seed).dirichlet(np.ones(len(weights)), DRAWS) @ scores
    found.append(
        {"weights": "drawn at random", "runs": DRAWS}
        | dict(zip(OPTIONS, drawn.mean(axis=0).tolist(), strict=True))
        | {"model_wins": float((drawn[:, 1] > drawn[:, 0]).mean())}
    )
    columns = [
        key("weights", "Weights"),
        Column("runs", "Weightings", "d"),
        *(Column(option, f"Mean score: {_short(option)}", ".2f") for option in OPTIONS),
        Column("model_wins", "Model ahead in", ".1%"),
    ]
    reading = "How the winner depends on the weights; the last row draws every weighting with the same probability."
    return Table("sensitivity", "Sensitivity to the weights", reading, columns, found)
