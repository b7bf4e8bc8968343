"""Sign-ins that fail are limited, by address and for all workers together; nobody else is locked out by them."""

import math
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import func, select

from reviewapp.attempts import OF_ADDRESS, OF_ALL, WITHIN, Attempts, counted_as
from reviewapp.errors import TooManyRequests
from reviewapp.parts import Parts
from reviewapp.store import Store
from reviewapp.tables import failed_sign_ins

from .conftest import Clock
from .page import JSON
from .service import Service

pytestmark = pytest.mark.both

HERE, ELSEWHERE = "192.0.2.1", "192.0.2.2"


@pytest.fixture
def attempts(store: Store, clock: Clock) -> Attempts:
    return Attempts(store, clock)


def kept(store: Store) -> int:
    with store.reading() as connection:
        return connection.scalar(select(func.count()).select_from(failed_sign_ins)) or 0


def refused(attempts: Attempts, address: str) -> int:
    """Return for how many seconds an address is refused; 0: it may try."""
    try:
        attempts.check(address)
    except TooManyRequests as error:
        return error.retry_after or -1
    return 0


def test_an_address_may_fail_so_often_and_then_has_to_wait(attempts: Attempts, store: Store, clock: Clock) -> None:
    for _ in range(OF_ADDRESS):
        assert refused(attempts, HERE) == 0
        attempts.failed(HERE)
        clock.forward(seconds=10)
    assert refused(attempts, HERE) == math.ceil(WITHIN.total_seconds()) - 10 * OF_ADDRESS
    assert refused(attempts, ELSEWHERE) == 0
    clock.forward(seconds=refused(attempts, HERE) - 1)
    assert refused(attempts, HERE) == 1
    clock.forward(seconds=1)
    assert refused(attempts, HERE) == 0  # the oldest failure fell out of the window
    attempts.failed(HERE)
    assert refused(attempts, HERE) == 10


def test_what_is_refused_is_not_kept_and_what_is_old_is_removed(attempts: Attempts, store: Store, clock: Clock) -> None:
    for _ in range(3 * OF_ADDRESS):
        try:
            attempts.failed(HERE)
        except TooManyRequests:
            continue
    assert kept(store) == OF_ADDRESS
    clock.forward(seconds=WITHIN.total_seconds())
    attempts.failed(ELSEWHERE)
    assert kept(store) == 1


def test_workers_count_together(attempts: Attempts, store: Store, clock: Clock) -> None:
    """Stores of their own, as processes have, that fail at the same time: none slips through."""
    others = [Store(str(store.url)) for _ in range(4)]
    known = [Attempts(one, clock) for one in others]

    def fail(number: int) -> bool:
        try:
            known[number % 4].failed(HERE)
        except TooManyRequests:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        let_through = sum(pool.map(fail, range(40)))
    for one in others:
        one.close()
    assert let_through == kept(store) == OF_ADDRESS


def test_many_addresses_that_fail_together_slow_each_other_but_lock_nobody_out(
    attempts: Attempts, store: Store, clock: Clock
) -> None:
    for number in range(OF_ALL):
        attempts.failed(f"198.51.100.{number}")
    assert refused(attempts, "198.51.100.1") > 0  # one failure is enough now
    assert refused(attempts, HERE) == 0  # and who has none may try
    clock.forward(seconds=WITHIN.total_seconds())
    assert refused(attempts, "198.51.100.1") == 0


def test_a_clock_that_is_put_back_locks_nobody_out(attempts: Attempts, store: Store, clock: Clock) -> None:
    for _ in range(OF_ADDRESS):
        attempts.failed(HERE)
    clock.forward(hours=-1)
    assert refused(attempts, HERE) == 0
    attempts.failed(HERE)
    assert kept(store) == 1  # those that lie ahead now are gone
    clock.forward(days=1)
    assert refused(attempts, HERE) == 0


@pytest.mark.parametrize(
    ("address", "counted"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::9", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
        ("x" * 1000, "x" * 64),
    ],
)
def test_an_address_is_counted_as_the_network_that_one_customer_has(address: str, counted: str) -> None:
    assert counted_as(address) == counted


# ---- through the door ---------------------------------------------------------------------------------------------


