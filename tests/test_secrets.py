"""What is secret or was sent shows up nowhere but where it belongs: not in answers, pages, log lines or names."""

import logging
import socket
import sys
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import insert
from sqlalchemy.exc import IntegrityError

from reviewapp.accounts import Client
from reviewapp.config import load_settings
from reviewapp.logs import OneLine, write_one_line_an_event
from reviewapp.parts import Parts
from reviewapp.prediction import Call
from reviewapp.security import COOKIE
from reviewapp.store import Store
from reviewapp.tables import sessions

from .page import JSON
from .service import Service

CANARY = "canary4711"
STEERING = "\r\nERROR forged line\x1b[31m\x1b]0;title\x07\x00\x9b\u2028\u202e"


# ---- secrets ------------------------------------------------------------------------------------------------------


def test_no_secret_is_in_an_answer_a_page_or_the_log(
    app: Flask, parts: Parts, auth: Any, caplog: Any, monkeypatch: pytest.MonkeyPatch, example: dict[str, Any]
) -> None:
    """Tokens, cookies, links and passwords, right and wrong, while all goes well and while everything fails."""
    caplog.set_level(logging.DEBUG)
    token = parts.accounts.create_token("ann", "admin")
    link, unused = parts.accounts.create_link("ann", "admin"), parts.accounts.create_link("bob", "admin")
    secrets = [token, link, unused, CANARY]
    said: list[str] = []

    def ask(method: str, path: str, *, cookie: str | None = None, bearer: str | None = None, **sent: Any) -> Any:
        client = app.test_client()
        if cookie:
            client.set_cookie(COOKIE, cookie)
        headers = {**sent.pop("headers", {}), **({"Authorization": f"Bearer {bearer}"} if bearer else {})}
        response = client.open(path, method=method, headers=headers, **sent)
        own = [value for name, value in response.headers if name != "Set-Cookie"]
        said.extend([response.text, *own])
        return client

    session = ask("GET", f"/sign-in?link={link}").get_cookie(COOKIE).value
    secrets.append(session)

    def all_of_it() -> None:
        for headers in ({}, JSON):
            ask("GET", f"/sign-in?link={link}", headers=headers)  # used
            ask("GET", f"/sign-in?link={CANARY}", headers=headers)
            ask("POST", "/sign-in", data={"token": CANARY}, headers=headers)
            ask("POST", "/sign-in", data={"token": token, "password": CANARY}, headers={**headers, "Origin": CANARY})
            for path in ("/", "/history", "/releases", "/sign-in", "/contract", "/nothing", "/livez", "/readyz"):
                ask("GET", path, cookie=session, headers=headers)
                ask("GET", path, cookie=CANARY, headers=headers)
                ask("GET", path, bearer=CANARY, headers=headers)
        for path in ("/api/v1/predictions", "/api/v1/releases", "/api/v1/nothing"):
            ask("GET", path, bearer=token)
            ask("GET", path, bearer=CANARY)
            ask("GET", path, headers={"Authorization": f"Basic {CANARY}", "X-Request-ID": f"{CANARY} x"})
            ask("POST", path, bearer=token, json={"password": CANARY, "input": {"password": CANARY}})
            ask("POST", path, bearer=token, data=CANARY)
        # refused, before and after a link could be used
        ask("GET", f"/sign-in?link={unused}&next={'x' * 3000}")
        ask("HEAD", f"/sign-in?link={unused}")

    all_of_it()
    monkeypatch.setattr("reviewapp.api.answer", lambda *given: 1 / 0)
    monkeypatch.setattr("reviewapp.ui.base.render_template", lambda *given, **named: 1 / 0)
    monkeypatch.setattr("reviewapp.ui.signing.show", lambda *given, **named: 1 / 0)
    all_of_it()
    assert any("ZeroDivisionError" in (record.exc_text or "") for record in caplog.records)
    found = [(secret[:6], text[:200]) for secret in secrets for text in [*said, caplog.text] if secret in text]
    assert found == []


def test_what_holds_secrets_does_not_show_them(tmp_path: Path) -> None:
    settings = load_settings({"instance": tmp_path, "database_url": f"sqlite://user:{CANARY}@/x"}, {})
    assert CANARY not in repr(settings) + str(settings)
    assert repr(Client("ann", "submit")) == "Client(name='ann', role='submit')"
    assert "token" not in repr(Call(client="ann"))


