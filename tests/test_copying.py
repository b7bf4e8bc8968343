"""A ledger is copied from SQLite to PostgreSQL and back: every byte of every table, all of it or nothing."""

import math
import random
import shutil
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from flask import Flask
from flask.testing import FlaskClient
from pysqlite3 import dbapi2
from sqlalchemy import JSON, Column, func, insert, select, text, update

from reviewapp import cli, copying
from reviewapp.accounts import Accounts
from reviewapp.cli import main
from reviewapp.copying import Copied, copy
from reviewapp.errors import ReviewappError, StoreError, UsageError
from reviewapp.factory import create_app
from reviewapp.intact import verify
from reviewapp.ledger import Ledger
from reviewapp.parts import EXTENSION, Parts
from reviewapp.prediction import Call, IdempotencyKey, Prediction
from reviewapp.purging import Purge, Selection
from reviewapp.schema import revisions
from reviewapp.search import catch_up
from reviewapp.store import Store
from reviewapp.tables import (
    blind_openings,
    failed_sign_ins,
    metadata,
    minutes,
    predictions,
    queue,
    release_events,
    rounds,
    upload_rows,
    uploads,
    verdicts,
)

from .conftest import Clock
from .page import as_csv, send_file
from .postgres import Postgres
from .test_ledger import prediction, verdict
from .test_store import older_store

TEXTS = [
    "",
    "Größe 🙂",
    "日付\t\r\n",
    "'; DROP TABLE x; --",
    "\\N",
    "\\.",
    "a\\tb",
    "\u2028\x7f\x85",
    '{"a": [1]}',
    "5",
    "NaN",
]
FLOATS = [0.0, -0.0, 0.1 + 0.2, 5e-324, 1.7976931348623157e308, -1e-17, 2.0**53, math.pi]


def fill(store: Store, clock: Clock, rng: random.Random) -> list[Prediction]:
    """Have each table hold something, of what is hard to keep; return the predictions."""
    ledger, made = Ledger(store, clock), list[Prediction]()
    for number in range(12):
        some = [
            prediction(
                clock, decision=rng.choice(["auto", "review"]), reasons=rng.sample(TEXTS, 2), client=rng.choice(TEXTS),
                reference=rng.choice([None, *TEXTS]), request_id=rng.choice(TEXTS), audit=rng.random() < 0.3,
                input={one: rng.choice([*TEXTS, *FLOATS, None, True, 2**63 - 1]) for one in rng.sample(TEXTS, 4)},
                explanation=rng.choice([None, {"method": "x", "fields": [{"contribution": rng.choice(FLOATS)}]}]),
                output={"label": "a", "confidence": rng.random(), "probabilities": {}}, option="model",
            )
            for _ in range(rng.randrange(1, 70))
        ]  # fmt: skip
        key = IdempotencyKey(rng.choice(TEXTS), f"{rng.choice(TEXTS)}{number}", "f" * 64)
        ledger.add_predictions(some, Call(key=key))
        made += some
        clock.forward(seconds=rng.random())
    for one in rng.sample(made, 20):
        kind = rng.choice(["agree", "corrected", "unsure"])
        given = {"label": rng.choice(TEXTS), "value": rng.choice([None, *FLOATS]), "note": rng.choice([None, *TEXTS])}
        ledger.add_verdict(one.id, verdict(kind, clock, **given))
    assert Purge(store, Selection((made[3].id, made[5].id)), "Größe", "ann").run() == 2
    accounts = Accounts(store, clock)
    accounts.redeem_link(accounts.create_link("Größe", "admin"))
    accounts.create_link("unused", "review")
    token = accounts.create_token("ann", "review")
    accounts.open_session(token)
    accounts.revoke_token(accounts.tokens()[0]["id"])
    store.check_writable("2026-01-31T12:00:00.123Z")
    with store.writing() as connection:
        waiting = list(connection.scalars(select(queue.c.prediction_id).order_by(queue.c.place).limit(2)))
        for table, values in (
            (blind_openings, {"reviewer": "ann", "prediction_id": waiting[0]}),
            (rounds, {"name": "watch", "until": "x", "found_at": None, "found": {"a": [1.5, None, "ü"]}}),
            (minutes, {"minute": "m", "requests": 1, "failures": 0, "rejected": 2, "slow": 3, "latency": [1, 0, 2]}),
            (failed_sign_ins, {"id": 7, "address": "::1", "created_at": "x"}),
            (uploads, {
                "id": "u", "name": "ü.csv", "client": "ann", "request_id": "r", "created_at": "x", "delimiter": ";",
                "release_digest": "d", "task": "classification", "header": TEXTS, "rows": 2, "answered": 1,
                "summary": {},
            }),
            (upload_rows, {"upload_id": "u", "row": 2, "line": 3, "cells": TEXTS, "problem": "ü"}),
            (upload_rows, {"upload_id": "u", "row": 1, "line": 2, "cells": [], "prediction_id": made[0].id}),
        ):  # fmt: skip
            connection.execute(insert(table).values(values))
        for table in metadata.sorted_tables:  # those that came later
            if connection.execute(select(table.c[0]).limit(1)).first() is None:
                connection.execute(insert(table).values({column.name: _something(column) for column in table.c}))
    return made


