"""Who is asked to sign in, in which words, and what every answer says to a browser."""

from typing import Any

import pytest
from flask import Flask, Response, request
from werkzeug.datastructures import Headers

from reviewapp.parts import Parts
from reviewapp.security import COOKIE, check_guards, forbid_caches, needs

from .page import JSON

PAGE = "Sign in, or send Authorization: Bearer <token>."
API = "Send Authorization: Bearer <token>; `reviewapp token create` makes one."
SITE = "This change was sent by the page of another site."
HOST = "The Host of this request is not one that this service answers for (REVIEWAPP_HOSTS)."


def detail(response: Any, status: int) -> str:
    assert response.status_code == status
    return str(response.json["detail"])


def test_who_is_not_let_in_is_told_why(app: Flask, auth: Any) -> None:
    client = app.test_client()
    assert detail(client.get("/history", headers=JSON), 401) == PAGE
    assert detail(client.get("/api/v1/predictions"), 401) == API
    assert detail(client.get("/api/v1/predictions", headers=auth("submit")), 403) == (
        "This needs the role review; yours is submit."
    )
    foreign = {"Sec-Fetch-Site": "cross-site", **JSON}
    assert detail(client.post("/", headers=foreign), 403) == SITE
    assert detail(client.post("/", headers={"Origin": "http://evil.example", **JSON}), 403) == SITE
    assert client.get("/sign-in", headers={"Sec-Fetch-Site": "cross-site"}).status_code == 200  # a look changes nothing
    assert client.head("/sign-in", headers={"Sec-Fetch-Site": "cross-site"}).status_code == 200


@pytest.mark.parametrize(
    ("host", "known"),
    [("localhost", True), ("LOCALHOST", True), ("localhost:80", True), ("localhost:", True), ("", False),
     ("evil.example", False), ("localhost:80x", False), ("localhost.evil.example", False)],
)  # fmt: skip
def test_a_request_names_a_host_that_is_ours(app: Flask, host: str, known: bool) -> None:
    response = app.test_client().get("/livez", headers=JSON, environ_overrides={"HTTP_HOST": host})
    assert response.status_code == (200 if known else 400)
    if not known:
        assert response.json["detail"] == HOST


def test_a_target_with_a_host_of_its_own_counts_and_the_header_does_not(app: Flask) -> None:
    client = app.test_client()

    def status(target: str, host: str) -> int:
        return client.get("/livez", environ_overrides={"RAW_URI": target, "HTTP_HOST": host}).status_code

    assert status("http://localhost/livez", "evil.example") == 200
    assert status("http://evil.example/livez", "localhost") == 400
    assert status("/livez?from=http://evil.example/", "localhost") == 200


def test_a_token_is_taken_however_the_word_bearer_is_written_and_only_after_it(app: Flask, parts: Parts) -> None:
    token = parts.accounts.create_token("ann", "review")

    def status(sent: str) -> int:
        return app.test_client().get("/api/v1/predictions", headers={"Authorization": sent}).status_code

    assert {status(f"{word} {token} ") for word in ("Bearer", "bearer", "BEARER", "Bearer ")} == {200}
    assert {status(sent) for sent in (token, f"Basic {token}", f"Bearer{token}", "Bearer", "Bearer  ", "")} == {401}
    assert status(f"Bearer {token} {token}") == 401


def test_a_session_is_looked_at_on_pages_alone_and_after_a_token(app: Flask, parts: Parts) -> None:
    client = app.test_client()
    client.set_cookie(COOKIE, parts.accounts.redeem_link(parts.accounts.create_link("owner", "admin")) or "")
    assert client.get("/sign-in.json").json["client"] == {"name": "owner", "role": "admin"}
    assert client.get("/api/v1/predictions").status_code == 401
    assert client.get("/api/v1/nothing").status_code == 404
    bearer = {"Authorization": f"Bearer {parts.accounts.create_token('ann', 'submit')}"}
    assert client.get("/sign-in.json", headers=bearer).json["client"] == {"name": "ann", "role": "submit"}
    assert client.get("/sign-in.json", headers={"Authorization": "Bearer ra_wrong"}).json["client"] is None
    assert client.get("/sign-in.json", headers={"Authorization": "Bearer  "}).json["client"]["name"] == "owner"
    assert app.test_client().get("/sign-in.json").json == {"client": None}


def test_signing_in_gives_a_cookie_and_leads_on_and_signing_out_takes_it_away(app: Flask, parts: Parts) -> None:
    token, client = parts.accounts.create_token("ann", "review"), app.test_client()
    given = client.post("/sign-in", data={"token": f" {token} ", "next": "/history?label=a"})
    assert (given.status_code, given.headers["Location"]) == (303, "/history?label=a")
    kept = client.get_cookie(COOKIE)
    assert kept is not None
    assert (kept.http_only, kept.same_site, kept.secure, kept.path) == (True, "Lax", False, "/")
    for prefix in ("", "/review"):
        again = app.test_client().post(
            "/sign-in", data={"token": token}, base_url="https://localhost", environ_overrides={"SCRIPT_NAME": prefix}
        )
        assert again.headers["Location"] == f"{prefix}/"
        marks = again.headers["Set-Cookie"].split("; ")
        assert {"Secure", "HttpOnly", "SameSite=Lax", f"Path={prefix or '/'}"} <= set(marks)
        out = app.test_client().post("/sign-out", environ_overrides={"SCRIPT_NAME": prefix})
        assert out.headers["Set-Cookie"].startswith(f"{COOKIE}=; Expires=Thu, 01 Jan 1970")
        assert f"Path={prefix or '/'}" in out.headers["Set-Cookie"].split("; ")
    assert client.post("/sign-out").headers["Location"] == "/sign-in"
    assert parts.accounts.client_of_session(kept.value) is None


def test_every_answer_says_the_same_to_a_browser(app: Flask) -> None:
    """The headers as a browser gets them, each of them once."""
    answer = app.test_client().get("/livez")
    said = Headers([(name, value) for name, value in answer.headers if name[:2] in ("X-", "Re", "Cr", "Co", "Ca")])
    assert {
        name: said.getlist(name) for name in set(said.keys()) - {"Content-Type", "Content-Length", "X-Request-ID"}
    } == {
        "Content-Security-Policy": [
            "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; "
            "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
        ],
        "X-Content-Type-Options": ["nosniff"],
        "X-Frame-Options": ["DENY"],
        "Referrer-Policy": ["same-origin"],
        "Cross-Origin-Opener-Policy": ["same-origin"],
        "Cross-Origin-Resource-Policy": ["same-origin"],
        "Cache-Control": ["no-store"],
    }
    with app.test_request_context("/livez"):
        own = Response(headers={"Cache-Control": "private"})
        forbid_caches(request, own)
        assert own.headers.getlist("Cache-Control") == ["private"]


def test_a_view_says_a_role_that_is_one_and_every_view_says_one(app: Flask) -> None:
    with pytest.raises(ValueError, match=r"^no such role: root$"):
        needs("root")
    app.view_functions["b.door"] = app.view_functions["a.door"] = lambda: "in"
    with pytest.raises(RuntimeError) as refused:
        check_guards(app)
    assert str(refused.value) == "routes without needs(…): a.door, b.door"
