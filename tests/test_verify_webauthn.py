"""A passkey's signature counts when everything about it is right: each test makes exactly one thing wrong."""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import cbor2
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, padding, rsa, x25519
from cryptography.hazmat.primitives.asymmetric.utils import (
    decode_dss_signature,
    encode_dss_signature,
)
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st
from webauthn import verify_authentication_response
from webauthn.helpers.exceptions import WebAuthnException

from core_values import law
from presspass.core.approval import Approval, Signed
from presspass.core.digests import sha256_hex
from presspass.core.errors import Code, Refusal
from presspass.core.roster import Key, b64u
from presspass.core.statement import challenge
from presspass.drill.world.keys import SoftwarePasskey
from presspass.formats.webauthn import parse_authenticator_data, parse_client_data
from presspass.verify.approvals import check_origin, signature_verifies, verify_approval

ORIGIN, RP_ID = "https://gate.example", "gate.example"
STATEMENT = b'{"any":"canonical bytes"}'
PASSKEY = SoftwarePasskey.generate(5)
UP, UV, BE, BS, AT, ED = 0x01, 0x04, 0x08, 0x10, 0x40, 0x80


@dataclass(frozen=True)
class Assertion:
    """What a browser and an authenticator put together; the defaults are right."""

    client: tuple[tuple[str, Any], ...] = (
        ("type", "webauthn.get"),
        ("challenge", b64u(challenge(STATEMENT))),
        ("origin", ORIGIN),
        ("crossOrigin", False),
    )
    rp_id: str = RP_ID
    flags: int = UP | UV
    tail: bytes = b""
    passkey: SoftwarePasskey = field(default_factory=lambda: PASSKEY)

    def but(self, **members: Any) -> Assertion:
        """With these client data members instead (None leaves one out)."""
        value = {**dict(self.client), **members}
        return replace(
            self, client=tuple((name, one) for name, one in value.items() if one is not None)
        )

    @property
    def client_data(self) -> bytes:
        return json.dumps(dict(self.client), separators=(",", ":")).encode()

    @property
    def authenticator_data(self) -> bytes:
        return (
            hashlib.sha256(self.rp_id.encode()).digest()
            + struct.pack(">BI", self.flags, 7)
            + self.tail
        )

    def approval(self, client_data: bytes | None = None) -> Approval:
        client = self.client_data if client_data is None else client_data
        message = self.authenticator_data + hashlib.sha256(client).digest()
        signature = self.passkey.private_key.sign(message, ec.ECDSA(hashes.SHA256()))
        return Approval(
            sha256_hex(STATEMENT),
            PASSKEY.key.id,
            "webauthn",
            signature,
            self.authenticator_data,
            client,
        )


RIGHT = Assertion()


def verify(
    approval: Approval, key: Key = PASSKEY.key, origin: str = ORIGIN, rp_id: str = RP_ID
) -> Signed:
    return verify_approval(STATEMENT, approval, key, origin=origin, rp_id=rp_id)


def refused(approval: Approval, key: Key = PASSKEY.key, **where: str) -> Code:
    with pytest.raises(Refusal) as refusal:
        verify(approval, key, **where)
    return refusal.value.code


def test_a_right_assertion_is_taken() -> None:
    signed = verify(RIGHT.approval())
    assert (signed.key, signed.sign_count, signed.user_verified) == (PASSKEY.key.id, 7, False)
    hardware = replace(PASSKEY.key, kind="passkey")
    assert verify(RIGHT.approval(), hardware).user_verified


