"""Terms found again in the text that they were taken from: which pieces of it moved the answer, and how."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

SEARCHED = 20_000  # characters of a text that are looked at
MARKS = 200  # so many pieces are marked; what comes after is left plain
WHOLE = 1500  # a text with more characters than this is shortened where nothing is marked
AROUND = 120  # characters that are kept on each side of a mark
# Between two words of a term. Vectorizers leave out words of one letter: "send a bill" holds the pair "send bill".
_GAP = r"\W+(?:\w\W+){0,3}?"


@dataclass(frozen=True)
class Piece:
    """A piece of a text. `amount` is what it adds to the answer, 0 where it is not marked.

    A piece with `skipped` stands for so many characters that are not shown, and has no text.
    """

    text: str
    amount: float = 0.0
    skipped: int = 0


def mark(text: str, terms: Iterable[tuple[str, float]]) -> list[Piece]:
    """Part a text into pieces, which joined are the text again, so that each term that is found stands in its own.

    `terms` are (term, what it adds to the answer). A term is found in any case, from word boundary to word boundary,
    its words over whatever stands between them; where terms overlap, the strongest has the place. A term that the text
    does not hold as it is (a custom analyser made it) marks nothing.
    """
    searched = text[:SEARCHED]
    taken: list[tuple[int, int, float]] = []
    free = bytearray(b"\x01") * len(searched)
    for term, amount in sorted(terms, key=lambda one: -abs(one[1])):
        pattern = _pattern(term) if amount else None
        for found in pattern.finditer(searched) if pattern else ():
            start, end = found.span()
            if all(free[start:end]):
                free[start:end] = bytes(end - start)
                taken.append((start, end, amount))
    pieces, at = [], 0
    for start, end, amount in sorted(taken)[:MARKS]:
        if at < start:
            pieces.append(Piece(text[at:start]))
        pieces.append(Piece(text[start:end], amount))
        at = end
    return [*pieces, Piece(text[at:])] if at < len(text) else pieces


def _pattern(term: str) -> re.Pattern[str] | None:
    words = term.split()
    if not re.search(r"\w", term):
        return None
    before = r"(?<!\w)" if re.match(r"\w", words[0]) else ""
    after = r"(?!\w)" if re.search(r"\w\Z", words[-1]) else ""
    return re.compile(before + _GAP.join(map(re.escape, words)) + after, re.IGNORECASE)


def shortened(pieces: Sequence[Piece]) -> list[Piece]:
    """Return the pieces of a long text with what stands far from every mark left out; a short text stays whole."""
    if sum(len(piece.text) for piece in pieces) <= WHOLE:
        return list(pieces)
    shown: list[Piece] = []
    for number, piece in enumerate(pieces):
        # of a text without any mark its beginning is shown
        head = AROUND if number or len(pieces) == 1 else 0
        tail = AROUND if number + 1 < len(pieces) else 0
        skipped = len(piece.text) - head - tail
        if piece.amount or skipped <= AROUND:
            shown.append(piece)
            continue
        parts = replace(piece, text=piece.text[:head]), Piece("", skipped=skipped), Piece(piece.text[head + skipped :])
        shown += [part for part in parts if part.text or part.skipped]
    return shown
