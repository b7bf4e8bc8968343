"""Dates as text in a table's own format: a day (%Y %m %d) and, where the table has it, a time (%H %M, then %S).

A month, day or hour without a leading zero is %-m, %-d or %-H, as the C library writes it; such formats are put into
text here, because not every system's strftime knows them.
"""

from __future__ import annotations

import re
from datetime import datetime

ISO_DATE = "%Y-%m-%d"
_CODE = re.compile("%(-?.)")
_DIGITS = {
    "Y": "[0-9]{4}", "m": "[0-9]{2}", "d": "[0-9]{2}", "H": "[0-9]{2}", "M": "[0-9]{2}", "S": "[0-9]{2}",
    "-m": "[1-9][0-9]?", "-d": "[1-9][0-9]?", "-H": "[0-9]{1,2}",
}  # fmt: skip
_PEOPLE_WRITE = {
    "Y": "YYYY", "m": "MM", "d": "DD", "H": "hh", "M": "mm", "S": "ss", "-m": "M", "-d": "D", "-H": "h",
}  # fmt: skip
_POSSIBLE = ("Ydm", "HMYdm", "HMSYdm")  # the parts that a format may have, sorted


def parse(text: str, date_format: str) -> datetime:
    """Return the moment that `text` names in just this format; raise ValueError where it names none."""
    moment = datetime.strptime(text, date_format.replace("%-", "%"))  # noqa: DTZ007 (a table's dates have no zone)
    if written(moment, date_format) != text:  # strptime takes 2026-1-5 for %Y-%m-%d
        raise ValueError("not written in the format")
    return moment


def written(moment: datetime, date_format: str) -> str:
    """Return a moment in a format; a year has four digits."""
    parts = {
        "Y": f"{moment.year:04}", "m": f"{moment.month:02}", "d": f"{moment.day:02}",
        "H": f"{moment.hour:02}", "M": f"{moment.minute:02}", "S": f"{moment.second:02}",
        "-m": str(moment.month), "-d": str(moment.day), "-H": str(moment.hour),
    }  # fmt: skip
    return _CODE.sub(lambda code: parts[code[1]], date_format)


def words(date_format: str) -> str:
    """Return a format as people write it: DD/MM/YYYY."""
    return _CODE.sub(lambda code: _PEOPLE_WRITE[code[1]], date_format)


def pattern(date_format: str) -> str:
    """Return a regular expression that every date written in the format matches; raise ValueError for no format."""
    parts = _CODE.split(date_format)
    codes = parts[1::2]
    if "".join(sorted(code[-1] for code in codes)) not in _POSSIBLE or not _DIGITS.keys() >= {*codes}:
        raise ValueError(
            "a date is written with one %Y, one %m and one %d, and may have %H, %M and %S; "
            "without a leading zero: %-m, %-d, %-H"
        )
    return "^" + "".join(_DIGITS[p] if i % 2 else _quoted(p) for i, p in enumerate(parts)) + "$"


def _quoted(signs: str) -> str:
    """Quote signs for every dialect of regular expressions: JSON Schema's knows no escaped - and /."""
    return re.sub(r"([.*+?^${}()|\[\]\\])", r"\\\1", signs)
