"""Bytes that come in pieces → lines, of which no more is in memory than a piece and what the last one left over."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator
from typing import Protocol

_END = re.compile(rb"\r\n|\r|\n")
_PIECE = 1 << 16


class Pieces(Protocol):
    """Where bytes come from."""

    def __iter__(self) -> Iterator[bytes]: ...

    def waits(self) -> bool:
        """Whether the next piece has not come yet."""


class Whole:
    """The pieces of what is in memory already."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    def __iter__(self) -> Iterator[bytes]:
        for start in range(0, len(self._content), _PIECE):
            yield self._content[start : start + _PIECE]

    def waits(self) -> bool:
        return False


class Lines:
    """Lines with their ends (LF; where they are `universal`, CR and CR LF, too).

    One longer than `longest` bytes is cut soon after, and the rest of it left out.
    """

    def __init__(self, content: bytes | Pieces, longest: int, *, universal: bool) -> None:
        self._pieces: Pieces = Whole(content) if isinstance(content, bytes) else content
        self._longest, self._universal = longest, universal
        self._coming = iter(self._pieces)
        self._ready = deque[bytes]()
        self._rest = b""
        self._cut = False  # the rest of a line is left out

    def waits(self) -> bool:
        """Whether the next line, or its end, has not come yet."""
        return not self._ready and self._pieces.waits()

    def __iter__(self) -> Lines:
        return self

    def __next__(self) -> bytes:
        while not self._ready:
            piece = next(self._coming, None)
            if piece is None:
                last, self._rest = self._rest, b""
                if not last:
                    raise StopIteration
                return last
            self._take(piece)
        return self._ready.popleft()

    def _take(self, piece: bytes) -> None:
        if self._cut:
            end = _END.search(piece) if self._universal else re.search(rb"\n", piece)
            if end is None:
                return
            piece, self._cut = piece[end.end() :], False
        text = self._rest + piece
        lines = text.splitlines(keepends=True) if self._universal else re.findall(rb"[^\n]*\n|[^\n]+", text)
        whole = text.endswith(b"\n")  # a CR at the end may have its LF in the next piece
        self._rest = lines.pop() if lines and not whole else b""
        self._ready.extend(lines)
        if len(self._rest) > self._longest:
            self._ready.append(self._rest)
            self._rest, self._cut = b"", True
