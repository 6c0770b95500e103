"""Whether a published file was revoked since, by a revocation head of its gate: offline, as the proof itself.

A head that lists the file is enough to refuse it, however old. That a file is *not* revoked, only a young head says,
one at least as large as the tree of the proof: whoever holds newer ones back can show an older one.
"""

from __future__ import annotations

from presspass.core.errors import Code, Refusal
from presspass.core.ledger import revocations
from presspass.core.ledger.checkpoint import log_key
from presspass.core.ledger.note import VerifierKey
from presspass.core.ledger.revocations import RevocationHead
from presspass.core.limits import CLOCK_SKEW_S_MAX
from presspass.core.log import LogBody
from presspass.core.statement import Kind
from presspass.verify.ed25519 import verifies
from presspass.verify.log_chain import LogChain
from presspass.verify.proof import Valid


def open_head(data: bytes, valid: Valid, log_chain: LogChain | None = None) -> RevocationHead:
    """The head that the log of this proof has signed, or where `log_chain` leads on to another key or name, that one
    alone; refuses with `proof.revocation-unknown` what it has not.
    """
    try:
        log = valid.log if log_chain is None else _log_now(valid, log_chain)
        return revocations.open_head(data, log, verifies)
    except Refusal as refusal:
        raise _unknown(f"The revocation head says nothing: {refusal.message}", valid) from None


def _log_now(valid: Valid, log_chain: LogChain) -> VerifierKey:
    """The log to which the chain leads, by way of that of the proof."""
    chain = log_chain.check(valid.genesis)
    once = chain.ever_in_force(Kind.LOG).values()
    logs = [chain.body.log, *(one for one in once if isinstance(one, LogBody))]
    keys = [log_key(one.origin, one.public_key) for one in logs]
    if valid.log not in keys:
        raise Refusal(
            Code.PROOF_INVALID, "The keys of the log are older than the proof, or of another log."
        )
    return keys[-1]


def check_not_revoked(
    head: RevocationHead, valid: Valid, *, max_age_s: int | None = None, now_s: int = 0
) -> None:
    """Refuses with `release.revoked` a file that the head lists, and where `max_age_s` is given with
    `proof.revocation-unknown` a head that is older, of the future, or of a smaller tree than the proof.

    `now_s`: the verifier's clock, Unix seconds; not looked at without `max_age_s`.
    """
    if head.revokes(valid.file.sha256):
        raise Refusal(
            Code.RELEASE_REVOKED,
            f"{valid.file.name} was published, and has been revoked since.",
            "Do not use it; ask whoever publishes it what to take instead.",
        )
    if max_age_s is None:
        return
    age_s = now_s - head.time_s
    if age_s > max_age_s:
        raise _unknown(
            f"The revocation head is {age_s} s old, and may be {max_age_s} s old at most.", valid
        )
    if age_s < -CLOCK_SKEW_S_MAX:
        raise _unknown(
            f"The revocation head is {-age_s} s ahead of the clock here; one of the two is wrong.",
            valid,
        )
    if head.size < valid.checkpoint.size:
        raise _unknown(
            f"The revocation head is of {head.size} entries, and the proof of {valid.checkpoint.size}: "
            "it is older than the proof.",
            valid,
        )


def no_head(valid: Valid) -> Refusal:
    """The refusal with `proof.revocation-unknown` where a head was asked for and there is none."""
    return _unknown("There is no revocation head to say whether it has been revoked.", valid)


def _unknown(why: str, valid: Valid) -> Refusal:
    return Refusal(
        Code.PROOF_REVOCATION_UNKNOWN,
        why,
        f"Get the newest one from the gate: curl -o revocations {valid.origin}/log/revocations. If the log's key was "
        f"replaced since the proof was made, also what leads to the new one: curl -o keys {valid.origin}/log/keys, "
        "and --log-keys keys.",
    )
