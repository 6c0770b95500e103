"""A logout that the sign-in provider tells of (OpenID Connect Back-Channel Logout 1.0): it ends sessions, nothing else.

Whoever logs out at the provider has not left: passes, keys and approvals stay. Every session ends that the person has
by the provider, terminals too, whichever of them the provider names.
"""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from presspass.core.errors import Code, Refusal
from presspass.gateway.gate import Gate
from presspass.gateway.identity import sessions, subjects
from presspass.gateway.identity.oidc_client import Logout, Provider
from presspass.store.gateway_tables import SEEN_TOKEN, SESSION


def end_by_provider(gate: Gate, provider: Provider, text: str) -> int:
    """Ends what the logout token `text` says; how many sessions there were. Refuses with `sign-in.token-invalid`."""
    logout = provider.check_logout(text)
    gate.journal.refresh()

    def work(connection: Connection) -> int:
        _claim(connection, logout)
        ended = 0
        for person in _persons(gate, connection, provider.settings.issuer, logout):
            ended += sessions.end_sessions(connection, person, gate.clock(), sessions.OIDC)
        return ended

    return gate.writer.run(work)


def _claim(connection: Connection, logout: Logout) -> None:
    """Each token once: it is kept until it has expired."""
    seen = sa.select(SEEN_TOKEN.c.key).where(SEEN_TOKEN.c.key == logout.replay_key)
    if connection.execute(seen).first() is not None:
        raise Refusal(Code.SIGN_IN_TOKEN, "This logout token was used before.")
    row = {"key": logout.replay_key, "until_ms": logout.until_s * 1000}
    connection.execute(sa.insert(SEEN_TOKEN), row)


def _persons(gate: Gate, connection: Connection, issuer: str, logout: Logout) -> frozenset[str]:
    found: set[str] = set()
    if logout.subject:
        found |= subjects.persons_of(gate, connection, issuer, logout.subject)
    if logout.sid:
        named = sa.select(SESSION.c.person).where(SESSION.c.provider_session == logout.sid)
        found.update(connection.execute(named).scalars())
    return frozenset(found)
