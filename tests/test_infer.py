"""The contract is read off all rows, each decision with its reason; what the data cannot tell is only proposed."""

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from reviewapp.building.infer import Asked, Inferred, infer
from reviewapp.building.kinds import kind_of
from reviewapp.building.rows import labelled
from reviewapp.building.table import Table
from reviewapp.contract import Contract
from reviewapp.errors import UsageError
from reviewapp.field import Field
from reviewapp.schemas import form_schema, from_text


def table(**columns: list[str | None]) -> Table:
    return Table(columns, range(2, 2 + len(next(iter(columns.values())))), "CSV, comma")


def inferred(target: list[str] | None = None, asked: dict[str, Any] | None = None, **columns: Any) -> Inferred:
    rows = len(next(iter(columns.values())))
    y = target or ["yes", "no"] * (rows // 2)
    return infer(table(**columns, y=y), Asked(target="y", **(asked or {})), "t", "t.csv")


def field(cells: list[Any], **asked: Any) -> Field:
    return inferred(x=cells, asked=asked).contract.fields[0]


@pytest.mark.parametrize(
    ("cells", "kind"),
    [
        (["1", "-2", "+3", " 4 "], "integer"),
        (["1", "2.5"], "number"),
        (["880.0", "1e3", ".5"], "number"),
        (["true", "FALSE"], "boolean"),
        (["2024-01-31", "2023-12-01"], "date"),
        (["31.01.2024", "01.12.2023"], "date"),
        (["2024-01-31 10:00:00", "2024-01-31 11:00:00"], "date"),
        (["1/5/2024", "12/31/2023"], "date"),
        (["1/5/2024 8:05", "12/31/2023 17:30"], "date"),
        (["1/5/2024", "01/06/2024"], "category"),  # written in two ways
        (["007", "012"], "category"),  # codes: a number would lose the zeros
        (["99999999999999999999", "1"], "category"),  # beyond 64 bits
        (["1e400", "1"], "category"),
        (["1", "x"], "category"),
        (["Yes", "No"], "category"),
        (["2024-01-31", "2024-02-30"], "category"),  # there is no such day
        ([f"this is text number {i} of many" for i in range(100)], "text"),
        ([f"{i % 7} words that repeat" for i in range(100)], "category"),
        ([f"{i}語" * 40 for i in range(100)], "text"),  # writing without blanks
    ],
)
def test_a_kind_is_decided_on_the_whole_column(cells: list[str], kind: str) -> None:
    assert kind_of(cells).name == kind


def test_one_cell_in_the_last_row_decides() -> None:
    assert field(["1"] * 999 + ["x"]).kind == "category"
    assert field(["1"] * 999 + [" "]).kind == "integer"


def test_a_blank_in_a_column_of_numbers_is_missing_there_and_only_there() -> None:
    found = inferred(x=["1.5", " ", "2.5", ""], z=[" ", "a", "b", "a"])
    x, z = found.contract.fields
    assert (x.kind, x.nullable, x.missing) == ("number", True, (" ",))
    assert from_text(x, " ", found.contract.missing) is None
    assert (z.kind, z.nullable) == ("category", False)
    assert " " in (z.choices or z.seen_choices or ())
    notes = {column.name: " ".join(column.notes) for column in found.columns}
    assert "' ' in 1 row, taken as missing" in notes["x"]
    assert "' ' in 1 row, kept as a value; if it means missing: --na ' '" in notes["z"]


def test_a_marker_is_missing_everywhere_once_it_is_said() -> None:
    found = inferred(x=["?", "a", "b", "NA"], asked={"na": ("?", "NA")})
    assert (found.contract.fields[0].nullable, found.contract.missing) == (True, ("?", "NA"))
    assert from_text(found.contract.fields[0], "NA", found.contract.missing) is None


def test_an_empty_cell_is_missing_unless_said_otherwise() -> None:
    assert field(["a", "", "b", "a"]).nullable
    assert not field(["a", "", "b", "a"], na=("?",)).nullable


def test_a_column_without_a_value_is_left_out_and_one_with_one_value_is_proposed_for_it() -> None:
    found = inferred(x=["1", "2"] * 20, empty=[""] * 40, same=["k"] * 40, user_id=[f"u{i}" for i in range(40)])
    assert found.contract.names == ("x", "same", "user_id")
    assert set(found.drops) == {"same", "user_id"}
    assert [column.kind for column in found.columns if column.name == "empty"] == [None]


@pytest.mark.parametrize(
    ("name", "cells", "codes"),
    [
        ("service", [str(i % 30) for i in range(90)], True),
        ("level", [str(1 + i % 4) for i in range(90)], True),
        ("zip", [str(10000 + i) for i in range(90)], True),
        ("x", [str(20000 + 17 * i) for i in range(90)], True),
        ("age", [str(18 + i % 60) for i in range(90)], False),
        ("flag", [str(i % 2) for i in range(90)], False),
    ],
)
def test_whole_numbers_that_look_like_codes_are_proposed_as_a_category(name: str, cells: Any, codes: bool) -> None:
    found = inferred(**{name: cells})
    assert found.contract.fields[0].kind == "integer"
    assert any("--category" in note for column in found.columns for note in column.notes) is codes
    named = inferred(**{name: cells}, asked={"kinds": {name: "category"}}).contract.fields[0]
    assert (named.kind, from_text(named, cells[0])) == ("category", cells[0])


def test_few_values_that_are_each_frequent_close_the_list_and_rare_ones_leave_it_open() -> None:
    assert field(["a", "b"] * 10).choices == ("a", "b")
    rare = field([*["a", "b"] * 10, "c", "a"])
    assert (rare.choices, rare.seen_choices) == (None, ("a", "b", "c"))


def test_limits_are_what_was_seen_and_never_a_rule_for_numbers() -> None:
    number = field(["3", "-1", "10", "2"])
    assert (number.minimum, number.maximum, number.seen_minimum, number.seen_maximum) == (None, None, -1, 10)
    day = field(["01.02.2024", "31.01.2024"])
    assert (day.seen_minimum, day.seen_maximum, day.date_format) == ("31.01.2024", "01.02.2024", "%d.%m.%Y")
    day = field(["9/30/2024", "10/1/2024", "1/1/2024", "1/1/2024"])
    assert (day.seen_minimum, day.seen_maximum, day.date_format) == ("1/1/2024", "10/1/2024", "%-m/%-d/%Y")


def test_an_example_shows_no_row_of_the_table() -> None:
    texts = [f"a private letter of person number {i}" for i in range(60)]
    assert field(texts).example not in texts
    assert field([*texts, *["thank you for the reply"] * 6]).example == "thank you for the reply"
    assert field([str(i) for i in range(101)] + ["0"]).example == 50


@pytest.mark.parametrize(
    ("target", "task", "asked"),
    [
        (["a", "b"], "classification", {}),
        (["0", "1"], "classification", {}),
        (["true", "false"], "classification", {}),
        ([str(i) for i in range(30)], "regression", {}),
        (["1.5", "2.5"], "regression", {}),
        (["0", "1"], "regression", {"task": "regression"}),
        ([str(i) for i in range(30)], "classification", {"task": "classification"}),
    ],
)
def test_the_target_says_the_task_unless_one_is_asked_for(target: list[str], task: str, asked: Any) -> None:
    cells = (target * 30)[:60]
    found = inferred(x=[str(i) for i in range(60)], target=cells, asked=asked)
    assert found.contract.outcome.task == task
    assert any(f"a {task}" in note for note in found.notes)


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"drop": ("X",)}, "did you mean 'x'"),
        ({"drop": ("y",)}, "which is the target"),
        ({"kinds": {"x": "number"}}, "it holds 'a'"),
        ({"kinds": {"x": "date"}}, "is no date"),
        ({"task": "regression"}, "needs numbers"),
        ({"drop": ("x",)}, "No column is left"),
    ],
)
def test_what_does_not_fit_the_table_is_named(asked: Any, words: str) -> None:
    with pytest.raises(UsageError) as refused:
        inferred(x=["a", "b"] * 20, asked=asked)
    assert words in refused.value.detail


