"""Columns of cells get the verdicts, the values and the flaws that their rows get one by one."""

import csv
import io
import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reviewapp import bulk, strictjson
from reviewapp.bodies import prediction_request
from reviewapp.contract import Contract, Outcome
from reviewapp.errors import ReviewappError
from reviewapp.field import Field
from reviewapp.frames import to_frame
from reviewapp.scoring.columns import ABSENT, ColumnCheck, as_values, outside_seen
from reviewapp.scoring.tables import Checked, Header, check, read_csv, read_json_lines, read_parquet

from .conftest import EVERY_KIND

NUMBERS = [
    "3", "3.0", "+3", "-0", "0", ".5", "1.", ".", "1e5", "1e400", "-1e-400", "nan", "inf", "1_0", "١", "3 ", "\t3", "-",
    "9007199254740993", "-9223372036854775808", "9223372036854775808", "9" * 5000, "0x1", "3,5", "1e", "--1",
]  # fmt: skip
TEXTS = [
    "", " ", "a", "red", "blue", "?", "NA", "a\nb", "a\x00b".replace("\x00", "\x1b"), "\x7f", "\x85", "ß" * 6, "🙂🙂🙂",
    "true", "YES", "no ", "1", "2020-02-29", "2021-02-29", "2020-2-9", "9.2.2020", "29.02.2020", " 2020-02-29",
]  # fmt: skip
VALUES: list[Any] = [
    None, True, False, 0, 1, 3, -1, 3.0, 3.7, -0.0, 1e300, 2**53, 2**53 + 1, 2**63 - 1, 2**63, -(2**63), 10**30, [], {},
    {"a": 1}, [3], *TEXTS,
]  # fmt: skip


@st.composite
def contracts(draw: st.DrawFn) -> Contract:
    def limit(of: st.SearchStrategy[Any]) -> Any:
        return draw(st.none() | of)

    fields = []
    for number in range(draw(st.integers(1, 4))):
        kind = draw(st.sampled_from(["number", "integer", "boolean", "category", "text", "date"]))
        nullable = draw(st.booleans())
        values: dict[str, Any] = {"nullable": nullable, "required": not nullable or draw(st.booleans())}
        if kind in ("number", "integer"):
            values["minimum"] = limit(st.sampled_from([-1, 0, 0.5, 2**53 + 1, -(2**60)]))
            values["maximum"] = limit(st.sampled_from([2**62, 2**53 + 3]))
            if draw(st.booleans()):
                values |= {"seen_minimum": 0, "seen_maximum": draw(st.sampled_from([3, 3.5, 2**54]))}
        if kind == "category" and draw(st.booleans()):
            values["choices"] = draw(st.sampled_from([("red", "blue"), ("", "red"), ("1", "true", "NA")]))
        elif kind == "category" and draw(st.booleans()):
            values["seen_choices"] = draw(st.sampled_from([("red",), ("", "a")]))
        elif kind in ("category", "text"):
            values["max_length"] = limit(st.integers(1, 6))
        if kind == "text" and draw(st.booleans()):
            values |= {"seen_minimum": 1, "seen_maximum": 3}
        if kind == "date":
            values["date_format"] = draw(st.sampled_from(["%Y-%m-%d", "%d.%m.%Y", "%-d.%-m.%Y"]))
        if nullable and draw(st.booleans()):
            values["missing"] = draw(st.sampled_from([("?",), ("3",), ("NA", "-1")]))
        fields.append(Field(name=f"{number} x.y", kind=kind, **values))
    missing = draw(st.sampled_from([("",), ("NA",), ("", "0")]))
    return Contract(name="any", fields=tuple(fields), outcome=Outcome(name="y", labels=("a", "b")), missing=missing)


def cells(field: Field, often: list[Any]) -> st.SearchStrategy[Any]:
    """Odd cells, and those that columns are made of: so that columns are right, mostly right, and wrong."""
    right: list[Any] = {
        "number": ["1", "2.5", "3"], "integer": ["1", "2", "3"], "boolean": ["true", "no"], "text": ["a", "b c"],
        "category": list(field.choices or field.seen_choices or ("a", "b")), "date": ["2020-02-29", "29.02.2020"],
    }[field.kind]  # fmt: skip
    return st.sampled_from(right) | st.sampled_from(often)


