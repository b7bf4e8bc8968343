"""What IN names → files of one kind → partitions: so many rows of one file each.

A file, a folder (its own files, by name) or a pattern; local, or at any address that fsspec knows. A mistake of a file
(its header, its encoding, a quote that nobody closes) is found here, before anything is answered.
"""

from __future__ import annotations

import csv
import gc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import PurePosixPath
from typing import Any, cast

import fsspec

from .. import csvfiles
from ..bodies import REFERENCE
from ..bulk import check_header, in_words
from ..contract import Contract
from ..errors import InvalidInput, UsageError
from .scanning import Cutter, Digest, Piece, Quoted, cut_exactly, cut_lines, cut_quickly, header, sized
from .tables import CSV, JSON_LINES, PARQUET, Header, Table, read_csv, read_json_lines, read_parquet

ROWS = 20_000  # of a partition: so many are in the memory of a worker
BYTES = 16 << 20  # or fewer, where they are long
HEAD = 1 << 20  # bytes in which a header ends
KINDS = {
    ".csv": CSV, ".tsv": CSV, ".jsonl": JSON_LINES, ".ndjson": JSON_LINES, ".parquet": PARQUET, ".pq": PARQUET,
}  # fmt: skip
ENDINGS = "CSV (.csv, .tsv), JSON Lines (.jsonl, .ndjson) or Parquet (.parquet, .pq)"


@dataclass(frozen=True)
class Source:
    """A file: its address, and what it held when it was planned."""

    url: str
    size: int
    sha256: str
    rows: int


@dataclass(frozen=True)
class Part:
    """A partition: `rows` rows of a file, of which the first is number `first` of all rows, from 1 on.

    They are the bytes from `start` to `end`; in Parquet the rows from `start` on of a row group, `group`.
    """

    number: int
    url: str
    first: int
    rows: int
    start: int
    end: int
    line: int = 0
    group: int = 0


@dataclass(frozen=True)
class Plan:
    """All that is to be answered, in order."""

    kind: str
    header: Header
    sources: tuple[Source, ...]
    parts: tuple[Part, ...]

    @property
    def rows(self) -> int:
        return sum(source.rows for source in self.sources)

    def as_json(self) -> dict[str, Any]:
        """Return what a run that goes on compares."""
        return {
            "kind": self.kind,
            "columns": list(self.header.names),
            "files": [asdict(source) for source in self.sources],
            "partitions": [[part.url, part.rows, part.group, part.start, part.end] for part in self.parts],
        }


def kind_of(name: str) -> str:
    """Return the kind of a file by the ending of its name; raise UsageError."""
    kind = KINDS.get(PurePosixPath(name).suffix.lower())
    if kind is None:
        raise UsageError(f"{name}: what it is must be told by its ending; {ENDINGS} are known.")
    return kind


def files(given: str) -> list[str]:
    """Return the addresses of the files that IN names; raise UsageError where there is none."""
    try:
        system, path = fsspec.core.url_to_fs(given)
        if system.isfile(path):
            found = [path]
        elif system.isdir(path):
            found = [str(one["name"]) for one in system.ls(path, detail=True) if one["type"] == "file"]
        else:
            found = [name for name in system.glob(path) if system.isfile(name)]
        if found != [path]:  # what programs keep beside the files of a folder is none of them
            found = [name for name in found if not name.rsplit("/", 1)[-1].startswith((".", "_"))]
    except (ValueError, ImportError, OSError) as error:
        raise UsageError(f"{given} cannot be read: {error}.") from None
    if not found:
        raise UsageError(f"{given} names no file.")
    return [system.unstrip_protocol(name) for name in sorted(found)]


def plan(given: str, contract: Contract, urls: Sequence[str] = ()) -> Plan:
    """Find the partitions of all files, or of `urls`; raise UsageError for what is wrong with one or with all."""
    urls = urls or files(given)
    kinds = {kind_of(url) for url in urls}
    if len(kinds) > 1:
        raise UsageError(
            f"{given} names files of several kinds: {', '.join(sorted(kinds))}. Answer each kind by itself."
        )
    [kind] = kinds
    sources: list[Source] = []
    parts: list[Part] = []
    first_header: Header | None = None
    for url in urls:
        try:
            found, pieces, source = _PLANS[kind](url, contract)
        except InvalidInput as error:
            raise UsageError(f"{url}: {in_words(error)}.") from None
        except csvfiles.NotCSV as error:
            raise UsageError(f"{url}: {error.detail}") from None
        if first_header is not None and found != first_header:
            raise UsageError(
                f"{url} has other columns than {urls[0]}, in another order or parted otherwise: answer it by itself."
            )
        first_header = first_header or found
        before = sum(one.rows for one in sources)
        for piece, group in pieces:
            parts.append(Part(len(parts), url, before + 1, piece.rows, piece.start, piece.end, piece.line, group))
            before += piece.rows
        sources.append(source)
    made = Plan(kind, cast(Header, first_header), tuple(sources), tuple(parts))
    if not made.rows:
        raise UsageError(f"{given} holds no row.")
    return made


_Found = tuple[Header, Sequence[tuple[Piece, int]], Source]


def _source(url: str, size: int, sha256: str, pieces: Sequence[Piece]) -> Source:
    return Source(url, size, sha256, sum(piece.rows for piece in pieces))


