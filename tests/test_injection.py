"""Texts that would be more than text elsewhere: as SQL, as a path, in a page, they are text and no more."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from flask import Flask
from flask.testing import FlaskClient

from reviewapp.adapter import ModelAdapter
from reviewapp.filters import LIST_OPTIONS
from reviewapp.parts import EXTENSION, Parts
from reviewapp.release import Release
from reviewapp.samples import example_record

from .page import JSON, Page, as_csv, form, send_file
from .test_access import DOCUMENT, TABLE, rows
from .test_pages import OneRelease

# ---- SQL ----------------------------------------------------------------------------------------------------------

SQL = [
    "' OR '1'='1", "' OR 1=1 --", "'; DROP TABLE predictions; --", '" OR ""="', "1) OR (1=1",
    "x' UNION SELECT hash FROM tokens --",
    "%", "_", "%' ESCAPE '\\", "\\", "?", ":name", "{0}", "%s", "1; ATTACH DATABASE '/tmp/x' AS y", "*", '"', "'", "''",
    "NEAR(a b)", "a AND NOT b", "text : a", "^a", "a*", "(", "(((((", '"a" OR "b"', "-a", "+", "rowid",
    "id DESC; --", "newest'", "(SELECT 1)", "9" * 40, "1e999", "0x10", "\u0130\u0131", "\ufeff", "\U0001f642",
]  # fmt: skip


@pytest.fixture
def recorded(parts: Parts, auth: Any, app: Flask, example: dict[str, Any]) -> list[str]:
    """The ids of four predictions of ann, three of them with a reference."""
    made, headers = [], auth("submit", name="ann")
    for reference in ("one", "two", "three", None):
        body = {"input": {**example, "subject": "words to be found"}, "reference": reference}
        made.append(app.test_client().post("/api/v1/predictions", json=body, headers=headers).json["id"])
    return made


@pytest.mark.parametrize("option", [one.name for one in LIST_OPTIONS])
def test_what_looks_like_sql_in_a_filter_finds_nothing_more(
    app: Flask, parts: Parts, auth: Any, recorded: list[str], option: str
) -> None:
    """In every filter, order, cursor and search, through the API, the page and both exports."""
    review, before = auth("review"), rows(parts)
    for text in SQL:
        query = urlencode({option: text})
        for path in ("/api/v1/predictions", "/history", "/history.json", "/history.csv", "/history.jsonl"):
            response = app.test_client().get(f"{path}?{query}", headers=review)
            assert response.status_code in (200, 422), (path, text)
            if response.status_code == 422:
                continue
            if option in ("reference", "label", "release"):  # nothing is called so
                found = [made for made in recorded if made in response.text]
                assert found == [], (path, text)
    after = rows(parts)
    assert {name: n for name, n in after.items() if n != before[name]} == {}


def test_a_search_for_signs_finds_only_what_holds_them(
    app: Flask, auth: Any, recorded: list[str], example: dict[str, Any]
) -> None:
    review = auth("review")
    body = {"input": {**example, "subject": "100 %"}, "reference": "it's 'quoted'"}
    made = app.test_client().post("/api/v1/predictions", json=body, headers=review).json["id"]
    for text, found in (("%", [made]), ("'", [made]), ("_", []), ("\\", []), ("?", None)):
        shown = app.test_client().get(f"/api/v1/predictions?{urlencode({'q': text})}", headers=review).json
        ids = [one["id"] for one in shown["predictions"]]
        assert found is None or ids == found, text


@pytest.mark.parametrize("route", [route for route in TABLE if "<" in route])
def test_what_looks_like_sql_or_a_path_in_an_address_names_nothing(
    app: Flask, parts: Parts, auth: Any, recorded: list[str], route: str
) -> None:
    admin, before = auth("admin"), rows(parts)
    method, rule = route.split(" ")
    for text in [*SQL, *TRICKS]:
        path = rule
        for name in ("<prediction_id>", "<upload_id>", "<name>", "<int:version>", "<path:filename>"):
            path = path.replace(name, quote(text, safe="%"))
        response = app.test_client().open(path, method=method, headers={**JSON, **admin}, follow_redirects=True)
        refused = response.status_code in ((409,) if path.endswith("/skip") else (400, 404, 405, 415, 422))
        assert refused or response.status_code == 404 or _is_a_list(path, response), (path, response.status)
    assert rows(parts) == before


def _is_a_list(path: str, response: Any) -> bool:
    """Whether a trick leads back to what anybody with the role may open: `/history/.` is `/history` to a browser."""
    return response.status_code == 200 and any(mark in path for mark in ("/.", "%2e", "%2E"))


def test_what_looks_like_sql_signs_nobody_in(app: Flask, parts: Parts) -> None:
    for number, text in enumerate(SQL):
        origin = {"REMOTE_ADDR": f"192.0.2.{number}"}
        response = app.test_client().post("/sign-in", data={"token": text}, environ_overrides=origin)
        assert response.status_code in (401, 422)
        link = app.test_client().get(f"/sign-in?{urlencode({'link': text})}", environ_overrides=origin)
        assert link.status_code in (401, 422)
        bearer = {"Authorization": f"Bearer {text.encode().decode('latin-1')}"}
        assert app.test_client().get("/api/v1/releases", headers=bearer).status_code == 401


# ---- paths --------------------------------------------------------------------------------------------------------

TRICKS = [
    "..", ".", "%2e%2e", "..%2f..%2f..%2fetc%2fpasswd", "..%5c..%5cetc%5cpasswd", "%2fetc%2fpasswd",
    "..%252f..%252fetc",
    "%00", "x%00.png", "..%00/", "....//....//etc/passwd", "%c0%ae%c0%ae%c0%af", "file:%2f%2f%2fetc%2fpasswd", "~root",
    "C:%5cwindows", "%ff", "a" * 5000, "..;", "%2e%2e%2f%2e%2e%2finstance%2freviewapp.sqlite3", "config.py",
    "reviewapp.sqlite3", "..%2Freviewapp.sqlite3", "1%2f..%2f..", "٣", "-1", "99999999999999999999", "1.0",
]  # fmt: skip

OPENED = """
import io, json, os, sys
from pathlib import Path
from reviewapp.factory import create_app

