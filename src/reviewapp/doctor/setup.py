"""The settings of the service, and those of the proxy before it."""

from __future__ import annotations

import re
from collections.abc import Iterator

from ..config import LOOPBACK_NAMES
from ..server import gunicorn_settings
from .finding import OK, WARNING, WRONG, Case, Finding

# What the service takes from the proxy, once it trusts one: a header that the proxy does not set is the client's own.
TRUSTED_HEADERS = ("X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host", "X-Forwarded-Prefix")
_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}


def address(case: Case) -> Iterator[Finding]:
    settings = case.parts.settings
    if settings.loopback:
        yield Finding(OK, f"{settings.bind} is reached from this machine alone.")
    else:
        yield Finding(
            WARNING,
            f"{settings.bind} is reached by others without a proxy: without TLS, and by slow clients directly.",
            "Set REVIEWAPP_BIND to 127.0.0.1:8000 or unix:PATH.",
        )


def proxies(case: Case) -> Iterator[Finding]:
    settings = case.parts.settings
    if settings.proxies and not settings.loopback:
        yield Finding(
            WRONG,
            "Headers of a proxy are trusted, and clients can reach the service without it: they may forge them.",
            "Set REVIEWAPP_BIND to 127.0.0.1:8000 or unix:PATH.",
        )
    elif not settings.proxies and not set(settings.hosts) <= set(LOOPBACK_NAMES):
        yield Finding(
            WARNING,
            f"It answers as {', '.join(settings.hosts)}, and no proxy is trusted: all clients have its address.",
            "Set REVIEWAPP_PROXIES to the number of proxies.",
        )
    else:
        yield Finding(OK, f"{settings.proxies} proxies are trusted; it answers as {', '.join(settings.hosts)}.")


def sign_in(case: Case) -> Iterator[Finding]:
    if case.parts.settings.auth == "off":
        yield Finding(
            WARNING,
            "Sign-in is off: everyone on this machine is admin.",
            "Leave REVIEWAPP_AUTH out, or set it to token.",
        )
    else:
        yield Finding(OK, "Sign-in is on.")


def control_socket(case: Case) -> Iterator[Finding]:
    """gunicorn's own: whoever may write to it commands the service. GUNICORN_CMD_ARGS goes before our settings."""
    if given := case.facts.environment.get("GUNICORN_CMD_ARGS", "").strip():
        yield Finding(WRONG, f"GUNICORN_CMD_ARGS ({given}) overrides the settings.", "Take it out of the environment.")
    elif not gunicorn_settings(case.parts.settings)["control_socket_disable"]:
        yield Finding(WRONG, "gunicorn's control socket is open.", "Set control_socket_disable.")
    else:
        yield Finding(OK, "gunicorn's control socket is off.")


def nginx(case: Case) -> Iterator[Finding]:
    if not case.nginx:
        yield Finding(OK, "No file of nginx was given (--nginx FILE).")
        return
    text = "\n".join(_told(path.read_text(encoding="utf-8", errors="replace")) for path in case.nginx)
    found = [*_sizes(case, text), *_times(text), *_headers(case, text)]
    yield from found or [Finding(OK, f"{', '.join(path.name for path in case.nginx)} fits the settings.")]


def _told(text: str) -> str:
    """Return what a file of nginx says of requests: no comments, no texts, no pages that only nginx itself asks for."""
    text = re.sub(r"'[^']*'", "''", re.sub(r"#.*", "", text))
    return re.sub(r"\blocation\b[^{}]*\{[^{}]*\binternal;[^{}]*\}", "", text)


def _sizes(case: Case, text: str) -> Iterator[Finding]:
    given = re.findall(r"\bclient_max_body_size\s+(\d+)([kmg]?)\s*;", text, re.IGNORECASE)
    sizes = [int(number) * _UNITS[unit.lower()] for number, unit in given] or [1 << 20]  # nginx's own default
    settings, fix = case.parts.settings, "Set client_max_body_size."
    if 0 in sizes:
        yield Finding(WARNING, "nginx takes bodies of any size (client_max_body_size 0).", fix)
    elif max(sizes) < settings.max_bulk:
        most = f"{settings.max_bulk:,}"
        yield Finding(WRONG, f"nginx takes {max(sizes):,} bytes at most, REVIEWAPP_MAX_BULK is {most}.", fix)
    elif min(sizes) < settings.max_body:
        most = f"{settings.max_body:,}"
        yield Finding(WRONG, f"nginx takes {min(sizes):,} bytes in one place, REVIEWAPP_MAX_BODY is {most}.", fix)


def _times(text: str) -> Iterator[Finding]:
    for name in ("client_header_timeout", "client_body_timeout"):
        given = re.findall(rf"\b{name}\s+(\d+)(ms|s|m|)\s*;", text)
        if not given or any(int(number) * {"ms": 0.001, "m": 60}.get(unit, 1) > 30 for number, unit in given):
            yield Finding(WARNING, f"nginx waits long for slow clients ({name}).", f"Set {name} 5s;")


def _headers(case: Case, text: str) -> Iterator[Finding]:
    if not case.parts.settings.proxies:
        return
    missing = [one for one in TRUSTED_HEADERS if not re.search(rf"\bproxy_set_header\s+{one}\s", text, re.IGNORECASE)]
    if missing:
        yield Finding(
            WRONG,
            f"nginx hands on what clients say of {', '.join(missing)}, and the service believes it.",
            "Set each by proxy_set_header.",
        )
