"""A table is read as it stands in the file, or refused with the line that is wrong."""

from pathlib import Path

import pytest

from reviewapp.building.infer import Asked, infer
from reviewapp.building.table import read_table
from reviewapp.errors import UsageError


def read(tmp_path: Path, content: bytes, name: str = "t.csv") -> dict[str, list[str | None]]:
    (tmp_path / name).write_bytes(content)
    return read_table(tmp_path / name).columns


@pytest.mark.parametrize(
    "content",
    [
        b"a,b\n1,x\n2,y\n",
        b"a;b\r\n1;x\r\n2;y\r\n",
        b"a\tb\n1\tx\n2\ty",
        b"\xef\xbb\xbfa,b\r\n1,x\r\n\r\n2,y\r\n",
        b"a,b\r1,x\r2,y\r",
        b'"a","b"\n"1","x"\n"2","y"\n',
    ],
    ids=["comma", "semicolon and CR LF", "tab, no last line end", "byte order mark and an empty line", "CR", "quotes"],
)
def test_the_same_table_is_read_however_it_is_written(tmp_path: Path, content: bytes) -> None:
    assert read(tmp_path, content) == {"a": ["1", "2"], "b": ["x", "y"]}


def test_cells_are_texts_as_they_stand_there(tmp_path: Path) -> None:
    content = b'id,,"x\ny"\n007, NA ,"a\nb, ""c"""\nnull,,=1+1\n'
    assert read(tmp_path, content) == {"id": ["007", "null"], "": [" NA ", ""], "x\ny": ['a\nb, "c"', "=1+1"]}


def test_the_line_of_a_row_is_where_it_begins(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text('a,b\n1,"x\ny\nz"\n\n2,y\n')
    assert list(read_table(tmp_path / "t.csv").lines) == [2, 6]


def test_a_comma_in_the_cells_of_a_semicolon_table_parts_nothing(tmp_path: Path) -> None:
    assert read(tmp_path, b"a;b\n1,5;x, y\n") == {"a": ["1,5"], "b": ["x, y"]}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b"\n", "is empty"),
        (b"a,b\n", "no row"),
        (b"a\n1\n", "one column"),
        (b"a,a\n1,2\n", "two columns named 'a'"),
        (b"a,b\n1,x\n1\n", "line 3: this row has 1 cell, and the header has 2"),
        (b"a,b\n1,x,y\n", "line 2: this row has 3 cells"),
        (b'a,b\n1,"x\n2,y\n', "line 2: this cannot be read as CSV"),
        (b"a,b\n1,\xe9\n", "line 2: this is not UTF-8"),
        ("a,b\n1,x\n".encode("utf-16"), "not UTF-8"),
        (b"PAR1 and no more", "cannot be read as Parquet"),
        (b"sep=;\na;b\n1;2\n", "begins with 'sep='"),
    ],
)
def test_a_file_that_is_no_table_is_refused_in_a_sentence(tmp_path: Path, content: bytes, words: str) -> None:
    with pytest.raises(UsageError) as refused:
        read(tmp_path, content)
    assert words in refused.value.detail
    assert "\n" not in refused.value.detail


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No such file"):
        read_table(tmp_path / "nothing.csv")


def test_a_cell_may_be_a_long_text(tmp_path: Path) -> None:
    long = "x" * 300_000
    assert read(tmp_path, f"a,b\n1,{long}\n".encode()) == {"a": ["1"], "b": [long]}


def test_parquet_gives_the_cells_that_a_csv_would(tmp_path: Path) -> None:
    from datetime import date, datetime  # a table's moments have no zone

    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = {
        "whole": pa.array([1, None], pa.int64()),
        "real": pa.array([1.5, float("nan")]),
        "flag": pa.array([True, None]),
        "text": pa.array(["x", None]),
        "level": pa.array(["a", "b"]).dictionary_encode(),
        "day": pa.array([date(2024, 2, 3), None]),
        "midnight": pa.array([datetime.fromisoformat("2024-02-03"), None]),
        "moment": pa.array([datetime.fromisoformat("2024-02-03T04:05:06.789"), None]),
        "zone": pa.array(
            [datetime.fromisoformat("2024-02-03T04:05:06+02:00"), None], pa.timestamp("us", "Europe/Paris")
        ),
    }
    pq.write_table(pa.table(columns), tmp_path / "t.parquet")
    table = read_table(tmp_path / "t.parquet")
    assert table.columns == {
        "whole": ["1", None],
        "real": ["1.5", None],
        "flag": ["true", None],
        "text": ["x", None],
        "level": ["a", "b"],
        "day": ["2024-02-03", None],
        "midnight": ["2024-02-03", None],
        "moment": ["2024-02-03 04:05:06", None],
        "zone": ["2024-02-03T02:05:06Z", None],
    }


def test_a_parquet_column_that_no_field_can_be_is_named(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(
        pa.table({"a": [[1], [2]] * 50, "b": list(range(100)), "y": ["u", "v"] * 50}), tmp_path / "t.parquet"
    )
    table = read_table(tmp_path / "t.parquet")
    with pytest.raises(UsageError, match="column 'a' holds values of type list"):
        infer(table, Asked(target="y"), "t", "t.parquet")
    assert infer(table, Asked(target="y", drop=("a",)), "t", "t.parquet").contract.names == ("b",)
