"""Questions to the press's journal, for the press itself and for those who may read it.

What a reader gets here is the press's word. The gateway shows it to people; the press never reads anybody else's.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Final

import sqlalchemy as sa
from packaging.utils import canonicalize_name
from sqlalchemy.engine import Connection

from presspass.core.approval import Approval, approval_id
from presspass.core.digests import parse_canonical
from presspass.core.effects import Effect, effects, roster_after
from presspass.core.limits import NOTICE_ATTEMPTS_MAX
from presspass.core.log import LogBody
from presspass.core.policy import Policy
from presspass.core.publisher import PublisherBody
from presspass.core.quorum import Circumstances
from presspass.core.roster import Details, Roster
from presspass.core.statement import (
    AskedBy,
    GenesisBody,
    Heads,
    Kind,
    OriginBody,
    PolicyBody,
    ReleaseBody,
    ReleaseFile,
    Statement,
    UpstreamBody,
)
from presspass.store import journal_tables as t
from presspass.store.database import Prepared

GENESIS = "genesis"
#: The jumps of the press's clock: a list of [wall time after it, how far], in milliseconds.
CLOCK_JUMPS = "clock-jumps"
#: Source of a freeze that only the recovery of the ledger ends; the fact that says how large a tree others have seen.
_OPEN: Final = "open:"
LEDGER_BEHIND: Final = "witness"
LEDGER_SEEN: Final = "ledger-seen"
_LOG: Final = Prepared(
    sa.select(t.STATEMENT.c.statement)
    .join(t.HEAD, t.HEAD.c.digest == t.STATEMENT.c.digest)
    .where(t.HEAD.c.chain == sa.bindparam("chain"))
)


@dataclass(frozen=True, slots=True)
class Decision:
    """What the press thinks of one statement. `state` as in DECISION; times in milliseconds."""

    statement: str
    kind: str
    release: str
    state: str
    code: str
    message: str
    first_seen_ms: int
    reached_ms: int | None
    updated_ms: int


@dataclass(frozen=True, slots=True)
class Narrowing:
    """One latched narrowing that nobody has cleared."""

    id: str
    what: str
    target: str
    by: str
    reason: str
    source: str
    seen_ms: int

    @property
    def is_ledger_behind(self) -> bool:
        """Whether it stands because others have seen another ledger. (Of others the source is what a gateway says.)"""
        return (self.what, self.target, self.source) == ("freeze", "", LEDGER_BEHIND)

    def denies_open_of(self, project: str) -> bool:
        """Whether it vetoes whatever was open of this project; of what is no release, "", when it vetoes everything."""
        if self.what != "veto" or not is_open_target(self.target):
            return False
        denied = self.target.removeprefix(_OPEN)
        return not denied or canonicalize_name(denied) == project


def open_target(project: str) -> str:
    """What a veto of everything open of a project ("": of all) has for a target; no digest, and no other's name."""
    return f"{_OPEN}{project}"


def is_open_target(target: str) -> bool:
    """Whether a veto with this target is of everything that was open."""
    return target.startswith(_OPEN)


@dataclass(frozen=True, slots=True)
class PublishedRelease:
    """The newest release of a project that the press published: the baseline of the next review."""

    version: str
    statement: str
    files: tuple[ReleaseFile, ...]


@dataclass(frozen=True, slots=True)
class PublishedAs:
    """A published release, as it is called. `at_ms`: when its last file was verified."""

    statement: str
    project: str
    version: str
    upstream: str
    at_ms: int


def fact(connection: Connection, name: str) -> str | None:
    """A single fact by name."""
    value: str | None = connection.execute(
        sa.select(t.FACT.c.value).where(t.FACT.c.name == name)
    ).scalar()
    return value


def statement(connection: Connection, digest: str) -> Statement | None:
    """An admitted statement by digest."""
    data = connection.execute(
        sa.select(t.STATEMENT.c.statement).where(t.STATEMENT.c.digest == digest)
    ).scalar()
    return None if data is None else _admitted(data)


def genesis(connection: Connection) -> Statement | None:
    """The genesis statement; None before it is sealed."""
    digest = fact(connection, GENESIS)
    return None if digest is None else statement(connection, digest)


