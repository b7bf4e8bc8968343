"""Whole files get the answers of single requests, in every kind, with every kind of contract."""

import csv
import hashlib
import io
import json
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from reviewapp import bulk
from reviewapp.adapter import ModelAdapter
from reviewapp.contract import Contract, Outcome
from reviewapp.policy import Policy
from reviewapp.prediction import Call
from reviewapp.release import Release
from reviewapp.samples import as_text, broken_requests, valid_record
from reviewapp.scoring import answers as answering
from reviewapp.scoring import inputs
from reviewapp.scoring.answers import answer
from reviewapp.scoring.outputs import Layout, Said, write
from reviewapp.scoring.tables import CSV, JSON_LINES, PARQUET, check
from reviewapp.triage import generator

from .conftest import EVERY_KIND
from .small import RULE, small_release

CALL = Call(source="bulk", request_id="7", dry_run=True)
VALUE = replace(EVERY_KIND, name="value", outcome=Outcome(name="y", task="regression", minimum=0))


class Chance:
    """Answers a row by what is in it alone; fails at rows whose number is above 2."""

    def __init__(self, labels: Sequence[str], seed: str = "") -> None:
        self.classes_ = np.array(labels[::-1], dtype=object)
        self._seed = seed

    def predict_proba(self, frame: pd.DataFrame) -> NDArray[np.float64]:
        made = np.array([[1.0, *row] for row in self._chances(frame, len(self.classes_) - 1)])
        return np.asarray(made / made.sum(axis=1, keepdims=True))

    def predict_interval(self, frame: pd.DataFrame) -> NDArray[np.float64]:
        return np.array([[a + 1, a + 1 - b, a + 1 + b] for a, b in self._chances(frame, 2)])

    def _chances(self, frame: pd.DataFrame, n: int) -> list[NDArray[np.float64]]:
        if (frame["number"] > 2).any():
            raise ValueError("too hot")
        rows = zip(*(frame[name].tolist() for name in frame), strict=True)
        digests = [hashlib.sha256(f"{self._seed}{row}".encode()).digest() for row in rows]
        return [np.frombuffer(digest[: 2 * n], dtype=np.uint16) / 2**15 for digest in digests]


def adapter_of(contract: Contract, **policy: Any) -> ModelAdapter:
    labels = contract.outcome.labels or ("a", "b")
    values = {"cost_wrong": 10, "cost_review": 2, "threshold": 0.5, "widest_interval": 1.9, "rollback": RULE, **policy}
    release = small_release(
        contract, Chance(labels), baseline=Chance(labels, "other"), policy=Policy(**values),
        evaluation={"baseline_threshold": 0.4},
    )  # fmt: skip
    return ModelAdapter(release)


def requests_of(contract: Contract, rows: int = 60) -> list[Any]:
    """Right rows, some of them outside of what was seen, and one that breaks each rule."""
    rng = random.Random(11)
    records: list[Any] = [valid_record(contract, rng) for _ in range(rows)]
    for record in records[::7]:
        record |= {"number": rng.choice([2.2, 1.5, -1.0]), "class": 40, "open list": "unheard of", "text": ""}
    return records + [broken.record for broken in broken_requests(contract, rng)]


def as_csv(contract: Contract, records: Sequence[Any]) -> bytes:
    out = io.StringIO(newline="")
    writer = csv.writer(out, delimiter=";")
    writer.writerow([*contract.names, "reference"])
    for number, record in enumerate(records):
        if isinstance(record, dict):
            cells = [record.get(name) for name in contract.names]
            texts = [as_text(cell) if not isinstance(cell, (list, dict)) else str(cell) for cell in cells]
            writer.writerow([*(text.replace("\x00", "\x01") for text in texts), f"ref {number}"])
        else:
            writer.writerow(["ragged"])
    return out.getvalue().encode()


def as_lines(_: Contract, records: Sequence[Any]) -> bytes:
    bodies = [json.dumps({"input": record, "reference": f"ref {i}"}) for i, record in enumerate(records)]
    return "\n".join([*bodies, "", "not JSON", '{"input": {"a": 1, "a": 2}}', '"text"']).encode()


def scored(adapter: ModelAdapter, path: Path, kind: str, option: str | None = None) -> tuple[bytes, bytes]:
    """Return the files of answers and of bad rows, as a run writes them."""
    planned = inputs.plan(str(path), adapter.contract)
    layout = Layout.of(kind, planned.header, planned.kind, adapter.contract)
    option = option or adapter.option
    said = Said(adapter.release.id, option, "", CALL.request_id)
    whole, bad = (layout.begin(), layout.begin_problems()) if kind == CSV else (b"", b"")
    for part in planned.parts:
        checked = check(inputs.read(part, planned.kind, planned.header, adapter.contract), adapter.contract)
        more = write(checked, answer(checked, adapter, option), layout, said)
        whole, bad = whole + more[0], bad + more[1]
    return whole, bad


