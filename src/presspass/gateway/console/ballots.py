"""What is asked of people, in words: how many must sign, who may, who has, and the exact text they sign.

Pure: built from the statement, the electorate and the tally that the gateway gives.
"""

from __future__ import annotations

from dataclasses import dataclass

from presspass.core.approving import is_high
from presspass.core.errors import Code
from presspass.core.quorum import Electorate
from presspass.core.roster import b64u
from presspass.core.statement import Intent, Kind, Statement, challenge
from presspass.gateway.console.models import Ballot, SignatureFacts, Situation
from presspass.gateway.console.text import duration

KIND_WORDS = {
    "passkey": "passkey",
    "security-key-ssh": "SSH security key",
    "software-passkey": "software passkey",
    "ssh": "SSH key (software)",
}
#: Why a signature is on record and does not count.
NOT_COUNTED = {
    Code.APPROVAL_KEY_REMOVED: "does not count: this key has been removed from the roster",
    Code.APPROVAL_KEY_UNKNOWN: "does not count: this key was not in the roster when the request was written",
    Code.IDENTITY_REVOKED: "does not count: this person has left, or was revoked",
    Code.APPROVAL_SOFTWARE_KEY: "does not count: the policy takes no software keys",
    Code.APPROVAL_NOT_ASKED: "may veto; the policy asks others to approve",
    Code.APPROVAL_RESERVE: "may veto; approves only once the release has waited",
    Code.APPROVAL_SYNCED_KEY: "does not count: the policy takes no passkey that is copied to other devices",
}


@dataclass(frozen=True, slots=True)
class SignerView:
    """One key of the roster. `credential`: the WebAuthn credential id, "" for SSH keys, which sign at a terminal."""

    person: str
    key: str
    kind: str
    credential: str
    counts: bool
    why_not: str


@dataclass(frozen=True, slots=True)
class SignatureView:
    """One signature that was given. `remark` says whether it counts."""

    person: str
    key: str
    intent: str
    received_ms: int
    remark: str
    note: str


@dataclass(frozen=True, slots=True)
class TextView:
    """A text to sign: `text` is canonical JSON; `challenge` as the browser puts it into clientDataJSON."""

    text: str
    digest: str
    challenge: str


@dataclass(frozen=True, slots=True)
class BallotView:
    """Everything about signing one statement."""

    approve: TextView
    veto: TextView
    needed: int
    counted: int
    missing: int
    condition: str
    frozen: str
    signers: tuple[SignerView, ...]
    signatures: tuple[SignatureView, ...]
    expires_ms: int

    @property
    def terminal_only(self) -> bool:
        """No key that counts can sign in a browser."""
        return not any(one.credential and one.counts for one in self.signers)


def view(ballot: Ballot, situation: Situation) -> BallotView:
    """Reads the statement; refuses with `statement.malformed` when its bytes are not one."""
    statement = Statement.from_bytes(ballot.statement)
    electorate, tally = ballot.electorate, ballot.tally
    return BallotView(
        approve=_text(statement),
        veto=_text(statement.with_intent(Intent.VETO)),
        needed=tally.needed,
        counted=len(tally.counted),
        missing=tally.missing,
        condition=_condition(electorate, situation, tally.requester_signed) + _beyond(ballot),
        frozen=_frozen(ballot),
        signers=_signers(electorate, situation),
        signatures=tuple(_signature(one, electorate, situation) for one in ballot.signatures),
        expires_ms=statement.expires_at * 1000,
    )


def _text(statement: Statement) -> TextView:
    data = statement.to_bytes()
    return TextView(data.decode("utf-8"), statement.digest, b64u(challenge(data)))


