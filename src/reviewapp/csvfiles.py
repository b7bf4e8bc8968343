"""CSV as people's programs write it: read strictly and by line, written so that no spreadsheet runs a cell.

Read: UTF-8 with or without a byte order mark; comma, semicolon or tab; lines end as they like; quotes may hold line
breaks. Cells are text, nothing is guessed. Written: every cell quoted, lines ended by CR LF, formulas made text.
"""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections.abc import Collection, Iterable, Iterator, Sequence

DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab"}
LONGEST_CELL = 2**31 - 1  # a cell may be a long text; the csv module itself stops at 131,072 characters
_SAVE = "save the file as CSV in UTF-8 (in Excel: CSV UTF-8)."
NOT_UTF8, HAS_NUL = f"this is not UTF-8; {_SAVE}", f"here is a NUL character; {_SAVE}"
_LINE_END = re.compile(rb"\r\n|\r|\n")
_NUMBER = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?")
# What a spreadsheet takes for the beginning of a formula (OWASP, CSV Injection), and the full-width forms of it.
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")


class NotCSV(Exception):
    """The file cannot be read as CSV: in which line (1-based), and why; `detail` says both."""

    def __init__(self, line: int, reason: str) -> None:
        self.line, self.reason, self.detail = line, reason, f"Line {line}: {reason}"
        super().__init__(self.detail)


# ---- reading ----------------------------------------------------------------------------------------------------


def check_text(content: bytes) -> None:
    """Raise NotCSV where a file is not UTF-8, or holds a NUL, as UTF-16 does."""
    try:
        content.decode()
    except UnicodeDecodeError as error:
        raise NotCSV(_line_of(content, error.start), NOT_UTF8) from None
    nul = content.find(b"\0")
    if nul >= 0:
        raise NotCSV(_line_of(content, nul), HAS_NUL)


def _line_of(content: bytes, place: int) -> int:
    return len(_LINE_END.findall(content, 0, place)) + 1


def delimiters(content: bytes | Sequence[str], known: Collection[str] = ()) -> list[str]:
    """Return the signs that may part the cells, the likeliest first, by the header alone: of a file, or of its lines.

    That is the one which makes the most `known` names of it, else the most names.
    """

    def names(delimiter: str) -> tuple[int, int]:
        lines = records(content, delimiter) if isinstance(content, bytes) else parse(content, delimiter)
        try:
            _, header = next(lines, (0, []))
        except NotCSV:
            return 0, 0
        return sum(name in known for name in header), len(header)

    return sorted(DELIMITERS, key=names, reverse=True)


def records(content: bytes, delimiter: str, begins: int = 1) -> Iterator[tuple[int, list[str]]]:
    """Yield each record with the line that it begins in, the header first; empty lines after it are left out.

    A file that begins with an empty line has the header []. Raises NotCSV where quotes are not closed, or are
    followed by more. The content has passed `check_text`. Of a piece of a file, `begins` is its first line.
    """
    encoding = "utf-8-sig" if begins == 1 else "utf-8"
    return parse(io.TextIOWrapper(io.BytesIO(content), encoding=encoding, newline=""), delimiter, begins=begins)


def parse(
    lines: Iterable[str], delimiter: str, longest: int = LONGEST_CELL, begins: int = 1
) -> Iterator[tuple[int, list[str]]]:
    """Yield the records of lines, each with its end; raises NotCSV for one of more than `longest` characters, too.

    A quote that nobody closes makes one record of all that follows, which would fill the memory.
    """
    csv.field_size_limit(LONGEST_CELL)
    before, size = begins - 1, 0

    def counted() -> Iterator[str]:
        nonlocal size
        for line in lines:
            size += len(line)
            if size > longest:
                raise NotCSV(begins, f"this row has more than {longest:,} characters; perhaps a quote is not closed.")
            yield line

    reader = csv.reader(counted(), delimiter=delimiter, strict=True)
    try:
        for cells in reader:
            if cells or begins == 1:
                yield begins, cells
            begins, size = before + reader.line_num + 1, 0
    except csv.Error as error:
        raise NotCSV(begins, f"this cannot be read as CSV ({error}).") from None


def rows(content: bytes, delimiter: str) -> list[list[str]]:
    """Return the records of a piece of a file that holds whole ones, and not the header, in a third of the time."""
    csv.field_size_limit(LONGEST_CELL)
    reader = csv.reader(io.StringIO(content.decode(), newline=""), delimiter=delimiter, strict=True)
    return [cells for cells in reader if cells]


def decoded(lines: Iterable[bytes]) -> Iterator[str]:
    """Yield the lines of a file as text; raises NotCSV at the one that is not UTF-8, or holds a NUL."""
    for number, line in enumerate(lines, 1):
        try:
            text = (line.removeprefix(codecs.BOM_UTF8) if number == 1 else line).decode()
        except UnicodeDecodeError:
            raise NotCSV(number, NOT_UTF8) from None
        if "\0" in text:
            raise NotCSV(number, HAS_NUL)
        yield text


def header_lines(lines: Iterator[str], longest: int) -> list[str]:
    """Return the lines that the header is made of, perhaps some more: as many as it takes to close its quotes."""
    found, quotes, size = list[str](), 0, 0
    for line in lines:
        found.append(line)
        quotes, size = quotes + line.count('"'), size + len(line)
        if quotes % 2 == 0 or size > longest:
            break
    return found


# ---- writing ----------------------------------------------------------------------------------------------------


def write(rows: Iterable[Sequence[str]], delimiter: str = ",") -> str:
    """Return rows as CSV, every cell quoted and made safe for a spreadsheet, each line ended by CR LF."""
    out = io.StringIO(newline="")
    writer = csv.writer(out, delimiter=delimiter, quoting=csv.QUOTE_ALL, lineterminator="\r\n")
    writer.writerows([safe(cell) for cell in row] for row in rows)
    return out.getvalue()


def write_columns(columns: Iterable[Sequence[str]], delimiter: str = ",") -> str:
    """Return columns of the same length as `write` would return their rows, in a fifth of the time."""
    out = io.StringIO(newline="")
    writer = csv.writer(out, delimiter=delimiter, quoting=csv.QUOTE_ALL, lineterminator="\r\n")
    writer.writerows(zip(*map(_safe_column, columns), strict=True))
    return out.getvalue()


def _safe_column(cells: Sequence[str]) -> Sequence[str]:
    """Make the cells of a column safe; hardly any column has one that begins as a formula does."""
    return cells if {cell[:1] for cell in cells}.isdisjoint(_FORMULA) else [safe(cell) for cell in cells]


def safe(cell: str) -> str:
    """Return a cell that no spreadsheet runs: an apostrophe comes before a formula; a number and a sign alone stay."""
    harmless = cell in ("+", "-") or _NUMBER.fullmatch(cell)
    return f"'{cell}" if cell.startswith(_FORMULA) and not harmless else cell
