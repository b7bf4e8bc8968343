"""What can be done to the folder of a release: by accident, and by somebody who makes its checksums anew.

Each damage is a function of a folder and a generator of random numbers. Those of FORGED end with every checksum right
and another digest, as somebody makes them who may write the folder and not the ledger.
"""

from __future__ import annotations

import io
import json
import os
import random
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import skops.io
from sklearn.ensemble import RandomForestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from reviewapp.adapter import ModelAdapter
from reviewapp.frames import to_frame
from reviewapp.manifest import MANIFEST, MAX_FILE, digest_of, libraries_here, sha256
from reviewapp.release import COMPILED, EngineChoice, Release

Damage = Callable[[Path, random.Random], None]
PICKLE = b"\x80\x04\x8c\x05posix\x8c\x06system\x93\x8c\x04true\x85R."
BOMB = 300 << 20  # bytes
LINKS = ("/etc/passwd", "/dev/zero", "../../release.json", "nowhere")


def with_forest(release: Release) -> Release:
    """Return the default release with a forest in place of its linear model, which learned its golden requests."""
    records = [row.input for row in release.golden]
    features = release.model[:-1]
    labels = [row.answers["model"]["label"] for row in release.golden]
    missing = [label for label in release.contract.outcome.labels if label not in labels]
    frame = to_frame(release.contract, [*records, *records[: len(missing)]])
    forest = RandomForestClassifier(20, random_state=5).fit(features.transform(frame), [*labels, *missing])
    grown = replace(release, model=make_pipeline(features, forest), engine=EngineChoice(COMPILED, "", 0, 0.0))
    outputs = ModelAdapter(grown).outputs("model", records)
    golden = [
        replace(row, answers={**row.answers, "model": output})
        for row, output in zip(release.golden, outputs, strict=True)
    ]
    return replace(grown, golden=tuple(golden))


# ---- without new checksums --------------------------------------------------------------------------------------


def pick(folder: Path, rng: random.Random) -> Path:
    return rng.choice(sorted(folder.iterdir()))


def flipped(folder: Path, rng: random.Random) -> None:
    path = pick(folder, rng)
    content = bytearray(path.read_bytes())
    content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    path.write_bytes(content)


def cut(folder: Path, rng: random.Random) -> None:
    path = pick(folder, rng)
    os.truncate(path, rng.randrange(path.stat().st_size))


def longer(folder: Path, rng: random.Random) -> None:
    path = pick(folder, rng)
    os.truncate(path, rng.choice([path.stat().st_size + 1, MAX_FILE, MAX_FILE + 1, 1 << 40]))


def missing(folder: Path, rng: random.Random) -> None:
    pick(folder, rng).unlink()


def swapped(folder: Path, rng: random.Random) -> None:
    one, other = rng.sample(sorted(folder.iterdir()), 2)
    content = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(content)


def linked(folder: Path, rng: random.Random) -> None:
    path = pick(folder, rng)
    path.unlink()
    path.symlink_to(rng.choice(LINKS))


def piped(folder: Path, rng: random.Random) -> None:
    path = pick(folder, rng)
    path.unlink()
    os.mkfifo(path)


def a_folder(folder: Path, rng: random.Random) -> None:
    path = pick(folder, rng)
    path.unlink()
    path.mkdir()


def more(folder: Path, rng: random.Random) -> None:
    name = rng.choice(["sitecustomize.py", "model.pkl", ".hidden", "trusted_types.json", "a\nb", os.fsdecode(b"\xff")])
    (folder / name).write_bytes(PICKLE)


def another_version(folder: Path, rng: random.Random) -> None:
    write_manifest(folder, lambda found: found.update(version=rng.choice([0, -1, 77, 10**30])))


def odd_manifest(folder: Path, rng: random.Random) -> None:
    """Another value somewhere in the manifest, where no digest fits any more, or none is a text."""
    values: list[Any] = [
        None,
        True,
        float("nan"),
        float("inf"),
        [],
        {},
        "",
        "sha256:0",
        "../../etc/passwd",
        10**30,
        "\ud800",
        "x" * 999,
    ]
    value = rng.choice(values)

    def change(found: dict[str, Any]) -> None:
        inside = rng.choice([found, found["files"]])
        inside[rng.choice(sorted(inside))] = value

    write_manifest(folder, change)


def outside(folder: Path, rng: random.Random) -> None:
    """The manifest lists a file that lies elsewhere."""
    name = rng.choice(["../../etc/passwd", "/etc/passwd", "..", "", "model.skops/../card.md", "a\x00b", "C:\\x"])
    write_manifest(folder, lambda found: found["files"].update({name: sha256(b"")}))
    if rng.random() < 0.5:
        sealed(folder)


# ---- with new checksums -----------------------------------------------------------------------------------------


def arrays(folder: Path, rng: random.Random) -> None:
    """Bytes inside an array of the model, behind its header."""

    def change(members: dict[str, bytes]) -> None:
        name = rng.choice([name for name in members if name.endswith(".npy")])
        content = bytearray(members[name])
        for _ in range(16):
            content[rng.randrange(min(128, len(content) - 1), len(content))] = rng.randrange(256)
        members[name] = bytes(content)

    repack(folder, change)


def schema(folder: Path, rng: random.Random) -> None:
    """A word of the model's schema: a class, a module, a loader, a value."""

    def change(members: dict[str, bytes]) -> None:
        words = members["schema.json"].split(b'"')
        place = rng.randrange(1, len(words), 2)
        words[place] = rng.choice(
            [b"system", b"posix", b"os", b"__reduce__", b"MethodNode", b"", b"../x", words[place][::-1]]
        )
        members["schema.json"] = b'"'.join(words)

    repack(folder, change)