def by_rows(adapter: ModelAdapter, content: bytes, kind: str, option: str | None = None) -> bytes:
    """Return what the bulk route answers."""
    rows = bulk.read({CSV: bulk.CSV_TYPE, JSON_LINES: bulk.NDJSON_TYPE}[kind], content, adapter.contract)
    return b"".join(bulk.answer(rows, adapter, CALL, option=option))


def without_times(lines: bytes) -> list[Any]:
    *answers, last = [json.loads(line) for line in lines.splitlines()]
    answers += [] if "summary" in last else [last]
    return [{**one, "created_at": ""} if "created_at" in one else one for one in answers]


ADAPTERS: dict[str, Callable[[], ModelAdapter]] = {
    "labels": lambda: adapter_of(EVERY_KIND),
    "disagree": lambda: adapter_of(EVERY_KIND, review_disagreement=True),
    "fell back": lambda: adapter_of(EVERY_KIND).answering("baseline"),
    "seen is no reason": lambda: adapter_of(EVERY_KIND, review_outside_seen=False),
    "values": lambda: adapter_of(VALUE),
    "values disagree": lambda: adapter_of(VALUE, review_disagreement=True, widest_interval=None),
}


@pytest.mark.parametrize("option", [None, "baseline"])
@pytest.mark.parametrize("name", ADAPTERS)
def test_csv_is_answered_to_the_last_byte_as_the_bulk_route_answers_it(
    name: str, option: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inputs, "ROWS", 23)
    adapter = ADAPTERS[name]()
    content = as_csv(adapter.contract, requests_of(adapter.contract))
    (tmp_path / "a.csv").write_bytes(content)
    whole, bad = scored(adapter, tmp_path / "a.csv", CSV, option)
    assert whole == by_rows(adapter, content, CSV, option)
    header, *rows = csv.reader(io.StringIO(whole.decode(), newline=""), delimiter=";", strict=True)
    bad_header, *bad_rows = csv.reader(io.StringIO(bad.decode(), newline=""), delimiter=";", strict=True)
    given = len(adapter.contract.names) + 1
    assert bad_header == ["row", *header[:given], "problem"]
    expected = [[str(number), *row[:given], row[-1]] for number, row in enumerate(rows, 1) if row[-1]]
    assert bad_rows == expected
    assert any("failed on a valid request" in row[-1] for row in rows)
    assert {"auto", "review", ""} <= {row[header.index("decision")] for row in rows}


@pytest.mark.parametrize("option", [None, "baseline"])
@pytest.mark.parametrize("name", ADAPTERS)
def test_json_lines_are_answered_as_the_bulk_route_answers_them(
    name: str, option: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inputs, "ROWS", 23)
    adapter = ADAPTERS[name]()
    content = as_lines(adapter.contract, requests_of(adapter.contract))
    (tmp_path / "a.jsonl").write_bytes(content)
    whole, bad = scored(adapter, tmp_path / "a.jsonl", JSON_LINES, option)
    expected = without_times(by_rows(adapter, content, JSON_LINES, option))
    assert without_times(whole) == expected
    sent = [line for line in content.decode().split("\n") if line]
    assert without_times(bad) == [one | {"request": sent[one["row"] - 1]} for one in expected if "problem" in one]


