"""Who may call what: every route of the app is asked by everybody, and answers as the table in docs/access.md says."""

import re
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import func, select

from reviewapp.factory import create_app
from reviewapp.parts import Parts
from reviewapp.security import COOKIE, check_guards
from reviewapp.tables import metadata

from .page import JSON, as_csv, send_file

DOCUMENT = Path(__file__).resolve().parent.parent / "docs" / "access.md"
ROW = re.compile(r"^\| `((?:GET|POST|PUT|DELETE|PATCH) [^`]+)` \| (\S+) \| (\S+) \| (\S+) \| (\S+) \|$", re.MULTILINE)
TABLE = {route: dict(zip(("not known", "submit", "review", "admin"), cells, strict=True))
         for route, *cells in ROW.findall(DOCUMENT.read_text())}  # fmt: skip
FOR_PROGRAMS = re.compile(
    r"\S+ /(api/|v2|livez|readyz|metrics|invocations|ping|health|version)"
)  # which read no cookie
PAGES = [route for route in TABLE if not FOR_PROGRAMS.match(route) and "/static/" not in route]
CHANGES = [route for route in TABLE if not route.startswith("GET")]
OF_SOMEBODY = [route for route in TABLE if "<prediction_id>" in route or "<upload_id>" in route]
NOT_KNOWN = ("anonymous", "garbage", "expired", "revoked")
ROLES = ("submit", "review", "admin")
METHODS = {"GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"}


def routes(app: Flask) -> set[str]:
    """Every route; HEAD is GET's, and the twin of a page is the page's. Flask's own answer to OPTIONS is no route."""
    found = {
        f"{method} {rule.rule}"
        for rule in app.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }
    twins = {route for route in found if route.endswith(".json") and _page_of(route) in found}
    return found - twins


def _page_of(twin: str) -> str:
    return "GET /" if twin == "GET /index.json" else twin.removesuffix(".json")


def filled(path: str, named: str = "nothing") -> str:
    """An address that a rule stands for."""
    path = path.replace("<int:version>", "999").replace("<path:filename>", "x").replace("<name>", "x")
    path = path.replace("<string:model>", "x").replace("<string:version>", "1")
    return re.sub("<prediction_id>|<upload_id>", named, path)


def ask(client: FlaskClient, route: str, named: str = "nothing", headers: Any = None, **sent: Any) -> Any:
    method, path = route.split(" ")
    return client.open(filled(path, named), method=method, headers={**JSON, **(headers or {})}, **sent)


def answered(response: Any) -> str:
    """What the table says of an answer."""
    if response.status_code in (401, 403):
        return str(response.status_code)
    return "in" if response.status_code < 500 else f"failed: {response.status_code}"


# ---- the table ----------------------------------------------------------------------------------------------------


def test_the_table_names_every_route_and_no_other(app: Flask) -> None:
    assert set(TABLE) == routes(app)


def test_a_route_without_a_guard_stops_the_start(app: Flask) -> None:
    app.view_functions["open.door"] = lambda: "in"
    with pytest.raises(RuntimeError, match=r"open\.door"):
        check_guards(app)


@pytest.fixture
def tokens(parts: Parts) -> dict[str, str | None]:
    """A token of everybody, by who they are."""
    made: dict[str, str | None] = {role: parts.accounts.create_token(role, role) for role in ROLES}
    made |= {"anonymous": None, "garbage": "\xff nothing", "expired": parts.accounts.create_token("old", "admin", 1e-9)}
    made["revoked"] = parts.accounts.create_token("revoked", "admin")
    parts.accounts.revoke_token(next(row["id"] for row in parts.accounts.tokens() if row["name"] == "revoked"))
    return made


@pytest.mark.parametrize("route", TABLE)
def test_a_route_lets_in_just_whom_the_table_says(app: Flask, tokens: dict[str, Any], route: str) -> None:
    """By token; HEAD, and the JSON twin of a page, are answered as GET is."""
    for who in (*NOT_KNOWN, *ROLES):
        headers = {} if tokens[who] is None else {"Authorization": f"Bearer {tokens[who]}"}
        response = ask(app.test_client(), route, headers=headers)
        said = TABLE[route][who if who in ROLES else "not known"]
        if route == "POST /sign-in":  # it lets everybody in to try; this is no token
            assert (response.status_code, response.json["detail"]) == (401, "Enter a token.")
            continue
        assert answered(response) == said, who
        if said == "401":
            assert response.headers["WWW-Authenticate"] == "Bearer"
        if route.startswith("GET "):
            assert ask(app.test_client(), route.replace("GET", "HEAD"), headers=headers).status_code == (
                response.status_code
            )
        if f"{route}.json" in {f"GET {rule.rule}" for rule in app.url_map.iter_rules()}:
            assert ask(app.test_client(), f"{route}.json", headers=headers).status_code == response.status_code


