"""Sessions of the pages end when they should, and a browser gets no room for other sites; see also test_access."""

from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from reviewapp.factory import create_app
from reviewapp.parts import EXTENSION, Parts
from reviewapp.security import COOKIE, SESSION_LIFE, needs


def sign_in(app: Flask, parts: Parts, role: str = "admin", name: str = "ann") -> FlaskClient:
    client = app.test_client()
    assert client.post("/sign-in", data={"token": parts.accounts.create_token(name, role)}).status_code == 303
    return client


def secret(client: FlaskClient) -> str:
    kept = client.get_cookie(COOKIE)
    return "" if kept is None else kept.value


def test_the_cookie_is_out_of_reach_for_scripts_and_other_sites(app: Flask, parts: Parts) -> None:
    link = parts.accounts.create_link("owner", "admin")
    for base, secure in (("http://localhost", False), ("https://localhost", True)):
        token = parts.accounts.create_token("ann", "submit")
        response = app.test_client().post("/sign-in", data={"token": token}, base_url=base)
        cookie = response.headers["Set-Cookie"]
        assert cookie.startswith(f"{COOKIE}=")
        assert "HttpOnly" in cookie
        assert "SameSite=Lax" in cookie
        assert f"Max-Age={int(SESSION_LIFE.total_seconds())}" in cookie  # as long as the server keeps the session
        assert "Path=/" in cookie
        assert ("Secure" in cookie) is secure
        assert token not in cookie
    assert app.test_client().get(f"/sign-in?link={link}").status_code == 303


@pytest.mark.parametrize("path", ["/", "/sign-in", "/nothing", "/livez", "/api/v1/contract", "/static/style.css"])
def test_every_answer_carries_the_headers_that_bind_a_browser(app: Flask, path: str) -> None:
    response = app.test_client().get(path)
    policy = response.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert (response.headers.get("Cache-Control") == "no-store") is (path != "/static/style.css")
    response.close()


def test_with_sign_in_off_everybody_is_admin_on_loopback(tmp_path: Any, release: Any, releases_root: Any) -> None:
    app = create_app({"instance": tmp_path / "off", "releases": releases_root, "auth": "off"})
    app.extensions["reviewapp"].registry.add(release, "test")
    client = app.test_client()
    assert client.get("/").status_code == 200
    assert client.get("/api/v1/predictions").status_code == 200
    app.extensions["reviewapp"].store.close()


# ---- sessions -----------------------------------------------------------------------------------------------------


def test_a_session_is_never_one_that_the_browser_came_with(app: Flask, parts: Parts) -> None:
    """Fixation: a cookie planted before signing in opens nothing, and what was open before is over after it."""
    client = app.test_client()
    client.set_cookie(COOKIE, "planted")
    client.post("/sign-in", data={"token": parts.accounts.create_token("ann", "admin")})
    first = secret(client)
    assert first != "planted"
    client.get(f"/sign-in?link={parts.accounts.create_link('owner', 'admin')}")
    assert secret(client) not in ("planted", first)
    for old in ("planted", first):
        other = app.test_client()
        other.set_cookie(COOKIE, old)
        assert other.get("/").status_code == 303
    assert client.get("/").status_code == 200


def test_a_sign_in_that_fails_leaves_who_is_in_as_they_are(app: Flask, parts: Parts) -> None:
    client = sign_in(app, parts)
    assert client.post("/sign-in", data={"token": "ra_wrong"}).status_code == 401
    assert client.get("/").status_code == 200


def test_signing_out_forgets_the_cookie_here_and_ends_the_session_there(app: Flask, parts: Parts) -> None:
    client = sign_in(app, parts)
    old = secret(client)
    response = client.post("/sign-out")
    assert response.headers["Set-Cookie"].startswith(f"{COOKIE}=; Expires=Thu, 01 Jan 1970")
    assert client.get_cookie(COOKIE) is None
    assert parts.accounts.client_of_session(old) is None
    assert client.post("/sign-out").status_code == 303  # once more, signed out


def test_a_role_that_is_taken_away_counts_at_once(app: Flask, parts: Parts) -> None:
    """A lower role is a new token; the old one, and each session that it opened, is over with the next request."""
    client = sign_in(app, parts, "admin")
    assert client.get("/releases/rollback").status_code != 403
    parts.accounts.revoke_token(parts.accounts.tokens()[0]["id"])
    assert client.get("/releases/rollback").status_code == 303
    client = sign_in(app, parts, "submit")
    assert client.get("/releases/rollback").status_code == 403


def test_an_operator_ends_the_session_of_a_link_at_once(page: FlaskClient, parts: Parts) -> None:
    assert page.get("/").status_code == 200
    assert parts.accounts.sign_out("owner") == (1, 0)
    assert page.get("/").status_code == 303


def test_behind_a_proxy_the_cookie_is_secure_and_lies_below_its_path(tmp_path: Path) -> None:
    app = create_app({"instance": tmp_path, "proxies": 1})
    parts = app.extensions[EXTENSION]
    sent = {"X-Forwarded-Proto": "https", "X-Forwarded-Prefix": "/review", "X-Forwarded-Host": "localhost"}
    token = parts.accounts.create_token("ann", "admin")
    given = app.test_client().post("/sign-in", data={"token": token}, headers=sent)
    assert given.headers["Location"] == "/review/"
    for mark in ("Secure", "HttpOnly", "SameSite=Lax", "Path=/review"):
        assert mark in given.headers["Set-Cookie"].split("; ")
    taken = app.test_client().post("/sign-out", headers=sent)
    assert "Path=/review" in taken.headers["Set-Cookie"].split("; ")
    parts.store.close()


def test_a_role_that_is_not_there_cannot_be_asked_for() -> None:
    with pytest.raises(ValueError, match="no such role"):
        needs("root")


@pytest.mark.parametrize(
    ("target", "status"),
    [
        ("http://localhost/livez", 200),
        ("http://evil.example/livez", 400),
        ("http://localhost@evil.example/livez", 400),
        ("http://evil.example", 400),
        ("http://[/livez", 400),
        ("/livez?to=http://evil.example/", 200),
        ("/x://evil.example", 200),  # a path, whatever it looks like
    ],
)
def test_a_host_in_the_target_counts_as_the_one_that_is_asked(app: Flask, target: str, status: int) -> None:
    """RFC 9112, 3.2.2: it wins over the Host header."""
    assert app.test_client().get("/livez", environ_overrides={"RAW_URI": target}).status_code == status
