"""The sign-in provider (OpenID Connect Core 1.0, authorization code with PKCE), as a relying party sees it.

1. Where it is comes from the configuration alone; its own description (Discovery 1.0) must name exactly that issuer,
   and may name no address that is not https (or, for an issuer on this machine, on this machine).
2. An ID token counts when it is signed by a key of the provider's set by RS256 or ES256 (the header chooses among
   these two, nothing else), brings no key of its own, and has exact issuer, audience and nonce, a fresh `iat` and an
   `exp` (leeway ID_TOKEN_LEEWAY_S).
3. The key set is fetched again for a key it lacks, no more often than each PROVIDER_COOL_DOWN_S; a failed or empty
   answer never replaces a good one.
4. Every answer is hostile: limited in size and time, no redirect is followed.
"""

from __future__ import annotations

import base64
import hashlib
import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote, urlencode, urlsplit

from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from presspass.core.digests import JsonObject
from presspass.core.errors import Code, Refusal
from presspass.core.limits import (
    ID_TOKEN_AGE_S_MAX,
    ID_TOKEN_LEEWAY_S,
    PROVIDER_COOL_DOWN_S,
    PROVIDER_REFRESH_S,
    URL_CHARS_MAX,
)

ALGORITHMS: Final = ("RS256", "ES256")
_DISCOVERY: Final = "/.well-known/openid-configuration"
#: Headers by which a token would bring its own key, or ask for rules that are not known here (RFC 7515 section 4.1).
_FORBIDDEN_HEADERS: Final = frozenset({"jku", "jwk", "x5u", "x5c", "crit"})
_SUBJECT_CHARS_MAX = 255  # OpenID Connect Core 1.0 section 2
_LOCAL = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True, slots=True)
class ProviderSettings:
    """From presspass.toml and gateway/sign-in.secret. `secret` is "" for a public client."""

    issuer: str
    client_id: str
    secret: str
    scopes: str
    redirect_uri: str


@dataclass(frozen=True, slots=True)
class _Described:
    authorization: str
    token: str
    keys: str
    fetched_s: float


