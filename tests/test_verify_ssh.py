"""SSH signatures: OpenSSH's own are taken, for our purpose and these bytes only; a security key must say that it
verified its user, which OpenSSH's own verifier does not ask for."""

from __future__ import annotations

import base64
import hashlib
import struct
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from core_values import law
from presspass.core.approval import Approval, Signed
from presspass.core.digests import sha256_hex
from presspass.core.errors import Code, Refusal
from presspass.core.roster import Key
from presspass.core.statement import signed_message
from presspass.formats import sshsig
from presspass.formats.sshsig import SK_ECDSA, SK_ED25519, wire_string
from presspass.verify.approvals import verify_approval

STATEMENT = b'{"any":"canonical bytes"}'
PRESENT, VERIFIED = 0x01, 0x04
APPLICATION = b"ssh:"


def verify(signature: bytes, key: Key) -> Signed:
    approval = Approval(sha256_hex(STATEMENT), key.id, "sshsig", signature)
    return verify_approval(
        STATEMENT, approval, key, origin="https://gate.example", rp_id="gate.example"
    )


def refused(signature: bytes, key: Key) -> Code:
    with pytest.raises(Refusal) as refusal:
        verify(signature, key)
    return refusal.value.code


@dataclass
class OpenSsh:
    """A key made by the real ssh-keygen, and signatures by it."""

    program: Path
    file: Path

    @property
    def key(self) -> Key:
        return Key("ssh", sshsig.parse_public_key_line(self.file.with_suffix(".pub").read_text()))

    def sign(self, message: bytes, namespace: str = "presspass-approval", **options: str) -> bytes:
        extra = [part for name, value in options.items() for part in ("-O", f"{name}={value}")]
        command = [self.program, "-Y", "sign", "-n", namespace, "-f", self.file, *extra]
        done = subprocess.run(command, input=message, capture_output=True, check=True, timeout=20)
        return sshsig.unarmor(done.stdout.decode())


@pytest.fixture(params=["ed25519", "ecdsa"])
def openssh(request: pytest.FixtureRequest, ssh_keygen: Path, tmp_path: Path) -> OpenSsh:
    file = tmp_path / "id"
    command = [ssh_keygen, "-q", "-t", request.param, "-N", "", "-C", "test", "-f", file]
    subprocess.run(command, check=True, timeout=20)
    return OpenSsh(ssh_keygen, file)


def test_a_signature_by_the_real_ssh_keygen_is_taken(openssh: OpenSsh) -> None:
    for hash_name in ("sha512", "sha256"):
        signed = verify(openssh.sign(signed_message(STATEMENT), hashalg=hash_name), openssh.key)
        assert (signed.key, signed.user_verified) == (openssh.key.id, False)


def test_a_signature_for_another_purpose_is_refused(openssh: OpenSsh) -> None:
    for namespace in ("git", "file", "presspass-approval2"):
        assert (
            refused(openssh.sign(signed_message(STATEMENT), namespace), openssh.key)
            is Code.APPROVAL_INVALID
        )


def test_a_signature_of_other_bytes_is_refused(openssh: OpenSsh) -> None:
    for message in (STATEMENT, signed_message(STATEMENT + b" "), b""):
        assert refused(openssh.sign(message), openssh.key) is Code.APPROVAL_INVALID


def test_a_signature_by_another_key_is_refused(openssh: OpenSsh, tmp_path: Path) -> None:
    other = OpenSsh(openssh.program, tmp_path / "other")
    subprocess.run(
        [openssh.program, "-q", "-t", "ed25519", "-N", "", "-f", other.file], check=True, timeout=20
    )
    assert refused(other.sign(signed_message(STATEMENT)), openssh.key) is Code.APPROVAL_KEY_UNKNOWN


def test_a_plain_key_that_the_roster_calls_a_security_key_is_refused(openssh: OpenSsh) -> None:
    lie = replace(openssh.key, kind="security-key-ssh")
    assert refused(openssh.sign(signed_message(STATEMENT)), lie) is Code.APPROVAL_SOFTWARE_KEY


def test_an_ssh_signature_with_any_byte_changed_or_cut_is_refused(openssh: OpenSsh) -> None:
    signature, key = openssh.sign(signed_message(STATEMENT)), openssh.key
    for position in range(len(signature)):
        changed = bytearray(signature)
        changed[position] ^= 0x01
        assert refused(bytes(changed), key).value.startswith("approval.")
    for length in range(len(signature)):
        assert refused(signature[:length], key).value.startswith("approval.")
    assert refused(signature + b"\0", key) is Code.APPROVAL_INVALID


# --- security keys, whose part is played by a software key that writes what PROTOCOL.u2f lays down --------------------


