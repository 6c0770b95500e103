"""The three kinds of failure, kept apart by type.

A *refusal* is a normal answer: something asked for is not allowed or not understood. It carries a code from
the closed list below, one sentence for a person, and a hint that says what to do next.
A *fault* is the world failing (disk, network, another process). It says whether trying again can help.
A *bug* is a broken promise of our own code; it ends the work at hand and is never turned into an answer.
"""

from __future__ import annotations

from enum import StrEnum
from typing import NoReturn


class Code(StrEnum):
    """Every reason for which Presspass says no. Documented in docs/reference/refusals.md (a test compares)."""

    # approvals and quorum
    APPROVAL_INVALID = "approval.invalid"
    APPROVAL_KEY_REMOVED = "approval.key-removed"
    APPROVAL_KEY_UNKNOWN = "approval.key-unknown"
    APPROVAL_NOT_VERIFIED = "approval.user-not-verified"
    APPROVAL_SOFTWARE_KEY = "approval.software-key"
    APPROVAL_WRONG_ORIGIN = "approval.wrong-origin"
    APPROVAL_WRONG_STATEMENT = "approval.wrong-statement"
    QUORUM_MISSING = "quorum.missing"
    QUORUM_TOO_FEW_PEOPLE = "quorum.too-few-people"
    # artifacts
    ARTIFACT_BAD_NAME = "artifact.bad-filename"
    ARTIFACT_DIGEST_MISMATCH = "artifact.digest-mismatch"
    ARTIFACT_MISSING = "artifact.missing"
    ARTIFACT_UNREADABLE = "artifact.unreadable"
    ARTIFACT_WRONG_METADATA = "artifact.wrong-metadata"
    # enrolment and genesis
    ENROLMENT_EXPIRED = "enrolment.expired"
    ENROLMENT_INVALID = "enrolment.invalid"
    ENROLMENT_USED = "enrolment.used"
    GENESIS_INCOMPLETE = "genesis.incomplete"
    GENESIS_MISSING = "genesis.missing"
    GENESIS_SEALED = "genesis.sealed"
    # home and configuration
    BACKUP_INVALID = "backup.invalid"
    CONFIG_INVALID = "config.invalid"
    DATABASE_UNUSABLE = "database.unusable"
    HOME_EXISTS = "home.exists"
    HOME_IN_USE = "home.in-use"
    HOME_MISSING = "home.missing"
    # inspection
    INSPECTION_CRASHED = "inspection.crashed"
    INSPECTION_DISAGREES = "inspection.disagrees"
    INSPECTION_TIMED_OUT = "inspection.timed-out"
    INSPECTION_TOO_LARGE = "inspection.too-large"
    # narrowing
    FROZEN = "narrowing.frozen"
    NARROWING_CANNOT_CLEAR = "narrowing.cannot-clear"
    VETOED = "narrowing.vetoed"
    # proof
    PROOF_INVALID = "proof.invalid"
    PROOF_WRONG_FILE = "proof.wrong-file"
    # protocol doors
    REQUEST_MALFORMED = "request.malformed"
    REQUEST_NOT_FOUND = "request.not-found"
    REQUEST_TOO_LARGE = "request.too-large"
    REQUEST_UNSUPPORTED = "request.unsupported"
    STORAGE_FULL = "storage.full"
    # release
    RELEASE_ALREADY_PUBLISHED = "release.already-published"
    RELEASE_EXPIRED = "release.expired"
    RELEASE_OTHER_BYTES = "release.other-bytes"
    RELEASE_REJECTED = "release.rejected"
    RELEASE_SET_CLOSED = "release.set-closed"
    RELEASE_STALE = "release.stale"
    RELEASE_WRONG_STATE = "release.wrong-state"
    # statements
    STATEMENT_EXPIRED = "statement.expired"
    STATEMENT_FOREIGN = "statement.foreign-genesis"
    STATEMENT_MALFORMED = "statement.malformed"
    STATEMENT_OLD_HEAD = "statement.old-head"
    STATEMENT_REPLAYED = "statement.replayed"
    # time
    CLOCK_UNTRUSTED = "clock.untrusted"
    # upload tokens
    TOKEN_EXPIRED = "token.expired"
    TOKEN_INVALID = "token.invalid"
    TOKEN_WRONG_PROJECT = "token.wrong-project"
    # upstream
    UPSTREAM_CONFLICT = "upstream.conflict"
    UPSTREAM_MISSING = "upstream.missing"
    UPSTREAM_MISMATCH = "upstream.serves-other-bytes"
    UPSTREAM_REDIRECT = "upstream.redirect"
    UPSTREAM_REFUSED = "upstream.refused"


class PresspassError(Exception):
    """Root of everything that Presspass raises on purpose."""


class Refusal(PresspassError):
    """A normal "no". `code` is from the closed list, `message` one sentence, `hint` what to do next ("" if nothing)."""

    def __init__(self, code: Code, message: str, hint: str = "") -> None:
        super().__init__(f"{message} [{code.value}]")
        self.code = code
        self.message = message
        self.hint = hint


class Fault(PresspassError):
    """The world failed. `retryable`: the same call may succeed later; if not, the state is unknown: stop."""

    def __init__(self, code: str, message: str, *, retryable: bool) -> None:
        super().__init__(f"{message} [{code}]")
        self.code = code
        self.message = message
        self.retryable = retryable


class BrokenInvariantError(PresspassError):
    """Our own code broke a promise. Never caught to go on."""


def invariant(holds: bool, promise: str) -> None:
    """Ends the work at hand with BrokenInvariantError when `holds` is false (unlike assert, under -O too)."""
    if not holds:
        broken(promise)


def broken(promise: str) -> NoReturn:
    """Raises BrokenInvariantError naming the promise that did not hold."""
    raise BrokenInvariantError(promise)
