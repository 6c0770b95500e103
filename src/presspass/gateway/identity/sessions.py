"""Sessions: who is signed in, in a browser by a cookie, at a terminal by a token. Looked up anew at each request.

1. The secret has 256 random bits; only its SHA-256 is kept. Each sign-in makes a new one and ends the one before.
2. A session ends after SESSION_S_MAX; a browser's also after SESSION_IDLE_S_MAX without a request.
3. It is worth nothing for whoever is not, with a key, in the roster in force: leaving the roster ends it at once.
4. There is no cache: what `end` and `end_sessions` write counts from the next request on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from presspass.core.errors import Code, Refusal
from presspass.core.limits import SESSION_FRESH_S, SESSION_IDLE_S_MAX, SESSION_S_MAX
from presspass.gateway import tokens
from presspass.gateway.gate import Gate
from presspass.gateway.identity.roles import Role, roles_of
from presspass.gateway.problems import MissingSession
from presspass.store.database import Prepared
from presspass.store.gateway_tables import DEVICE_GRANT, SESSION

#: Of a terminal's token, for people and secret scanners: then 43 characters and a checksum of 6.
PREFIX: Final = "pps_"
BROWSER, TERMINAL = "browser", "terminal"
OIDC, PASSKEY = "oidc", "passkey"
_TOUCH_MS = 60_000
_SESSION = Prepared(
    sa.select(
        SESSION.c.person,
        SESSION.c.how,
        SESSION.c.place,
        SESSION.c.created_ms,
        SESSION.c.seen_ms,
        SESSION.c.expires_ms,
        SESSION.c.ended_ms,
    ).where(SESSION.c.hash == sa.bindparam("hash"))
)


@dataclass(frozen=True, slots=True)
class Session:
    """One session that holds now. `how`: oidc or passkey; `place`: browser or terminal."""

    hash: str
    person: str
    how: str
    place: str
    created_ms: int
    expires_ms: int
    roles: frozenset[Role]


def begin(
    connection: Connection, person: str, how: str, place: str, now_ms: int, sid: str = ""
) -> str:
    """A new session; its secret, which is kept nowhere. `sid`: what the provider calls its own session, if it does."""
    secret = tokens.checked_secret(PREFIX)
    row = {
        "hash": tokens.secret_hash(secret),
        "person": person,
        "how": how,
        "place": place,
        "created_ms": now_ms,
        "seen_ms": now_ms,
        "expires_ms": now_ms + SESSION_S_MAX * 1000,
        "provider_session": sid,
    }
    connection.execute(sa.insert(SESSION), row)
    return secret


def find(gate: Gate, secret: str) -> Session | None:
    """The session with this secret, if it holds now."""
    if not tokens.is_checked(secret, PREFIX):
        return None
    now, digest = gate.clock(), tokens.secret_hash(secret)
    with gate.writer.read() as connection:
        rows = _SESSION.rows(connection, hash=digest)
    if not rows:
        return None
    person, how, place, created_ms, seen_ms, expires_ms, ended_ms = rows[0]
    idle = place == BROWSER and now - seen_ms > SESSION_IDLE_S_MAX * 1000
    roles = roles_of(gate.journal.now().roster, person)
    if ended_ms is not None or now >= expires_ms or idle or not roles:
        return None
    if now - seen_ms > _TOUCH_MS:
        gate.writer.run(lambda c: _touch(c, digest, now))
    return Session(digest, person, how, place, created_ms, expires_ms, roles)


def require(gate: Gate, secret: str) -> Session:
    """`find`, or a refusal with `session.missing`."""
    found = find(gate, secret)
    if found is None:
        raise MissingSession
    return found


def require_browser(session: Session) -> None:
    """Refuses with `session.role-missing` a terminal's session where it could make itself live longer."""
    if session.place != BROWSER:
        raise Refusal(
            Code.ROLE_MISSING, "A terminal's session cannot do this.", "Do it in a browser."
        )


def require_fresh(session: Session, now_ms: int) -> None:
    """Refuses with `session.not-fresh` where a stolen old session could make itself live longer."""
    require_browser(session)
    if now_ms - session.created_ms > SESSION_FRESH_S * 1000:
        raise Refusal(
            Code.SESSION_NOT_FRESH,
            f"You signed in more than {SESSION_FRESH_S // 60} minutes ago.",
            "Sign out and in again, then go on.",
        )


def end(connection: Connection, session_hash: str, now_ms: int) -> None:
    """Ends one session."""
    live = sa.update(SESSION).where(SESSION.c.hash == session_hash, SESSION.c.ended_ms.is_(None))
    connection.execute(live.values(ended_ms=now_ms))


def end_sessions(connection: Connection, person: str, now_ms: int, how: str = "") -> int:
    """Ends every session of a person, or those that began by `how`, and terminals that were let in and have not come
    for theirs yet; how many there were. Counts from the next request on.
    """
    s, d = SESSION.c, DEVICE_GRANT.c
    live = sa.update(SESSION).where(s.person == person, s.ended_ms.is_(None))
    waiting = sa.delete(DEVICE_GRANT).where(d.person == person)
    if how:
        live, waiting = live.where(s.how == how), waiting.where(d.how == how)
    ended = connection.execute(live.values(ended_ms=now_ms)).rowcount
    return int(ended + connection.execute(waiting).rowcount)


def forget_old(connection: Connection, now_ms: int) -> None:
    """Removes rows of sessions that ran out a whole session's length ago."""
    old = now_ms - SESSION_S_MAX * 1000
    connection.execute(sa.delete(SESSION).where(SESSION.c.expires_ms < old))


def _touch(connection: Connection, session_hash: str, now_ms: int) -> None:
    connection.execute(
        sa.update(SESSION).where(SESSION.c.hash == session_hash).values(seen_ms=now_ms)
    )
