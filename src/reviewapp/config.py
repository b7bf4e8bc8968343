"""Settings: one row each (name, default, help). Later wins: default, instance/config.py, REVIEWAPP_*, mapping."""

from __future__ import annotations

import ipaddress
import os
import runpy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from . import places
from .errors import UsageError

PREFIX = "REVIEWAPP_"
# One thread a worker inside numeric libraries: workers are the parallelism, and OpenMP does not survive a fork.
NUMERIC_THREADS = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
LOOPBACK_NAMES = ("127.0.0.1", "localhost", "[::1]")


def _row(default: Any, read: Callable[[str], Any], shown: str, text: str, *, secret: bool = False) -> Any:
    """Return the field of a setting; what may hold a secret is not shown where the settings are."""
    return field(default=default, metadata={"read": read, "default": shown, "help": text}, repr=not secret)


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError("it must be 1 or more")
    return number


def _not_negative(text: str) -> int:
    number = int(text)
    if number < 0:
        raise ValueError("it must be 0 or more")
    return number


def _auth(text: str) -> str:
    if text not in ("token", "off"):
        raise ValueError("it must be token or off")
    return text


def _affinity(text: str) -> str:
    if text not in ("auto", "off"):
        raise ValueError("it must be auto or off")
    return text


def _access_log(text: str) -> str:
    if text not in ("auto", "on", "off"):
        raise ValueError("it must be auto, on or off")
    return text


def _switch(text: str) -> str:
    if text not in ("on", "off"):
        raise ValueError("it must be on or off")
    return text


def _share(text: str) -> float:
    number = float(text)
    if not 0 < number < 1:
        raise ValueError("it must lie between 0 and 1")
    return number


