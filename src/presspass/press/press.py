"""The press: it looks for what it is asked, checks everything itself, and is the only one that acts.

One loop. Each turn, in this order, because stopping wins over starting:
1. narrowings: the drop box, vetoes and freezes from the gateway; latched at once, whatever the clock says;
2. time: while the clock cannot be trusted, nothing else happens;
3. orders from the press's own host (genesis, credentials, recovery);
4. statements: first sight journalled, signatures counted, chains moved, releases approved;
5. publications that are due, each in a thread of its own under a lease;
6. notices.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TypeVar

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from presspass.core.errors import Code, Fault, Refusal
from presspass.core.findings import Report, parse_report
from presspass.core.limits import RECOVERY_WAIT_S, REPORT_BYTES_MAX
from presspass.core.statement import FreezeBody, Intent, Kind, ReleaseBody, Statement, UpstreamBody
from presspass.notify import Channel
from presspass.press import asks, desk, gatekeeper, journal, notices, publication
from presspass.press.asks import Ask
from presspass.press.clock import Clock
from presspass.press.desk import Desk
from presspass.press.dropbox import DropBox, Dropped
from presspass.press.inspection import Inspect, Inspected, check_report, inspect_release
from presspass.press.journal import Lease
from presspass.press.publication import Tools
from presspass.store import gateway_tables as g
from presspass.store import journal_tables as t
from presspass.store import journal_view as view
from presspass.store.database import Reader
from presspass.verify.chain import Chain, Verdict

_LOG = logging.getLogger("presspass.press")
_PUBLICATIONS_MAX = 2
_RETRY_MS, _RETRY_MS_MAX = 500, 60_000
_WAITING_MS = 1_000  # how often a frozen or otherwise waiting publication is looked at again
_LOOK_BACK_MS = 60_000  # the gateway's clock is not ours; rows are found again by digest anyway
T = TypeVar("T")

#: Refusals after which a release can still go out, once something else has happened.
_WAITING = frozenset({Code.FROZEN, Code.UPSTREAM_MISSING, Code.QUORUM_MISSING, Code.QUORUM_TOO_FEW_PEOPLE, Code.CLOCK_UNTRUSTED})
_STATE_AFTER = {
    Code.STATEMENT_EXPIRED: "expired",
    Code.STATEMENT_OLD_HEAD: "stale",
    Code.RELEASE_STALE: "stale",
}


@dataclass(slots=True)
class _Work:
    """A publication under way."""

    lease: Lease
    until_ms: int
    future: Future[None]


@dataclass(slots=True)
class Press:
    """One press process. `tick` does one turn; everything it needs is handed in by `services.press`."""

    tools: Tools
    clock: Clock
    gateway: Callable[[], Reader | None]
    dropbox: DropBox
    desk: Desk
    inspect: Inspect
    channels: Sequence[Channel] = ()
    owner: str = field(default_factory=lambda: secrets.token_hex(8))
    _running: dict[str, _Work] = field(default_factory=dict)
    _open: set[str] = field(default_factory=set)
    _since_ms: int = 0
    _narrowings_after: int = 0
    _not_before_ms: dict[str, int] = field(default_factory=dict)
    _pool: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(_PUBLICATIONS_MAX, "publication"))

    def tick(self) -> None:
        """One turn. Raises Fault only when the journal itself cannot be written: then the process ends and starts anew."""
        self._latch_dropped()
        found = self._look()
        self._latch_gateway(found)
        try:
            now_ms = self.clock.now_ms()
        except Refusal as refusal:
            _LOG.error("%s", refusal.message)
            return
        self._renew_leases(now_ms)
        self.desk.serve(now_ms)
        chain = self._read(journal.load_chain)
        if chain is not None:
            self._recover(now_ms)
            for ask in found:
                self._consider(ask, now_ms)
            self._publish_due(found, now_ms)
            notices.deliver_due(self.tools.writer, self.channels, now_ms)

    @property
    def busy(self) -> bool:
        """Whether a publication is under way: then its end is looked for at every turn."""
        return bool(self._running)

    def close(self) -> None:
        """Lets publications under way finish, then ends."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    # -- 1. narrowings

    def _latch_dropped(self) -> None:
        for dropped in self.dropbox.look():
            signer = self._signer(dropped)
            self._latch(dropped.id, dropped.what, dropped.target, signer, dropped.reason, "drop box")

    def _signer(self, dropped: Dropped) -> str:
        if dropped.statement is None or dropped.approval is None:
            return ""
        chain = self._read(journal.load_chain)
        try:
            if chain is not None:
                chain.verify_narrowing(dropped.statement.to_bytes(), dropped.approval)
                owner = chain.roster.owner(dropped.approval.key)
                return owner.id if owner else ""
        except Refusal as refusal:
            _LOG.warning("a narrowing in the drop box is not signed by the roster: %s", refusal.message)
        return ""

    def _latch_gateway(self, found: list[Ask]) -> None:
        for ask in found:
            for veto in ask.vetoes:
                signer = self._veto_signer(ask, veto.key)
                self._latch(ask.statement.with_intent(Intent.VETO).digest, "veto", ask.digest, signer, "", "gateway")
        reader = self.gateway()
        for one in reader.run(lambda c: asks.read_narrowings(c, self._narrowings_after)) if reader else ():
            body = one.statement.body
            if isinstance(body, FreezeBody) and body.action == "set":
                signer = self._signer(
                    Dropped("", "freeze", body.project, body.reason, one.statement, one.approval)
                )
                self._latch(one.statement.digest, "freeze", body.project, signer, body.reason, "gateway")
            self._narrowings_after = max(self._narrowings_after, one.id)

    def _veto_signer(self, ask: Ask, key: str) -> str:
        chain = self._read(journal.load_chain)
        owner = chain.roster.owner(key) if chain else None
        return owner.id if owner else ""

    def _latch(self, id: str, what: str, target: str, by: str, reason: str, source: str) -> None:
        now_ms = self.clock.raw_ms()

        def work(connection: Connection) -> bool:
            new = journal.latch(
                connection, id=id, what=what, target=target, by=by, reason=reason, source=source, now_ms=now_ms
            )
            if new:
                self._log(connection, now_ms, kind="narrowing", id=id, what=what, target=target, by=by, source=source)
                self._tell(connection, id, f"{what}: publishing stopped", f"{what} of {target or 'everything'}. {reason}", now_ms)
            if what == "veto":
                journal.decide(connection, target, "rejected", now_ms, Code.VETOED.value, reason or "vetoed")
            return new

        if self.tools.writer.run(work):
            _LOG.warning("latched a %s of %s from the %s", what, target[:16] or "everything", source)

    # -- 4. statements

    def _look(self) -> list[Ask]:
        reader = self.gateway()
        if reader is None:
            return []
        try:
            found = reader.run(lambda c: asks.read_asks(c, self._since_ms, self._open))
        except Fault as fault:
            _LOG.warning("the gateway's database cannot be read just now: %s", fault.message)
            return []
        final = self._read(_final_among, [ask.digest for ask in found])
        found = [ask for ask in found if ask.digest not in final]
        self._open = {ask.digest for ask in found}
        if found:
            self._since_ms = max(self._since_ms, max(ask.created_ms for ask in found) - _LOOK_BACK_MS)
        return found

    def _consider(self, ask: Ask, now_ms: int) -> None:
        if ask.digest in self._running:
            return
        try:
            if ask.statement.kind is Kind.RELEASE:
                self._consider_release(ask, now_ms)
            else:
                self._consider_change(ask, now_ms)
        except Refusal as refusal:
            self._refuse(ask.statement, refusal, now_ms)
        except Fault as fault:
            if not fault.retryable:
                raise
            _LOG.warning("%s waits: %s", ask.digest[:16], fault.message)

    def _consider_release(self, ask: Ask, now_ms: int) -> None:
        self._first_sight(ask, now_ms)
        decision = self._read(_decision, ask.digest)
        if decision is not None and decision.state in ("approved", "publishing", "published"):
            return
        verdict = self._read(lambda c: gatekeeper.check_release(c, self._chain(c), ask, now_ms))
        if not verdict.reached:
            self._still_missing(ask, verdict, now_ms)
            return
        inspected = self._inspect(ask)
        self.tools.writer.run(lambda c: self._approve(c, ask, verdict, inspected, now_ms))

    def _approve(self, connection: Connection, ask: Ask, verdict: Verdict, inspected: Inspected, now_ms: int) -> None:
        body = ask.statement.body_as(ReleaseBody)
        chain = self._chain(connection)
        if journal.decide(connection, ask.digest, "approved", now_ms):
            by = list(verdict.tally.counted)
            self._log(connection, now_ms, kind="approved", statement=ask.digest, by=by, review=inspected.digest)
            upstream = gatekeeper.upstream_of(chain, body)
            text = notices.release_text(chain.body.origin, upstream.name, body)
            self._tell(connection, ask.digest, f"About to publish {body.project} {body.version}", text, now_ms)

    def _still_missing(self, ask: Ask, verdict: Verdict, now_ms: int) -> None:
        try:
            verdict.require()
        except Refusal as refusal:
            code, message = refusal.code.value, refusal.message
            self.tools.writer.run(lambda c: journal.decide(c, ask.digest, "seen", now_ms, code, message))

    def _consider_change(self, ask: Ask, now_ms: int) -> None:
        """Roster, policy, upstream, and the clearing of freezes: admitted at once when the quorum has signed."""
        statement = ask.statement
        self._first_sight(ask, now_ms)
        if statement.kind is Kind.GENESIS:
            raise Refusal(Code.GENESIS_SEALED, "Genesis is sealed on the press's host, not asked for.")
        if isinstance(statement.body, FreezeBody) and statement.body.action != "clear":
            raise Refusal(Code.STATEMENT_MALFORMED, "A freeze is a narrowing; it is not asked for.")
        verdict = self._read(lambda c: self._evaluate_change(c, statement, ask, now_ms))
        if not verdict.reached:
            self._still_missing(ask, verdict, now_ms)
            return
        if isinstance(statement.body, UpstreamBody):
            self.tools.vault.use(ask.digest)
        self.tools.writer.run(lambda c: self._admit(c, ask, verdict, now_ms))

    def _evaluate_change(self, connection: Connection, statement: Statement, ask: Ask, now_ms: int) -> Verdict:
        chain = self._chain(connection)
        gatekeeper.check_admissible(connection, chain, statement, now_ms)
        veto = statement.with_intent(Intent.VETO).digest
        if journal.blocking(connection, ask.digest, veto, "\n") is not None and statement.kind is not Kind.FREEZE:
            vetoed = any(one.what == "veto" and one.target in (ask.digest, veto) for one in view.narrowings(connection))
            if vetoed:
                raise Refusal(Code.VETOED, "The change was vetoed.")
        return chain.evaluate(statement, ask.approvals)

    def _admit(self, connection: Connection, ask: Ask, verdict: Verdict, now_ms: int) -> None:
        statement = ask.statement
        counted = {signed.key for signed in verdict.signed}
        journal.admit(connection, statement, [one for one in ask.approvals if one.key in counted], now_ms)
        if isinstance(statement.body, FreezeBody):
            journal.clear(connection, statement.body.narrowings, ask.digest)
        reader = self.gateway()
        if statement.kind is Kind.ROSTER and reader is not None:
            known = {person.details for person in self._chain(connection).roster.people}
            journal.keep_details(connection, reader.run(lambda c: asks.read_details(c, known)), known)
        journal.decide(connection, ask.digest, "admitted", now_ms)
        self._log(
            connection, now_ms, kind="admitted", statement=ask.digest, what=statement.kind.value, by=list(verdict.tally.counted)
        )
        text = f"A change of {statement.kind.value} was approved.\nLook: {self._chain(connection).body.origin}/q/{ask.digest}"
        self._tell(connection, ask.digest, f"{statement.kind.value} changed", text, now_ms)

    def _first_sight(self, ask: Ask, now_ms: int) -> None:
        if self._read(_decision, ask.digest) is not None:
            return

        def work(connection: Connection) -> None:
            journal.first_sight(connection, ask.statement, ask.release, now_ms)
            journal.raise_clock_floor(connection, now_ms)
            origin = self._chain(connection).body.origin
            place = f"{origin}/r/{ask.release}" if ask.statement.kind is Kind.RELEASE else f"{origin}/q/{ask.digest}"
            self._tell(connection, ask.digest, f"A {ask.statement.kind.value} waits for signatures", f"Look: {place}", now_ms)

        self.tools.writer.run(work)

    def _refuse(self, statement: Statement, refusal: Refusal, now_ms: int) -> None:
        state = "seen" if refusal.code in _WAITING else _STATE_AFTER.get(refusal.code, "rejected")
        digest = statement.digest

        def work(connection: Connection) -> None:
            changed = journal.decide(connection, digest, state, now_ms, refusal.code.value, refusal.message)
            if changed and state != "seen":
                self._log(connection, now_ms, kind="refused", statement=digest, code=refusal.code.value)

        self.tools.writer.run(work)

    def _inspect(self, ask: Ask) -> Inspected:
        body = ask.statement.body_as(ReleaseBody)
        upstream = self._read(lambda c: gatekeeper.upstream_of(self._chain(c), body).name)
        with self.tools.writer.read() as connection:
            inspected = inspect_release(self.inspect, self.tools.spool, connection, upstream, body)
        check_report(inspected, body, self._shown(body.review))
        return inspected

    def _shown(self, digest: str) -> Report | None:
        """The report that the gateway says it showed; only used to say *why* digests differ."""
        reader = self.gateway()
        r = g.REVIEW.c
        query = sa.select(r.report).where(r.digest == digest, sa.func.length(r.report) <= REPORT_BYTES_MAX)
        try:
            data = reader.run(lambda c: c.execute(query).scalar()) if reader else None
            return None if data is None else parse_report(data)
        except Refusal:
            return None

    # -- recovery by the offline key (72 hours, everybody told, one veto ends it)

    def _recover(self, now_ms: int) -> None:
        pending = self._read(desk.pending_recovery)
        if pending is None:
            return
        statement, approval = pending
        decision = self._read(_decision, statement.digest)
        if decision is None or decision.state in journal.FINAL:
            self.tools.writer.run(lambda c: journal.set_fact(c, desk.PENDING_RECOVERY, ""))
            return

        def tell(connection: Connection) -> None:
            text = f"The offline recovery key asks for another roster, in force 72 hours after now.\nIf this was not you: veto {statement.digest}"
            self._tell(connection, statement.digest, "The recovery key was used", text, now_ms)

        self.tools.writer.run(tell)
        if now_ms - decision.first_seen_ms < RECOVERY_WAIT_S * 1000:
            return

        def work(connection: Connection) -> None:
            self._chain(connection).verify_recovery(statement, [approval])
            journal.admit(connection, statement, [approval], now_ms)
            journal.decide(connection, statement.digest, "admitted", now_ms)
            self._log(connection, now_ms, kind="admitted", statement=statement.digest, what="recovery", by=[])

        try:
            self.tools.writer.run(work)
        except Refusal as refusal:
            self._refuse(statement, refusal, now_ms)

    # -- 5. publications

    def _publish_due(self, found: list[Ask], now_ms: int) -> None:
        self._reap(now_ms)
        by_digest = {ask.digest: ask for ask in found}
        for decision, next_ms in self._read(_approved_or_publishing):
            free = decision.statement not in self._running and len(self._running) < _PUBLICATIONS_MAX
            if not free or now_ms < max(next_ms, self._not_before_ms.get(decision.statement, 0)):
                continue
            ask = by_digest.get(decision.statement)
            try:
                if decision.state == "approved":
                    if ask is not None and self._window_over(ask, decision, now_ms):
                        self._start(ask, self._inspect(ask), now_ms)
                else:
                    self._resume(decision.statement, now_ms)
            except Refusal as refusal:
                self._end_refused(decision.statement, refusal, now_ms)
            except Fault as fault:
                if not fault.retryable:
                    raise
                _LOG.warning("%s waits: %s", decision.statement[:16], fault.message)

    def _window_over(self, ask: Ask, decision: view.Decision, now_ms: int) -> bool:
        """The veto window, from the journalled moment of approval; none where an approver's own tool fetched the bytes."""
        policy = self._read(view.policy)
        own_tool = any(one.form == "sshsig" for one in ask.approvals) and not policy.software_keys
        window_ms = 0 if own_tool and policy.profile != "solo" else policy.veto_window_s * 1000
        return now_ms - (decision.reached_ms or now_ms) >= window_ms

    def _start(self, ask: Ask, inspected: Inspected, now_ms: int) -> None:
        """Checks everything once more in the transaction that claims the intent; then the first byte may go out."""

        def work(connection: Connection) -> tuple[Lease, UpstreamBody] | None:
            chain = self._chain(connection)
            verdict = gatekeeper.check_release(connection, chain, ask, now_ms)
            verdict.require()
            body = ask.statement.body_as(ReleaseBody)
            upstream = gatekeeper.upstream_of(chain, body)
            last = view.last_release(connection, upstream.name, body.project)
            if (last.statement if last else "") != inspected.baseline:
                raise Refusal(Code.RELEASE_STALE, "Another release of this project went out meanwhile.", "Sign again.")
            lease = journal.claim(connection, ask.statement, self.owner, now_ms, self.tools.lease_ms)
            if lease is None:
                return None
            counted = {signed.key for signed in verdict.signed}
            journal.keep_statement(connection, ask.statement, [a for a in ask.approvals if a.key in counted], now_ms)
            journal.decide(connection, ask.digest, "publishing", now_ms)
            journal.raise_clock_floor(connection, now_ms)
            files = [file.to_json() for file in body.files]
            self._log(connection, now_ms, kind="intent", statement=ask.digest, files=files)
            return lease, upstream

        claimed = self.tools.writer.run(work)
        if claimed is not None:
            self._run(claimed[0], ask.statement, claimed[1], inspected, now_ms)

    def _resume(self, digest: str, now_ms: int) -> None:
        """Goes on with a claimed publication from the press's own journal, after a crash or a failed attempt."""

        def work(connection: Connection) -> tuple[Lease, Statement, UpstreamBody] | None:
            statement = view.statement(connection, digest)
            if statement is None:
                raise Fault("journal.damaged", f"The journal lacks the claimed statement {digest[:16]}.", retryable=False)
            gatekeeper.check_not_narrowed(connection, statement)
            upstream = gatekeeper.upstream_of(self._chain(connection), statement.body_as(ReleaseBody))
            lease = journal.claim(connection, statement, self.owner, now_ms, self.tools.lease_ms)
            return None if lease is None else (lease, statement, upstream)

        claimed = self.tools.writer.run(work)
        if claimed is None:
            return
        lease, statement, upstream = claimed
        with self.tools.writer.read() as connection:
            body = statement.body_as(ReleaseBody)
            inspected = inspect_release(self.inspect, self.tools.spool, connection, upstream.name, body)
        self._run(lease, statement, upstream, inspected, now_ms)

    def _run(self, lease: Lease, statement: Statement, upstream: UpstreamBody, inspected: Inspected, now_ms: int) -> None:
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
            except Refusal as refusal:
                self._end_refused(digest, refusal, now_ms)
            except Fault as fault:
                if fault.code == "lease.lost":
                    continue
                if not fault.retryable:
                    raise
                self._try_again(digest, work.lease, fault, now_ms)

    def _try_again(self, digest: str, lease: Lease, fault: Fault, now_ms: int) -> None:
        def work(connection: Connection) -> None:
            attempts = connection.execute(
                sa.select(t.INTENT.c.attempts).where(t.INTENT.c.statement == digest)
            ).scalar_one()
            delay = min(_RETRY_MS * 2 ** min(attempts, 10), _RETRY_MS_MAX)
            journal.postpone(connection, lease, now_ms + delay)
            journal.decide(connection, digest, "publishing", now_ms, fault.code, fault.message)

        _LOG.warning("%s is tried again: %s", digest[:16], fault.message)
        self.tools.writer.run(work)

    def _end_refused(self, digest: str, refusal: Refusal, now_ms: int) -> None:
        """A refusal before the claim leaves the release unpublished; after it, the release has failed, for good."""
        self._not_before_ms[digest] = now_ms + _WAITING_MS

        def work(connection: Connection) -> None:
            claimed = view.statement(connection, digest) is not None
            if refusal.code in _WAITING:
                journal.decide(connection, digest, "publishing" if claimed else "approved", now_ms, refusal.code.value, refusal.message)
                return
            state = "failed" if claimed else _STATE_AFTER.get(refusal.code, "rejected")
            connection.execute(
                t.INTENT.update().where(t.INTENT.c.statement == digest).values(finished_ms=now_ms, lease_until_ms=0)
            )
            if journal.decide(connection, digest, state, now_ms, refusal.code.value, refusal.message):
                self._log(connection, now_ms, kind=state, statement=digest, code=refusal.code.value)
                self._tell(connection, digest, f"A release was {state}", refusal.message, now_ms)

        _LOG.warning("%s ends: %s", digest[:16], refusal)
        self.tools.writer.run(work)

    def _renew_leases(self, now_ms: int) -> None:
        for work in self._running.values():
            if work.until_ms - now_ms < self.tools.lease_ms // 2 and not work.future.done():
                work.until_ms = now_ms + self.tools.lease_ms
                self._renew_lease(work.lease, now_ms)

    def _renew_lease(self, lease: Lease, now_ms: int) -> None:
        try:
            self.tools.writer.run(lambda c: journal.renew(c, lease, now_ms, self.tools.lease_ms))
        except Fault as fault:
            _LOG.error("%s", fault.message)

    # -- small helpers

    def _read(self, question: Callable[..., T], *arguments: object) -> T:
        with self.tools.writer.read() as connection:
            return question(connection, *arguments)

    @staticmethod
    def _chain(connection: Connection) -> Chain:
        chain = journal.load_chain(connection)
        if chain is None:
            raise Refusal(Code.GENESIS_MISSING, "Nothing is done before genesis.")
        return chain

    def _log(self, connection: Connection, now_ms: int, **entry: object) -> None:
        genesis = view.genesis(connection)
        if genesis is not None:
            self.tools.log.append(connection, {"space": genesis.space, "at": now_ms // 1000, **entry})

    def _tell(self, connection: Connection, about: str, subject: str, body: str, now_ms: int) -> None:
        notices.tell(connection, view.roster(connection), about, subject, body, now_ms)


def _decision(connection: Connection, digest: str) -> view.Decision | None:
    return view.decisions(connection, [digest]).get(digest)


def _final_among(connection: Connection, digests: list[str]) -> set[str]:
    found = view.decisions(connection, digests)
    return {digest for digest, decision in found.items() if decision.state in journal.FINAL}


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