def effect(connection: Connection, digest: str, kind: Kind) -> Effect | None:
    """What the admitted statement, or the member of an admitted bundle, with this digest did to its chain of `kind`."""
    found = statement(connection, digest)
    moves = effects(found) if found else _members(connection)
    return next((one for one in moves if (one.kind, one.digest) == (kind, digest)), None)


def _members(connection: Connection) -> Iterator[Effect]:
    """What the members of admitted bundles did, the newest bundle first."""
    rows = connection.execute(
        sa.select(t.STATEMENT.c.statement)
        .where(t.STATEMENT.c.kind == Kind.BUNDLE.value)
        .order_by(t.STATEMENT.c.height.desc())
    ).scalars()
    for data in rows.all():
        yield from effects(_admitted(data))


#: How many admitted statements are kept as they were read. They never change; a bundle of hundreds takes 50 ms to read.
_KEPT = 4096


@lru_cache(maxsize=_KEPT)
def _admitted(data: bytes) -> Statement:
    return Statement.from_bytes(data)


def chained(connection: Connection, up_to: int | None = None) -> list[Statement]:
    """Genesis and every statement that moved a head, in the order in which the chains grew; [] before genesis.

    `up_to`: the height of the last one.
    """
    s = t.STATEMENT.c
    kinds = [Kind.GENESIS.value, *(kind.value for kind in Statement.MOVING)]
    query = sa.select(s.statement).where(s.kind.in_(kinds)).order_by(s.height)
    rows = connection.execute(query if up_to is None else query.where(s.height <= up_to)).scalars()
    return [_admitted(data) for data in rows]


def approvals_under(connection: Connection, digest: str) -> tuple[Approval, ...]:
    """The journalled signatures under an admitted statement."""
    rows = connection.execute(
        sa.select(t.APPROVAL.c.approval)
        .where(t.APPROVAL.c.statement == digest)
        .order_by(t.APPROVAL.c.key)
    ).scalars()
    return tuple(Approval.from_bytes(data) for data in rows)


def unrevoked(connection: Connection, approvals: Iterable[Approval]) -> list[Approval]:
    """Those that nobody has revoked."""
    revoked = {one.target for one in narrowings(connection) if one.what == "approval"}
    return [one for one in approvals if approval_id(one.statement, one.key) not in revoked]


def plans_under(
    connection: Connection, digest: str, approvals: Iterable[Approval]
) -> tuple[Statement, ...]:
    """The plans, in order of their digests, under which some of a release's journalled signatures stand."""
    under = sorted({one.statement for one in approvals} - {digest})
    found = (statement(connection, one) for one in under)
    return tuple(plan for plan in found if plan is not None)


def plans_naming(connection: Connection, release: str) -> frozenset[str]:
    """Digests of the plans that name this release, of those that the press has seen."""
    p = t.PLAN_RELEASE.c
    rows = connection.execute(sa.select(p.plan).where(p.release == release)).scalars()
    return frozenset(rows)


def planned_states(connection: Connection, plan: str) -> list[tuple[str, str]]:
    """Digest and state of each release of a plan, in the plan's order; "" of what the press has not seen."""
    p, d = t.PLAN_RELEASE.c, t.DECISION.c
    rows = connection.execute(
        sa.select(p.release, sa.func.coalesce(d.state, ""))
        .join(t.DECISION, d.statement == p.release, isouter=True)
        .where(p.plan == plan)
        .order_by(p.position)
    )
    return [(release, state) for release, state in rows]


def head(connection: Connection, chain: str) -> str | None:
    """The digest at the head of `roster`, `policy`, `revocation`, `upstream:<name>`, …, as `core.effects` says."""
    digest: str | None = connection.execute(
        sa.select(t.HEAD.c.digest).where(t.HEAD.c.chain == chain)
    ).scalar()
    return digest


def heads(connection: Connection) -> Heads:
    """The three heads that every statement names. Only after genesis."""
    found = {chain: head(connection, chain) for chain in ("roster", "policy", "revocation")}
    return Heads(str(found["roster"]), str(found["policy"]), str(found["revocation"]))


