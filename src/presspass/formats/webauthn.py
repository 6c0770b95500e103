"""WebAuthn assertions (W3C WebAuthn Level 3): authenticator data and client data, read strictly.

Only reading happens here; what the values must be is decided in `verify.approvals`.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from typing import Any

from presspass.core.errors import Code, Refusal
from presspass.core.roster import unb64u

_FLAG_UP, _FLAG_UV, _FLAG_BE, _FLAG_BS, _FLAG_AT, _FLAG_ED = 0x01, 0x04, 0x08, 0x10, 0x40, 0x80
_FIXED_BYTES = 37


@dataclass(frozen=True, slots=True)
class AuthenticatorData:
    """Section 6.1. `rp_id_hash`: 32 bytes; `sign_count`: 0 where the authenticator keeps none."""

    rp_id_hash: bytes
    user_present: bool
    user_verified: bool
    backed_up: bool
    sign_count: int


@dataclass(frozen=True, slots=True)
class ClientData:
    """Section 5.8.1. `challenge`: decoded; `cross_origin`: true also where a top origin is named."""

    type: str
    challenge: bytes
    origin: str
    cross_origin: bool


def parse_authenticator_data(data: bytes) -> AuthenticatorData:
    """Reads the authenticator data of an assertion; refuses with `approval.invalid` when its length or flags do not
    fit.
    """
    if len(data) < _FIXED_BYTES:
        raise _invalid("authenticator data is shorter than 37 bytes")
    flags, sign_count = struct.unpack(">BI", data[32:_FIXED_BYTES])
    if flags & _FLAG_AT:
        raise _invalid("authenticator data of an assertion must not carry a new credential")
    if bool(flags & _FLAG_ED) != (len(data) > _FIXED_BYTES):
        raise _invalid("authenticator data has bytes that its flags do not announce")
    if flags & _FLAG_BS and not flags & _FLAG_BE:
        raise _invalid("authenticator data says backed up, yet not eligible for it (section 6.1.3)")
    return AuthenticatorData(
        data[:32],
        bool(flags & _FLAG_UP),
        bool(flags & _FLAG_UV),
        bool(flags & _FLAG_BS),
        sign_count,
    )


def parse_client_data(data: bytes) -> ClientData:
    """Reads client data JSON; refuses with `approval.invalid` on repeats, wrong types or a missing member."""
    try:
        value = json.loads(data.decode("utf-8"), object_pairs_hook=_no_repeats)
    except (ValueError, RecursionError) as error:
        raise _invalid(f"client data is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise _invalid("client data is not an object")
    kind, challenge, origin = (value.get(name) for name in ("type", "challenge", "origin"))
    cross = value.get("crossOrigin", False)
    if not isinstance(kind, str) or not isinstance(challenge, str) or not isinstance(origin, str):
        raise _invalid("client data lacks type, challenge or origin")
    if not isinstance(cross, bool):
        raise _invalid("client data has a crossOrigin that is neither true nor false")
    try:
        challenge_bytes = unb64u(challenge, "challenge")
    except Refusal as refusal:
        raise _invalid(refusal.message) from None
    return ClientData(kind, challenge_bytes, origin, cross or "topOrigin" in value)


def _no_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a member is repeated")
    return found


def _invalid(why: str) -> Refusal:
    return Refusal(
        Code.APPROVAL_INVALID,
        f"The passkey's answer is unusable: {why}.",
        "Sign again on the approval page.",
    )
