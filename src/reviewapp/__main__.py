"""The entry of the `reviewapp` command and of `python -m reviewapp`."""

from __future__ import annotations

import os

from .config import NUMERIC_THREADS


def main() -> None:
    # Before NumPy is loaded: one thread inside numeric libraries, the same digits on every run.
    os.environ.update(NUMERIC_THREADS)
    from .cli import main as command  # noqa: PLC0415 (see above)

    command(prog_name="reviewapp")


if __name__ == "__main__":
    main()
