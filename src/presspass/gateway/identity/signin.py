"""Signing in at the provider: leaving for it, and coming back once.

What the browser takes along is `state`; what stays behind is a cookie of its own, and the row that it opens holds
`state`, `nonce` and the PKCE verifier. Who comes back without that very cookie has not left from here (login CSRF),
and a row is gone when it has been used, whatever came of it.
"""

from __future__ import annotations

import hmac
import secrets
from dataclasses import dataclass
from urllib.parse import urlsplit

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from presspass.core.errors import Code, Refusal
from presspass.core.limits import SIGN_IN_ATTEMPT_S, SIGN_IN_WAITING_MAX, URL_CHARS_MAX
from presspass.gateway import stops, tokens
from presspass.gateway.gate import Gate
from presspass.gateway.identity import sessions, subjects
from presspass.gateway.identity.oidc_client import Provider
from presspass.store.gateway_tables import SIGN_IN_ATTEMPT

_AGAIN = "Begin again on the page /sign-in."


@dataclass(frozen=True, slots=True)
class Arrived:
    """Somebody who came back and is known. `secret`: of the new session."""

    person: str
    secret: str
    back_to: str


@dataclass(frozen=True, slots=True)
class _Attempt:
    state: str
    nonce: str
    verifier: str
    back_to: str


def leave(gate: Gate, provider: Provider, back_to: str) -> tuple[str, str]:
    """(where the browser goes, the secret for its cookie)."""
    secret = tokens.new_secret()
    state, nonce, verifier = (secrets.token_urlsafe(32) for _ in range(3))
    attempt = _Attempt(state, nonce, verifier, local_path(back_to))
    address = provider.authorization_url(attempt.state, attempt.nonce, attempt.verifier)
    now = gate.clock()

    def work(connection: Connection) -> None:
        make_room(connection, SIGN_IN_ATTEMPT, SIGN_IN_ATTEMPT.c.hash, now)
        row = {
            "hash": tokens.secret_hash(secret),
            "state": attempt.state,
            "nonce": attempt.nonce,
            "verifier": attempt.verifier,
            "back_to": attempt.back_to,
            "expires_ms": now + SIGN_IN_ATTEMPT_S * 1000,
        }
        connection.execute(sa.insert(SIGN_IN_ATTEMPT), row)

    gate.writer.run(work)
    return address, secret


def arrive(
    gate: Gate, provider: Provider, secret: str, query: dict[str, str], before: str
) -> Arrived:
    """Takes the provider's answer in `query` for the attempt of this browser. `before`: the session it had, ended now.

    Refuses with `sign-in.expired`, `.refused`, `.token-invalid`, `.provider-failed` or `.unknown-person`.
    """
    attempt = gate.writer.run(lambda connection: _spend(connection, secret, gate.clock()))
    if attempt is None or not hmac.compare_digest(
        attempt.state.encode(), query.get("state", "").encode()
    ):
        raise Refusal(
            Code.SIGN_IN_EXPIRED,
            "This answer of the sign-in provider does not belong to a sign-in that this browser has begun, "
            "or it was used before, or too much time has passed.",
            _AGAIN,
        )
    if query.get("iss", provider.settings.issuer) != provider.settings.issuer:  # RFC 9207
        raise Refusal(Code.SIGN_IN_REFUSED, "Another provider answered this sign-in.", _AGAIN)
    if not query.get("code"):
        raise Refusal(Code.SIGN_IN_REFUSED, "The sign-in provider did not sign you in.", _AGAIN)
    who = provider.redeem(query["code"], attempt.verifier, attempt.nonce)
    with gate.writer.read() as connection:
        person = subjects.person_of(gate, connection, provider.settings.issuer, who.subject)
    secret = start_session(gate, person, sessions.OIDC, before, who.sid)
    return Arrived(person, secret, attempt.back_to)


def start_session(gate: Gate, person: str, how: str, before: str, sid: str = "") -> str:
    """A browser's session under a new secret; the one it had before ends (no session survives a sign-in). Refuses with
    `identity.revoked` whoever has left. `sid`: the session at the provider.
    """

    def work(connection: Connection) -> str:
        now = gate.clock()
        stops.require_present(gate, connection, person)
        sessions.forget_old(connection, now)
        if before:
            sessions.end(connection, tokens.secret_hash(before), now)
        return sessions.begin(connection, person, how, sessions.BROWSER, now, sid)

    secret = gate.writer.run(work)
    gate.events.happened("signed-in", f"{person} by {how}")
    return secret


def local_path(text: str) -> str:
    """`text` if it is a path of this gate, else the list: nobody is sent elsewhere after signing in."""
    parts = urlsplit(text)
    local = text.startswith("/") and not text.startswith(("//", "/\\")) and "\\" not in text
    if local and not parts.scheme and not parts.netloc and text.isascii() and text.isprintable():
        return text if len(text) <= URL_CHARS_MAX else "/c"
    return "/c"


def make_room(connection: Connection, table: sa.Table, key: sa.Column[str], now_ms: int) -> None:
    """Removes what has expired, and the oldest where too many still wait: strangers can fill such a table, and must
    neither fill the disk nor keep everybody else out. `key`: the table's primary key.
    """
    connection.execute(sa.delete(table).where(table.c.expires_ms <= now_ms))
    waiting = connection.execute(sa.select(sa.func.count()).select_from(table)).scalar() or 0
    if waiting >= SIGN_IN_WAITING_MAX:
        oldest = (
            sa.select(key).order_by(table.c.expires_ms).limit(waiting - SIGN_IN_WAITING_MAX + 1)
        )
        connection.execute(sa.delete(table).where(key.in_(oldest)))


def _spend(connection: Connection, secret: str, now_ms: int) -> _Attempt | None:
    # One statement: of two gateways that are asked at once, one gets the row.
    mine = SIGN_IN_ATTEMPT.c.hash == tokens.secret_hash(secret)
    taken = sa.delete(SIGN_IN_ATTEMPT).where(mine).returning(SIGN_IN_ATTEMPT)
    row = connection.execute(taken).first()
    if row is None or row.expires_ms <= now_ms:
        return None
    return _Attempt(row.state, row.nonce, row.verifier, row.back_to)
