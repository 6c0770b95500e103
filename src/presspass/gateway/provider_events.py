"""What the sign-in provider tells by itself: a session has ended there, or it refuses somebody from now on.

Two doors: logout tokens (OpenID Connect Back-Channel Logout 1.0), and security event tokens (RFC 8417) by HTTP push
(RFC 8935) with event types of OpenID RISC 1.0 and CAEP 1.0.

1. A token counts when the provider has signed it for this client, by the rules of its ID tokens, and when it is of the
   kind that the door is for, so that none is taken for another.
2. A security event needs no `exp` (RFC 8417 section 2.2); it is taken for SECURITY_EVENT_AGE_S_MAX, since it is sent
   until the gate has answered. An `exp` that is there is kept to.
3. Each has its effect once. A logout token is refused the second time; a security event is answered as the first time,
   because the provider did not hear the answer (RFC 8935 section 2).
4. Whoever logs out has not left: sessions by the provider end, and nothing else. Whoever is refused has left
   (`leaving`). Nothing here gives anything back: "the account is enabled again" has no effect.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from presspass.core.errors import Code, Refusal
from presspass.core.limits import JWT_LEEWAY_S, SECURITY_EVENT_AGE_S_MAX
from presspass.formats.jwt import Jwt
from presspass.gateway import events, leaving
from presspass.gateway.gate import Gate
from presspass.gateway.identity import sessions
from presspass.gateway.identity.oidc_client import Logout, Provider
from presspass.gateway.identity.subjects import is_name, persons_of
from presspass.store.gateway_tables import SEEN_TOKEN, SESSION
from presspass.verify.workload import replay_key, time_of

SECURITY_EVENT_TYPE: Final = "secevent+jwt"
_RISC: Final = "https://schemas.openid.net/secevent/risc/event-type/"
#: Events by which the account is refused from now on, and what is said of it with the stop.
_LEAVE: Final = {
    _RISC + "account-disabled": "disabled at the sign-in provider",
    _RISC + "account-purged": "purged at the sign-in provider",
}
#: Events after which the account stays, and whoever has stolen its credential may hold a session that came by it.
_END_SESSIONS: Final = frozenset(
    {
        _RISC + "account-credential-change-required",
        _RISC + "credential-compromise",
        _RISC + "sessions-revoked",
        "https://schemas.openid.net/secevent/caep/event-type/session-revoked",
    }
)
#: RFC 9493 section 3.2.3, and as its drafts had it.
_ISS_SUB: Final = ("iss_sub", "iss-sub")
_SOURCE: Final = "provider"


@dataclass(frozen=True, slots=True)
class SecurityEvents:
    """A security event token, as far as it has an effect here. `subjects`: at the provider, by event type; "" where the
    event is about somebody else's account, or names nobody by `iss` and `sub`. `until_s`: Unix seconds.
    """

    subjects: dict[str, str]
    replay_key: str
    until_s: int


def end_by_logout(gate: Gate, provider: Provider, text: str) -> int:
    """Ends what the logout token `text` says; how many sessions there were. Refuses with `sign-in.token-invalid`."""
    logout = provider.check_logout(text)
    with gate.writer.read() as connection:
        persons = _logged_out(gate, connection, provider.settings.issuer, logout)

    def work(connection: Connection) -> int:
        if not _claim(connection, logout.replay_key, logout.until_s):
            raise Refusal(Code.SIGN_IN_TOKEN, "This logout token was used before.")
        return sum(
            sessions.end_sessions(connection, person, gate.clock(), sessions.OIDC)
            for person in persons
        )

    return gate.writer.run(work)


def take_security_events(gate: Gate, provider: Provider, text: str) -> None:
    """Does what the security event token `text` is about; durable at return. Refuses with `identity.*`."""
    token, issuer = provider.authentic(text), provider.settings.issuer
    found = read_security_events(token, issuer, gate.clock() / 1000)
    with gate.writer.read() as connection:
        concerned = {
            event: sorted(persons_of(gate, connection, issuer, subject)) if subject else []
            for event, subject in found.subjects.items()
        }
    if not any(concerned.values()):  # most accounts of a provider are nobody's here
        events.log("security-event", nobody_here=[*map(_short, concerned)])

    def work(connection: Connection) -> None:
        if _claim(connection, found.replay_key, found.until_s):
            for event, persons in concerned.items():
                for person in persons:
                    _carry_out(gate, connection, event, person)

    gate.writer.run(work)


def read_security_events(token: Jwt, issuer: str, now_s: float) -> SecurityEvents:
    """What an authentic token says that has an effect here; refuses with `identity.*` what is no security event of
    now. Unix seconds.
    """
    claims = token.claims
    if token.type != SECURITY_EVENT_TYPE:  # section 2.3: so that no ID token is taken for one
        raise _malformed(f"is not of the type {SECURITY_EVENT_TYPE!r}")
    if not is_name(claims.get("jti")):
        raise _malformed("has no id ('jti')")
    begins = end = time_of(claims, "iat")
    if "nbf" in claims:
        begins = max(begins, time_of(claims, "nbf"))
    end += SECURITY_EVENT_AGE_S_MAX
    if "exp" in claims:
        end = min(end, time_of(claims, "exp"))
    if now_s < begins - JWT_LEEWAY_S:
        raise Refusal(Code.IDENTITY_NOT_YET_VALID, "The security event is of the future.")
    if now_s >= end + JWT_LEEWAY_S:
        raise Refusal(Code.IDENTITY_EXPIRED, "The security event is too old.")
    told = claims.get("events")
    if not isinstance(told, dict) or not told:
        raise _malformed("holds no events")
    subjects = {}
    for event, payload in told.items():
        if not isinstance(payload, dict):
            raise _malformed("holds an event that is no JSON object")
        if event in _LEAVE or event in _END_SESSIONS:
            subjects[event] = _subject(claims, payload, issuer)
    return SecurityEvents(subjects, replay_key(token), int(end) + JWT_LEEWAY_S + 1)


def _subject(claims: Mapping[str, Any], payload: Mapping[str, Any], issuer: str) -> str:
    """Whom an event is about: `sub_id` (RFC 9493 section 4.1), `sub`, or in events as RISC 1.0 has them `subject`. All
    that are there name the same one.
    """
    named = [one for one in (claims.get("sub_id"), payload.get("subject")) if one is not None]
    if "sub" in claims:
        named.append({"format": _ISS_SUB[0], "iss": issuer, "sub": claims["sub"]})
    if not named:
        raise _malformed("names no subject")
    found = {subject for one in named for whose, subject in _pairs(one) if whose == issuer}
    if len(found) > 1:
        raise _malformed("names several subjects")
    return next(iter(found), "")


def _pairs(subject: object, *, inside: bool = False) -> list[tuple[str, str]]:
    """(issuer, subject) of a subject identifier, of each of its aliases (RFC 9493 section 3.2.8), or of the user in a
    complex one (Shared Signals Framework 1.0, "Complex Subjects"); none where it is of another format.
    """
    if not isinstance(subject, dict):
        raise _malformed("names a subject that is no JSON object")
    kind = subject.get("format", subject.get("subject_type"))
    if not isinstance(kind, str):
        raise _malformed("names a subject of no format")
    if kind in ("aliases", "complex"):
        parts = subject.get("identifiers") if kind == "aliases" else [subject.get("user")]
        if inside or not isinstance(parts, list):
            raise _malformed("names a subject of subjects that is none")
        return [pair for one in parts if one is not None for pair in _pairs(one, inside=True)]
    if kind not in _ISS_SUB:
        return []
    whose, name = subject.get("iss"), subject.get("sub")
    if not isinstance(whose, str) or not is_name(name):
        raise _malformed("names a subject without 'iss' or 'sub'")
    return [(whose, name)]


def _carry_out(gate: Gate, connection: Connection, event: str, person: str) -> None:
    """The person leaves, or loses the sessions by the provider."""
    now = gate.clock()
    if event in _LEAVE:
        leaving.leave_in(gate, connection, person, _LEAVE[event], _SOURCE)
    else:
        sessions.end_sessions(connection, person, now, sessions.OIDC)
    events.note(connection, "security-event", f"{_short(event)}: {person}", now)


def _short(event: str) -> str:
    return event.rpartition("/")[2]


def _logged_out(gate: Gate, connection: Connection, issuer: str, logout: Logout) -> frozenset[str]:
    found: set[str] = set()
    if logout.subject:
        found |= persons_of(gate, connection, issuer, logout.subject)
    if logout.sid:
        named = sa.select(SESSION.c.person).where(SESSION.c.provider_session == logout.sid)
        found.update(connection.execute(named).scalars())
    return frozenset(found)


def _claim(connection: Connection, key: str, until_s: int) -> bool:
    """Whether a token is new; its key is kept for as long as it could be sent again."""
    seen = sa.select(SEEN_TOKEN.c.key).where(SEEN_TOKEN.c.key == key)
    if connection.execute(seen).first() is not None:
        return False
    connection.execute(sa.insert(SEEN_TOKEN), {"key": key, "until_ms": until_s * 1000})
    return True


def _malformed(why: str) -> Refusal:
    return Refusal(Code.IDENTITY_MALFORMED, f"The security event {why}.")
