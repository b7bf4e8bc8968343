"""What is kept of tokens, links and sessions, pinned whole, and the sentences with which one is refused."""

import hashlib
from typing import Any

import pytest
from sqlalchemy import Table, select

from reviewapp.accounts import Accounts, Client
from reviewapp.errors import UsageError
from reviewapp.prediction import utcnow
from reviewapp.store import Store
from reviewapp.tables import sessions, sign_in_links, tokens

from .conftest import Clock

pytestmark = pytest.mark.both


@pytest.fixture
def accounts(store: Store, clock: Clock) -> Accounts:
    return Accounts(store, clock)


def rows(store: Store, table: Table) -> list[dict[str, Any]]:
    with store.reading() as connection:
        return [dict(row) for row in connection.execute(select(table)).mappings()]


def sha256(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


NOON, LATER = "2026-01-31T12:00:00.123Z", "2026-01-31T12:00:05.123Z"


def test_a_token_is_one_row_until_it_is_revoked_and_after_that(accounts: Accounts, store: Store, clock: Clock) -> None:
    token = accounts.create_token("ann", "review", days=0.5)
    [row] = rows(store, tokens)
    assert row == {
        "id": row["id"], "name": "ann", "role": "review", "hash": sha256(token), "created_at": NOON,
        "expires_at": "2026-02-01T00:00:00.123Z", "revoked_at": None,
    }  # fmt: skip
    assert (token[:3], len(token)) == ("ra_", 46)
    known = {name: value for name, value in row.items() if name != "hash"}
    assert accounts.tokens() == [known]
    clock.forward(seconds=5)
    other = accounts.create_token("x" * 100, "admin")
    assert [(one["name"], one["expires_at"]) for one in accounts.tokens()] == [
        ("ann", known["expires_at"]), ("x" * 100, None),
    ]  # fmt: skip
    accounts.revoke_token(row["id"])
    assert accounts.tokens()[0] == known | {"revoked_at": LATER}
    assert (accounts.client_of_token(token), accounts.client_of_token(other)) == (None, Client("x" * 100, "admin"))
    for unknown in (row["id"], "nothing"):
        with pytest.raises(UsageError) as refused:
            accounts.revoke_token(unknown)
        assert refused.value.detail == "No token in use has this id; `reviewapp token list` shows them."
    assert accounts.tokens()[0]["revoked_at"] == LATER


def test_a_name_or_a_role_that_cannot_be_is_refused_in_a_sentence(accounts: Accounts) -> None:
    for name in ("", " \t", "a\nb", "x" * 101):
        with pytest.raises(UsageError) as refused:
            accounts.create_token(name, "submit")
        assert refused.value.detail == "A token's name is 1 to 100 printable characters."
    with pytest.raises(UsageError) as refused:
        accounts.create_token("ann", "root")
    assert refused.value.detail == "A role is one of submit, review, admin."
    assert accounts.tokens() == []


def test_a_link_is_one_row_that_is_used_once_and_opens_a_session_of_its_own(
    accounts: Accounts, store: Store, clock: Clock
) -> None:
    link = accounts.create_link("owner", "admin")
    row = {"hash": sha256(link), "name": "owner", "role": "admin", "expires_at": "2026-01-31T13:00:00.123Z"}
    assert rows(store, sign_in_links) == [row | {"used_at": None}]
    clock.forward(seconds=5)
    session = accounts.redeem_link(link)
    assert session is not None
    assert rows(store, sign_in_links) == [row | {"used_at": LATER}]
    assert rows(store, sessions) == [
        {
            "hash": sha256(session), "name": "owner", "role": "admin", "token_id": None,
            "expires_at": "2026-02-01T00:00:05.123Z", "ended_at": None,
        }
    ]  # fmt: skip
    assert (len(link), len(session)) == (43, 43)
    assert accounts.client_of_session(session) == Client("owner", "admin")
    clock.forward(hours=12, milliseconds=-1)
    assert accounts.client_of_session(session) == Client("owner", "admin")
    clock.forward(milliseconds=1)
    assert accounts.client_of_session(session) is None


def test_a_link_works_until_its_hour_is_over(accounts: Accounts, clock: Clock) -> None:
    links = [accounts.create_link("owner", "admin") for _ in range(2)]
    clock.forward(hours=1, milliseconds=-1)
    assert accounts.redeem_link(links[0]) is not None
    clock.forward(milliseconds=1)
    assert accounts.redeem_link(links[1]) is None


def test_the_session_of_a_token_is_one_row_that_knows_its_token_and_ends_alone(
    accounts: Accounts, store: Store, clock: Clock
) -> None:
    token = accounts.create_token("ann", "submit")
    first, second = accounts.open_session(token), accounts.open_session(token)
    assert first and second
    rest = {
        "name": "ann", "role": "submit", "token_id": accounts.tokens()[0]["id"],
        "expires_at": "2026-02-01T00:00:00.123Z",
    }  # fmt: skip
    kept = sorted(rows(store, sessions), key=lambda row: row["hash"] != sha256(first))
    assert kept == [{"hash": sha256(secret), "ended_at": None, **rest} for secret in (first, second)]
    clock.forward(seconds=5)
    accounts.end_session(first)
    assert (accounts.client_of_session(first), accounts.client_of_session(second)) == (None, Client("ann", "submit"))
    assert accounts.open_session("ra_made_up") is None
    assert accounts.client_of_session("made up") is None
    assert len(rows(store, sessions)) <= 2


def test_the_clock_of_accounts_is_that_of_the_machine_where_none_is_given(store: Store) -> None:
    plain = Accounts(store)
    plain.create_token("ann", "submit")
    assert plain.tokens()[0]["created_at"][:4] == str(utcnow().year)