def same(one: Any, other: Any) -> bool:
    """Equal, of the same type, and -0.0 is not 0.0."""
    return type(one) is type(other) and repr(one) == repr(other)


def verdicts_are_those_of_rows(checked: Checked, alone: list[tuple[Any, Any, Any]]) -> None:
    """`alone`: the record, the reference and the mistake of each row, read by itself."""
    contract = checked.contract
    assert checked.table.rows == len(alone)
    records = iter(checked.records(checked.values()))
    for row, (record, reference, mistake) in enumerate(alone):
        assert checked.right[row] == (mistake is None)
        if mistake is None:
            found = next(records)
            assert list(found) == list(contract.names)
            assert all(same(found[name], record[name]) for name in record)
            assert checked.references[row] == reference
        else:
            assert checked.mistakes[row].errors == mistake.errors
            assert checked.mistakes[row].detail == mistake.detail
    right = [record for record, _, mistake in alone if mistake is None]
    expected, frame = to_frame(contract, right), checked.frame()
    assert list(expected.columns) == list(frame.columns)
    for name in expected.columns:
        assert expected[name].dtype == frame[name].dtype
        assert all(map(same, expected[name].tolist(), frame[name].tolist()))
    values = checked.values()
    if right and not checked.late:
        for field in contract.fields:
            outside = outside_seen(field, values[field.name])
            said = [field.outside_seen(record[field.name]) is not None for record in right]
            assert (outside is None and not any(said)) or outside.tolist() == said


def test_the_sign_of_a_nought_is_that_of_the_row_schema() -> None:
    contract = Contract(
        name="one", fields=(Field(name="a", kind="number"),), outcome=Outcome(name="y", labels=("a", "b"))
    )
    cells = ["-0", "-0.0", "0", "-0e1", "-00.0"]
    alone = [bulk.Columns(("a",), contract).row(number, 0, [cell]) for number, cell in enumerate(cells, 1)]
    checked = check(read_csv("\n".join(cells).encode(), Header(("a",)), 1, 2, contract), contract)
    verdicts_are_those_of_rows(checked, [(one.record, one.reference, one.mistake) for one in alone])


@settings(max_examples=150)
@given(contracts(), st.data())
def test_csv_cells_get_the_verdicts_of_the_row_schema(contract: Contract, data: st.DataObject) -> None:
    names = [field.name for field in contract.fields if field.required or data.draw(st.booleans())] or [
        contract.names[0]
    ]
    columns = [field for field in contract.fields if field.name in names]
    row = st.tuples(*(cells(field, NUMBERS + TEXTS) for field in columns), st.sampled_from(["", "A-1", "x" * 201]))
    rows = [list(one) for one in data.draw(st.lists(row, min_size=1, max_size=12))]
    out = io.StringIO(newline="")
    csv.writer(out, quoting=csv.QUOTE_ALL).writerows(rows)
    header = (*names, "reference")
    table = read_csv(out.getvalue().encode(), Header(header), 1, 2, contract)
    alone = [bulk.Columns(header, contract).row(number, 0, one) for number, one in enumerate(rows, 1)]
    checked = check(table, contract)
    verdicts_are_those_of_rows(checked, [(one.record, one.reference, one.mistake) for one in alone])
    for field in columns:  # and what is sure, without the row schema's help, is right
        found = ColumnCheck(field, text=True, missing=contract.missing)([one[names.index(field.name)] for one in rows])
        sure_is_right(field, found, checked)


@settings(max_examples=150)
@given(contracts(), st.data())
def test_json_values_get_the_verdicts_of_the_row_schema(contract: Contract, data: st.DataObject) -> None:
    row = st.fixed_dictionaries(
        {field.name: cells(field, [*VALUES, ABSENT]).map(as_json_cell(field)) for field in contract.fields},
        optional={"unknown": st.just(1)} if data.draw(st.booleans()) else {},
    ).map(lambda made: {name: cell for name, cell in made.items() if cell is not ABSENT})
    odd = st.sampled_from([{}, {"input": None}, {"input": [1]}, 3, {"inputs": {}}, {"input": {}, "more": 1}])
    body = row.map(lambda made: {"input": made}) | st.tuples(row, st.sampled_from([None, "A-1", 7, "x" * 201])).map(
        lambda made: {"input": made[0], "reference": made[1]}
    )
    bodies = data.draw(st.lists(st.one_of(body, body, odd), min_size=1, max_size=12))
    lines = [json.dumps(one).encode() for one in bodies]
    lines += [b'{"input": NaN}', b"{", b'{"input": {}, "input": {}}', b"\xff"] if data.draw(st.booleans()) else []
    alone: list[tuple[Any, Any, Any]] = []
    for line in lines:
        try:
            record, reference = prediction_request(contract).load(strictjson.loads(line))
            alone.append((record, reference, None))
        except ReviewappError as error:
            alone.append(({}, None, error))
    content = b"\r\n \n".join(lines) + b"\n"
    checked = check(read_json_lines(content, Header(contract.names), 1, contract), contract)
    verdicts_are_those_of_rows(checked, alone)