def roster_at(connection: Connection, digest: str) -> Roster | None:
    """The roster that the admitted statement `digest` (genesis, roster, origin or bundle) set."""
    found = statement(connection, digest)
    return None if found is None else roster_after(found)


def policy_at(connection: Connection, digest: str) -> Policy | None:
    """The policy that the admitted statement `digest` (genesis, policy or bundle) set."""
    found = statement(connection, digest)
    bodies = (one.body for one in effects(found)) if found else ()
    return next((body.policy for body in bodies if isinstance(body, PolicyBody)), None)


def roster(connection: Connection) -> Roster:
    """The roster in force; empty before genesis."""
    digest = head(connection, "roster")
    return (digest and roster_at(connection, digest)) or Roster(())


def site(connection: Connection) -> tuple[str, str] | None:
    """The origin that keys are enrolled at now, and its RP id; None before genesis."""
    bodies = [one.body for one in chained(connection)]
    moved = [body for body in bodies if isinstance(body, GenesisBody | OriginBody)]
    return (moved[-1].origin, moved[-1].rp_id) if moved else None


def log(connection: Connection) -> LogBody | None:
    """What people have put in force of the log; None where it is as genesis says."""
    rows = _LOG.rows(connection, chain=Kind.LOG.value)
    return _admitted(rows[0][0]).body_as(LogBody) if rows else None


def log_since_ms(connection: Connection) -> int:
    """Since when the log is what it is, by the press's clock; 0 where it is as genesis says."""
    s = t.STATEMENT.c
    query = sa.select(s.admitted_ms).join(t.HEAD, t.HEAD.c.digest == s.digest)
    return int(connection.execute(query.where(t.HEAD.c.chain == Kind.LOG.value)).scalar() or 0)


def policy(connection: Connection) -> Policy:
    """The policy in force; the default before genesis."""
    digest = head(connection, "policy")
    return (digest and policy_at(connection, digest)) or Policy()


def upstreams(connection: Connection) -> dict[str, tuple[str, UpstreamBody]]:
    """Every upstream in force by name: (digest of its statement, or of the bundle's member; body)."""
    rows = connection.execute(
        sa.select(t.HEAD.c.digest).where(t.HEAD.c.chain.startswith("upstream:"))
    ).scalars()
    found = (effect(connection, digest, Kind.UPSTREAM) for digest in rows.all())
    return {
        one.name: (one.digest, one.body)
        for one in found
        if one is not None and isinstance(one.body, UpstreamBody)
    }


def decisions(connection: Connection, statements: Sequence[str]) -> dict[str, Decision]:
    """The press's decisions on these statements, as far as it has seen them."""
    rows = connection.execute(sa.select(t.DECISION).where(t.DECISION.c.statement.in_(statements)))
    return {row.statement: Decision(**row._mapping) for row in rows}


def narrowings(connection: Connection) -> list[Narrowing]:
    """Every narrowing in force, oldest first."""
    n = t.NARROWING.c
    columns = (n.id, n.what, n.target, n.by, n.reason, n.source, n.seen_ms)
    rows = connection.execute(
        sa.select(*columns).where(n.cleared_by.is_(None)).order_by(n.seen_ms, n.id)
    )
    return [Narrowing(**row._mapping) for row in rows]


def revoked_files(connection: Connection) -> dict[str, Narrowing]:
    """SHA-256 of every file that is revoked, alone or with a release that went out or began to, and by what."""
    found = {one.target: one for one in narrowings(connection) if one.what == "file"}
    releases = {one.target: one for one in narrowings(connection) if one.what == "release"}
    s = t.STATEMENT.c
    sent = sa.select(s.digest, s.statement).where(s.digest.in_(_targets("release")))
    for digest, data in connection.execute(sent):
        body = _admitted(data).body
        for file in body.files if isinstance(body, ReleaseBody) else ():
            found.setdefault(file.sha256, releases[digest])
    return found


def revoked_proofs(connection: Connection) -> tuple[str, ...]:
    """SHA-256 of every revoked file that has a proof, ascending; no other is taken for published here."""
    p = t.PROOF.c
    found = sa.union(
        sa.select(p.sha256).where(p.sha256.in_(_targets("file"))),
        sa.select(p.sha256).where(p.statement.in_(_targets("release"))),
    )
    return tuple(sorted(connection.execute(found).scalars()))


