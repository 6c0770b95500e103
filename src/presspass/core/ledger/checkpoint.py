"""Checkpoints as C2SP tlog-checkpoint in a C2SP signed-note with Ed25519 (signature type 0x01)."""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Callable
from dataclasses import dataclass

from presspass.core.errors import Code, Refusal

ED25519 = b"\x01"
_DASH = "\u2014"  # em dash, as the specification has it


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """`origin`: the log's unique name; `size`: number of entries; `root`: 32 bytes."""

    origin: str
    size: int
    root: bytes

    def body(self) -> bytes:
        """The note text: three lines (tlog-checkpoint, "Format")."""
        return f"{self.origin}\n{self.size}\n{base64.b64encode(self.root).decode()}\n".encode()


def key_id(name: str, public_key: bytes) -> bytes:
    """First four bytes of SHA-256(name ‖ LF ‖ type ‖ key) (signed-note, "Signatures")."""
    return hashlib.sha256(name.encode() + b"\n" + ED25519 + public_key).digest()[:4]


def sign(checkpoint: Checkpoint, public_key: bytes, signer: Callable[[bytes], bytes]) -> bytes:
    """The signed note. `signer` makes a raw Ed25519 signature (64 bytes) of the bytes it is given."""
    body = checkpoint.body()
    blob = key_id(checkpoint.origin, public_key) + signer(body)
    line = f"{_DASH} {checkpoint.origin} {base64.b64encode(blob).decode()}\n"
    return body + b"\n" + line.encode()


def open_note(note: bytes, public_key: bytes, verify: Callable[[bytes, bytes], bool]) -> Checkpoint:
    """The checkpoint in a signed note whose log signature verifies; refuses with `proof.invalid` otherwise.

    `verify(signature, message)` checks a raw Ed25519 signature. Other signature lines (witnesses) are passed over.
    """
    checkpoint, lines = _parse(note)
    wanted = key_id(checkpoint.origin, public_key)
    for line in lines:
        dash, _, rest = line.partition(" ")
        name, _, encoded = rest.partition(" ")
        blob = _b64(encoded)
        if (
            dash == _DASH
            and name == checkpoint.origin
            and blob[:4] == wanted
            and verify(blob[4:], checkpoint.body())
        ):
            return checkpoint
    raise Refusal(Code.PROOF_INVALID, "The checkpoint carries no valid signature of this log.")


def _parse(note: bytes) -> tuple[Checkpoint, list[str]]:
    try:
        text, _, signatures = note.decode("utf-8").partition("\n\n")
        origin, size, root = text.split("\n")
    except ValueError:
        raise Refusal(
            Code.PROOF_INVALID, "The checkpoint is not a signed note of three lines."
        ) from None
    root_bytes = _b64(root)
    canonical_size = (
        size.isascii() and size.isdigit() and str(int(size)) == size if len(size) < 20 else False
    )
    if not origin or not canonical_size or len(root_bytes) != 32 or not signatures.endswith("\n"):
        raise Refusal(Code.PROOF_INVALID, "The checkpoint's origin, size or root is malformed.")
    return Checkpoint(origin, int(size), root_bytes), signatures[:-1].split("\n")


def _b64(text: str) -> bytes:
    """Strict: a second spelling of the same bytes (unused bits set) would be a note that nobody signed."""
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return b""
    return data if base64.b64encode(data).decode() == text else b""
