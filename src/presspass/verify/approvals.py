"""Is this signature really this key's word about these bytes?

For a passkey (WebAuthn Level 3 section 7.2, in its order):
1. type is "webauthn.get"; the challenge is SHA-256 of the tag and *this* statement's bytes;
2. the origin is exactly the installation's, not embedded in another page;
3. the RP id is the origin's host, and its hash stands in the authenticator data;
4. the user was present *and verified*;
5. the signature over authenticator data ‖ SHA-256(client data) verifies under the enrolled key.
For an SSH key (PROTOCOL.sshsig, PROTOCOL.u2f): our namespace, the enrolled key itself, and for a security key the flags
"present" and "verified": OpenSSH's own verifier accepts a signature without the second.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from typing import TYPE_CHECKING, Final

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from presspass.core.approval import Approval, Signed
from presspass.core.digests import sha256_hex
from presspass.core.errors import Code, Refusal
from presspass.core.roster import Key
from presspass.core.statement import challenge, signed_message
from presspass.formats import webauthn
from presspass.verify.public_keys import load

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

    from presspass.formats.sshsig import SshPublicKey

_PLAIN_ORIGIN: Final = re.compile(r"(?:https://([a-z0-9.-]+)|http://(localhost))(?::[0-9]{1,5})?")
_SK_PRESENT, _SK_VERIFIED = 0x01, 0x04
_RSA_BITS_MIN = 2048


def verify_approval(
    statement: bytes, approval: Approval, key: Key, *, origin: str, rp_id: str
) -> Signed:
    """`approval` as a verified signature of `key` under the canonical `statement` bytes, or a refusal that says why
    not.

    Whether the key may sign at all is not decided here (`core.quorum`).
    """
    if approval.statement != sha256_hex(statement):
        raise Refusal(
            Code.APPROVAL_WRONG_STATEMENT,
            "The signature is for another statement.",
            "Open the page of this release and sign there.",
        )
    if approval.key != key.id:
        raise Refusal(Code.APPROVAL_KEY_UNKNOWN, "The signature names another key.")
    if approval.form == "webauthn" and key.kind in ("passkey", "software-passkey"):
        return _verify_webauthn(statement, approval, key, origin, rp_id)
    if approval.form == "sshsig" and key.kind in ("security-key-ssh", "ssh"):
        return _verify_sshsig(statement, approval, key)
    raise Refusal(
        Code.APPROVAL_INVALID, f"A {key.kind} key cannot make a {approval.form} signature."
    )


def check_origin(origin: str, rp_id: str) -> None:
    """An origin is scheme://host[:port] with the RP id as its host; https, except for localhost."""
    plain = _PLAIN_ORIGIN.fullmatch(origin)
    if plain is not None and rp_id in (plain[1], plain[2]):
        return
    from urllib.parse import urlsplit  # for all the others, of which few are origins

    parts = urlsplit(origin)
    local = parts.hostname == "localhost"
    if (
        origin != f"{parts.scheme}://{parts.netloc}"
        or parts.hostname != rp_id
        or parts.username is not None
        or not (parts.scheme == "https" or (local and parts.scheme == "http"))
    ):
        raise Refusal(
            Code.APPROVAL_WRONG_ORIGIN,
            f"{origin} is no origin for passkeys of {rp_id}.",
            "Use https://<host>, or http://localhost for a trial; an IP address does not work.",
        )


def _verify_webauthn(
    statement: bytes, approval: Approval, key: Key, origin: str, rp_id: str
) -> Signed:
    check_origin(origin, rp_id)
    client = webauthn.parse_client_data(approval.client_data)
    if client.type != "webauthn.get":
        raise Refusal(
            Code.APPROVAL_INVALID, f"The passkey answered a {client.type}, not an approval."
        )
    if not hmac.compare_digest(client.challenge, challenge(statement)):
        raise Refusal(
            Code.APPROVAL_WRONG_STATEMENT,
            "The passkey signed other bytes than this statement.",
            "Open the page of this release and sign there.",
        )
    if client.origin != origin or client.cross_origin:
        raise Refusal(
            Code.APPROVAL_WRONG_ORIGIN,
            f"The signature was made on {client.origin}, not on {origin}.",
        )
    data = webauthn.parse_authenticator_data(approval.authenticator_data)
    if data.rp_id_hash != hashlib.sha256(rp_id.encode()).digest():
        raise Refusal(
            Code.APPROVAL_WRONG_ORIGIN, f"The passkey answered for another site than {rp_id}."
        )
    if not (data.user_present and data.user_verified):
        raise Refusal(
            Code.APPROVAL_NOT_VERIFIED,
            "The passkey did not verify its user (PIN or biometric).",
            "Use a key that has one set.",
        )
    message = approval.authenticator_data + hashlib.sha256(approval.client_data).digest()
    if not signature_verifies(key.public_key, approval.signature, message):
        raise Refusal(Code.APPROVAL_INVALID, "The passkey's signature does not verify.")
    synced = key.backed_up or data.backed_up
    return Signed(approval.statement, key.id, not key.is_software, data.sign_count, synced)