instance, releases, known = Path(sys.argv[1]), Path(sys.argv[2]), json.load(sys.stdin)
app = create_app({"instance": instance, "releases": releases})
parts = app.extensions["reviewapp"]
headers = {"Authorization": f"Bearer {parts.accounts.create_token('ann', 'admin')}"}
opened, watching, statuses = set(), False, {}


def watch(event, given):
    if watching and event in ("open", "os.listdir", "os.scandir") and isinstance(given[0], (str, bytes, os.PathLike)):
        opened.add(os.path.realpath(os.fsdecode(given[0])))


sys.addaudithook(watch)
for paths in (known["plain"], known["tricks"]):  # first what there is, so that all that is loaded once is loaded
    watching = paths is known["tricks"]
    for method, path in paths:
        answer = app.test_client().open(path, method=method, headers=headers)
        answer.get_data()
        answer.close()
        if watching:
            statuses[str(answer.status_code)] = path
    for name in known["names"] if watching else ["plain.csv"]:
        sent = {"file": (io.BytesIO(known["csv"].encode()), name)}
        answer = app.test_client().post("/upload", data=sent, headers=headers)
        page = app.test_client().get(answer.headers.get("Location", "/") + "/answers.csv", headers=headers)
        said = page.headers.get("Content-Disposition", "")
        assert not {"/", "\\\\"} & set(said) and "filename=." not in said, said
        page.close()
