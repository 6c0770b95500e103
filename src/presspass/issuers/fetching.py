"""Fetching one issuer's key set: discovery document, then the set it names (OpenID Connect Discovery 1.0 section 4).

Few bytes, few seconds, no redirect: whoever answers may be hostile. The document must name the issuer it was asked of,
and the set must lie at the same host or be reached by https; plain http is for this machine alone.
"""

from __future__ import annotations

import json
import time
from urllib.parse import urlsplit

import httpx2

from presspass.core.errors import Fault
from presspass.core.limits import KEY_SET_BYTES_MAX, KEY_SET_FETCH_S_MAX, URL_CHARS_MAX
from presspass.core.statement import is_sound_address

_DISCOVERY = "/.well-known/openid-configuration"


def fetch_key_set(issuer: str) -> bytes:
    """The key set document of `issuer`. Fault("issuer.…", retryable) when it cannot be had."""
    deadline = time.monotonic() + KEY_SET_FETCH_S_MAX
    with httpx2.Client(follow_redirects=False, trust_env=True) as client:
        document = _get(client, issuer.rstrip("/") + _DISCOVERY, deadline)
        return _get(client, _key_set_url(issuer, document), deadline)


def _key_set_url(issuer: str, document: bytes) -> str:
    try:
        value = json.loads(document)
    except (ValueError, RecursionError):
        raise Fault(
            "issuer.document", "Its discovery document is not JSON.", retryable=True
        ) from None
    if not isinstance(value, dict) or value.get("issuer") != issuer:
        raise Fault(
            "issuer.document", "Its discovery document is another issuer's.", retryable=True
        )
    url = value.get("jwks_uri")
    if not isinstance(url, str) or len(url) > URL_CHARS_MAX or not is_sound_address(url):
        raise Fault("issuer.document", "Its discovery document names no key set.", retryable=True)
    if url.startswith("http://") and urlsplit(url).netloc != urlsplit(issuer).netloc:
        raise Fault("issuer.document", "Its key set lies elsewhere, without TLS.", retryable=True)
    return url


def _get(client: httpx2.Client, url: str, deadline: float) -> bytes:
    if not is_sound_address(url):
        raise Fault(
            "issuer.address", "Its address is neither https nor on this machine.", retryable=False
        )
    found = bytearray()
    try:
        left_s = max(0.1, deadline - time.monotonic())
        with client.stream(
            "GET", url, timeout=left_s, headers={"accept": "application/json"}
        ) as answer:
            if answer.status_code != 200:
                raise Fault("issuer.answer", f"It answered {answer.status_code}.", retryable=True)
            for piece in answer.iter_bytes():
                found += piece
                if len(found) > KEY_SET_BYTES_MAX:
                    raise Fault("issuer.answer", "Its answer is too large.", retryable=True)
                if time.monotonic() > deadline:
                    raise Fault(
                        "issuer.slow",
                        f"It took longer than {KEY_SET_FETCH_S_MAX} s.",
                        retryable=True,
                    )
    except (httpx2.HTTPError, httpx2.InvalidURL) as error:
        raise Fault(
            "issuer.unreachable", f"It cannot be reached ({type(error).__name__}).", retryable=True
        ) from None
    return bytes(found)