def _something(column: Column[Any]) -> Any:
    """Return a value for a column that is not looked at."""
    if isinstance(column.type, JSON):
        return dict.fromkeys(TEXTS, FLOATS)
    return {int: 2**40, float: 0.1, bytes: b"\0\xff"}.get(column.type.python_type, "Größe")


def contents(store: Store) -> dict[str, list[tuple[Any, ...]]]:
    """Return all rows of all tables as the driver gives them, each table in the order of its rows' own texts."""
    with store.reading() as connection:
        return {
            name: sorted((tuple(row) for row in connection.exec_driver_sql(f"SELECT * FROM {name}")), key=repr)  # noqa: S608
            for name in metadata.tables
        }


def rules(store: Store) -> list[tuple[str, str]]:
    """Return the triggers of an SQLite file."""
    with store.reading() as connection:
        found = connection.exec_driver_sql("SELECT name, sql FROM sqlite_master WHERE type = 'trigger' ORDER BY name")
        return [(name, sql) for name, sql in found]


@pytest.fixture
def file(tmp_path: Path, live_database: Path) -> Path:
    (tmp_path / "instance").mkdir()
    return Path(shutil.copy(live_database, tmp_path / "instance" / "reviewapp.sqlite3"))


@pytest.fixture
def old(file: Path) -> Iterator[Store]:
    with closing(Store(f"sqlite:///{file}")) as made:
        yield made


@pytest.fixture
def url(postgres: Postgres) -> Iterator[str]:
    """The URL of a database without a table."""
    made = postgres.database()
    yield made
    postgres.drop(made)


@pytest.fixture
def new(url: str) -> Iterator[Store]:
    with closing(Store(url, patience=0.5)) as made:
        yield made


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    monkeypatch.setattr(cli.operating, "end_tidily", lambda: None)
    environment = {"REVIEWAPP_INSTANCE": str(tmp_path / "instance")}
    return lambda *words, **more: CliRunner().invoke(main, [str(word) for word in words], env={**environment, **more})


def test_a_ledger_goes_there_and_back_and_is_the_same_byte_for_byte(
    old: Store, new: Store, clock: Clock, rng: random.Random, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copying, "AT_A_TIME", 100)
    made = fill(old, clock, rng)
    before, told = contents(old), list[tuple[str, int, int]]()
    assert {name for name, rows in before.items() if not rows} == set()
    copied = copy(old, new, lambda *step: told.append(step))
    assert contents(new) == before == contents(old)
    assert copied == Copied({name: len(before[name]) for name in copied.rows}, verify(old))
    assert set(copied.rows) == set(metadata.tables)
    assert max(rows for _, rows, _ in told) == 100  # in memory, when they are read and when they are read again
    assert sum(rows for _, rows, _ in told) == told[0][2] == 2 * sum(map(len, before.values()))
    with closing(Store(f"sqlite:///{tmp_path / 'back.sqlite3'}")) as back:
        assert copy(new, back).whole == verify(new)
        assert contents(back) == before
        assert rules(back) == rules(old)
    # what comes after is numbered, linked, queued and found as ever
    ledger = Ledger(new, clock)
    ledger.add_predictions([prediction(clock, decision="review", reasons=["unsure"], reference="zanzibar")], Call())
    with new.writing() as connection:
        connection.execute(insert(failed_sign_ins).values(address="::1", created_at="x"))
        assert connection.scalar(select(func.max(failed_sign_ins.c.id))) == 8
        assert connection.scalar(select(func.max(predictions.c.seq))) == len(made) + 1
        places = list(connection.scalars(select(queue.c.place).order_by(queue.c.place)))
        assert len(set(places)) == len(places) == len(before["queue"]) + 1
    assert verify(new).rows["predictions"] == len(made) + 1
    catch_up(new)
    assert new.lookup(select(func.count()).select_from(text("words"))) == (len(made) + 1,)