WRONG: dict[str, tuple[Assertion, Code]] = {
    "registration": (RIGHT.but(type="webauthn.create"), Code.APPROVAL_INVALID),
    "payment": (RIGHT.but(type="payment.get"), Code.APPROVAL_INVALID),
    "no-type": (RIGHT.but(type=None), Code.APPROVAL_INVALID),
    "other-challenge": (RIGHT.but(challenge=b64u(challenge(b"{}"))), Code.APPROVAL_WRONG_STATEMENT),
    "untagged-challenge": (
        RIGHT.but(challenge=b64u(hashlib.sha256(STATEMENT).digest())),
        Code.APPROVAL_WRONG_STATEMENT,
    ),
    "short-challenge": (
        RIGHT.but(challenge=b64u(challenge(STATEMENT)[:31])),
        Code.APPROVAL_WRONG_STATEMENT,
    ),
    "empty-challenge": (RIGHT.but(challenge=""), Code.APPROVAL_WRONG_STATEMENT),
    "padded-challenge": (
        RIGHT.but(challenge=b64u(challenge(STATEMENT)) + "="),
        Code.APPROVAL_INVALID,
    ),
    "other-origin": (
        RIGHT.but(origin="https://gate.example.evil.example"),
        Code.APPROVAL_WRONG_ORIGIN,
    ),
    "subdomain": (RIGHT.but(origin="https://x.gate.example"), Code.APPROVAL_WRONG_ORIGIN),
    "parent-domain": (RIGHT.but(origin="https://example"), Code.APPROVAL_WRONG_ORIGIN),
    "other-port": (RIGHT.but(origin="https://gate.example:8443"), Code.APPROVAL_WRONG_ORIGIN),
    "http": (RIGHT.but(origin="http://gate.example"), Code.APPROVAL_WRONG_ORIGIN),
    "slash": (RIGHT.but(origin="https://gate.example/"), Code.APPROVAL_WRONG_ORIGIN),
    "case": (RIGHT.but(origin="https://Gate.example"), Code.APPROVAL_WRONG_ORIGIN),
    "null-origin": (RIGHT.but(origin="null"), Code.APPROVAL_WRONG_ORIGIN),
    "no-origin": (RIGHT.but(origin=None), Code.APPROVAL_INVALID),
    "cross-origin": (RIGHT.but(crossOrigin=True), Code.APPROVAL_WRONG_ORIGIN),
    "cross-origin-text": (RIGHT.but(crossOrigin="false"), Code.APPROVAL_INVALID),
    "cross-origin-zero": (RIGHT.but(crossOrigin=0), Code.APPROVAL_INVALID),
    "top-origin": (RIGHT.but(topOrigin=ORIGIN), Code.APPROVAL_WRONG_ORIGIN),
    "other-rp": (replace(RIGHT, rp_id="example"), Code.APPROVAL_WRONG_ORIGIN),
    "user-absent": (replace(RIGHT, flags=UV), Code.APPROVAL_NOT_VERIFIED),
    "user-not-verified": (replace(RIGHT, flags=UP), Code.APPROVAL_NOT_VERIFIED),
    "backed-up-not-eligible": (replace(RIGHT, flags=UP | UV | BS), Code.APPROVAL_INVALID),
    "attested-data": (replace(RIGHT, flags=UP | UV | AT), Code.APPROVAL_INVALID),
    "trailing-bytes": (replace(RIGHT, tail=b"\x00"), Code.APPROVAL_INVALID),
    "extensions-announced-not-there": (replace(RIGHT, flags=UP | UV | ED), Code.APPROVAL_INVALID),
    "other-key": (replace(RIGHT, passkey=SoftwarePasskey.generate(6)), Code.APPROVAL_INVALID),
}


@pytest.mark.parametrize("name", WRONG)
def test_one_wrong_thing_is_enough_to_refuse(name: str) -> None:
    assertion, code = WRONG[name]
    assert refused(assertion.approval()) is code


def test_what_may_differ_may_differ() -> None:
    for fine in (
        RIGHT.but(crossOrigin=None),
        RIGHT.but(other_keys_can_be_added_here="do not compare clientDataJSON"),
        replace(RIGHT, flags=UP | UV | BE | BS),
        replace(RIGHT, flags=UP | UV | ED, tail=cbor2.dumps({"credProtect": 2})),
    ):
        assert verify(fine.approval())


def test_client_data_with_a_repeated_member_is_refused() -> None:
    twice = RIGHT.client_data.replace(b'{"type"', b'{"origin":"https://evil.example","type"', 1)
    assert refused(RIGHT.approval(twice)) is Code.APPROVAL_INVALID


@pytest.mark.parametrize(
    "data", [b"", b"null", b"[]", b"\xff", b"[" * 100_000, b'{"type":1}', b"\xef\xbb\xbf{}"]
)
def test_client_data_that_is_none_is_refused(data: bytes) -> None:
    assert refused(RIGHT.approval(data)) is Code.APPROVAL_INVALID


