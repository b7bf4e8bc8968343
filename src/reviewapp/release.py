"""One release: an immutable folder that holds a contract, both options, a policy, and what proves them.

    release.json      manifest: name, version, digest, the SHA-256 of every other file, library versions, seed
    contract.json     what goes in and comes out            policy.json       what to do with an answer
    model.skops       the AI-assisted option                 rules.csv         the baseline: keyword rules, or
                                                             rules.json        rules on any field, or
                                                             baseline.skops    any estimator
    golden.json       requests and the answers they must get
    evaluation.json   the figures on data kept apart         card.md           the same for people
    engine.json       whether the compiled engine answers as scikit-learn does, and is used
    profile.json      how the rows of its table were spread, where it was made from one

The digest names the content alone: neither the version counter nor a time is part of it. A folder is made in a
temporary place and renamed, so there is never half a release.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from . import estimators
from .contract import Contract
from .errors import ContractError, ReleaseRefused
from .manifest import (
    ENGINE,
    FORMAT,
    MANIFEST,
    PROFILE,
    Identity,
    digest_of,
    libraries_here,
    parsed,
    read_file,
    read_files,
    read_manifest,
    sha256,
)
from .policy import Policy
from .profile import Profile
from .releasestore import Place, placed
from .rulelist import RuleList
from .rules import RuleTable
from .staging import staging

NATIVE, COMPILED = "native", "compiled"


@dataclass(frozen=True)
class ReleaseId:
    """The name, the counter and the identity of a release, as answers and the ledger give them."""

    name: str
    version: int
    digest: str

    def __str__(self) -> str:
        return f"{self.name}/{self.version}"

    @property
    def identity(self) -> Identity:
        return self.name, self.version, self.digest

    def as_json(self) -> dict[str, Any]:
        return {"name": self.name, "version": self.version, "digest": self.digest}


@dataclass(frozen=True)
class Golden:
    """A request and what each option must answer to it; one with a title is a sample that the page offers."""

    input: dict[str, Any]
    answers: dict[str, dict[str, Any]]
    title: str = ""


@dataclass(frozen=True)
class EngineChoice:
    """Which engine answers, NATIVE (scikit-learn itself, and `why`) or COMPILED, which was compared on so many `rows`.

    `furthest` is the largest difference that was found, of a share or, measured against its size, of a value.
    """

    kind: str
    why: str = ""
    rows: int = 0
    furthest: float = 0.0

    def as_json(self) -> dict[str, Any]:
        told = {"why": self.why} if self.kind == NATIVE else {"rows": self.rows, "largest_difference": self.furthest}
        return {"kind": self.kind, **told}

    def in_words(self) -> str:
        """Return a sentence for the card."""
        if self.kind == NATIVE:
            return f"Requests are answered by scikit-learn itself. {self.why}"
        return (
            f"Requests are answered by the model's fitted parts, compiled: in {self.rows:,} comparisons with "
            f"scikit-learn no label differed, and no figure by more than {self.furthest:.0e}."
        )

    @classmethod
    def from_json(cls, document: Any) -> EngineChoice:
        """Read `engine.json`; raise ReleaseRefused where it is none."""
        kinds = {NATIVE: {"kind": str, "why": str}, COMPILED: {"kind": str, "rows": int, "largest_difference": float}}
        kind = document.get("kind") if isinstance(document, dict) else None
        if kind not in kinds or {name: type(value) for name, value in document.items()} != kinds[kind]:
            raise ReleaseRefused(f"{ENGINE} must say native and why, or compiled, rows and largest_difference.")
        return cls(kind, document.get("why", ""), document.get("rows", 0), document.get("largest_difference", 0.0))


@dataclass(frozen=True)
class Release:
    """A release in memory.

    `model` is a fitted scikit-learn estimator with `predict_proba`, or, for a value, with `predict_interval`; so is
    `baseline`, or rules that answer as one.
    """

    id: ReleaseId
    contract: Contract
    policy: Policy
    model: Any
    baseline: Any
    golden: tuple[Golden, ...]
    evaluation: dict[str, Any]
    card: str
    seed: int
    libraries: dict[str, str]
    engine: EngineChoice = EngineChoice(NATIVE, "It was not compared yet.")
    profile: Profile | None = None

    def policy_of(self, option: str) -> Policy:
        """Return the policy for answers of an option: the baseline is sure from a threshold of its own on."""
        own = self.evaluation.get("baseline_threshold") if option == "baseline" else None
        return self.policy if own is None else replace(self.policy, threshold=float(own))

    @property
    def samples(self) -> tuple[Golden, ...]:
        """The golden requests to offer a person, in order."""
        return tuple(row for row in self.golden if row.title)


def draft(contract: Contract, policy: Policy, model: Any, baseline: Any, seed: int) -> Release:
    """Return a release that is not written yet: without version, golden requests, figures and card."""
    return Release(
        id=ReleaseId(contract.name, 0, ""),
        contract=contract,
        policy=policy,
        model=model,
        baseline=baseline,
        golden=(),
        evaluation={},
        card="",
        seed=seed,
        libraries=libraries_here(),
    )


def write(
    release: Release, root: Path | Place, prove: Callable[[Path, str], None] = lambda folder, digest: None
) -> Release:
    """Write a release below `root` as `<name>/<next version>` and return it with its version and digest.

    Versions count through all names below `root`, so that a number names one release. It appears in one step, once
    `prove`, which is given a folder and its digest, has not raised; two builds at once get different versions.
    """
    place = placed(root)
    place.here.mkdir(mode=0o700 if place.remote else 0o777, parents=True, exist_ok=True)
    with staging(place.here, ".building-") as building:
        contents = _contents(release)
        for name, content in contents.items():
            (building / name).write_bytes(content)
        manifest = {
            "format": FORMAT,
            "name": release.contract.name,
            "files": {name: sha256(content) for name, content in contents.items()},
            "libraries": release.libraries,
            "seed": release.seed,
        }
        digest = digest_of(manifest)

        def number(version: int) -> None:
            (building / MANIFEST).write_bytes(_json({**manifest, "version": version, "digest": digest}))

        number(0)
        prove(building, digest)
        version = place.put(building, release.contract.name, digest, number)
    return replace(release, id=ReleaseId(release.contract.name, version, digest))


def read(path: Path, expected_digest: str | None = None, trusted: Sequence[str] = ()) -> Release:
    """Read a release folder; raise ReleaseRefused saying why it is not accepted, without naming where it lies.

    Every file must be there, be a plain file and have its digest before any of them is interpreted (manifest.py).
    `expected_digest` is the one that the ledger wrote down: the manifest's own only proves that it agrees with itself.
    Who has not made the folder asks proof.py first.
    `trusted` are types of the operator's own that an estimator may hold.
    """
    manifest, contents = read_files(path, expected_digest)
    made_with, here = manifest["libraries"].get("scikit-learn"), libraries_here()["scikit-learn"]
    if made_with != here:
        raise ReleaseRefused(f"It was built with scikit-learn {made_with}, and {here} runs here: build it again.")
    try:
        contract = Contract.from_json(parsed(contents["contract.json"], "contract.json"))
        policy = Policy.from_json(parsed(contents["policy.json"], "policy.json"))
        baseline = _read_baseline(contents, contract, trusted)
        golden = tuple(Golden(**row) for row in parsed(contents["golden.json"], "golden.json")["requests"])
        card = contents["card.md"].decode()
    except (ContractError, UnicodeDecodeError, TypeError, KeyError) as error:
        raise ReleaseRefused(str(error)) from error
    if not golden:
        raise ReleaseRefused("golden.json holds no request, so nothing shows that the model still answers right.")
    return Release(
        id=ReleaseId(manifest["name"], manifest["version"], manifest["digest"]),
        contract=contract,
        policy=policy,
        model=estimators.load(contents["model.skops"], "model.skops", trusted),
        baseline=baseline,
        golden=golden,
        evaluation=parsed(contents["evaluation.json"], "evaluation.json"),
        card=card,
        seed=manifest["seed"],
        libraries=manifest["libraries"],
        engine=EngineChoice.from_json(parsed(contents[ENGINE], ENGINE)) if ENGINE in contents else _BEFORE_THE_ENGINE,
        profile=Profile.from_json(parsed(contents[PROFILE], PROFILE), contract) if PROFILE in contents else None,
    )


_BEFORE_THE_ENGINE = EngineChoice(NATIVE, "It was built before there was a compiled engine; build it again.")


def read_contract(path: Path, expected_digest: str) -> Contract:
    """Read the contract of a release folder alone, held to the ledger's digest; raise ReleaseRefused."""
    try:
        return Contract.from_json(_read_alone(path, "contract.json", expected_digest))
    except (ContractError, TypeError) as error:
        raise ReleaseRefused(str(error)) from error


