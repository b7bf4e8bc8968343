"""Where the records of a file end, found a block at a time without reading their cells.

In CSV a line end within quotes ends nothing. Where each quote opens or closes a whole cell, a line end is outside of
them when an even number of quotes lies before it, which one look at the bytes tells. A file with any other quote (as
in `5" screen`, which is text to the csv module, too) is read by the csv module itself: slower, and by the very rule.
"""

from __future__ import annotations

import codecs
import csv
import hashlib
import io
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from .. import csvfiles

BLOCK = 4 << 20  # bytes
QUOTE, LF, CR = b'"\n\r'
_AT_ONCE = 10_000
_BLANK = b" \t\r\n"

Bytes = NDArray[np.uint8]
Places = NDArray[np.intp]


class Quoted(Exception):
    """The file has quotes that do not enclose whole cells, or that are not closed."""


@dataclass(frozen=True)
class Piece:
    """Whole records: the bytes from `start` to `end`, `rows` of them, the first one in line `line`."""

    start: int
    end: int
    rows: int
    line: int = 0


@dataclass
class Cutter:
    """Cuts records into pieces of at most so many rows, and of about so many bytes, the first one from `start` on."""

    start: int
    line: int
    most_rows: int
    most_bytes: int
    pieces: list[Piece] = field(default_factory=list)
    rows: int = 0
    end: int = 0

    def feed(self, ends: Places, filled: NDArray[np.bool_], lines: Places) -> None:
        """Take the next records: where each ends, whether it is one (not an empty line), and how many lines that is."""
        counts = np.cumsum(filled)
        done = 0
        while True:
            by_rows = int(np.searchsorted(counts, self.most_rows - self.rows + done))
            by_bytes = int(np.searchsorted(ends, self.start + self.most_bytes))
            cut = min(by_rows, by_bytes)
            if cut >= len(ends):
                break
            self.rows += int(counts[cut]) - done
            self.end, done = int(ends[cut]), int(counts[cut])
            self._cut(int(lines[cut]) + 1)
        if len(ends):
            self.rows += int(counts[-1]) - done
            self.end = max(self.end, int(ends[-1]))

    def close(self) -> list[Piece]:
        if self.rows:
            self._cut(0)
        return self.pieces

    def _cut(self, next_line: int) -> None:
        if self.rows:
            self.pieces.append(Piece(self.start, self.end, self.rows, self.line))
        self.start, self.rows, self.line = self.end, 0, next_line


class Digest:
    """Reads a file's blocks on their way; `text` refuses what is not UTF-8 or holds a NUL."""

    def __init__(self, *, text: bool) -> None:
        self._sha256, self._lines, self._cr = hashlib.sha256(), 0, False
        self._decoder = codecs.getincrementaldecoder("utf-8")() if text else None
        self.size = 0

    def blocks(self, file: IO[bytes]) -> Iterator[bytes]:
        while block := file.read(BLOCK):
            self._sha256.update(block)
            self.size += len(block)
            if self._decoder is not None:
                self._check(block, self._decoder)
            yield block
        if self._decoder is not None and self._decoder.getstate()[0]:
            raise csvfiles.NotCSV(self._lines + 1, csvfiles.NOT_UTF8)

    def _check(self, block: bytes, decoder: codecs.IncrementalDecoder) -> None:
        kept = len(decoder.getstate()[0])
        try:
            decoder.decode(block)
        except UnicodeDecodeError as error:
            raise csvfiles.NotCSV(self._line(block[: max(0, error.start - kept)]), csvfiles.NOT_UTF8) from None
        nul = block.find(b"\0")
        if nul >= 0:
            raise csvfiles.NotCSV(self._line(block[:nul]), csvfiles.HAS_NUL)
        self._lines, self._cr = self._line(block) - 1, block.endswith(b"\r")

    def _line(self, block: bytes) -> int:
        ends = block.count(b"\n") + block.count(b"\r") - block.count(b"\r\n")
        return self._lines + ends - (self._cr and block.startswith(b"\n")) + 1

    def hexdigest(self) -> str:
        return self._sha256.hexdigest()


# ---- CSV --------------------------------------------------------------------------------------------------------


def header(head: bytes, known: set[str]) -> tuple[list[str], str, int, int]:
    """Return the names in a file's header, the delimiter, where the header ends, and the number of the next line."""
    delimiter = csvfiles.delimiters(head, known)[0]
    _, names = next(csvfiles.records(head, delimiter), (1, []))
    end, _, lines = next(exact(io.BytesIO(head), delimiter), (0, False, 0))
    return names, delimiter, end, lines + 1


def exact(file: IO[bytes], delimiter: str) -> Iterator[tuple[int, bool, int]]:
    """Yield where each record ends, whether it is one, and how many lines that is, by the csv module."""
    read = 0

    def lines() -> Iterator[str]:
        nonlocal read
        text = io.TextIOWrapper(file, encoding="utf-8", newline="")
        for line in text:
            read += len(line.encode())
            yield line.removeprefix("\ufeff") if read == len(line.encode()) else line
        text.detach()

    csv.field_size_limit(csvfiles.LONGEST_CELL)
    reader = csv.reader(lines(), delimiter=delimiter, strict=True)
    begins = 1
    try:
        for cells in reader:
            yield read, bool(cells), reader.line_num
            begins = reader.line_num + 1
    except csv.Error as error:
        raise csvfiles.NotCSV(begins, f"this cannot be read as CSV ({error}).") from None


