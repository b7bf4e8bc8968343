"""gunicorn with the settings that the service needs, for `reviewapp serve` and for gunicorn.conf.py alike."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
from collections.abc import Callable
from typing import Any

from gunicorn.app.base import BaseApplication

from .config import NUMERIC_THREADS, Settings, cores
from .errors import EXTENSION, UsageError

_FIRST_DESCRIPTOR = 3  # of those that systemd hands over (sd_listen_fds)
LONGEST_LINE = 8190  # bytes of a request line, or of a header: what deploy/nginx lets through (8 KiB with its line end)


def gunicorn_settings(settings: Settings) -> dict[str, Any]:
    """Return what gunicorn is started with; names as in gunicorn's own documentation."""
    return {
        "bind": settings.bind,
        "workers": settings.worker_count,
        "threads": settings.threads,
        "worker_class": "reviewapp.worker.FairWorker",
        "pidfile": str(settings.instance / "gunicorn.pid"),
        "preload_app": False,  # a failing app must not end the master, a model must not cross a fork
        "timeout": settings.timeout,
        "graceful_timeout": 30,
        "keepalive": 5,
        "limit_request_fields": 100,
        "limit_request_line": LONGEST_LINE,
        "limit_request_field_size": LONGEST_LINE,
        "forwarder_headers": "",  # SCRIPT_NAME and PATH_INFO are never taken from a header
        "forwarded_allow_ips": "",  # nor is a scheme, which gunicorn would believe of whoever comes by a Unix socket:
        "secure_scheme_headers": {},  # what proxies say is read in one place, as far as REVIEWAPP_PROXIES goes
        "control_socket_disable": True,  # two services of one user would share it
        "loglevel": "warning",
        "post_worker_init": _begin_rounds,
        "raw_env": [f"{name}={value}" for name, value in NUMERIC_THREADS.items()],
        **(_KEEP_TO_A_CORE if settings.affinity == "auto" and hasattr(os, "sched_setaffinity") else {}),
    }


def _choose_core(arbiter: Any, worker: Any) -> None:
    """In the master, before a fork: choose the core that fewest workers have, if there are as many workers as cores.

    A worker's threads run one at a time in Python. On one core they find in its cache what the one before left there,
    and none wakes on another core only to wait.
    """
    all_cores = cores()
    taken = [getattr(one, "core", None) for one in arbiter.WORKERS.values()]
    worker.core = min(all_cores, key=taken.count) if arbiter.cfg.workers >= len(all_cores) else None


def _keep_to_core(arbiter: Any, worker: Any) -> None:
    """In the worker, after the fork."""
    if worker.core is not None:
        with contextlib.suppress(OSError):  # the core was taken away meanwhile: it goes without one
            os.sched_setaffinity(0, {worker.core})


_KEEP_TO_A_CORE = {"pre_fork": _choose_core, "post_fork": _keep_to_core}


def _begin_rounds(worker: Any) -> None:
    """In the worker, once its app is there."""
    parts = getattr(worker.app.wsgi(), "extensions", {}).get(EXTENSION)
    if parts is not None:  # gunicorn.conf.py serves other apps, too, to compare with
        parts.rounds.keep_doing()


def check_address(settings: Settings) -> None:
    """Raise UsageError where the address cannot be listened on, before anything is started."""
    if "GUNICORN_FD" in os.environ:  # from gunicorn's own re-execution
        return
    if os.environ.get("LISTEN_PID") == str(os.getpid()):
        _check_handed_over(settings, int(os.environ.get("LISTEN_FDS", "0")))
        return
    if settings.bind.startswith("unix:"):
        return
    host, _, port = settings.bind.rpartition(":")
    host = host.strip("[]")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind((host, int(port)))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                reason = f"port {port} on {host} is taken; stop what listens there, or set REVIEWAPP_BIND"
            else:
                reason = f"{settings.bind} cannot be listened on ({error.strerror})"
            raise UsageError(f"The service cannot start: {reason}.") from None


def _check_handed_over(settings: Settings, count: int) -> None:
    """Refuse sockets that listen elsewhere than REVIEWAPP_BIND says: who may be let in without a token hangs on it."""
    for descriptor in range(_FIRST_DESCRIPTOR, _FIRST_DESCRIPTOR + count):
        with socket.socket(fileno=os.dup(descriptor)) as handed:
            name = handed.getsockname()
        if isinstance(name, tuple):
            listens = f"[{name[0]}]:{name[1]}" if ":" in name[0] else f"{name[0]}:{name[1]}"
        else:
            listens = f"unix:{name}"
        if listens != settings.bind:
            raise UsageError(
                f"The socket that was handed over listens on {listens}, and REVIEWAPP_BIND is {settings.bind}; "
                "let both say the same."
            )


def make_instance(settings: Settings) -> None:
    """Make the instance folder, for its owner alone, where there is none; raise UsageError where it cannot be one."""
    try:
        settings.instance.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"REVIEWAPP_INSTANCE is {settings.instance}, which is no folder: {error.strerror}.") from None


def hold_instance(settings: Settings) -> int:
    """Make this process the only one that serves from the instance folder; return the descriptor that holds it.

    The lock ends with the process, also with one that is killed, so a pid file left behind is known to be stale; a
    pid alone may meanwhile be another program's.
    """
    make_instance(settings)
    lock = settings.instance / "serve.lock"
    try:
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise UsageError(
            f"{lock} cannot be written: {error.strerror}; it is its owner's, who runs the service."
        ) from None
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise UsageError(
            f"A service runs from {settings.instance} already; stop it, or set REVIEWAPP_INSTANCE for a second one."
        ) from None
    (settings.instance / "gunicorn.pid").unlink(missing_ok=True)
    return descriptor


def serve(settings: Settings, make_app: Callable[[], Any], when_ready: Callable[[], None]) -> None:
    """Run the service until it is told to stop; `when_ready` is called once the socket listens."""

    class Service(BaseApplication):  # type: ignore[misc]  # gunicorn has no types
        def load_config(self) -> None:
            for name, value in gunicorn_settings(settings).items():
                self.cfg.set(name, value)
            self.cfg.set("when_ready", lambda arbiter: when_ready())

        def load(self) -> Any:
            return make_app()

    Service().run()


def address(settings: Settings) -> str:
    """Return the address a person on this machine opens."""
    host, _, port = settings.bind.rpartition(":")
    host = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]"}.get(host, host)  # noqa: S104 (read, not bound)
    return f"http://{host}:{port}"
