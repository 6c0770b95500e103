"""Digests and the canonical form (RFC 8785) that everything signed is written in."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

import rfc8785

from presspass.core.errors import Code, Refusal

JsonObject = dict[str, Any]

_SHA256_HEX = re.compile(r"[0-9a-f]{64}")


def sha256_hex(data: bytes) -> str:
    """SHA-256 of `data` as 64 lower-case hex digits."""
    return hashlib.sha256(data).hexdigest()


def is_sha256(text: object) -> bool:
    """True for exactly 64 lower-case hex digits; no other spelling of a digest is accepted anywhere."""
    return isinstance(text, str) and _SHA256_HEX.fullmatch(text) is not None


def canonical(value: Mapping[str, Any]) -> bytes:
    """`value` in the JSON Canonicalization Scheme (RFC 8785), UTF-8 bytes."""
    return rfc8785.dumps(dict(value))


def parse_canonical(data: bytes, *, bytes_max: int, what: str) -> JsonObject:
    """Reads canonical JSON and nothing else.

    A second spelling of the same value would have a second digest, so bytes that are not already canonical
    (duplicate members, spaces, other number forms: RFC 8785 section 3.2) are refused with `statement.malformed`.
    """
    if len(data) > bytes_max:
        raise Refusal(
            Code.STATEMENT_MALFORMED, f"The {what} has {len(data)} bytes; the limit is {bytes_max}."
        )
    try:
        value = json.loads(data.decode("utf-8"))
        again = canonical(value) if isinstance(value, dict) else b""
    except (ValueError, RecursionError, rfc8785.CanonicalizationError) as error:
        raise Refusal(
            Code.STATEMENT_MALFORMED, f"The {what} is not canonical JSON: {error}."
        ) from None
    if again != data:
        raise Refusal(Code.STATEMENT_MALFORMED, f"The {what} is not in canonical form (RFC 8785).")
    result: JsonObject = value
    return result
