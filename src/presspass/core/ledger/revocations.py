"""The revocation head: every file that is revoked, at one time, as a note that the log's key has signed.

Text, one a line: `<origin of the log>/revocations`; size of the log's tree; Unix seconds; then the SHA-256 of each
revoked file, ascending. The signer's name is the first line, so that nobody takes a head for a checkpoint, nor the
reverse. One spelling is read: docs/reference/revocation-head.md has it byte for byte.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from presspass.core.digests import is_sha256
from presspass.core.errors import Code, Refusal
from presspass.core.ledger import note
from presspass.core.ledger.checkpoint import is_size
from presspass.core.ledger.note import Check, Note, VerifierKey
from presspass.core.limits import NOTE_BYTES_MAX, REVOKED_FILES_MAX

_NAME: Final = "/revocations"
_FIXED_LINES: Final = 3
_LINE_BYTES: Final = 65
#: Longest head that is read: the files, and as much around them as any other note has.
HEAD_BYTES_MAX: Final = REVOKED_FILES_MAX * _LINE_BYTES + NOTE_BYTES_MAX


@dataclass(frozen=True, slots=True)
class RevocationHead:
    """`origin`: of the log; `size`: of its tree then; `time_s`: Unix seconds; `files`: SHA-256, hex, ascending."""

    origin: str
    size: int
    time_s: int
    files: tuple[str, ...]

    def revokes(self, sha256: str) -> bool:
        """Whether this file was revoked then."""
        at = bisect_left(self.files, sha256)
        return at < len(self.files) and self.files[at] == sha256

    def to_text(self) -> str:
        """The note text."""
        lines = (self.origin + _NAME, str(self.size), str(self.time_s), *self.files)
        return "".join(f"{line}\n" for line in lines)

    @classmethod
    def from_text(cls, text: str) -> RevocationHead:
        """Reads a note text; refuses with `proof.invalid` what is no revocation head."""
        lines = text.split("\n")
        if lines.pop() or len(lines) < _FIXED_LINES or not lines[0].endswith(_NAME):
            raise Refusal(Code.PROOF_INVALID, "This note is no revocation head.")
        name, size, time_s, *files = lines
        if not is_size(size) or not is_size(time_s):
            raise Refusal(Code.PROOF_INVALID, "The revocation head's size or time is malformed.")
        ascending = all(earlier < later for earlier, later in pairwise(files))
        if len(files) > REVOKED_FILES_MAX or not ascending or not all(map(is_sha256, files)):
            raise Refusal(
                Code.PROOF_INVALID,
                f"The revocation head does not list at most {REVOKED_FILES_MAX} digests in order.",
            )
        return cls(name.removesuffix(_NAME), int(size), int(time_s), tuple(files))


def sign(head: RevocationHead, public_key: bytes, sign_raw: Callable[[bytes], bytes]) -> bytes:
    """The signed note. `sign_raw` makes a raw Ed25519 signature (64 bytes) of the bytes that it is given."""
    text = head.to_text()
    signature = note.sign(text, _key(head.origin, public_key), sign_raw)
    return Note(text, (signature,)).to_bytes()


def open_head(data: bytes, log: VerifierKey, check: Check) -> RevocationHead:
    """The head in a note that this log's key has signed; refuses with `proof.invalid` otherwise."""
    opened = Note.from_bytes(data, HEAD_BYTES_MAX)
    head = RevocationHead.from_text(opened.text)
    if head.origin != log.name:
        raise Refusal(Code.PROOF_INVALID, "The revocation head belongs to another log.")
    if not opened.verify([_key(log.name, log.public_key)], check):
        raise Refusal(
            Code.PROOF_INVALID, "The revocation head carries no valid signature of this log."
        )
    return head


def _key(origin: str, public_key: bytes) -> VerifierKey:
    return VerifierKey(origin + _NAME, note.ED25519, public_key)
