"""The life of a release: one table of transitions, the only one."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from presspass.core.errors import Code, Refusal


class State(StrEnum):
    """Where a release stands. The gateway writes the states up to `awaiting`, the press the ones after."""

    OPEN = "open"  # files may still be added
    STAGED = "staged"  # the set is closed
    REVIEWED = "reviewed"  # the inspector has reported
    AWAITING = "awaiting"  # people are asked to sign
    APPROVED = "approved"  # the press has seen enough signatures; the veto window runs
    PUBLISHING = "publishing"  # the intent is journalled; the registry may already have some files
    PUBLISHED = "published"  # every file was sent
    VERIFIED = (
        "verified"  # the registry serves exactly the approved bytes, and the proof is written
    )
    REJECTED = "rejected"
    EXPIRED = "expired"
    WITHDRAWN = "withdrawn"
    FAILED = "failed"
    REVOKED = "revoked"


_S = State
TRANSITIONS: Final[dict[State, frozenset[State]]] = {
    _S.OPEN: frozenset({_S.STAGED, _S.REJECTED, _S.EXPIRED, _S.WITHDRAWN}),
    _S.STAGED: frozenset({_S.REVIEWED, _S.REJECTED, _S.EXPIRED, _S.WITHDRAWN}),
    _S.REVIEWED: frozenset({_S.AWAITING, _S.REJECTED, _S.EXPIRED, _S.WITHDRAWN}),
    # back to `staged`: the release it was compared with is no longer the last one, or a head moved on
    _S.AWAITING: frozenset({_S.APPROVED, _S.STAGED, _S.REJECTED, _S.EXPIRED, _S.WITHDRAWN}),
    _S.APPROVED: frozenset(
        {_S.PUBLISHING, _S.STAGED, _S.REJECTED, _S.EXPIRED, _S.WITHDRAWN, _S.FAILED}
    ),
    _S.PUBLISHING: frozenset({_S.PUBLISHED, _S.FAILED}),
    _S.PUBLISHED: frozenset({_S.VERIFIED, _S.FAILED, _S.REVOKED}),
    _S.VERIFIED: frozenset({_S.REVOKED}),
    _S.REJECTED: frozenset(),
    _S.EXPIRED: frozenset(),
    _S.WITHDRAWN: frozenset(),
    _S.FAILED: frozenset(),
    _S.REVOKED: frozenset(),
}
#: Nothing further happens by itself.
SETTLED: Final = frozenset(
    {_S.VERIFIED, _S.REJECTED, _S.EXPIRED, _S.WITHDRAWN, _S.FAILED, _S.REVOKED}
)
#: The registry may have received something.
SENT: Final = frozenset({_S.PUBLISHING, _S.PUBLISHED, _S.VERIFIED, _S.REVOKED})


def may_move(old: State, new: State) -> bool:
    """True when the table has this transition."""
    return new in TRANSITIONS[old]


def move(old: State, new: State) -> State:
    """`new`, or a refusal when the table does not have this transition."""
    if not may_move(old, new):
        raise Refusal(
            Code.RELEASE_WRONG_STATE, f"A release that is {old.value} cannot become {new.value}."
        )
    return new