def test_a_signature_with_any_bit_changed_is_refused() -> None:
    approval = RIGHT.approval()
    for position in range(len(approval.signature)):
        for bit in range(8):
            changed = bytearray(approval.signature)
            changed[position] ^= 1 << bit
            assert refused(replace(approval, signature=bytes(changed))) is Code.APPROVAL_INVALID
    for length in (0, 1, len(approval.signature) - 1):
        assert (
            refused(replace(approval, signature=approval.signature[:length]))
            is Code.APPROVAL_INVALID
        )
    assert refused(replace(approval, signature=approval.signature + b"\0")) is Code.APPROVAL_INVALID


def test_the_other_half_of_an_ecdsa_pair_is_the_same_signature_of_the_same_bytes() -> None:
    """(r, n − s) verifies as (r, s) does. It says nothing else, and one key still counts once (test_core_quorum)."""
    approval = RIGHT.approval()
    r, s = decode_dss_signature(approval.signature)
    order = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
    twin = replace(approval, signature=encode_dss_signature(r, order - s))
    assert verify(twin).key == verify(approval).key


def test_an_approval_of_another_statement_or_by_another_key_is_refused() -> None:
    approval = RIGHT.approval()
    assert refused(replace(approval, statement="ab" * 32)) is Code.APPROVAL_WRONG_STATEMENT
    assert refused(replace(approval, key="ab" * 32)) is Code.APPROVAL_KEY_UNKNOWN


@pytest.mark.parametrize("form", ["sshsig", "recovery"])
def test_a_passkey_signs_in_its_own_form_only(form: str) -> None:
    assert refused(replace(RIGHT.approval(), form=form)) is Code.APPROVAL_INVALID


@pytest.mark.parametrize(
    ("origin", "rp_id"),
    [
        ("https://gate.example", "example"),
        ("http://gate.example", "gate.example"),
        ("https://gate.example/", "gate.example"),
        ("https://gate.example/path", "gate.example"),
        ("https://user@gate.example", "gate.example"),
        ("ftp://localhost", "localhost"),
        ("http://127.0.0.1:8460", "127.0.0.1"),
        ("http://localhost.evil.example", "localhost"),
        ("", ""),
        ("null", ""),
    ],
)
def test_an_origin_is_https_and_its_host_the_rp_id(origin: str, rp_id: str) -> None:
    with pytest.raises(Refusal) as refusal:
        check_origin(origin, rp_id)
    assert refusal.value.code is Code.APPROVAL_WRONG_ORIGIN


def test_localhost_may_speak_http() -> None:
    check_origin("http://localhost:8460", "localhost")
    check_origin("https://gate.example:8443", "gate.example")


def der(key: Any) -> bytes:
    encoded: bytes = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return encoded


def test_es256_eddsa_and_rs256_verify_and_other_keys_verify_nothing() -> None:
    message = b"message"
    p256, p384 = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP384R1())
    eddsa, big = ed25519.Ed25519PrivateKey.generate(), rsa.generate_private_key(65537, 2048)
    small = rsa.generate_private_key(65537, 1024)
    es256, rs256 = ec.ECDSA(hashes.SHA256()), (padding.PKCS1v15(), hashes.SHA256())
    assert signature_verifies(der(p256), p256.sign(message, es256), message)
    assert signature_verifies(der(eddsa), eddsa.sign(message), message)
    assert signature_verifies(der(big), big.sign(message, *rs256), message)
    assert not signature_verifies(der(small), small.sign(message, *rs256), message)
    assert not signature_verifies(der(p384), p384.sign(message, es256), message)
    assert not signature_verifies(der(p256), p256.sign(message, ec.ECDSA(hashes.SHA384())), message)
    assert not signature_verifies(
        der(big), big.sign(message, padding.PKCS1v15(), hashes.SHA1()), message
    )
    assert not signature_verifies(der(ed448.Ed448PrivateKey.generate()), b"x" * 114, message)
    assert not signature_verifies(der(x25519.X25519PrivateKey.generate()), b"x" * 64, message)


#: A SubjectPublicKeyInfo whose algorithm nobody here knows (OID 1.2.3.4).
UNKNOWN_ALGORITHM = bytes.fromhex("300b300506032a03040302000100")[:13]


