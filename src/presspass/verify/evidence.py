"""An evidence bundle: the answer to one question after the fact, signed, and checked offline with the trust root alone.

The body holds the question, genesis, every statement that moved a chain, each act with its signatures and the ledger's
entries about it, and one checkpoint; the attestation is over the body's digest. The check, in this order:
1. genesis is the one the user pinned;
2. the log key to which the chains lead signed the attestation, which is about exactly this body;
3. the checkpoint is that log's, and every entry is in its tree;
4. each statement of the chains was admitted by a quorum under the state before it;
5. each act belongs where it stands, its signatures were enough there and it was alive; the ledger says when it was
   done, with the same files, and where it was verified, under the heads of that place;
6. each act answers the question, stands there once, and they are in the order of time.

That nothing is left out is not proved: it is what the press says by its signature (`complete`). The ledger names acts
by digest alone, so nobody can tell from it what an act that is kept back would have answered.
"""

from __future__ import annotations

import base64
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NoReturn

from presspass.core.approving import LONGEST_WAIT_S, SEVERITIES
from presspass.core.digests import JsonObject, canonical, parse_canonical, sha256_hex
from presspass.core.errors import Code, Refusal
from presspass.core.history import Act, Question, facets_of, subjects, subjects_of
from presspass.core.ledger import merkle
from presspass.core.ledger.checkpoint import Checkpoint
from presspass.core.ledger.note import VerifierKey, strict_base64
from presspass.core.ledger.tiles import ENTRY_BYTES_MAX, HASH_BYTES
from presspass.core.limits import (
    EVIDENCE_ACTS_MAX,
    EVIDENCE_BYTES_MAX,
    EVIDENCE_CHAIN_MAX,
    EVIDENCE_ENTRIES_PER_ACT_MAX,
)
from presspass.core.quorum import Circumstances
from presspass.core.signer import ATTESTATION, SignerBody
from presspass.core.statement import Kind, ReleaseBody, Statement
from presspass.core.strict import Members
from presspass.verify.attestation import STATEMENT_TYPE, encode, open_envelope
from presspass.verify.chain import Chain
from presspass.verify.entries import read_entry
from presspass.verify.history import Teller
from presspass.verify.proof import Entry, SignedStatement, check_standing, open_checkpoint

FORMAT: Final = "presspass/evidence/v1"
PREDICATE_TYPE: Final = "urn:presspass:evidence:v1"
_NAME: Final = "body"  # of the attestation's subject: the member whose digest it is
_HASHES_MAX: Final = 64


@dataclass(frozen=True, slots=True)
class Placed:
    """An entry of the ledger and where it stands. `inclusion`: sibling hashes, lowest first."""

    entry: bytes
    position: int
    inclusion: tuple[bytes, ...]

    def to_json(self) -> JsonObject:
        return {
            "entry": self.entry.decode(),
            "inclusion": [base64.b64encode(value).decode() for value in self.inclusion],
            "position": self.position,
        }

    @classmethod
    def from_json(cls, value: object) -> Placed:
        members = Members(value, "entry in the evidence")
        text = members.take("entry")
        if not isinstance(text, str):
            members.refuse("has no text")
        placed = cls(
            text.encode("utf-8", "surrogatepass"),
            members.integer("position"),
            members.items("inclusion", _hash, count_max=_HASHES_MAX),
        )
        members.done()
        return placed


@dataclass(frozen=True, slots=True)
class ActRecord:
    """One act. `after` as in `core.history.Act`; `at`: Unix seconds; `signed`: None for what moved a chain, which is
    genesis or the statement of the chains that came after so many.
    """

    after: int
    at: int
    signed: SignedStatement | None
    entries: tuple[Placed, ...]

    def to_json(self) -> JsonObject:
        return {
            "after": self.after,
            "at": self.at,
            "entries": [one.to_json() for one in self.entries],
            "signed": self.signed.to_json() if self.signed else None,
        }

    @classmethod
    def from_json(cls, value: object) -> ActRecord:
        members = Members(value, "act in the evidence")
        signed = members.take("signed")
        record = cls(
            members.integer("after"),
            members.integer("at"),
            None if signed is None else SignedStatement.from_json(signed),
            members.items("entries", Placed.from_json, count_max=EVIDENCE_ENTRIES_PER_ACT_MAX),
        )
        members.done()
        return record