class Provider:
    """One provider. Methods block and may be called from any thread. `clock`: Unix seconds."""

    def __init__(
        self,
        settings: ProviderSettings,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        # Imported here: a gateway without a provider has no HTTP client in it.
        from presspass.gateway.identity import fetch

        self._ask, self._failed = fetch.ask, fetch.failed
        self.settings = settings
        self._clock = clock
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._described: _Described | None = None
        self._keys: dict[str, Any] = {}
        self._keys_asked_s = self._described_asked_s = float("-inf")

    @property
    def name(self) -> str:
        """How pages call it: its host."""
        return urlsplit(self.settings.issuer).netloc

    def authorization_url(self, state: str, nonce: str, verifier: str) -> str:
        """Where the browser goes (RFC 6749 section 4.1.1, RFC 7636 section 4.3)."""
        challenge = hashlib.sha256(verifier.encode()).digest()
        query = {
            "client_id": self.settings.client_id,
            "code_challenge": base64.urlsafe_b64encode(challenge).rstrip(b"=").decode(),
            "code_challenge_method": "S256",
            "nonce": nonce,
            "redirect_uri": self.settings.redirect_uri,
            "response_type": "code",
            "scope": self.settings.scopes,
            "state": state,
        }
        address = self._describe().authorization
        return f"{address}{'&' if '?' in address else '?'}{urlencode(query)}"

    def redeem(self, code: str, verifier: str, nonce: str) -> str:
        """The subject behind an authorization code. Refuses with `sign-in.refused` (the provider says no),
        `sign-in.provider-failed` (it says nothing that can be used) or `sign-in.token-invalid`.
        """
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": self.settings.redirect_uri,
            "code_verifier": verifier,
        }
        headers = {}
        if self.settings.secret:  # RFC 6749 section 2.3.1
            pair = f"{quote(self.settings.client_id, '')}:{quote(self.settings.secret, '')}"
            headers["Authorization"] = "Basic " + base64.b64encode(pair.encode()).decode()
        else:
            form["client_id"] = self.settings.client_id
        answer = self._ask(self._describe().token, form, headers)
        token = answer.get("id_token")
        if not isinstance(token, str):
            raise self._failed("its answer holds no ID token")
        return self.check_token(token, nonce)

    def check_token(self, token: str, nonce: str) -> str:
        """The subject of an ID token; refuses with `sign-in.token-invalid`. OpenID Connect Core 1.0 section 3.1.3.7."""
        claims = self._verified(token)
        now = self._clock()
        audience = claims.get("aud")
        issued, expires = _time(claims.get("iat")), _time(claims.get("exp"))
        subject = claims.get("sub")
        if claims.get("iss") != self.settings.issuer:
            raise _bad_token("it is another issuer's")
        if audience not in (self.settings.client_id, [self.settings.client_id]):
            raise _bad_token("it is for another audience")
        if claims.get("azp", self.settings.client_id) != self.settings.client_id:
            raise _bad_token("it was given to another party")
        if not nonce or claims.get("nonce") != nonce:
            raise _bad_token("it answers another sign-in")
        if not issued or not expires:
            raise _bad_token("it does not say when it was issued and when it expires")
        if now >= expires + ID_TOKEN_LEEWAY_S or now - issued > ID_TOKEN_AGE_S_MAX:
            raise _bad_token("it has expired")
        not_before = _time(claims.get("nbf", issued))
        if not not_before or max(issued, not_before) > now + ID_TOKEN_LEEWAY_S:
            raise _bad_token("it is from the future")
        if not isinstance(subject, str) or not 0 < len(subject) <= _SUBJECT_CHARS_MAX:
            raise _bad_token("it names no subject")
        return subject

    def _verified(self, token: str) -> JsonObject:
        try:
            header = jws.extract_compact(token.encode()).headers()
            if header.get("alg") not in ALGORITHMS or _FORBIDDEN_HEADERS & set(header):
                raise _bad_token("it is not signed in a way that is taken here")
            key = self._key(header.get("kid"))
            signed = jws.deserialize_compact(token.encode(), key, algorithms=list(ALGORITHMS))
            claims = json.loads(signed.payload)
        except (JoseError, ValueError, TypeError, RecursionError) as error:
            raise _bad_token(
                f"its signature is not the provider's ({type(error).__name__})"
            ) from None
        if not isinstance(claims, dict):
            raise _bad_token("it holds no claims")
        return claims

    def _key(self, kid: object) -> Any:
        """The provider's key with this id; the only key, where the token names none."""
        for attempt in range(2):
            keys = self._keys
            if isinstance(kid, str) and kid in keys:
                return keys[kid]
            if kid is None and len(keys) == 1:
                return next(iter(keys.values()))
            if attempt or not self._refresh_keys():
                break
        raise _bad_token("it is signed by a key that the provider does not have")

    def _refresh_keys(self) -> bool:
        """Fetches the key set, unless that was just done; whether there is something new to look into."""
        with self._lock:
            if self._monotonic() - self._keys_asked_s < PROVIDER_COOL_DOWN_S:
                return False
            self._keys_asked_s = self._monotonic()
        value = self._ask(self._describe().keys)
        try:
            imported = KeySet.import_key_set(value)  # type: ignore[arg-type]  # it checks the shape itself
            found = {
                key.kid: key
                for key in imported.keys
                if key.kid and key.key_type in ("RSA", "EC") and key.get("use", "sig") == "sig"
            }
        except (JoseError, ValueError, TypeError, KeyError, AttributeError):
            raise self._failed("its key set cannot be read") from None
        if not found:
            raise self._failed("its key set is empty")
        self._keys = found
        return True

    def _describe(self) -> _Described:
        with self._lock:
            known, now = self._described, self._monotonic()
            if known is not None and now - known.fetched_s < PROVIDER_REFRESH_S:
                return known
            if now - self._described_asked_s < PROVIDER_COOL_DOWN_S:
                if known is not None:
                    return known
                raise self._failed("it did not answer a moment ago")
            self._described_asked_s = now
        try:
            self._described = self._read_description(now)
        except Refusal:
            if known is None:
                raise
            return known
        return self._described

    def _read_description(self, now: float) -> _Described:
        value = self._ask(self.settings.issuer.rstrip("/") + _DISCOVERY)
        if value.get("issuer") != self.settings.issuer:
            raise self._failed("it describes another issuer")
        return _Described(
            authorization=self._sound(value.get("authorization_endpoint")),
            token=self._sound(value.get("token_endpoint")),
            keys=self._sound(value.get("jwks_uri")),
            fetched_s=now,
        )

    def _sound(self, address: object) -> str:
        """An address in the provider's description that may be dialled, or that a browser may be sent to."""
        if isinstance(address, str) and len(address) <= URL_CHARS_MAX and address.isprintable():
            issuer, found = urlsplit(self.settings.issuer), urlsplit(address)
            local = issuer.scheme == "http" and found.scheme == "http" and found.hostname in _LOCAL
            if (found.scheme == "https" or local) and found.hostname and "@" not in found.netloc:
                return address
        raise self._failed("it describes an address that is not https")


def _time(value: object) -> float:
    """A NumericDate (RFC 7519 section 2); 0.0 for anything else."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if number and 0 < float(value) < 2**40 else 0.0  # type: ignore[arg-type]  # a number then


def _bad_token(why: str) -> Refusal:
    return Refusal(
        Code.SIGN_IN_TOKEN,
        f"The sign-in provider's ID token is not accepted: {why}.",
        "Begin again; if it stays so, tell the operator of the gate.",
    )
