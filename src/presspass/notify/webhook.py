"""Webhooks to `https:` (or loopback `http:`) addresses, signed as Standard Webhooks lays down (symmetric, "v1")."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from dataclasses import dataclass
from urllib.parse import urlsplit

import httpx2

from presspass.notify import Message

_TIMEOUT_S = 10
_LOCAL = ("127.0.0.1", "localhost", "::1")


def signature(secret: bytes, id: str, timestamp_s: int, body: bytes) -> str:
    """`v1,` and the base64 of HMAC-SHA256 over `id.timestamp.body` (Standard Webhooks, "Signature scheme")."""
    signed = f"{id}.{timestamp_s}.".encode() + body
    return "v1," + base64.b64encode(hmac.digest(secret, signed, hashlib.sha256)).decode()


@dataclass(frozen=True, slots=True)
class Webhook:
    """`secret`: 32 bytes shared with the receivers (`presspass doctor --webhook-secret` spells it as `whsec_…`)."""

    secret: bytes

    def accepts(self, address: str) -> bool:
        """`https:` addresses, and `http:` ones on this machine."""
        try:
            parts = urlsplit(address)
        except ValueError:
            return False
        return parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in _LOCAL)

    def deliver(self, message: Message, now_s: int) -> None:
        """Posts one message; OSError unless the receiver answers 2xx."""
        body = json.dumps(
            {"type": "presspass", "subject": message.subject, "text": message.body}
        ).encode()
        headers = {
            "content-type": "application/json",
            "webhook-id": message.id,
            "webhook-timestamp": str(now_s),
            "webhook-signature": signature(self.secret, message.id, now_s, body),
        }
        try:
            # Only the status is of interest: the body, however long, is not read.
            with httpx2.stream(
                "POST",
                message.address,
                content=body,
                headers=headers,
                timeout=_TIMEOUT_S,
                trust_env=False,
            ) as answer:
                status, taken = answer.status_code, answer.is_success
        except (httpx2.HTTPError, httpx2.InvalidURL, ValueError) as error:
            raise OSError(f"{type(error).__name__}: {error}") from error
        if not taken:
            raise OSError(f"the receiver answered {status}")
