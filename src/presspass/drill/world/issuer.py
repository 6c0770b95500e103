"""An OIDC issuer on loopback, as CI systems run one: discovery document, key set, and signed workload tokens.

The RSA key comes from the seed, and so do the token ids: the same seed, clock and claims give the same token, byte for
byte. A key made this way is guessable by design and must never leave a test.
"""

from __future__ import annotations

import base64
import functools
import json
import random
import threading
from collections.abc import Mapping
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from presspass.drill.world.clock import WorldClock
from presspass.drill.world.loopback import LoopbackServer, Request, Response

KEY_BITS = 2048
PUBLIC_EXPONENT = 65537
TOKEN_LIFETIME_S = 300
DISCOVERY_PATH = "/.well-known/openid-configuration"
JWKS_PATH = "/.well-known/jwks"


class Issuer(LoopbackServer):
    """`with Issuer(seed=7) as issuer:` serves until the block ends; `issuer.url` is the `iss` of its tokens."""

    def __init__(self, seed: int = 0, clock: WorldClock | None = None) -> None:
        super().__init__()
        self._seed = seed
        self._clock = clock or WorldClock()
        self._lock = threading.Lock()
        self._generation = 0
        self._minted = 0

    @property
    def kid(self) -> str:
        """The id of the key that signs now."""
        return f"world-{self._seed}-{self._generation}"

    def rotate(self) -> None:
        """From now on another key signs, and the old one is no longer in the key set."""
        with self._lock:
            self._generation += 1

    def mint(
        self,
        claims: Mapping[str, Any],
        *,
        lifetime_s: float = TOKEN_LIFETIME_S,
        header: Mapping[str, Any] | None = None,
    ) -> str:
        """A signed token (RS256) with `iss`, `iat`, `nbf`, `exp` and a `jti` of its own under the given claims.

        `claims` may replace any of these, and None removes one. `header` changes the JOSE header in the same way:
        a token that lies about its algorithm is still signed with RS256.
        """
        with self._lock:
            self._minted += 1
            jti = f"{self._seed:08x}-{self._minted:08x}"
        now = int(self._clock.wall())
        times = {"iat": now, "nbf": now, "exp": now + int(lifetime_s)}
        payload = _merged({"iss": self.url, "jti": jti, **times}, claims)
        jose = _merged({"alg": "RS256", "kid": self.kid, "typ": "JWT"}, header or {})
        signed = f"{_segment(jose)}.{_segment(payload)}"
        signature = self._key().sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256())
        return f"{signed}.{_unpadded(signature)}"

    def token(self, claims: Mapping[str, Any], audience: str) -> str:
        """As `mint`, for this audience: what a `Runner` asks for."""
        return self.mint({**claims, "aud": audience})

    def jwks(self) -> dict[str, Any]:
        """The key set (RFC 7517) as it is served."""
        numbers = self._key().public_key().public_numbers()
        key = {"kty": "RSA", "use": "sig", "alg": "RS256", "kid": self.kid}
        return {"keys": [key | {"n": _unsigned(numbers.n), "e": _unsigned(numbers.e)}]}

    def answer(self, request: Request) -> Response:
        """See LoopbackServer.answer."""
        if request.path == DISCOVERY_PATH:
            return _json(
                {
                    "issuer": self.url,
                    "jwks_uri": self.url + JWKS_PATH,
                    "id_token_signing_alg_values_supported": ["RS256"],
                    "response_types_supported": ["id_token"],
                    "subject_types_supported": ["public"],
                }
            )
        if request.path == JWKS_PATH:
            return _json(self.jwks())
        return Response(404, b"not found\n")

    def _key(self) -> rsa.RSAPrivateKey:
        return _seeded_key(self._seed, self._generation)


@functools.lru_cache(maxsize=16)
def _seeded_key(seed: int, generation: int) -> rsa.RSAPrivateKey:
    chance = random.Random(f"presspass/drill/world/issuer/{seed}/{generation}")
    p, q = _prime(chance), _prime(chance)
    d = pow(PUBLIC_EXPONENT, -1, (p - 1) * (q - 1))
    public = rsa.RSAPublicNumbers(PUBLIC_EXPONENT, p * q)
    crt = (rsa.rsa_crt_dmp1(d, p), rsa.rsa_crt_dmq1(d, q), rsa.rsa_crt_iqmp(p, q))
    return rsa.RSAPrivateNumbers(p, q, d, *crt, public).private_key()


def _prime(chance: random.Random) -> int:
    """A prime of half the key's length with its two highest bits set, so that the product has the full length."""
    while True:
        candidate = chance.getrandbits(KEY_BITS // 2) | 3 << (KEY_BITS // 2 - 2) | 1
        if (
            all(candidate % small for small in _SMALL_PRIMES)
            and candidate % PUBLIC_EXPONENT != 1
            and all(pow(base, candidate - 1, candidate) == 1 for base in (2, 3, 5))
        ):
            return candidate


_SMALL_PRIMES = [n for n in range(3, 2000, 2) if all(n % d for d in range(3, int(n**0.5) + 1, 2))]


def _merged(base: dict[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    merged = base | dict(changes)
    return {name: value for name, value in merged.items() if value is not None}


def _segment(value: dict[str, Any]) -> str:
    return _unpadded(json.dumps(value, sort_keys=True, separators=(",", ":")).encode())


def _unpadded(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()


def _unsigned(value: int) -> str:
    return _unpadded(value.to_bytes((value.bit_length() + 7) // 8, "big"))


def _json(value: dict[str, Any]) -> Response:
    return Response(200, json.dumps(value).encode(), "application/json")
