"""What the press attests of a release: three in-toto statements (in-toto Statement v1) in DSSE envelopes (DSSE v1).

1. An SLSA Verification Summary v1: these files passed this policy.
2. The in-toto release predicate v0.1: the publisher released these files as this package URL.
3. An approval predicate of our own: who approved with which keys and raw assertions, under which roster.

They say nothing that a proof does not show by itself, in a form that other tools read. So whoever has the proof writes
them anew from it and compares: what is attested is what was checked, or it is refused. From the envelope alone come
only the version of the program and the SHA-512 of the files, by which lock files of npm name them.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from presspass.core.approval import Approval, Signed
from presspass.core.digests import JsonObject, canonical, is_canonical_of
from presspass.core.errors import Code, Refusal
from presspass.core.limits import KEYS_LOADED_MAX
from presspass.core.policy import Policy
from presspass.core.roster import Key, b64u
from presspass.core.signer import ECDSA_P256, ECDSA_P384, ED25519, RSA_PSS, SignerBody
from presspass.core.statement import ReleaseBody, ReleaseFile, Statement
from presspass.verify.public_keys import load

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric import rsa

PAYLOAD_TYPE: Final = "application/vnd.in-toto+json"
STATEMENT_TYPE: Final = "https://in-toto.io/Statement/v1"
VSA_TYPE: Final = "https://slsa.dev/verification_summary/v1"
RELEASE_TYPE: Final = "https://in-toto.io/attestation/release/v0.1"
APPROVAL_TYPE: Final = "urn:presspass:approval:v1"
#: In the order in which they stand in a proof.
PREDICATES: Final = (VSA_TYPE, RELEASE_TYPE, APPROVAL_TYPE)
_RSA_BITS_MIN = 2048
_TIME_S_MAX: Final = 253_402_300_799  # the end of the year 9999
_KEY_TYPES: Final = {ED25519: "ed25519", ECDSA_P256: "ecdsa", ECDSA_P384: "ecdsa", RSA_PSS: "rsa"}
_CURVES: Final[Mapping[str, tuple[type[ec.EllipticCurve], hashes.HashAlgorithm]]] = {
    ECDSA_P256: (ec.SECP256R1, hashes.SHA256()),
    ECDSA_P384: (ec.SECP384R1, hashes.SHA384()),
}


@dataclass(frozen=True, slots=True)
class Signature:
    """A verified signature with its key. `person`: the owner's id; `role`: approver, requester, or none where it
    was not counted.
    """

    signed: Signed
    key: Key
    person: str
    role: str

    def to_json(self) -> JsonObject:
        return {
            "id": self.key.id,
            "authenticator": self.key.kind,
            "synced": self.signed.synced,
            "userVerified": self.signed.user_verified,
            "publicKey": b64u(self.key.public_key),
            "person": self.person,
            "role": self.role,
        }


@dataclass(frozen=True, slots=True)
class Attestable:
    """What attestations are about. `origin`: the one in genesis, by which the verifier is known; `protocol`: the
    upstream's; `at`: when the release was verified, Unix seconds; `chain`: digests of the statements that led to
    roster and policy, genesis first; `signatures`: the verified ones, each with its key; `standing`: digest of the
    standing approval under which it passed, and ids of those whose signatures under that one count for it;
    `plans`: under which some signatures stand.
    """

    origin: str
    statement: Statement
    approvals: Sequence[Approval]
    protocol: str
    at: int
    chain: Sequence[str]
    policy: Policy
    signatures: Sequence[Signature]
    standing: tuple[str, Sequence[str]] | None = None
    plans: Sequence[Statement] = ()

    @property
    def release(self) -> ReleaseBody:
        return self.statement.body_as(ReleaseBody)

    @property
    def purl(self) -> str:
        """The package URL of the release (ECMA-427)."""
        return f"pkg:{self.protocol}/{self.release.project}@{self.release.version}"


def statements(
    about: Attestable, sha512: Mapping[str, str], version: str
) -> tuple[JsonObject, JsonObject, JsonObject]:
    """The three in-toto statements. `sha512`: of each file by its SHA-256, both hex; `version`: of the program."""
    subject = [
        {"name": file.name, "digest": {"sha256": file.sha256, "sha512": sha512[file.sha256]}}
        for file in about.release.files
    ]
    predicates = (_summary(about, version), _release(about), _approval(about))
    one, two, three = (
        {"_type": STATEMENT_TYPE, "subject": subject, "predicateType": kind, "predicate": predicate}
        for kind, predicate in zip(PREDICATES, predicates, strict=True)
    )
    return one, two, three


def _summary(about: Attestable, version: str) -> JsonObject:
    """SLSA Verification Summary v1.0."""
    policy, statement = about.statement.heads.policy, about.statement.digest
    at = datetime.fromtimestamp(min(about.at, _TIME_S_MAX), UTC)
    return {
        "verifier": {"id": about.origin, "version": {"presspass": version}},
        "timeVerified": at.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "resourceUri": about.purl,
        "policy": {"uri": f"{about.origin}/policies/{policy}", "digest": {"sha256": policy}},
        "inputAttestations": [
            {"uri": f"{about.origin}/statements/{statement}", "digest": {"sha256": statement}}
        ],
        "verificationResult": "PASSED",
        "verifiedLevels": ["PRESSPASS_APPROVED_BYTES"],
        "slsaVersion": "1.0",
    }


def _release(about: Attestable) -> JsonObject:
    """in-toto attestation framework, release predicate v0.1. The release's id is the digest of what was signed."""
    return {"purl": about.purl, "releaseId": about.statement.digest}


