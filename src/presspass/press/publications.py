"""Approved releases on their way out: the veto window, the claim, a thread for each, and what follows from its end."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from presspass.core.approval import Approval
from presspass.core.errors import Code, Fault, Refusal
from presspass.core.plan import PlanBody
from presspass.core.statement import Kind, ReleaseBody, Statement, UpstreamBody
from presspass.press import gatekeeper, journal, publication, rulings, standing, workloads
from presspass.press.asks import Ask
from presspass.press.books import Books
from presspass.press.clock import Clock
from presspass.press.decisions import STATE_AFTER, WAITING, by_holiday, longest_window_ms
from presspass.press.inspection import Inspected, Inspection
from presspass.press.journal import Lease
from presspass.press.publication import Tools
from presspass.rules.question import Findings
from presspass.store import journal_tables as t
from presspass.store import journal_view as view
from presspass.verify.chain import Verdict

_LOG = logging.getLogger("presspass.press")
_PUBLICATIONS_MAX = 2
_RETRY_MS, _RETRY_MS_MAX = 500, 60_000
_WAITING_MS = 1_000  # how often a frozen or otherwise waiting publication is looked at again
#: What a claimed publication still waits for: its signatures are journalled, and no others are asked for.
_WAITING_CLAIMED = frozenset({Code.FROZEN, Code.CLOCK_UNTRUSTED, Code.IDENTITY_REVOKED})


@dataclass(slots=True)
class _Work:
    """A publication under way."""

    lease: Lease
    until_ms: int
    future: Future[None]


@dataclass(slots=True)
class Publications:
    """Starts what is due, a few at a time, and ends what has ended. `owner` names this press in leases."""

    books: Books
    clock: Clock
    tools: Tools
    inspection: Inspection
    owner: str = field(default_factory=lambda: secrets.token_hex(8))
    _running: dict[str, _Work] = field(default_factory=dict)
    _not_before_ms: dict[str, int] = field(default_factory=dict)
    #: Of releases that a plan holds back: how many signatures of their own they had, and whether those were enough.
    _alone: dict[str, tuple[int, bool]] = field(default_factory=dict)
    _pool: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(_PUBLICATIONS_MAX, "publication")
    )

    @property
    def busy(self) -> bool:
        """Whether a publication is under way: then its end is looked for at every turn."""
        return bool(self._running)

    def turn(self, found: Sequence[Ask], now_ms: int) -> None:
        """Ends what has ended, then starts or resumes what is due."""
        self._reap(now_ms)
        by_digest = {ask.digest: ask for ask in found}
        held = self._held_back(found)
        for decision, next_ms in self.books.read(_approved_or_publishing):
            free = (
                decision.statement not in self._running and len(self._running) < _PUBLICATIONS_MAX
            )
            if not free or now_ms < max(next_ms, self._not_before_ms.get(decision.statement, 0)):
                continue
            ask = by_digest.get(decision.statement)
            try:
                if decision.state == "approved":
                    if ask is not None and not self._is_held(ask, held, now_ms):
                        self._start_if_due(ask, decision, now_ms)
                else:
                    self._resume(decision.statement, now_ms)
            except Refusal as refusal:
                self._end_refused(decision.statement, refusal, now_ms)
            except Fault as fault:
                if not fault.retryable:
                    raise
                _LOG.warning("%s waits: %s", decision.statement[:16], fault.message)
            except Exception:
                self._set_aside(decision.statement, now_ms)

    def _set_aside(self, digest: str, now_ms: int) -> None:
        _LOG.exception("%s is set aside for a while", digest[:16])
        self._not_before_ms[digest] = now_ms + _RETRY_MS_MAX

    def _held_back(self, found: Sequence[Ask]) -> dict[str, frozenset[str]]:
        """By plan with an order, the releases that have to wait for one before them: read once for all of them."""
        plans = {plan.digest: plan.body_as(PlanBody) for ask in found for plan in ask.plans}
        return {
            digest: self.books.read(_behind, digest, body.order)
            for digest, body in plans.items()
            if body.order != "any"
        }

    def _is_held(self, ask: Ask, held: Mapping[str, frozenset[str]], now_ms: int) -> bool:
        """Whether a plan holds the release back. One that its own signatures are enough for waits for no plan: putting
        releases together, which anybody may, must not hold them up.
        """
        if not any(ask.digest in held.get(plan.digest, ()) for plan in ask.plans):
            return False
        own = sum(one.statement == ask.digest for one in ask.approvals)
        known = self._alone.get(ask.digest)
        if known is None or known[0] != own:  # counted anew only when somebody has signed
            alone = replace(ask, plans=())
            verdict = self.books.read(
                lambda c: gatekeeper.check_release(c, self.books.chain(c), alone, now_ms)
            )
            known = self._alone[ask.digest] = own, verdict.reached
        return not known[1]

    def _start_if_due(self, ask: Ask, decision: view.Decision, now_ms: int) -> None:
        verdict, counting = self.books.read(lambda c: self._check(c, ask, now_ms))
        self.books.read(lambda c: rulings.require_still(c, ask.statement, counting, now_ms))
        waited_ms = self.clock.elapsed_ms(decision.reached_ms or now_ms, now_ms)
        if waited_ms >= _veto_window_ms(verdict):
            gatekeeper.check_not_held(self.books.read(self.books.chain).policy, now_ms)
            self._start(ask, self.inspection.of(ask.statement), now_ms)

    def _check(self, connection: Connection, ask: Ask, now_ms: int) -> tuple[Verdict, Verdict]:
        """Everything but the rules, once more: the count of the signatures under the release, and of those that count
        for it, which may be those under its standing approval.
        """
        chain = self.books.chain(connection)
        verdict = gatekeeper.check_release(connection, chain, ask, now_ms)
        return verdict, standing.require(connection, chain, ask.statement, verdict, now_ms)

    def _start(self, ask: Ask, inspected: Inspected, now_ms: int) -> None:
        """Checks everything once more in the transaction that claims the intent; then the first byte may go out."""

        def work(connection: Connection) -> tuple[Lease, UpstreamBody] | None:
            chain = self.books.chain(connection)
            verdict, counting = self._check(connection, ask, now_ms)
            gatekeeper.check_not_held(chain.policy, now_ms)
            findings = Findings.of(inspected.report)
            ruling = rulings.judge(connection, ask.statement, counting, findings, now_ms)
            ruling.require()
            rulings.keep(connection, ask.statement, ruling, now_ms)
            body = ask.statement.body_as(ReleaseBody)
            if view.statement(connection, ask.digest) or journal.project_busy(
                connection, body, ask.digest
            ):
                return None
            upstream = gatekeeper.upstream_of(connection, chain, body)
            last = view.last_release(connection, upstream.name, body.project)
            if (last.statement if last else "") != inspected.baseline:
                raise Refusal(
                    Code.RELEASE_STALE,
                    "Another release of this project went out meanwhile.",
                    "Sign again.",
                )
            lease = journal.claim(
                connection, ask.statement, self.owner, now_ms, self.tools.lease_ms
            )
            if lease is None:
                return None
            workloads.claim(connection, ask.statement, now_ms)
            approvals = _to_keep(ask, verdict)
            journal.keep_statement(connection, ask.statement, approvals, now_ms)
            under = {one.statement for one in approvals}
            for plan in (one for one in ask.plans if one.digest in under):
                journal.keep_plan(connection, plan, now_ms)
            journal.decide(connection, ask.digest, "publishing", now_ms)
            journal.raise_clock_floor(connection, now_ms)
            files = [file.to_json() for file in body.files]
            self.books.enter(connection, now_ms, kind="intent", statement=ask.digest, files=files)
            return lease, upstream

        claimed = self.books.writer.run(work)
        if claimed is not None:
            self._run(claimed[0], ask.statement, claimed[1], inspected, now_ms)

    def _resume(self, digest: str, now_ms: int) -> None:
        """Goes on with a claimed publication from the press's own journal, after a crash or a failed attempt."""
        statement = self.books.read(view.statement, digest)
        if statement is None:
            raise Fault(
                "journal.damaged",
                f"The journal lacks the claimed statement {digest[:16]}.",
                retryable=False,
            )
        lease = self.books.writer.run(
            lambda c: journal.claim(c, statement, self.owner, now_ms, self.tools.lease_ms)
        )
        if lease is None:
            return
        try:
            upstream, inspected = self._check_claimed(statement, now_ms)
        except Refusal as refusal:
            self._end_refused(digest, refusal, now_ms, lease)
        except Fault as fault:
            if not fault.retryable:
                raise
            self._try_again(digest, lease, fault, now_ms)
        else:
            self._run(lease, statement, upstream, inspected, now_ms)

    def _check_claimed(self, statement: Statement, now_ms: int) -> tuple[UpstreamBody, Inspected]:
        with self.books.writer.read() as connection:
            chain = self.books.chain(connection)
            gatekeeper.check_still_wanted(connection, chain, statement, now_ms)
            upstream = gatekeeper.upstream_of(connection, chain, statement.body_as(ReleaseBody))
        return upstream, self.inspection.of(statement)

    def _run(
        self,
        lease: Lease,
        statement: Statement,
        upstream: UpstreamBody,
        inspected: Inspected,
        now_ms: int,
    ) -> None:
        future = self._pool.submit(
            publication.publish, self.tools, lease, statement, upstream, inspected.metadata
        )
        self._running[statement.digest] = _Work(lease, now_ms + self.tools.lease_ms, future)

    def _reap(self, now_ms: int) -> None:
        for digest, work in list(self._running.items()):
            if not work.future.done():
                continue
            del self._running[digest]
            try:
                work.future.result()
                _LOG.info("published %s", digest[:16])
                self._forget_old_copies(digest)
            except Refusal as refusal:
                self._end_refused(digest, refusal, now_ms, work.lease)
            except Fault as fault:
                if fault.code == "lease.lost":
                    _LOG.warning("%s: %s", digest[:16], fault.message)
                elif not fault.retryable:
                    raise
                else:
                    self._try_again(digest, work.lease, fault, now_ms)
            except (
                Exception
            ):  # what a registry can provoke in a library is that registry's trouble alone
                _LOG.exception(
                    "the publication of %s failed in a way that nobody foresaw", digest[:16]
                )
                trouble = Fault(
                    "press.internal",
                    "A fault of the press itself; its log says more.",
                    retryable=True,
                )
                self._try_again(digest, work.lease, trouble, now_ms)

    def _try_again(self, digest: str, lease: Lease, fault: Fault, now_ms: int) -> None:
        def work(connection: Connection) -> None:
            attempts = connection.execute(
                sa.select(t.INTENT.c.attempts).where(t.INTENT.c.statement == digest)
            ).scalar_one()
            delay = min(_RETRY_MS * 2 ** min(attempts, 10), _RETRY_MS_MAX)
            journal.postpone(connection, lease, now_ms + delay)
            journal.note(connection, digest, now_ms, fault.code, fault.message)

        _LOG.warning("%s is tried again: %s", digest[:16], fault.message)
        self._write_as_holder(work)

    def _end_refused(
        self, digest: str, refusal: Refusal, now_ms: int, lease: Lease | None = None
    ) -> None:
        """A refusal before the claim leaves the release unpublished; after it, the release has failed, for good.

        Only the holder of the lease ends a claimed publication; whoever has lost it has nothing more to say.
        """
        self._not_before_ms[digest] = now_ms + _WAITING_MS

        def work(connection: Connection) -> None:
            if lease is None and view.statement(connection, digest) is not None:
                return
            if refusal.code in (WAITING if lease is None else _WAITING_CLAIMED):
                if lease is not None:
                    journal.postpone(connection, lease, now_ms + _WAITING_MS)
                journal.note(connection, digest, now_ms, refusal.code.value, refusal.message)
                self.books.enter_refusal(connection, now_ms, "not-yet", digest, refusal.code.value)
                return
            if lease is not None:
                journal.finish(connection, lease, now_ms)
            state = STATE_AFTER.get(refusal.code, "rejected") if lease is None else "failed"
            if journal.decide(
                connection, digest, state, now_ms, refusal.code.value, refusal.message
            ):
                self.books.enter(
                    connection, now_ms, kind=state, statement=digest, code=refusal.code.value
                )
                self.books.tell(
                    connection, digest, f"A release was {state}", refusal.message, now_ms
                )

        _LOG.warning("%s is stopped: %s", digest[:16], refusal)
        self._write_as_holder(work)

    def _forget_old_copies(self, digest: str) -> None:
        """Keeps of a project only the copies of its last release: what the next one is compared with."""
        statement = self.books.read(view.statement, digest)
        keep = self.books.read(journal.needed_copies)
        for file in statement.body_as(ReleaseBody).files if statement else ():
            keep.add(file.sha256)
        self.tools.spool.keep_only(keep)

    def _write_as_holder(self, work: Callable[[Connection], None]) -> None:
        try:
            self.books.writer.run(work)
        except Fault as fault:
            if fault.code != "lease.lost":
                raise
            _LOG.warning("%s", fault.message)

    def renew_leases(self, now_ms: int) -> None:
        """Keeps the leases of what is under way."""
        for work in self._running.values():
            if work.until_ms - now_ms < self.tools.lease_ms // 2 and not work.future.done():
                work.until_ms = now_ms + self.tools.lease_ms
                self._renew_lease(work.lease, now_ms)

    def _renew_lease(self, lease: Lease, now_ms: int) -> None:
        try:
            self.books.writer.run(lambda c: journal.renew(c, lease, now_ms, self.tools.lease_ms))
        except Fault as fault:
            _LOG.error("%s", fault.message)

    def close(self) -> None:
        """Lets publications under way finish, then ends."""
        self._pool.shutdown(wait=True, cancel_futures=True)


