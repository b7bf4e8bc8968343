"""Fixtures: a release built once, an app with a database of its own for every test, and clients that check."""

from __future__ import annotations

import random
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from coverage import Coverage
from flask import Flask
from flask.testing import FlaskClient
from hypothesis import HealthCheck, settings
from jinja2 import BytecodeCache, FileSystemBytecodeCache
from playwright.sync_api import Browser, expect

from reviewapp import estimators, fetched, proof, proving
from reviewapp import release as releases
from reviewapp.adapter import ModelAdapter
from reviewapp.contract import Contract, Outcome
from reviewapp.evidence.pack import source_digest
from reviewapp.evidence.testruns import SOURCE
from reviewapp.factory import create_app
from reviewapp.field import Field
from reviewapp.parts import EXTENSION, Parts
from reviewapp.proof import Proofs
from reviewapp.registry import Registry
from reviewapp.release import Release, ReleaseId
from reviewapp.releasestore import Remote
from reviewapp.samples import example_record, valid_record
from reviewapp.store import Store
from reviewapp.triage import build as triage
from reviewapp.trust import TrustedTypes

from .browser import Open, started, watched
from .conformance import CheckedClient
from .page import form
from .postgres import Postgres
from .remote import Trying
from .service import Service
from .small import with_limit

# The same examples each time, however slow the machine is; `pytest --hypothesis-profile=default` looks for others.
settings.register_profile("same", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("same")

# Names that break naive code: spaces, dots, signs, JSON pointer's own escapes, marshmallow's and Python's own words.
EVERY_KIND = Contract(
    name="every-kind",
    title="Every kind of field",
    fields=(
        Field(name="number", kind="number", minimum=-1.5, maximum=2.5, unit="°C", seen_minimum=0, seen_maximum=1),
        Field(name="a number?", kind="number", required=False, nullable=True),
        Field(name="class", kind="integer", minimum=0, seen_minimum=0, seen_maximum=12),
        Field(name="x.y", kind="integer", required=False, nullable=True, maximum=10),
        Field(name="Meta", kind="boolean"),
        Field(name="_schema", kind="boolean", required=False, nullable=True),
        Field(name="a/b~c", kind="category", choices=("red", "<b>&\"'", "grün")),
        Field(name="", kind="category", required=False, nullable=True, choices=("x", "y")),
        Field(name="open list", kind="category", seen_choices=("007", "1")),
        Field(name="id", kind="category", nullable=True, max_length=5),
        Field(name="text", kind="text", max_length=40, seen_minimum=1, seen_maximum=30),
        Field(name="%s {0} [1]", kind="text", required=False, nullable=True),
        Field(name="day", kind="date", seen_minimum="2020-01-01", seen_maximum="2024-12-31"),
        Field(name="日付", kind="date", required=False, nullable=True, date_format="%d.%m.%Y"),
        Field(name="m/d", kind="date", required=False, nullable=True, date_format="%-m/%-d/%Y %-H:%M"),
    ),
    outcome=Outcome(name="class", labels=("<=50K", ">50K", 'a "third"')),
)


def pytest_sessionstart(session: pytest.Session) -> None:
    """Write into the JUnit report which code it is about: the evidence counts the tests of no other code."""
    for plugin in session.config.pluginmanager.get_plugins():
        if hasattr(plugin, "add_global_property"):  # the report; processes that share the tests have none
            plugin.add_global_property(SOURCE, source_digest(Path(__file__).parent.parent))


class Clock:
    """A clock that moves only when a test says so."""

    def __init__(self) -> None:
        self.now = datetime(2026, 1, 31, 12, 0, 0, 123000, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def forward(self, **time: float) -> None:
        self.now += timedelta(**time)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def rng() -> random.Random:
    return random.Random(7)


@pytest.fixture(scope="session")
def releases_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("releases")


@pytest.fixture(scope="session")
def release(releases_root: Path) -> Release:
    """The default release, built once."""
    return triage.build(releases_root)


@pytest.fixture(scope="session")
def adapter(release: Release) -> ModelAdapter:
    return ModelAdapter(release)


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with its tables and nothing in them; a copy is made faster than the migrations run."""
    path = tmp_path_factory.mktemp("database") / "empty.sqlite3"
    store = Store(f"sqlite:///{path}")
    with store.reading():
        pass
    store.close()
    return path


@pytest.fixture(scope="session")
def live_database(
    tmp_path_factory: pytest.TempPathFactory, empty_database: Path, release: Release, releases_root: Path
) -> Path:
    """The same with the default release live."""
    path = tmp_path_factory.mktemp("database") / "live.sqlite3"
    shutil.copy(empty_database, path)
    store = Store(f"sqlite:///{path}")
    Registry(releases_root, store, ModelAdapter).add(release, "test")
    store.close()
    return path


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A server for all tests of a process."""
    server = Postgres()
    server.start()
    yield server
    server.close()


@pytest.fixture(scope="session")
def postgres_templates(postgres: Postgres, release: Release, releases_root: Path) -> dict[str, str]:
    """The names of two databases to copy: `empty` has tables and nothing in them, in `live` the default release is."""
    names = {}
    for kind in ("empty", "live"):
        url = postgres.database()
        made = Store(url)
        with made.reading():
            pass
        if kind == "live":
            Registry(releases_root, made, ModelAdapter).add(release, "test")
        made.close()
        names[kind] = url.rpartition("/")[2]
    return names


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run the tests of a module that is marked `both` on either database, but for those marked `sqlite`."""
    if metafunc.definition.get_closest_marker("both") is None or "database" not in metafunc.fixturenames:
        return
    kinds = ["sqlite"] if metafunc.definition.get_closest_marker("sqlite") else ["sqlite", "postgresql"]
    metafunc.parametrize("database", kinds, indirect=True)


@pytest.fixture
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[str, Path], str]]:
    """Return a function that makes the database of the test: `database("empty", file)` returns its URL."""
    if getattr(request, "param", "sqlite") == "sqlite":
        yield lambda kind, path: _copied(request.getfixturevalue(f"{kind}_database"), path)
        return
    server, templates = request.getfixturevalue("postgres"), request.getfixturevalue("postgres_templates")
    made: list[str] = []

    def make(kind: str, path: Path) -> str:
        made.append(server.database(templates[kind]))
        return made[-1]

    yield make
    for url in made:
        server.drop(url)


def _copied(source: Path, path: Path) -> str:
    shutil.copy(source, path)
    return f"sqlite:///{path}"


@pytest.fixture
def store(tmp_path: Path, database: Callable[[str, Path], str]) -> Iterator[Store]:
    made = Store(database("empty", tmp_path / "ledger.sqlite3"))
    yield made
    made.close()


@pytest.fixture
def untraced() -> Iterator[None]:
    """Measure no coverage meanwhile; pytest-cov's own mark stops one of the two measurements that run under xdist."""
    stopped = []
    while (running := Coverage.current()) is not None:
        running.stop()
        stopped.append(running)
    yield
    for one in reversed(stopped):
        one.start()


@pytest.fixture(autouse=True)
def proved_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Load what must be proved in the process of the test, which takes less; test_proof.py starts the real one.

    Types of an operator's own are imported here already, so for them it is the real one, too.
    """
    in_child = proof.in_child

    def here(folder: Path, digest: str, instance: Path, seconds: int = 0, *, keep: Path | None = None) -> int:
        prove = in_child if TrustedTypes(instance).folders() else proving.accept
        return prove(folder, digest, instance)

    monkeypatch.setattr(proof, "in_child", here)


@pytest.fixture(scope="session")
def proven(tmp_path_factory: pytest.TempPathFactory, release: Release, releases_root: Path) -> Path:
    """The folder that says that the default release was shown to load, as it is here."""
    instance = tmp_path_factory.mktemp("proven")
    proving.accept(releases_root / str(release.id), release.id.digest, instance)
    Proofs(instance).remember(release.id.digest)
    return instance / proof.FOLDER


@pytest.fixture(scope="session")
def unpack_once() -> Callable[..., Any]:
    return cache(estimators.load)


@pytest.fixture(scope="session")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> BytecodeCache:
    return FileSystemBytecodeCache(str(tmp_path_factory.mktemp("templates")))


@pytest.fixture
def app(
    tmp_path: Path, release: Release, releases_root: Path, database: Callable[[str, Path], str], proven: Path,
    unpack_once: Callable[..., Any], compiled: BytecodeCache, monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Flask]:  # fmt: skip
    """The app on a database of its own; model file and templates are read once for all tests."""
    monkeypatch.setattr(estimators, "load", unpack_once)
    (tmp_path / "instance").mkdir()
    url = database("live", tmp_path / "instance" / "reviewapp.sqlite3")
    shutil.copytree(proven, tmp_path / "instance" / proof.FOLDER)
    app = create_app({"instance": tmp_path / "instance", "releases": releases_root, "database_url": url})
    app.jinja_env.bytecode_cache = compiled
    app.test_client_class = CheckedClient
    CheckedClient.contract = release.contract
    yield app
    app.extensions[EXTENSION].store.close()


@pytest.fixture
def parts(app: Flask) -> Parts:
    found: Parts = app.extensions[EXTENSION]
    return found


@pytest.fixture
def auth(parts: Parts) -> Callable[..., dict[str, str]]:
    """Return the header of a new token: `auth("submit")`, `auth("review", name="ann")`."""

    def header(role: str = "submit", name: str = "", days: float | None = None) -> dict[str, str]:
        token = parts.accounts.create_token(name or role, role, days)
        return {"Authorization": f"Bearer {token}"}

    return header


@pytest.fixture
def api(app: Flask, auth: Callable[..., dict[str, str]]) -> Callable[..., Any]:
    """Call the API with a role: `api("post", "/predictions", json=…, role="review")`."""
    headers = {role: auth(role) for role in ("submit", "review", "admin")}
    client: FlaskClient = app.test_client()

    def call(method: str, path: str, *, role: str | None = "submit", **kwargs: Any) -> Any:
        given = {**(headers[role] if role else {}), **kwargs.pop("headers", {})}
        return client.open(f"/api/v1{path}", method=method.upper(), headers=given, **kwargs)

    return call


@pytest.fixture(scope="session")
def narrower(release: Release, releases_root: Path) -> Release:
    """The default release with a contract that breaks callers: fewer open tickets are allowed."""
    return releases.write(with_limit(release, 100), releases_root)


@pytest.fixture
def moved(parts: Parts, narrower: Release) -> ReleaseId:
    """Let the narrower release be live, so that there is one to roll back to; return its id."""
    parts.registry.add(narrower, "test")
    return parts.registry.promote(narrower.id.version, "narrower", "test", breaking=True).id


@pytest.fixture
def page(app: Flask, parts: Parts) -> FlaskClient:
    """The pages of somebody who signed in by a link, as admin."""
    client = app.test_client()
    client.get(f"/sign-in?link={parts.accounts.create_link('owner', 'admin')}")
    return client


@pytest.fixture
def ask(page: FlaskClient, release: Release, example: dict[str, Any]) -> Callable[..., tuple[str, str]]:
    """Send the example, changed, through the form; return where its answer is shown, and its id."""

    def send(**changes: Any) -> tuple[str, str]:
        response = page.post("/", data=form(release.contract, {**example, **changes}))
        assert response.status_code == 303
        location = response.headers["Location"]
        return location, re.findall(r"prediction=([^#&]+)", location)[0]

    return send


@pytest.fixture
def example(release: Release) -> dict[str, Any]:
    return example_record(release.contract)


@pytest.fixture
def records(release: Release, rng: random.Random) -> list[dict[str, Any]]:
    return [valid_record(release.contract, rng) for _ in range(50)]


# ---- releases under a URL -----------------------------------------------------------------------------------------


@pytest.fixture
def there(tmp_path: Path) -> Path:
    """The folder that the URL is of."""
    return tmp_path / "there"


@pytest.fixture
def url(there: Path, unpack_once: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A URL that a test can break (remote.py)."""
    monkeypatch.setattr(estimators, "load", unpack_once)
    yield f"trying://{there}"
    Trying.calm()


@pytest.fixture
def host(tmp_path: Path, url: str) -> Callable[..., Remote]:
    """Return what a host sees of the URL: `host("a")`, each with an instance folder of its own."""
    return lambda name, patience=None: Remote(url, tmp_path / name / fetched.FOLDER, patience)


@pytest.fixture
def two(release: Release, host: Callable[..., Remote], store: Store) -> tuple[Release, Release]:
    """Two releases that host `a` has put under the URL, the first one live."""
    a = host("a")
    policies = (release.policy, replace(release.policy, audit_share=0.25))
    made = [releases.write(replace(release, policy=policy), a) for policy in policies]
    known = Registry(a, store, ModelAdapter)
    assert [known.add(one, "test") for one in made] == [True, False]
    return made[0], made[1]


# ---- a browser and the service that it looks at -------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A browser for one module: its event loop must not run on beside tests that need their own."""
    with started() as running:
        yield running


@pytest.fixture(scope="session")
def stocked(release: Release, releases_root: Path, live_database: Path, proven: Path) -> Callable[[Path], Path]:
    """Make a folder what a first start (test_server.py) makes it: the default release is there, proved and live."""

    def made(instance: Path) -> Path:
        shutil.copytree(releases_root / str(release.id), instance / "releases" / str(release.id))
        shutil.copytree(proven, instance / proof.FOLDER)
        shutil.copy(live_database, instance / "reviewapp.sqlite3")
        instance.chmod(0o700)
        return instance

    return made


@pytest.fixture(scope="session")
def service(
    tmp_path_factory: pytest.TempPathFactory, release: Release, stocked: Callable[[Path], Path]
) -> Iterator[Service]:
    """A service for all tests of pages that need no ledger of their own; a module may put another one in its place."""
    with Service(stocked(tmp_path_factory.mktemp("browser") / "instance"), release.contract) as running:
        yield running


@pytest.fixture(scope="session")
def make_service(
    tmp_path_factory: pytest.TempPathFactory, release: Release, releases_root: Path, live_database: Path, proven: Path
) -> Callable[..., Service]:
    """Return a service that is not started yet, on an instance of its own where the default release is live."""

    def made(**settings: str) -> Service:
        instance = tmp_path_factory.mktemp("service") / "instance"
        instance.mkdir(mode=0o700)
        shutil.copy(live_database, instance / "reviewapp.sqlite3")
        shutil.copytree(proven, instance / proof.FOLDER)
        return Service(instance, release.contract, REVIEWAPP_RELEASES=str(releases_root), **settings)

    return made


@pytest.fixture(scope="module")
def base(service: Service) -> str:
    return f"http://127.0.0.1:{service.port}"


@pytest.fixture(scope="module")
def token(service: Service) -> str:
    return service.reviewer


@pytest.fixture(scope="module")
def session(browser: Browser, base: str, token: str) -> Any:
    """The cookie of somebody who signed in with a token."""
    with watched(browser, base) as page:
        page.goto("/sign-in")
        page.get_by_label("Token").fill(token)
        page.get_by_role("button", name="Sign in").click()
        expect(page).to_have_url(f"{base}/")
        return page.context.storage_state()


@pytest.fixture
def opened(browser: Browser, base: str, session: Any) -> Open:
    """Open a page of somebody who signed in: `with opened(viewport=PHONE) as page:`"""
    return lambda **options: watched(browser, base, **{"storage_state": session, **options})
