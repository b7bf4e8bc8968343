"""The log: one line for each event, on standard error, whatever it tells of.

A failure's trace may hold what a client sent. So all that could begin a line or steer a terminal is written as Python
writes it in a text (`\\n`, `\\x1b`): nobody outside can put a line of their own into the log.
"""

from __future__ import annotations

import logging
import re

_UNSEEN = re.compile(
    r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]"
)  # controls, line ends, directions


class OneLine(logging.Formatter):
    """Formats an event, with its trace, as one line."""

    def format(self, record: logging.LogRecord) -> str:
        return _UNSEEN.sub(lambda sign: repr(sign[0])[1:-1], super().format(record))


def write_one_line_an_event() -> None:
    """Let what nobody configured otherwise be logged so: Python's own handler of last resort writes it."""
    if logging.lastResort is not None:
        logging.lastResort.setFormatter(OneLine())
