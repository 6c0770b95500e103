"""Which person a subject of the sign-in provider is: by `oidc:<issuer>#<subject>` among the ids in the details.

Nothing else is compared: an e-mail address is what the provider says it is today, and may be somebody else's tomorrow.
Only details to which the roster in force commits count; what an invitation says, and nobody has approved, does not.
"""

from __future__ import annotations

from typing import Final, TypeGuard

from sqlalchemy.engine import Connection

from presspass.core.errors import Code, Refusal
from presspass.gateway import people
from presspass.gateway.gate import Gate

_NAME_CHARS_MAX: Final = 255  # OpenID Connect Core 1.0 section 2


def is_name(value: object) -> TypeGuard[str]:
    """Whether a claim can be what the provider calls a subject, a session of its own, or a token. Control characters
    and lone surrogates are in none, and no database takes them.
    """
    return isinstance(value, str) and 0 < len(value) <= _NAME_CHARS_MAX and value.isprintable()


def subject_id(issuer: str, subject: str) -> str:
    """How a subject is written among a person's ids."""
    return f"oidc:{issuer}#{subject}"


def person_of(gate: Gate, connection: Connection, issuer: str, subject: str) -> str:
    """The person's id; refuses with `sign-in.unknown-person` when it is nobody, or several."""
    found = persons_of(gate, connection, issuer, subject)
    if len(found) != 1:
        wanted = subject_id(issuer, subject)
        whose = "nobody's" if not found else "more than one person's"
        raise Refusal(
            Code.SIGN_IN_UNKNOWN,
            f"You are signed in at the provider, but {wanted} is {whose} here.",
            f"Ask an admin to add it to you: presspass people change NAME --forge-id '{wanted}'.",
        )
    return min(found)


def persons_of(gate: Gate, connection: Connection, issuer: str, subject: str) -> frozenset[str]:
    """Everybody who claims this subject: at most one, unless people have let two in with it."""
    gate.journal.refresh()
    claimed = people.claimed_ids(gate, connection)
    return claimed.get(subject_id(issuer, subject), frozenset())
