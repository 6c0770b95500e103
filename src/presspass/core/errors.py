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
    APPROVAL_NOT_ASKED = "approval.not-an-approver"
    APPROVAL_NOT_VERIFIED = "approval.user-not-verified"
    APPROVAL_RESERVE = "approval.reserve-not-called"
    APPROVAL_SOFTWARE_KEY = "approval.software-key"
    APPROVAL_SYNCED_KEY = "approval.synced-key"
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
    # delegations to bots and agents
    DELEGATION_LEVEL = "delegation.version-kind"
    DELEGATION_NESTED = "delegation.no-sub-delegation"
    DELEGATION_NONE = "delegation.none"
    DELEGATION_PROJECT = "delegation.wrong-project"
    DELEGATION_SPENT = "delegation.spent"
    DELEGATION_WINDOW = "delegation.outside-window"
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
    # workload identity
    IDENTITY_ALGORITHM = "identity.algorithm"
    IDENTITY_AUDIENCE = "identity.wrong-audience"
    IDENTITY_CLAIM_MISSING = "identity.claim-missing"
    IDENTITY_EXPIRED = "identity.expired"
    IDENTITY_INVALID = "identity.invalid"
    IDENTITY_ISSUER_UNKNOWN = "identity.issuer-unknown"
    IDENTITY_KEY_UNKNOWN = "identity.key-unknown"
    IDENTITY_LIFE = "identity.lives-too-long"
    IDENTITY_MALFORMED = "identity.malformed"
    IDENTITY_NOT_YET_VALID = "identity.not-yet-valid"
    IDENTITY_REPLAYED = "identity.replayed"
    IDENTITY_REVOKED = "identity.revoked"
    IDENTITY_UNAVAILABLE = "identity.keys-unavailable"
    # identity of workloads: the content of a workflow
    WORKFLOW_MISSING = "identity.workflow-missing"
    WORKFLOW_NOT_A_FILE = "identity.workflow-not-a-file"
    WORKFLOW_TOO_LARGE = "identity.workflow-too-large"
    WORKFLOW_UNAVAILABLE = "identity.workflow-unavailable"
    WORKFLOW_UNPROVEN = "identity.workflow-unproven"
    # inspection
    INSPECTION_CRASHED = "inspection.crashed"
    INSPECTION_DISAGREES = "inspection.disagrees"
    INSPECTION_TIMED_OUT = "inspection.timed-out"
    INSPECTION_TOO_LARGE = "inspection.too-large"
    # ledger
    LOG_DAMAGED = "log.damaged"
    LOG_FORKED = "log.forked"
    LOG_KEY_MISSING = "log.key-missing"
    LOG_SMALLER = "log.smaller"
    LOG_UNUSABLE = "log.unusable"
    # narrowing
    FREEZE_WINDOW = "narrowing.freeze-window"
    FROZEN = "narrowing.frozen"
    NARROWING_CANNOT_CLEAR = "narrowing.cannot-clear"
    VETOED = "narrowing.vetoed"
    # passes
    PASS_ENDED = "pass.ended"
    PASS_EXPIRED = "pass.expired"
    PASS_INVALID = "pass.invalid"
    PASS_OTHER_FILE = "pass.other-file"
    PASS_SPENT = "pass.spent"
    PASS_WRONG_PROJECT = "pass.wrong-project"
    PASS_WRONG_VERSION = "pass.wrong-version"
    # rules
    POLICY_DENIED = "policy.denied"
    POLICY_ERROR = "policy.error"
    POLICY_FORBIDS_NARROWING = "policy.forbids-narrowing"
    POLICY_INVALID = "policy.invalid"
    POLICY_LOCKS_OUT = "policy.locks-out"
    PLAN_INCOMPLETE = "plan.incomplete"
    POLICY_RULES_MISSING = "policy.rules-missing"
    # proof
    PROOF_INVALID = "proof.invalid"
    PROOF_REVOCATION_UNKNOWN = "proof.revocation-unknown"
    PROOF_WRONG_FILE = "proof.wrong-file"
    # protocol doors
    REQUEST_MALFORMED = "request.malformed"
    REQUEST_NOT_FOUND = "request.not-found"
    REQUEST_TOO_LARGE = "request.too-large"
    REQUEST_UNSUPPORTED = "request.unsupported"
    REQUEST_WRONG_HOST = "request.wrong-host"
    STORAGE_FULL = "storage.full"
    # publishers: which workload may ask for which package
    PUBLISHER_ENVIRONMENT = "publisher.wrong-environment"
    PUBLISHER_EVENT = "publisher.wrong-event"
    PUBLISHER_NONE = "publisher.none"
    PUBLISHER_PROJECT = "publisher.wrong-project"
    PUBLISHER_REF = "publisher.wrong-ref"
    PUBLISHER_REF_UNPROTECTED = "publisher.ref-unprotected"
    PUBLISHER_REPOSITORY = "publisher.other-repository"
    PUBLISHER_REUSABLE = "publisher.reusable-workflow"
    PUBLISHER_RUNNER = "publisher.self-hosted-runner"
    PUBLISHER_WORKFLOW = "publisher.wrong-workflow"
    PUBLISHER_WORKFLOW_CHANGED = "publisher.workflow-changed"
    # release
    RELEASE_ALREADY_PUBLISHED = "release.already-published"
    RELEASE_EXPIRED = "release.expired"
    RELEASE_OTHER_BYTES = "release.other-bytes"
    RELEASE_REJECTED = "release.rejected"
    RELEASE_REQUESTER_GONE = "release.requester-gone"
    RELEASE_REVOKED = "release.revoked"
    RELEASE_SET_CLOSED = "release.set-closed"
    RELEASE_STALE = "release.stale"
    RELEASE_WRONG_STATE = "release.wrong-state"
    # standing approvals
    STANDING_CHANGED = "standing.changed"
    STANDING_ENDED = "standing.ended"
    STANDING_EXPIRED = "standing.expired"
    STANDING_FINDING = "standing.finding"
    STANDING_NOT_COVERED = "standing.not-covered"
    STANDING_SIGNERS = "standing.signers"
    STANDING_SPENT = "standing.spent"
    STANDING_UNASSESSED = "standing.unassessed"
    STANDING_UNBOUND = "standing.unbound"
    STANDING_UNUSABLE = "standing.unusable"
    STANDING_VERSION = "standing.version-kind"
    # statements
    SIGNER_MISSING = "signer.missing"
    SIGNER_UNUSABLE = "signer.unusable"
    STATEMENT_EXPIRED = "statement.expired"
    STATEMENT_FOREIGN = "statement.foreign-genesis"
    STATEMENT_MALFORMED = "statement.malformed"
    STATEMENT_OLD_HEAD = "statement.old-head"
    STATEMENT_REPLAYED = "statement.replayed"
    # people's sign-in
    DEVICE_UNKNOWN = "device.unknown-code"
    ROLE_MISSING = "session.role-missing"
    SESSION_CROSS_SITE = "session.cross-site"
    SESSION_MISSING = "session.missing"
    SESSION_NOT_FRESH = "session.not-fresh"
    SIGN_IN_EXPIRED = "sign-in.expired"
    SIGN_IN_KEY_INVALID = "sign-in.key-invalid"
    SIGN_IN_LINK_INVALID = "sign-in.link-invalid"
    SIGN_IN_OFF = "sign-in.off"
    SIGN_IN_PROVIDER = "sign-in.provider-failed"
    SIGN_IN_REFUSED = "sign-in.refused"
    SIGN_IN_ROSTER_KEY = "sign-in.roster-key"
    SIGN_IN_TOKEN = "sign-in.token-invalid"
    SIGN_IN_UNKNOWN = "sign-in.unknown-person"
    # SCIM
    SCIM_TOKEN = "scim.token-invalid"
    # time
    CLOCK_UNTRUSTED = "clock.untrusted"
    # TLS
    TLS_BAD_CERTIFICATE = "tls.bad-certificate"
    TLS_BAD_KEY = "tls.bad-key"
    TLS_NOT_VALID_NOW = "tls.not-valid-now"
    TLS_WRONG_NAME = "tls.wrong-name"
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