def test_a_contract_comes_back_from_its_file_as_it_was() -> None:
    contract = inferred(x=["1", " "] * 10, z=["a", "?"] * 10).contract
    assert Contract.from_json(json.loads(json.dumps(contract.as_json()))).as_json() == contract.as_json()


def test_every_row_that_is_learned_from_is_a_request_that_the_form_accepts() -> None:
    cells = {"x": ["1", " ", "3.5", ""] * 10, "z": ["a", "", "b", "NA"] * 10, "d": ["2024-01-31", ""] * 20}
    made = table(**cells, y=["yes", "no"] * 20)
    contract = infer(made, Asked(target="y"), "t", "t.csv").contract
    rows = labelled(made, contract, "y")
    for i, record in enumerate(rows.records):
        assert form_schema(contract).load({name: column[i] for name, column in cells.items()}, "") == record
    assert len(rows) == 40


@pytest.mark.parametrize(
    ("marker", "missing"), [("na", True), ("N.A.", True), (" None ", True), ("unknown", True), ("inf", False)]
)
def test_a_few_odd_cells_among_numbers_are_missing_or_named_but_never_passed_over(marker: str, missing: bool) -> None:
    found = inferred(x=["1.5", "2.5", "3.5"] * 30 + [marker] * 2)
    [x] = found.contract.fields
    assert x.kind == ("number" if missing else "category")
    assert x.missing == ((marker,) if missing else ())
    notes = " ".join(note for column in found.columns for note in column.notes)
    assert f"{marker!r} in 2 rows" in notes
    assert ("taken as missing" in notes) is missing
    assert ("nearly all values are numbers" in notes) is not missing


