"""The evidence pack: a folder of tables (CSV), pictures (PNG) and the requests sent, bound by a manifest.

`manifest.json` says which release, code, seed and machine the figures belong to, and the SHA-256 of every file. The
commit is information alone: committing the evidence changes it.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from threadpoolctl import threadpool_info

from .. import places
from ..config import Settings
from ..errors import UsageError
from ..release import Release
from .pictures import Picture
from .tables import Table, differences

MANIFEST = "manifest.json"
SOAK = "soak"  # the folder in a pack with the table of what holds while things go wrong, a pack of its own
REQUESTS = "requests.jsonl"
CHANGED_MANIFEST = f"{MANIFEST}: it was changed after it was written: its own digest differs"
AGAIN = "run `make evidence` (for a release of a table: `reviewapp evidence --data FILE`)"
FORMAT = 1
TABLE = "table"  # the kind of data of a release that was built from one
BOUND = ("src", "templates", "constraints.txt")  # what the figures depend on, in the checkout


def folder_of(settings: Settings, release: Path | None) -> Path:
    """Return where the evidence of the live release lies; `release` is its folder, None where nothing is live.

    A folder that was set always wins. Else the default model, which is there without being live, has it beside the
    memo, and a release of a table in the instance.
    """
    if settings.evidence is not None:
        return settings.evidence
    root = places.checkout()
    if root is None or (release is not None and is_of_table(release)):
        return settings.instance / "evidence"
    return root / "memo" / "evidence"


def is_of_table(release: Path) -> bool:
    """Whether the release in a folder was built from a table; its model is not loaded, and nothing is checked."""
    try:
        evaluation = json.loads((release / "evaluation.json").read_text(encoding="utf-8"))
        return bool(evaluation["data"]["kind"] == TABLE)
    except (OSError, ValueError, KeyError, TypeError):
        return False


@dataclass(frozen=True)
class Pack:
    """What the trials measured. `manifest` is the file of that name; tables are by name, in order."""

    folder: Path
    manifest: Mapping[str, Any]
    tables: Mapping[str, Table]

    def table(self, name: str) -> Table:
        if name not in self.tables:
            raise UsageError(f"The evidence has no table {name!r}; it has {', '.join(self.tables)}.")
        return self.tables[name]

    @property
    def files(self) -> list[str]:
        return [*self.manifest["files"], MANIFEST]

    @classmethod
    def read(cls, folder: Path) -> Pack:
        """Read a pack; raise UsageError where there is none or its manifest was changed. Files: `changed_files`."""
        manifest = _manifest(folder)
        if not _is_itself(manifest):
            raise UsageError(f"{CHANGED_MANIFEST}; {AGAIN}.")
        described = {one["name"]: one for one in manifest["tables"]}
        try:
            texts = {name: (folder / f"{name}.csv").read_text(encoding="utf-8") for name in described}
        except (FileNotFoundError, UnicodeDecodeError):
            raise UsageError(f"A table of the evidence is missing or no text; {AGAIN}.") from None
        tables = {name: Table.from_csv(text, described[name]) for name, text in texts.items()}
        return cls(folder, manifest, tables)


def soak_of(pack: Pack) -> Pack | None:
    """Return the pack of the soak that lies in a pack, or None; raise UsageError where it was changed."""
    folder = pack.folder / SOAK
    return Pack.read(folder) if (folder / MANIFEST).exists() else None


def write(
    folder: Path,
    facts: Mapping[str, Any],
    tables: Sequence[Table],
    others: Mapping[str, bytes],
    pictures: Sequence[Picture],
) -> Pack:
    """Write a pack in the place of the one that may be there, its manifest last; folders in it are left alone.

    `others` are files beside the tables.
    """
    files = {f"{table.name}.csv": table.to_csv().encode() for table in tables} | dict(others)
    manifest = {
        "format": FORMAT,
        **facts,
        "tables": [table.described() for table in tables],
        "pictures": [picture.described() for picture in pictures],
        "files": {name: _sha256(content) for name, content in sorted(files.items())},
    }
    manifest["digest"] = _digest(manifest)
    files[MANIFEST] = (json.dumps(manifest, indent=1, ensure_ascii=False) + "\n").encode()
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".building-", dir=folder) as building:
        for name, content in files.items():  # all are written before the first one is moved
            (Path(building) / name).write_bytes(content)
        for name in files:
            (Path(building) / name).replace(folder / name)
    for path in folder.iterdir():
        if path.is_file() and path.name not in files:
            path.unlink()
    return Pack.read(folder)


def changed_files(folder: Path) -> Iterator[str]:
    """Yield a line for every file of a pack that is not as it was measured."""
    manifest = _manifest(folder)
    if not _is_itself(manifest):
        yield CHANGED_MANIFEST
        return  # what it lists proves nothing
    listed = manifest["files"]
    for name, digest in listed.items():
        path = folder / name
        if not path.is_file():
            yield f"{name}: it is missing"
        elif _sha256(path.read_bytes()) != digest:
            yield f"{name}: it was changed after it was measured: its digest differs"
    for path in sorted(folder.iterdir()):
        if path.is_file() and path.name not in listed and path.name != MANIFEST:
            yield f"{path.name}: no run made this file"


def compare(old: Pack, new: Pack, factor: float) -> Iterator[str]:
    """Yield a line for everything that a new run does not find as the old one says; what only one has is left out
    where one of them was a quick run."""
    whole = not (old.manifest["quick"] or new.manifest["quick"])
    same_machine = old.manifest["machine"]["numeric"] == new.manifest["machine"]["numeric"]
    if old.manifest["source"] != new.manifest["source"]:
        yield f"source: the evidence is of other code, templates or constraints than these; {AGAIN}"
    if same_machine:
        for name in ("release", "seed"):
            if old.manifest[name] != new.manifest[name]:
                yield f"{name}: was {old.manifest[name]} and is {new.manifest[name]}"
        if old.manifest["files"].get(REQUESTS) != new.manifest["files"].get(REQUESTS):
            yield f"{REQUESTS}: other requests are sent now"
    for name, table in old.tables.items():
        if name in new.tables:
            yield from differences(table, new.tables[name], same_machine=same_machine, whole=whole, factor=factor)
        elif whole:
            yield f"{name}: this table was not made again"


def facts(root: Path, release: Release, seed: int, *, quick: bool) -> dict[str, Any]:
    """Return what binds the figures of a run: release, code, seed, machine."""
    return {
        "release": {"name": release.id.name, "digest": release.id.digest},
        "source": source_digest(root),
        "seed": seed,
        "quick": quick,
        "machine": _machine(release),
        "commit": _commit(root),
        "policy": release.policy.as_json(),
        "data": release.evaluation["data"],
    }


def source_digest(root: Path, bound: Sequence[str] = BOUND) -> str:
    """Return the digest of what the figures depend on in a checkout: file names and content, nothing else."""
    lines = []
    for name in bound:
        top = root / name
        for path in sorted(top.rglob("*")) if top.is_dir() else [top]:
            parts = path.relative_to(root).parts
            if path.is_file() and "__pycache__" not in parts and not any(p.endswith(".egg-info") for p in parts):
                lines.append(f"{'/'.join(parts)} {_sha256(path.read_bytes())}")
    return _sha256("\n".join(lines).encode())


def _machine(release: Release) -> dict[str, Any]:
    """Return what the figures were measured on; with the same `numeric` part they are equal to the last digit."""
    blas = {f"{one['internal_api']} {one.get('architecture', '')}".strip() for one in threadpool_info()}
    return {
        "numeric": {"processor": _processor(), "libraries": release.libraries, "blas": sorted(blas)},
        "system": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count(),
    }


def _processor() -> str:
    """Return the processor's name and the instructions that numeric libraries choose by."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    facts = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in reversed(lines))}
    vectors = sorted(flag for flag in facts.get("flags", "").split() if flag.startswith(("avx", "fma", "sse4")))
    return f"{facts.get('model name', platform.machine())} ({' '.join(vectors)})"


def _commit(root: Path) -> str | None:
    """Return the commit, or None where there is no repository or no git."""
    try:
        done = subprocess.run(["git", "rev-parse", "HEAD"], cwd=root, capture_output=True, text=True, check=False)  # noqa: S607 (git as the machine has it)
    except OSError:
        return None
    return done.stdout.strip() or None


def _manifest(folder: Path) -> dict[str, Any]:
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UsageError(f"There is no evidence yet; {AGAIN}.") from None
    except ValueError as error:
        raise UsageError(f"{MANIFEST} of the evidence is no JSON ({error}); {AGAIN}.") from None
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise UsageError(f"{MANIFEST} is of another format than this version writes; {AGAIN}.")
    return manifest


def _is_itself(manifest: Mapping[str, Any]) -> bool:
    """Whether the manifest is as it was written: its digest is that of everything else in it."""
    return bool(manifest.get("digest") == _digest({k: v for k, v in manifest.items() if k != "digest"}))


def _sha256(content: bytes) -> str:
    return "sha256:" + hashlib.sha256(content).hexdigest()


def _digest(manifest: Mapping[str, Any]) -> str:
    return _sha256(json.dumps(manifest, sort_keys=True, separators=(",", ":")).encode())
