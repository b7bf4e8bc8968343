"""The operator's own list of types that a model may hold beside scikit-learn's: `trusted_types.json` in the instance.

Trusting a type means running its code. So the list is written by the operator alone (`reviewapp build --trust TYPE`),
lies with the instance, and is never part of a release: a release cannot vouch for itself.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path

from .errors import ReleaseRefused

FILE = "trusted_types.json"


class TrustedTypes:
    """The list in one instance folder: each type with the folder that its module is imported from."""

    def __init__(self, instance: Path) -> None:
        self.instance = instance
        self._path = instance / FILE

    def names(self) -> tuple[str, ...]:
        """Return the types, their modules made importable; raise ReleaseRefused where the file cannot be understood."""
        listed = self._read()
        for folder in listed.values():
            if folder and folder not in sys.path:
                sys.path.append(folder)  # at the end: it can add modules, and replace none
        return tuple(listed)

    def folders(self) -> dict[str, Path]:
        """Return the types with the folders of their modules."""
        return {name: Path(folder) for name, folder in self._read().items()}

    def add(self, folders: Mapping[str, Path]) -> None:
        """Add types, each with the folder that its module lies in; the file is replaced in one step."""
        if not folders:
            return
        listed = self._read() | {name: str(folder) for name, folder in folders.items()}
        document = [{"type": name, "folder": where} for name, where in sorted(listed.items())]
        self._path.parent.mkdir(parents=True, exist_ok=True)
        fresh = self._path.with_suffix(f".{os.getpid()}")
        fresh.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        fresh.replace(self._path)

    def _read(self) -> dict[str, str]:
        try:
            listed = json.loads(self._path.read_text(encoding="utf-8"))
            return {str(one["type"]): str(one["folder"]) for one in listed}
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, TypeError, KeyError):
            raise ReleaseRefused(
                f"{self._path} must be a list of objects with type and folder; mend or remove it."
            ) from None
