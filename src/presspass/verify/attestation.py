"""DSSE envelopes with in-toto statements (DSSE protocol v1, in-toto Statement v1), checked under one Ed25519 key."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from dataclasses import dataclass
from typing import Any, Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from presspass.core.errors import Code, Refusal

PAYLOAD_TYPE: Final = "application/vnd.in-toto+json"
STATEMENT_TYPE: Final = "https://in-toto.io/Statement/v1"
VSA_TYPE: Final = "https://slsa.dev/verification_summary/v1"


@dataclass(frozen=True, slots=True)
class Attested:
    """A verified statement. `subjects`: file name to SHA-256 (hex)."""

    predicate_type: str
    subjects: dict[str, str]
    predicate: dict[str, Any]


def pre_authentication_encoding(payload_type: str, payload: bytes) -> bytes:
    """What a DSSE signature is over (DSSE protocol, "PAE")."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)


def verify_envelope(envelope: object, public_key: bytes) -> Attested:
    """The statement in a DSSE envelope signed by this raw Ed25519 key alone; else refuses with `proof.invalid`."""
    try:
        return _verify(envelope, public_key)
    except (
        KeyError,
        TypeError,
        ValueError,
        AttributeError,
        IndexError,
        InvalidSignature,
        binascii.Error,
        RecursionError,
    ):
        raise Refusal(
            Code.PROOF_INVALID, "The attestation is malformed or its signature does not verify."
        ) from None


def _verify(envelope: Any, public_key: bytes) -> Attested:
    payload = _base64(envelope["payload"])
    signature = _base64(envelope["signatures"][0]["sig"])
    # DSSE leaves `keyid` and further members unsigned; one spelling only, so that no byte of a proof is free to change.
    signatures = [{"keyid": key_id(public_key), "sig": envelope["signatures"][0]["sig"]}]
    if envelope != {
        "payload": envelope["payload"],
        "payloadType": PAYLOAD_TYPE,
        "signatures": signatures,
    }:
        raise ValueError
    Ed25519PublicKey.from_public_bytes(public_key).verify(
        signature, pre_authentication_encoding(PAYLOAD_TYPE, payload)
    )
    statement = json.loads(payload)
    if statement["_type"] != STATEMENT_TYPE:
        raise ValueError
    subjects = {subject["name"]: subject["digest"]["sha256"] for subject in statement["subject"]}
    return Attested(str(statement["predicateType"]), subjects, dict(statement["predicate"]))


def key_id(public_key: bytes) -> str:
    """The key id that securesystemslib gives an Ed25519 key: SHA-256 of its canonical JSON description, hex."""
    key = f'{{"keytype":"ed25519","keyval":{{"public":"{public_key.hex()}"}},"scheme":"ed25519"}}'
    return hashlib.sha256(key.encode()).hexdigest()


def _base64(text: str) -> bytes:
    data = base64.b64decode(text, validate=True)
    if base64.b64encode(data).decode() != text:
        raise ValueError
    return data
