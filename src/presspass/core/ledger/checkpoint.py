"""Checkpoints (C2SP tlog-checkpoint): origin, size and root of a log, as the text of a signed note."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from presspass.core.errors import Code, Refusal
from presspass.core.ledger import note
from presspass.core.ledger.note import Check, Note, VerifierKey

_SIZE_DIGITS_MAX: Final = 19  # below 2^63
_ROOT_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """`origin`: the log's unique name; `size`: number of entries; `root`: 32 bytes; `extension`: further lines."""

    origin: str
    size: int
    root: bytes
    extension: tuple[str, ...] = ()

    def to_text(self) -> str:
        """The note text (tlog-checkpoint, "Note text")."""
        lines = (self.origin, str(self.size), base64.b64encode(self.root).decode(), *self.extension)
        return "".join(f"{line}\n" for line in lines)

    @classmethod
    def from_text(cls, text: str) -> Checkpoint:
        """Reads a note text; refuses with `proof.invalid` what is no checkpoint."""
        lines = text.split("\n")
        if len(lines) < 4 or lines.pop() or not all(lines):
            raise Refusal(
                Code.PROOF_INVALID, "The checkpoint is not a note of three lines or more."
            )
        origin, size, root, *extension = lines
        root_bytes = note.strict_base64(root)
        if not is_size(size) or len(root_bytes) != _ROOT_BYTES:
            raise Refusal(Code.PROOF_INVALID, "The checkpoint's size or root is malformed.")
        return cls(origin, int(size), root_bytes, tuple(extension))


@dataclass(frozen=True, slots=True)
class Witnessed:
    """A checkpoint that its log has signed. `witnesses`: name of each known witness that has cosigned it, and when
    (Unix seconds), in the order of the lines.
    """

    checkpoint: Checkpoint
    witnesses: tuple[tuple[str, int], ...]


def log_key(origin: str, public_key: bytes) -> VerifierKey:
    """The key of a log, which has its origin as its name."""
    return VerifierKey(origin, note.ED25519, public_key)


def sign(checkpoint: Checkpoint, public_key: bytes, sign_raw: Callable[[bytes], bytes]) -> bytes:
    """The signed note. `sign_raw` makes a raw Ed25519 signature (64 bytes) of the bytes that it is given."""
    text = checkpoint.to_text()
    signature = note.sign(text, log_key(checkpoint.origin, public_key), sign_raw)
    return Note(text, (signature,)).to_bytes()


def open_note(
    data: bytes, public_key: bytes, check: Check, witnesses: Iterable[VerifierKey] = ()
) -> Witnessed:
    """The checkpoint in a note that the log with `public_key` has signed; refuses with `proof.invalid` otherwise.

    Signatures of anybody else than `witnesses` are passed over.
    """
    opened = Note.from_bytes(data)
    checkpoint = Checkpoint.from_text(opened.text)
    log = log_key(checkpoint.origin, public_key)
    signed = opened.verify([log, *witnesses], check)
    if not any(one.key == log for one in signed):
        raise Refusal(Code.PROOF_INVALID, "The checkpoint carries no valid signature of this log.")
    cosigned = [(one.key.name, one.time_s) for one in signed if one.time_s is not None]
    return Witnessed(checkpoint, tuple(cosigned))


def is_size(text: str) -> bool:
    """Whether `text` is a tree size in its one spelling."""
    plain = text.isascii() and text.isdigit() and 0 < len(text) <= _SIZE_DIGITS_MAX
    return plain and str(int(text)) == text
