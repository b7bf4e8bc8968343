"""Every route says who may call it, and the table below says the same; browsers get no room for other sites."""

import re
from typing import Any

import pytest
from flask import Flask

from reviewapp.factory import create_app
from reviewapp.parts import Parts
from reviewapp.security import COOKIE, check_guards

TABLE = {  # who may call what; a route that is not here fails the test below
    "POST /api/v1/predictions": "submit",
    "POST /api/v1/predictions/batch": "submit",
    "POST /api/v1/predictions/bulk": "submit",
    "GET /api/v1/predictions/<prediction_id>": "submit",
    "GET /api/v1/predictions": "review",
    "PUT /api/v1/predictions/<prediction_id>/verdict": "review",
    "DELETE /api/v1/predictions/<prediction_id>/verdict": "review",
    "POST /api/v1/queue/next": "review",
    "POST /api/v1/queue/<prediction_id>/skip": "review",
    "GET /api/v1/contract": "everybody",
    "GET /api/v1/openapi.json": "everybody",
    "GET /api/v1/releases": "submit",
    "GET /api/v1/releases/active": "submit",
    "POST /api/v1/releases/<int:version>/promote": "admin",
    "POST /api/v1/releases/rollback": "admin",
    "GET /api/v1/monitor": "review",
    "GET /livez": "everybody",
    "GET /readyz": "everybody",
    "GET /": "submit",
    "POST /": "submit",
    "GET /history": "review",
    "GET /history.csv": "review",
    "GET /history.jsonl": "review",
    "GET /history/<prediction_id>": "submit",
    "POST /history/<prediction_id>/verdict": "review",
    "POST /history/<prediction_id>/verdict/withdraw": "review",
    "GET /queue": "review",
    "POST /queue/next": "review",
    "POST /queue/<prediction_id>/verdict": "review",
    "POST /queue/<prediction_id>/skip": "review",
    "POST /queue/<prediction_id>/undo": "review",
    "GET /what-if/<prediction_id>": "submit",
    "POST /what-if/<prediction_id>": "submit",
    "GET /contract": "everybody",
    "GET /monitor": "review",
    "GET /releases": "submit",
    "GET /releases/<int:version>/promote": "admin",
    "POST /releases/<int:version>/promote": "admin",
    "GET /releases/rollback": "admin",
    "POST /releases/rollback": "admin",
    "GET /evidence": "submit",
    "GET /evidence/<name>": "submit",
    "GET /evidence/soak/<name>": "submit",
    "GET /upload": "submit",
    "POST /upload": "submit",
    "GET /upload/template.csv": "submit",
    "GET /upload/<upload_id>": "submit",
    "POST /upload/<upload_id>/continue": "submit",
    "GET /upload/<upload_id>/answers.csv": "submit",
    "GET /sign-in": "everybody",
    "POST /sign-in": "everybody",
    "POST /sign-out": "everybody",
    "GET /static/<path:filename>": "everybody",
}
WHO = ("nobody", "garbage", "expired", "revoked", "submit", "review", "admin")


def routes(app: Flask) -> list[str]:
    return [
        f"{method} {rule.rule.replace('not_a_door:', '')}"
        for rule in app.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    ]


def test_the_table_names_every_route(app: Flask) -> None:
    """A page and its JSON twin are one view, so one guard."""
    twins = {
        f"GET {'/' if path == '/index' else path}"
        for path in re.findall(r"^GET (.*)\.json$", "\n".join(routes(app)), re.M)
    }
    plain = [route for route in routes(app) if not route.endswith(".json") or route == "GET /api/v1/openapi.json"]
    assert sorted(TABLE) == sorted(plain)
    assert twins - {"GET /api/v1/openapi"} <= set(TABLE)


@pytest.fixture
def headers(parts: Parts, auth: Any) -> dict[str, dict[str, str]]:
    known = {who: auth(who) for who in ("submit", "review", "admin")}
    known |= {"nobody": {}, "garbage": {"Authorization": "Bearer \xff nothing"}, "expired": auth("admin", days=1e-9)}
    known["revoked"] = auth("admin", name="revoked")
    [row] = [row for row in parts.accounts.tokens() if row["name"] == "revoked"]
    parts.accounts.revoke_token(row["id"])
    return known


@pytest.mark.parametrize("route", TABLE)
def test_a_route_lets_in_just_whom_the_table_says(app: Flask, headers: Any, route: str) -> None:
    method, path = route.split(" ")
    path = (
        path.replace("<int:version>", "999")
        .replace("<prediction_id>", "nothing")
        .replace("<upload_id>", "nothing")
        .replace("<path:filename>", "x")
        .replace("<name>", "x")
    )
    let_in = {}
    for who in WHO:
        response = app.test_client().open(path, method=method, headers={"Accept": "application/json", **headers[who]})
        let_in[who] = response.status_code not in (401, 403)
        if who in ("nobody", "garbage", "expired", "revoked") and not let_in[who]:
            assert response.status_code == 401
            assert response.headers["WWW-Authenticate"] == "Bearer"
    if route == "POST /sign-in":  # open to everybody, but this is no token
        assert not any(let_in.values())
        return
    least = WHO.index(TABLE[route]) if TABLE[route] in WHO else 0
    assert let_in == {who: i >= least for i, who in enumerate(WHO)}


def test_a_route_without_a_guard_stops_the_start(app: Flask) -> None:
    app.view_functions["open.door"] = lambda: "in"
    with pytest.raises(RuntimeError, match=r"open\.door"):
        check_guards(app)


@pytest.fixture
def session(app: Flask, parts: Parts) -> Any:
    client = app.test_client()
    token = parts.accounts.create_token("ann", "admin")
    assert client.post("/sign-in", data={"token": token}).status_code == 303
    return client


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        ({}, 422),
        ({"Sec-Fetch-Site": "same-origin", "Origin": "null"}, 422),
        ({"Sec-Fetch-Site": "none"}, 422),
        ({"Origin": "http://localhost"}, 422),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
    ],
)
def test_a_change_sent_by_another_sites_page_is_refused(session: Any, sent: dict, status: int) -> None:
    assert session.post("/", data={}, headers=sent).status_code == status


def test_the_session_of_a_page_opens_no_door_of_the_api(session: Any, parts: Parts) -> None:
    assert session.get("/").status_code == 200
    assert session.get("/api/v1/releases").status_code == 401


def test_the_cookie_is_out_of_reach_for_scripts_and_other_sites(app: Flask, parts: Parts) -> None:
    link = parts.accounts.create_link("owner", "admin")
    for base, secure in (("http://localhost", False), ("https://localhost", True)):
        token = parts.accounts.create_token("ann", "submit")
        response = app.test_client().post("/sign-in", data={"token": token}, base_url=base)
        cookie = response.headers["Set-Cookie"]
        assert cookie.startswith(f"{COOKIE}=")
        assert "HttpOnly" in cookie
        assert "SameSite=Lax" in cookie
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