def _approval(about: Attestable) -> JsonObject:
    """Who signed, and with what. The statements of the roster chain stand in the proof; here they are by digest. So
    does the standing approval, where the release passed under one.
    """
    under: JsonObject = {}
    if about.standing is not None:
        digest, approved_by = about.standing
        under = {"standing": {"statement": digest, "approvedBy": list(approved_by)}}
    if about.plans:
        under["plans"] = [plan.to_bytes().decode() for plan in about.plans]
    return {
        **under,
        "statement": about.statement.to_bytes().decode(),
        "approvals": [approval.to_json() for approval in about.approvals],
        "keys": [signature.to_json() for signature in about.signatures],
        "rosterChain": list(about.chain),
        "syncedPasskeys": "accepted" if about.policy.synced_passkeys else "refused",
    }


# --- envelopes ----------------------------------------------------------------------------------------------------


def encode(statement: JsonObject) -> bytes:
    """The payload of an envelope: canonical JSON."""
    return canonical(statement)


def pre_authentication_encoding(payload_type: str, payload: bytes) -> bytes:
    """What a DSSE signature is over (DSSE protocol, "PAE")."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)


def check(envelopes: Sequence[object], about: Attestable, signer: SignerBody) -> dict[str, str]:
    """SHA-512 of each file of the release by its SHA-256, both hex, as attested.

    Refuses with `proof.invalid` unless these are the three envelopes of `signer`, and say what `statements` says.
    """
    try:
        payloads = [open_envelope(one, signer) for one in envelopes]
        first = json.loads(payloads[0])
        sha512 = {one["digest"]["sha256"]: one["digest"]["sha512"] for one in first["subject"]}
        version = first["predicate"]["verifier"]["version"]["presspass"]
        _check_words(sha512, version, about.release.files)
        expected = statements(about, sha512, version)
        same = len(payloads) == len(expected) and all(map(is_canonical_of, payloads, expected))
    except (KeyError, TypeError, ValueError, IndexError, RecursionError):
        raise _malformed() from None
    if not same:
        raise Refusal(Code.PROOF_INVALID, "The attestation is about something else.")
    return sha512


def _check_words(sha512: Mapping[str, str], version: str, files: Sequence[ReleaseFile]) -> None:
    """What the envelope alone says, in the one form that it may have."""
    if set(sha512) != {file.sha256 for file in files}:
        raise ValueError
    if not all(len(one) == 128 and set(one) <= set("0123456789abcdef") for one in sha512.values()):
        raise ValueError
    if not (0 < len(version) <= 64 and version.isprintable()):
        raise ValueError


def open_envelope(envelope: Any, signer: SignerBody) -> bytes:
    """The payload of a DSSE envelope that this signer alone has signed; else refuses with `proof.invalid`."""
    try:
        payload = _base64(envelope["payload"])
        signature = envelope["signatures"][0]["sig"]
        # DSSE leaves `keyid` and further members unsigned; one spelling only, so that no byte of a proof is free.
        if envelope == {
            "payload": envelope["payload"],
            "payloadType": PAYLOAD_TYPE,
            "signatures": [{"keyid": key_id(signer), "sig": signature}],
        }:
            message = pre_authentication_encoding(PAYLOAD_TYPE, payload)
            _verify(signer, _base64(signature), message)
            return payload
    except (KeyError, TypeError, ValueError, IndexError, InvalidSignature, binascii.Error):
        pass
    raise _malformed()


def _verify(signer: SignerBody, signature: bytes, message: bytes) -> None:
    key = _load(signer)
    if isinstance(key, Ed25519PublicKey):
        key.verify(signature, message)
    elif isinstance(key, ec.EllipticCurvePublicKey):
        key.verify(signature, message, ec.ECDSA(_CURVES[signer.scheme][1]))
    else:
        from cryptography.hazmat.primitives.asymmetric import padding

        algorithm = hashes.SHA256()
        salted = padding.PSS(padding.MGF1(algorithm), padding.PSS.AUTO)
        key.verify(signature, message, salted, algorithm)


@lru_cache(KEYS_LOADED_MAX)
def _load(signer: SignerBody) -> Ed25519PublicKey | ec.EllipticCurvePublicKey | rsa.RSAPublicKey:
    """The key, if it is one of its scheme; ValueError otherwise."""
    scheme = signer.scheme
    if scheme == ED25519:
        return Ed25519PublicKey.from_public_bytes(signer.raw)
    try:
        key = load(signer.public_key)
    except UnsupportedAlgorithm:
        raise ValueError("no key that is known here") from None
    if isinstance(key, ec.EllipticCurvePublicKey) and scheme in _CURVES:
        if isinstance(key.curve, _CURVES[scheme][0]):
            return key
    elif scheme == RSA_PSS:
        from cryptography.hazmat.primitives.asymmetric import rsa

        if isinstance(key, rsa.RSAPublicKey) and key.key_size >= _RSA_BITS_MIN:
            return key
    raise ValueError("no key of its scheme")


def check_signer(signer: SignerBody) -> None:
    """Refuses with `signer.unusable` a public key that nothing could be verified with, or in a second spelling."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    try:
        key = _load(signer)
    except ValueError:
        key = None
    spelt = key and key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    if spelt != signer.public_key:
        raise Refusal(
            Code.SIGNER_UNUSABLE,
            f"The public key is no {signer.scheme} key in SubjectPublicKeyInfo (DER).",
            "Let `presspass signer add` read it from the token or service itself.",
        )


@lru_cache(KEYS_LOADED_MAX)
def key_id(signer: SignerBody) -> str:
    """The key id that securesystemslib gives the key: SHA-256 of its canonical JSON description, hex."""
    described = {
        "keytype": _KEY_TYPES[signer.scheme],
        "keyval": {"public": public_text(signer)},
        "scheme": signer.scheme,
    }
    text = json.dumps(described, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.replace("\\n", "\n").encode()).hexdigest()


def public_text(signer: SignerBody) -> str:
    """The public key as securesystemslib describes it: hex of an Ed25519 key, PEM (RFC 7468) of any other."""
    if signer.scheme == ED25519:
        return signer.raw.hex()
    text = base64.b64encode(signer.public_key).decode()
    lines = [text[at : at + 64] for at in range(0, len(text), 64)]
    return "\n".join(["-----BEGIN PUBLIC KEY-----", *lines, "-----END PUBLIC KEY-----", ""])


def _malformed() -> Refusal:
    message = "The attestation is malformed or its signature does not verify."
    return Refusal(Code.PROOF_INVALID, message)


def _base64(text: str) -> bytes:
    data = base64.b64decode(text, validate=True)
    if base64.b64encode(data).decode() != text:
        raise ValueError
    return data