@dataclass(frozen=True, slots=True)
class Body:
    """What is signed. `made_at`: Unix seconds; `chain`: every statement that moved one after genesis, in order."""

    question: Question
    made_at: int
    genesis: Statement
    chain: tuple[SignedStatement, ...]
    acts: tuple[ActRecord, ...]
    checkpoint: bytes

    def to_json(self) -> JsonObject:
        return {
            "acts": [one.to_json() for one in self.acts],
            "chain": [one.to_json() for one in self.chain],
            "checkpoint": self.checkpoint.decode(),
            "format": FORMAT,
            "genesis": self.genesis.to_bytes().decode(),
            "made_at": self.made_at,
            "question": self.question.to_json(),
        }

    @classmethod
    def from_json(cls, value: object) -> Body:
        members = Members(value, "evidence")
        members.choice("format", (FORMAT,))
        genesis, checkpoint = members.take("genesis"), members.take("checkpoint")
        if not isinstance(genesis, str) or not isinstance(checkpoint, str):
            members.refuse("has no genesis or checkpoint text")
        body = cls(
            Question.from_json(members.take("question")),
            members.integer("made_at"),
            Statement.from_bytes(genesis.encode("utf-8", "surrogatepass")),
            members.items("chain", SignedStatement.from_json, count_max=EVIDENCE_CHAIN_MAX),
            members.items("acts", ActRecord.from_json, count_max=EVIDENCE_ACTS_MAX),
            checkpoint.encode("utf-8", "surrogatepass"),
        )
        members.done()
        return body


def to_sign(body: Body) -> JsonObject:
    """The in-toto statement about a body: its digest, and what the press says of it."""
    return _statement(body, sha256_hex(canonical(body.to_json())))


def _statement(body: Body, digest: str) -> JsonObject:
    return {
        "_type": STATEMENT_TYPE,
        "predicate": _predicate(body),
        "predicateType": PREDICATE_TYPE,
        "subject": [{"digest": {"sha256": digest}, "name": _NAME}],
    }


def _predicate(body: Body) -> JsonObject:
    return {
        "acts": len(body.acts),
        "complete": True,
        "made_at": body.made_at,
        "question": body.question.to_json(),
    }


@dataclass(frozen=True, slots=True)
class Evidence:
    """A parsed bundle; nothing in it is believed yet. `digest`: of the body's canonical bytes."""

    body: Body
    digest: str
    attestation: JsonObject

    def to_bytes(self) -> bytes:
        """Canonical bytes of the file."""
        return canonical({"attestation": self.attestation, "body": self.body.to_json()})

    @classmethod
    def of(cls, body: Body, attestation: JsonObject) -> Evidence:
        return cls(body, sha256_hex(canonical(body.to_json())), attestation)

    @classmethod
    def from_bytes(cls, data: bytes) -> Evidence:
        """Reads canonical bytes; anything else is refused."""
        value = parse_canonical(data, bytes_max=EVIDENCE_BYTES_MAX, what="evidence")
        members = Members(value, "evidence file")
        body, attestation = members.take("body"), members.take("attestation")
        members.done()
        if not isinstance(body, dict) or not isinstance(attestation, dict):
            members.refuse("has no body or attestation")
        return cls(Body.from_json(body), sha256_hex(canonical(body)), attestation)


@dataclass(frozen=True, slots=True)
class Found:
    """What valid evidence shows. `acts`: as `verify.history.Teller` tells them; `witnesses`: name and time (Unix
    seconds) of each that was asked for and has cosigned the checkpoint.
    """

    question: Question
    made_at: int
    acts: tuple[JsonObject, ...]
    checkpoint: Checkpoint
    witnesses: tuple[tuple[str, int], ...]
    origin: str
    genesis: str


