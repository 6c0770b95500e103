"""A signer: a key of the press that people have put in force by a statement, in place of the one in genesis.

Attestations are signed by it, so that its private half can be in a PKCS#11 token or a cloud KMS, and can be changed.
Until there is one, the log key in genesis signs them as well.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from presspass.core.digests import JsonObject
from presspass.core.roster import b64u, unb64u
from presspass.core.strict import Members

ATTESTATION: Final = "attestation"
SIGNERS: Final = (ATTESTATION,)
ED25519: Final = "ed25519"
ECDSA_P256: Final = "ecdsa-sha2-nistp256"
ECDSA_P384: Final = "ecdsa-sha2-nistp384"
RSA_PSS: Final = "rsassa-pss-sha256"
#: What a key signs with, by the names of the TUF specification (section 4.2) and of securesystemslib.
SCHEMES: Final = (ED25519, ECDSA_P256, ECDSA_P384, RSA_PSS)
_KEY_CHARS_MAX = 4096
#: SubjectPublicKeyInfo of an Ed25519 key up to its 32 bytes (RFC 8410 section 4).
_ED25519_PREFIX: Final = bytes.fromhex("302a300506032b6570032100")


@dataclass(frozen=True, slots=True)
class SignerBody:
    """`name`: what it signs, of SIGNERS; `scheme`: of SCHEMES; `public_key`: SubjectPublicKeyInfo in DER."""

    name: str
    scheme: str
    public_key: bytes

    @classmethod
    def of_raw(cls, name: str, raw: bytes) -> SignerBody:
        """The signer that an Ed25519 key of 32 raw bytes is."""
        return cls(name, ED25519, _ED25519_PREFIX + raw)

    @property
    def raw(self) -> bytes:
        """The 32 bytes of an Ed25519 key."""
        return self.public_key.removeprefix(_ED25519_PREFIX)

    def to_json(self) -> JsonObject:
        return {
            "name": self.name,
            "public_key": b64u(self.public_key),
            "scheme": self.scheme,
        }

    @classmethod
    def from_json(cls, value: object) -> SignerBody:
        members = Members(value, "signer")
        body = cls(
            name=members.choice("name", SIGNERS),
            scheme=members.choice("scheme", SCHEMES),
            public_key=unb64u(members.text("public_key", chars_max=_KEY_CHARS_MAX), "public key"),
        )
        members.done()
        if body.scheme == ED25519 and (
            len(body.raw) != 32 or body.of_raw(body.name, body.raw) != body
        ):
            members.refuse("has a public key that is no Ed25519 key")
        return body
