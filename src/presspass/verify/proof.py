"""The proof beside a published file, and the offline check of it.

A proof holds everything needed except the trust root: genesis, every chained statement with its signatures, the release
statement with its signatures, the press's ledger entry with its inclusion proof and signed checkpoint, and the
attestations. The check, in this order; the first failure ends it:
1. genesis is the one the user pinned;
2. each chained statement was admitted by a quorum under the state before it;
3. the release statement names this file by SHA-256, belongs to this installation, and its signatures are enough under
   the roster it names and under the one in force when it was claimed; where some of them were given under a plan, the
   plan names this release statement by its digest; or, where the press's entry names a standing approval, that one was
   in force, covers the release, and the signatures under it are enough (`verify.standing`);
4. the press's entry says that exactly these files were published under it, while neither it nor the plan had expired;
5. the entry is in the tree of a checkpoint of the log to which the chain leads, signed by its key; where the log got
   another one between claim and entry, `later` leads on to it, by the rule of 2;
6. the attestations are by the signer in force then, and say what all this comes to.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from presspass.core.approval import Approval, Signed
from presspass.core.approving import SEVERITIES
from presspass.core.digests import JsonObject, canonical, parse_canonical, sha256_hex
from presspass.core.errors import Code, Refusal
from presspass.core.ledger import merkle
from presspass.core.ledger.checkpoint import Checkpoint, Witnessed, log_key, open_note
from presspass.core.ledger.note import VerifierKey
from presspass.core.limits import (
    APPROVALS_PER_STATEMENT_MAX,
    CLOCK_SKEW_S_MAX,
    PLANS_PER_RELEASE_MAX,
    PROOF_BYTES_MAX,
    STATEMENT_BYTES_MAX,
)
from presspass.core.log import LogBody
from presspass.core.plan import PlanBody
from presspass.core.quorum import Circumstances
from presspass.core.signer import ATTESTATION
from presspass.core.standing import check_time
from presspass.core.statement import (
    GenesisBody,
    Intent,
    Kind,
    ReleaseBody,
    ReleaseFile,
    Statement,
)
from presspass.core.strict import Members
from presspass.verify import attestation
from presspass.verify.attestation import PREDICATES, Attestable, Signature
from presspass.verify.chain import Chain, Verdict
from presspass.verify.ed25519 import verifies
from presspass.verify.standing import Passed, check_passes

if TYPE_CHECKING:
    from presspass.core.ledger.revocations import RevocationHead

FORMAT: Final = "presspass/proof/v1"
CHAIN_MAX = 100_000
_TEXT_MAX = STATEMENT_BYTES_MAX


@dataclass(frozen=True, slots=True)
class SignedStatement:
    """A statement's canonical text with the signatures under it; of a release also the `plans`, in order of their
    digests, under which some of these signatures stand.
    """

    statement: Statement
    approvals: tuple[Approval, ...]
    plans: tuple[Statement, ...] = ()

    def to_json(self) -> JsonObject:
        plans = {"plans": [one.to_bytes().decode() for one in self.plans]} if self.plans else {}
        return {
            **plans,
            "approvals": [approval.to_json() for approval in self.approvals],
            "statement": self.statement.to_bytes().decode(),
        }

    @classmethod
    def from_json(cls, value: object) -> SignedStatement:
        members = Members(value, "signed statement")
        text = members.take("statement")
        if not isinstance(text, str):
            members.refuse("has no statement text")
        count_max = APPROVALS_PER_STATEMENT_MAX
        plans: tuple[Statement, ...] = ()
        written = members.has("plans")
        if written:
            plans = members.items("plans", _plan, count_max=PLANS_PER_RELEASE_MAX)
            count_max *= 1 + len(plans)
        signed = cls(
            Statement.from_bytes(text.encode("utf-8", "surrogatepass")),
            members.items("approvals", Approval.from_json, count_max=count_max),
            plans,
        )
        members.done()
        signed._check_plans(members, written=written)
        return signed

    def _check_plans(self, members: Members, *, written: bool) -> None:
        """Exactly those under which there are signatures: no byte of a proof is free."""
        digests = [plan.digest for plan in self.plans]
        under = {approval.statement for approval in self.approvals} - {self.statement.digest}
        if written and (not digests or digests != sorted(under)):
            members.refuse("has other plans than those under which its signatures stand")

    def check_alive(self, chain: Chain, at_s: int) -> None:
        """Refuses unless the statement, and each of the plans, was alive then."""
        for one in (self.statement, *self.plans):
            chain.check_alive(one, at_s)


@dataclass(frozen=True, slots=True)
class Record:
    """The press's ledger entry and where it stands. `inclusion`: sibling hashes, lowest first."""

    entry: bytes
    position: int
    inclusion: tuple[bytes, ...]
    checkpoint: bytes

    def to_json(self) -> JsonObject:
        return {
            "checkpoint": self.checkpoint.decode(),
            "entry": self.entry.decode(),
            "inclusion": [base64.b64encode(value).decode() for value in self.inclusion],
            "position": self.position,
        }

    @classmethod
    def from_json(cls, value: object) -> Record:
        members = Members(value, "ledger record")
        checkpoint, entry = members.take("checkpoint"), members.take("entry")
        if not isinstance(checkpoint, str) or not isinstance(entry, str):
            members.refuse("has no checkpoint or entry text")
        record = cls(
            entry.encode("utf-8", "replace"),
            members.integer("position"),
            members.items("inclusion", _hash, count_max=64),
            checkpoint.encode("utf-8", "replace"),
        )
        members.done()
        return record


