"""Tokens, links and sessions: shown once, kept as hashes, ended at once."""

from pathlib import Path

import pytest
from sqlalchemy import func, select

from reviewapp.accounts import Accounts, Client
from reviewapp.errors import UsageError
from reviewapp.store import Store
from reviewapp.tables import sessions, sign_in_links

from .conftest import Clock

pytestmark = pytest.mark.both


@pytest.fixture
def accounts(store: Store, clock: Clock) -> Accounts:
    return Accounts(store, clock)


def test_a_token_names_its_holder_until_it_is_revoked(accounts: Accounts) -> None:
    token = accounts.create_token("ann", "review")
    assert accounts.client_of_token(token) == Client("ann", "review")
    assert accounts.client_of_token(token + "x") is None
    assert accounts.client_of_token("\udcff") is None
    accounts.revoke_token(accounts.tokens()[0]["id"])
    assert accounts.client_of_token(token) is None
    with pytest.raises(UsageError, match="No token"):
        accounts.revoke_token(accounts.tokens()[0]["id"])


def test_a_token_expires_at_its_time(accounts: Accounts, clock: Clock) -> None:
    token = accounts.create_token("ann", "submit", days=1)
    clock.forward(days=1, seconds=-1)
    assert accounts.client_of_token(token) is not None
    clock.forward(seconds=1)
    assert accounts.client_of_token(token) is None


@pytest.mark.sqlite
def test_secrets_are_never_kept(accounts: Accounts, tmp_path: Path) -> None:
    secrets = [accounts.create_token("ann", "admin"), accounts.create_link("owner", "admin")]
    secrets += [accounts.open_session(secrets[0]) or "", accounts.redeem_link(secrets[1]) or ""]
    kept = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert b"ann" in kept
    assert all(secret and secret.encode() not in kept for secret in secrets)
    assert all("hash" not in row for row in accounts.tokens())


def test_names_may_repeat(accounts: Accounts, clock: Clock) -> None:
    accounts.create_token("ann", "submit")
    clock.forward(seconds=1)
    accounts.create_token("ann", "admin")
    assert [row["role"] for row in accounts.tokens()] == ["submit", "admin"]


@pytest.mark.parametrize(("name", "role"), [("", "submit"), (" ", "submit"), ("a\nb", "submit"), ("x" * 101, "submit")])
def test_a_name_that_cannot_be_shown_is_refused(accounts: Accounts, name: str, role: str) -> None:
    with pytest.raises(UsageError, match="name"):
        accounts.create_token(name, role)
    with pytest.raises(UsageError, match="role"):
        accounts.create_token("ann", "root")


def test_a_link_works_once_and_for_an_hour(accounts: Accounts, clock: Clock) -> None:
    link = accounts.create_link("owner", "admin")
    session = accounts.redeem_link(link)
    assert session is not None
    assert accounts.client_of_session(session) == Client("owner", "admin")
    assert accounts.redeem_link(link) is None
    late = accounts.create_link("owner", "admin")
    clock.forward(hours=1)
    assert accounts.redeem_link(late) is None
    assert accounts.redeem_link("made up") is None


def test_a_session_ends_when_it_is_ended_when_it_is_old_and_when_its_token_is_revoked(
    accounts: Accounts, clock: Clock
) -> None:
    token = accounts.create_token("ann", "submit")
    first, second, third = (accounts.open_session(token) for _ in range(3))
    assert first and second and third
    accounts.end_session(first)
    assert accounts.client_of_session(first) is None
    assert accounts.client_of_session(second) == Client("ann", "submit")
    accounts.revoke_token(accounts.tokens()[0]["id"])
    assert accounts.client_of_session(second) is None
    assert accounts.open_session(token) is None
    fresh = accounts.open_session(accounts.create_token("ann", "submit"))
    clock.forward(hours=12)
    assert fresh and accounts.client_of_session(fresh) is None