@pytest.mark.parametrize("route", TABLE)
def test_a_session_lets_in_just_as_a_token_does_and_only_on_the_pages(app: Flask, parts: Parts, route: str) -> None:
    accounts = parts.accounts
    revoked = accounts.create_token("revoked", "admin")
    secrets = {role: accounts.redeem_link(accounts.create_link(role, role)) for role in ROLES}
    secrets |= {"of a revoked token": accounts.open_session(revoked), "made up": "x", "empty": ""}
    secrets["ended"] = accounts.redeem_link(accounts.create_link("gone", "admin"))
    accounts.end_session(secrets["ended"] or "")
    accounts.revoke_token(accounts.tokens()[0]["id"])
    for who, secret in secrets.items():
        client = app.test_client()
        client.set_cookie(COOKIE, secret or "")
        response = ask(client, route)
        if route == "POST /sign-in":
            assert response.status_code == 401
            continue
        known = who in ROLES and not FOR_PROGRAMS.match(route)
        assert answered(response) == TABLE[route][who if known else "not known"], who


@pytest.mark.parametrize("route", [route for route in PAGES if TABLE[route]["not known"] == "401"])
def test_a_browser_that_is_not_known_is_led_to_sign_in(app: Flask, route: str) -> None:
    response = ask(app.test_client(), route, headers={"Accept": "text/html"})
    if route.startswith("GET"):
        assert response.status_code == 303
        assert response.headers["Location"].startswith("/sign-in")
    else:  # what was typed must not be lost on the way
        assert response.status_code == 401


def test_every_other_method_is_405_for_everybody(app: Flask, tokens: dict[str, Any]) -> None:
    router = app.url_map.bind("localhost")
    for path in {filled(rule.rule) for rule in app.url_map.iter_rules()}:
        known = sorted(router.allowed_methods(path))
        for method in METHODS - set(known):
            for who in ("anonymous", "admin"):
                headers = {} if tokens[who] is None else {"Authorization": f"Bearer {tokens[who]}"}
                response = ask(app.test_client(), f"{method} {path}", headers=headers)
                assert (response.status_code, response.headers["Allow"]) == (405, ", ".join(known)), path


# ---- whose it is --------------------------------------------------------------------------------------------------


@pytest.fixture
def of_bob(app: Flask, parts: Parts, example: dict[str, Any]) -> dict[str, str]:
    """A prediction and an upload of bob, whose role is submit: the id of each by the name that routes have for it."""
    client = app.test_client()
    client.post("/sign-in", data={"token": parts.accounts.create_token("bob", "submit")})
    sent = send_file(client, as_csv([{**example, "subject": "bobs subject"}]), "bobs file.csv")
    bearer = {"Authorization": f"Bearer {parts.accounts.create_token('bob', 'submit')}"}
    body = {"input": {**example, "subject": "bobs subject"}, "reference": "bobs reference"}
    made = client.post("/api/v1/predictions", json=body, headers={**bearer, "Idempotency-Key": "one"})
    return {"<prediction_id>": made.json["id"], "<upload_id>": sent.headers["Location"].rsplit("/", 1)[1]}


@pytest.mark.parametrize("route", OF_SOMEBODY)
def test_what_is_anothers_is_not_there(app: Flask, auth: Any, of_bob: dict[str, str], route: str) -> None:
    """For the role submit, and an upload for all but an admin; its owner, and who may, find it: so it was asked for."""
    kind = next(name for name in of_bob if name in route)
    twin = f"{route}.json"
    asked = [route, *([route.replace("GET", "HEAD")] if route.startswith("GET") else [])]
    asked += [twin] if any(f"GET {rule.rule}" == twin for rule in app.url_map.iter_rules()) else []
    hidden_from = ["submit", "review"] if kind == "<upload_id>" else ["submit"]
    for each in asked:
        for who in hidden_from:
            theirs = ask(app.test_client(), each, of_bob[kind], auth(who, name="ann"))
            none = ask(app.test_client(), each, "0199-no-such-id", auth(who, name="ann"))
            assert theirs.status_code == (404 if TABLE[route][who] == "in" else 403), each
            assert "bobs" not in theirs.text
            if "HEAD" not in each:
                assert theirs.json["detail"] == none.json["detail"]
        finder = "admin" if kind == "<upload_id>" or TABLE[route]["submit"] != "in" else "submit"
        owner = "bob" if finder == "submit" else "ann"
        assert ask(app.test_client(), each, of_bob[kind], auth(finder, name=owner)).status_code not in (
            401,
            403,
            404,
        ) or (
            "verdict" in each or "queue" in each  # nothing was said yet that could be taken back
        )


