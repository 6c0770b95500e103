"""Public keys in DER, as rosters and signers name them (SubjectPublicKeyInfo, RFC 5280 section 4.1.2.7)."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Final

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from presspass.core.limits import KEYS_LOADED_MAX

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

#: How the only encoding begins that DER has for a P-256 key (RFC 5480; the point is uncompressed, so the last byte is
#: 4), and for an Ed25519 key (RFC 8410); the point or the key follows, and nothing else.
_P256_HEAD: Final = bytes.fromhex("3059301306072a8648ce3d020106082a8648ce3d03010703420004")
_P256_BYTES: Final = 91
_ED25519_HEAD: Final = bytes.fromhex("302a300506032b6570032100")
_ED25519_BYTES: Final = 44


@lru_cache(
    KEYS_LOADED_MAX
)  # to find the point of a P-256 key takes a third as long as to verify with it
def load(der: bytes) -> PublicKeyTypes:
    """The key; ValueError or UnsupportedAlgorithm for what is none. The usual kinds are read here: the reader for all
    of them takes 10 ms to import, a third of a whole `presspass verify`.
    """
    if der.startswith(_P256_HEAD) and len(der) == _P256_BYTES:
        point = der[len(_P256_HEAD) - 1 :]
        return ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point)
    if der.startswith(_ED25519_HEAD) and len(der) == _ED25519_BYTES:
        return Ed25519PublicKey.from_public_bytes(der[len(_ED25519_HEAD) :])
    from cryptography.hazmat.primitives.serialization import load_der_public_key

    return load_der_public_key(der)
