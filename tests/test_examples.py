"""The walk-throughs in examples/ do what they say, line by line, as a person would type them."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from .service import Service

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"


def commands(readme: str) -> list[str]:
    """Return the commands of a walk-through; one goes on until the next line that begins with a prompt."""
    blocks = re.findall(r"^```console\n(.*?)^```", readme, re.MULTILINE | re.DOTALL)
    return [command.strip() for block in blocks for command in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]]


@pytest.mark.server
@pytest.mark.parametrize("name", [path.name for path in sorted(EXAMPLES.iterdir()) if path.is_dir()])
def test_a_walk_through_works_line_by_line(name: str, tmp_path: Path) -> None:
    folder = tmp_path / name
    shutil.copytree(EXAMPLES / name, folder)
    service = Service(folder / "instance")
    lines = commands((folder / "README.md").read_text())
    before, after = lines[: lines.index("reviewapp serve")], lines[lines.index("reviewapp serve") + 1 :]
    said = [run(service, folder, line) for line in before]
    assert "It is live. Next: reviewapp serve" in said[-1]
    with service:
        answer = json.loads(run(service, folder, " && ".join(after)))
    assert answer["decision"] in ("auto", "review")
    if name == "diabetes":
        assert answer["output"]["low"] < answer["output"]["value"] < answer["output"]["high"]
        assert answer["explanation"]["scale"] == "value"
    else:
        assert (answer["output"]["label"], answer["decision"]) == ("malignant", "auto")
        assert answer["comparison"]["output"]["label"] in ("malignant", "benign")


def run(service: Service, folder: Path, line: str) -> str:
    line = line.replace("127.0.0.1:8000", f"127.0.0.1:{service.port}")
    environment = {**service.environment, "PATH": f"{Path(sys.executable).parent}:{service.environment['PATH']}"}
    done = subprocess.run(["bash", "-euc", line], cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
    return done.stdout
