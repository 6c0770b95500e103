"""The sign-in provider (OpenID Connect Core 1.0, authorization code with PKCE), as a relying party sees it.

1. Where it is comes from the configuration alone; its own description (Discovery 1.0) must name exactly that issuer,
   and may name no address that is not https (or, for an issuer on this machine, on this machine).
2. An ID token counts when it passes the checks of a workload's token (`verify.workload`: RS256 or ES256, no key of its
   own, exact issuer and audience, times with at most JWT_LEEWAY_S), has the nonce of this sign-in, and is fresh.
3. Every answer is hostile: limited in size and time, no redirect is followed.
"""

from __future__ import annotations

import base64
import hashlib
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote, urlencode, urlsplit

from presspass.core.errors import Code, Refusal
from presspass.core.limits import (
    ID_TOKEN_AGE_S_MAX,
    JWT_LEEWAY_S,
    PROVIDER_COOL_DOWN_S,
    PROVIDER_REFRESH_S,
    URL_CHARS_MAX,
)
from presspass.formats.jwt import Jwt, parse_jwt
from presspass.gateway.identity.fetch import ask, failed
from presspass.gateway.identity.subjects import is_name
from presspass.issuers import KeySets
from presspass.verify.workload import (
    audience_of,
    check_audience,
    check_life,
    check_signature,
    replay_key,
    replay_until_s,
)

_DISCOVERY: Final = "/.well-known/openid-configuration"
_LIFE_S_MAX = (
    86_400  # providers give them an hour, or a working day; what counts is when they were issued
)
_LOGOUT_EVENT: Final = "http://schemas.openid.net/event/backchannel-logout"
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
    fetched_s: float


@dataclass(frozen=True, slots=True)
class Subject:
    """Who has signed in. `sid`: the session at the provider, "" where it names none."""

    subject: str
    sid: str


@dataclass(frozen=True, slots=True)
class Logout:
    """Whom, or which session, the provider has logged out; one of both is there. `until_s`: Unix seconds."""

    subject: str
    sid: str
    replay_key: str
    until_s: int


class Provider:
    """One provider. Methods block and may be called from any thread. `clock`: Unix seconds."""

    def __init__(
        self,
        settings: ProviderSettings,
        key_sets: KeySets,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.settings, self._key_sets = settings, key_sets
        key_sets.watch(settings.issuer)
        self._clock = clock
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._described: _Described | None = None
        self._described_asked_s = float("-inf")

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

    def redeem(self, code: str, verifier: str, nonce: str) -> Subject:
        """Who is behind an authorization code. Refuses with `sign-in.refused` (the provider says no),
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
        answer = ask(self._describe().token, form, headers)
        token = answer.get("id_token")
        if not isinstance(token, str):
            raise failed("its answer holds no ID token")
        return self.check_token(token, nonce)

    def check_token(self, text: str, nonce: str) -> Subject:
        """Who an ID token says it is; refuses with `sign-in.token-invalid`. OpenID Connect Core 1.0 section 3.1.3.7."""
        token = self._sound_token(text)
        claims, subject = token.claims, token.claims.get("sub")
        if claims.get("azp", self.settings.client_id) != self.settings.client_id:
            raise _bad_token("It was given to another party.")
        if not nonce or claims.get("nonce") != nonce:
            raise _bad_token("It answers another sign-in.")
        self._check_age(claims)
        if not is_name(subject):
            raise _bad_token("It names no subject.")
        sid = claims.get("sid")
        return Subject(subject, sid if is_name(sid) else "")

    def check_logout(self, text: str) -> Logout:
        """What a logout token says; refuses with `sign-in.token-invalid`. Back-Channel Logout 1.0 section 2.6."""
        token = self._sound_token(text)
        claims, events = token.claims, token.claims.get("events")
        if not isinstance(events, dict) or not isinstance(events.get(_LOGOUT_EVENT), dict):
            raise _bad_token("It is no logout token.")
        if "nonce" in claims:
            raise _bad_token("A logout token has no nonce.")
        if not is_name(claims.get("jti")):
            raise _bad_token("It has no id.")
        self._check_age(claims)
        subject, sid = (claims.get(name, "") for name in ("sub", "sid"))
        for one in (subject, sid):
            if one != "" and not is_name(one):
                raise _bad_token("It names a subject or session that is no text.")
        if not subject and not sid:
            raise _bad_token("It names neither a subject nor a session.")
        return Logout(subject, sid, replay_key(token), replay_until_s(token))

    def authentic(self, text: str) -> Jwt:
        """A token that the provider has signed for this client, whenever; refuses with `identity.*`."""
        token, issuer = parse_jwt(text), self.settings.issuer
        if token.claims.get("iss") != issuer:
            raise Refusal(Code.IDENTITY_ISSUER_UNKNOWN, "It is another issuer's.")
        self._key_sets.verified(issuer, lambda keys: check_signature(token, keys))
        check_audience(audience_of(token), (self.settings.client_id,))
        return token

    def _sound_token(self, text: str) -> Jwt:
        try:
            return self._verified(text)
        except Refusal as refusal:
            if refusal.code is Code.IDENTITY_UNAVAILABLE:
                raise failed("its keys cannot be had") from None
            raise _bad_token(refusal.message) from None

    def _check_age(self, claims: dict[str, Any]) -> None:
        if self._clock() - claims["iat"] > ID_TOKEN_AGE_S_MAX + JWT_LEEWAY_S:
            raise _bad_token("It was issued too long ago.")

    def _verified(self, text: str) -> Jwt:
        """`authentic`, and in its time, by the same checks as a workload's token."""
        token = self.authentic(text)
        check_life(token.claims, _LIFE_S_MAX, self._clock())
        return token

    def _describe(self) -> _Described:
        with self._lock:
            known, now = self._described, self._monotonic()
            if known is not None and now - known.fetched_s < PROVIDER_REFRESH_S:
                return known
            if now - self._described_asked_s < PROVIDER_COOL_DOWN_S:
                if known is not None:
                    return known
                raise failed("it did not answer a moment ago")
            self._described_asked_s = now
        try:
            self._described = self._read_description(now)
        except Refusal:
            if known is None:
                raise
            return known
        return self._described

    def _read_description(self, now: float) -> _Described:
        value = ask(self.settings.issuer.rstrip("/") + _DISCOVERY)
        if value.get("issuer") != self.settings.issuer:
            raise failed("it describes another issuer")
        return _Described(
            authorization=self._sound(value.get("authorization_endpoint")),
            token=self._sound(value.get("token_endpoint")),
            fetched_s=now,
        )

    def _sound(self, address: object) -> str:
        """An address in the provider's description that may be dialled, or that a browser may be sent to."""
        if isinstance(address, str) and len(address) <= URL_CHARS_MAX and address.isprintable():
            issuer, found = urlsplit(self.settings.issuer), urlsplit(address)
            local = issuer.scheme == "http" and found.scheme == "http" and found.hostname in _LOCAL
            if (found.scheme == "https" or local) and found.hostname and "@" not in found.netloc:
                return address
        raise failed("it describes an address that is not https")


def _bad_token(why: str) -> Refusal:
    return Refusal(
        Code.SIGN_IN_TOKEN,
        f"The sign-in provider's token is not accepted. {why}",
        "Begin again; if it stays so, tell the operator of the gate.",
    )
