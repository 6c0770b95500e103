"""What the gateway can say about releases and requests: the values behind the pages and the JSON of the API.

All of it is for people to look at. Nothing that is computed here decides anything; the press counts for itself.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from presspass.core import quorum
from presspass.core.approval import Approval, Signed, approval_id
from presspass.core.effects import effects
from presspass.core.errors import Code, Refusal
from presspass.core.lifecycle import SETTLED, State
from presspass.core.limits import CONSOLE_PLAN_DIFFERENCES_MAX
from presspass.core.plan import PlanBody
from presspass.core.quorum import ORDINARY, Circumstances, Tally
from presspass.core.statement import (
    ChainedBody,
    FreezeBody,
    Intent,
    ReleaseBody,
    ReleaseFile,
    Statement,
)
from presspass.core.versioning import unusual
from presspass.gateway import (
    activity,
    asking,
    history,
    identities,
    in_force,
    listing,
    people,
    plans,
    requests,
    standings,
    stops,
    tokens,
)
from presspass.gateway.console import differences
from presspass.gateway.console.models import (
    Activity,
    Ballot,
    History,
    Identities,
    InForce,
    Overview,
    Packages,
    PlanFacts,
    PlannedFacts,
    ReleaseFacts,
    ReleaseLine,
    RequestFacts,
    RequestLine,
    SignatureFacts,
    Situation,
    StandingFacts,
    Viewer,
)
from presspass.gateway.console.text import told
from presspass.gateway.gate import Gate
from presspass.gateway.identity import sessions
from presspass.gateway.identity.roles import SEE_EVERYTHING, Role
from presspass.gateway.journal import Rules
from presspass.gateway.requests import Request
from presspass.store import journal_view
from presspass.store.gateway_tables import APPROVAL, RELEASE, RELEASE_FILE, REQUEST, REVIEW
from presspass.store.journal_tables import NARROWING
from presspass.store.journal_view import Decision, Narrowing, StandingUse
from presspass.verify.approvals import verify_approval
from presspass.verify.chain import Chain
from presspass.verify.history import Words

_OVERVIEW_MAX = 500
#: States of the press's decision on a release or request from which nothing follows any more.
_FINAL = frozenset({"verified", "failed", "admitted", "rejected", "expired", "stale"})
_SETTLED = frozenset({"admitted", "rejected", "expired", "stale"})


@dataclass(frozen=True, slots=True)
class Received:
    """A signature as it is stored."""

    approval: Approval
    received_ms: int
    note: str = ""


class Facts:
    """Answers for the console (its `Deps`) and for the API. Every method only reads; any thread may call it."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self._severities = listing.Severities()
        self._gists = plans.Gists()

    @property
    def origin(self) -> str:
        """The exact origin of the console."""
        return self._gate.site[0]

    @property
    def next_origin(self) -> str:
        """Where keys may be enrolled for a move of the gate."""
        return self._gate.next_origin

    def situation(self) -> Situation:
        """What holds now, for the banners."""
        rules = self._gate.journal.now()
        return Situation(
            sealed=rules.sealed,
            narrowings=rules.narrowings,
            software_keys=rules.policy.software_keys,
            zones_separated=self._gate.zones_separated,
            names=self.names(),
        )

    def release(self, release_id: str) -> ReleaseFacts | None:
        """The release with this capability, or None."""
        rules = self._gate.journal.now()
        with self._gate.writer.read() as connection:
            row = connection.execute(sa.select(RELEASE).where(RELEASE.c.id == release_id)).first()
            if row is None:
                return None
            request = requests.find(connection, row.statement) if row.statement else None
            ballot = self._ballot(connection, rules, request) if request else None
            upstream = rules.upstreams.get(row.upstream)
            code, reason = self.word_on_release(connection, row)
            body = request.statement.body if request else None
            asked = body if isinstance(body, ReleaseBody) else None
            return ReleaseFacts(
                id=row.id,
                upstream=row.upstream,
                project=row.project,
                version=row.version,
                requester=row.requester,
                state=State(row.state),
                opened_ms=row.opened_ms,
                files=files_of(connection, row.id),
                code=code,
                reason=reason,
                upstream_body=upstream[1] if upstream else None,
                report=report_of(connection, row.review),
                ballot=ballot,
                proofs=self.proofs(row.statement) if request else (),
                asker=asking.asker(self._gate, connection, row, asked),
                note=row.note,
                use=self._use(row.statement) if request else None,
                to_be_read=request is not None and self._gate.journal.is_to_be_read(row.statement),
            )

    def request(self, digest: str) -> RequestFacts | None:
        """The request with this digest; None when there is none, when it is a release's, or before genesis."""
        rules = self._gate.journal.now()
        with self._gate.writer.read() as connection:
            request = requests.find(connection, digest)
            if request is None or request.release is not None:
                return None
            facts = self._request_facts(connection, rules, request)
            body = request.statement.body
            if facts is None or not isinstance(body, PlanBody):
                return facts
            return replace(facts, plan=self._plan(connection, rules, body))

    def overview(self) -> Overview:
        """What waits, what runs, what went out; the newest first. What waits is never left out for what does not."""
        rules, situation = self._gate.journal.now(), self.situation()
        with self._gate.writer.read() as connection:
            releases, left_out = listing.listed(connection, self._severities, _OVERVIEW_MAX)
            asked = connection.execute(
                sa.select(REQUEST)
                .where(REQUEST.c.release.is_(None))
                .order_by(REQUEST.c.created_ms.desc())
                .limit(_OVERVIEW_MAX)
            ).all()
            lines = (
                self._request_line(connection, rules, requests.read(r), situation) for r in asked
            )
            published = self._published(row.project for row in releases if _waits(row))
            return Overview(
                tuple(self._release_line(connection, rules, row, published) for row in releases),
                tuple(line for line in lines if line is not None),
                standings.to_be_read(self._gate, connection),
                left_out,
            )

    def viewer(self, secret: str) -> Viewer | None:
        """Who is signed in by this session secret, now."""
        session = sessions.find(self._gate, secret) if secret else None
        if session is None:
            return None
        with self._gate.writer.read() as connection:
            known = people.known_people(self._gate, connection).get(session.person)
        return Viewer(
            person=session.person,
            name=known.name if known else session.person,
            how=session.how,
            roles=tuple(sorted(session.roles)),
            until_ms=session.expires_ms,
            sees_everything=bool(session.roles & SEE_EVERYTHING),
            may_ask=Role.ADMIN in session.roles,
        )

    def packages(self, begins: str, after: str) -> Packages:
        """A page of packages by name."""
        return in_force.packages(self._gate, begins, after)

    def versions(self, upstream: str, project: str) -> tuple[ReleaseLine, ...]:
        """The sets of one package, the newest first."""
        return in_force.versions(self._gate, upstream, project)

    def activity(self) -> Activity:
        """What went on in the last days."""
        return activity.activity(self._gate)

    def in_force(self) -> InForce | None:
        """What people have put in force; None before genesis."""
        return in_force.in_force(self._gate)

    def identities(self) -> Identities | None:
        """What can be revoked; None before genesis."""
        return identities.identities(self._gate)

    def standings(self) -> tuple[StandingFacts, ...]:
        """Every standing approval, with what has passed under it."""
        return standings.standings(self._gate)

    def _use(self, statement: str) -> StandingUse | None:
        """How this release passed under a standing approval."""
        rules = self._gate.journal.rules
        if rules.chain is None or not rules.chain.standings:
            return None
        return self._gate.journal.read(lambda c: journal_view.standing_use(c, statement))

    def history(self, words: Words, further: str) -> History:
        """What the press has carried out, by these words."""
        return history.shown(self._gate, words, further, self.names())

    def names(self) -> dict[str, str]:
        """People's names by their ids, as far as known."""
        with self._gate.writer.read() as connection:
            known = people.known_people(self._gate, connection)
        return {person: details.name for person, details in known.items()}

    def view_token_until(self, token: str) -> int | None:
        """Until when (ms) this view token lets its holder look; None when it is unknown or over."""
        with self._gate.writer.read() as connection:
            return tokens.view_token_until(connection, token, self._gate.clock())

    def proofs(self, statement: str) -> tuple[str, ...]:
        """Names of the files of a release for which the press has written a proof."""
        if not self._gate.journal.rules.sealed:
            return ()
        return tuple(self._gate.journal.read(lambda c: journal_view.proof_names(c, statement)))

    def decision(self, statement: str) -> Decision | None:
        """What the press thinks of a statement."""
        if not self._gate.journal.rules.sealed:
            return None
        return self._gate.journal.read(lambda c: journal_view.decisions(c, [statement])).get(
            statement
        )

    def open_requests(self) -> list[RequestLine]:
        """Requests for other things than releases that nobody has decided, the newest first."""
        return [one for one in self.overview().requests if not one.settled]

    def word_on(
        self, connection: Connection, request: Request, decision: Decision | None
    ) -> tuple[str, str]:
        """(code, reason) of where a request stands: who vetoed it, what the press waits for, why it ended."""
        code, reason = (decision.code, decision.message) if decision else ("", "")
        ended = decision is not None and decision.state in _FINAL
        if code == Code.VETOED.value or not ended:
            vetoed = self._veto_words(connection, request, ended=ended)
            if vetoed:
                return Code.VETOED.value, vetoed
        return code, told(reason)

    def is_open(self, connection: Connection, request: Request) -> bool:
        """Whether a request still waits: for the press, for signatures, or for its time to come."""
        decision = self.decision(request.digest)
        if decision is not None and decision.state in _FINAL:
            return False
        return self.word_on(connection, request, decision)[0] != Code.VETOED.value

    def word_on_release(self, connection: Connection, row: sa.Row[Any]) -> tuple[str, str]:
        """(code, reason) of where a release stands, by its row."""
        request = requests.find(connection, row.statement) if row.statement else None
        settled = State(row.state) in SETTLED
        if request is None or (settled and row.code != Code.VETOED.value):
            return row.code, told(row.reason)
        code, reason = self.word_on(connection, request, self.decision(request.digest))
        # That people have yet to sign is no reason to say anything.
        return (
            (row.code, told(row.reason))
            if code in ("", Code.QUORUM_MISSING.value)
            else (code, reason)
        )

    def _veto_words(self, connection: Connection, request: Request, *, ended: bool) -> str:
        """Who vetoed it, and what was said with it; "" where nobody has."""
        rules = self._gate.journal.rules
        twins = (request.digest, request.veto_digest)
        signed = [
            one
            for one in received_for(connection, request)
            if one.approval.statement == request.veto_digest
        ]
        latched = [one for one in rules.narrowings if one.what == "veto" and one.target in twins]
        if not signed and not latched:
            return ""
        by = latched[0].by if latched else ""
        if signed and rules.chain:
            rosters = (rules.roster, *rules.chain.rosters.values())
            owners = (one.owner(signed[0].approval.key) for one in rosters)
            by = next((owner.id for owner in owners if owner), by)
        known = people.known_people(self._gate, connection)
        name = known[by].name if by in known else by or "Somebody"
        note = signed[0].note if signed else latched[0].reason
        words = f"{name} vetoed it: “{note}”" if note else f"{name} vetoed it"
        return f"{words}." if ended else f"{words}. The press ends it when it sees that."

    def count(self, connection: Connection, rules: Rules, request: Request) -> Tally | None:
        """The count under a request as things stand, without what was revoked; None before genesis."""
        around, revoked = self.around(connection, request)
        received, planned = self._given(connection, request)
        given = [one.approval for one in received if _id(one.approval) not in revoked]
        return tally(rules, request.statement, given, around, planned)

    def _given(
        self, connection: Connection, request: Request
    ) -> tuple[list[Received], list[Statement]]:
        """The signatures under a request, then those under the plans that name it; and these plans."""
        received = received_for(connection, request)
        if request.release is None:
            return received, []
        planned = plans.signed_plans(connection, request.digest, self._gate.clock() // 1000)
        for plan in planned:
            received += [
                one
                for one in received_under(connection, plan.digest)
                if one.approval.statement == plan.digest
            ]
        return received, planned

    def around(
        self, connection: Connection, request: Request
    ) -> tuple[Circumstances, frozenset[str]]:
        """What counts beside the signatures, and which of them were revoked: as the press has it, and what was signed
        at this gate since, which the press is about to latch.
        """
        rules = self._gate.journal.rules
        around = self._gate.journal.circumstances(request.statement)
        body = request.statement.body
        if (
            isinstance(body, ReleaseBody) and not around.risk
        ):  # the press looks once enough could have signed
            around = replace(
                around, risk=self._severities.of(connection, [body.review])[body.review]
            )
        mine = ("approval", "person")
        found = stops.standing(connection, rules.narrowings, rules.cleared, mine)
        gone = {one.target for one in found if one.what == "person"}
        revoked = {one.target for one in found if one.what == "approval"}
        return replace(around, suspended=around.suspended | gone), frozenset(revoked)

    # parts

    def _request_facts(
        self, connection: Connection, rules: Rules, request: Request
    ) -> RequestFacts | None:
        ballot = self._ballot(connection, rules, request)
        if ballot is None or rules.chain is None:
            return None
        decision, statement, body = ballot.decision, request.statement, request.statement.body
        code, message = self.word_on(connection, request, decision)
        return RequestFacts(
            digest=request.digest,
            ballot=ballot,
            state=decision.state if decision else "",
            code=code,
            message=message,
            before=_before(rules.chain, statement, decision),
            narrowings=self._narrowings(body.narrowings) if isinstance(body, FreezeBody) else (),
        )

    def _plan(self, connection: Connection, rules: Rules, body: PlanBody) -> PlanFacts:
        """How each release of a plan stands, and the reports of those whose difference is shown."""
        found = []
        for row in plans.rows_of(connection, body):
            request = requests.find(connection, row.digest)
            if request is not None and isinstance(request.statement.body, ReleaseBody):
                found.append(self._planned(connection, rules, row, request))
        groups, _ = plans.arrange(found)
        samples = {}
        for group in groups[:CONSOLE_PLAN_DIFFERENCES_MAX]:
            report = report_of(connection, group[0].gist.review)
            if report is not None and group[0].gist.alike:
                samples[group[0].release] = report
        return PlanFacts(tuple(found), body.order, len(body.releases) - len(found), samples)

    def _planned(
        self, connection: Connection, rules: Rules, row: sa.Row[Any], request: Request
    ) -> PlannedFacts:
        body = request.statement.body_as(ReleaseBody)
        state, counts = State(row.state), row.statement == request.digest
        count = self.count(connection, rules, request) if state is State.AWAITING else None
        return PlannedFacts(
            release=row.id,
            digest=request.digest,
            project=body.project,
            version=body.version,
            upstream=row.upstream,
            requester=body.requester,
            state=state,
            needed=count.needed if count else 0,
            counted=len(count.counted) if count else 0,
            reached=count.reached if count else False,
            gist=self._gists.of(connection, body),
            workflow_changed=plans.workflow_changed(self._gate, rules, body),
            code=row.code,
            reason=told(row.reason)
            if counts
            else "It was inspected anew; this plan names it no more.",
        )

    def _narrowings(self, ids: Sequence[str]) -> tuple[Narrowing, ...]:
        """These narrowings, also where they have ended."""
        n = NARROWING.c
        query = sa.select(n.id, n.what, n.target, n.by, n.reason, n.source, n.seen_ms)
        rows = self._gate.journal.read(lambda c: c.execute(query.where(n.id.in_(ids))).all())
        return tuple(Narrowing(**row._mapping) for row in rows)

    def _ballot(self, connection: Connection, rules: Rules, request: Request) -> Ballot | None:
        received, planned = self._given(connection, request)
        around, revoked = self.around(connection, request)
        standing = [one.approval for one in received if _id(one.approval) not in revoked]
        count = tally(rules, request.statement, standing, around, planned)
        if count is None or rules.chain is None:
            return None
        electorate = rules.chain.electorate(request.statement, rules.chain.policy, around)
        return Ballot(
            statement=request.statement.to_bytes(),
            electorate=electorate,
            tally=count,
            signatures=tuple(_signature(request, one, revoked) for one in received),
            decision=self.decision(request.digest),
        )

    def _published(self, projects: Iterable[str]) -> dict[tuple[str, str], dict[str, int]]:
        """When the press had published what of these, by (upstream, project)."""
        wanted = frozenset(projects)
        if not wanted or not self._gate.journal.rules.sealed:
            return {}
        return self._gate.journal.read(lambda c: journal_view.published_at(c, wanted))

    def _release_line(
        self, connection: Connection, rules: Rules, row: sa.Row[Any],
        published: Mapping[tuple[str, str], Mapping[str, int]],
    ) -> ReleaseLine:  # fmt: skip
        needed = counted = 0
        worst = self._severities.of(connection, [row.review])[row.review]
        before: Mapping[str, int] | None = None
        if _waits(row):
            before = published.get((row.upstream, row.project), {})
            request, count = requests.find(connection, row.statement), None
            if request:
                count = self.count(connection, rules, request)
            if count:
                needed, counted = count.needed, len(count.counted)
        return ReleaseLine(
            row.id, row.upstream, row.project, row.version, row.requester, State(row.state),
            row.opened_ms, row.code, worst, needed, counted,
            first=before is not None and not before,
            unusual=() if before is None else unusual(row.version, before, row.opened_ms),
        )  # fmt: skip

    def _request_line(
        self, connection: Connection, rules: Rules, request: Request, situation: Situation
    ) -> RequestLine | None:
        facts = self._request_facts(connection, rules, request)
        if facts is None:
            return None
        return RequestLine(
            digest=request.digest,
            kind=request.kind,
            title=differences.view(facts, situation).headline,
            created_ms=request.created_ms,
            state=facts.state,
            settled=facts.state in _SETTLED,
            needed=facts.ballot.tally.needed,
            counted=len(facts.ballot.tally.counted),
            message=facts.message,
        )


def _before(
    chain: Chain, statement: Statement, decision: Decision | None
) -> dict[str, ChainedBody]:
    """What is in force of everything that the statement changes, by chain. What is in force because of this very
    statement is compared with what was in force before it."""
    admitted = decision is not None and decision.state == "admitted"
    found = {}
    for one in effects(statement):
        old = chain.in_force(one.kind, one.name)
        if admitted:
            old = chain.once_in_force(one.kind, one.previous or "")
        if old is not None:
            found[one.chain] = old
    return found


def tally(
    rules: Rules,
    statement: Statement,
    approvals: Sequence[Approval],
    circumstances: Circumstances = ORDINARY,
    planned: Sequence[Statement] = (),
) -> Tally | None:
    """The count over stored signatures, verified again, also of statements that are decided; None before genesis.

    Where two policies apply (the statement's and the present one) it is the stricter count. `planned`: plans under
    which some of the approvals were given.
    """
    chain = rules.chain
    if (
        chain is None
        or statement.heads.roster not in chain.rosters
        or statement.heads.policy not in chain.policies
    ):
        return None
    ended = ended_approvals(rules)
    texts = {statement.digest: statement}
    for plan in planned:
        with contextlib.suppress(Refusal):
            chain.check_plan(plan, statement)
            texts[plan.digest] = plan
    approving = [
        one
        for one in approvals
        if one.statement in texts and approval_id(one.statement, one.key) not in ended
    ]
    found = (_verified(chain, texts[one.statement], one) for one in approving)
    signed = [one for one in found if one]
    policies = (chain.policies[statement.heads.policy], chain.policy)
    counts = [
        quorum.count(chain.electorate(statement, policy, circumstances), signed)
        for policy in policies
    ]
    return max(counts, key=lambda one: (not one.reached, one.missing, one.needed))


def ended_approvals(rules: Rules) -> frozenset[str]:
    """Ids of the signatures that a stop stands against, as the press has latched them."""
    return frozenset(one.target for one in rules.narrowings if one.what == "approval")


def _verified(chain: Chain, statement: Statement, approval: Approval) -> Signed | None:
    rosters = (chain.roster, chain.rosters[statement.heads.roster])
    key = next((found for roster in rosters if (found := roster.key(approval.key))), None)
    if key is None:
        return None
    origin, rp_id = chain.sites[statement.heads.roster]
    try:
        return verify_approval(statement.to_bytes(), approval, key, origin=origin, rp_id=rp_id)
    except Refusal:
        return None


def received_for(connection: Connection, request: Request) -> list[Received]:
    """Every stored signature under a request, oldest first."""
    return received_under(connection, request.digest)


def received_under(connection: Connection, digest: str) -> list[Received]:
    """`received_for` the request with this digest."""
    query = sa.select(APPROVAL.c.approval, APPROVAL.c.received_ms, APPROVAL.c.note)
    rows = connection.execute(query.where(APPROVAL.c.request == digest).order_by(APPROVAL.c.id))
    return [Received(Approval.from_bytes(row.approval), row.received_ms, row.note) for row in rows]


def files_of(connection: Connection, release: str) -> tuple[ReleaseFile, ...]:
    """The files of a set, by name."""
    query = sa.select(RELEASE_FILE.c.filename, RELEASE_FILE.c.sha256, RELEASE_FILE.c.size)
    rows = connection.execute(
        query.where(RELEASE_FILE.c.release == release).order_by(RELEASE_FILE.c.filename)
    )
    return tuple(ReleaseFile(*row) for row in rows)


def report_of(connection: Connection, review: str | None) -> bytes | None:
    """The stored report with this digest."""
    if review is None:
        return None
    data: bytes | None = connection.execute(
        sa.select(REVIEW.c.report).where(REVIEW.c.digest == review)
    ).scalar()
    return data


def _id(approval: Approval) -> str:
    return approval_id(approval.statement, approval.key)


def _signature(request: Request, one: Received, revoked: frozenset[str]) -> SignatureFacts:
    veto = one.approval.statement == request.veto_digest
    return SignatureFacts(
        one.approval.key,
        Intent.VETO if veto else Intent.APPROVE,
        one.received_ms,
        one.note,
        revoked=_id(one.approval) in revoked,
    )


def _waits(row: sa.Row[Any]) -> bool:
    return bool(row.state == State.AWAITING.value)
