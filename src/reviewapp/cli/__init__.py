"""The `reviewapp` command. Exit codes: 0 done, 1 a check failed, 2 wrong use or wrong input (one sentence).

`group` is the command itself; the others add to it, each what one person does: `building` makes a release,
`operating` runs the service, `reading` tells what is there and moves what is live.
"""

from . import building, group, operating, reading
from .group import main

__all__ = ["building", "group", "main", "operating", "reading"]