def read_policy(path: Path, expected_digest: str) -> Policy:
    """Read the policy of a release folder alone, held to the ledger's digest; raise ReleaseRefused."""
    return Policy.from_json(_read_alone(path, "policy.json", expected_digest))


def read_evaluation(path: Path, expected_digest: str) -> dict[str, Any]:
    """Read the evaluation of a release folder alone, held to the ledger's digest; raise ReleaseRefused."""
    found: dict[str, Any] = _read_alone(path, "evaluation.json", expected_digest)
    return found


def _read_alone(path: Path, name: str, expected_digest: str) -> Any:
    return parsed(read_file(path, name, read_manifest(path, expected_digest)), name)


def _contents(release: Release) -> dict[str, bytes]:
    golden = {
        "requests": [
            ({"title": row.title} if row.title else {}) | {"input": row.input, "answers": row.answers}
            for row in release.golden
        ]
    }
    return {
        "contract.json": _json(release.contract.as_json()),
        "policy.json": _json(release.policy.as_json()),
        "model.skops": estimators.dump(release.model),
        **_baseline_file(release.baseline),
        "golden.json": _json(golden),
        "evaluation.json": _json(release.evaluation),
        "card.md": release.card.encode(),
        ENGINE: _json(release.engine.as_json()),
        **({} if release.profile is None else {PROFILE: _json(release.profile.as_json())}),
    }


def _baseline_file(baseline: Any) -> dict[str, bytes]:
    if isinstance(baseline, RuleTable):
        return {"rules.csv": baseline.to_csv().encode()}
    if isinstance(baseline, RuleList):
        return {"rules.json": baseline.to_json().encode()}
    return {"baseline.skops": estimators.dump(baseline)}


def _read_baseline(contents: dict[str, bytes], contract: Contract, trusted: Sequence[str]) -> Any:
    if "rules.csv" in contents:
        return RuleTable.from_csv(contents["rules.csv"].decode(), contract)
    if "rules.json" in contents:
        return RuleList.from_json(contents["rules.json"].decode(), contract)
    return estimators.load(contents["baseline.skops"], "baseline.skops", trusted)


def _json(document: Any) -> bytes:
    return (json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()
