"""Who may do what: API tokens, one-use sign-in links and page sessions. Only hashes of secrets are kept.

Times are those of the machine's clock: what ends at a time ends when the clock says so.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, bindparam, delete, insert, or_, select, update

from .attempts import Attempts
from .errors import UsageError
from .prediction import new_id, timestamp, utcnow
from .store import Store
from .tables import sessions, sign_in_links, tokens

ROLES = ("submit", "review", "admin")  # each may do all that the ones before it may
LINK_LIFE = timedelta(hours=1)
SESSION_LIFE = timedelta(hours=12)
_PREFIX = "ra_"


@dataclass(frozen=True)
class Client:
    """Who is asking. The name is what the ledger writes down; a token of the same name is the same client."""

    name: str
    role: str

    def may(self, role: str) -> bool:
        return ROLES.index(self.role) >= ROLES.index(role)


class Accounts:
    """Makes and checks the secrets. `clock` returns the time as an aware datetime."""

    def __init__(self, store: Store, clock: Callable[[], datetime] = utcnow) -> None:
        self._store = store
        self._clock = clock
        self.attempts = Attempts(store, clock)

    def _now(self, plus: timedelta = timedelta()) -> str:
        return timestamp(self._clock() + plus)

    def create_token(self, name: str, role: str, days: float | None = None) -> str:
        """Return a new token, the only time it can be read."""
        if not name.strip() or not name.isprintable() or len(name) > 100:
            raise UsageError("A token's name is 1 to 100 printable characters.")
        if role not in ROLES:
            raise UsageError(f"A role is one of {', '.join(ROLES)}.")
        token = _PREFIX + secrets.token_urlsafe(32)
        now = self._clock()
        with self._store.writing() as connection:
            connection.execute(
                insert(tokens).values(
                    id=new_id(now),
                    name=name,
                    role=role,
                    hash=_hash(token),
                    created_at=self._now(),
                    expires_at=None if days is None else self._now(timedelta(days=days)),
                )
            )
        return token

    def tokens(self) -> list[dict[str, Any]]:
        """Return what is known of every token, oldest first; never the token."""
        query = select(*(column for column in tokens.c if column.name != "hash")).order_by(tokens.c.id)
        with self._store.reading() as connection:
            return [dict(row) for row in connection.execute(query).mappings()]

    def revoke_token(self, token_id: str) -> None:
        """End a token at once, and with it every session opened by it."""
        with self._store.writing() as connection:
            changed = connection.execute(
                update(tokens)
                .where(tokens.c.id == token_id, tokens.c.revoked_at.is_(None))
                .values(revoked_at=self._now())
            )
            if not changed.rowcount:
                raise UsageError("No token in use has this id; `reviewapp token list` shows them.")

    def client_of_token(self, token: str) -> Client | None:
        """Return who holds a token, or None where it is unknown, expired or revoked."""
        row = self._store.lookup(_TOKEN, hash=_hash(token), now=self._now())
        return None if row is None else Client(row[0], row[1])

    def create_link(self, name: str, role: str) -> str:
        """Return the secret of a sign-in link that works once, for LINK_LIFE."""
        secret = secrets.token_urlsafe(32)
        with self._store.writing() as connection:
            connection.execute(
                insert(sign_in_links).values(hash=_hash(secret), name=name, role=role, expires_at=self._now(LINK_LIFE))
            )
        return secret

    def redeem_link(self, secret: str, instead: str = "") -> str | None:
        """Return the secret of a new session for a link not used before, else None; see open_session."""
        with self._store.writing() as connection:
            used = connection.execute(
                update(sign_in_links)
                .where(
                    sign_in_links.c.hash == _hash(secret),
                    sign_in_links.c.used_at.is_(None),
                    sign_in_links.c.expires_at > self._now(),
                )
                .values(used_at=self._now())
                .returning(sign_in_links.c.name, sign_in_links.c.role)
            ).first()
            return None if used is None else self._open_session(connection, instead, used.name, used.role, None)

    def open_session(self, token: str, instead: str = "") -> str | None:
        """Return the secret of a new session for the holder of a token, else None.

        It takes the place of the session that the browser held before, if any: `instead` is that one's secret.
        """
        row = self._store.lookup(_TOKEN, hash=_hash(token), now=self._now())
        if row is None:
            return None
        with self._store.writing() as connection:
            return self._open_session(connection, instead, *row)

    def client_of_session(self, secret: str) -> Client | None:
        """Return who holds a session, or None where it is over, or its token is."""
        row = self._store.lookup(_SESSION, hash=_hash(secret), now=self._now())
        return None if row is None else Client(*row)

    def end_session(self, secret: str) -> None:
        with self._store.writing() as connection:
            connection.execute(update(sessions).where(sessions.c.hash == _hash(secret)).values(ended_at=self._now()))

    def signed_in(self) -> list[dict[str, Any]]:
        """Return the page sessions and unused links that are open now, by name; never their secrets.

        `token_id` is the token that a session was opened with, None where it was a link.
        """
        open_sessions = select(sessions.c.name, sessions.c.role, sessions.c.expires_at, sessions.c.token_id)
        links = select(sign_in_links.c.name, sign_in_links.c.role, sign_in_links.c.expires_at)
        now = {"now": self._now()}
        with self._store.reading() as connection:
            found = [
                *({"kind": "session", **row} for row in connection.execute(open_sessions.where(_open), now).mappings()),
                *(
                    {"kind": "link", "token_id": None, **row}
                    for row in connection.execute(links.where(_unused), now).mappings()
                ),
            ]
        return sorted(found, key=lambda one: (one["name"], one["expires_at"]))

    def sign_out(self, name: str) -> tuple[int, int]:
        """End every page session and every unused link of a name, at once; return how many of each.

        Tokens stay: with one that holds, the same person signs in again.
        """
        now = {"now": self._now()}
        with self._store.writing() as connection:
            ended = connection.execute(delete(sessions).where(sessions.c.name == name, _open), now).rowcount
            links = connection.execute(delete(sign_in_links).where(sign_in_links.c.name == name, _unused), now).rowcount
        if not ended + links:
            raise UsageError("Nobody of this name is signed in or has a link; `reviewapp token sessions` shows who is.")
        return ended, links

    def _open_session(self, connection: Connection, instead: str, name: str, role: str, token_id: str | None) -> str:
        """Open a session; what is over by now is cleared away, and so is the one whose place it takes."""
        over = sessions.c.ended_at.is_not(None) | (sessions.c.expires_at <= self._now())
        connection.execute(delete(sessions).where(over | (sessions.c.hash == _hash(instead))))
        connection.execute(delete(sign_in_links).where(sign_in_links.c.expires_at <= self._now()))
        secret = secrets.token_urlsafe(32)
        connection.execute(
            insert(sessions).values(
                hash=_hash(secret),
                name=name,
                role=role,
                token_id=token_id,
                expires_at=self._now(SESSION_LIFE),
            )
        )
        return secret


# Every request asks one of these two: what is revoked, ended or expired is so for the next request in every worker.
_valid = tokens.c.revoked_at.is_(None) & or_(tokens.c.expires_at.is_(None), tokens.c.expires_at > bindparam("now"))
_TOKEN = select(tokens.c.name, tokens.c.role, tokens.c.id).where(tokens.c.hash == bindparam("hash"), _valid)
_open = (
    sessions.c.ended_at.is_(None)
    & (sessions.c.expires_at > bindparam("now"))
    & or_(sessions.c.token_id.is_(None), sessions.c.token_id.in_(select(tokens.c.id).where(_valid)))
)
_SESSION = select(sessions.c.name, sessions.c.role).where(sessions.c.hash == bindparam("hash"), _open)
_unused = sign_in_links.c.used_at.is_(None) & (sign_in_links.c.expires_at > bindparam("now"))


def _hash(secret: str) -> str:
    # Secrets are 256 random bits, so a plain SHA-256 cannot be guessed back; a slow hash, as of passwords, would only
    # make each request slow, and many wrong ones a load. The row is found by the hash, so how long that takes tells
    # nothing about a secret, and one that expired costs what one does that never was.
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).hexdigest()