def test_lists_and_the_form_show_nothing_of_anothers(app: Flask, auth: Any, of_bob: dict[str, str]) -> None:
    ann, bob, client = auth("submit", name="ann"), auth("submit", name="bob"), app.test_client()
    for path in ("/upload", "/upload.json"):
        assert "bobs file" not in client.get(path, headers=ann).text
        assert "bobs file" in client.get(path, headers=bob).text
    shown = f"/?prediction={of_bob['<prediction_id>']}"
    assert client.get(shown, headers=ann).status_code == 404
    assert "bobs subject" in client.get(shown, headers=bob).text


def test_an_idempotency_key_is_its_clients_own(
    app: Flask, auth: Any, of_bob: dict[str, str], example: dict[str, Any]
) -> None:
    """The same key and body as another client's: a new answer, which tells nothing of the first."""
    body = {"input": {**example, "subject": "bobs subject"}, "reference": "bobs reference"}
    sent = {"Idempotency-Key": "one"}
    of_ann = app.test_client().post("/api/v1/predictions", json=body, headers={**auth("submit", name="ann"), **sent})
    again = app.test_client().post("/api/v1/predictions", json=body, headers={**auth("submit", name="bob"), **sent})
    assert of_ann.status_code == again.status_code == 201
    assert again.json["id"] == of_bob["<prediction_id>"] != of_ann.json["id"]


def test_a_verdict_is_in_the_name_of_who_gave_it(app: Flask, auth: Any, of_bob: dict[str, str]) -> None:
    """The name cannot be sent along."""
    path = f"/api/v1/predictions/{of_bob['<prediction_id>']}/verdict"
    ann = auth("review", name="ann")
    refused = app.test_client().put(path, json={"verdict": "agree", "author": "bob"}, headers=ann)
    assert refused.status_code == 422
    given = app.test_client().put(path, json={"verdict": "agree"}, headers=ann)
    assert given.json["verdict"]["author"] == "ann"


# ---- changes sent by other sites ----------------------------------------------------------------------------------

FOREIGN = [
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
    {"Sec-Fetch-Site": "same-origin, cross-site"},
    {"Sec-Fetch-Site": "cross-site", "Origin": "http://localhost"},
    {"Sec-Fetch-Site": ""},
    {"Origin": "http://evil.example"},
    {"Origin": "null"},
    {"Origin": ""},
    {"Origin": "https://localhost"},
    {"Origin": "http://localhost:81"},
    {"Origin": "http://localhost.evil.example"},
    {"Origin": "http://["},
]


def rows(parts: Parts) -> dict[str, int]:
    """How many rows each table has."""
    with parts.store.reading() as connection:
        return {
            name: connection.scalar(select(func.count()).select_from(table)) or 0
            for name, table in metadata.tables.items()
        }


@pytest.mark.parametrize("route", CHANGES)
def test_no_change_is_taken_from_the_page_of_another_site(
    app: Flask, page: FlaskClient, parts: Parts, auth: Any, of_bob: dict[str, str], route: str
) -> None:
    """With the cookie of an admin, with and without a token, as a form and as JSON: 403, and nothing is changed."""
    token = auth("admin")
    before = rows(parts)
    named = next((made for name, made in of_bob.items() if name in route), "")
    for sent in FOREIGN:
        for more in ({"data": {"verdict": "agree"}}, {"json": {"verdict": "agree"}}, {"headers": token}):
            headers = {**sent, **more.pop("headers", {})}
            assert ask(page, route, named, headers, **more).status_code == 403, sent
    assert rows(parts) == before


@pytest.mark.parametrize("route", [route for route in CHANGES if FOR_PROGRAMS.match(route)])
def test_the_cookie_changes_nothing_through_the_api(
    page: FlaskClient, parts: Parts, of_bob: dict[str, str], route: str
) -> None:
    before = rows(parts)
    named = next((made for name, made in of_bob.items() if name in route), "")
    for sent in ({}, {"Sec-Fetch-Site": "same-origin"}, {"Origin": "http://localhost"}):
        assert ask(page, route, named, sent, json={"verdict": "agree"}).status_code == 401
    assert rows(parts) == before


@pytest.mark.parametrize(
    "own",
    [
        {},  # a script that holds its cookie: no browser, so nobody's page
        {"Sec-Fetch-Site": "same-origin", "Origin": "null"},
        {"Sec-Fetch-Site": "none"},
        {"Origin": "http://localhost"},
    ],
)
def test_a_change_by_our_own_page_or_by_a_script_is_taken(page: FlaskClient, own: dict[str, str]) -> None:
    assert page.post("/", data={}, headers=own).status_code == 422


def test_behind_a_proxy_the_own_origin_is_the_one_that_people_see(tmp_path: Path) -> None:
    app = create_app({"instance": tmp_path, "proxies": 1, "hosts": ("desk.example",)})
    sent = {"X-Forwarded-Host": "desk.example", "X-Forwarded-Proto": "https"}
    for origin, status in (("https://desk.example", 401), ("http://desk.example", 403)):
        response = app.test_client().post("/sign-in", data={}, headers={**sent, "Origin": origin})
        assert response.status_code == status
