"""What a log asks of a witness, and by which rules it is answered (C2SP tlog-witness, "add-checkpoint"). No I/O.

A witness cosigns a checkpoint only if it extends the last one of that log that it has cosigned. Whoever trusts a
witness knows so that nobody is shown another log than the witness was.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from presspass.core.errors import Code, Refusal
from presspass.core.ledger import merkle
from presspass.core.ledger.checkpoint import Checkpoint, is_size
from presspass.core.ledger.note import Check, Note, VerifierKey, strict_base64

PATH: Final = "/add-checkpoint"
#: Of the body of a 409 that says which size the witness has.
SIZE_TYPE: Final = "text/x.tlog.size"
_PROOF_LINES_MAX: Final = 63
_HASH_BYTES: Final = 32
_OLD: Final = "old "


@dataclass(frozen=True, slots=True)
class Seen:
    """The last checkpoint of a log that a witness has cosigned."""

    size: int = 0
    root: bytes = merkle.EMPTY_ROOT


class NotCosignedError(Exception):
    """The witness's no. `status`: of HTTP; `size`: the size that it has, where another one was thought (409)."""

    def __init__(self, status: int, message: str, size: int | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.size = size


@dataclass(frozen=True, slots=True)
class Submission:
    """One request. `old`: the size that the witness is thought to have; `proof`: of consistency from there, 32-byte
    hashes; `note`: the signed checkpoint.
    """

    old: int
    proof: tuple[bytes, ...]
    note: bytes

    def to_bytes(self) -> bytes:
        """The body of the request."""
        lines = [f"{_OLD}{self.old}", *(base64.b64encode(one).decode() for one in self.proof)]
        return "\n".join(lines).encode() + b"\n\n" + self.note

    @classmethod
    def from_bytes(cls, data: bytes) -> Submission:
        """Reads a body; NotCosignedError(400) for what is none."""
        head, empty, note = data.partition(b"\n\n")
        try:
            first, *lines = head.decode("ascii").split("\n")
        except UnicodeDecodeError:
            raise NotCosignedError(400, "The lines before the checkpoint are not ASCII.") from None
        size = first.removeprefix(_OLD)
        proof = [strict_base64(line) for line in lines]
        if not empty or not first.startswith(_OLD) or not is_size(size):
            raise NotCosignedError(400, "It does not begin with the old size.")
        if len(proof) > _PROOF_LINES_MAX or any(len(one) != _HASH_BYTES for one in proof):
            raise NotCosignedError(400, "Its consistency proof is not made of hashes.")
        return cls(int(size), tuple(proof), note)


def judge(
    submission: Submission,
    logs: Mapping[str, Sequence[VerifierKey]],
    seen: Callable[[str], Seen],
    check: Check,
) -> tuple[Checkpoint, str]:
    """The checkpoint that may be cosigned, and its text; or NotCosignedError. `logs`: the keys of
    each by origin; `seen`: what was
    cosigned of an origin, asked in the transaction that keeps the answer.
    """
    try:
        note = Note.from_bytes(submission.note)
        checkpoint = Checkpoint.from_text(note.text)
    except Refusal as refusal:
        raise NotCosignedError(400, refusal.message) from None
    keys = logs.get(checkpoint.origin)
    if keys is None:
        raise NotCosignedError(404, "This log is not known here.")
    try:
        signed = note.verify(keys, check)
    except Refusal as refusal:
        raise NotCosignedError(403, refusal.message) from None
    if not signed:
        raise NotCosignedError(403, "This log has not signed the checkpoint.")
    if submission.old > checkpoint.size:
        raise NotCosignedError(400, "The old size is beyond the checkpoint's.")
    known = seen(checkpoint.origin)
    if submission.old != known.size:
        raise NotCosignedError(409, "Another size was cosigned last.", known.size)
    if known.size == checkpoint.size and known.root != checkpoint.root:
        raise NotCosignedError(409, "Another tree of this size was cosigned.", known.size)
    if not merkle.verify_consistency(
        known.size, checkpoint.size, known.root, checkpoint.root, submission.proof
    ):
        raise NotCosignedError(
            422, "The checkpoint does not extend the one that was cosigned last."
        )
    return checkpoint, note.text


def read_cosignature(
    lines: bytes, text: str, witness: VerifierKey, check: Check
) -> tuple[str, int]:
    """The witness's line in its answer, and when it signed (Unix seconds). Lines of others are passed over; refuses
    with `proof.invalid` where there is none of the witness that verifies.
    """
    answer = Note.from_bytes(text.encode() + b"\n" + lines)
    for one in answer.signatures:
        if (one.name, one.key_id) == (witness.name, witness.id):
            (signed,) = Note(text, (one,)).verify([witness], check)
            if signed.time_s is not None:
                return one.to_text(), signed.time_s
    raise Refusal(Code.PROOF_INVALID, f"The answer has no signature of {witness.name}.")
