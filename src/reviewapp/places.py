"""Where templates/, static/ and the instance folder lie: inside an installed package, or in the checkout."""

from __future__ import annotations

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
