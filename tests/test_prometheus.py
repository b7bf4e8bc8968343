"""What deploy/prometheus promises, held to by Prometheus itself: its own checks, and alerts seen firing."""

import http.client
import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from flask import Flask

from reviewapp import proof
from reviewapp.config import load_settings
from reviewapp.evidence.running import free_port
from reviewapp.factory import make_parts
from reviewapp.parts import Parts
from reviewapp.release import Release

from .proxy import MARKS as NEEDS_NGINX
from .proxy import Proxied, put_in
from .verdicts import judge

SHIPPED = Path(__file__).resolve().parent.parent / "deploy" / "prometheus"
RULES = SHIPPED / "reviewapp.rules.yml"
NOTES = (SHIPPED.parent / "README.md").read_text(encoding="utf-8")
PROMTOOL, PROMETHEUS = shutil.which("promtool"), shutil.which("prometheus")
pytestmark = pytest.mark.skipif(  # CI installs both, and fails where a test was skipped
    PROMTOOL is None or PROMETHEUS is None,
    reason="Prometheus is not installed here; `apt install prometheus` brings it",
)
SECONDS = 60.0  # a bound, not a promise


def promtool(*words: str, sent: str = "") -> str:
    """What promtool says of what it is given; it must be content."""
    done = subprocess.run([str(PROMTOOL), *words], input=sent, cwd=SHIPPED, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def alerts() -> list[dict[str, Any]]:
    groups = yaml.safe_load(RULES.read_text())["groups"]
    return [rule for group in groups for rule in group["rules"] if "alert" in rule]


def test_prometheus_takes_the_configuration_and_the_rules() -> None:
    promtool("check", "config", "prometheus.yml")
    promtool("check", "rules", RULES.name)


def test_each_alert_fires_where_it_should_and_not_where_it_should_not() -> None:
    promtool("test", "rules", "reviewapp.rules.test.yml")


def test_each_alert_is_tried_says_what_is_wrong_and_what_to_do_and_stands_in_the_notes() -> None:
    tried = (SHIPPED / "reviewapp.rules.test.yml").read_text()
    for rule in alerts():
        assert set(rule["annotations"]) == {"summary", "description"}
        assert rule["labels"]["severity"] in ("critical", "warning")
        assert f'"{rule["alert"]}"' in tried, rule["alert"]
        assert f"`{rule['alert']}`" in NOTES, rule["alert"]


def test_promtool_has_nothing_to_say_of_the_metrics_and_the_rules_ask_for_no_other(app: Flask, parts: Parts) -> None:
    judge(parts, "+" * 30 + "-" * 3)
    parts.rounds.do_due()
    text = app.test_client().get("/metrics").text
    assert promtool("check", "metrics", sent=text) == ""
    told = {line.split("{")[0].split(" ")[0] for line in text.splitlines() if not line.startswith("#")}
    asked = {word for rule in yaml.safe_load(RULES.read_text())["groups"] for word in named_in(rule)}
    assert asked <= told
    assert len(asked) > 10


def named_in(group: dict[str, Any]) -> set[str]:
    words = " ".join(rule["expr"] for rule in group["rules"])
    for sign in "(){}[],=\"'<>/*+-":
        words = words.replace(sign, " ")
    return {word for word in words.split() if word.startswith("reviewapp_")}


# ---- a real one ---------------------------------------------------------------------------------------------------


class Prometheus:
    """A Prometheus with the shipped configuration, but that it asks every half second."""

    def __init__(self, folder: Path, target: int) -> None:
        self.port, self.log = free_port(), folder / "prometheus.log"
        values = {
            "127.0.0.1:8001": f"127.0.0.1:{target}",
            "interval: 15s": "interval: 500ms",
            "timeout: 10s": "timeout: 450ms",
        }
        (folder / "prometheus.yml").write_text(put_in((SHIPPED / "prometheus.yml").read_text(), values))
        shutil.copy(RULES, folder)
        with self.log.open("w") as out:
            self.process = subprocess.Popen(
                [
                    str(PROMETHEUS), f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data",
                    f"--web.listen-address=127.0.0.1:{self.port}",
                ],
                stdout=out, stderr=subprocess.STDOUT, cwd=folder,
            )  # fmt: skip

    def ask(self, path: str) -> Any:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request("GET", path)
            return json.loads(connection.getresponse().read())["data"]
        finally:
            connection.close()

    def firing(self) -> set[str]:
        try:
            found = self.ask("/api/v1/alerts")["alerts"]
        except (OSError, ValueError):
            return set()  # it has not begun to listen
        return {alert["labels"]["alertname"] for alert in found if alert["state"] == "firing"}

    def wait_for(self, *names: str) -> None:
        ends = time.monotonic() + SECONDS
        while not set(names) <= self.firing():
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < ends, (self.firing(), self.ask("/api/v1/targets"), self.log.read_text()[-2000:])
            time.sleep(0.2)  # the distance of two looks


@contextmanager
def scraping(folder: Path, target: int) -> Iterator[Prometheus]:
    folder.mkdir()
    running = Prometheus(folder, target)
    try:
        yield running
    finally:
        running.process.terminate()
        running.process.wait(30)


@pytest.fixture
def fired(
    tmp_path: Path, release: Release, releases_root: Path, live_database: Path, proven: Path
) -> Iterator[Proxied]:
    """The service behind nginx, as it is deployed, whose trigger has fired: its baseline answers."""
    instance = tmp_path / "instance"
    instance.mkdir(mode=0o700)
    shutil.copy(live_database, instance / "reviewapp.sqlite3")
    shutil.copytree(proven, instance / proof.FOLDER)
    parts = make_parts(load_settings({"instance": instance, "releases": releases_root}, {}))
    judge(parts, "+" * 30 + "-" * 60)
    event = parts.watch.look()
    parts.store.close()
    assert event is not None
    with Proxied(instance, release.contract, REVIEWAPP_RELEASES=str(releases_root)) as running:
        yield running


@pytest.mark.parametrize("needs", [pytest.param("nginx", marks=NEEDS_NGINX)])
def test_a_real_prometheus_sees_through_the_proxy_that_the_trigger_fired_and_who_answers(
    fired: Proxied, tmp_path: Path, needs: str
) -> None:
    with scraping(tmp_path / "prometheus", fired.metrics_port) as prometheus:
        prometheus.wait_for("ReviewappTriggerFired", "ReviewappFallbackActive")
        [target] = prometheus.ask("/api/v1/targets")["activeTargets"]
        assert target["health"] == "up"
        [state] = prometheus.ask("/api/v1/query?query=reviewapp_trigger_state")["result"]
        assert state["value"][1] == "2"
        assert any((tmp_path / "prometheus" / "data").iterdir())