parts.store.close()
print(json.dumps({"opened": sorted(opened), "statuses": statuses}))
"""


def test_no_address_and_no_file_name_opens_a_file_outside_of_the_folders_that_are_ours(
    app: Flask, tmp_path: Path, releases_root: Path, example: dict[str, Any]
) -> None:
    """Every open of the process is seen, by an audit hook, which cannot be taken away: so in a process of its own."""
    where = ("<prediction_id>", "<upload_id>", "<name>", "<int:version>", "<path:filename>")

    def put(text: str) -> list[tuple[str, str]]:
        found = []
        for route in TABLE:
            method, path = route.split(" ")
            for name in where:
                path = path.replace(name, text)
            found.append((method, path))
        return [one for one, route in zip(found, TABLE, strict=True) if "<" in route or text == "1"]

    names = [trick.replace("%2f", "/").replace("%5c", "\\").replace("%00", "") for trick in TRICKS if len(trick) < 200]
    asked = {
        "plain": [*put("1"), ("GET", "/static/style.css"), ("GET", "/evidence/comparison.csv")],
        "tricks": [one for trick in TRICKS for one in put(trick)],
        "names": names,
        "csv": as_csv([example]),
    }
    words = [sys.executable, "-c", OPENED, str(tmp_path / "instance"), str(releases_root)]
    done = subprocess.run(words, input=json.dumps(asked), capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    said = json.loads(done.stdout)
    root = DOCUMENT.parent.parent
    ours = [tmp_path / "instance", releases_root, root / "static", root / "templates", root / "memo" / "evidence"]
    outside = [path for path in said["opened"] if not any(Path(path).is_relative_to(one.resolve()) for one in ours)]
    assert outside == []
    assert said["opened"]  # so it was watched
    assert {
        code: path
        for code, path in said["statuses"].items()
        if code not in {"200", "303", "308", "400", "404", "405", "409", "415", "422"}
    } == {}


# ---- pages --------------------------------------------------------------------------------------------------------

PLANTED = "\"'></textarea></title></script><xss onxss=alert(1)>javascript:{{7*7}}</xss>"


def planted(client: FlaskClient, paths: list[str], shown_on: set[str]) -> None:
    """Open pages into which the text was put: it is there as text, and makes no element, attribute or address."""
    for path in paths:
        shown = Page(client.get(path).text)
        tags = {tag for tag, _ in shown.elements}
        attributes = {name for _, given in shown.elements for name in given}
        addresses = {str(given.get(name)) for _, given in shown.elements for name in ("href", "src", "action")}
        assert "xss" not in tags, path
        assert not [name for name in attributes if name.startswith("on")], path
        assert not [one for one in addresses if one.startswith("javascript")], path
        assert "<xss onxss=alert(1)>" in shown.raw_text or path not in shown_on, path


def test_what_was_typed_sent_or_built_is_text_on_every_page(
    app: Flask, page: FlaskClient, parts: Parts, auth: Any, narrower: Release, example: dict[str, Any]
) -> None:
    """Names, references, requests, reasons, notes, files with their names, columns and cells, and the release log."""
    text = PLANTED[:99]
    parts.registry.add(narrower, text)
    parts.registry.promote(narrower.id.version, text, text, breaking=True)
    author = auth("admin", name=text)
    asked = {"input": {**example, "subject": text, "body": text}, "reference": text}
    made = app.test_client().post("/api/v1/predictions", json=asked, headers=author).json["id"]
    judged = {"verdict": "unsure", "note": text, "reasons": [text]}
    assert app.test_client().put(f"/api/v1/predictions/{made}/verdict", json=judged, headers=author).status_code == 200
    file = as_csv([{**example, "subject": text}, {**example, "channel": text}])
    upload = send_file(page, file, f"{text.replace('/', '')}.csv").headers["Location"]
    refused = send_file(page, file.replace("channel", f'"{text}"', 1).replace(f'"{text}"', "<xss>", 1))
    assert refused.status_code == 422
    assert "xss" not in {tag for tag, _ in Page(refused.text).elements}
    told = [upload, f"/history/{made}", f"/?prediction={made}", "/history", "/releases", "/upload"]
    others = [f"/what-if/{made}?field=subject", "/queue", "/monitor", "/contract", "/releases/rollback", "/sign-in"]
    others += [f"/history?q={quote(text)}", f"/nothing/{quote(text)}", f"/sign-in?next={quote(text)}"]
    planted(page, [*told, *others], set(told))


def test_what_a_contract_or_a_card_says_is_text_on_every_page(app: Flask, page: FlaskClient, parts: Parts) -> None:
    """A release is made by somebody, too."""
    release = parts.registry.adapter().release
    fields = tuple(replace(field, title=PLANTED, description=PLANTED) for field in release.contract.fields)
    contract = replace(release.contract, title=PLANTED, description=PLANTED, fields=fields)
    made = page.post("/", data=form(release.contract, example_record(release.contract))).headers["Location"]
    hostile = ModelAdapter(replace(release, contract=contract, card=PLANTED), [parts.ledger.add])
    app.extensions[EXTENSION] = replace(parts, registry=OneRelease(hostile))  # type: ignore[arg-type]
    paths = ["/", made, "/contract", "/releases", "/upload", "/history"]
    planted(page, paths, set(paths[:4]))
    app.extensions[EXTENSION] = parts