def test_the_service_goes_on_where_it_was(
    app: Flask, api: Any, page: FlaskClient, auth: Callable[..., dict[str, str]], parts: Parts, new: Store, url: str,
    example: dict[str, Any],
) -> None:  # fmt: skip
    token, key = auth("submit", name="shop"), {"Idempotency-Key": "k-1"}
    client = app.test_client()
    asked = {"json": {"input": example}, "headers": {**token, **key}}
    first = client.post("/api/v1/predictions", **asked)  # type: ignore[arg-type]
    one = f"/api/v1/predictions/{first.json['id']}"  # type: ignore[index]
    assert (
        api("put", one.removeprefix("/api/v1") + "/verdict", role="review", json={"verdict": "unsure"}).status_code
        == 200
    )
    address = send_file(page, as_csv([example] * 3), answer="later").headers["Location"]
    copy(parts.store, new)
    moved = create_app({"instance": parts.settings.instance, "releases": parts.settings.releases, "database_url": url})
    moved.test_client_class = app.test_client_class
    with closing(moved.extensions[EXTENSION].store):
        there = moved.test_client()
        again = there.post("/api/v1/predictions", **asked)  # type: ignore[arg-type]
        assert (again.status_code, again.json) == (201, first.json)
        found = there.get(one, headers=token).json
        assert found == client.get(one, headers=token).json
        assert [said["verdict"] for said in found["verdicts"]] == ["unsure"]
        active = there.get("/api/v1/releases/active", headers=token).json
        assert active == client.get("/api/v1/releases/active", headers=token).json
        cookie = next(iter(page._cookies.values()))  # type: ignore[attr-defined]
        there.set_cookie(cookie.key, cookie.value)
        assert there.get("/history").status_code == 200
        assert there.post(f"{address}/continue").status_code == 303
        assert there.post("/api/v1/predictions", json={"input": example}, headers=token).status_code == 201
        assert verify(moved.extensions[EXTENSION].store).rows["predictions"] == 5


def test_a_copy_goes_into_an_empty_ledger_alone(old: Store, new: Store, clock: Clock, tmp_path: Path) -> None:
    new.check_writable("a look at its health")
    copy(old, new)
    before = contents(new)
    with pytest.raises(UsageError, match=r"holds rows already \(\w+\); name a new or an empty database"):
        copy(old, new)
    assert contents(new) == before
    for store in (old, new):
        with pytest.raises(UsageError, match="is to be copied into itself"):
            copy(store, store)
    none = Store(f"sqlite:///{tmp_path / 'none.sqlite3'}", read_only=True)
    with pytest.raises(UsageError, match=r"There is no ledger in .*none\.sqlite3"):
        copy(none, new)
    none.close()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            "UPDATE predictions SET label = 'x' WHERE seq = 2",
            "Prediction 2 .* So it is in .*sqlite3; nothing was copied",
        ),
        (
            "UPDATE predictions SET client = 'a' || char(0)",
            "predictions: PostgreSQL cannot keep row 1, or one before it",
        ),
        ("UPDATE queue SET place = 'first'", "queue: PostgreSQL cannot keep row"),
    ],
)
def test_what_cannot_be_copied_whole_leaves_nothing_there(
    old: Store, new: Store, clock: Clock, file: Path, change: str, said: str
) -> None:
    Ledger(old, clock).add_predictions([prediction(clock, decision="review", reasons=["unsure"])] * 1, Call())
    Ledger(old, clock).add_predictions([prediction(clock, decision="review", reasons=["unsure"])] * 1, Call())
    with closing(dbapi2.connect(str(file), isolation_level=None)) as connection:
        connection.execute(change)
    with pytest.raises(ReviewappError, match=said):
        copy(old, new)
    assert {name for name, rows in contents(new).items() if rows} == set()
    Ledger(new, clock).add_predictions([prediction(clock)], Call())  # the triggers are there
    assert verify(new).links == 1