def check_evidence(
    evidence: Evidence, *, trust_root: str, witnesses: Sequence[VerifierKey] = ()
) -> Found:
    """The offline check, in the order of the module's list. `trust_root`: digest of the pinned genesis, hex."""
    body = evidence.body
    if body.genesis.digest != trust_root:
        raise Refusal(
            Code.PROOF_INVALID,
            "The evidence comes from another installation than the one you trust.",
            "Compare the trust root with the one you pinned.",
        )
    teller = Teller.of([body.genesis, *(one.statement for one in body.chain)])
    log = teller.chain.log  # by statements whose signatures are looked at below
    log_key = SignerBody.of_raw(ATTESTATION, log.public_key)
    if open_envelope(evidence.attestation, log_key) != encode(_statement(body, evidence.digest)):
        _invalid("The attestation is about something else than this evidence.")
    opened = open_checkpoint(body.checkpoint, log, witnesses)
    _check_inclusion(body, opened.checkpoint)
    acts = _replay(body)
    _check_answers(body, acts)
    return Found(
        body.question,
        body.made_at,
        tuple(teller.to_json(act) for act in acts),
        opened.checkpoint,
        opened.witnesses,
        teller.chain.site[0],
        body.genesis.digest,
    )


def _invalid(message: str) -> NoReturn:
    raise Refusal(Code.PROOF_INVALID, message)


def _check_inclusion(body: Body, checkpoint: Checkpoint) -> None:
    for one in (one for record in body.acts for one in record.entries):
        leaf = merkle.leaf_hash(one.entry)
        if not merkle.verify_inclusion(
            leaf, one.position, checkpoint.size, one.inclusion, checkpoint.root
        ):
            _invalid(f"Entry {one.position} is not in the log that the checkpoint describes.")


def _replay(body: Body) -> list[Act]:
    """Rules 4 and 5: the acts in their order, each checked in the state of the chains at its place."""
    places: dict[int, list[int]] = defaultdict(list)
    for number, record in enumerate(body.acts):
        if record.after > len(body.chain) + 1 - (record.signed is None):
            _invalid("An act stands after more changes than the evidence has.")
        places[record.after].append(number)
    acts: dict[int, Act] = {}
    for number in places[0]:
        if body.acts[number].signed is not None:
            _invalid("An act stands before genesis.")
        acts[number] = _checked(body.acts[number], SignedStatement(body.genesis, ()), None, ())
    chain = Chain.begin(body.genesis)
    for after in range(1, len(body.chain) + 2):
        moves = body.chain[after - 1] if after <= len(body.chain) else None
        for number in places[after]:
            record = body.acts[number]
            if (signed := record.signed or moves) is None:
                _invalid("An act stands after more changes than the evidence has.")
            state = None if record.signed is None else chain
            acts[number] = _checked(record, signed, state, body.chain[: after - 1])
        if moves is not None:
            chain.admit(moves.statement, moves.approvals)
    return [acts[number] for number in range(len(body.acts))]


def _checked(
    record: ActRecord,
    signed: SignedStatement,
    chain: Chain | None,
    admitted: Sequence[SignedStatement],
) -> Act:
    """Rule 5 for one act. `chain`: None for what moves one, whose signatures `Chain.admit` checks; `admitted`: what
    leads to it after genesis.
    """
    statement = signed.statement
    if chain is not None and statement.kind in {Kind.GENESIS, *Statement.MOVING}:
        _invalid("A statement that moved a chain stands beside the chains.")
    positions = [one.position for one in record.entries]
    if positions != sorted(set(positions)):
        _invalid("The entries of an act are not in their order.")
    entries = _Entries.read(record, statement)
    if entries.at < 0:
        _invalid("The ledger does not say of an act that it was carried out.")
    if entries.at != record.at:
        _invalid("The ledger has another time for an act than the evidence.")
    if chain is not None:
        _check_signatures(chain, signed, entries, admitted)
        signed.check_alive(chain, record.at)
    found = tuple((one.position, one.entry) for one in record.entries)
    return Act(statement, signed.approvals, record.at * 1000, record.after, found, signed.plans)