def _condition(electorate: Electorate, situation: Situation, requester_signed: bool) -> str:
    """Who the signatures must come from."""
    if electorate.solo:
        return "by different keys. Profile solo: one person, and nobody else has looked"
    if electorate.gaining and any(electorate.roster_now.person(one) for one in electorate.gaining):
        return _condition_of_new_key(electorate, situation, requester_signed)
    if electorate.kind is not Kind.RELEASE:
        return "by different people"
    workload = electorate.circumstances.workload
    if not electorate.requester_resolved:
        unknown = "nobody knows who is behind the run, so one more must sign"
        return f"by different people; {unknown}" if workload else "by different people"
    name = situation.name(electorate.requester)
    if workload:
        return f"by people other than {name}; the workload that asked is the other identity"
    if requester_signed:
        return f"by somebody other than {name}, who has signed for having asked"
    return f"by people other than {name}; one fewer once {name} has signed, too, for having asked"


def _beyond(ballot: Ballot) -> str:
    """What the policy asks for beyond a number, and when it will ask for less."""
    electorate, tally = ballot.electorate, ballot.tally
    approving, around = electorate.policy.approving, electorate.circumstances
    found = [f"; {number} of {group} must be among them" for group, number in approving.groups]
    if tally.by_holiday:
        return "; by the holiday rule the floor alone is enough, and there is a longer time to veto"
    if electorate.kind is not Kind.RELEASE:
        return "".join(found)
    extra = approving.extra(around.risk)
    if extra:
        found.append(
            f"; {extra} more than usual for findings that are {around.risk or 'not known'}"
        )
    if approving.holiday_after_s is not None and not is_high(around.risk):
        after = duration(approving.holiday_after_s)
        found.append(f"; the floor alone is enough once it has waited {after} (holiday rule)")
    return "".join(found)


def _condition_of_new_key(
    electorate: Electorate, situation: Situation, requester_signed: bool
) -> str:
    known = [one for one in sorted(electorate.gaining) if electorate.roster_now.person(one)]
    names = " and ".join(situation.name(one) for one in known)
    if requester_signed:
        return f"by somebody other than {names}, who gets a key and has signed for having asked"
    return f"by people other than {names}, who gets a key; one fewer once {names} has signed, too, for having asked"


def _frozen(ballot: Ballot) -> str:
    tally = ballot.tally
    if not tally.frozen:
        return ""
    return (
        f"{tally.needed} must approve and only {tally.eligible} could. The number is not lowered: "
        "enrol more people or keys (an approved roster statement), then ask again."
    )


def _signers(electorate: Electorate, situation: Situation) -> tuple[SignerView, ...]:
    found = []
    for person in electorate.roster_now.people:
        for key in person.keys:
            why = electorate.why_not(key.id)
            if why is None and not electorate.is_requester(key.id):
                why = electorate.why_no_approver(key.id)
            found.append(
                SignerView(
                    person=situation.name(person.id),
                    key=key.id,
                    kind=KIND_WORDS[key.kind] + (", synced" if key.backed_up else ""),
                    credential=b64u(key.credential_id),
                    counts=why is None,
                    why_not=_role(electorate, key.id)
                    if why is None
                    else NOT_COUNTED.get(why, why.value),
                )
            )
    return tuple(sorted(found, key=lambda one: (not one.counts, one.person.casefold(), one.key)))


def _role(electorate: Electorate, key: str) -> str:
    return (
        "asked for it: proves who asked, approves nothing" if electorate.is_requester(key) else ""
    )


def _signature(one: SignatureFacts, electorate: Electorate, situation: Situation) -> SignatureView:
    owner = electorate.roster_now.owner(one.key) or electorate.roster_then.owner(one.key)
    why = electorate.why_not(one.key) if one.intent is Intent.APPROVE else None
    if why is None and one.intent is Intent.APPROVE and not electorate.is_requester(one.key):
        why = electorate.why_no_approver(one.key)
    if one.revoked:
        remark = "does not count: it was ended when its signer left, or was revoked"
    elif why is not None:
        remark = NOT_COUNTED.get(why, f"does not count ({why.value})")
    elif one.intent is Intent.APPROVE:
        remark = (
            "proves who asked; approves nothing" if electorate.is_requester(one.key) else "counts"
        )
    else:
        remark = "ends it"
    return SignatureView(
        person=situation.name(owner.id) if owner else "an unknown key",
        key=one.key,
        intent="approved" if one.intent is Intent.APPROVE else "vetoed",
        received_ms=one.received_ms,
        remark=remark,
        note=one.note,
    )
