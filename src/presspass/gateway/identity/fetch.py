"""One request to the sign-in provider, whose answer is hostile: limited in size and time."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping

import httpx2

from presspass.core.digests import JsonObject
from presspass.core.errors import Code, Refusal
from presspass.core.limits import PROVIDER_ANSWER_BYTES_MAX, PROVIDER_TIMEOUT_S


def ask(
    address: str, form: Mapping[str, str] | None = None, headers: Mapping[str, str] | None = None
) -> JsonObject:
    """GET, or POST of a form; the JSON object of the answer. Follows no redirect, keeps no cookie, heeds no proxy of
    the environment. Refuses with `sign-in.refused` (the provider says no to the form) or `sign-in.provider-failed`.
    """
    deadline = time.monotonic() + PROVIDER_TIMEOUT_S
    method, data = ("GET", bytearray()) if form is None else ("POST", bytearray())
    try:
        with (
            httpx2.Client(timeout=PROVIDER_TIMEOUT_S, trust_env=False) as client,
            client.stream(
                method,
                address,
                headers={"Accept": "application/json", **(headers or {})},
                data=dict(form) if form is not None else None,
            ) as response,
        ):
            for piece in response.iter_bytes():
                data += piece
                if len(data) > PROVIDER_ANSWER_BYTES_MAX or time.monotonic() > deadline:
                    raise failed("its answer is too large or too slow")
    except (httpx2.HTTPError, httpx2.InvalidURL) as error:
        raise failed(f"it cannot be reached ({type(error).__name__})") from None
    if form is not None and response.status_code in (400, 401, 403):
        raise Refusal(
            Code.SIGN_IN_REFUSED, "The sign-in provider refuses this sign-in.", "Begin again."
        )
    if response.status_code != 200:
        raise failed(f"it answered with status {response.status_code}")
    return _object(bytes(data))


def failed(why: str) -> Refusal:
    """The provider cannot be used now."""
    return Refusal(
        Code.SIGN_IN_PROVIDER,
        f"The sign-in provider cannot be used: {why}.",
        "Try again in a minute; if it stays so, tell the operator of the gate.",
    )


def _object(data: bytes) -> JsonObject:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise failed("it answered with something that is no JSON object")
    return value