@dataclass
class SecurityKey:
    """`sk-ssh-ed25519` or `sk-ecdsa-sha2-nistp256`; flags and counter as a test wants them."""

    kind: bytes = SK_ED25519

    def __post_init__(self) -> None:
        self.eddsa = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
        self.ecdsa = ec.derive_private_key(12345, ec.SECP256R1())

    @property
    def blob(self) -> bytes:
        if self.kind == SK_ED25519:
            material = wire_string(self.eddsa.public_key().public_bytes_raw())
        else:
            point = self.ecdsa.public_key().public_bytes(
                Encoding.X962, PublicFormat.UncompressedPoint
            )
            material = wire_string(b"nistp256") + wire_string(point)
        return wire_string(self.kind) + material + wire_string(APPLICATION)

    @property
    def key(self) -> Key:
        return Key("security-key-ssh", self.blob)

    def sign(
        self,
        flags: int = PRESENT | VERIFIED,
        claimed: int | None = None,
        application: bytes = APPLICATION,
    ) -> bytes:
        inner = hashlib.sha512(signed_message(STATEMENT)).digest()
        data = sshsig.signed_data(b"presspass-approval", b"sha512", inner)
        counter = struct.pack(">I", 9)
        message = (
            hashlib.sha256(application).digest()
            + bytes([flags])
            + counter
            + hashlib.sha256(data).digest()
        )
        if self.kind == SK_ED25519:
            raw = self.eddsa.sign(message)
        else:
            pair = decode_dss_signature(self.ecdsa.sign(message, ec.ECDSA(hashes.SHA256())))
            raw = b"".join(wire_string(mpint(number)) for number in pair)
        said = bytes([flags if claimed is None else claimed])
        signature = wire_string(self.kind) + wire_string(raw) + said + counter
        head = (
            b"SSHSIG"
            + struct.pack(">I", 1)
            + wire_string(self.blob)
            + wire_string(b"presspass-approval")
        )
        return head + wire_string(b"") + wire_string(b"sha512") + wire_string(signature)


def mpint(number: int) -> bytes:
    """RFC 4251 section 5, positive numbers only."""
    return number.to_bytes(number.bit_length() // 8 + 1, "big")


@pytest.fixture(params=[SK_ED25519, SK_ECDSA], ids=["sk-ed25519", "sk-ecdsa"])
def security_key(request: pytest.FixtureRequest) -> SecurityKey:
    return SecurityKey(request.param)


def test_a_security_key_that_verified_its_user_is_taken(security_key: SecurityKey) -> None:
    signed = verify(security_key.sign(), security_key.key)
    assert (signed.user_verified, signed.sign_count) == (True, 9)


@pytest.mark.parametrize("flags", [0, PRESENT, VERIFIED, 0xFA])
def test_a_security_key_that_did_not_verify_its_user_is_refused(
    security_key: SecurityKey, flags: int
) -> None:
    assert refused(security_key.sign(flags), security_key.key) is Code.APPROVAL_NOT_VERIFIED


def test_the_flags_are_signed(security_key: SecurityKey) -> None:
    lie = security_key.sign(PRESENT, claimed=PRESENT | VERIFIED)
    assert refused(lie, security_key.key) is Code.APPROVAL_INVALID


def test_a_security_keys_signature_for_another_application_is_refused(
    security_key: SecurityKey,
) -> None:
    assert (
        refused(security_key.sign(application=b"ssh:other"), security_key.key)
        is Code.APPROVAL_INVALID
    )


def test_a_security_key_that_the_roster_calls_a_plain_key_is_refused(
    security_key: SecurityKey,
) -> None:
    assert (
        refused(security_key.sign(), replace(security_key.key, kind="ssh"))
        is Code.APPROVAL_SOFTWARE_KEY
    )


def test_openssh_takes_the_synthetic_signature_and_the_one_without_verification(
    ssh_keygen: Path, tmp_path: Path
) -> None:
    """The peer agrees on what is right; that it also takes an unverified touch is why the flags are checked here."""
    key = SecurityKey()
    line = f"{SK_ED25519.decode()} {base64.b64encode(key.blob).decode()}"
    allowed = tmp_path / "allowed"
    allowed.write_text(f'me namespaces="presspass-approval" {line}\n')
    for flags in (PRESENT | VERIFIED, PRESENT):
        body = base64.encodebytes(key.sign(flags)).decode()
        armored = tmp_path / "signature"
        armored.write_text(f"-----BEGIN SSH SIGNATURE-----\n{body}-----END SSH SIGNATURE-----\n")
        command = [
            ssh_keygen,
            "-Y",
            "verify",
            "-f",
            allowed,
            "-I",
            "me",
            "-n",
            "presspass-approval",
            "-s",
            armored,
        ]
        done = subprocess.run(
            command, input=signed_message(STATEMENT), capture_output=True, timeout=20, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr


@law
@given(st.binary(max_size=200), st.booleans())
def test_any_bytes_are_no_signature_and_no_key(data: bytes, magic: bool) -> None:
    data = b"SSHSIG\0\0\0\1" + data if magic else data
    for read in (sshsig.parse_signature, sshsig.parse_public_key):
        with pytest.raises(Refusal):
            read(data)


@law
@given(st.text(max_size=100))
def test_any_text_is_no_armored_signature_and_no_key_line(text: str) -> None:
    for read in (sshsig.unarmor, sshsig.parse_public_key_line):
        with pytest.raises(Refusal):
            read(text)