def test_a_session_ends_with_its_token(accounts: Accounts, clock: Clock) -> None:
    session = accounts.open_session(accounts.create_token("ann", "submit", days=0.25))
    clock.forward(hours=6)
    assert session and accounts.client_of_session(session) is None


def test_a_role_may_do_what_those_below_it_may() -> None:
    may = {role: [Client("x", role).may(other) for other in ("submit", "review", "admin")] for role in
           ("submit", "review", "admin")}  # fmt: skip
    assert may == {
        "submit": [True, False, False],
        "review": [True, True, False],
        "admin": [True, True, True],
    }


# ---- who is signed in, and signing them out -----------------------------------------------------------------------


def test_an_operator_sees_who_is_signed_in_and_signs_them_out(accounts: Accounts, clock: Clock) -> None:
    by_token = accounts.open_session(accounts.create_token("ann", "review")) or ""
    by_link = accounts.redeem_link(accounts.create_link("ann", "admin")) or ""
    other = accounts.open_session(accounts.create_token("bob", "submit")) or ""
    link = accounts.create_link("ann", "admin")
    shown = [(one["kind"], one["name"], one["role"], one["token_id"] is None) for one in accounts.signed_in()]
    assert sorted(shown) == [
        ("link", "ann", "admin", True),
        ("session", "ann", "admin", True),
        ("session", "ann", "review", False),
        ("session", "bob", "submit", False),
    ]
    assert all("hash" not in one for one in accounts.signed_in())
    assert accounts.sign_out("ann") == (2, 1)
    assert [accounts.client_of_session(one) for one in (by_token, by_link)] == [None, None]
    assert accounts.redeem_link(link) is None
    assert accounts.client_of_session(other) == Client("bob", "submit")
    with pytest.raises(UsageError, match="Nobody of this name"):
        accounts.sign_out("ann")
    clock.forward(hours=12)
    assert accounts.signed_in() == []


def test_who_signs_in_anew_leaves_no_session_behind(accounts: Accounts) -> None:
    token = accounts.create_token("ann", "review")
    first = accounts.open_session(token) or ""
    second = accounts.open_session(token, instead=first) or ""
    third = accounts.redeem_link(accounts.create_link("ann", "admin"), instead=second) or ""
    assert len({first, second, third}) == 3
    assert [accounts.client_of_session(one) for one in (first, second)] == [None, None]
    assert accounts.client_of_session(third) == Client("ann", "admin")


def test_a_sign_in_that_fails_ends_no_session(accounts: Accounts) -> None:
    session = accounts.open_session(accounts.create_token("ann", "review")) or ""
    assert accounts.open_session("ra_wrong", instead=session) is None
    assert accounts.redeem_link("wrong", instead=session) is None
    assert accounts.client_of_session(session) == Client("ann", "review")


def test_sessions_and_links_that_are_over_are_cleared_away(accounts: Accounts, store: Store, clock: Clock) -> None:
    token = accounts.create_token("ann", "review")
    for _ in range(5):
        accounts.end_session(accounts.open_session(token) or "")
        accounts.create_link("ann", "admin")
    accounts.open_session(token)
    clock.forward(hours=12)
    accounts.open_session(token)
    with store.reading() as connection:
        assert connection.scalar(select(func.count()).select_from(sessions)) == 1
        assert connection.scalar(select(func.count()).select_from(sign_in_links)) == 0


# ---- the clock ----------------------------------------------------------------------------------------------------


def test_a_clock_that_is_put_back_or_forward_ends_everything_at_its_time(accounts: Accounts, clock: Clock) -> None:
    token = accounts.create_token("ann", "review", days=0.5)
    session, link = accounts.open_session(token) or "", accounts.create_link("ann", "admin")
    clock.forward(hours=-1)
    assert accounts.client_of_token(token) == accounts.client_of_session(session) == Client("ann", "review")
    clock.forward(days=1)
    assert accounts.client_of_token(token) is accounts.client_of_session(session) is None
    assert accounts.redeem_link(link) is None
    clock.forward(days=-1, hours=1)
    assert accounts.client_of_session(session) == Client("ann", "review")
