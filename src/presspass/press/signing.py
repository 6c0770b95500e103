"""The press's own key: it signs checkpoints (raw Ed25519) and attestations (DSSE). Made at genesis, named in it."""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from securesystemslib.dsse import Envelope
from securesystemslib.signer import CryptoSigner  # type: ignore[attr-defined]  # public there, without __all__

from presspass import __version__
from presspass.core.statement import GenesisBody, ReleaseBody, Statement
from presspass.keystore.envelopes import read_private, write_private
from presspass.verify.attestation import PAYLOAD_TYPE, STATEMENT_TYPE, VSA_TYPE

_SEED_BYTES = 32


@dataclass(frozen=True, slots=True)
class PressKey:
    """The log key. `public`: 32 raw bytes."""

    private: Ed25519PrivateKey

    @classmethod
    def create(cls, path: Path) -> PressKey:
        """Makes the key file (mode 0600); FileExistsError when there is one already."""
        write_private(path, secrets.token_bytes(_SEED_BYTES), exclusive=True)
        return cls.load(path)

    @classmethod
    def load(cls, path: Path) -> PressKey:
        """Reads the key file; Fault when it is missing or open to others."""
        return cls(Ed25519PrivateKey.from_private_bytes(read_private(path, _SEED_BYTES)))

    @property
    def public(self) -> bytes:
        return self.private.public_key().public_bytes(
            serialization.Encoding.Raw, serialization.PublicFormat.Raw
        )

    def sign_raw(self, message: bytes) -> bytes:
        """A raw Ed25519 signature, 64 bytes."""
        return self.private.sign(message)

    def attest(self, statement: dict[str, Any]) -> dict[str, Any]:
        """An in-toto statement in a DSSE envelope."""
        payload = json.dumps(statement, sort_keys=True, separators=(",", ":")).encode()
        envelope = Envelope(payload, PAYLOAD_TYPE, {})
        envelope.sign(CryptoSigner(self.private))
        result: dict[str, Any] = envelope.to_dict()
        return result


def verification_summary(
    genesis: GenesisBody, statement: Statement, body: ReleaseBody, verified_at_s: int
) -> dict[str, Any]:
    """The in-toto statement with an SLSA Verification Summary v1: these files passed this policy, by this verifier."""
    return {
        "_type": STATEMENT_TYPE,
        "subject": [{"name": file.name, "digest": {"sha256": file.sha256}} for file in body.files],
        "predicateType": VSA_TYPE,
        "predicate": {
            "verifier": {"id": genesis.origin, "version": {"presspass": __version__}},
            "timeVerified": datetime.fromtimestamp(verified_at_s, UTC).strftime(
                "%Y-%m-%dT%H:%M:%SZ"
            ),
            "resourceUri": f"pkg:pypi/{body.project}@{body.version}",
            "policy": {
                "uri": f"{genesis.origin}/policies/{statement.heads.policy}",
                "digest": {"sha256": statement.heads.policy},
            },
            "inputAttestations": [
                {
                    "uri": f"{genesis.origin}/statements/{statement.digest}",
                    "digest": {"sha256": statement.digest},
                }
            ],
            "verificationResult": "PASSED",
            "verifiedLevels": ["PRESSPASS_APPROVED_BYTES"],
            "slsaVersion": "1.0",
        },
    }