def test_dates_that_are_nearly_all_alike_are_named_too() -> None:
    found = inferred(x=["2024-01-31", "2023-12-01"] * 30 + ["soon", "2024-02-30"])
    told = "nearly all values are dates written YYYY-MM-DD, but not 'soon' in 1 row, '2024-02-30' in 1 row"
    assert told in " ".join(found.columns[1].notes)


DAYS = [f"2024-{1 + i % 12:02}-{1 + i % 28:02}" for i in range(84)]


@pytest.mark.parametrize(
    ("cells", "words"),
    [
        ([*DAYS, *["0000-00-00"] * 40], "apart from '0000-00-00' in 40 rows, all values are dates written YYYY-MM-DD"),
        ([*map(str, range(84)), *["*"] * 40], "apart from '*' in 40 rows, all values are numbers: mend the table, or"),
        ([*map(str, range(84)), *(f"({i})" for i in range(8))], "and 3 more in 3 rows: mend the table"),
        ([f"{day}T10:00:05.123Z" for day in DAYS], "looks like dates, written in more than one way or in one that"),
        ([f"{day}T10:00:05+02:00" for day in DAYS], "looks like dates, written in more than one way"),
        ([f"January {i % 28 + 1}, 2018" for i in range(84)], "looks like dates, written in more than one way"),
        ([f"{i % 28 + 1}-Jan-15" for i in range(84)], "looks like dates, written in more than one way"),
        ([f"05/{i % 28 + 1:02}/2015 11:20:00 PM" for i in range(84)], "looks like dates, written in more than one"),
        ([f"${i},000.50" for i in range(84)], "looks like numbers with commas or signs"),
        ([f"{i}.5e299" for i in range(84)], "looks like numbers, some of them beyond 64 bits"),
        ([f"{i},5" for i in range(84)], "looks like numbers with commas or signs"),
        ([f"10.0.{i}.7" for i in range(84)], "almost every row has a value of its own, as an id has: probably --drop"),
        ([f"3.{i}.2" for i in range(84)], "almost every row has a value of its own, as an id has: probably --drop"),
    ],
)  # fmt: skip
def test_what_cells_look_like_but_are_not_read_as_is_told(cells: list[str], words: str) -> None:
    column = inferred(x=cells).columns[1]
    assert column.kind in ("category", "text")
    assert words in "; ".join(column.notes)


@pytest.mark.parametrize("marker", [r"\N", ".", "<NA>", "#DIV/0!"])
def test_the_markers_of_other_programs_are_missing_among_numbers_whatever_their_share(marker: str) -> None:
    [x] = inferred(x=[*["1", "2"] * 10, *[marker] * 60]).contract.fields
    assert (x.kind, x.nullable, x.missing) == ("integer", True, (marker,))


def test_whole_numbers_of_their_own_are_ids_only_where_they_count_or_are_called_so() -> None:
    drops = inferred(
        rows=[str(100 + i) for i in range(60)],
        user_id=[str(i * i * 977) for i in range(60)],
        kilometres=[str(i * i * 977) for i in range(60)],
    )
    assert set(drops.drops) == {"rows", "user_id"}
    told = {column.name: column.notes for column in drops.columns}["kilometres"]
    assert any("if that is an id, --drop 'kilometres'" in note for note in told)


@pytest.mark.parametrize("cell", ["2024-01-31T10:00:00Z", "0001-01-01"])
def test_dates_of_a_zone_and_of_old_are_dates(cell: str) -> None:
    assert kind_of([cell]).name == "date"