def test_too_many_wrong_tokens_and_links_are_told_to_wait(app: Flask, parts: Parts) -> None:
    """Also a right token waits then, so that no answer says whether it was one; elsewhere it opens a session."""
    token, link = parts.accounts.create_token("ann", "review"), parts.accounts.create_link("owner", "admin")
    client = app.test_client()
    here = {"environ_overrides": {"REMOTE_ADDR": HERE}}
    for number in range(OF_ADDRESS):
        if number % 2:
            assert client.get("/sign-in?link=wrong", **here).status_code == 401
        else:
            assert client.post("/sign-in", data={"token": "ra_wrong"}, **here).status_code == 401
    for response in (
        client.post("/sign-in", data={"token": "ra_wrong"}, **here),
        client.post("/sign-in", data={"token": token}, **here),
        client.get(f"/sign-in?link={link}", **here),
    ):
        assert response.status_code == 429
        assert 0 < int(response.headers["Retry-After"]) <= WITHIN.total_seconds()
        assert "Too many sign-ins from this address failed" in response.text
        assert "Set-Cookie" not in response.headers
        assert token not in response.text and link not in response.text
    problem = client.post("/sign-in", data={"token": token}, headers=JSON, **here)
    assert problem.content_type == "application/problem+json"
    assert (problem.status_code, problem.json["type"]) == (429, "/problems/too-many-requests")
    assert client.get("/sign-in", **here).status_code == 200  # the form itself is shown
    assert client.get("/livez", **here).status_code == 200
    elsewhere = {"environ_overrides": {"REMOTE_ADDR": ELSEWHERE}}
    assert client.post("/sign-in", data={"token": token}, **elsewhere).status_code == 303
    assert app.test_client().get(f"/sign-in?link={link}", **elsewhere).status_code == 303


def test_who_is_let_in_and_who_sends_nothing_is_not_counted(app: Flask, parts: Parts) -> None:
    token = parts.accounts.create_token("ann", "review")
    client = app.test_client()
    for _ in range(2 * OF_ADDRESS):
        assert client.post("/sign-in", data={"token": token}).status_code == 303
        assert app.test_client().post("/sign-in", data={"token": ""}).status_code == 401
        assert app.test_client().head("/sign-in?link=wrong").status_code == 200
        assert client.get("/sign-in?link=wrong").status_code == 303  # who is in is in
    assert kept(parts.store) == 0


def test_a_wrong_bearer_token_is_never_limited(app: Flask, parts: Parts, auth: Any) -> None:
    """Behind one proxy are many scripts: one that goes wrong locks no other out, and no guess of 256 bits succeeds."""
    wrong = {"Authorization": "Bearer ra_wrong"}
    for _ in range(2 * OF_ADDRESS):
        assert app.test_client().get("/api/v1/releases", headers=wrong).status_code == 401
    assert app.test_client().get("/api/v1/releases", headers=auth()).status_code == 200
    assert kept(parts.store) == 0


def test_a_token_that_never_was_costs_what_one_does_that_expired(
    app: Flask, parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same answer after the same look-ups: neither what is said nor the work behind it tells them apart."""
    expired = parts.accounts.create_token("ann", "review", days=1e-9)
    asked: list[object] = []
    look_up = parts.store.lookup
    monkeypatch.setattr(parts.store, "lookup", lambda clause, **given: asked.append(clause) or look_up(clause, **given))
    answers, looked = [], []
    for token in (expired, "ra_" + "x" * 43):
        answers.append(app.test_client().post("/sign-in", data={"token": token}))
        looked.append(asked[:])
        asked.clear()
    assert looked[0] == looked[1] != []
    assert {one.status_code for one in answers} == {401}
    assert answers[0].text == answers[1].text


def test_the_sign_in_form_takes_no_large_body(app: Flask) -> None:
    response = app.test_client().post("/sign-in", data={"token": "x" * (17 << 10)}, headers=JSON)
    assert response.status_code == 413
    assert "16,384 bytes" in response.json["detail"]


@pytest.mark.server
def test_all_workers_of_a_service_limit_together(make_service: Callable[..., Service]) -> None:
    with make_service(REVIEWAPP_PROXIES="1") as running:
        right = running.token("ann", "review")
        kind = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"}

        def sign_in(address: str, token: str = "ra_wrong") -> int:  # noqa: S107 (it opens nothing)
            headers = {**kind, "X-Forwarded-For": address}
            return running.call("POST", "/sign-in", f"token={token}".encode(), headers, fresh=True)[0]

        with ThreadPoolExecutor(8) as pool:
            found = Counter(pool.map(sign_in, [HERE] * 30))
        assert found == {401: OF_ADDRESS, 429: 30 - OF_ADDRESS}
        assert sign_in(HERE, right) == 429
        assert sign_in(ELSEWHERE, right) == 303