def test_what_was_written_otherwise_than_it_was_read_leaves_nothing_there(
    old: Store, new: Store, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    Ledger(old, clock).add_predictions([prediction(clock)], Call())
    finish = copying._finish_server

    def spoil(connection: Any) -> None:
        finish(connection)
        connection.execute(update(release_events).values(reason="another"))

    monkeypatch.setattr(copying, "_finish_server", spoil)
    with pytest.raises(
        ReviewappError, match=r"release_events is not in postgresql.* as it was read; nothing was copied"
    ):
        copy(old, new)
    assert {name for name, rows in contents(new).items() if rows} == set()


def test_a_ledger_of_another_version_is_not_copied(new: Store, tmp_path: Path, file: Path) -> None:
    older = f"sqlite:///{tmp_path / 'older.sqlite3'}"
    older_store(older, "0005").close()
    with closing(Store(older, read_only=True)) as store, pytest.raises(UsageError) as refused:
        copy(store, new)
    assert refused.value.detail.endswith(f"REVIEWAPP_DATABASE_URL={older} reviewapp db upgrade")
    with closing(dbapi2.connect(str(file), isolation_level=None)) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    with closing(Store(f"sqlite:///{file}", read_only=True)) as store, pytest.raises(StoreError, match="newer version"):
        copy(store, new)


# ---- the commands -------------------------------------------------------------------------------------------------


def test_db_copy_moves_a_ledger_into_that_of_the_settings_and_back(
    run: Callable[..., Result], file: Path, url: str, old: Store, clock: Clock, tmp_path: Path
) -> None:
    Ledger(old, clock).add_predictions([prediction(clock)], Call())
    newest = verify(old).newest
    old.close()
    there = run("db", "copy", file, REVIEWAPP_DATABASE_URL=url)
    assert (there.exit_code, there.stderr) == (0, "")
    assert "           1 predictions\n" in there.stdout
    assert f"{url} has every row of {file}, and no other. The ledger is whole: 1 prediction, " in there.stdout
    assert newest in there.stdout
    back = run("db", "copy", url, tmp_path / "back.sqlite3", REVIEWAPP_DATABASE_URL=url)
    assert (back.exit_code, newest in back.stdout) == (0, True)
    assert (tmp_path / "back.sqlite3").stat().st_mode & 0o777 == 0o600
    refused = run("db", "copy", file, REVIEWAPP_DATABASE_URL=url)
    assert (refused.exit_code, refused.stdout, "holds rows already" in refused.stderr) == (2, "", True)


def test_db_copy_wants_the_service_stopped(
    run: Callable[..., Result], file: Path, url: str, new: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copying, "_CLOSING_SECONDS", 0)
    new.check_writable("a service")
    for words in ((file,), (url, file.with_name("back.sqlite3"))):
        refused = run("db", "copy", *words, REVIEWAPP_DATABASE_URL=url)
        assert (refused.exit_code, refused.stdout) == (2, "")
        assert f"{url} is in use: 1 connection of reviewapp. Stop the service on every host first." in refused.stderr


def test_db_tells_of_a_ledger_in_postgresql_and_reads_it_against_its_chain(
    run: Callable[..., Result], url: str, clock: Clock
) -> None:
    secret = url.replace("tests@", "tests:secret@")
    none = run("db", "status", REVIEWAPP_DATABASE_URL=secret)
    assert (none.exit_code, "There is no ledger yet" in none.stderr) == (2, True)
    with closing(Store(url)) as store:
        Ledger(store, clock).add_predictions([prediction(clock)], Call())
        told = run("db", "status", REVIEWAPP_DATABASE_URL=secret).stdout.splitlines()
        assert told[0] == url.replace("tests@", "tests:***@")
        assert [line for line in told if "schema" in line or "predictions" in line] == [
            f"schema {revisions()[-1]} (that of this version)", "1 predictions",
        ]  # fmt: skip
        whole = run("db", "check", REVIEWAPP_DATABASE_URL=url)
        assert (whole.exit_code, whole.stdout.startswith("The ledger is whole: 1 prediction, ")) == (0, True)
        with store.writing() as connection:
            connection.execute(update(predictions).values(decision="review"))
    changed = run("db", "check", REVIEWAPP_DATABASE_URL=url)
    assert (changed.exit_code, changed.stdout) == (1, "")
    assert changed.stderr.startswith("reviewapp: Prediction 1 (")
    assert run("db", "upgrade", REVIEWAPP_DATABASE_URL=url).stdout == f"Schema {revisions()[-1]} is up to date.\n"
    gone = run("db", "status", REVIEWAPP_DATABASE_URL=url.replace("/t", "/absent"))
    assert (gone.exit_code, "cannot be reached" in gone.stderr) == (1, True)


def test_a_zero_below_zero_is_the_same_zero_in_either_database(old: Store, new: Store, clock: Clock) -> None:
    for store in (old, new):
        ledger, one = Ledger(store, clock), prediction(clock)
        ledger.add_predictions([one], Call())
        ledger.add_verdict(one.id, verdict("corrected", clock, value=-0.0))
        assert repr(store.lookup(select(verdicts.c.value))) == "(0.0,)"
        verify(store)