def _to_keep(ask: Ask, verdict: Verdict) -> list[Approval]:
    """The signatures that verify, one of each key: where it signed the release and a plan, one that counts, if any,
    and rather that under the release itself.
    """
    given = {(one.statement, one.key): one for one in ask.approvals}
    chosen: dict[str, Approval] = {}
    for good in (True, False):
        for signed in verdict.signed:
            if good is not any(one.objection(signed) for one in verdict.electorates):
                chosen.setdefault(signed.key, given[signed.statement, signed.key])
    return list(chosen.values())


def _behind(connection: Connection, plan: str, order: str) -> frozenset[str]:
    """The releases of a plan that come after one which they wait for: in a given order after one that is on its way; in
    one that is held, after one that is not published.
    """
    found, waiting = set(), False
    for digest, state in view.planned_states(connection, plan):
        if waiting:
            found.add(digest)
        on_its_way = state in ("approved", "publishing", "published")
        waiting = waiting or (state != "verified" if order == "held" else on_its_way)
    return frozenset(found)


def _veto_window_ms(verdict: Verdict) -> int:
    """How long approvers can still stop an approved release: none where an approver's own tool has fetched and hashed
    the bytes (a security key at a terminal; never in `solo`, nor by the holiday rule)."""
    own_tool = any(verdict.key_kind(signed.key) == "security-key-ssh" for signed in verdict.signed)
    solo = any(electorate.solo for electorate in verdict.electorates)
    return 0 if own_tool and not solo and not by_holiday(verdict) else longest_window_ms(verdict)


def _approved_or_publishing(connection: Connection) -> list[tuple[view.Decision, int]]:
    """Decisions that wait for their publication, with the earliest time of the next attempt."""
    d, i = t.DECISION.c, t.INTENT.c
    rows = connection.execute(
        sa.select(t.DECISION, sa.func.coalesce(i.next_ms, 0).label("next_ms"), i.lease_until_ms)
        .join(t.INTENT, i.statement == d.statement, isouter=True)
        .where(d.state.in_(("approved", "publishing", "published")), d.kind == Kind.RELEASE.value)
        .order_by(d.reached_ms)
    )
    found = []
    for row in rows:
        values = dict(row._mapping)
        next_ms = values.pop("next_ms")
        values.pop("lease_until_ms")
        found.append((view.Decision(**values), int(next_ms)))
    return found
