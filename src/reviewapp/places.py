"""Where templates/, static/ and the instance folder lie: inside an installed package, or in the checkout."""

from __future__ import annotations

import os
import secrets
import tempfile
from contextlib import suppress
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent


def checkout() -> Path | None:
    """Return the root of the checkout this package is run from, or None when it is installed."""
    root = PACKAGE.parent.parent
    return root if (root / "setup.cfg").is_file() and (root / "templates").is_dir() else None


def folder(name: str) -> Path:
    """Return the folder `templates` or `static`: a wheel carries them inside the package."""
    inside = PACKAGE / name
    root = checkout()
    return inside if inside.is_dir() or root is None else root / name


def default_instance() -> Path:
    """Return `instance/` of the checkout, else `instance/` of the current folder."""
    return (checkout() or Path.cwd()) / "instance"


def host(instance: Path) -> str:
    """Return the random name of this host that its instance folder keeps; empty where it can keep none."""
    path = instance / "host"
    try:
        if not path.exists():
            with tempfile.NamedTemporaryFile("w", dir=instance) as fresh, suppress(FileExistsError):
                fresh.write(secrets.token_hex(8))
                fresh.flush()
                os.link(fresh.name, path)  # of several processes, one names it
        return path.read_text(encoding="ascii")
    except OSError:
        return ""
