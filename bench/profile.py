"""One request, stage by stage, in one process: `python -m bench.profile` (builds the default release first).

Prints the median of each stage in µs: what `Server-Timing` says; the two reads of the store that every request makes
(whose token it is, which release is live); the hooks around it; and the rest, which is Flask's routing and contexts and
Werkzeug's request and response. The server's own part is the same as for the empty route.
"""

from __future__ import annotations

import io
import re
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import orjson
from flask import Flask, jsonify

from reviewapp.factory import create_app
from reviewapp.parts import EXTENSION
from reviewapp.stages import STAGES
from reviewapp.triage import build, generator

REQUESTS, BEFORE = 2000, 100  # those that count, and those that only warm up
PATH = "/api/v1/predictions"


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        app = create_app({"instance": Path(folder)})
        parts = app.extensions[EXTENSION]
        parts.registry.add(build.build(parts.settings.releases), "bench")
        token = parts.accounts.create_token("bench", "submit")
        bodies = [orjson.dumps({"input": one.record}) for one in generator.generate(200, 7)]
        taken = {"token": 0.0, "release": 0.0, "hooks": 0.0}

        def timed(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
            def run(*given: Any) -> Any:
                started = perf_counter()
                try:
                    return function(*given)
                finally:
                    taken[name] += (perf_counter() - started) * 1e6

            return run

        parts.accounts.client_of_token = timed("token", parts.accounts.client_of_token)
        parts.registry.adapter = timed("release", parts.registry.adapter)
        for hooks in (app.before_request_funcs, app.after_request_funcs):
            for name, functions in hooks.items():
                hooks[name] = [timed("hooks", function) for function in functions]
        rows: list[dict[str, float]] = []
        for i in range(BEFORE + REQUESTS):
            taken.update(dict.fromkeys(taken, 0.0))
            total, timing = ask(app, bodies[i % len(bodies)], token)
            said = {name: float(ms) * 1000 for name, ms in re.findall(r"(\w+);dur=([\d.]+)", timing)}
            row = {name: said[name] for name in STAGES} | taken | {"hooks": taken["hooks"] - taken["token"]}
            rows.append(row | {"the rest": total - sum(row.values()), "together": total})
        parts.store.close()
    print("| stage | µs |\n|---|--:|")
    for name in rows[0]:
        print(f"| {name} | {median(row[name] for row in rows[BEFORE:]):.0f} |")
    empty = Flask("empty")
    empty.post(PATH)(lambda: jsonify(status="ok"))
    print(f"| an empty Flask JSON route | {median(ask(empty, bodies[0], token)[0] for _ in range(REQUESTS)):.0f} |")


def ask(app: Flask, body: bytes, token: str) -> tuple[float, str]:
    """Return the µs that one request takes, and the `Server-Timing` of its answer."""
    answered: list[Any] = []

    def start(*given: Any) -> Callable[[bytes], object]:
        answered.extend(given)
        return answered.append

    environ = {
        "REQUEST_METHOD": "POST", "SCRIPT_NAME": "", "PATH_INFO": PATH, "RAW_URI": PATH, "QUERY_STRING": "",
        "SERVER_NAME": "127.0.0.1", "SERVER_PORT": "8000", "SERVER_PROTOCOL": "HTTP/1.1", "REMOTE_ADDR": "127.0.0.1",
        "HTTP_HOST": "127.0.0.1:8000", "HTTP_AUTHORIZATION": f"Bearer {token}", "CONTENT_TYPE": "application/json",
        "CONTENT_LENGTH": str(len(body)), "wsgi.version": (1, 0), "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(body), "wsgi.errors": sys.stderr, "wsgi.multithread": True,
        "wsgi.multiprocess": True, "wsgi.run_once": False,
    }  # fmt: skip
    started = perf_counter()
    pieces = app(environ, start)
    b"".join(pieces)
    pieces.close()  # type: ignore[attr-defined]  # Werkzeug's has it, WSGI's type does not
    taken = (perf_counter() - started) * 1e6
    if not answered[0].startswith("2"):
        raise SystemExit(f"The request was answered with {answered[0]}.")
    return taken, dict(answered[1]).get("Server-Timing", "")


if __name__ == "__main__":
    main()
