"""Files are cut into partitions of whole records, just where the csv module would end them."""

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reviewapp import csvfiles
from reviewapp.contract import Contract, Outcome
from reviewapp.errors import UsageError
from reviewapp.field import Field
from reviewapp.scoring import inputs, scanning
from reviewapp.scoring.inputs import plan, read
from reviewapp.scoring.scanning import Cutter, Digest, Quoted, cut_exactly, cut_lines, cut_quickly, header

CONTRACT = Contract(
    name="two",
    fields=(Field(name="a", kind="text"), Field(name="b", kind="number", required=False, nullable=True)),
    outcome=Outcome(name="y", labels=("yes", "no")),
)
CELLS = st.text(st.sampled_from('ab,;"\n\r é🙂'), max_size=6)


def blocks(content: bytes, size: int) -> Iterator[bytes]:
    return (content[start : start + size] for start in range(0, len(content), size))


@settings(max_examples=300)
@given(
    st.lists(st.lists(CELLS, min_size=1, max_size=3), min_size=1, max_size=12), st.sampled_from(["\n", "\r\n", "\r"]),
    st.booleans(), st.booleans(), st.integers(1, 40), st.integers(1, 4), st.integers(8, 60),
    st.sampled_from(['"', 'x"y,', "\n\n", 'a,"b"c\n', "a,b"]) | st.just(""),
)  # fmt: skip
def test_pieces_of_csv_hold_the_records_of_the_whole_file(
    rows: list[list[str]], end: str, quoted: bool, bom: bool, size: int, most: int, most_bytes: int, tail: str
) -> None:
    out = io.StringIO(newline="")
    quoting = csv.QUOTE_ALL if quoted else csv.QUOTE_MINIMAL
    csv.writer(out, lineterminator=end, quoting=quoting).writerows([["a", "b"], *rows])
    content = b"\xef\xbb\xbf" * bom + (out.getvalue() + tail).encode()
    _, delimiter, start, line = header(content, {"a", "b"})
    try:
        _, *records = csvfiles.records(content, ",")
    except csvfiles.NotCSV as error:
        with pytest.raises(Quoted):
            cut_quickly(blocks(content, size), ",", Cutter(start, line, most, most_bytes))
        with pytest.raises(csvfiles.NotCSV) as again:
            cut_exactly(io.BytesIO(content), ",", Cutter(start, line, most, most_bytes))
        assert again.value.detail == error.detail
        return
    exactly = cut_exactly(io.BytesIO(content), ",", Cutter(start, line, most, most_bytes))
    found = [exactly]
    try:
        found.append(cut_quickly(blocks(content, size), ",", Cutter(start, line, most, most_bytes)))
    except Quoted:  # only where a quote stands in the middle of a cell that is not quoted
        assert not quoted or tail
    assert delimiter == ","
    for pieces in found:
        cut = [content[piece.start : piece.end] for piece in pieces]
        assert [row for one in cut for row in csvfiles.rows(one, ",")] == [cells for _, cells in records]
        assert all(0 < piece.rows <= most for piece in pieces)
        assert [len(csvfiles.rows(one, ",")) for one in cut] == [piece.rows for piece in pieces]
        lines = [at for piece, one in zip(pieces, cut, strict=True) for at, _ in csvfiles.records(one, ",", piece.line)]
        assert lines == [at for at, _ in records]


@settings(max_examples=100)
@given(st.lists(st.sampled_from([b"{}", b'{"a": "\\n"}', b"", b" \t\r", b" 1"]), max_size=12), st.integers(1, 9),
       st.integers(1, 4), st.booleans())  # fmt: skip
def test_pieces_of_json_lines_hold_its_lines(lines: list[bytes], size: int, most: int, last: bool) -> None:
    content = b"\n".join(lines) + b"\n" * last
    pieces = cut_lines(blocks(content, size), Cutter(0, 0, most, 20))
    cut = [content[piece.start : piece.end] for piece in pieces]
    kept = [[line for line in one.split(b"\n") if line.strip(b" \t\r\n")] for one in cut]
    assert [line for one in kept for line in one] == [line for line in lines if line.strip(b" \t\r\n")]
    assert [len(one) for one in kept] == [piece.rows for piece in pieces]
    assert all(piece.rows <= most for piece in pieces)


