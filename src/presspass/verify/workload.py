"""Is this token really its issuer's word, for us, now? (RFC 7519 section 7.2, RFC 8725; OpenID Connect Core 3.1.3.7)

1. The algorithm is RS256 or ES256 (`formats.jwt`), and the key of that id is in the issuer's own set;
2. the signature verifies;
3. `iss` is exactly the issuer whose keys these are; `aud` is exactly one value, and one of ours;
4. `exp` and `iat` are there; it has begun, it has not ended, and it lives no longer than the provider's tokens do.

The gateway asks this when a token is exchanged, the press again with keys it fetched itself.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Final

from joserfc import jws
from joserfc.errors import JoseError

from presspass.core.audience import split_set
from presspass.core.digests import sha256_hex
from presspass.core.errors import Code, Refusal
from presspass.core.limits import JWT_LEEWAY_S
from presspass.core.workload import Workload
from presspass.formats.ci_claims import PROVIDERS, read_workload
from presspass.formats.jwks import KeySet
from presspass.formats.jwt import Jwt

_CLOCKS: Final = "Check the clocks of the gate and of the issuer."


def verify_workload(
    token: Jwt,
    keys: KeySet,
    *,
    issuer: str,
    provider: str,
    audiences: Collection[str],
    now_s: float,
) -> Workload:
    """The workload that `token` proves, or a refusal that says why it proves none. Times are Unix seconds; to each of
    `audiences` a workload may append the digest of its set.
    """
    check_signature(token, keys)
    if token.issuer != issuer:
        raise Refusal(
            Code.IDENTITY_ISSUER_UNKNOWN, f"The token is of {token.issuer}, not of {issuer}."
        )
    check_audience(split_set(audience_of(token))[0], audiences)
    check_life(token.claims, PROVIDERS[provider].life_s_max, now_s)
    return read_workload(provider, {**token.claims, "iss": issuer})


def check_signature(token: Jwt, keys: KeySet) -> None:
    """Rules 1 and 2; `identity.key-unknown` where another look at the issuer's keys may help."""
    key = keys.find(token.algorithm, token.key_id)
    if key is None:
        raise Refusal(
            Code.IDENTITY_KEY_UNKNOWN,
            f"The token names a key ({token.key_id[:64]!r}) that its issuer does not publish.",
            "If the issuer has just changed its keys, try again in a minute.",
        )
    try:
        jws.deserialize_compact(token.text, key, algorithms=[token.algorithm])
    except (JoseError, ValueError):
        raise Refusal(
            Code.IDENTITY_INVALID, "The token's signature does not verify.", "Ask for a new token."
        ) from None


def audience_of(token: Jwt) -> str:
    """The one audience that a token was made for; "" where it names several or none."""
    found = token.claims.get("aud")
    if isinstance(found, list) and len(found) == 1:
        found = found[0]
    return found if isinstance(found, str) else ""


def bound_set(token: Jwt) -> str:
    """SHA-256 of the set of files to which a workload has bound its token; "" for none."""
    return split_set(audience_of(token))[1]


def check_audience(audience: str, audiences: Collection[str]) -> None:
    """Rule 3: one audience, exactly; a token that was made for several services opens none."""
    if audience not in audiences:
        shown = audience or "several audiences or none"
        raise Refusal(
            Code.IDENTITY_AUDIENCE,
            f"The token is for {shown!r:.200}, not for this gate.",
            f"Ask the CI system for a token with the audience {sorted(audiences)[0]!r}.",
        )


def check_life(claims: dict[str, Any], life_s_max: int, now_s: float) -> None:
    """Rule 4."""
    issued, expires = time_of(claims, "iat"), time_of(claims, "exp")
    begins = time_of(claims, "nbf") if "nbf" in claims else issued
    if expires - issued > life_s_max:
        raise Refusal(
            Code.IDENTITY_LIFE,
            f"The token lives {expires - issued:.0f} seconds; {life_s_max} are accepted.",
            "Shorten the life of the job's token, or the job's time limit where the token lives as long.",
        )
    if now_s >= expires + JWT_LEEWAY_S or now_s >= issued + life_s_max + JWT_LEEWAY_S:
        raise Refusal(
            Code.IDENTITY_EXPIRED, "The token has expired.", "Ask the CI system for a new one."
        )
    if now_s < max(issued, begins) - JWT_LEEWAY_S:
        raise Refusal(Code.IDENTITY_NOT_YET_VALID, "The token is not valid yet.", _CLOCKS)


def replay_key(token: Jwt) -> str:
    """What is claimed once for each token: issuer and `jti`, or where there is none the token itself; SHA-256, hex."""
    token_id = token.claims.get("jti")
    if isinstance(token_id, str) and token_id:
        return sha256_hex(f"jti\n{token.issuer}\n{token_id}".encode("utf-8", "surrogatepass"))
    # The signed part alone: an ECDSA signature can be written in a second way that verifies too.
    return sha256_hex(b"token\n" + token.text.rpartition(".")[0].encode())


def replay_until_s(token: Jwt) -> int:
    """How long its claim must be kept: to its end and the leeway (Unix seconds)."""
    return int(time_of(token.claims, "exp")) + JWT_LEEWAY_S + 1


def time_of(claims: Mapping[str, Any], name: str) -> float:
    """The claim `name` as Unix seconds; refuses with `identity.claim-missing`."""
    value = claims.get(name)
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value < 2**40:
        raise Refusal(
            Code.IDENTITY_CLAIM_MISSING,
            f"The token has no time in {name!r}.",
            "Use the token of the CI system as it is.",
        )
    return float(value)
