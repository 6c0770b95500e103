"""An issuer's key set (RFC 7517 section 5) out of hostile bytes: public signature keys, each by its id.

Passed over, as the RFC says: keys of other types or for other uses. Refused: a set without one usable key (an issuer
that serves an empty set must not end the old one), RSA keys below 2048 bits, two keys with one id.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from joserfc.jwk import ECKey, RSAKey

from presspass.core.errors import Code, Refusal
from presspass.core.limits import KEY_SET_BYTES_MAX, KEY_SET_KEYS_MAX

Key = RSAKey | ECKey
_RSA_BITS_MIN, _RSA_BITS_MAX = 2048, 8192
_PUBLIC_MEMBERS = {"RSA": ("kty", "n", "e"), "EC": ("kty", "crv", "x", "y")}


@dataclass(frozen=True, slots=True)
class KeySet:
    """Keys by algorithm and id. `key_ids` in order."""

    keys: Mapping[tuple[str, str], Key]

    @property
    def key_ids(self) -> tuple[str, ...]:
        return tuple(sorted(key_id for _, key_id in self.keys))

    def find(self, algorithm: str, key_id: str) -> Key | None:
        """The key for a token; a token without a key id matches only a set of one key."""
        if not key_id:
            of_kind = [key for (kind, _), key in self.keys.items() if kind == algorithm]
            return of_kind[0] if len(of_kind) == 1 else None
        return self.keys.get((algorithm, key_id))


def parse_key_set(data: bytes) -> KeySet:
    """The usable keys in `data`; refuses with `identity.keys-unavailable` when there is none."""
    if len(data) > KEY_SET_BYTES_MAX:
        raise _unusable(f"it is larger than {KEY_SET_BYTES_MAX} bytes")
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        raise _unusable("it is not JSON") from None
    listed = value.get("keys") if isinstance(value, dict) else None
    if not isinstance(listed, list) or len(listed) > KEY_SET_KEYS_MAX:
        raise _unusable(f"it has no list of at most {KEY_SET_KEYS_MAX} keys")
    found: dict[tuple[str, str], Key] = {}
    for one in listed:
        usable = _usable(one)
        if usable is not None:
            if usable[0] in found:
                raise _unusable("two of its keys have one id")
            found[usable[0]] = usable[1]
    if not found:
        raise _unusable("it has no key for RS256 or ES256")
    return KeySet(found)


def _usable(one: Any) -> tuple[tuple[str, str], Key] | None:
    if not isinstance(one, dict) or one.get("use", "sig") not in ("sig", "jwt-svid"):
        return None
    kind, key_id = one.get("kty"), one.get("kid", "")
    if kind not in _PUBLIC_MEMBERS or not isinstance(key_id, str) or len(key_id) > 256:
        return None
    members = {name: one.get(name) for name in _PUBLIC_MEMBERS[kind]}
    public: dict[str, str | list[str]] = {}
    public.update({name: value for name, value in members.items() if isinstance(value, str)})
    if len(public) != len(members):
        return None
    try:
        if kind == "RSA":
            rsa = RSAKey.import_key(public)
            bits = rsa.public_key.key_size
            return (("RS256", key_id), rsa) if _RSA_BITS_MIN <= bits <= _RSA_BITS_MAX else None
        return (("ES256", key_id), ECKey.import_key(public)) if public["crv"] == "P-256" else None
    except (ValueError, TypeError):
        return None


def _unusable(why: str) -> Refusal:
    return Refusal(
        Code.IDENTITY_UNAVAILABLE,
        f"The issuer's key set cannot be used: {why}.",
        "The issuer's operator must mend it; the last good set stays in use meanwhile.",
    )
