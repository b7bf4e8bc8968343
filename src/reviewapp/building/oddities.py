"""What cells look like although they are not read so: markers of a missing value, numbers and dates in other spellings.

Nothing is decided here. Each finding is a note for a person, with the counts and the option that would decide.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Sequence

from .. import dates
from .kinds import DATE_FORMATS, FEW_VALUES, is_date, is_integer, is_number

PROBABLE_MARKERS = {
    "", "?", "na", "n/a", "n.a.", "null", "none", "nan", "-", "--", ".", "\\n", "<na>",
    "#n/a", "#div/0!", "#value!", "#ref!", "#num!", "#name?",
}  # in any case, with blanks  # fmt: skip
ODD_NUMBERS = {"unknown", "missing", "nil"}  # these, too, where all else is a number or a date
FEW_OTHERS = 0.1  # the share of other cells with which a column still looks like numbers or dates
FEW_MARKERS = 2  # or so many different others, if they are of any share and the rest differs much
SHOWN = 5
LOOKED_AT = 200  # different cells, for the ways in which a date may be written
LONGEST_DATE = 40  # characters: of long texts nobody asks
_SIGN = r"[-+]? ?[$€£]? ?[-+]?"
_NUMBER_DRESSED = re.compile(rf"{_SIGN}([0-9]{{1,3}}([., '][0-9]{{3}})+([.,][0-9]+)?|[0-9]+([.,][0-9]+)?) ?[%$€£]?")
_LOOKS_LIKE_A_DATE = re.compile(
    r"[0-9]{4}([-./])[0-9]{1,2}\1[0-9]{1,2}([T ]|$)|[0-9]{1,2}([-./])[0-9]{1,2}\3[0-9]{2,4}([T ]|$)|[0-9]{8}T[0-9]"
    r"|.*\b[0-9]{1,2}\b.*(jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*\b.*\b[0-9]{2,4}\b"
    r"|(jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*\b.*\b[0-9]{1,2}\b.*\b[0-9]{2,4}\b",
    re.IGNORECASE,
)


def probable_markers(cells: Sequence[str], more: Collection[str] = ()) -> Counter[str]:
    """Return the texts that probably stand for a missing value, with their counts."""
    return Counter(cell for cell in cells if cell.strip().lower() in PROBABLE_MARKERS or cell.strip().lower() in more)


def counted(texts: Counter[str]) -> str:
    """Return texts with the number of their rows, in words."""
    return ", ".join(f"{text!r} in {rows_in_words(n)}" for text, n in texts.items())


def rows_in_words(n: int) -> str:
    return f"{n:,} row{'' if n == 1 else 's'}"


def as_options(texts: Collection[str]) -> str:
    """Return what to type so that texts are taken as missing."""
    return " ".join(f"--na {text!r}" for text in texts)


def are_dressed_numbers(cells: Sequence[str]) -> bool:
    """Whether all cells are numbers as people write them, some with commas or signs: $12.30, 37 %, 1.234,50."""
    stripped = {cell.strip() for cell in cells}
    return all(map(_NUMBER_DRESSED.fullmatch, stripped)) and not all(cell.isdigit() for cell in stripped)


def looks_like(cells: Sequence[str]) -> str | None:
    """Return what texts look like, which are read as texts, and what to do if that is what they are; else None."""
    if are_dressed_numbers(cells):
        return "looks like numbers with commas or signs; written plainly, as 1234.5, they would be numbers"
    counts = Counter(cells)
    if all(is_number(cell.strip()) for cell in counts) and not all(is_integer(cell.strip()) for cell in counts):
        return "looks like numbers, some of them beyond 64 bits: in a larger unit they would be numbers"
    numbers = Counter({cell: n for cell, n in counts.items() if not is_number(cell.strip())})
    written = _likeliest_format(counts)
    days = Counter({cell: n for cell, n in counts.items() if not is_date(cell.strip(), written)}) if written else counts
    for what, others in (("numbers", numbers), (f"dates written {dates.words(written or '')}", days)):
        share = others.total() / len(cells)
        if others and (share <= FEW_OTHERS or (len(others) <= FEW_MARKERS and len(counts) > FEW_VALUES)):
            return _apart_from(others, what, share)
    if written and not days:
        return f"looks like dates written {dates.words(written)}"
    dated = sum(n for cell, n in counts.items() if len(cell) <= LONGEST_DATE and _LOOKS_LIKE_A_DATE.match(cell.strip()))
    if dated >= (1 - FEW_OTHERS) * len(cells):
        return "looks like dates, written in more than one way or in one that is not known; as YYYY-MM-DD they would be"
    return None


def _likeliest_format(counts: Counter[str]) -> str | None:
    """Return the date format that most different cells are written in, or None."""
    different = [cell.strip() for cell in counts]
    patterns = {form: re.compile(dates.pattern(form)) for form in DATE_FORMATS}
    possible = [form for form, pattern in patterns.items() if any(map(pattern.fullmatch, different[:LOOKED_AT]))]
    found = {form: sum(is_date(cell, form) for cell in different) for form in possible}
    return max(found, key=lambda form: found[form]) if found and max(found.values()) else None


def _apart_from(others: Counter[str], what: str, share: float) -> str:
    few = Counter(dict(others.most_common(SHOWN)))
    more = len(others) - len(few)
    rest = f" and {more:,} more in {rows_in_words(others.total() - few.total())}" if more else ""
    na = "" if more else f", or, if it means missing: {as_options(few)}"
    if share <= FEW_OTHERS:
        return f"nearly all values are {what}, but not {counted(few)}{rest}: mend the table{na}"
    return f"apart from {counted(few)}, all values are {what}: mend the table{na}"