def _plan_csv(url: str, contract: Contract) -> _Found:
    known = {*contract.names, REFERENCE.name}
    with fsspec.open(url, "rb") as file:
        head = file.read(HEAD)
    csvfiles.check_text(head if len(head) < HEAD else head[: head.rfind(b"\n") + 1])
    names, delimiter, start, line = header(head, known)
    check_header(names, contract)
    digest = Digest(text=True)
    try:
        with fsspec.open(url, "rb") as file:
            cutter = Cutter(start, line, ROWS, BYTES)
            pieces = cut_quickly(digest.blocks(file), delimiter, cutter)
    except Quoted:
        sha256, size = _digest(url)
        with fsspec.open(url, "rb") as file:
            pieces = cut_exactly(file, delimiter, Cutter(start, line, ROWS, BYTES))
    else:
        sha256, size = digest.hexdigest(), digest.size
    return Header(tuple(names), delimiter), [(piece, 0) for piece in pieces], _source(url, size, sha256, pieces)


def _digest(url: str) -> tuple[str, int]:
    digest = Digest(text=True)
    with fsspec.open(url, "rb") as file:
        for _ in digest.blocks(file):
            pass
    return digest.hexdigest(), digest.size


def _plan_lines(url: str, contract: Contract) -> _Found:
    digest = Digest(text=False)
    with fsspec.open(url, "rb") as file:
        pieces = cut_lines(digest.blocks(file), Cutter(0, 0, ROWS, BYTES))
    source = _source(url, digest.size, digest.hexdigest(), pieces)
    return Header(contract.names), [(piece, 0) for piece in pieces], source


def _plan_parquet(url: str, contract: Contract) -> _Found:
    import pyarrow as pa  # noqa: PLC0415 (large, and needed for Parquet alone)
    import pyarrow.parquet as pq  # noqa: PLC0415 (as above)

    with fsspec.open(url, "rb") as file:
        sha256, size = sized(file)
    try:
        with fsspec.open(url, "rb") as file, pq.ParquetFile(file) as parquet:
            schema, metadata = parquet.schema_arrow, parquet.metadata
            groups = [metadata.row_group(number).num_rows for number in range(metadata.num_row_groups)]
    except (pa.ArrowException, OSError) as error:
        raise UsageError(f"{url} cannot be read as Parquet: {str(error).splitlines()[0]}") from None
    check_header(schema.names, contract)
    for column in schema:
        if not _is_plain(column.type):
            raise UsageError(f"{url}: column {column.name!r} holds {column.type}, which no field of a request can be.")
    pieces = [
        (Piece(start, min(start + ROWS, rows), min(ROWS, rows - start)), group)
        for group, rows in enumerate(groups)
        for start in range(0, rows, ROWS)
    ]
    return (
        Header(tuple(schema.names), types=tuple(schema.types)),
        pieces,
        _source(url, size, sha256, [piece for piece, _ in pieces]),
    )


def _is_plain(kind: Any) -> bool:
    """Whether values of an Arrow type can be those of a field."""
    from pyarrow import types  # noqa: PLC0415 (as above)

    if types.is_dictionary(kind):
        return _is_plain(kind.value_type)
    plain = (
        types.is_integer, types.is_floating, types.is_boolean, types.is_string, types.is_large_string,
        types.is_string_view, types.is_date, types.is_timestamp, types.is_decimal, types.is_null,
    )  # fmt: skip
    return any(one(kind) for one in plain)


_PLANS = {CSV: _plan_csv, JSON_LINES: _plan_lines, PARQUET: _plan_parquet}


def read(part: Part, kind: str, names: Header, contract: Contract) -> Table:
    """Read a partition; raise UsageError where its file cannot be read there, though it could be planned."""
    try:
        with _no_collection():
            return _read(part, kind, names, contract)
    except (ValueError, OSError, csv.Error) as error:  # those of Arrow are ValueError or OSError, too
        raise UsageError(
            f"{part.url} cannot be read at row {part.first:,} or in the {part.rows:,} rows from there on: {error}."
        ) from None


@contextmanager
def _no_collection() -> Iterator[None]:
    """Let Python look for no garbage meanwhile: so many new lists make it look again and again, and find nothing."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _read(part: Part, kind: str, names: Header, contract: Contract) -> Table:
    if kind == PARQUET:
        return read_parquet(_columns(part), names, part.first, contract)
    with fsspec.open(part.url, "rb") as file:
        file.seek(part.start)
        content = file.read(part.end - part.start)
    if kind == CSV:
        return read_csv(content, names, part.first, part.line, contract)
    return read_json_lines(content, names, part.first, contract)


def _columns(part: Part) -> dict[str, list[Any]]:
    """Return the columns of a partition of a Parquet file; what lies before it in its row group is passed over."""
    import pyarrow.parquet as pq  # noqa: PLC0415 (as above)

    skip, found = part.start, list[Any]()
    with fsspec.open(part.url, "rb") as file, pq.ParquetFile(file, pre_buffer=False) as parquet:
        for batch in parquet.iter_batches(ROWS, row_groups=[part.group], use_threads=False):
            missing = part.rows - sum(len(one) for one in found)
            if not missing:
                break
            if skip < len(batch):
                found.append(batch.slice(skip, missing))
            skip = max(0, skip - len(batch))
    names = found[0].schema.names
    return {name: [value for one in found for value in _values(one.column(name))] for name in names}


class Beyond(int):
    """A date beyond those of Python, which end with the year 9999: the number in the file, which is read as no date."""

    def __str__(self) -> str:
        return f"{int(self)}, which is no date up to the year 9999"


def _values(column: Any) -> list[Any]:
    """Return the values of an Arrow array."""
    try:
        return list(column.to_pylist())
    except OverflowError:
        plain = column.dictionary_decode() if hasattr(column, "dictionary_decode") else column
        return [_value(scalar) for scalar in plain]


def _value(scalar: Any) -> Any:
    try:
        return scalar.as_py()
    except OverflowError:
        return Beyond(scalar.value)
