"""Estimators as skops files: written so that the same model gives the same bytes, read so that nothing runs.

Nothing is ever unpickled. The list of trusted types belongs to this code and is never read from a release; it adds
to what skops itself knows as safe (its own list of scikit-learn, NumPy and SciPy types).
"""

from __future__ import annotations

import io
import json
import zipfile
from itertools import count
from pathlib import PurePosixPath
from typing import Any

import skops.io
from skops.io.exceptions import UntrustedTypesFoundException

from .errors import ReleaseRefused

TRUSTED_TYPES: tuple[str, ...] = ()
MAX_UNPACKED = 256 << 20  # bytes; a small zip can unpack to gigabytes
_ZIP_TIME = (1980, 1, 1, 0, 0, 0)


def dump(estimator: Any) -> bytes:
    """Return the estimator in skops format, made independent of when and where in memory it was written.

    skops names arrays after object ids and stamps its zip with the time; ids and names are counted anew here, in
    the order in which the schema mentions them.
    """
    with zipfile.ZipFile(io.BytesIO(skops.io.dumps(estimator))) as packed:
        members = {name: packed.read(name) for name in packed.namelist()}
    ids: dict[int, int] = {}
    names: dict[str, str] = {}
    counter = count()

    def renamed(node: Any) -> Any:
        if isinstance(node, list):
            return [renamed(item) for item in node]
        if not isinstance(node, dict):
            return node
        fresh: dict[str, Any] = {}
        for key, value in node.items():
            if key == "_stop_words_id" and "fixed_vocabulary_" in node:
                continue  # a vectorizer's memory address of a checked list; it is made anew when needed
            if key == "__id__" and isinstance(value, int):
                fresh[key] = ids.setdefault(value, len(ids))
            elif key == "file" and isinstance(value, str) and value in members:
                if value not in names:
                    names[value] = f"{next(counter)}{PurePosixPath(value).suffix}"
                fresh[key] = names[value]
            else:
                fresh[key] = renamed(value)
        return fresh

    schema = json.dumps(renamed(json.loads(members.pop("schema.json"))), separators=(",", ":"))
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, content in [
            ("schema.json", schema.encode()),
            *sorted((names[n], c) for n, c in members.items()),
        ]:
            packed.writestr(zipfile.ZipInfo(name, _ZIP_TIME), content, zipfile.ZIP_DEFLATED, compresslevel=6)
    return out.getvalue()


def load(packed: bytes, name: str) -> Any:
    """Return the estimator in a skops file; raise ReleaseRefused where its size or its types are not to be trusted."""
    try:
        with zipfile.ZipFile(io.BytesIO(packed)) as members:
            unpacked = sum(member.file_size for member in members.infolist())
        if unpacked > MAX_UNPACKED:
            raise ReleaseRefused(f"{name} unpacks to {unpacked:,} bytes; more than {MAX_UNPACKED:,} is refused.")
        return skops.io.loads(packed, trusted=list(TRUSTED_TYPES))
    except UntrustedTypesFoundException as error:
        raise ReleaseRefused(f"{name} holds types that are not trusted: {error}") from None
    except ReleaseRefused:
        raise
    except Exception as error:  # a damaged file can fail anywhere inside zipfile, numpy, skops or scikit-learn
        raise ReleaseRefused(f"{name} cannot be read as a skops file ({type(error).__name__}).") from error
