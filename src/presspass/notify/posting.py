"""One request to a server that is believed nothing: limited in time and size, no redirect, no proxy settings."""

from __future__ import annotations

import time

import httpx2

from presspass.core.limits import WITNESS_ANSWER_BYTES_MAX, WITNESS_TIMEOUT_S


def post(url: str, body: bytes) -> tuple[int, str, bytes]:
    """Status, content type and body of the answer; OSError where there is none, or it is too large or too slow."""
    deadline = time.monotonic() + WITNESS_TIMEOUT_S
    try:
        with httpx2.stream(
            "POST", url, content=body, timeout=WITNESS_TIMEOUT_S, trust_env=False
        ) as answer:
            data = b""
            for piece in answer.iter_bytes():
                data += piece
                if len(data) > WITNESS_ANSWER_BYTES_MAX or time.monotonic() > deadline:
                    raise OSError("the answer is too large or too slow")
            return answer.status_code, answer.headers.get("content-type", ""), data
    except (httpx2.HTTPError, httpx2.InvalidURL) as error:
        raise OSError(f"{url} cannot be asked: {error}") from None