def _targets(what: str) -> sa.Select[tuple[str]]:
    n = t.NARROWING.c
    return sa.select(n.target).where(n.what == what, n.cleared_by.is_(None))


def cleared(connection: Connection) -> frozenset[str]:
    """Ids of the narrowings that a quorum has ended."""
    n = t.NARROWING.c
    return frozenset(connection.execute(sa.select(n.id).where(n.cleared_by.is_not(None))).scalars())


def rebound_workflows(connection: Connection) -> dict[str, str]:
    """By digest of the publisher's statement: SHA-256 of the workflow that an approved release bound last."""
    b = t.REBOUND.c
    rows = connection.execute(
        sa.select(b.publisher_statement, b.workflow).order_by(b.at_ms, b.release)
    )
    return {row.publisher_statement: row.workflow for row in rows}


@dataclass(frozen=True, slots=True)
class SeenWorkload:
    """A workload as the press has verified it; columns of WORKLOAD."""

    token: str
    state: str
    code: str
    message: str
    publisher: str
    publisher_statement: str
    delegation: str
    identity: str
    run: str
    workflow: str
    person: str
    set_digest: str
    version: str
    repository: str
    commit_id: str
    ref: str
    replay_key: str | None
    first_seen_ms: int
    release: str | None
    counted: int


def workload(connection: Connection, token: str) -> SeenWorkload | None:
    """What the press knows of the workload behind this token's hash; None while it has not looked."""
    row = connection.execute(sa.select(t.WORKLOAD).where(t.WORKLOAD.c.token == token)).first()
    return None if row is None else SeenWorkload(**row._mapping)


def suspended(connection: Connection) -> frozenset[str]:
    """Ids of the people who count for nothing at present."""
    return frozenset(one.target for one in narrowings(connection) if one.what == "person")


def circumstances(connection: Connection, body: object) -> Circumstances:
    """What counts beside the signatures under a statement with this body, as the press sees it now.

    A workload counts as one of the two identities when the press has verified it, its workflow is the bound one, its
    publisher is not limited, and the person behind it is the one that the statement names.
    """
    gone = suspended(connection)
    if not isinstance(body, ReleaseBody) or body.asked_by is None:
        return Circumstances(suspended=gone)
    against = reservations(connection, body, body.asked_by)
    return Circumstances(workload=not against, suspended=gone)


def around(connection: Connection, statement: Statement, now_ms: int) -> Circumstances:
    """`circumstances`, with what the press has found in the files of a release, and how long it has waited. Of what was
    claimed, how long it had waited then: what was enough is enough on.
    """
    body = statement.body
    found = circumstances(connection, body)
    if not isinstance(body, ReleaseBody):
        return found
    at_ms = claimed_ms(connection, statement.digest) or now_ms
    return replace(
        found,
        risk=worst_found(connection, body.review),
        waited_s=waited_ms(connection, statement.digest, at_ms) // 1000,
    )


def worst_found(connection: Connection, review: str) -> str:
    """The highest severity in the press's own report of this digest; "" where it has made none."""
    query = sa.select(t.INSPECTED.c.worst).where(t.INSPECTED.c.review == review)
    return connection.execute(query).scalar() or ""


def waited_ms(connection: Connection, digest: str, at_ms: int) -> int:
    """Time from the press's first sight of a statement to `at_ms`, without what its clock has skipped; 0 before it."""
    query = sa.select(t.DECISION.c.first_seen_ms).where(t.DECISION.c.statement == digest)
    seen_ms = connection.execute(query).scalar()
    if seen_ms is None:
        return 0
    jumps = json.loads(fact(connection, CLOCK_JUMPS) or "[]")
    skipped_ms = sum(int(by_ms) for jumped_ms, by_ms in jumps if seen_ms < jumped_ms <= at_ms)
    return max(0, at_ms - int(seen_ms) - skipped_ms)


