"""Virtual WebAuthn keys: a software authenticator for the demo and tests, labelled as one wherever it is enrolled.

It proves possession of a file, nothing about a person. Roster and proofs call such a key `software-passkey`.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cbor2
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from presspass.core.approval import Approval
from presspass.core.digests import sha256_hex
from presspass.core.roster import Key, b64u, unb64u
from presspass.core.statement import challenge

_UP, _UV, _AT = 0x01, 0x04, 0x40


@dataclass(slots=True)
class SoftwarePasskey:
    """One ES256 credential. Flags and counter can be set wrong on purpose by tests."""

    private_key: ec.EllipticCurvePrivateKey
    credential_id: bytes
    flags: int = _UP | _UV
    sign_count: int = 0

    @classmethod
    def generate(cls, seed: int | None = None) -> SoftwarePasskey:
        """A new key; the same `seed` gives the same key (tests only)."""
        if seed is None:
            return cls(ec.generate_private_key(ec.SECP256R1()), os.urandom(16))
        scalar = (
            int.from_bytes(hashlib.sha256(b"presspass virtual key %d" % seed).digest(), "big") >> 1
        )
        return cls(
            ec.derive_private_key(scalar, ec.SECP256R1()), sha256_hex(b"%d" % seed)[:32].encode()
        )

    @property
    def public_der(self) -> bytes:
        """SubjectPublicKeyInfo, DER."""
        return self.private_key.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )

    @property
    def key(self) -> Key:
        """The key as a roster would carry it."""
        return Key("software-passkey", self.public_der, self.credential_id)

    def approve(self, statement: bytes, *, origin: str, rp_id: str) -> Approval:
        """Signs the canonical bytes of a statement, as the page would have a browser do."""
        client_data, auth_data, signature = self._assert(challenge(statement), origin, rp_id)
        return Approval(
            sha256_hex(statement), self.key.id, "webauthn", signature, auth_data, client_data
        )

    def registration(self, options: dict[str, Any], origin: str) -> dict[str, Any]:
        """A RegistrationResponseJSON for `options` (PublicKeyCredentialCreationOptions JSON), attestation "none"."""
        client_data = _client_data("webauthn.create", unb64u(options["challenge"]), origin)
        auth_data = (
            _auth_data(options["rp"]["id"], self.flags | _AT, self.sign_count)
            + bytes(16)
            + struct.pack(">H", len(self.credential_id))
            + self.credential_id
            + self._cose_key()
        )
        attestation = cbor2.dumps({"fmt": "none", "attStmt": {}, "authData": auth_data})
        return {
            "id": b64u(self.credential_id),
            "rawId": b64u(self.credential_id),
            "type": "public-key",
            "authenticatorAttachment": "platform",
            "clientExtensionResults": {},
            "response": {
                "attestationObject": b64u(attestation),
                "clientDataJSON": b64u(client_data),
                "transports": ["internal"],
            },
        }

    def save(self, path: Path) -> None:
        """Writes the private key to a file only its owner can read."""
        value = {
            "credential_id": b64u(self.credential_id),
            "private_key": self.private_key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            ).decode(),
        }
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            json.dump(value, file)

    @classmethod
    def load(cls, path: Path) -> SoftwarePasskey:
        """Reads what `save` wrote. ValueError when the file is something else."""
        value = json.loads(path.read_text())
        private = serialization.load_pem_private_key(value["private_key"].encode(), password=None)
        if not isinstance(private, ec.EllipticCurvePrivateKey):
            raise ValueError(f"{path} holds no P-256 key")
        return cls(private, unb64u(value["credential_id"]))

    def _assert(
        self, challenge_bytes: bytes, origin: str, rp_id: str
    ) -> tuple[bytes, bytes, bytes]:
        client_data = _client_data("webauthn.get", challenge_bytes, origin)
        auth_data = _auth_data(rp_id, self.flags, self.sign_count)
        message = auth_data + hashlib.sha256(client_data).digest()
        return client_data, auth_data, self.private_key.sign(message, ec.ECDSA(hashes.SHA256()))

    def _cose_key(self) -> bytes:
        numbers = self.private_key.public_key().public_numbers()
        encoded: bytes = cbor2.dumps(
            {
                1: 2,
                3: -7,
                -1: 1,
                -2: numbers.x.to_bytes(32, "big"),
                -3: numbers.y.to_bytes(32, "big"),
            }
        )
        return encoded


def _auth_data(rp_id: str, flags: int, sign_count: int) -> bytes:
    return hashlib.sha256(rp_id.encode()).digest() + struct.pack(">BI", flags, sign_count)


def _client_data(kind: str, challenge_bytes: bytes, origin: str) -> bytes:
    value = {
        "type": kind,
        "challenge": b64u(challenge_bytes),
        "origin": origin,
        "crossOrigin": False,
    }
    return json.dumps(value, separators=(",", ":")).encode()
