"""`python -m soak.mutants`: do the tests notice when the code that trust rests on is changed? A seeded sample says.

A mutant is one small change of a function (`<` for `<=`, None for an argument, another text). It is killed where a test
fails with it or does not end; it survives where all tests pass, or none reaches it. Exit code 1 where not more than
85 % are killed. Not changed are module constants and what has a decorator (views, properties, context managers): mutmut
leaves these alone.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
TREE = ROOT / "build" / "mutants"  # a copy of the tracked files: what mutmut writes lies there
MUST = 0.85
# What decides who may do what, what is asked and answered, which release answers, and what is kept of it.
MODULES = (
    "accounts", "attempts", "security", "ui/signing", "contract", "field", "release", "manifest", "structures",
    "estimators", "trust", "proof", "proving", "registry", "ledger", "chain", "verifying",
)  # fmt: skip
# The tests of these modules. Those marked `server` or `browser` are left out: they start the installed package, in
# which nothing is changed. So does the odd process that one of the others starts; that can only lower the score.
TESTS = (
    "access", "accounts", "attempts", "security", "signing", "contract", "release", "manifest", "structures", "trust",
    "estimators", "proof", "proving", "damaged", "registry", "ledger", "recording", "chain", "verifying",
)  # fmt: skip
SPINNER = tuple("⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏")
KILLED = ("killed", "timeout", "segfault")  # a test that never ends, or ends the process, has noticed


def settings(tree: Path) -> str:
    """Return the table of mutmut for a tree; a list in JSON is one in TOML."""
    there = [f"src/reviewapp/{name}.py" for name in MODULES]
    tests = sorted(str(path.relative_to(tree)) for name in TESTS for path in tree.glob(f"tests/test_{name}*.py"))
    source = {"src", "tests", "setup.cfg", "pyproject.toml"}  # what it copies of its own accord
    return "\n".join([
        "\n[tool.mutmut]",
        'source_paths = ["src"]',
        f"only_mutate = {json.dumps([name for name in there if (tree / name).exists()])}",
        f"also_copy = {json.dumps(sorted({path.name for path in tree.iterdir()} - source))}",
        'pytest_add_cli_args = ["-p", "no:cacheprovider", "-p", "soak.mutants", "-m", "not server and not browser"]',
        f"pytest_add_cli_args_test_selection = {json.dumps(sorted(set(tests)))}",
        "timeout_multiplier = 5.0",
        "timeout_constant = 10.0\n",
    ])  # fmt: skip


def pytest_collection_modifyitems(items: list[Any]) -> None:
    """As a plugin of pytest in the copy: first the tests that need no release built, which most mutants do not pass."""
    items.sort(key=lambda item: "release" in item.fixturenames)


def copy_tree() -> None:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    shutil.rmtree(TREE, ignore_errors=True)
    for name in listed.split("\0"):
        if (ROOT / name).is_file():
            (TREE / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, TREE / name)
    with (TREE / "pyproject.toml").open("a") as file:
        file.write(settings(TREE))


def mutmut(*words: str, ends: str = "") -> str:
    """Run mutmut in the copy and return what it prints; it may fail only with what `ends` says."""
    command = [str(Path(sys.executable).with_name("mutmut")), *words]
    environment = {**os.environ, "PYTHONPATH": str(TREE)}  # where pytest finds this module
    done = subprocess.run(command, cwd=TREE, env=environment, capture_output=True, text=True, check=False)
    if done.returncode and not (ends and ends in done.stderr):
        lines = [line for line in (done.stdout + done.stderr).splitlines() if not line.startswith(SPINNER)]
        sys.exit("\n".join([f"mutmut {words[0]} failed:", *lines[-60:]]))
    return done.stdout


def results() -> dict[str, str]:
    """Return what became of each mutant: killed, survived, timeout, no tests, not checked …"""
    lines = [line.strip().rpartition(": ") for line in mutmut("results", "--all", "true").splitlines()]
    return {name: status for name, _, status in lines if name}


def module_of(mutant: str) -> str:
    """Return the module of `reviewapp.ui.signing.x_sign_in__mutmut_3`."""
    return mutant.removeprefix("reviewapp.").rpartition(".")[0].replace(".", "/")


def measure(size: int, seed: int) -> dict[str, str]:
    """Return what became of each mutant of the sample."""
    copy_tree()
    mutmut("run", "none*", ends="nothing matches")  # makes them, and notes which test reaches which function
    names = sorted(results())
    sample = random.Random(seed).sample(names, min(size, len(names)))
    print(f"{len(sample)} of {len(names)} mutants …", flush=True)
    mutmut("run", *sample)
    found = results()
    return {name: found[name] for name in sorted(sample)}


def main(words: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m soak.mutants", description="Measure what the tests notice.")
    parser.add_argument("--sample", type=int, default=300, help="how many mutants (300)")
    parser.add_argument("--seed", type=int, default=8, help="of the sample (8)")
    given = parser.parse_args(words)
    found = measure(given.sample, given.seed)
    left = {name: mutmut("show", name) for name, status in found.items() if status not in KILLED}
    print("\n".join(left.values()))
    for module in sorted({module_of(name) for name in found}):
        counts = Counter(status for name, status in found.items() if module_of(name) == module)
        print(f"{module:<12} {', '.join(f'{count} {status}' for status, count in sorted(counts.items()))}")
    score = (len(found) - len(left)) / len(found)
    print(f"{len(found) - len(left)} of {len(found)} killed: {score:.1%} (must: > {MUST:.0%}); a timeout is a kill")
    report = {"sample": given.sample, "seed": given.seed, "score": score, "mutants": found, "survivors": left}
    TREE.with_suffix(".json").write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n")
    return int(score <= MUST)


if __name__ == "__main__":
    sys.exit(main())