def reservations(connection: Connection, body: ReleaseBody, asked: AskedBy) -> tuple[str, ...]:
    """Why the workload that asked does not count as one of the two identities; () where it does.

    "unseen" or "refused" alone; else all that holds of "limited" (its publisher), "publisher" (bound anew since),
    "statement" (the request names another workflow than the token proves), "workflow" (another than the bound one),
    "person" (the request names another than the press knows).
    """
    seen = workload(connection, asked.token)
    if seen is None or seen.state != "verified":
        return ("refused",) if seen is not None and seen.state == "refused" else ("unseen",)
    limited = any(
        one.what == "limited" and one.target == seen.publisher for one in narrowings(connection)
    )
    against = {
        "limited": limited,
        "publisher": seen.publisher_statement != asked.publisher,
        "statement": seen.workflow != asked.workflow,
        # Once claimed, the approval itself may have bound the workflow: what counted then counts on.
        "workflow": not _workflow_counts(connection, body, asked, seen),
        "person": seen.person != body.requester,
    }
    return tuple(why for why, holds in against.items() if holds)


def _workflow_counts(
    connection: Connection, body: ReleaseBody, asked: AskedBy, seen: SeenWorkload
) -> bool:
    if seen.release is not None:
        return seen.release == body.release and bool(seen.counted)
    return not workflow_changed(connection, asked)


def workflow_changed(connection: Connection, asked: AskedBy) -> bool:
    """Whether the workflow that asked is another than the one that people have bound."""
    bound = rebound_workflows(connection).get(asked.publisher)
    return asked.workflow != (_workflow_named(connection, asked) if bound is None else bound)


def _workflow_named(connection: Connection, asked: AskedBy) -> str:
    """SHA-256 of the workflow in the publisher's own statement, "" where there is none."""
    named = effect(connection, asked.publisher, Kind.PUBLISHER)
    return named.body.workflow_sha256 if named and isinstance(named.body, PublisherBody) else ""


def workflow_before(
    connection: Connection, asked: AskedBy, release_statement: str
) -> tuple[str, bool]:
    """SHA-256 of the workflow that was bound before this release went out, and whether its approval has bound another
    one. `release_statement`: the digest of the request, "" before there is one.
    """
    bound = _workflow_named(connection, asked)
    b = t.REBOUND.c
    rows = connection.execute(
        sa.select(b.release, b.workflow)
        .where(b.publisher_statement == asked.publisher)
        .order_by(b.at_ms, b.release)
    )
    for row in rows:
        if row.release == release_statement:
            return bound, True
        bound = row.workflow
    return bound, False


def delegation_used(connection: Connection, delegation: str, besides: str) -> int:
    """How many releases went out, or began to, under the delegation of this digest, the set `besides` left out."""
    w = t.WORKLOAD.c
    query = sa.select(sa.func.count()).where(
        w.delegation == delegation, w.release.is_not(None), w.release != besides
    )
    return int(connection.execute(query).scalar_one())


def rules(connection: Connection, digest: str) -> bytes | None:
    """The rule document with this digest, if a quorum has signed a policy that names it."""
    query = sa.select(t.RULES.c.document).where(t.RULES.c.digest == digest)
    data: bytes | None = connection.execute(query).scalar()
    return data


@dataclass(frozen=True, slots=True)
class Ruling:
    """What the rules were asked about a release last, and what they said; columns of RULING."""

    statement: str
    question: bytes
    document: str
    allowed: int
    rules: str
    at_ms: int


def ruling(connection: Connection, statement_digest: str) -> Ruling | None:
    """What the rules were asked about this release; None while it was not."""
    query = sa.select(t.RULING).where(t.RULING.c.statement == statement_digest)
    row = connection.execute(query).first()
    return None if row is None else Ruling(**row._mapping)


def statement_of_release(connection: Connection, release: str) -> str | None:
    """The newest statement by which the press has seen this release (the gate's id of the set)."""
    d = t.DECISION.c
    query = sa.select(d.statement).where(d.release == release).order_by(d.first_seen_ms.desc())
    return connection.execute(query.limit(1)).scalar() if release else None


def rulings(connection: Connection, after: tuple[int, str], count_max: int) -> list[Ruling]:
    """Rulings later than `after` (time in ms, statement), oldest first."""
    r = t.RULING.c
    later = sa.or_(r.at_ms > after[0], sa.and_(r.at_ms == after[0], r.statement > after[1]))
    query = sa.select(t.RULING).where(later).order_by(r.at_ms, r.statement).limit(count_max)
    return [Ruling(**row._mapping) for row in connection.execute(query)]


