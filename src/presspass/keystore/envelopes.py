"""Secrets at rest: AES-256-GCM envelopes (NIST SP 800-38D), each bound to what it may be used for.

A fresh data key encrypts the secret; the key-encryption key of the process encrypts the data key. Both carry the same
additional data, so an envelope moved to another statement does not open.
"""

from __future__ import annotations

import json
import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from presspass.core.digests import is_sha256, sha256_hex
from presspass.core.errors import Code, Fault, Refusal
from presspass.core.roster import b64u, unb64u

_FORMAT: Final = "presspass/envelope/v1"
_NONCE_BYTES, _KEY_BYTES = 12, 32
_SECRET_BYTES_MAX = 64 * 1024


@dataclass(frozen=True, slots=True)
class KeyEncryptionKey:
    """32 random bytes in a file that only its owner can read. `id`: SHA-256 of the key, first 16 hex digits."""

    material: bytes

    @property
    def id(self) -> str:
        return sha256_hex(b"kek\n" + self.material)[:16]

    @classmethod
    def create(cls, path: Path) -> KeyEncryptionKey:
        """Makes the key file (mode 0600); FileExistsError when there is one already."""
        material = secrets.token_bytes(_KEY_BYTES)
        write_private(path, material, exclusive=True)
        return cls(material)

    @classmethod
    def load(cls, path: Path) -> KeyEncryptionKey:
        """Reads the key file; Fault when it is missing, too open, or not a key."""
        return cls(read_private(path, _KEY_BYTES))


def write_private(path: Path, data: bytes, *, exclusive: bool = False) -> None:
    """Writes `data` durably with mode 0600: temporary file, fsync, then link or rename, fsync of the folder."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if exclusive:
            os.link(temporary, path)
        else:
            os.replace(temporary, path)
        folder = os.open(path.parent, os.O_RDONLY)
        os.fsync(folder)
        os.close(folder)
    finally:
        temporary.unlink(missing_ok=True)


def read_private(path: Path, size: int) -> bytes:
    """The bytes of a private file; Fault("keystore.unusable") when others may read it or its size is wrong."""
    try:
        mode, data = path.stat().st_mode, path.read_bytes()
    except OSError as error:
        raise Fault(
            "keystore.unusable", f"{path.name} cannot be read: {error.strerror}", retryable=False
        ) from None
    if mode & 0o077:
        raise Fault(
            "keystore.unusable", f"{path.name} is open to others; chmod 600 it.", retryable=False
        )
    if len(data) != size:
        raise Fault(
            "keystore.unusable", f"{path.name} has {len(data)} bytes, not {size}.", retryable=False
        )
    return data


def seal(kek: KeyEncryptionKey, secret: bytes, bound_to: bytes) -> bytes:
    """The envelope of `secret`, usable only together with the same `bound_to` bytes."""
    if not 0 < len(secret) <= _SECRET_BYTES_MAX:
        raise Refusal(Code.REQUEST_TOO_LARGE, f"A secret has 1 to {_SECRET_BYTES_MAX} bytes.")
    data_key = AESGCM.generate_key(bit_length=256)
    key_nonce, nonce = secrets.token_bytes(_NONCE_BYTES), secrets.token_bytes(_NONCE_BYTES)
    envelope = {
        "ciphertext": b64u(nonce + AESGCM(data_key).encrypt(nonce, secret, bound_to)),
        "data_key": b64u(key_nonce + AESGCM(kek.material).encrypt(key_nonce, data_key, bound_to)),
        "format": _FORMAT,
        "kek": kek.id,
    }
    return json.dumps(envelope, sort_keys=True).encode()


def open_envelope(kek: KeyEncryptionKey, envelope: bytes, bound_to: bytes) -> bytes:
    """The secret; Fault("keystore.does-not-open") for another key, another binding or changed bytes."""
    try:
        value = json.loads(envelope)
        if value["format"] != _FORMAT or value["kek"] != kek.id:
            raise ValueError("another format or key")
        data_key = _decrypt(kek.material, unb64u(value["data_key"]), bound_to)
        return _decrypt(data_key, unb64u(value["ciphertext"]), bound_to)
    except (ValueError, KeyError, TypeError, InvalidTag, Refusal):
        raise Fault(
            "keystore.does-not-open",
            "The sealed credential does not open for this statement.",
            retryable=True,
        ) from None


def _decrypt(key: bytes, blob: bytes, bound_to: bytes) -> bytes:
    return AESGCM(key).decrypt(blob[:_NONCE_BYTES], blob[_NONCE_BYTES:], bound_to)


@dataclass(frozen=True, slots=True)
class Vault:
    """The folder of envelopes, one file per approved (or still asked-for) upstream statement."""

    folder: Path
    kek: KeyEncryptionKey

    def put(self, statement: str, secret: bytes) -> None:
        """Seals `secret` to the upstream statement with this digest. There is no way to read it back out but `use`."""
        write_private(self._path(statement), seal(self.kek, secret, statement.encode()))

    def use(self, statement: str) -> bytes:
        """The credential of this upstream, for the press's own use; Fault when there is none (yet)."""
        try:
            envelope = self._path(statement).read_bytes()
        except OSError:
            raise Fault(
                "keystore.missing", "No credential is kept for this upstream.", retryable=True
            ) from None
        return open_envelope(self.kek, envelope, statement.encode())

    def _path(self, statement: str) -> Path:
        if not is_sha256(statement):
            raise Refusal(Code.STATEMENT_MALFORMED, "A credential belongs to a statement's digest.")
        return self.folder / f"{statement}.json"
