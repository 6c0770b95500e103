"""The chains of roster, policy, upstreams, publishers, delegations, standing approvals, signers and the log from
genesis on, and whether signatures are enough under them.

1. Genesis is the first element of every chain; its digest is the trust root.
2. A statement belongs to this installation and space, and names heads that this chain has had.
3. A chained statement follows the present head of its own chain, and nothing else; so does each member of a bundle.
4. Signatures count under the roster the statement names *and* the present one, and under both policies: where one of
   them asks for more, more is needed.
5. A signature is made at the origin that was in force under the roster which its statement names; an origin comes into
   force with the roster of the keys enrolled there. A narrowing may also be made at the present one.
6. The log keeps its name unless it is recovered, when it takes the next one; no key that it had signs for it again.
7. The offline recovery key can ask for one thing only: another roster. The 72 hours are the press's to keep.
8. A signature under a plan that names a release by its digest counts for it as one under the release's own statement.

The press, `presspass verify` and the gateway's page use this same code; only the press's result has an effect.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from presspass.core import quorum
from presspass.core.approval import Approval, Signed
from presspass.core.delegation import DelegationBody
from presspass.core.digests import sha256_hex
from presspass.core.effects import Effect, effects
from presspass.core.errors import Code, Refusal
from presspass.core.log import LogBody, log_origin
from presspass.core.plan import PlanBody
from presspass.core.policy import Policy
from presspass.core.publisher import PublisherBody
from presspass.core.roster import Key, Roster
from presspass.core.signer import SignerBody
from presspass.core.standing import StandingBody, check_life
from presspass.core.statement import (
    ChainedBody,
    GenesisBody,
    Heads,
    Intent,
    Kind,
    OriginBody,
    PolicyBody,
    ReleaseBody,
    RosterBody,
    Statement,
    UpstreamBody,
    signed_message,
    subject,
)
from presspass.verify.approvals import check_origin, verify_approval
from presspass.verify.attestation import check_signer


@dataclass(frozen=True, slots=True)
class Problem:
    """A signature that does not count, and why."""

    key: str
    code: Code
    message: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """Signatures under one statement. `tally` is the stricter of the counts under both policies."""

    signed: tuple[Signed, ...]
    problems: tuple[Problem, ...]
    tally: quorum.Tally
    electorates: tuple[quorum.Electorate, ...]

    @property
    def reached(self) -> bool:
        return self.tally.reached

    def key_kind(self, key_id: str) -> str:
        """The kind of a key whose signature counts in every count; "" for any other."""
        if not all(electorate.approves(key_id) for electorate in self.electorates):
            return ""
        key = self.electorates[0].roster_now.key(key_id)
        return key.kind if key else ""

    def require(self) -> None:
        """Refuses, saying what is missing and what was worth nothing, unless every count is reached."""
        if self.reached:
            return
        try:
            for electorate in self.electorates:
                quorum.require(electorate, self.signed)
        except Refusal as refusal:
            if not self.problems or refusal.code is Code.QUORUM_TOO_FEW_PEOPLE:
                raise
            first = self.problems[0]
            message = f"{refusal.message} A signature is worth nothing: {first.message}"
            raise Refusal(first.code, message, refusal.hint) from None

    def require_all(self) -> None:
        """`require`, and refuses when any signature does not verify: the press keeps only those that did."""
        self.require()
        if self.problems:
            raise Refusal(self.problems[0].code, self.problems[0].message)


@dataclass(frozen=True, slots=True)
class SignedFor:
    """The upstream and the publishers that a standing approval names, by name, as they were when it was admitted."""

    upstream: UpstreamBody | None
    publishers: Mapping[str, PublisherBody]


@dataclass(slots=True)
class Chain:
    """The state after genesis and every statement admitted since, in their order."""

    genesis: Statement
    body: GenesisBody
    heads: Heads
    rosters: dict[str, Roster]
    policies: dict[str, Policy]
    upstreams: dict[str, tuple[str, UpstreamBody]] = field(default_factory=dict)
    publishers: dict[str, tuple[str, PublisherBody]] = field(default_factory=dict)
    delegations: dict[str, tuple[str, DelegationBody]] = field(default_factory=dict)
    standings: dict[str, tuple[str, StandingBody]] = field(default_factory=dict)
    signers: dict[str, tuple[str, SignerBody]] = field(default_factory=dict)
    logs: dict[str, tuple[str, LogBody]] = field(default_factory=dict)
    #: Digest of each roster to the (origin, RP id) in force with it.
    sites: dict[str, tuple[str, str]] = field(default_factory=dict)
    #: Digest of each standing approval to what it was signed for.
    _signed_for: dict[str, SignedFor] = field(default_factory=dict)
    _moved: dict[tuple[Kind, str], Effect] = field(default_factory=dict)

    @classmethod
    def begin(cls, genesis: Statement) -> Chain:
        """The chain that holds genesis alone."""
        body, digest = genesis.body_as(GenesisBody), genesis.digest
        return cls(
            genesis,
            body,
            Heads(digest, digest, digest),
            {digest: body.roster},
            {digest: body.policy},
            sites={digest: (body.origin, body.rp_id)},
            _moved={(one.kind, one.digest): one for one in effects(genesis)},
        )

    @classmethod
    def of(cls, admitted: Sequence[Statement]) -> Chain | None:
        """The chain after these statements, admitted by whoever hands them in, genesis first; None for none."""
        return cls.after(admitted[0], admitted[1:]) if admitted else None

    @classmethod
    def after(cls, genesis: Statement, admitted: Iterable[Statement]) -> Chain:
        """The chain after genesis and these statements, admitted by whoever hands them in."""
        chain = cls.begin(genesis)
        for statement in admitted:
            chain.move_head(statement)
        return chain

    @property
    def roster(self) -> Roster:
        return self.rosters[self.heads.roster]

    @property
    def policy(self) -> Policy:
        return self.policies[self.heads.policy]

    @property
    def site(self) -> tuple[str, str]:
        """The origin that keys are enrolled at now, and its RP id."""
        return self.sites[self.heads.roster]

    def signer(self, name: str, log: LogBody | None = None) -> SignerBody:
        """What signs now; until people have put another key in force that of the log, which is `log` where it has moved
        on since.
        """
        named = self.signers.get(name)
        key = (log or self.log).public_key
        return SignerBody.of_raw(name, key) if named is None else named[1]

    @property
    def log(self) -> LogBody:
        """The log's name in checkpoints, and the key that signs them now: genesis', until people have signed others."""
        return self.logs[""][1] if self.logs else self.body.log

    @property
    def next_log_origin(self) -> str:
        """The name that the log takes with its next recovery."""
        once = self.ever_in_force(Kind.LOG).values()
        recovered = sum(isinstance(one, LogBody) and one.recovery is not None for one in once)
        return log_origin(self.body.origin, recovered + 1)

    def head(self, kind: Kind, name: str = "") -> str:
        """The present head of one chain; genesis where nothing has been admitted to it."""
        if kind is Kind.ROSTER:
            return self.heads.roster
        if kind is Kind.POLICY:
            return self.heads.policy
        named = self._named(kind).get(name)
        return self.genesis.digest if named is None else named[0]

    def head_of(self, statement: Statement) -> str | None:
        """The present head of the statement's own chain; None for kinds that form none."""
        body = statement.body
        return self.head(*subject(body)) if isinstance(body, ChainedBody) else None

    def in_force(self, kind: Kind, name: str = "") -> ChainedBody | None:
        """What a chain holds now; None where nothing has been admitted to it."""
        if kind is Kind.ROSTER:
            return RosterBody(self.roster)
        if kind is Kind.POLICY:
            return PolicyBody(self.policy)
        if kind is Kind.LOG:
            return self.log
        named = self._named(kind).get(name)
        return None if named is None else named[1]

    def once_in_force(self, kind: Kind, digest: str) -> ChainedBody | None:
        """What the statement, or member of a bundle, with this digest put in force; None where it put nothing."""
        found = self._moved.get((kind, digest))
        return None if found is None else found.body

    def ever_in_force(self, kind: Kind) -> dict[str, ChainedBody]:
        """Everything that the chains of `kind` ever held, by its digest, in the order in which it came."""
        return {digest: one.body for (of, digest), one in self._moved.items() if of is kind}

    def signed_for(self, standing: str) -> SignedFor:
        """What the standing approval with this digest was signed for."""
        return self._signed_for[standing]

    def holding(self, digest: str) -> str | None:
        """The digest of the statement of which this is the digest, or that of a member."""
        found = (self._moved.get((kind, digest)) for kind in Statement.CHAINED)
        return next((one.statement for one in found if one is not None), None)

    def _named(self, kind: Kind) -> Mapping[str, tuple[str, ChainedBody]]:
        found: dict[Kind, Mapping[str, tuple[str, ChainedBody]]] = {
            Kind.UPSTREAM: self.upstreams,
            Kind.PUBLISHER: self.publishers,
            Kind.DELEGATION: self.delegations,
            Kind.STANDING: self.standings,
            Kind.SIGNER: self.signers,
            Kind.LOG: self.logs,
        }
        return found[kind]

    def check_belongs(self, statement: Statement) -> None:
        """Rules 2 and 3; refuses with `statement.foreign-genesis` or `statement.old-head`, and a veto with
        `approval.wrong-statement`: signatures under it never count for what it vetoes.
        """
        if statement.intent is not Intent.APPROVE:
            raise Refusal(Code.APPROVAL_WRONG_STATEMENT, "This is a veto; it cannot be approved.")
        if statement.genesis != self.genesis.digest or statement.space != self.genesis.space:
            raise Refusal(
                Code.STATEMENT_FOREIGN, "The statement belongs to another installation or space."
            )
        if (
            statement.heads.roster not in self.rosters
            or statement.heads.policy not in self.policies
        ):
            raise Refusal(
                Code.STATEMENT_FOREIGN,
                "The statement names a roster or policy that was never in force here.",
            )
        moved = any(one.previous != self.head(one.kind, one.name) for one in effects(statement))
        if (
            statement.heads.revocation != self.heads.revocation
            or statement.previous != self.head_of(statement)
            or moved
        ):
            raise Refusal(
                Code.STATEMENT_OLD_HEAD,
                "Something else was decided since this was asked for.",
                "Ask for it again under the present state.",
            )
        for one in effects(statement):
            if isinstance(one.body, OriginBody):
                check_origin(one.body.origin, one.body.rp_id)
            elif isinstance(one.body, SignerBody):
                check_signer(one.body)
            elif isinstance(one.body, LogBody):
                self._check_log(one.body)
            elif isinstance(one.body, StandingBody):
                check_life(one.body, statement.issued_at)

    def _check_log(self, body: LogBody) -> None:
        """Rule 6; refuses with `log.unusable`."""
        name = self.log.origin if body.recovery is None else self.next_log_origin
        if body.origin != name:
            raise Refusal(
                Code.LOG_UNUSABLE,
                f"The log would be called {body.origin}; its name is {name}.",
                "It keeps its name with another key, and takes the next one when it is recovered.",
            )
        once = self.ever_in_force(Kind.LOG).values()
        former = {self.body.log_key, *(one.key for one in once if isinstance(one, LogBody))}
        if body.recovery is not None:
            former.discard(self.log.key)
        if body.key in former:
            raise Refusal(
                Code.LOG_UNUSABLE,
                "The log has had this key before.",
                "Make another: presspass log rotate",
            )

    def check_alive(self, statement: Statement, now_s: int) -> None:
        """Refuses a statement that has expired by its own word or by the policy in force, whichever is earlier."""
        statement.check_alive(now_s)
        if now_s >= statement.issued_at + self.policy.approval_life_s:
            raise Refusal(
                Code.STATEMENT_EXPIRED,
                "The request is older than the policy lets one live.",
                "Ask for it again; approvals are not carried over.",
            )

    def evaluate(
        self,
        statement: Statement,
        approvals: Iterable[Approval],
        circumstances: quorum.Circumstances = quorum.ORDINARY,
        plans: Iterable[Statement] = (),
    ) -> Verdict:
        """Verifies and counts. Refuses only where the statement, or a plan, does not belong here; bad signatures are
        problems. `plans`: under which some of the approvals were given, in place of the statement itself.
        """
        self.check_belongs(statement)
        return self.recount(statement, approvals, circumstances, plans)

    def recount(
        self,
        statement: Statement,
        approvals: Iterable[Approval],
        circumstances: quorum.Circumstances = quorum.ORDINARY,
        plans: Iterable[Statement] = (),
    ) -> Verdict:
        """`evaluate` of one that belongs here: also long after it was admitted, under what is in force now."""
        under = {statement.digest: statement}
        for plan in plans:
            self.check_plan(plan, statement)
            under[plan.digest] = plan
        signed: dict[tuple[str, str], Signed] = {}
        problems: list[Problem] = []
        for approval in approvals:
            text = under.get(approval.statement, statement)
            site = self.sites[text.heads.roster]
            try:
                found = self._verify(text.to_bytes(), approval, site)
                signed[approval.statement, approval.key] = found
            except Refusal as refusal:
                problems.append(Problem(approval.key, refusal.code, refusal.message))
        return self.counted(statement, tuple(signed.values()), circumstances, tuple(problems))

    def counted(
        self,
        statement: Statement,
        signed: tuple[Signed, ...],
        circumstances: quorum.Circumstances = quorum.ORDINARY,
        problems: tuple[Problem, ...] = (),
    ) -> Verdict:
        """These verified signatures, counted as if they stood under the statement."""
        electorates = self._electorates(statement, circumstances)
        tallies = [quorum.count(electorate, signed) for electorate in electorates]
        strictest = max(tallies, key=lambda tally: (not tally.reached, tally.missing, tally.needed))
        return Verdict(signed, problems, strictest, electorates)

    def check_plan(self, plan: Statement, statement: Statement) -> None:
        """Rule 8; refuses with `approval.wrong-statement` a plan that does not name the release."""
        self.check_belongs(plan)
        named = isinstance(plan.body, PlanBody) and statement.digest in plan.body.releases
        if not named or not isinstance(statement.body, ReleaseBody):
            raise Refusal(
                Code.APPROVAL_WRONG_STATEMENT,
                "What was signed is no plan that names this release.",
                "Sign the release itself, or a plan in which it stands.",
            )

    def electorate(
        self,
        statement: Statement,
        policy: Policy,
        circumstances: quorum.Circumstances = quorum.ORDINARY,
    ) -> quorum.Electorate:
        """Over whom signatures under this statement are counted."""
        requester = statement.body.requester if isinstance(statement.body, ReleaseBody) else ""
        then = self.rosters[statement.heads.roster]
        return quorum.Electorate(
            statement.kind,
            then,
            self.roster,
            policy,
            requester,
            circumstances,
            self._gaining(statement, policy),
        )

    def new_keys(self, statement: Statement) -> frozenset[str]:
        """Ids of everybody to whom this statement gives a key that the roster before it does not know as theirs."""
        found: frozenset[str] = frozenset()
        for one in effects(statement):
            if isinstance(one.body, RosterBody):
                before = self.rosters.get(one.previous or "", self.roster)
                found |= quorum.gains_key(before, one.body.roster)
        return found

    def _gaining(self, statement: Statement, policy: Policy) -> frozenset[str]:
        # A policy from before the rule is judged as it was when it was signed: old proofs keep their verdict.
        return frozenset() if policy.key_wait_s is None else self.new_keys(statement)

    def verify_narrowing(self, data: bytes, approval: Approval) -> Signed:
        """One signature of somebody in the present roster under a veto or freeze."""
        signed = self.verify_at_one(data, approval, self._key(approval.key))
        if not quorum.may_narrow(self.roster, signed):
            raise Refusal(Code.APPROVAL_KEY_REMOVED, "The key is no longer in the roster.")
        return signed

    def verify_at_one(self, data: bytes, approval: Approval, key: Key) -> Signed:
        """A signature made at the present origin, or at the one that belongs to the statement: both may only stop."""
        then = self.sites.get(Statement.from_bytes(data).heads.roster, self.site)
        origin, rp_id = self.site
        try:
            return verify_approval(data, approval, key, origin=origin, rp_id=rp_id)
        except Refusal as refusal:
            if refusal.code is not Code.APPROVAL_WRONG_ORIGIN or then == self.site:
                raise
        return verify_approval(data, approval, key, origin=then[0], rp_id=then[1])

    def admit(self, statement: Statement, approvals: Iterable[Approval]) -> None:
        """Checks the quorum and moves the head; refuses otherwise, and where any one signature does not verify.

        A roster that the recovery key asked for carries that key's signature alone, or the quorum's, had people agreed.
        """
        approvals = tuple(approvals)
        if (
            isinstance(statement.body, RosterBody)
            and statement.body.recovery
            and _by_recovery_key(approvals)
        ):
            self.verify_recovery(statement, approvals)
        else:
            self.evaluate(statement, approvals).require_all()
        self.move_head(statement)

    def move_head(self, statement: Statement) -> None:
        """Moves the heads that the statement moves, without asking for signatures: for statements already admitted."""
        moves = effects(statement)
        if not moves:
            raise Refusal(
                Code.STATEMENT_MALFORMED, f"A {statement.kind.value} statement forms no chain."
            )
        for effect in moves:
            self._move(effect)
        for (
            effect
        ) in moves:  # of a bundle when all of it is in force: the order of its members says nothing
            if isinstance(effect.body, StandingBody):
                self._signed_for[effect.digest] = self._named_by(effect.body)

    def _named_by(self, body: StandingBody) -> SignedFor:
        upstream = self.upstreams.get(body.upstream)
        known = {
            name: self.publishers[name][1] for name in body.publishers if name in self.publishers
        }
        return SignedFor(upstream[1] if upstream else None, known)

    def _move(self, effect: Effect) -> None:
        digest, body, heads = effect.digest, effect.body, self.heads
        self._moved[effect.kind, digest] = effect
        if isinstance(body, RosterBody | OriginBody):
            self.sites[digest] = (
                (body.origin, body.rp_id) if isinstance(body, OriginBody) else self.site
            )
            self.rosters[digest] = body.roster
            self.heads = Heads(digest, heads.policy, heads.revocation)
        elif isinstance(body, PolicyBody):
            self.policies[digest] = body.policy
            self.heads = Heads(heads.roster, digest, heads.revocation)
        elif isinstance(body, UpstreamBody):
            self.upstreams[body.name] = (digest, body)
        elif isinstance(body, PublisherBody):
            self.publishers[body.name] = (digest, body)
        elif isinstance(body, DelegationBody):
            self.delegations[body.name] = (digest, body)
        elif isinstance(body, StandingBody):
            self.standings[body.name] = (digest, body)
        elif isinstance(body, LogBody):
            self.logs[""] = (digest, body)
        else:
            self.signers[body.name] = (digest, body)

    def verify_recovery(self, statement: Statement, approvals: Iterable[Approval]) -> None:
        """The offline recovery key's signature under a roster statement that says so."""
        self.check_belongs(statement)
        statement.body_as(RosterBody)
        public = bytes.fromhex(self.body.recovery_key)
        for approval in approvals:
            if approval.form == "recovery" and approval.key == sha256_hex(public):
                try:
                    message = signed_message(statement.to_bytes())
                    return Ed25519PublicKey.from_public_bytes(public).verify(
                        approval.signature, message
                    )
                except InvalidSignature:
                    break
        raise Refusal(
            Code.APPROVAL_INVALID, "The recovery key's signature is missing or does not verify."
        )

    def _verify(self, data: bytes, approval: Approval, site: tuple[str, str]) -> Signed:
        key = self._key(approval.key)
        return verify_approval(data, approval, key, origin=site[0], rp_id=site[1])

    def _key(self, key_id: str) -> Key:
        return self.enrolled(key_id)[0]

    def enrolled(self, key_id: str) -> tuple[Key, str]:
        """A key that is or was in a roster, and whose (a person's id); refuses with `approval.unknown-key`."""
        for roster in (self.roster, *self.rosters.values()):
            key, owner = roster.key(key_id), roster.owner(key_id)
            if key is not None and owner is not None:
                return key, owner.id
        raise Refusal(Code.APPROVAL_KEY_UNKNOWN, f"Key {key_id[:16]} was never enrolled here.")

    def _electorates(
        self, statement: Statement, circumstances: quorum.Circumstances
    ) -> tuple[quorum.Electorate, ...]:
        policies = {self.policies[statement.heads.policy], self.policy}
        return tuple(
            self.electorate(statement, policy, circumstances)
            for policy in sorted(policies, key=repr)
        )


#: Chains of which a proof needs every statement; of the others, those alone by which the release was asked for.
_WHOLE = frozenset({Kind.ROSTER, Kind.POLICY, Kind.UPSTREAM, Kind.SIGNER, Kind.LOG})


def needed_for(admitted: Sequence[Statement], chains: Collection[str]) -> list[Statement]:
    """Those of these statements (in order, after genesis) that show how `chains` came about, with roster, policy,
    upstreams, signers and the log. A bundle among them needs what each of its members builds on, also where that is
    about other chains.
    """
    wanted, found = set(chains), []
    for statement in reversed(admitted):
        moves = effects(statement)
        if any(one.kind in _WHOLE or one.chain in wanted for one in moves):
            wanted.update(one.chain for one in moves)
            found.append(statement)
    return found[::-1]


def _by_recovery_key(approvals: tuple[Approval, ...]) -> bool:
    return len(approvals) == 1 and approvals[0].form == "recovery"


def veto_of(statement: Statement) -> Statement:
    """The statement that a veto of this one signs."""
    return statement.with_intent(Intent.VETO)