def released_at(
    connection: Connection, upstream: str, project: str, besides: str
) -> dict[str, int]:
    """Statement to time (ms) of every release of `project` that the press verified at `upstream`, without `besides`."""
    p = t.PUBLISHED_FILE.c
    rows = connection.execute(
        sa.select(p.statement, sa.func.max(p.verified_ms))
        .where(p.upstream == upstream, p.project == project, p.statement != besides)
        .group_by(p.statement)
    )
    return {str(statement): int(at_ms) for statement, at_ms in rows}


def claimed_ms(connection: Connection, statement_digest: str) -> int | None:
    """When the publication was claimed; None before that."""
    query = sa.select(t.INTENT.c.claimed_ms).where(t.INTENT.c.statement == statement_digest)
    return connection.execute(query).scalar()


@dataclass(frozen=True, slots=True)
class StandingUse:
    """A release that passed under a standing approval; columns of STANDING_USE."""

    statement: str
    standing: str
    name: str
    project: str
    version: str
    at_ms: int
    chosen: int
    due_ms: int | None
    read_ms: int | None
    read_by: str


def standing_use(connection: Connection, release: str) -> StandingUse | None:
    """How the release with this statement passed under a standing approval, if it did."""
    row = connection.execute(
        sa.select(t.STANDING_USE).where(t.STANDING_USE.c.statement == release)
    ).first()
    return None if row is None else StandingUse(**row._mapping)


def standing_uses(
    connection: Connection, name: str, *, since_ms: int = 0, count_max: int | None = None
) -> list[StandingUse]:
    """What has passed under the standing approval of this name, under whatever statement; the newest first."""
    u = t.STANDING_USE.c
    query = sa.select(t.STANDING_USE).where(u.name == name, u.at_ms >= since_ms)
    rows = connection.execute(query.order_by(u.at_ms.desc(), u.statement).limit(count_max))
    return [StandingUse(**row._mapping) for row in rows]


def to_be_read(connection: Connection) -> list[StandingUse]:
    """What was chosen to be read afterwards, that the press has begun to send, and nobody has read; that of which the
    time ends first comes first.
    """
    u, s = t.STANDING_USE.c, t.STATEMENT.c
    query = sa.select(t.STANDING_USE).join(t.STATEMENT, s.digest == u.statement)
    rows = connection.execute(
        query.where(u.chosen == 1, u.read_ms.is_(None)).order_by(u.due_ms, u.statement)
    )
    return [StandingUse(**row._mapping) for row in rows]


def last_release(connection: Connection, upstream: str, project: str) -> PublishedRelease | None:
    """The release of `project` that the press verified last at `upstream`, or None for a first release."""
    p = t.PUBLISHED_FILE.c
    newest = connection.execute(
        sa.select(p.statement, p.version)
        .where(p.upstream == upstream, p.project == project)
        .order_by(p.verified_ms.desc(), p.statement)
        .limit(1)
    ).first()
    if newest is None:
        return None
    rows = connection.execute(
        sa.select(p.filename, p.sha256, p.size)
        .where(p.upstream == upstream, p.project == project, p.statement == newest.statement)
        .order_by(p.filename)
    )
    return PublishedRelease(
        newest.version, newest.statement, tuple(ReleaseFile(*row) for row in rows)
    )


def published_files(
    connection: Connection, upstream: str, project: str, version: str
) -> dict[str, str]:
    """Names and SHA-256 of every file of this version that the press has published at `upstream`."""
    p = t.PUBLISHED_FILE.c
    rows = connection.execute(
        sa.select(p.filename, p.sha256).where(
            p.upstream == upstream, p.project == project, p.version == version
        )
    )
    return {str(name): str(sha256) for name, sha256 in rows}


def published_versions(connection: Connection, upstream: str, project: str) -> frozenset[str]:
    """Every version of this project of which the press has published something at `upstream`."""
    p = t.PUBLISHED_FILE.c
    rows = connection.execute(
        sa.select(p.version).distinct().where(p.upstream == upstream, p.project == project)
    )
    return frozenset(version for (version,) in rows)