def signature_verifies(public_key_der: bytes, signature: bytes, message: bytes) -> bool:
    """ES256, EdDSA or RS256 under a SubjectPublicKeyInfo; any other key verifies nothing."""
    try:
        _verify(load(public_key_der), signature, message)
    except (InvalidSignature, UnsupportedAlgorithm, ValueError):
        return False
    return True


def _verify(public_key: PublicKeyTypes, signature: bytes, message: bytes) -> None:
    if isinstance(public_key, ec.EllipticCurvePublicKey) and isinstance(
        public_key.curve, ec.SECP256R1
    ):
        public_key.verify(signature, message, ec.ECDSA(hashes.SHA256()))
    elif isinstance(public_key, Ed25519PublicKey):
        public_key.verify(signature, message)
    else:
        _verify_rsa(public_key, signature, message)


def _verify_rsa(public_key: PublicKeyTypes, signature: bytes, message: bytes) -> None:
    from cryptography.hazmat.primitives.asymmetric import padding, rsa

    if not isinstance(public_key, rsa.RSAPublicKey) or public_key.key_size < _RSA_BITS_MIN:
        raise InvalidSignature
    public_key.verify(signature, message, padding.PKCS1v15(), hashes.SHA256())


def _verify_sshsig(statement: bytes, approval: Approval, key: Key) -> Signed:
    from presspass.formats import sshsig  # where there are such keys

    found = sshsig.parse_signature(approval.signature)
    public = sshsig.parse_public_key(key.public_key)
    if found.public_key != key.public_key or found.kind != public.kind:
        raise Refusal(Code.APPROVAL_KEY_UNKNOWN, "The SSH signature was made by another key.")
    if public.is_security_key != (key.kind == "security-key-ssh"):
        raise Refusal(
            Code.APPROVAL_SOFTWARE_KEY,
            "The roster calls this SSH key another kind of key than it is.",
        )
    if found.namespace != sshsig.NAMESPACE or found.hash_name not in (b"sha256", b"sha512"):
        raise Refusal(Code.APPROVAL_INVALID, "The SSH signature was made for another purpose.")
    digest = hashlib.new(found.hash_name.decode(), signed_message(statement)).digest()
    message = sshsig.signed_data(found.namespace, found.hash_name, digest)
    if public.is_security_key:
        if found.flags & (_SK_PRESENT | _SK_VERIFIED) != _SK_PRESENT | _SK_VERIFIED:
            raise Refusal(
                Code.APPROVAL_NOT_VERIFIED,
                "The security key did not verify its user.",
                "Make the key with `-O verify-required` and enter its PIN.",
            )
        message = (
            hashlib.sha256(public.application).digest()
            + bytes([found.flags])
            + found.counter.to_bytes(4, "big")
            + hashlib.sha256(message).digest()
        )
    if not _ssh_signature_verifies(public, found.signature, message):
        raise Refusal(Code.APPROVAL_INVALID, "The SSH signature does not verify.")
    return Signed(approval.statement, key.id, public.is_security_key, found.counter)


def _ssh_signature_verifies(public: SshPublicKey, signature: bytes, message: bytes) -> bool:
    from presspass.formats import sshsig

    try:
        if public.kind in (sshsig.ED25519, sshsig.SK_ED25519):
            Ed25519PublicKey.from_public_bytes(public.material).verify(signature, message)
        else:
            point = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), public.material)
            encoded = encode_dss_signature(*sshsig.ecdsa_numbers(signature))
            point.verify(encoded, message, ec.ECDSA(hashes.SHA256()))
    except (InvalidSignature, ValueError):
        return False
    return True