def as_json_cell(field: Field) -> Any:
    """Return what makes of a text that stands for a number or a boolean the value itself."""

    def make(cell: Any) -> Any:
        if field.kind == "boolean" and cell in ("true", "no"):
            return cell == "true"
        if field.kind in ("number", "integer") and cell in ("1", "2", "3", "2.5"):
            return json.loads(cell)
        return cell

    return make


def sure_is_right(field: Field, found: Any, checked: Checked) -> None:
    values = as_values(field, found.values)
    final = as_values(field, checked.columns[field.name].values)
    for row, sure in enumerate(found.sure.tolist()):
        if sure and checked.right[row]:
            assert same(values[row], final[row])
        if sure and row in checked.mistakes:
            flawed = {flaw.pointer for flaw in checked.mistakes[row].errors}
            assert f"/{field.name}" not in flawed


def test_typed_columns_of_parquet_are_read_as_their_text_is() -> None:
    columns = {
        "number": [1.5, None, float("nan"), 3.0],
        "class": [3.0, 2.0, 3.7, None],
        "Meta": [True, False, None, True],
        "a/b~c": ["red", "grün", "blue", "red"],
    }
    fields = tuple(field for field in EVERY_KIND.fields if field.name in columns)
    contract = Contract(name="some", fields=fields, outcome=EVERY_KIND.outcome)
    checked = check(read_parquet(columns, Header(tuple(columns)), 1, contract), contract)
    assert checked.right.tolist() == [True, False, False, False]
    assert checked.records(checked.values()) == [{"number": 1.5, "class": 3, "Meta": True, "a/b~c": "red"}]
    codes = {row: {flaw.code for flaw in mistake.errors} for row, mistake in checked.mistakes.items()}
    assert codes == {1: {"null_not_allowed"}, 2: {"null_not_allowed", "wrong_type", "not_a_choice"},
                     3: {"too_large", "null_not_allowed"}}  # fmt: skip


def test_a_column_of_plain_numbers_is_read_at_once_and_the_odd_ones_are_left_to_the_rows() -> None:
    check_of = ColumnCheck(Field(name="n", kind="integer", minimum=0), text=True)
    found = check_of(["1"] * 30 + ["pigeon", "-1", "3.0", ""])
    assert found.sure.tolist() == [True] * 30 + [False] * 4
    assert found.values.dtype == np.int64
    assert check_of(["1"] * 30 + ["9" * 5000]).sure.tolist() == [True] * 30 + [False]
    assert check_of(["3.0", "pigeon", "7"]).sure.tolist() == [True, False, True]


def test_whole_numbers_of_more_than_53_bits_stay_exact() -> None:
    field = Field(name="n", kind="integer", nullable=True)
    contract = Contract(name="any", fields=(field,), outcome=EVERY_KIND.outcome)
    for cells in (["3.0", "9007199254740993", ""], ["1", "9007199254740993", "2"]):
        content = "".join(f'"{cell}"\n' for cell in cells).encode()
        checked = check(read_csv(content, Header(("n",)), 1, 2, contract), contract)
        assert [one["n"] for one in checked.records(checked.values())][1] == 9007199254740993


@pytest.mark.parametrize("text", [True, False])
def test_an_absent_column_is_null_or_missing(text: bool) -> None:
    optional = ColumnCheck(Field(name="n", kind="number", required=False, nullable=True), text=text).absent(2)
    assert optional.sure.all()
    assert all(map(math.isnan, optional.values))
    assert not ColumnCheck(Field(name="n", kind="number"), text=text).absent(2).sure.any()
    assert isinstance(ABSENT, object)
