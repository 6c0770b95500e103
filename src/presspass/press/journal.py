"""What the press writes into its journal. Every function works inside the caller's transaction and commits nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import sqlalchemy as sa
from packaging.utils import canonicalize_name
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.engine import Connection

from presspass.core.approval import Approval
from presspass.core.digests import canonical, sha256_hex
from presspass.core.effects import Effect, effects
from presspass.core.errors import Code, Fault, Refusal, invariant
from presspass.core.findings import Severity
from presspass.core.plan import PlanBody
from presspass.core.roster import Details
from presspass.core.statement import (
    GenesisBody,
    Intent,
    Kind,
    ReleaseBody,
    ReleaseFile,
    Statement,
)
from presspass.press.log import Log
from presspass.store import history
from presspass.store import journal_tables as t
from presspass.store import journal_view as view
from presspass.verify.chain import Chain

CLOCK_FLOOR = "clock-floor-ms"
#: States of a decision from which nothing follows any more.
FINAL = frozenset({"verified", "rejected", "expired", "failed", "admitted", "stale"})


@dataclass(frozen=True, slots=True)
class Lease:
    """The right of one press to work on one intent. `fence` grows with every claim; an older one writes no more."""

    statement: str
    owner: str
    fence: int


def insert_new(connection: Connection, table: sa.Table, **values: object) -> bool:
    """Inserts a row unless its key (or another unique column) is there already; says whether it did."""
    maker = postgresql_insert if connection.dialect.name == "postgresql" else sqlite_insert
    insert = maker(table).values(**values).on_conflict_do_nothing().returning(*table.primary_key)
    return (
        connection.execute(insert).first() is not None
    )  # a row count of an insert is not the same on both


def set_fact(connection: Connection, name: str, value: str) -> None:
    """Sets a single fact."""
    if not insert_new(connection, t.FACT, name=name, value=value):
        connection.execute(t.FACT.update().where(t.FACT.c.name == name).values(value=value))


def raise_clock_floor(connection: Connection, now_ms: int) -> None:
    """Journals the highest wall time seen, so that a restart notices a clock that was set back."""
    seen = int(view.fact(connection, CLOCK_FLOOR) or 0)
    if now_ms > seen:
        set_fact(connection, CLOCK_FLOOR, str(now_ms))


def load_chain(connection: Connection) -> Chain | None:
    """The chains as admitted; None before genesis."""
    return Chain.of(view.chained(connection))


def height(connection: Connection) -> int:
    """How many statements were admitted to the chains (genesis is one)."""
    top = connection.execute(
        sa.select(sa.func.max(t.STATEMENT.c.height)).where(
            t.STATEMENT.c.kind.not_in((Kind.RELEASE.value, Kind.PLAN.value))
        )
    ).scalar()
    return 0 if top is None else int(top) + 1


def admit(
    connection: Connection, statement: Statement, approvals: Iterable[Approval], now_ms: int
) -> None:
    """Journals an approved statement and moves every head that it moves; heads only go up (law 7).

    All of it is in the caller's transaction: where one head has moved meanwhile, none moves.
    """
    keep_statement(connection, statement, approvals, now_ms)
    for effect in effects(statement):
        _raise_head(connection, statement.genesis, effect)


def admit_genesis(
    connection: Connection, genesis: Statement, details: Iterable[Details], now_ms: int
) -> None:
    """The first statement: head of every chain. Refuses with `genesis.sealed` when there is one."""
    invariant(genesis.kind is Kind.GENESIS, "only genesis begins the chains")
    if not insert_new(connection, t.FACT, name=view.GENESIS, value=genesis.digest):
        raise Refusal(Code.GENESIS_SEALED, "This press already has its genesis.")
    keep_statement(connection, genesis, (), now_ms)
    for chain in ("roster", "policy", "revocation"):
        connection.execute(t.HEAD.insert().values(chain=chain, digest=genesis.digest, height=0))
    known = {person.details for person in genesis.body_as(GenesisBody).roster.people}
    keep_details(connection, details, known)


def keep_statement(
    connection: Connection, statement: Statement, approvals: Iterable[Approval], now_ms: int
) -> None:
    """Stores the bytes and the signatures that carried it, and by what they are asked for after the fact; a second time
    is a bug of the caller. Before its heads are moved: the policy in force is the one that it was decided under.
    """
    digest, approvals = statement.digest, tuple(approvals)
    connection.execute(
        t.STATEMENT.insert().values(
            digest=digest,
            kind=statement.kind.value,
            statement=statement.to_bytes(),
            height=height(connection),
            admitted_ms=now_ms,
        )
    )
    for approval in approvals:
        insert_new(
            connection,
            t.APPROVAL,
            statement=digest,
            key=approval.key,
            approval=approval.to_bytes(),
            seen_ms=now_ms,
        )
    policy = view.head(connection, Kind.POLICY.value) or digest  # genesis brings its own
    facets = history.facet_rows(statement, approvals, policy, now_ms)
    connection.execute(t.STATEMENT_FACET.insert(), facets)


def keep_plan(connection: Connection, plan: Statement, now_ms: int) -> None:
    """Stores a plan under which a release is claimed, once; the signatures are kept with each release."""
    insert_new(
        connection,
        t.STATEMENT,
        digest=plan.digest,
        kind=plan.kind.value,
        statement=plan.to_bytes(),
        height=height(connection),
        admitted_ms=now_ms,
    )


def keep_planned(connection: Connection, plan: Statement) -> None:
    """Journals which releases a plan names, once."""
    for position, release in enumerate(plan.body_as(PlanBody).releases):
        insert_new(connection, t.PLAN_RELEASE, plan=plan.digest, position=position, release=release)


def keep_details(connection: Connection, details: Iterable[Details], known: set[str]) -> None:
    """Keeps opened commitments of people who are in the roster; others are not the press's business."""
    for one in details:
        if one.commitment in known:
            insert_new(
                connection,
                t.PERSON_DETAILS,
                commitment=one.commitment,
                details=canonical(one.to_json()),
            )