def _names(text: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    if not names:
        raise ValueError("it must name at least one host, separated by commas")
    return names


def _releases(text: str) -> Path | str:
    """Return a path, or a URL as it is."""
    return text if "://" in text else Path(text)


def _bind(text: str) -> str:
    if text.startswith("unix:") and len(text) > len("unix:"):
        return text
    host, colon, port = text.rpartition(":")
    if not (colon and host and port.isascii() and port.isdigit() and int(port) <= 65535):
        raise ValueError("it must be HOST:PORT or unix:PATH")
    return text


@dataclass(frozen=True)
class Settings:
    """What an operator can set. `REVIEWAPP_BIND` in the environment is `bind` here and `BIND` in config.py."""

    instance: Path = _row(None, Path, "`instance/`", "Folder of the database, the releases and the secrets.")
    database_url: str = _row(
        "", str, "SQLite in the instance folder", "URL of the ledger: `sqlite:////path/to/file` or `postgresql+psycopg://user@host/name`.",
        secret=True,
    )  # fmt: skip
    releases: Path | str = _row(
        None, _releases, "`releases/` in the instance folder",
        "Folder that holds the releases, or a URL of fsspec (`s3://bucket/path`), which needs `reviewapp[hosts]`.",
        secret=True,
    )  # fmt: skip
    hosts: tuple[str, ...] = _row(
        LOOPBACK_NAMES, _names, "loopback names", "`Host` values that are answered, separated by commas."
    )
    bind: str = _row("127.0.0.1:8000", _bind, "`127.0.0.1:8000`", "Address to listen on, or `unix:PATH`.")
    workers: int = _row(0, _not_negative, "number of cores", "gunicorn worker processes (0: number of cores).")
    threads: int = _row(8, _positive, "`8`", "Threads of each worker.")
    timeout: int = _row(
        30,
        _positive,
        "`30`",
        "Seconds after which a request that nothing comes of gets 503, and its worker is replaced.",
    )
    affinity: str = _row(
        "auto",
        _affinity,
        "`auto`",
        "`auto`: where there is a worker for each core, each keeps to one; `off`: the system moves them about.",
    )
    proxies: int = _row(0, _not_negative, "`0`", "How many proxies' `X-Forwarded-*` headers to trust.")
    auth: str = _row("token", _auth, "`token`", "`off` switches sign-in off; only where the bind is loopback.")
    evidence: Path | None = _row(
        None,
        Path,
        "`memo/evidence/` for the default model in a checkout, else `evidence/` in the instance folder",
        "Folder of the evidence pack, whatever release it is of.",
    )
    access_log: str = _row(
        "auto",
        _access_log,
        "`auto`",
        "A line of JSON for each request on standard output: `on`, `off`, `auto`: unless that is a terminal.",
    )
    compat: str = _row(
        "on", _switch, "`on`", "`off`: the routes of other protocols are not there (MLflow's `/invocations`, `/v2`)."
    )
    slo_availability: float = _row(0.999, _share, "`0.999`", "Share of requests that must not fail, over 30 days.")
    slo_latency_ms: int = _row(100, _positive, "`100`", "Milliseconds within which a request should be answered.")
    slo_latency_share: float = _row(0.99, _share, "`0.99`", "Share of requests that must be, over 30 days.")
    max_body: int = _row(1 << 20, _positive, "1 MiB", "Largest request body, bytes; above: 413.")
    max_bulk: int = _row(32 << 20, _positive, "32 MiB", "Largest file of requests (bulk, upload), bytes; above: 413.")

    @property
    def worker_count(self) -> int:
        return self.workers or len(cores())

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach the service."""
        if self.bind.startswith("unix:"):
            return True
        host = self.bind.rpartition(":")[0].strip("[]")
        try:
            return ipaddress.ip_address(host).is_loopback
        except ValueError:
            return host == "localhost"


def cores() -> list[int]:
    """Return the cores that this process may use, which in a container may be few of the machine's."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def load_settings(overrides: Mapping[str, Any] | None = None, environ: Mapping[str, str] | None = None) -> Settings:
    """Return the settings from all four sources; raise UsageError naming the setting that is wrong."""
    environ = os.environ if environ is None else environ
    overrides = dict(overrides or {})
    instance = Path(
        overrides.get("instance") or environ.get(f"{PREFIX}INSTANCE") or places.default_instance()
    ).absolute()
    values: dict[str, Any] = {}
    for setting in fields(Settings):
        text = environ.get(PREFIX + setting.name.upper(), "").strip()
        if text:
            values[setting.name] = _read(setting.metadata["read"], PREFIX + setting.name.upper(), text)
    file = instance / "config.py"
    if given := _run(file):
        known = {setting.name.upper(): setting for setting in fields(Settings)}
        for name, value in given.items():
            if name not in known:
                raise UsageError(f"{file} sets {name}, which is no setting; known are {', '.join(sorted(known))}.")
            text = ",".join(value) if isinstance(value, (list, tuple)) else str(value)
            values.setdefault(known[name].name, _read(known[name].metadata["read"], f"{name} in {file}", text))
    values.update(overrides)
    values["instance"] = instance
    releases = _releases(str(values.get("releases") or instance / "releases"))
    values["releases"] = releases.absolute() if isinstance(releases, Path) else releases
    values["evidence"] = Path(values["evidence"]).absolute() if values.get("evidence") else None
    values["database_url"] = values.get("database_url") or f"sqlite:///{instance / 'reviewapp.sqlite3'}"
    settings = Settings(**values)
    if settings.auth == "off" and not settings.loopback:
        raise UsageError(
            f"REVIEWAPP_AUTH=off is allowed only on a loopback address, and REVIEWAPP_BIND is {settings.bind}."
        )
    return settings


def _run(file: Path) -> dict[str, Any]:
    """Return what config.py sets, nothing where there is none; raise UsageError saying what is wrong with it."""
    try:
        made = runpy.run_path(str(file)) if file.is_file() else {}
    except OSError as error:
        raise UsageError(
            f"{file} cannot be read: {error.strerror}; ask as the user that the service runs as."
        ) from None
    except Exception as error:  # it is a program, which may raise anything
        raise UsageError(f"{file} cannot be run: {type(error).__name__}: {error}.") from None
    return {name: value for name, value in made.items() if name.isupper()}


def _read(read: Callable[[str], Any], name: str, text: str) -> Any:
    try:
        return read(text)
    except ValueError as error:
        raise UsageError(f"{name} is {text!r}: {error}.") from None


def settings_table() -> str:
    """Return the Markdown table of the settings that the documentation shows."""
    rows = ["| variable | default | what |", "|---|---|---|"]
    rows += [
        f"| `{PREFIX}{s.name.upper()}` | {s.metadata['default']} | {s.metadata['help']} |" for s in fields(Settings)
    ]
    return "\n".join(rows) + "\n"
