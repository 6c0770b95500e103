"""Signing in at a terminal: the device authorization grant (RFC 8628). Never for approving.

1. A terminal asks without saying who it is for; it gets a device code, and a user code for a person to type.
2. A person who is signed in in a browser sees who asks (what the terminal calls itself, from where, when) and allows or
   denies it. Allowing gives the terminal a session of that person, which can look and ask.
3. A device code is good for one session and DEVICE_CODE_S; only its hash is kept. Whoever polls faster than told waits
   longer from then on.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from presspass.core.errors import Code, Refusal
from presspass.core.limits import DEVICE_CODE_S, DEVICE_INTERVAL_S, NAME_CHARS_MAX, SESSION_S_MAX
from presspass.gateway import stops, tokens
from presspass.gateway.gate import Gate
from presspass.gateway.identity import sessions
from presspass.gateway.identity.roles import roles_of
from presspass.gateway.identity.signin import make_room
from presspass.gateway.oauth import Form, OAuthError, error_answer, token_answer
from presspass.gateway.problems import Answer
from presspass.store.gateway_tables import DEVICE_GRANT

GRANT_TYPE: Final = "urn:ietf:params:oauth:grant-type:device_code"
#: No vowels, so that no word comes out (RFC 8628 section 6.1): 20 letters, 8 of them, 34 bits.
_LETTERS: Final = "BCDFGHJKLMNPQRSTVWXZ"
_CODE_CHARS: Final = 8
_SLOWER_S = 5


@dataclass(frozen=True, slots=True)
class Waiting:
    """A terminal that waits, as a person is shown it."""

    user_code: str
    client: str
    address: str
    created_ms: int


def authorize(gate: Gate, form: Form, address: str) -> Answer:
    """POST /device_authorization (RFC 8628 section 3.1)."""
    client = form.get("client_id", "").strip()
    if not client or len(client) > NAME_CHARS_MAX or not client.isprintable():
        raise OAuthError("invalid_request", "client_id says what asks, in one line.")
    now, device_code = gate.clock(), tokens.new_secret()
    gate.journal.now().trust()

    def work(connection: Connection) -> str:
        make_room(connection, DEVICE_GRANT, DEVICE_GRANT.c.hash, now)
        user_code = "".join(secrets.choice(_LETTERS) for _ in range(_CODE_CHARS))
        row = {
            "hash": tokens.secret_hash(device_code),
            "user_code": user_code,
            "client": client,
            "address": address[:64],
            "state": "waiting",
            "created_ms": now,
            "expires_ms": now + DEVICE_CODE_S * 1000,
            "interval_s": DEVICE_INTERVAL_S,
        }
        connection.execute(sa.insert(DEVICE_GRANT), row)
        return user_code

    shown = spaced(gate.writer.run(work))
    page = f"{gate.site[0]}/device"
    return token_answer(
        {
            "device_code": device_code,
            "user_code": shown,
            "verification_uri": page,
            "verification_uri_complete": f"{page}?user_code={shown}",
            "expires_in": DEVICE_CODE_S,
            "interval": DEVICE_INTERVAL_S,
        }
    )


def waiting(gate: Gate, user_code: str) -> Waiting:
    """Who waits under this code; refuses with `device.unknown-code`."""
    with gate.writer.read() as connection:
        row = _waiting_row(connection, user_code, gate.clock())
    return Waiting(spaced(row.user_code), row.client, row.address, row.created_ms)


def decide(gate: Gate, session: sessions.Session, user_code: str, *, allow: bool) -> None:
    """A signed-in person's word on a terminal that waits; refuses with `device.unknown-code`."""

    def work(connection: Connection) -> None:
        row = _waiting_row(connection, user_code, gate.clock())
        values = {"state": "denied"}
        if allow:
            values = {"state": "allowed", "person": session.person, "how": session.how}
        d = DEVICE_GRANT.c
        mine = sa.update(DEVICE_GRANT).where(d.hash == row.hash, d.state == "waiting")
        if connection.execute(mine.values(**values)).rowcount != 1:
            raise _unknown_code()

    gate.writer.run(work)
    word = "allowed" if allow else "denied"
    gate.events.happened("terminal", f"{session.person} {word} {spaced(user_code)}")


def device_grant(gate: Gate, form: Form) -> Answer:
    """POST /token with this grant type (RFC 8628 section 3.4): a terminal's session, or one of its four errors."""
    code = form.get("device_code", "")
    if not code:
        raise OAuthError("invalid_request", "device_code is missing.")
    gate.journal.refresh()
    return gate.writer.run(lambda connection: _poll(gate, connection, code))


def spaced(user_code: str) -> str:
    """As people read it: two groups of four."""
    return f"{user_code[:4]}-{user_code[4:]}"


def _poll(gate: Gate, connection: Connection, code: str) -> Answer:
    d, now = DEVICE_GRANT.c, gate.clock()
    mine = d.hash == tokens.secret_hash(code)
    row = connection.execute(sa.select(DEVICE_GRANT).where(mine)).first()
    if row is None:
        return error_answer("invalid_grant", "This device code is not known here, or was used.")
    if now >= row.expires_ms:
        connection.execute(sa.delete(DEVICE_GRANT).where(mine))
        return error_answer("expired_token", "Nobody answered in time. Ask again.")
    if row.state == "denied":
        connection.execute(sa.delete(DEVICE_GRANT).where(mine))
        return error_answer("access_denied", "It was denied in the browser.")
    if row.state == "allowed":
        return _take(gate, connection, row, now)
    too_fast = row.polled_ms is not None and now - row.polled_ms < row.interval_s * 1000
    interval = row.interval_s + (_SLOWER_S if too_fast else 0)
    change = sa.update(DEVICE_GRANT).where(mine)
    connection.execute(change.values(polled_ms=now, interval_s=interval))
    if too_fast:
        return error_answer("slow_down", f"Ask every {interval} seconds.")
    return error_answer("authorization_pending", "Nobody has answered yet.")


def _take(gate: Gate, connection: Connection, row: sa.Row[Any], now_ms: int) -> Answer:
    gone = connection.execute(sa.delete(DEVICE_GRANT).where(DEVICE_GRANT.c.hash == row.hash))
    if gone.rowcount != 1:  # another gateway has just given it out
        return error_answer("invalid_grant", "This device code was used.")
    if not roles_of(gate.journal.rules.roster, row.person):
        return error_answer("access_denied", "Who allowed it has left the roster since.")
    try:
        stops.require_present(gate, connection, row.person)
    except Refusal as refusal:
        return error_answer("access_denied", refusal.message)
    token = sessions.begin(connection, row.person, row.how, sessions.TERMINAL, now_ms)
    return token_answer(
        {"access_token": token, "token_type": "Bearer", "expires_in": SESSION_S_MAX}
    )


def _waiting_row(connection: Connection, user_code: str, now_ms: int) -> sa.Row[Any]:
    plain = "".join(one for one in user_code.upper() if one in _LETTERS)[: 2 * _CODE_CHARS]
    d = DEVICE_GRANT.c
    row = connection.execute(
        sa.select(DEVICE_GRANT).where(
            d.user_code == plain, d.state == "waiting", d.expires_ms > now_ms
        )
    ).first()
    if row is None:
        raise _unknown_code()
    return row


def _unknown_code() -> Refusal:
    return Refusal(
        Code.DEVICE_UNKNOWN,
        "No terminal waits under this code.",
        f"Check the letters; a code is good for {DEVICE_CODE_S // 60} minutes and for one answer.",
    )
