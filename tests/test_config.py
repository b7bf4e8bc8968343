"""Settings come from four places in a fixed order, and a wrong one is named."""

from pathlib import Path
from typing import Any

import pytest

from reviewapp.config import load_settings
from reviewapp.errors import UsageError


def load(tmp_path: Path, environ: dict[str, str] | None = None, **overrides: Any) -> Any:
    return load_settings({"instance": tmp_path, **overrides}, environ or {})


def test_defaults_lie_in_the_instance_folder(tmp_path: Path) -> None:
    settings = load(tmp_path)
    assert settings.database_url == f"sqlite:///{tmp_path / 'reviewapp.sqlite3'}"
    assert settings.releases == tmp_path / "releases"
    assert (settings.bind, settings.auth, settings.proxies) == ("127.0.0.1:8000", "token", 0)
    assert (settings.max_body, settings.max_bulk) == (1 << 20, 32 << 20)
    assert settings.worker_count >= 1


def test_later_sources_win(tmp_path: Path) -> None:
    (tmp_path / "config.py").write_text("THREADS = 3\nWORKERS = 3\nHOSTS = ['a', 'b']\nhelper = 1\n")
    settings = load(tmp_path, {"REVIEWAPP_WORKERS": "4", "REVIEWAPP_BIND": "[::1]:0"}, bind="localhost:1")
    assert (settings.threads, settings.workers, settings.bind, settings.hosts) == (3, 4, "localhost:1", ("a", "b"))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("WORKERS", "many"),
        ("WORKERS", "-1"),
        ("THREADS", "0"),
        ("AUTH", "none"),
        ("BIND", "8000"),
        ("BIND", "localhost:http"),
        ("BIND", "localhost:70000"),
        ("BIND", "unix:"),
        ("HOSTS", ","),
        ("MAX_BODY", "1 MiB"),
        ("MAX_BULK", "0"),
        ("PROXIES", "x"),
    ],
)
def test_a_wrong_value_is_named(tmp_path: Path, name: str, value: str) -> None:
    with pytest.raises(UsageError, match=f"REVIEWAPP_{name}"):
        load(tmp_path, {f"REVIEWAPP_{name}": value})


def test_an_unknown_name_in_the_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "config.py").write_text("WORKER = 3\n")
    with pytest.raises(UsageError, match="WORKER"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("bind", "loopback"),
    [
        ("127.0.0.1:1", True),
        ("127.9.9.9:1", True),
        ("[::1]:1", True),
        ("localhost:1", True),
        ("unix:/run/x.sock", True),
        ("0.0.0.0:1", False),
        ("10.0.0.1:1", False),
        ("example.org:1", False),
        ("[::]:1", False),
    ],
)
def test_sign_in_can_be_off_only_on_loopback(tmp_path: Path, bind: str, loopback: bool) -> None:
    assert load(tmp_path, bind=bind).loopback is loopback
    if loopback:
        load(tmp_path, bind=bind, auth="off")
    else:
        with pytest.raises(UsageError, match="loopback"):
            load(tmp_path, bind=bind, auth="off")
