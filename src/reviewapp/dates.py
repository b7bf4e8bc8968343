"""Dates as text in a table's own format: a day (%Y %m %d) and, where the table has it, a time (%H %M, then %S)."""

from __future__ import annotations

import re
from datetime import datetime

ISO_DATE = "%Y-%m-%d"
_DIGITS = {"Y": "[0-9]{4}", "m": "[0-9]{2}", "d": "[0-9]{2}", "H": "[0-9]{2}", "M": "[0-9]{2}", "S": "[0-9]{2}"}
_PEOPLE_WRITE = {"%Y": "YYYY", "%m": "MM", "%d": "DD", "%H": "hh", "%M": "mm", "%S": "ss"}
_POSSIBLE = ("Ydm", "HMYdm", "HMSYdm")  # the parts that a format may have, sorted


def parse(text: str, date_format: str) -> datetime:
    """Return the moment that `text` names in just this format; raise ValueError where it names none."""
    moment = datetime.strptime(text, date_format)  # noqa: DTZ007 (a table's dates have no zone)
    if written(moment, date_format) != text:  # strptime takes 2026-1-5 for %Y-%m-%d
        raise ValueError("not written in the format")
    return moment


def written(moment: datetime, date_format: str) -> str:
    """Return a moment in a format; a year has four digits, which strftime does not see to on every system."""
    return moment.strftime(date_format.replace("%Y", f"{moment.year:04}"))


def words(date_format: str) -> str:
    """Return a format as people write it: DD/MM/YYYY."""
    for code, letters in _PEOPLE_WRITE.items():
        date_format = date_format.replace(code, letters)
    return date_format


def pattern(date_format: str) -> str:
    """Return a regular expression that every date written in the format matches; raise ValueError for no format."""
    parts = re.split(r"%(.)", date_format)
    if "".join(sorted(parts[1::2])) not in _POSSIBLE:
        raise ValueError("a date is written with one %Y, one %m and one %d, and may have %H, %M and %S")
    return "^" + "".join(_DIGITS[p] if i % 2 else _quoted(p) for i, p in enumerate(parts)) + "$"


def _quoted(signs: str) -> str:
    """Quote signs for every dialect of regular expressions: JSON Schema's knows no escaped - and /."""
    return re.sub(r"([.*+?^${}()|\[\]\\])", r"\\\1", signs)