def test_a_statement_that_fails_tells_nothing_of_its_values(store: Store) -> None:
    row = {"hash": CANARY, "name": "ann", "role": "admin", "expires_at": ""}
    with pytest.raises(IntegrityError) as failed, store.writing() as connection:
        connection.execute(insert(sessions), [row, row])
    assert CANARY not in str(failed.value)


# ---- lines --------------------------------------------------------------------------------------------------------


def lines(message: str, *given: object) -> list[str]:
    """What a failure with this message is logged as."""
    try:
        raise ValueError(message)
    except ValueError:
        record = logging.LogRecord("reviewapp", logging.ERROR, "x.py", 1, "failed: %s", given, sys.exc_info())
    return OneLine().format(record).splitlines()


def test_an_event_is_one_line_whatever_was_sent() -> None:
    [line] = lines(STEERING, STEERING)
    assert line.isprintable()
    assert r"failed: \r\nERROR forged line\x1b[31m" in line
    assert r"\nTraceback (most recent call last):" in line  # the trace is there, too
    assert lines("größe 🙂", "größe 🙂")[0].endswith("größe 🙂")


def test_who_wants_no_log_of_last_resort_gets_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging, "lastResort", None)
    write_one_line_an_event()
    assert logging.lastResort is None


def test_what_is_sent_makes_no_line_of_its_own(
    app: Flask, auth: Any, monkeypatch: pytest.MonkeyPatch, example: dict[str, Any], capsys: Any
) -> None:
    """A failure whose own message repeats what was sent, as those of libraries do."""

    def fail(*given: Any) -> Any:
        raise ValueError(f"cannot handle {STEERING}")

    monkeypatch.setattr("reviewapp.api.answer", fail)
    monkeypatch.setattr(logging.getLogger("reviewapp"), "propagate", False)  # no handler of the test's own
    response = app.test_client().get("/api/v1/contract", headers={"X-Request-ID": "one-line"})
    assert response.status_code == 500
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("request one-line failed: ")
    assert line.isprintable()


@pytest.mark.server
def test_the_log_of_the_service_holds_no_secret_and_no_line_that_was_sent(service: Service) -> None:
    """Also of requests that gunicorn refuses by itself. Addresses, which may hold a link, are not logged at all."""
    log = service.instance.parent / f"{service.instance.name}.log"
    before = len(log.read_bytes())
    secret, steering = CANARY, "\x1b[31m\x07"
    heads = [
        f"GET /sign-in?link={secret} HTTP/1.1\r\nHost: localhost\r\n",
        f"GET /nothing?token={secret} HTTP/1.1\r\nHost: evil.example\r\n",
        f"GET / HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {secret}{steering}\r\n",
        f"GET / HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer\r\n {secret}\r\n",
        f"GET / HTTP/1.1\r\nHost: localhost\r\nCookie: {COOKIE}={secret}\x00\r\n",
        f"GET /{steering} HTTP/1.1\r\nHost: localhost\r\n",
        f"GET / HTTP/1.1\r\nHost: localhost\r\n{steering}: x\r\n",
        f"GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1{steering}\r\n",
        f"GET / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: x{steering}\r\n",
        f"GET{steering} / HTTP/1.1\r\nHost: localhost\r\n",
        f"GET / HTTP/{steering}\r\nHost: localhost\r\n",
        "GET http://[/ HTTP/1.1\r\nHost: localhost\r\n",
    ]
    for head in heads:
        with socket.create_connection(("127.0.0.1", service.port), 10) as connection:
            connection.sendall(f"{head}\r\n".encode())
            connection.shutdown(socket.SHUT_WR)
            answer = b"".join(iter(lambda: connection.recv(4096), b""))
        assert answer.startswith(b"HTTP/1.1 4") or answer.startswith((b"HTTP/1.1 303", b"HTTP/1.1 501")), head
    written = log.read_bytes()[before:].decode()
    assert "InvalidRequestLine" in written  # so the log was watched
    assert secret not in written
    assert all(line.isprintable() for line in written.splitlines())