def cut_exactly(file: IO[bytes], delimiter: str, cutter: Cutter) -> list[Piece]:
    """Cut a CSV file, given from its begin, by the csv module."""
    found = islice(exact(file, delimiter), 1, None)
    while some := list(islice(found, _AT_ONCE)):
        ends, filled, lines = (np.array(one) for one in zip(*some, strict=True))
        cutter.feed(ends, filled, lines)
    return cutter.close()


def cut_quickly(blocks: Iterator[bytes], delimiter: str, cutter: Cutter) -> list[Piece]:
    """Cut a CSV file, given from its begin; raise Quoted where only the csv module can."""
    at, lines, pending, skip = cutter.start, cutter.line - 1, b"", cutter.start
    sign = ord(delimiter)
    for block in blocks:
        data, skip = block[skip:], max(0, skip - len(block))
        pending += data
        taken, counted = _records(pending, at, lines, sign, cutter, last=False)
        at, lines, pending = at + taken, lines + counted, pending[taken:]
    if pending:
        _records(pending, at, lines, sign, cutter, last=True)
    return cutter.close()


def _records(data: bytes, at: int, lines: int, sign: int, cutter: Cutter, *, last: bool) -> tuple[int, int]:
    """Hand the whole records at the beginning of some bytes on; return how many bytes and lines they are."""
    if last and not data.endswith((b"\n", b"\r")):
        data += b"\n"
    signs: Bytes = np.frombuffer(data, dtype=np.uint8)
    quotes = np.flatnonzero(signs == QUOTE)
    ends = _line_ends(data, signs, last=last)
    outside = np.searchsorted(quotes, ends) % 2 == 0
    whole = ends[outside]
    if not len(whole):
        if last:
            raise Quoted
        return 0, 0
    taken = int(whole[-1]) + 1
    if last and taken < len(data):
        raise Quoted  # a quote that nobody closes; the csv module says where
    _check_quotes(signs, quotes[: np.searchsorted(quotes, taken)], sign)
    starts = np.concatenate([[0], whole[:-1] + 1])
    two = (signs[whole] == LF) & (whole > starts) & (signs[whole - 1] == CR)
    filled = whole - two > starts
    numbers = np.flatnonzero(outside) + 1
    cutter.feed(at + whole + 1, filled, lines + numbers)
    return taken, int(numbers[-1])


def _line_ends(data: bytes, signs: Bytes, *, last: bool) -> Places:
    """Return the places of the last sign of each line end: LF, CR LF or CR."""
    if b"\r" not in data:
        return np.flatnonzero(signs == LF)
    lone = np.flatnonzero(signs == CR)
    following = signs[np.minimum(lone + 1, len(signs) - 1)]
    lone = lone[(following != LF) & ((lone + 1 < len(signs)) | last)]  # at the end an LF may still come
    return np.sort(np.concatenate([np.flatnonzero(signs == LF), lone]))


def _check_quotes(signs: Bytes, quotes: Places, sign: int) -> None:
    """Raise Quoted unless quotes open at the beginning of a cell, close at its end, or stand for one within."""
    parts = np.zeros(256, dtype=np.bool_)
    parts[[sign, LF, CR, QUOTE]] = True
    opening, closing = quotes[0::2], quotes[1::2]
    before = signs[opening[opening > 0] - 1]
    after = signs[closing + 1]  # each is followed by the line end, at least
    if not (parts[before].all() and parts[after].all()):
        raise Quoted


# ---- JSON Lines -------------------------------------------------------------------------------------------------


def cut_lines(blocks: Iterator[bytes], cutter: Cutter) -> list[Piece]:
    """Cut a file of lines; blank ones are no records."""
    at, pending = 0, b""
    for block in blocks:
        pending += block
        taken = pending.rfind(b"\n") + 1
        _feed_lines(pending[:taken], at, cutter)
        at, pending = at + taken, pending[taken:]
    if pending:
        _feed_lines(pending + b"\n", at, cutter)
        cutter.end = min(cutter.end, at + len(pending))
    return cutter.close()


def _feed_lines(data: bytes, at: int, cutter: Cutter) -> None:
    signs: Bytes = np.frombuffer(data, dtype=np.uint8)
    ends = np.flatnonzero(signs == LF)
    starts = np.concatenate([[0], ends[:-1] + 1]) if len(ends) else ends
    filled = np.ones(len(ends), dtype=np.bool_)
    for number in np.flatnonzero(np.isin(signs[starts], list(_BLANK))).tolist():
        filled[number] = bool(data[starts[number] : ends[number]].strip(_BLANK))
    cutter.feed(at + ends + 1, filled, np.zeros(len(ends), dtype=np.intp))


def sized(file: Any) -> tuple[str, int]:
    """Return the digest and the size of a file that is read to its end."""
    digest = Digest(text=False)
    for _ in digest.blocks(file):
        pass
    return digest.hexdigest(), digest.size