@dataclass(frozen=True, slots=True)
class Proof:
    """A parsed proof file; nothing in it is believed yet. `chain`: what was admitted before the release was claimed;
    `later`: what led from there to the log that the record is of, almost always nothing.
    """

    filename: str
    genesis: Statement
    chain: tuple[SignedStatement, ...]
    release: SignedStatement
    record: Record
    attestations: tuple[JsonObject, ...]
    later: tuple[SignedStatement, ...] = ()

    def to_bytes(self) -> bytes:
        """Canonical bytes of the proof file."""
        later = {"later": [signed.to_json() for signed in self.later]} if self.later else {}
        return canonical(
            {
                **later,
                "attestations": list(self.attestations),
                "chain": [signed.to_json() for signed in self.chain],
                "file": self.filename,
                "format": FORMAT,
                "genesis": self.genesis.to_bytes().decode(),
                "record": self.record.to_json(),
                "release": self.release.to_json(),
            }
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> Proof:
        """Reads canonical bytes; anything else is refused."""
        return cls.from_json(parse_proof(data))

    @classmethod
    def from_json(
        cls,
        value: JsonObject,
        known: Statement | None = None,
        chain: tuple[SignedStatement, ...] = (),
    ) -> Proof:
        """Reads what `parse_proof` gives. `known`: a genesis that need not be read again, if it is this one; `chain`:
        the first of the chain, which whoever hands them in has read from the same text before.
        """
        members = Members(value, "proof")
        members.choice("format", (FORMAT,))
        genesis = members.take("genesis")
        if not isinstance(genesis, str):
            members.refuse("has no genesis text")
        data = genesis.encode("utf-8", "surrogatepass")
        links = members.items("chain", _as_it_is, count_max=CHAIN_MAX)
        proof = cls(
            filename=members.text("file", chars_max=255),
            genesis=known if known and known.to_bytes() == data else Statement.from_bytes(data),
            chain=chain + tuple(map(SignedStatement.from_json, links[len(chain) :])),
            release=SignedStatement.from_json(members.take("release")),
            record=Record.from_json(members.take("record")),
            attestations=members.items("attestations", _envelope, count_max=len(PREDICATES)),
            later=_later(members) if members.has("later") else (),
        )
        members.done()
        return proof


@dataclass(frozen=True, slots=True)
class Entry:
    """The press's word about a finished publication, as it stands in the ledger.

    `claimed_at`, `verified_at`: Unix seconds; `roster`, `policy`: heads in force when it was claimed; `mode`: prevented
    or detected; `zones`: "separated" or "not separated"; `workload`: whether the press has verified the workload that
    asked, so that it counted as one of the two identities (the press's word; a member only where it did); `standing`:
    digest of the standing approval under which it passed, "" (and no member) where people have signed the release;
    `risk`: the highest severity that it had found, and `waited_s`: seconds since its first sight, when it was claimed
    (its word too; members only where the policy makes the count depend on them).
    """

    space: str
    statement: str
    files: tuple[ReleaseFile, ...]
    claimed_at: int
    verified_at: int
    roster: str
    policy: str
    mode: str
    zones: str
    workload: bool = False
    standing: str = ""
    risk: str = ""
    waited_s: int = 0

    def circumstances(self, statement: Statement, *, asked: bool) -> Circumstances:
        """What the press says it knew beside the signatures; `asked`: whether a workload can have asked at all. Refuses
        a wait that is longer than the statement is old.
        """
        if self.waited_s > max(0, self.claimed_at - statement.issued_at) + CLOCK_SKEW_S_MAX:
            raise Refusal(Code.PROOF_INVALID, "The release waited longer than it was asked for.")
        return Circumstances(
            workload=self.workload and asked, risk=self.risk, waited_s=self.waited_s
        )

    def to_json(self) -> JsonObject:
        counted = {"workload": True} if self.workload else {}
        under = {"standing": self.standing} if self.standing else {}
        return {
            **counted,
            **under,
            **({"risk": self.risk} if self.risk else {}),
            **({"waited_s": self.waited_s} if self.waited_s else {}),
            "claimed_at": self.claimed_at,
            "files": [file.to_json() for file in self.files],
            "kind": "verified",
            "mode": self.mode,
            "policy": self.policy,
            "roster": self.roster,
            "space": self.space,
            "statement": self.statement,
            "verified_at": self.verified_at,
            "zones": self.zones,
        }

    @classmethod
    def from_bytes(cls, data: bytes) -> Entry:
        members = Members(
            parse_canonical(data, bytes_max=STATEMENT_BYTES_MAX, what="ledger entry"),
            "ledger entry",
        )
        members.choice("kind", ("verified",))
        entry = cls(
            space=members.name("space"),
            statement=members.sha256("statement"),
            files=members.items("files", ReleaseFile.from_json, count_max=64),
            claimed_at=members.integer("claimed_at"),
            verified_at=members.integer("verified_at"),
            roster=members.sha256("roster"),
            policy=members.sha256("policy"),
            mode=members.choice("mode", ("prevented", "detected")),
            zones=members.choice("zones", ("separated", "not separated")),
            workload=members.optional("workload", _true) or False,
            standing=members.sha256("standing") if members.has("standing") else "",
            risk=members.choice("risk", SEVERITIES) if members.has("risk") else "",
            waited_s=members.integer("waited_s", low=1) if members.has("waited_s") else 0,
        )
        members.done()
        return entry


@dataclass(frozen=True, slots=True)
class Valid:
    """What a valid proof says, for people and programs. `sha512`: of the file, as attested, hex; `witnesses`: name and
    time (Unix seconds) of each that was asked for and has cosigned the checkpoint; `synced`: keys that are passkeys
    copied to other devices or a cloud; `attested_by`: scheme and fingerprint (SHA-256, hex) of the signer; `profile`:
    `solo` only where both policies that count were, that which it was asked for under and that which it went out
    under; `log`: the key that signed the checkpoint, and signs revocation heads; `standing`: that under which it
    passed, None where people have signed this release: else `approved_by` is empty; `plans`:
    under which signatures stand.
    """

    file: ReleaseFile
    sha512: str
    release: ReleaseBody
    upstream: str
    approved_by: tuple[str, ...]
    requester_signed: bool
    keys: tuple[tuple[str, str], ...]
    synced: frozenset[str]
    synced_accepted: bool
    attested_by: tuple[str, str]
    profile: str
    entry: Entry
    checkpoint: Checkpoint
    log: VerifierKey
    witnesses: tuple[tuple[str, int], ...]
    position: int
    origin: str
    genesis: str
    standing: Passed | None = None
    plans: tuple[Statement, ...] = ()

    @property
    def planned(self) -> tuple[int, ...]:
        """Of how many releases each plan is under which it was approved; () where each signature is its own."""
        return tuple(len(plan.body_as(PlanBody).releases) for plan in self.plans)


def check_proof(
    proof: Proof,
    *,
    filename: str,
    sha256: str,
    size: int,
    trust_root: str,
    witnesses: Sequence[VerifierKey] = (),
) -> Valid:
    """The offline check, in the order of the module's list. `trust_root`: digest of the pinned genesis, hex;
    `witnesses`: those whose cosignatures mean something to whoever asks.
    """
    require_genesis(proof, trust_root)
    chain = Chain.begin(proof.genesis)
    for signed in proof.chain:
        chain.admit(signed.statement, signed.approvals)
    return check_after(chain, proof, ReleaseFile(filename, sha256, size), witnesses)


def file_of(proof: Proof) -> ReleaseFile:
    """The file that a proof says it is about; refuses with `proof.invalid` where its release names none."""
    body = proof.release.statement.body_as(ReleaseBody)
    found = next((one for one in body.files if one.name == proof.filename), None)
    if found is None:
        raise Refusal(Code.PROOF_INVALID, "The proof is about no file of its release.")
    return found


def require_genesis(proof: Proof, trust_root: str) -> None:
    """Step 1 of the module's list."""
    if proof.genesis.digest != trust_root:
        raise Refusal(
            Code.PROOF_INVALID,
            "The proof comes from another installation than the one you trust.",
            "Compare the trust root with the one you pinned.",
        )


def check_after(
    chain: Chain, proof: Proof, file: ReleaseFile, witnesses: Sequence[VerifierKey]
) -> Valid:
    """Steps 3 to 6. `chain`: after everything in the proof's chain, which was admitted; it is not changed."""
    entry = Entry.from_bytes(proof.record.entry)
    body, verdict, passed = _check_release(proof, chain, entry, file)
    log = _log_of(proof, chain)
    witnessed = _check_record(proof.record, log, witnesses)
    admitted = [one.statement for one in proof.chain]
    about = attestable(chain, proof.release, admitted, entry, verdict, passed)
    signer = chain.signer(ATTESTATION, log)
    sha512 = attestation.check(proof.attestations, about, signer)
    upstream = next(
        name for name, (digest, _) in chain.upstreams.items() if digest == body.upstream
    )
    return Valid(
        file=file,
        sha512=sha512[file.sha256],
        release=body,
        upstream=upstream,
        approved_by=() if passed else verdict.tally.counted,
        requester_signed=verdict.tally.requester_signed,
        keys=tuple((signed.key, chain.enrolled(signed.key)[0].kind) for signed in verdict.signed),
        synced=frozenset(signed.key for signed in verdict.signed if signed.synced),
        synced_accepted=chain.policy.synced_passkeys,
        attested_by=(signer.scheme, sha256_hex(signer.public_key)),
        profile=_profile(chain, proof.release.statement),
        entry=entry,
        checkpoint=witnessed.checkpoint,
        log=log_key(log.origin, log.public_key),
        witnesses=witnessed.witnesses,
        position=proof.record.position,
        origin=chain.site[0],
        genesis=proof.genesis.digest,
        standing=passed,
        plans=proof.release.plans,
    )


def _profile(chain: Chain, statement: Statement) -> str:
    policies = (chain.policies[statement.heads.policy], chain.policy)
    return "solo" if all(policy.profile == "solo" for policy in policies) else "team"


def check_standing(
    chain: Chain,
    admitted: Sequence[SignedStatement],
    release: Statement,
    standing: str,
    *,
    workload: bool,
    at: int,
) -> Passed:
    """That the release passes under the standing approval of this digest, as far as statements show it, and that it
    held when the release was claimed. `admitted`: what leads to `chain`, with its signatures; `at`: Unix seconds.
    """
    holding = chain.holding(standing)
    signed = next((one for one in admitted if one.statement.digest == holding), None)
    if signed is None:
        raise Refusal(Code.PROOF_INVALID, "The proof lacks the standing approval that it names.")
    counted = Circumstances(workload=workload)
    passed = check_passes(chain, standing, signed.statement, signed.approvals, release, counted)
    check_time(passed.body, at)
    return passed


def _evaluate(chain: Chain, proof: Proof, entry: Entry) -> Verdict:
    """The count, with the workload as an identity where the release names one and the press says that it counted."""
    body = proof.release.statement.body_as(ReleaseBody)
    counted = entry.circumstances(proof.release.statement, asked=body.asked_by is not None)
    return chain.evaluate(
        proof.release.statement, proof.release.approvals, counted, proof.release.plans
    )


def _true(value: object) -> bool:
    if value is not True:
        raise Refusal(Code.PROOF_INVALID, "The entry's workload is not true.")
    return True


def _check_release(
    proof: Proof, chain: Chain, entry: Entry, file: ReleaseFile
) -> tuple[ReleaseBody, Verdict, Passed | None]:
    statement = proof.release.statement
    body = statement.body_as(ReleaseBody)
    if file not in body.files or file.name != proof.filename:
        raise Refusal(Code.PROOF_WRONG_FILE, "The proof is about another file than this one.")
    if statement.intent is not Intent.APPROVE:
        raise Refusal(Code.PROOF_INVALID, "The proof carries a veto, not an approval.")
    if (entry.roster, entry.policy) != (chain.heads.roster, chain.heads.policy):
        raise Refusal(
            Code.PROOF_INVALID, "The proof's chain does not end where the press published."
        )
    verdict = _evaluate(chain, proof, entry)
    passed = None
    if entry.standing:
        passed = check_standing(
            chain,
            proof.chain,
            statement,
            entry.standing,
            workload=entry.workload,
            at=entry.claimed_at,
        )
    else:
        verdict.require_all()
    if body.upstream not in {digest for digest, _ in chain.upstreams.values()}:
        raise Refusal(Code.PROOF_INVALID, "The release names an upstream that was not in force.")
    if (
        entry.statement != statement.digest
        or entry.files != body.files
        or entry.space != statement.space
    ):
        raise Refusal(Code.PROOF_INVALID, "The press's entry is about another release.")
    try:
        proof.release.check_alive(chain, entry.claimed_at)
    except Refusal:
        raise Refusal(
            Code.PROOF_INVALID, "The release was published outside the life of its approval."
        ) from None
    return body, verdict, passed


def _plan(value: object) -> Statement:
    text = value if isinstance(value, str) else ""
    return Statement.from_bytes(text.encode("utf-8", "surrogatepass"))


def _later(members: Members) -> tuple[SignedStatement, ...]:
    found = members.items("later", SignedStatement.from_json, count_max=CHAIN_MAX)
    if not found or found[-1].statement.kind is not Kind.LOG:
        members.refuse("has statements in 'later' that lead to no log")
    return found


def _log_of(proof: Proof, chain: Chain) -> LogBody:
    """The log that the record must be of. `chain`: after everything in the proof's chain, which was admitted."""
    if not proof.later:
        return chain.log
    after = Chain.after(proof.genesis, [one.statement for one in proof.chain])
    for signed in proof.later:
        after.admit(signed.statement, signed.approvals)
    return after.log


def _check_record(record: Record, log: LogBody, witnesses: Sequence[VerifierKey]) -> Witnessed:
    opened = open_checkpoint(record.checkpoint, log, witnesses)
    checkpoint = opened.checkpoint
    leaf = merkle.leaf_hash(record.entry)
    if not merkle.verify_inclusion(
        leaf, record.position, checkpoint.size, record.inclusion, checkpoint.root
    ):
        raise Refusal(
            Code.PROOF_INVALID, "The press's entry is not in the log that its checkpoint describes."
        )
    return opened


def attestable(
    chain: Chain,
    release: SignedStatement,
    admitted: Sequence[Statement],
    entry: Entry,
    verdict: Verdict,
    passed: Passed | None = None,
) -> Attestable:
    """What the press attests of a release, and whoever checks it expects. `admitted`: the chain, after genesis."""
    body = release.statement.body_as(ReleaseBody)
    _, upstream = next(one for one in chain.upstreams.values() if one[0] == body.upstream)
    return Attestable(
        origin=chain.body.origin,
        statement=release.statement,
        approvals=release.approvals,
        protocol=upstream.protocol,
        at=entry.verified_at,
        chain=[chain.genesis.digest, *(one.digest for one in admitted)],
        policy=chain.policy,
        signatures=[_signature(chain, verdict, one) for one in verdict.signed],
        standing=(passed.digest, passed.approved_by) if passed else None,
        plans=release.plans,
    )


def _signature(chain: Chain, verdict: Verdict, signed: Signed) -> Signature:
    key, person = chain.enrolled(signed.key)
    counts = all(one.objection(signed) is None for one in verdict.electorates)
    asked = any(one.is_requester(signed.key) for one in verdict.electorates)
    role = "none" if not counts else "requester" if asked else "approver"
    return Signature(signed, key, person, role)


def parse_proof(data: bytes) -> JsonObject:
    """The members of a proof file, none of them read; refuses what is not canonical."""
    return parse_canonical(data, bytes_max=PROOF_BYTES_MAX, what="proof")


def _as_it_is(value: object) -> object:
    return value


def _envelope(value: object) -> JsonObject:
    if not isinstance(value, dict):
        raise Refusal(Code.PROOF_INVALID, "An attestation is no envelope.")
    return value


def open_checkpoint(note: bytes, log: LogBody, witnesses: Sequence[VerifierKey] = ()) -> Witnessed:
    """The checkpoint that this log (`Chain.log`) has signed; refuses with `proof.invalid` what it has not."""
    opened = open_note(note, log.public_key, verifies, witnesses)
    if opened.checkpoint.origin != log.origin:
        raise Refusal(Code.PROOF_INVALID, "The checkpoint belongs to another log.")
    return opened


def is_signed_by(note: bytes, log: LogBody) -> bool:
    """Whether the checkpoint is of this log, name and key, and not of what it was before."""
    try:
        open_checkpoint(note, log)
    except Refusal:
        return False
    return True


def load_trust_root(data: bytes) -> str:
    """The digest of a trust root file: the genesis statement's canonical bytes."""
    genesis = Statement.from_bytes(data)
    genesis.body_as(GenesisBody)
    return genesis.digest


def _hash(value: object) -> bytes:
    try:
        data = base64.b64decode(value, validate=True) if isinstance(value, str) else b""
    except (binascii.Error, ValueError):
        data = b""
    if len(data) != 32 or base64.b64encode(data).decode() != value:
        raise Refusal(Code.PROOF_INVALID, "An inclusion proof is made of 32-byte hashes.")
    return data


def _standing_json(passed: Passed) -> JsonObject:
    return {
        "statement": passed.digest,
        "asked_at": passed.asked_at,
        "approved_by": list(passed.approved_by),
        "bounds": passed.body.to_json(),
    }


def verdict_json(valid: Valid, head: RevocationHead | None = None) -> str:
    """The verdict for programs. `head`: that which the file was looked for in, and not found."""
    asked = {} if head is None else {"at": head.time_s, "size": head.size}
    plans = [
        {"statement": plan.digest, "releases": number}
        for plan, number in zip(valid.plans, valid.planned, strict=True)
    ]
    return json.dumps(
        {
            **({"plans": plans} if plans else {}),
            "valid": True,
            "file": {**valid.file.to_json(), "sha512": valid.sha512},
            "project": valid.release.project,
            "version": valid.release.version,
            "upstream": valid.upstream,
            "requester": valid.release.requester,
            "requester_signed": valid.requester_signed,
            "asked_by_workload": valid.entry.workload,
            "approved_by": list(valid.approved_by),
            "standing": _standing_json(valid.standing) if valid.standing else None,
            "keys": [
                {"key": key, "kind": kind, "synced": key in valid.synced}
                for key, kind in valid.keys
            ],
            "profile": valid.profile,
            "synced_passkeys": "accepted" if valid.synced_accepted else "refused",
            "attested_by": {"scheme": valid.attested_by[0], "key": valid.attested_by[1]},
            "verified_at": valid.entry.verified_at,
            "mode": valid.entry.mode,
            "zones": valid.entry.zones,
            "log": {
                "origin": valid.checkpoint.origin,
                "size": valid.checkpoint.size,
                "position": valid.position,
            },
            "witnesses": [{"name": name, "at": at} for name, at in valid.witnesses],
            "revocations": {"checked": head is not None, **asked},
            "genesis": valid.genesis,
        },
        indent=2,
    )