def _check_signatures(
    chain: Chain,
    signed: SignedStatement,
    entries: _Entries,
    admitted: Sequence[SignedStatement],
) -> None:
    """Enough in the state of the chains at this place. What else counted is said where a release is verified; of one
    that never was, the workload may have counted or not, little was found, and it may have waited long. Nor is it said
    of such a one whether people signed it after it had passed under a standing approval.
    """
    verified = entries.verified
    if verified is not None:
        if (verified.roster, verified.policy) != (chain.heads.roster, chain.heads.policy):
            _invalid("A release was verified under other rules than those of its place.")
        asked = verified.workload and entries.asked
        if verified.standing:
            check_standing(
                chain,
                admitted,
                signed.statement,
                verified.standing,
                workload=asked,
                at=entries.at,
            )
            return None
        counted = verified.circumstances(signed.statement, asked=entries.asked)
        return chain.evaluate(
            signed.statement, signed.approvals, counted, signed.plans
        ).require_all()
    if signed.statement.kind is Kind.RELEASE:
        counted = Circumstances(entries.asked, risk=SEVERITIES[0], waited_s=LONGEST_WAIT_S)
        verdict = chain.evaluate(signed.statement, signed.approvals, counted, signed.plans)
        if verdict.reached and not verdict.problems:
            return None
        if entries.standing:
            check_standing(
                chain, admitted, signed.statement, entries.standing, workload=True, at=entries.at
            )
            return None
    return chain.evaluate(signed.statement, signed.approvals, plans=signed.plans).require_all()


@dataclass(slots=True)
class _Entries:
    """What the entries of an act say. `at`: when it was admitted or claimed, -1 where none says so; `asked`: whether a
    workload asked that the press has verified; `standing`: digest of that under which it was let through, or "".
    """

    at: int = -1
    asked: bool = False
    standing: str = ""
    verified: Entry | None = None

    @classmethod
    def read(cls, record: ActRecord, statement: Statement) -> _Entries:
        """Refuses entries that are malformed, of something else, or of other files."""
        entries, release = cls(), statement.body
        begins = {Kind.GENESIS: "genesis", Kind.RELEASE: "intent"}.get(statement.kind, "admitted")
        about = set(subjects(statement))
        for one in record.entries:
            line = read_entry(one.entry, statement.space)
            raw = parse_canonical(one.entry, bytes_max=ENTRY_BYTES_MAX, what="ledger entry")
            if not about & subjects_of(raw):
                _invalid(f"Entry {one.position} is not about the act that it stands under.")
            if line.kind == begins and line.statement == statement.digest:
                entries.at = line.at
            if line.files and isinstance(release, ReleaseBody) and line.files != release.files:
                _invalid(f"Entry {one.position} is about other files than the release.")
            if line.kind == "verified":
                entries.verified = Entry.from_bytes(one.entry)
            if line.kind == "approved":
                entries.standing = str(raw.get("standing", ""))
            entries.asked |= line.kind == "workload" and raw.get("state") == "verified"
        return entries


def _check_answers(body: Body, acts: Sequence[Act]) -> None:
    """Rule 6."""
    teller = Teller.of([body.genesis, *(one.statement for one in body.chain)])
    for act in acts:
        keys = (one.key for one in act.approvals)
        facets = facets_of(act.statement, keys, teller.in_force[act.after])
        if not body.question.is_answered_by(facets, act.at_ms // 1000):
            _invalid(f"{teller.title(act.statement)!r:.200} does not answer the question.")
    if len({act.statement.digest for act in acts}) != len(acts):
        _invalid("An act stands in the evidence twice.")
    if [act.at_ms for act in acts] != sorted(act.at_ms for act in acts):
        _invalid("The acts are not in the order of time.")


def _hash(value: object) -> bytes:
    data = strict_base64(value) if isinstance(value, str) else b""
    if len(data) != HASH_BYTES:
        _invalid("An inclusion proof is made of 32-byte hashes.")
    return data
