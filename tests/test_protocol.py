"""HTTP itself: media types, sizes, broken bodies, request ids, foreign hosts; always one shape of problem."""

import gzip
import io
import json
import shutil
from typing import Any

import pytest
from flask import Flask

from reviewapp.factory import create_app
from reviewapp.parts import EXTENSION
from reviewapp.protocol import drain

PATH = "/predictions"


def problem(response: Any, status: int, kind: str) -> None:
    assert (response.status_code, response.json["type"]) == (status, f"/problems/{kind}")


@pytest.mark.parametrize(
    "content_type",
    [None, "text/plain", "text/json", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x",
     "application/vnd.x+json", "application/json, text/html", "application/json; charset=utf-16"],
)  # fmt: skip
def test_only_json_in_utf8_is_read(api: Any, example: dict, content_type: str | None) -> None:
    body = json.dumps({"input": example})
    problem(api("post", PATH, data=body, content_type=content_type), 415, "unsupported-media-type")


@pytest.mark.parametrize("content_type", ["application/json", "application/json; charset=UTF-8", "Application/JSON"])
def test_json_may_say_that_it_is_utf8(api: Any, example: dict, content_type: str) -> None:
    body = json.dumps({"input": example})
    assert api("post", PATH, data=body, content_type=content_type).status_code == 201


@pytest.mark.parametrize("encoding", ["gzip", "br", "zstd", "bogus"])
def test_an_encoded_body_is_refused_unopened(api: Any, encoding: str) -> None:
    body = gzip.compress(b"0" * 10_000_000)
    headers = {"Content-Encoding": encoding}
    response = api("post", PATH, data=body, content_type="application/json", headers=headers)
    problem(response, 415, "unsupported-media-type")


@pytest.mark.parametrize("body", [b"", b"{", b"NaN", b'{"a":1,"a":2}', b"[" * 100_000, b'"\xff"'])
def test_what_is_no_strict_json_is_400(api: Any, body: bytes) -> None:
    problem(api("post", PATH, data=body, content_type="application/json"), 400, "not-json")


@pytest.mark.parametrize(
    "literal", ["3.7", '"3"', "true", "9223372036854775808", "1e999", "9" * 5000, "{}", "[]", "null"]
)
def test_a_number_that_breaks_a_rule_is_422_at_its_place(api: Any, example: dict, literal: str) -> None:
    body = json.dumps({"input": {**example, "open_tickets": "@"}}).replace('"@"', literal)
    response = api("post", PATH, data=body, content_type="application/json")
    problem(response, 422, "invalid-input")
    assert [e["pointer"] for e in response.json["errors"]] == ["/input/open_tickets"]


def test_a_whole_number_may_be_written_as_3_0(api: Any, example: dict) -> None:
    made = api("post", PATH, json={"input": {**example, "open_tickets": 3.0}}).json
    stored = api("get", f"/predictions/{made['id']}").json["input"]["open_tickets"]
    assert (stored, type(stored)) == (3, int)


@pytest.mark.parametrize("text", ["tab\tlf\ncr\r\n", "\x80\x9f", "\u202e right to left", "=HYPERLINK(1)", "🙂" * 100])
def test_unusual_text_is_text(api: Any, example: dict, text: str) -> None:
    made = api("post", PATH, json={"input": {**example, "body": text}})
    assert made.status_code == 201
    assert api("get", f"/predictions/{made.json['id']}").json["input"]["body"] == text


def test_the_size_limit_holds_to_the_byte(tmp_path: Any, app: Flask, api: Any, parts: Any, example: dict) -> None:
    limit = parts.settings.max_body
    body = json.dumps({"input": example})
    at_limit = body + " " * (limit - len(body))
    assert api("post", PATH, data=at_limit, content_type="application/json").status_code == 201
    response = api("post", PATH, data=at_limit + " ", content_type="application/json")
    problem(response, 413, "too-large")
    assert f"{limit:,}" in response.json["detail"]


def test_a_chunked_body_over_the_limit_is_413(api: Any, parts: Any) -> None:
    stream = io.BytesIO(b" " * (parts.settings.max_body + 1))
    response = api(
        "post", PATH, input_stream=stream, content_type="application/json", headers={"Transfer-Encoding": "chunked"},
        environ_overrides={"wsgi.input_terminated": True, "CONTENT_LENGTH": ""},
    )  # fmt: skip
    problem(response, 413, "too-large")


def test_a_body_shorter_than_it_says_is_400(api: Any) -> None:
    response = api(
        "post", PATH, input_stream=io.BytesIO(b"{}"), content_type="application/json",
        environ_overrides={"CONTENT_LENGTH": "10"},
    )  # fmt: skip
    problem(response, 400, "bad-request")


class Breaking(io.BytesIO):
    """A body whose connection breaks."""

    def read(self, size: int = -1) -> bytes:
        raise OSError("reset")


def test_a_body_that_breaks_off_is_400(api: Any) -> None:
    response = api(
        "post", PATH, input_stream=Breaking(), content_type="application/json",
        environ_overrides={"CONTENT_LENGTH": "10"},
    )  # fmt: skip
    problem(response, 400, "bad-request")


