"""SSH signatures (OpenSSH PROTOCOL.sshsig) and the public key blobs inside them, read strictly."""

from __future__ import annotations

import base64
import binascii
import struct
from dataclasses import dataclass
from typing import Final

from presspass.core.errors import Code, Refusal

NAMESPACE: Final = b"presspass-approval"
_MAGIC = b"SSHSIG"
_BEGIN, _END = "-----BEGIN SSH SIGNATURE-----", "-----END SSH SIGNATURE-----"
_FIELD_BYTES_MAX = 16 * 1024

ED25519 = b"ssh-ed25519"
ECDSA = b"ecdsa-sha2-nistp256"
SK_ED25519 = b"sk-ssh-ed25519@openssh.com"
SK_ECDSA = b"sk-ecdsa-sha2-nistp256@openssh.com"


@dataclass(frozen=True, slots=True)
class SshPublicKey:
    """A public key blob. `material`: 32 bytes (Ed25519) or the uncompressed P-256 point.

    `application`: of security keys (`sk-`), else empty.
    """

    kind: bytes
    material: bytes
    application: bytes

    @property
    def is_security_key(self) -> bool:
        return self.kind in (SK_ED25519, SK_ECDSA)


@dataclass(frozen=True, slots=True)
class SshSignature:
    """A parsed signature. `flags` and `counter` are those of a security key, else 0 (PROTOCOL.u2f)."""

    public_key: bytes
    namespace: bytes
    hash_name: bytes
    kind: bytes
    signature: bytes
    flags: int
    counter: int


class _Wire:
    """RFC 4251 section 5 encodings, front to back."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def take(self, count: int) -> bytes:
        if count > len(self._data):
            raise _invalid("it ends too early")
        found, self._data = self._data[:count], self._data[count:]
        return found

    def uint32(self) -> int:
        return int.from_bytes(self.take(4), "big")

    def string(self) -> bytes:
        size = self.uint32()
        if size > _FIELD_BYTES_MAX:
            raise _invalid("a field is too long")
        return self.take(size)

    def done(self) -> None:
        if self._data:
            raise _invalid("bytes are left over")


def wire_string(data: bytes) -> bytes:
    """RFC 4251 section 5 "string": uint32 length and bytes."""
    return struct.pack(">I", len(data)) + data


def parse_public_key(blob: bytes) -> SshPublicKey:
    """Reads a public key blob of one of the four kinds that may sign here; refuses others with `approval.invalid`."""
    wire = _Wire(blob)
    kind = wire.string()
    if kind in (ECDSA, SK_ECDSA) and wire.string() != b"nistp256":
        raise _invalid("the curve is not nistp256")
    if kind not in (ED25519, ECDSA, SK_ED25519, SK_ECDSA):
        raise _invalid(f"keys of type {kind[:40].decode('ascii', 'replace')} cannot approve")
    material = wire.string()
    application = wire.string() if kind in (SK_ED25519, SK_ECDSA) else b""
    wire.done()
    expected = 32 if kind in (ED25519, SK_ED25519) else 65
    if len(material) != expected:
        raise _invalid("the key has the wrong length")
    return SshPublicKey(kind, material, application)


def parse_public_key_line(line: str) -> bytes:
    """The blob in an `id_ed25519.pub` line ("type base64 comment")."""
    parts = line.split()
    if len(parts) < 2:
        raise _invalid("the public key line has no key")
    blob = _base64(parts[1])
    if parse_public_key(blob).kind != parts[0].encode("utf-8", "replace"):
        raise _invalid("the public key line names another type than its key has")
    return blob


def unarmor(text: str) -> bytes:
    """The binary signature in `ssh-keygen -Y sign` output."""
    lines = [line.strip() for line in text.strip().splitlines()]
    if len(lines) < 3 or lines[0] != _BEGIN or lines[-1] != _END:
        raise _invalid("it is not an armored SSH signature")
    return _base64("".join(lines[1:-1]))


def parse_signature(data: bytes) -> SshSignature:
    """Reads a binary SSHSIG (PROTOCOL.sshsig section 3); refuses anything irregular with `approval.invalid`."""
    wire = _Wire(data)
    if wire.take(len(_MAGIC)) != _MAGIC or wire.uint32() != 1:
        raise _invalid("it is not SSHSIG version 1")
    public_key, namespace, _reserved, hash_name = (wire.string() for _ in range(4))
    inner = _Wire(wire.string())
    wire.done()
    kind, signature = inner.string(), inner.string()
    flags, counter = (
        (inner.take(1)[0], inner.uint32()) if kind in (SK_ED25519, SK_ECDSA) else (0, 0)
    )
    inner.done()
    return SshSignature(public_key, namespace, hash_name, kind, signature, flags, counter)


def ecdsa_numbers(signature: bytes) -> tuple[int, int]:
    """(r, s) of an ECDSA signature blob (RFC 5656 section 3.1.2)."""
    wire = _Wire(signature)
    r, s = (int.from_bytes(wire.string(), "big") for _ in range(2))
    wire.done()
    return r, s


def signed_data(namespace: bytes, hash_name: bytes, message_hash: bytes) -> bytes:
    """What the signature is over (PROTOCOL.sshsig section 4)."""
    return (
        _MAGIC
        + wire_string(namespace)
        + wire_string(b"")
        + wire_string(hash_name)
        + wire_string(message_hash)
    )


def _base64(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise _invalid("its base64 is broken") from None


def _invalid(why: str) -> Refusal:
    return Refusal(Code.APPROVAL_INVALID, f"The SSH signature or key is unusable: {why}.")