@pytest.mark.parametrize("name", ["labels", "values"])
def test_every_kind_of_file_gives_the_same_answers_in_every_kind(name: str, tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    adapter = ADAPTERS[name]()
    contract = adapter.contract
    records = requests_of(contract, 40)[:40]
    (tmp_path / "a.csv").write_bytes(as_csv(contract, records))
    bodies = [json.dumps({"input": record, "reference": f"ref {i}"}) for i, record in enumerate(records)]
    (tmp_path / "a.jsonl").write_text("\n".join(bodies))
    columns: dict[str, list[Any]] = {one: [record.get(one) for record in records] for one in contract.names}
    pq.write_table(pa.table(columns | {"reference": [f"ref {i}" for i in range(40)]}), tmp_path / "a.parquet")
    given, said = [*contract.names, "reference"], []
    for file in ("a.csv", "a.jsonl", "a.parquet"):
        content = scored(adapter, tmp_path / file, CSV)[0].decode()
        header, *rows = csv.reader(io.StringIO(content, newline=""), delimiter=";" if file == "a.csv" else ",")
        assert header == [*given, *bulk.answer_columns(contract.outcome.task, given)]
        said.append([dict(zip(header, row, strict=True)) for row in rows])
        lines = without_times(scored(adapter, tmp_path / file, JSON_LINES)[0])
        table = pq.read_table(io.BytesIO(scored(adapter, tmp_path / file, PARQUET)[0]))
        assert table.column_names == header
        for row, line, typed in zip(said[-1], lines, table.to_pylist(), strict=True):
            assert (row["problem"] or None) == typed["problem"]
            assert ("problem" in line) == bool(row["problem"])
            if not row["problem"]:
                output = line["output"]
                assert (row["decision"], row["reference"]) == (line["decision"], line["reference"])
                assert (typed["decision"], typed["reasons"]) == (row["decision"], "; ".join(line["reasons"]))
                assert typed["prediction"] == output.get("label", output.get("value"))
                assert row["prediction"] == as_text(typed["prediction"])
    answers = bulk.answer_columns(contract.outcome.task, given)
    assert [[[row[name] for name in answers] for row in rows] for rows in said] == [
        [[row[name] for name in answers] for row in said[0]]
    ] * 3


def test_a_reference_that_is_no_text_is_a_problem_of_its_row_in_parquet_too(tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    adapter = ADAPTERS["labels"]()
    record = valid_record(EVERY_KIND, random.Random(5))
    bodies = [json.dumps({"input": record, "reference": one}) for one in (True, "mine", 3, None, {"a": [1]})]
    (tmp_path / "a.jsonl").write_text("\n".join(bodies))
    whole, bad = (pq.read_table(io.BytesIO(one)) for one in scored(adapter, tmp_path / "a.jsonl", PARQUET))
    assert whole["reference"].to_pylist() == [None, "mine", None, None, None]
    assert bad["row"].to_pylist() == [1, 3, 5]


def test_parquet_keeps_the_types_of_its_columns(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    adapter = ADAPTERS["labels"]()
    records = [valid_record(EVERY_KIND, random.Random(5)) for _ in range(5)]
    columns = {one: [record.get(one) for record in records] for one in EVERY_KIND.names}
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    table = pq.read_table(io.BytesIO(scored(adapter, tmp_path / "a.parquet", PARQUET)[0]))
    assert {name: table[name].to_pylist() for name in columns} == columns
    assert (table["confidence"].type, table["class"].type) == (pa.float64(), pa.int64())


def test_a_date_that_python_has_not_is_a_problem_of_its_row_alone(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    adapter = ADAPTERS["labels"]()
    record, day = valid_record(EVERY_KIND, random.Random(5)), 10**8  # days since 1970
    columns = {one: pa.array([record.get(one)] * 3) for one in EVERY_KIND.names}
    dates = pa.array([19_000, day, 19_000], pa.date32())
    for column in (dates, dates.dictionary_encode()):
        pq.write_table(pa.table(columns | {"day": column}), tmp_path / "a.parquet")
        whole, bad = (pq.read_table(io.BytesIO(one)) for one in scored(adapter, tmp_path / "a.parquet", PARQUET))
        assert [bool(one) for one in whole["problem"].to_pylist()] == [False, True, False]
        assert (bad["row"].to_pylist(), bad["day"].cast(pa.int32()).to_pylist()) == ([2], [day])
        [_, _, broken, _] = scored(adapter, tmp_path / "a.parquet", CSV)[0].decode().splitlines()
        assert f"{day}, which is no date up to the year 9999" in broken


def test_rows_whose_decision_hangs_on_the_last_digits_are_asked_as_single_requests(
    release: Release, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = [one.record for one in generator.generate(400, 77)]
    content = b"".join(json.dumps({"input": record}).encode() + b"\n" for record in records)
    (tmp_path / "a.jsonl").write_bytes(content)
    alone = ModelAdapter(release).predict(records, CALL)
    edge = sorted(one.output["confidence"] for one in alone)[100]
    adapter = ModelAdapter(replace(release, policy=replace(release.policy, threshold=edge)))
    monkeypatch.setattr(answering, "LAST_DIGITS", 1e-9)
    asked: list[int] = []
    outputs = adapter.outputs
    monkeypatch.setattr(adapter, "outputs", lambda option, rows: asked.append(len(rows)) or outputs(option, rows))
    lines = without_times(scored(adapter, tmp_path / "a.jsonl", JSON_LINES)[0])
    assert asked == [1]
    expected = adapter.predict(records, CALL)
    for line, one in zip(lines, expected, strict=True):
        assert (line["output"]["label"], line["decision"], line["reasons"], line["warnings"]) == (
            one.output["label"], one.decision, one.reasons, one.warnings,
        )  # fmt: skip
        assert line["output"]["probabilities"] == pytest.approx(one.output["probabilities"], abs=1e-9)


def test_a_row_of_more_than_53_bits_is_held_against_what_was_seen_exactly(tmp_path: Path) -> None:
    fields = tuple(
        replace(field, seen_minimum=0, seen_maximum=2**53) if field.name == "class" else field
        for field in EVERY_KIND.fields
    )
    adapter = adapter_of(replace(EVERY_KIND, fields=fields))
    record = {**valid_record(EVERY_KIND, random.Random(1)), "class": 2**53, "number": 0.5}
    content = as_lines(EVERY_KIND, [record, {**record, "class": 2**53 + 1}])
    (tmp_path / "a.jsonl").write_bytes(content)
    lines = without_times(scored(adapter, tmp_path / "a.jsonl", JSON_LINES)[0])
    assert lines == without_times(by_rows(adapter, content, JSON_LINES))
    assert [len([one for one in line["warnings"] if one["pointer"] == "/input/class"]) for line in lines[:2]] == [0, 1]