@law
@given(st.binary(max_size=120) | st.just(UNKNOWN_ALGORITHM), st.binary(max_size=80))
def test_an_unreadable_key_verifies_nothing(key: bytes, signature: bytes) -> None:
    assert not signature_verifies(key, signature, b"message")


@pytest.mark.parametrize("oid", ["06032a0304", "06052b81040023", "06092b2403030208010107"])
def test_a_key_of_an_unknown_kind_or_curve_verifies_nothing(oid: str) -> None:
    ec_oid = "06072a8648ce3d0201"
    algorithm = bytes.fromhex(ec_oid + oid)
    point = b"\x03\x42\x00\x04" + bytes(range(64))
    body = b"\x30" + bytes([len(algorithm)]) + algorithm + point
    for info in (
        b"\x30" + bytes([len(body)]) + body,
        bytes.fromhex("300c300506032a0304030300aabb"),
    ):
        assert not signature_verifies(info, b"x" * 70, b"message")


@law
@given(st.binary(max_size=80))
def test_any_authenticator_data_is_read_or_refused(data: bytes) -> None:
    try:
        found = parse_authenticator_data(data)
    except Refusal as refusal:
        assert refusal.code is Code.APPROVAL_INVALID
    else:
        assert found.rp_id_hash == data[:32]


@law
@given(st.binary(max_size=80))
def test_any_client_data_is_read_or_refused(data: bytes) -> None:
    with pytest.raises(Refusal) as refusal:
        parse_client_data(data)
    assert refusal.value.code is Code.APPROVAL_INVALID


def peer_accepts(assertion: Assertion) -> bool:
    """What the `webauthn` package says to the same bytes."""
    approval = assertion.approval()
    numbers = PASSKEY.private_key.public_key().public_numbers()
    cose = {
        1: 2,
        3: -7,
        -1: 1,
        -2: numbers.x.to_bytes(32, "big"),
        -3: numbers.y.to_bytes(32, "big"),
    }
    credential = {
        "id": b64u(PASSKEY.credential_id),
        "rawId": b64u(PASSKEY.credential_id),
        "type": "public-key",
        "response": {
            "authenticatorData": b64u(approval.authenticator_data),
            "clientDataJSON": b64u(approval.client_data),
            "signature": b64u(approval.signature),
        },
    }
    try:
        verify_authentication_response(
            credential=credential,
            expected_challenge=challenge(STATEMENT),
            expected_rp_id=RP_ID,
            expected_origin=ORIGIN,
            credential_public_key=cbor2.dumps(cose),
            credential_current_sign_count=0,
            require_user_verification=True,
        )
    except (WebAuthnException, ValueError, KeyError, TypeError):
        return False
    return True


#: Where this verifier is stricter than the peer, on purpose: it also refuses what the peer passes over.
STRICTER = {
    "cross-origin",
    "cross-origin-text",
    "cross-origin-zero",
    "top-origin",
    "padded-challenge",
}
STRICTER |= {
    "backed-up-not-eligible",
    "attested-data",
    "trailing-bytes",
    "extensions-announced-not-there",
}


def test_another_implementation_takes_what_is_right() -> None:
    for right in (RIGHT, replace(RIGHT, flags=UP | UV | BE | BS), RIGHT.but(crossOrigin=None)):
        assert peer_accepts(right)
        assert verify(right.approval())


@pytest.mark.parametrize("name", sorted(set(WRONG) - STRICTER))
def test_another_implementation_refuses_the_same(name: str) -> None:
    assert not peer_accepts(WRONG[name][0])


def _flip(data: bytes, position: int) -> bytes:
    changed = bytearray(data)
    changed[position % len(data)] ^= 1
    return bytes(changed)


CHANGES: list[Callable[[Approval, int], Approval]] = [
    lambda approval, at: replace(approval, client_data=_flip(approval.client_data, at)),
    lambda approval, at: replace(
        approval, authenticator_data=_flip(approval.authenticator_data, at)
    ),
    lambda approval, at: replace(approval, signature=_flip(approval.signature, at)),
]


@law
@given(st.sampled_from(CHANGES), st.integers(0, 1000))
def test_any_byte_changed_anywhere_is_refused(
    change: Callable[[Approval, int], Approval], at: int
) -> None:
    assert refused(change(RIGHT.approval(), at)).value.startswith("approval.")
