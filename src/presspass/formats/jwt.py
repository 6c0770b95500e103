"""A JSON Web Token as its sender wrote it (RFC 7519, RFC 7515 section 7.1), read strictly, nothing in it believed.

Refused here, before any key is looked for (RFC 8725): other algorithms than RS256 and ES256; headers that bring or name
a key (`jwk`, `jku`, `x5u`, `x5c`) or an extension (`crit`); a second spelling of anything (base64url with padding or
stray bits, JSON with repeated members).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final, NoReturn

from presspass.core.errors import Code, Refusal
from presspass.core.limits import JWT_BYTES_MAX, URL_CHARS_MAX
from presspass.core.roster import unb64u

ALGORITHMS: Final = ("ES256", "RS256")
_BROUGHT_KEYS: Final = ("jwk", "jku", "x5u", "x5c", "crit")


@dataclass(frozen=True, slots=True)
class Jwt:
    """One token: header parts that matter, its claims, and the text it came as. `type`: `typ` in small letters and
    without "application/" (RFC 7515 section 4.1.9), "" where there is none.
    """

    text: str
    type: str
    algorithm: str
    key_id: str
    claims: dict[str, Any]

    @property
    def issuer(self) -> str:
        """The `iss` claim; for a SPIFFE JWT-SVID without one, its trust domain (JWT-SVID section 3)."""
        issuer, subject = self.claims.get("iss"), self.claims.get("sub")
        if issuer is None and isinstance(subject, str) and subject.startswith("spiffe://"):
            return "spiffe://" + subject.removeprefix("spiffe://").split("/")[0]
        return issuer if isinstance(issuer, str) and len(issuer) <= URL_CHARS_MAX else ""


def parse_jwt(text: str) -> Jwt:
    """The token in `text`. Refuses with `identity.malformed` or `identity.algorithm`."""
    if not text.isascii() or len(text) > JWT_BYTES_MAX or text.count(".") != 2:
        _refuse("is not three parts of base64url")
    header_part, claims_part, signature_part = text.split(".")
    header, claims = _object(header_part, "header"), _object(claims_part, "claims")
    if not _decode(signature_part):
        raise Refusal(Code.IDENTITY_ALGORITHM, "The token is not signed.", _ADVICE)
    algorithm, key_id = header.get("alg"), header.get("kid", "")
    if algorithm not in ALGORITHMS:
        raise Refusal(
            Code.IDENTITY_ALGORITHM,
            f"The token says it is signed by {algorithm!r:.40}; only {' and '.join(ALGORITHMS)} are accepted.",
            _ADVICE,
        )
    brought = [name for name in _BROUGHT_KEYS if name in header]
    if brought:
        raise Refusal(
            Code.IDENTITY_ALGORITHM,
            f"The token's header has {brought[0]!r}: keys come from the issuer's own key set alone.",
            _ADVICE,
        )
    if not isinstance(key_id, str) or len(key_id) > 256:
        _refuse("has a key id that is no text")
    kind = header.get("typ", "")
    if not isinstance(kind, str) or len(kind) > 256:
        _refuse("has a type that is no text")
    kind = kind.lower().removeprefix("application/")
    return Jwt(text, kind, str(algorithm), key_id, claims)


_ADVICE: Final = "Use the token of the CI system as it is."


def _object(part: str, what: str) -> dict[str, Any]:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            _refuse(f"repeats a member in its {what}")
        return found

    try:
        value = json.loads(_decode(part).decode("utf-8"), object_pairs_hook=unique)
    except (ValueError, RecursionError):
        _refuse(f"has {what} that are not JSON")
    if not isinstance(value, dict):
        _refuse(f"has {what} that are no JSON object")
    return value


def _decode(part: str) -> bytes:
    try:
        return unb64u(part)
    except Refusal:
        _refuse("is not three parts of base64url")


def _refuse(why: str) -> NoReturn:
    raise Refusal(Code.IDENTITY_MALFORMED, f"The identity token {why}.", _ADVICE)