def published_at(
    connection: Connection, projects: Collection[str]
) -> dict[tuple[str, str], dict[str, int]]:
    """By (upstream, project): when the press had published each version, in milliseconds; versions of these alone."""
    p = t.PUBLISHED_FILE.c
    columns = (p.upstream, p.project, p.version)
    rows = connection.execute(
        sa.select(*columns, sa.func.min(p.verified_ms).label("at_ms"))
        .where(p.project.in_(projects))
        .group_by(*columns)
    )
    found: dict[tuple[str, str], dict[str, int]] = {}
    for row in rows:
        found.setdefault((row.upstream, row.project), {})[row.version] = int(row.at_ms)
    return found


def statements_of(connection: Connection, project: str, version: str) -> list[str]:
    """The statements under which this version was published, one for each upstream and set of files."""
    p = t.PUBLISHED_FILE.c
    of_version = sa.select(p.statement).distinct().where(p.project == project, p.version == version)
    return sorted(connection.execute(of_version).scalars())


def newest_releases(connection: Connection, count_max: int) -> list[PublishedAs]:
    """What was published last, the newest first."""
    p = t.PUBLISHED_FILE.c
    at_ms = sa.func.max(p.verified_ms)
    columns = (p.statement, p.project, p.version, p.upstream)
    rows = connection.execute(
        sa.select(*columns, at_ms.label("at_ms"))
        .group_by(*columns)
        .order_by(at_ms.desc(), p.statement)
        .limit(count_max)
    )
    return [PublishedAs(**row._mapping) for row in rows]


def published_projects(connection: Connection) -> list[tuple[str, str]]:
    """(upstream, project) of everything that the press has published."""
    p = t.PUBLISHED_FILE.c
    rows = connection.execute(sa.select(p.upstream, p.project).distinct())
    return sorted((str(upstream), str(project)) for upstream, project in rows)


def person_details(connection: Connection, commitment: str) -> Details | None:
    """The opened details behind a commitment, or None (erased, or never opened to the press)."""
    data = connection.execute(
        sa.select(t.PERSON_DETAILS.c.details).where(t.PERSON_DETAILS.c.commitment == commitment)
    ).scalar()
    if data is None:
        return None
    return Details.from_json(parse_canonical(data, bytes_max=1 << 20, what="person's details"))


def proof(connection: Connection, statement_digest: str, filename: str) -> bytes | None:
    """The proof file of one published file."""
    data: bytes | None = connection.execute(
        sa.select(t.PROOF.c.proof).where(
            t.PROOF.c.statement == statement_digest, t.PROOF.c.filename == filename
        )
    ).scalar()
    return data


def proof_of_file(connection: Connection, sha256: str) -> bytes | None:
    """The newest proof of a file with this digest, under whatever name and at whatever upstream it was published."""
    p = t.PROOF.c
    newest = sa.select(p.proof).where(p.sha256 == sha256).order_by(p.made_ms.desc()).limit(1)
    data: bytes | None = connection.execute(newest).scalar()
    return data


def proof_names(connection: Connection, statement_digest: str) -> list[str]:
    """The files of a release for which a proof exists."""
    rows = connection.execute(
        sa.select(t.PROOF.c.filename)
        .where(t.PROOF.c.statement == statement_digest)
        .order_by(t.PROOF.c.filename)
    )
    return [name for (name,) in rows]


@dataclass(frozen=True, slots=True)
class Undelivered:
    """A notice that could not be delivered yet (`dead`: will not be tried again), and why."""

    address: str
    person: str
    subject: str
    error: str
    attempts: int
    dead: bool


def undelivered(connection: Connection, count_max: int) -> list[Undelivered]:
    """Notices that failed at least once and did not arrive, the dead ones first, the newest first of each."""
    n = t.NOTICE.c
    rows = connection.execute(
        sa.select(n.address, n.person, n.subject, n.error, n.attempts)
        .where(n.sent_ms.is_(None), n.attempts > 0)
        .order_by(n.attempts.desc(), n.made_ms.desc(), n.id)
        .limit(count_max)
    )
    return [Undelivered(*row, row.attempts >= NOTICE_ATTEMPTS_MAX) for row in rows]
