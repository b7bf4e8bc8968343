"""The project itself: what is packed, documented and made is what is there."""

import ast
import configparser
import re
import subprocess
from pathlib import Path

import pytest

import reviewapp
from reviewapp.release import Release

from .made_files import NAMES, made_files

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "src" / "reviewapp"


def setup_cfg() -> configparser.ConfigParser:
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    return config


def test_every_folder_with_code_is_packed() -> None:
    listed = set(setup_cfg()["options"]["packages"].split())
    folders = {path.parent for path in PACKAGE.rglob("*.py")}
    there = {".".join(folder.relative_to(PACKAGE.parent).parts) for folder in folders}
    assert listed == there | {"reviewapp.templates", "reviewapp.static"}


def test_every_file_that_is_no_code_is_packed() -> None:
    data = dict(setup_cfg()["options.package_data"])
    patterns = {name: value.split() for name, value in data.items()}
    for path in PACKAGE.rglob("*"):
        if path.is_file() and path.suffix not in (".py", ".pyc") and "__pycache__" not in path.parts:
            package = ".".join(path.parent.relative_to(PACKAGE.parent).parts)
            assert any(path.match(pattern) for pattern in patterns.get(package, [])), path


def test_the_version_has_an_entry_in_the_changelog() -> None:
    assert f"## {reviewapp.__version__}" in (ROOT / "CHANGELOG.md").read_text()


@pytest.mark.parametrize("name", NAMES)
def test_made_files_are_as_make_docs_makes_them(release: Release, name: str) -> None:
    assert (ROOT / name).read_text() == made_files(release.contract)[name], "run `make docs`"


def test_every_dependency_is_pinned() -> None:
    pinned = {
        line.split("==")[0].lower().replace("_", "-")
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if "==" in line
    }
    config = setup_cfg()
    wanted = [config["options"]["install_requires"], *config["options.extras_require"].values()]
    names = {re.split(r"[<>=\[]", line)[0] for line in " ".join(wanted).split()} - {"reviewapp"}
    assert names <= pinned


ORDER = """
errors places staging config strictjson csvfiles lines stages logs counters access_log metering joining manifest
remotefiles fetched releasestore |
dates field contract | schemas bodies samples forms frames difference policy |
rules rulelist calibration transformers structures estimators trust profile release | engine |
explain prediction adapter proof proving bulk dataframes tensors columns sqlwords tables chain schema statements sqlite
pgsessions postgres store ledgerfile copying backup restoring
search finding filters desk reviews blocks keylocks ledger releaselog intact purging export registry rounds verifying
attempts accounts uploads
components openapi marking wording snippets |
evaluation golden trigger monitoring reliance drift watching replaying simulating slo tally building | triage |
evidence |
parts | protocol incoming security scoring | lookups metrics | api compat ui worker server doctor | factory | cli |
__main__
"""


def test_imports_run_one_way() -> None:
    """A file imports only files that are read before it (or beside it, in its own group)."""
    groups = [group.split() for group in ORDER.split("|")]
    rank = {name: number for number, group in enumerate(groups) for name in group}
    folders = {"engine", "building", "triage", "evidence", "ui", "cli", "doctor", "scoring"}
    assert {path.stem for path in PACKAGE.glob("*.py")} | folders == set(rank) | {"__init__"}
    for path in PACKAGE.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.level == 1:
                names = [node.module.split(".")[0]] if node.module else [alias.name for alias in node.names]
                for name in set(names) & set(rank):
                    assert rank[name] <= rank[path.stem], f"{path.name} imports {name}"


def test_only_the_doors_know_the_web_framework() -> None:
    doors = {
        "parts",
        "protocol",
        "incoming",
        "security",
        "api",
        "compat",
        "ui",
        "factory",
    }  # what stands between needs no flask
    users = {
        path.relative_to(PACKAGE).with_suffix("").parts[0]
        for path in PACKAGE.rglob("*.py")
        if re.search(r"^(from|import) flask", path.read_text(), re.M)
    }
    assert users == doors


def test_nothing_is_ever_unpickled() -> None:
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not {"pickle", "joblib", "cloudpickle", "dill", "shelve", "marshal"} & {
                n.split(".")[0] for n in names
            }


def test_the_readme_names_every_folder() -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        return  # an unpacked source package has no list of its own
    folders = {line.split("/")[0] for line in listed.stdout.splitlines() if "/" in line}
    readme = (ROOT / "README.md").read_text()
    assert [folder for folder in sorted(folders) if f"`{folder}/" not in readme] == []


def test_style_sheet_and_scripts_stay_small() -> None:
    lines = {path.name: len(path.read_text().splitlines()) for path in (ROOT / "static").iterdir()}
    assert set(lines) == {"style.css", "page.js", "queue.js", "upload.js", "icon.svg"}
    assert lines["style.css"] <= 300
    assert lines["page.js"] <= 100
    assert max(lines["queue.js"], lines["upload.js"]) <= 80