def first_sight(connection: Connection, statement: Statement, release: str, now_ms: int) -> None:
    """Journals that the press has seen this statement; every delay starts here (law 12)."""
    insert_new(
        connection,
        t.DECISION,
        statement=statement.digest,
        kind=statement.kind.value,
        release=release,
        state="seen",
        code="",
        message="",
        first_seen_ms=now_ms,
        updated_ms=now_ms,
    )


def keep_worst(connection: Connection, statement: Statement, worst: Severity) -> None:
    """Journals what the press's own inspection has found, once; the report that is signed is the one it has made."""
    review = statement.body_as(ReleaseBody).review
    insert_new(connection, t.INSPECTED, review=review, worst=worst.value)


def decide(
    connection: Connection, digest: str, state: str, now_ms: int, code: str = "", message: str = ""
) -> bool:
    """Writes what the press thinks now; a final state is never left again. Returns whether anything changed."""
    d = t.DECISION.c
    same = sa.and_(d.state == state, d.code == code, d.message == message)
    reached = sa.func.coalesce(d.reached_ms, now_ms) if state == "approved" else d.reached_ms
    result = connection.execute(
        t.DECISION.update()
        .where(d.statement == digest, d.state.not_in(FINAL), sa.not_(same))
        .values(state=state, code=code, message=message, reached_ms=reached, updated_ms=now_ms)
    )
    return result.rowcount == 1


def note(connection: Connection, digest: str, now_ms: int, code: str, message: str) -> None:
    """Says why a release that is approved, being published or sent waits, without moving it."""
    state = connection.execute(
        sa.select(t.DECISION.c.state).where(t.DECISION.c.statement == digest)
    ).scalar()
    if state is not None:
        decide(connection, digest, state, now_ms, code, message)


def reject_stopped(
    connection: Connection, log: Log, digest: str, now_ms: int, code: Code, reason: str
) -> None:
    """A veto or revocation ends what is not yet claimed. A claimed publication ends by itself, as failed, before its
    next file.
    """
    if view.statement(connection, digest) is not None:
        return
    state = connection.execute(
        sa.select(t.DECISION.c.state).where(t.DECISION.c.statement == digest)
    ).scalar()
    if decide(connection, digest, "rejected", now_ms, code.value, reason):
        kind = "rejected" if state == "approved" else "refused"
        log_entry(connection, log, now_ms, {"kind": kind, "statement": digest, "code": code.value})


