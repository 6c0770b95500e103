"""Raw Ed25519 signatures (RFC 8032)."""

from __future__ import annotations

from functools import lru_cache

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from presspass.core.limits import KEYS_LOADED_MAX


def verifies(public: bytes, signature: bytes, message: bytes) -> bool:
    """Whether `signature` (64 bytes) over `message` is of the key `public` (32 bytes); False for what is neither."""
    try:
        _load(public).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


@lru_cache(KEYS_LOADED_MAX)
def _load(public: bytes) -> Ed25519PublicKey:
    return Ed25519PublicKey.from_public_bytes(public)