def bomb(folder: Path, rng: random.Random) -> None:
    with zipfile.ZipFile(folder / "model.skops", "a", zipfile.ZIP_DEFLATED, compresslevel=1) as packed:
        zeros(packed, f"bomb{rng.randrange(10)}.npy")


def nested_bomb(folder: Path, rng: random.Random) -> None:
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as packed:
        zeros(packed, "data.npy")
    repack(folder, lambda members: members.update({"bomb.npz": inner.getvalue()}))


def zeros(packed: zipfile.ZipFile, name: str) -> None:
    with packed.open(name, "w") as member:
        for _ in range(BOMB >> 20):
            member.write(bytes(1 << 20))


def endless_array(folder: Path, rng: random.Random) -> None:
    """An array whose header promises more than any machine has."""

    def change(members: dict[str, bytes]) -> None:
        name = rng.choice([name for name in members if name.endswith(".npy")])
        header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (%d,), }" % rng.choice([10**11, 10**15, -1])
        members[name] = b"\x93NUMPY\x01\x00" + (len(header) + 1).to_bytes(2, "little") + header + b"\n"

    repack(folder, change)


def pickled(folder: Path, rng: random.Random) -> None:
    (folder / "model.skops").write_bytes(
        rng.choice([PICKLE, b"\x80\x05.", b"PK\x03\x04" + PICKLE, b"\x1f\x8b" + PICKLE])
    )


def untrusted(folder: Path, rng: random.Random) -> None:
    call = rng.choice([os.system, eval, exec, os.popen, open, __import__])
    (folder / "model.skops").write_bytes(skops.io.dumps(make_pipeline(FunctionTransformer(call))))


def of_another_library(folder: Path, rng: random.Random) -> None:
    def change(members: dict[str, bytes]) -> None:
        here = libraries_here()["scikit-learn"].encode()
        members["schema.json"] = members["schema.json"].replace(here, b"1.0.2")

    repack(folder, change)


def document(folder: Path, rng: random.Random) -> None:
    """Another policy, other golden answers, another contract, engine or profile: one value of a JSON file."""
    names = ["policy.json", "golden.json", "contract.json", "evaluation.json", "engine.json", "profile.json"]
    path = folder / rng.choice(names)
    found: Any = json.loads(path.read_text())
    holder, key = found, rng.choice(sorted(found))
    while isinstance(holder[key], dict | list) and holder[key]:
        holder = holder[key]
        key = rng.choice(sorted(holder)) if isinstance(holder, dict) else rng.randrange(len(holder))
    holder[key] = rng.choice([None, -1, 10**30, 0.123, "x", [], {}, [[[]]], True])
    path.write_text(json.dumps(found))


def rules(folder: Path, rng: random.Random) -> None:
    lines = (folder / "rules.csv").read_text().splitlines(keepends=True)
    place = rng.randrange(len(lines))
    lines[place] = rng.choice(["", "x\n", '"\n', "label,field,words\n", lines[place] * 2, "other,*,\n"])
    (folder / "rules.csv").write_text("".join(lines))


def tree(folder: Path, rng: random.Random) -> None:
    """A node of a forest leads out of its tree, or back up, or asks for a column that is not there."""
    name, value = rng.choice(
        [("left_child", 1 << 40), ("right_child", 1 << 20), ("left_child", 0), ("right_child", 0), ("left_child", -9),
         ("feature", 1 << 40), ("feature", -5), ("feature", 1 << 20)]
    )  # fmt: skip

    def change(members: dict[str, bytes]) -> None:
        for member in rng.sample(sorted(members), len(members)):
            nodes = np.load(io.BytesIO(members[member]), allow_pickle=False) if member.endswith(".npy") else None
            if nodes is not None and nodes.dtype.names and len(nodes) > 1:
                nodes[name][0] = value
                out = io.BytesIO()
                np.save(out, nodes)
                members[member] = out.getvalue()
                return
        raise ValueError("there is no tree")

    repack(folder, change)


ACCIDENTS: tuple[Damage, ...] = (
    flipped, cut, longer, missing, swapped, linked, piped, a_folder, more, another_version, odd_manifest, outside,
)  # fmt: skip
FORGED: tuple[Damage, ...] = (
    arrays, schema, endless_array, pickled, untrusted, of_another_library, document, rules, tree, bomb, nested_bomb,
)  # fmt: skip
NEVER = (tree, endless_array, pickled, untrusted, of_another_library, bomb, nested_bomb)  # whatever digest is stated
OF_A_FOREST = (tree,)


def forged(damage: Damage) -> Damage:
    def change(folder: Path, rng: random.Random) -> None:
        damage(folder, rng)
        sealed(folder)

    return change


# ---- the means --------------------------------------------------------------------------------------------------


def sealed(folder: Path) -> str:
    """Make every checksum right again; return the digest."""

    def change(found: dict[str, Any]) -> None:
        for name in found["files"]:
            if "\x00" not in name and (folder / name).is_file():
                found["files"][name] = sha256((folder / name).read_bytes())
        found["digest"] = digest_of(found)

    return str(write_manifest(folder, change)["digest"])


def write_manifest(folder: Path, change: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / MANIFEST).read_text())
    change(found)
    (folder / MANIFEST).write_text(json.dumps(found))
    return found


def repack(folder: Path, change: Callable[[dict[str, bytes]], object]) -> None:
    path = folder / "model.skops"
    with zipfile.ZipFile(path) as packed:
        members = {name: packed.read(name) for name in packed.namelist()}
    change(members)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as packed:
        for name, content in members.items():
            packed.writestr(name, content)