def log_entry(connection: Connection, log: Log, now_ms: int, entry: Mapping[str, object]) -> None:
    """Appends to the ledger, with space and time; nothing is logged before genesis."""
    genesis = view.genesis(connection)
    if genesis is not None:
        log.append(connection, {"space": genesis.space, "at": now_ms // 1000, **entry})


def first_time(connection: Connection, entry: Mapping[str, object]) -> bool:
    """Whether this is to be entered for the first time; asked again, it is not."""
    return insert_new(connection, t.LEDGER_ONCE, entry=sha256_hex(canonical(dict(entry))))


def needed_copies(connection: Connection) -> set[str]:
    """SHA-256 of every file whose copy the press cannot take from the gateway again later without harm: the last
    release of each project, and what is being published."""
    p, i, s = t.PUBLISHED_FILE.c, t.INTENT.c, t.STATEMENT.c
    last: dict[tuple[str, str], str] = {}
    for row in connection.execute(
        sa.select(p.upstream, p.project, p.statement).order_by(p.verified_ms)
    ):
        last[row.upstream, row.project] = row.statement
    published = connection.execute(sa.select(p.sha256, p.statement)).all()
    needed = {sha256 for sha256, statement in published if statement in set(last.values())}
    claimed = connection.execute(
        sa.select(s.statement)
        .join(t.INTENT, i.statement == s.digest)
        .where(i.finished_ms.is_(None))
    ).scalars()
    for data in claimed:
        needed.update(file.sha256 for file in Statement.from_bytes(data).body_as(ReleaseBody).files)
    return needed


def latch(
    connection: Connection,
    *,
    id: str,
    what: str,
    target: str,
    by: str,
    reason: str,
    source: str,
    now_ms: int,
) -> bool:
    """Latches a narrowing (law 8). The same one again changes nothing; only `clear` ends it."""
    return insert_new(
        connection,
        t.NARROWING,
        id=id,
        what=what,
        target=target,
        by=by,
        reason=reason[:1000],
        source=source,
        seen_ms=now_ms,
    )


def clear(connection: Connection, ids: Iterable[str], statement: str) -> None:
    """Ends narrowings, by an approved statement only. Vetoes are final, and what was latched because others have seen
    another ledger is ended by its recovery alone.
    """
    for id in ids:
        n = t.NARROWING.c
        row = connection.execute(sa.select(n.what, n.target, n.source).where(n.id == id)).first()
        if row is None or row.what == "veto":
            raise Refusal(Code.NARROWING_CANNOT_CLEAR, f"{id[:16]} is no freeze; a veto is final.")
        if tuple(row) == ("freeze", "", view.LEDGER_BEHIND):
            raise Refusal(
                Code.NARROWING_CANNOT_CLEAR,
                f"{id[:16]} stands because others have seen another ledger than this one.",
                "The ledger's recovery ends it: presspass log recover",
            )
        connection.execute(t.NARROWING.update().where(n.id == id).values(cleared_by=statement))


def recover_ledger(connection: Connection, statement: str) -> tuple[str, ...]:
    """Ends what was latched because others have seen another ledger; the ids. `statement`: the recovery's digest. What
    was signed and cosigned under the old name is forgotten: it is held against nothing under the new one.
    """
    standing = view.narrowings(connection)
    found = tuple(one.id for one in standing if one.is_ledger_behind)
    where = t.NARROWING.c.id.in_(found)
    connection.execute(t.NARROWING.update().where(where).values(cleared_by=statement))
    set_fact(connection, view.LEDGER_SEEN, "0")
    for table in (t.LEDGER_WITNESS, t.REVOCATION_HEAD):
        connection.execute(sa.delete(table))
    return found


def blocking(connection: Connection, statement: Statement) -> view.Narrowing | None:
    """The narrowing that forbids this release now, if any: a veto, which is final, before a freeze of its project, or
    of everything."""
    veto = _veto_of(connection, statement)
    if veto is not None:
        return veto
    project = statement.body_as(ReleaseBody).project
    for one in view.narrowings(connection):
        if one.what == "freeze" and (not one.target or canonicalize_name(one.target) == project):
            return one
    return None


def vetoed(connection: Connection, statement: Statement) -> bool:
    """Whether anybody has vetoed this statement, alone, with a plan that names it, or with everything that was open."""
    return _veto_of(connection, statement) is not None


def _veto_of(connection: Connection, statement: Statement) -> view.Narrowing | None:
    twins = {statement.digest, statement.with_intent(Intent.VETO).digest}
    vetoes = twins | view.plans_naming(connection, statement.digest)
    body = statement.body
    project = body.project if isinstance(body, ReleaseBody) else ""
    for one in view.narrowings(connection):
        if one.what != "veto":
            continue
        if one.target in vetoes:
            return one
        if one.denies_open_of(project) and _was_open(connection, statement, one.seen_ms):
            return one
    return None


def _was_open(connection: Connection, statement: Statement, then_ms: int) -> bool:
    """Whether this was asked for by then: by its own time, or by the press's first sight, whichever is earlier."""
    d = t.DECISION.c
    seen = sa.select(d.first_seen_ms).where(d.statement == statement.digest)
    first_ms = connection.execute(seen).scalar()
    return statement.issued_at * 1000 <= then_ms or (first_ms is not None and first_ms <= then_ms)


def project_busy(connection: Connection, body: ReleaseBody, digest: str) -> bool:
    """Whether another release of the project is being published: the next is compared with it, once it is out."""
    i, s = t.INTENT.c, t.STATEMENT.c
    rows = connection.execute(
        sa.select(s.statement)
        .join(t.INTENT, i.statement == s.digest)
        .where(i.finished_ms.is_(None), i.statement != digest)
    ).scalars()
    others = (Statement.from_bytes(data).body for data in rows)
    return any(isinstance(other, ReleaseBody) and other.project == body.project for other in others)


def claim(
    connection: Connection, statement: Statement, owner: str, now_ms: int, lease_ms: int
) -> Lease | None:
    """Claims the right to publish: journals the intent (once per statement and nonce), takes the lease if it is free.

    None while another press holds the lease. Refuses with `statement.replayed` when it was finished before.
    """
    digest = statement.digest
    i = t.INTENT.c
    insert_new(
        connection,
        t.INTENT,
        statement=digest,
        nonce=statement.nonce,
        height=height(connection) - 1,
        claimed_ms=now_ms,
        owner="",
        lease_until_ms=0,
        fence=0,
    )
    row = connection.execute(sa.select(t.INTENT).where(i.statement == digest)).first()
    if row is None or row.finished_ms is not None:
        raise Refusal(
            Code.STATEMENT_REPLAYED, "This approval was used before.", "Ask for a new one."
        )
    if row.lease_until_ms > now_ms and row.owner != owner:
        return None
    fence = row.fence + 1
    connection.execute(
        t.INTENT.update()
        .where(i.statement == digest)
        .values(
            owner=owner, lease_until_ms=now_ms + lease_ms, fence=fence, attempts=row.attempts + 1
        )
    )
    return Lease(digest, owner, fence)


def renew(connection: Connection, lease: Lease, now_ms: int, lease_ms: int) -> None:
    """Extends a lease that is still ours; Fault("lease.lost") otherwise: somebody else is at work."""
    _held(connection, lease, lease_until_ms=now_ms + lease_ms)


def postpone(connection: Connection, lease: Lease, next_ms: int) -> None:
    """Gives the lease back; the next attempt is not before `next_ms`."""
    _held(connection, lease, next_ms=next_ms, lease_until_ms=0, owner="")


def finish(connection: Connection, lease: Lease, now_ms: int) -> None:
    """Ends the intent for good."""
    _held(connection, lease, finished_ms=now_ms, lease_until_ms=0, owner="")


def keep_published(
    connection: Connection,
    upstream: str,
    statement: Statement,
    project: str,
    version: str,
    file: ReleaseFile,
    now_ms: int,
) -> None:
    """Journals that the upstream serves this file; one name has one content for ever."""
    values = {"project": project, "version": version, "sha256": file.sha256, "size": file.size}
    insert_new(
        connection,
        t.PUBLISHED_FILE,
        upstream=upstream,
        filename=file.name,
        statement=statement.digest,
        verified_ms=now_ms,
        **values,
    )


def published_digest(connection: Connection, upstream: str, filename: str) -> str | None:
    """The SHA-256 under which this name was published before, if it was."""
    p = t.PUBLISHED_FILE.c
    value: str | None = connection.execute(
        sa.select(p.sha256).where(p.upstream == upstream, p.filename == filename)
    ).scalar()
    return value


def _held(connection: Connection, lease: Lease, **values: object) -> None:
    i = t.INTENT.c
    result = connection.execute(
        t.INTENT.update()
        .where(i.statement == lease.statement, i.owner == lease.owner, i.fence == lease.fence)
        .values(**values)
    )
    if result.rowcount != 1:
        raise Fault("lease.lost", "Another press has taken over this release.", retryable=False)


def _raise_head(connection: Connection, genesis: str, effect: Effect) -> None:
    h = t.HEAD.c
    row = connection.execute(sa.select(h.digest, h.height).where(h.chain == effect.chain)).first()
    if effect.previous != (genesis if row is None else row.digest):
        raise Refusal(
            Code.STATEMENT_OLD_HEAD, f"The {effect.chain} chain has moved on.", "Ask for it again."
        )
    if row is None:
        connection.execute(
            t.HEAD.insert().values(chain=effect.chain, digest=effect.digest, height=1)
        )
        return
    connection.execute(
        t.HEAD.update()
        .where(h.chain == effect.chain)
        .values(digest=effect.digest, height=row.height + 1)
    )