def test_large_whole_numbers_keep_their_order() -> None:
    whole = field([str(2**63 - 1 - i) for i in (0, 1, 7, 299)])
    assert (whole.seen_minimum, whole.seen_maximum) == (2**63 - 300, 2**63 - 1)


def test_a_number_has_the_same_value_from_a_text_as_from_json() -> None:
    number = Field(name="x", kind="number")
    assert from_text(number, str(2**63 - 1)) == 2**63 - 1
    assert from_text(number, "9007199254740993.0") == json.loads("9007199254740993.0")


@pytest.mark.parametrize(
    ("odd", "task", "words"),
    [
        (" ", "regression", "The target: ' ' in 2 rows, taken as missing"),
        ("NA", "regression", "The target: 'NA' in 2 rows, taken as missing"),
        (r"\N", "regression", r"The target: '\\N' in 2 rows, taken as missing"),
        ("x", "classification", "The target: nearly all values are numbers, but not 'x' in 2 rows"),
    ],
)
def test_odd_cells_of_the_target_are_missing_or_named(odd: str, task: str, words: str) -> None:
    cells = [str(i) for i in range(40)] + [odd] * 2
    found = inferred(x=[str(i) for i in range(42)], target=cells)
    assert found.contract.outcome.task == task
    assert any(words in note for note in found.notes)
    rows = labelled(table(x=[str(i) for i in range(42)], y=cells), found.contract, "y")
    assert len(rows) == (40 if task == "regression" else 42)
    assert (found.columns[0].missing, found.columns[0].different) == ((2, 40) if task == "regression" else (0, 41))


def test_a_text_longer_than_what_is_looked_at_is_named() -> None:
    texts = [f"a letter that begins with number {i}" for i in range(39)] + ["word " * 5000]
    notes = inferred(x=texts).columns[1].notes
    assert "1 rows hold more than 20,000 characters; our own candidates look at the first so many" in notes


def test_labels_that_differ_by_hardly_anything_are_named() -> None:
    found = inferred(x=["1"] * 40, target=["yes", "yes ", "No", "no"] * 10)
    notes = " ".join(found.notes)
    assert "'No' and 'no' are two labels" in notes
    assert "'yes' and 'yes ' are two labels" in notes


@pytest.mark.parametrize("cell", ["1e999", "1e30"])
def test_a_target_beyond_64_bits_is_refused(cell: str) -> None:
    with pytest.raises(UsageError, match="needs numbers of 64 bits"):
        inferred(x=["1"] * 40, target=[str(i) for i in range(39)] + [cell])


CELLS = [
    "", " ", "?", "NA", "n/a", "null", "None", "nan", "-", "unknown", "Missing", " nil ",
    "other", "yes", "No", "true", "FALSE", "<b>", "=1+1", "a b c d", "é", "\u202e", "🙂", "x" * 300,
    "0", "1", "2", "+3", "-4", "07", "3.0", "1e3", ".5", "1,234", "$5", "inf", str(2**63 - 1), str(2**63),
    "2024-01-31", "31.01.2024", "1/5/2024", "2024-01-31 10:00:00",
]  # fmt: skip


@given(
    columns=st.lists(st.lists(st.sampled_from(CELLS), min_size=1, max_size=6), min_size=1, max_size=4),
    na=st.none() | st.lists(st.sampled_from(CELLS[:12]), min_size=1, max_size=2).map(tuple),
    target=st.sampled_from([["yes", "no"], ["0", "1", "unknown"], ["1.5", "2.5", "unknown"], ["a", "b", "?"]]),
)
@example(columns=[["admin.", "unknown", "services"]], na=None, target=["yes", "no"])
def test_every_row_of_the_table_is_accepted(columns: list[list[str]], na: Any, target: list[str]) -> None:
    rows = 60
    cells: dict[str, Any] = {f"c{i}": [pool[row % len(pool)] for row in range(rows)] for i, pool in enumerate(columns)}
    cells |= {"x": [str(row) for row in range(rows)], "y": [target[row % len(target)] for row in range(rows)]}
    contract = infer(table(**cells), Asked(target="y", na=na), "t", "t.csv").contract
    nothing = {*contract.missing, *contract.outcome.missing}
    assert len(labelled(table(**cells), contract, "y")) == sum(cell not in nothing for cell in cells["y"])
