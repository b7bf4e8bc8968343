"""`release.json`: what a release folder holds, and whether it holds just that, unchanged.

Only the standard library is used, so that a folder which is not as it should be is refused before anything of it, or
any large library, is loaded. Nothing is followed out of the folder, and nothing is read whose kind and size are not
known before.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import platform
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.metadata import version as library_version
from itertools import islice
from pathlib import Path
from typing import Any

from .errors import ReleaseRefused

MANIFEST = "release.json"
FORMAT = 3
FORMATS = (1, 2, FORMAT)  # the first one had no engine.json, the first two no profile.json
FILES = (
    "contract.json",
    "policy.json",
    "model.skops",
    "golden.json",
    "evaluation.json",
    "card.md",
)
ENGINE = "engine.json"
PROFILE = "profile.json"  # a release that was not made from a table has none
BASELINES = ("rules.csv", "rules.json", "baseline.skops")  # a release has one of these
MAX_FILE = 256 << 20  # bytes
MAX_MANIFEST = 64 << 10  # bytes; it has 2,000
MAX_ENTRIES = 100  # of a folder that are looked at; a release has eleven
Identity = tuple[str, int, str]  # of a release: name, version, digest
LIBRARIES = ("scikit-learn", "numpy", "scipy", "pandas", "skops")
_KINDS = {"format": int, "name": str, "version": int, "digest": str, "files": dict, "libraries": dict, "seed": int}


def read_manifest(path: Path, expected_digest: str | None = None) -> dict[str, Any]:
    """Return the manifest of a folder, found to have its own digest and the one expected; raise ReleaseRefused."""
    if not os.path.isdir(path):  # noqa: PTH112 (of one that may not be looked into, Path.is_dir raises)
        raise ReleaseRefused("There is no such folder.")
    manifest = parsed(_content(path / MANIFEST, MAX_MANIFEST), MANIFEST)
    if not isinstance(manifest, dict) or {k: type(v) for k, v in manifest.items()} != _KINDS:
        raise ReleaseRefused(f"{MANIFEST} must hold just {', '.join(_KINDS)}, each of its own kind.")
    if manifest["format"] not in FORMATS:
        known = f"{', '.join(map(str, FORMATS[:-1]))} and {FORMAT}"
        raise ReleaseRefused(f"It has format {manifest['format']}; this version reads {known}.")
    if manifest["digest"] != digest_of(manifest):
        raise ReleaseRefused(f"The digest in {MANIFEST} is not that of its content.")
    if expected_digest is not None and manifest["digest"] != expected_digest:
        raise ReleaseRefused(f"Its digest is {manifest['digest']}, and the ledger knows {expected_digest}.")
    return manifest


def check_files(path: Path, expected_digest: str | None = None) -> dict[str, Any]:
    """Return the manifest of a folder that holds just what it lists, all with their digests; raise ReleaseRefused."""
    manifest = read_manifest(path, expected_digest)
    for name in _names(path, manifest):
        with _opened(path / name, MAX_FILE) as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        _check(name, f"sha256:{found}", manifest)
    return manifest


def read_files(path: Path, expected_digest: str | None = None) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Return the manifest of a folder and the content of each file it lists, checked alike; raise ReleaseRefused."""
    manifest = read_manifest(path, expected_digest)
    return manifest, {name: read_file(path, name, manifest) for name in _names(path, manifest)}


def read_file(path: Path, name: str, manifest: dict[str, Any]) -> bytes:
    """Return the content of one file of a release; raise ReleaseRefused where it is not what the manifest lists."""
    content = _content(path / name, MAX_FILE)
    _check(name, sha256(content), manifest)
    return content


def digest_of(manifest: dict[str, Any]) -> str:
    """Return the digest of a release: it names the content alone, and neither its version nor itself."""
    content = {name: value for name, value in manifest.items() if name not in ("version", "digest")}
    return sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode())


def sha256(content: bytes) -> str:
    return "sha256:" + hashlib.sha256(content).hexdigest()


def parsed(content: bytes, name: str) -> Any:
    """Return what JSON says; raise ReleaseRefused, naming the file."""
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ReleaseRefused(f"{name} is not JSON: {error}") from None


_version_here = cache(library_version)


def libraries_here() -> dict[str, str]:
    """Return the versions that a release built here is bound to."""
    return {"python": platform.python_version()} | {name: _version_here(name) for name in LIBRARIES}


def _names(path: Path, manifest: dict[str, Any]) -> list[str]:
    """Return which files the folder must hold, found to be there and listed, and no other."""
    try:
        with os.scandir(path) as entries:
            there = {entry.name for entry in islice(entries, MAX_ENTRIES)}
    except OSError as error:
        raise ReleaseRefused(f"The folder cannot be read: {error.strerror}.") from None
    listed = set(manifest["files"])
    wanted = {*FILES, next((name for name in BASELINES if name in listed), BASELINES[0])}
    wanted |= {ENGINE} if manifest["format"] > 1 else set()
    wanted |= {PROFILE} & listed if manifest["format"] > 2 else set()
    if listed != wanted or there != listed | {MANIFEST}:
        odd = sorted((listed | there) ^ (wanted | {MANIFEST})) or sorted(there ^ (listed | {MANIFEST}))
        files = f"{', '.join(sorted(wanted - {*BASELINES, PROFILE}))} and one of {', '.join(BASELINES)}"
        shown = ", ".join(name if name.isprintable() else ascii(name) for name in odd[:5])
        more = f" and {len(odd) - 5} more" if len(odd) > 5 else ""
        raise ReleaseRefused(f"The folder must hold and list just {files}; wrong: {shown}{more}.")
    return sorted(wanted)


def _check(name: str, found: str, manifest: dict[str, Any]) -> None:
    if found != manifest["files"].get(name):
        raise ReleaseRefused(f"{name} was changed after the release was made: its digest differs.")


def _content(path: Path, most: int) -> bytes:
    with _opened(path, most) as file:
        return file.read(most)


@contextmanager
def _opened(path: Path, most: int) -> Iterator[io.BufferedReader]:
    """Open a regular file; a link, a pipe or a device in a release is refused, not followed."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            facts = os.fstat(descriptor)
            if not stat.S_ISREG(facts.st_mode):
                raise ReleaseRefused(f"{path.name} is no plain file.")
            if facts.st_size > most:
                raise ReleaseRefused(f"{path.name} has {facts.st_size:,} bytes; more than {most:,} is refused.")
            with os.fdopen(descriptor, "rb", closefd=False) as file:
                yield file
        finally:
            os.close(descriptor)
    except OSError as error:
        raise ReleaseRefused(f"{path.name} cannot be read: {error.strerror}.") from None
