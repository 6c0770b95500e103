"""Signed-in terminals: the tokens of `presspass login`, one for each gate, in a file that only their owner can read.

`$XDG_CONFIG_HOME/presspass/sessions.json` (0600): the gate's origin to its token. A token looks and asks in somebody's
name for twelve hours and approves nothing.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from presspass.cli.client import Gate
from presspass.cli.own_files import ByGate, origin_of
from presspass.core.errors import Code, Refusal

SESSIONS = ByGate(
    name="sessions",
    values="tokens",
    is_value=lambda one: isinstance(one, str),
    remedy="Remove it and sign in again.",
)


def gate_origin(text: str) -> str:
    """The origin in an address of a gate; refuses what is none."""
    parts = urlsplit(text)
    if parts.scheme not in ("https", "http") or not parts.netloc or "@" in parts.netloc:
        raise Refusal(
            Code.REQUEST_MALFORMED,
            f"{text!r} is no address of a gate.",
            "Like https://gate.example.",
        )
    return origin_of(text)


def known_sessions() -> dict[str, str]:
    """Origin to token."""
    return SESSIONS.read()


def keep_session(origin: str, token: str) -> None:
    """Remembers a token; "" forgets it. Whole or not at all."""
    known = known_sessions()
    known.pop(origin, None)
    if token:
        known[origin] = token
    SESSIONS.write(known)


def chosen_origin(text: str | None) -> str:
    """The gate that is meant: as named, or the only one that this terminal is signed in at."""
    if text:
        return gate_origin(text)
    known = sorted(known_sessions())
    if len(known) == 1:
        return known[0]
    raise Refusal(
        Code.SESSION_MISSING,
        "Which gate? This terminal is signed in at " + (", ".join(known) or "none") + ".",
        "Name its address; sign in with `presspass login URL`.",
    )


def signed_in(origin: str) -> Gate:
    """The gate, with this terminal's token; refuses with `session.missing` without one."""
    token = known_sessions().get(origin)
    if token is None:
        raise Refusal(
            Code.SESSION_MISSING,
            f"This terminal is not signed in at {origin}.",
            f"presspass login {origin}",
        )
    return Gate(origin, token=token)
