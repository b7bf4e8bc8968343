"""The deployment notes: what they tell an operator to type works, and what they name is there."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import click
import pytest

from reviewapp.cli import main
from reviewapp.config import Settings, load_settings
from reviewapp.errors import NotReady, ReviewappError, as_problem
from reviewapp.ledger import Ledger
from reviewapp.parts import Parts
from reviewapp.server import LONGEST_LINE, gunicorn_settings
from reviewapp.store import Store

from .service import Service

ROOT = Path(__file__).resolve().parent.parent
NOTES = (ROOT / "deploy" / "README.md").read_text(encoding="utf-8")


def test_every_command_that_the_notes_name_is_there() -> None:
    named = set(re.findall(r"reviewapp ([a-z]+)", NOTES)) - {"answers"}
    assert named <= set(main.list_commands(click.Context(main)))
    assert {"serve", "rollback", "promote", "verify", "monitor", "replay", "evidence", "token"} <= named


def test_every_file_that_the_notes_show_is_there() -> None:
    for path in re.findall(r"\]\(([^)#]+)\)", NOTES):
        assert (ROOT / "deploy" / path).exists(), path
    ElementTree.parse(ROOT / "deploy" / "boundary.svg")  # noqa: S314 (our own file)


def test_the_words_of_alarms_are_those_of_the_service() -> None:
    source = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "src").rglob("*.py"))
    for words in ("No release ", "The live release does not serve", "not what they were at evaluation", "failed:"):
        assert words in NOTES
        assert words in source
    assert "is not ready" in source


def test_the_commands_for_a_backup_keep_a_ledger_that_is_in_use(
    api: Callable[..., Any], example: dict[str, Any], parts: Parts, tmp_path: Path
) -> None:
    made = [api("post", "/predictions", json={"input": example}).json["id"] for _ in range(3)]
    [keep] = re.findall(r"^\$ reviewapp (backup) \S+", NOTES, re.MULTILINE)
    [put_back] = re.findall(r"^\$ reviewapp (restore) \S+$", NOTES, re.MULTILINE)
    here = {"REVIEWAPP_INSTANCE": str(parts.settings.instance), "REVIEWAPP_RELEASES": str(parts.settings.releases)}
    there, archive = tmp_path / "restored", str(tmp_path / "kept.tar")
    for words, environment in (([keep, archive], here), ([put_back, archive], {"REVIEWAPP_INSTANCE": str(there)})):
        command = [sys.executable, "-m", "reviewapp", *words]
        subprocess.run(command, env={**os.environ, **environment}, check=True, timeout=60, capture_output=True)
    store = Store(f"sqlite:///{there / 'reviewapp.sqlite3'}")
    assert [Ledger(store).prediction(one).id for one in made] == made
    store.close()


# ---- systemd ----------------------------------------------------------------------------------------------------

SYSTEMD = ROOT / "deploy" / "systemd"


def read_unit(name: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for key, value in re.findall(r"^(\w+)=(.*)$", (SYSTEMD / name).read_text(), re.MULTILINE):
        found.setdefault(key, []).append(value)
    return found


def test_socket_settings_and_proxy_name_the_same_place() -> None:
    [path] = read_unit("reviewapp.socket")["ListenStream"]
    settings = dict(re.findall(r"^(REVIEWAPP_\w+)=(.*)$", (SYSTEMD / "reviewapp.env").read_text(), re.MULTILINE))
    site = (ROOT / "deploy" / "nginx" / "reviewapp.conf").read_text()
    docker = (ROOT / "deploy" / "docker" / "Dockerfile").read_text()
    assert settings["REVIEWAPP_BIND"] == f"unix:{path}"
    assert f"server unix:{path} " in site
    assert f"REVIEWAPP_BIND=unix:{path} " in docker
    assert load_settings({}, settings).hosts[0] in re.findall(r"server_name ([\w.]+);", site)
    assert settings["REVIEWAPP_INSTANCE"] == f"/var/lib/{read_unit('reviewapp.service')['StateDirectory'][0]}"


def test_the_service_may_take_longer_to_stop_than_its_requests_may_last(tmp_path: Path) -> None:
    graceful = gunicorn_settings(load_settings({"instance": tmp_path}, {}))["graceful_timeout"]
    unit, compose = read_unit("reviewapp.service"), (ROOT / "deploy" / "docker" / "compose.yaml").read_text()
    assert int(unit["TimeoutStopSec"][0]) > graceful
    assert all(int(seconds) > graceful for seconds in re.findall(r"stop_grace_period: (\d+)s", compose))
    assert unit["KillMode"] == ["mixed"]
    assert unit["Type"] == ["notify"]


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed here")
def test_systemd_takes_the_units_and_finds_the_service_well_shut_in(tmp_path: Path) -> None:
    place = tmp_path / "bin" / "reviewapp"
    place.parent.mkdir()
    place.write_text("#!/bin/sh\n")
    place.chmod(0o755)
    for name in ("reviewapp.socket", "reviewapp.service"):
        text = (SYSTEMD / name).read_text().replace("/opt/reviewapp/.venv/bin/reviewapp", str(place))
        text = text.replace("/etc/reviewapp/reviewapp.env", str(SYSTEMD / "reviewapp.env"))
        (tmp_path / name).write_text(text)
    units = [str(tmp_path / name) for name in ("reviewapp.socket", "reviewapp.service")]
    said = subprocess.run(["systemd-analyze", "verify", "--man=no", *units], capture_output=True, text=True)
    assert (said.returncode, said.stderr) == (0, "")
    said = subprocess.run(
        ["systemd-analyze", "security", "--offline=yes", "--no-pager", "--threshold=10", units[1]],  # 1.0 of 10
        capture_output=True,
        text=True,
    )
    assert said.returncode == 0, said.stdout + said.stderr


# ---- nginx ------------------------------------------------------------------------------------------------------

NGINX = ROOT / "deploy" / "nginx" / "reviewapp"


def test_the_proxy_lets_through_what_the_service_takes_and_no_more() -> None:
    limits = (NGINX / "limits.conf").read_text()
    site = (ROOT / "deploy" / "nginx" / "reviewapp.conf").read_text()
    assert re.findall(r"client_max_body_size (\w+);", limits) == [f"{Settings.max_body >> 20}m"]
    assert re.findall(r'"([\d,]+)";\s+# REVIEWAPP_MAX_BODY', site) == [f"{Settings.max_body:,}"]
    assert re.findall(r'"([\d,]+)";\s+# REVIEWAPP_MAX_BULK', site) == [f"{Settings.max_bulk:,}"]
    for name in ("locations.conf", "locations-subpath.conf"):
        text = (NGINX / name).read_text()
        assert re.findall(r"client_max_body_size (\w+);", text) == [f"{Settings.max_bulk >> 20}m"] * 2
    assert LONGEST_LINE + len("\r\n") == 8 << 10
    assert "large_client_header_buffers 4 8k;" in limits


def test_the_proxys_own_problems_are_shaped_as_the_services_and_documented() -> None:
    documented = (ROOT / "docs" / "problems.md").read_text()
    bodies = re.findall(r"return (\d+) '(.*)';", (NGINX / "problems.conf").read_text())
    assert len(bodies) == 12
    kinds, titles = [ReviewappError], {}
    for kind in kinds:
        kinds += kind.__subclasses__()
        titles[kind.slug] = kind.title
    for status, body in bodies:
        problem = json.loads(body)
        assert problem["status"] == int(status)
        assert list(problem) == list(as_problem(NotReady(""), ""))
        assert f"`{problem['type'].removeprefix('/problems/')}`" in documented
        assert status in documented
        slug = problem["type"].removeprefix("/problems/")
        assert slug == "no-answer" or problem["title"] == titles[slug]


# ---- container --------------------------------------------------------------------------------------------------

DOCKER = ROOT / "deploy" / "docker"


def test_the_image_is_made_of_files_that_are_there_and_runs_as_nobody_of_note() -> None:
    lines = re.sub(r"\\\n", " ", (DOCKER / "Dockerfile").read_text()).splitlines()
    given = [(word, rest) for word, _, rest in (line.partition(" ") for line in lines) if word.isupper()]
    bases = [rest.split()[0] for word, rest in given if word == "FROM"]
    assert all(re.fullmatch(r"[\w/.-]+:[\w.-]+", base) and not base.endswith("latest") for base in bases)
    let_in = (DOCKER / "Dockerfile.dockerignore").read_text()
    for word, rest in given:
        if word == "COPY" and not rest.startswith("--from"):
            for source in rest.split()[:-1]:
                assert (ROOT / source).exists(), source
                assert f"\n!{source}\n" in let_in, f"the image is made without {source}"
    [user] = [rest for word, rest in given if word == "USER"]
    assert int(user.split(":")[0]) > 0
    [health] = [rest for word, rest in given if word == "HEALTHCHECK"]
    assert "health.py" in health
    last = [word for word, _ in given][len(given) - [word for word, _ in given][::-1].index("FROM") :]
    assert "COPY" in last
    assert not any("pip install" in rest or "apt" in rest for word, rest in given[-len(last) :])


def test_nothing_in_the_composition_may_write_or_become_more_than_it_is() -> None:
    text = (DOCKER / "compose.yaml").read_text()
    app, proxy = re.split(r"^  proxy:$", text.partition("\nvolumes:\n")[0], flags=re.MULTILINE)
    for service in (app, proxy):
        for line in ("read_only: true", "cap_drop: [ALL]", "no-new-privileges:true", "mem_limit:", "pids_limit:"):
            assert line in service, line
    assert "network_mode: none" in app
    assert "ports:" not in app
    for path in re.findall(r"- (\.\./[^:]+):", proxy):
        assert (DOCKER / path).exists(), path
    assert (DOCKER / re.findall(r"context: (\S+)", app)[0] / re.findall(r"dockerfile: (\S+)", app)[0]).is_file()


@pytest.mark.server
def test_the_health_check_says_whether_the_service_is_ready(service: Service, tmp_path: Path) -> None:
    def check(bind: str) -> subprocess.CompletedProcess[str]:
        settings = {"REVIEWAPP_BIND": bind, "REVIEWAPP_HOSTS": "triage.example.org, localhost"}
        return subprocess.run(
            [sys.executable, str(DOCKER / "health.py")], env={**os.environ, **settings}, capture_output=True, text=True
        )

    said = check(f"0.0.0.0:{service.port}")
    assert (said.returncode, said.stdout[:17]) == (0, '{"status":"ready"'), said.stderr
    said = check(f"unix:{tmp_path / 'nothing.sock'}")
    assert said.returncode == 1
    assert said.stderr.startswith("The service does not answer: ")