@pytest.mark.parametrize(
    "content",
    [b"a,b\nx,1\r\ny\xff,2", b"a,b\r\nx,1\r\ny,2\n\x00", b"a,b\r\rx\xc3", b"a,b\n" + b"x,1\r\n" * 9 + b"\xc3("],
)
@pytest.mark.parametrize("size", [1, 3, 100])
def test_what_is_no_text_is_named_with_its_line(content: bytes, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scanning, "BLOCK", size)
    with pytest.raises(csvfiles.NotCSV) as expected:
        csvfiles.check_text(content)
    with pytest.raises(csvfiles.NotCSV) as found:
        list(Digest(text=True).blocks(io.BytesIO(content)))
    assert found.value.detail == expected.value.detail


# ---- what IN names ----------------------------------------------------------------------------------------------


def test_a_folder_a_pattern_and_an_address_name_the_same_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inputs, "ROWS", 2)
    for name in ("1.csv", "2.csv"):
        (tmp_path / name).write_text("a,b\n" + f"x{name},1\n" * 3)
    (tmp_path / ".hidden.csv").write_text("?")
    for address in (str(tmp_path), f"{tmp_path}/*.csv", f"file://{tmp_path}/[12].csv"):
        planned = plan(address, CONTRACT)
        assert [part.first for part in planned.parts] == [1, 3, 4, 6]
        assert (planned.rows, len(planned.sources)) == (6, 2)
        tables = [read(part, planned.kind, planned.header, CONTRACT) for part in planned.parts]
        assert [cell for table in tables for cell in table.columns["a"]] == ["x1.csv"] * 3 + ["x2.csv"] * 3


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({}, "names no file"),
        ({"a.txt": "a\nx"}, "must be told by its ending"),
        ({"a.csv": "a\nx", "b.jsonl": "{}"}, "files of several kinds"),
        ({"a.csv": "a\nx", "b.csv": "a,b\nx,1"}, "b.csv has other columns than"),
        ({"a.csv": "a,b\nx,1", "b.csv": "a;b\nx;1"}, "b.csv has other columns than"),
        ({"a.csv": "a,c\nx,1"}, "a.csv: c: Line 1: the contract knows no column of this name"),
        ({"a.csv": 'a\n"x'}, "a.csv: Line 2: this cannot be read as CSV"),
        ({"a.csv": "a\n\n"}, "holds no row"),
        ({"a.jsonl": " \n"}, "holds no row"),
        ({"a.parquet": "PAR1"}, "cannot be read as Parquet"),
    ],
)
def test_what_is_wrong_with_the_files_is_said(tmp_path: Path, files: dict[str, str], said: str) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(UsageError) as error:
        plan(str(tmp_path), CONTRACT)
    assert said in error.value.detail


def test_an_address_that_is_none_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="nowhere://a cannot be read"):
        plan("nowhere://a", CONTRACT)
    with pytest.raises(UsageError, match=r"none.csv names no file"):
        plan(str(tmp_path / "none.csv"), CONTRACT)


def test_a_row_group_of_parquet_is_cut_and_a_nested_column_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    monkeypatch.setattr(inputs, "ROWS", 3)
    table = pa.table({"a": pa.array([f"x{i}" for i in range(8)]).dictionary_encode(), "b": range(8)})
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=7)
    planned = plan(str(tmp_path / "a.parquet"), CONTRACT)
    assert [(part.group, part.first, part.rows) for part in planned.parts] == [
        (0, 1, 3),
        (0, 4, 3),
        (0, 7, 1),
        (1, 8, 1),
    ]
    tables = [read(part, planned.kind, planned.header, CONTRACT) for part in planned.parts]
    assert [cell for one in tables for cell in one.columns["a"]] == table["a"].to_pylist()
    assert [cell for one in tables for cell in one.columns["b"]] == list(range(8))
    pq.write_table(pa.table({"a": [["x"]]}), tmp_path / "a.parquet")
    with pytest.raises(UsageError, match="column 'a' holds list"):
        plan(str(tmp_path / "a.parquet"), CONTRACT)


def test_a_long_file_is_cut_by_its_bytes_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inputs, "BYTES", 100)
    (tmp_path / "a.jsonl").write_text("".join(json.dumps({"input": {"a": "x" * 40}}) + "\n" for _ in range(9)))
    planned = plan(str(tmp_path / "a.jsonl"), CONTRACT)
    assert [part.rows for part in planned.parts] == [2, 2, 2, 2, 1]


def test_a_file_that_is_damaged_after_it_was_planned_is_named(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({name: ["x"] for name in CONTRACT.names}), tmp_path / "a.parquet")
    planned = plan(str(tmp_path / "a.parquet"), CONTRACT)
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    with pytest.raises(UsageError, match=r"a\.parquet cannot be read at row 1 or in the 1 rows"):
        read(planned.parts[0], planned.kind, planned.header, CONTRACT)