def test_what_is_still_being_sent_is_read_away_within_bounds(app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reviewapp.protocol.DRAIN_BYTES", 1 << 20)
    sent = io.BytesIO(b"x" * (3 << 20))
    with app.test_request_context(method="POST", input_stream=sent, headers={"Content-Length": str(3 << 20)}):
        drain()
        assert sent.tell() == 1 << 20
    sent.seek(0)
    monkeypatch.setattr("reviewapp.protocol.DRAIN_SECONDS", -1.0)
    with app.test_request_context(method="POST", input_stream=sent, headers={"Content-Length": str(3 << 20)}):
        drain()
        assert sent.tell() == 1 << 16


def test_a_request_id_is_taken_over_or_made(api: Any) -> None:
    assert (
        api("get", "/contract", headers={"X-Request-ID": "a:b/c-1.2_~+=@"}).headers["X-Request-ID"] == "a:b/c-1.2_~+=@"
    )
    for odd in ("", "a b", "x" * 129, "é".encode().decode("latin-1"), '"quoted"'):
        made = api("get", "/contract", headers={"X-Request-ID": odd}).headers["X-Request-ID"]
        assert made != odd
        assert len(made) == 36


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "FOO"])
def test_a_method_that_is_not_there_is_405_with_what_is(api: Any, method: str) -> None:
    response = api(method, PATH)
    problem(response, 405, "method-not-allowed")
    assert response.headers["Allow"] == "GET, HEAD, POST"


@pytest.mark.parametrize("name", ["batch", "bulk"])
def test_a_route_beside_the_ids_says_only_its_own_methods(api: Any, name: str) -> None:
    response = api("get", f"/predictions/{name}")
    problem(response, 405, "method-not-allowed")
    assert response.headers["Allow"] == "POST"
    assert api("get", f"/predictions/{name}s").status_code == 404, "an id that only begins like it"


@pytest.mark.parametrize("path", ["/nothing", "/predictions/", "/predictions/a/b", "/..%2f..%2fetc", "/%00", "/%ff"])
def test_an_unknown_address_is_404_and_nothing_of_it_is_echoed(api: Any, path: str) -> None:
    response = api("get", path, role="admin")
    problem(response, 404, "not-found")
    assert path not in response.text


def test_a_client_that_cannot_read_json_is_told(api: Any) -> None:
    problem(api("get", "/contract", headers={"Accept": "text/csv"}), 406, "not-acceptable")
    for accept in ("*/*", "application/*", "text/html;q=0.9, */*;q=0.1", "application/problem+json"):
        assert api("get", "/contract", headers={"Accept": accept}).status_code == 200


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "a b", ""])
def test_a_foreign_host_is_refused(app: Flask, host: str) -> None:
    response = app.test_client().get("/livez", headers={"Host": host})
    problem(response, 400, "bad-request")
    assert "evil" not in response.text
    assert app.test_client().get("/", headers={"Host": host}).status_code == 400


@pytest.mark.parametrize("host", ["127.0.0.1:8000", "localhost", "[::1]:9"])
def test_the_names_of_this_machine_are_answered(app: Flask, host: str) -> None:
    assert app.test_client().get("/livez", headers={"Host": host}).status_code == 200


def test_what_fails_inside_is_a_500_without_a_trace(app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reviewapp.api.answer", lambda *given: 1 / 0)
    response = app.test_client().get("/livez")
    problem(response, 500, "internal-error")
    assert "ZeroDivision" not in response.text
    assert "Traceback" not in response.text


def test_forwarded_headers_count_only_behind_the_stated_proxies(tmp_path: Any) -> None:
    forged = {"X-Forwarded-Proto": "https", "X-Forwarded-Host": "evil.example", "X-Forwarded-Prefix": "/evil"}
    direct = create_app({"instance": tmp_path / "a"})
    assert direct.test_client().get("/sign-in", headers=forged).status_code == 200
    behind = create_app({"instance": tmp_path / "b", "proxies": 1, "hosts": ("reviewapp.example",)})
    headers = {"X-Forwarded-Host": "reviewapp.example", "X-Forwarded-Prefix": "/review"}
    page = behind.test_client().get("/sign-in", headers=headers)
    assert 'action="/review/sign-in"' in page.text


def test_the_address_of_a_prediction_lies_below_the_prefix_that_the_proxy_states(
    tmp_path: Any, live_database: Any, releases_root: Any, example: dict[str, Any]
) -> None:
    (tmp_path / "instance").mkdir()
    shutil.copy(live_database, tmp_path / "instance" / "reviewapp.sqlite3")
    app = create_app({"instance": tmp_path / "instance", "releases": releases_root, "proxies": 1})
    parts = app.extensions[EXTENSION]
    headers = {"Authorization": f"Bearer {parts.accounts.create_token('a', 'submit')}"}
    for prefix in ("", "/review", "/pr%C3%BCfen"):
        sent = headers | {"X-Forwarded-Prefix": prefix}
        made = app.test_client().post("/api/v1/predictions", json={"input": example}, headers=sent)
        assert made.headers["Location"] == f"{prefix}/api/v1/predictions/{made.json['id']}"
    parts.store.close()


def test_options_may_say_nothing_and_are_checked_each_time(api: Any, example: dict[str, Any]) -> None:
    for query, status in (("", 201), ("?", 201), ("?dry_run=true", 200), ("?dry_run=perhaps", 422), ("", 201)):
        assert api("post", f"/predictions{query}", json={"input": example}).status_code == status
