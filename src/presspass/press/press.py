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

import json
import logging
import secrets
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TypeVar

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from presspass.core.errors import Code, Fault, Refusal
from presspass.core.findings import Report, parse_report
from presspass.core.limits import RECOVERY_WAIT_S, REPORT_BYTES_MAX
from presspass.core.roster import Details
from presspass.core.statement import (
    FreezeBody,
    Intent,
    Kind,
    ReleaseBody,
    RosterBody,
    Statement,
    UpstreamBody,
)
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
_LOOK_BACK_MS = 3_600_000  # the gateway's clock is not ours: how far it may be set back without a request being missed
_CLOCK_JUMPS = "clock-jumps"
T = TypeVar("T")

#: Refusals after which a release can still go out, once something else has happened (another person has signed).
_WAITING = frozenset(
    {Code.FROZEN, Code.UPSTREAM_MISSING, Code.CLOCK_UNTRUSTED}
    | {code for code in Code if code.value.startswith(("approval.", "quorum."))}
) - {Code.APPROVAL_EXPIRED}
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
    _unreadable: set[str] = field(default_factory=set)
    _latched: set[str] = field(default_factory=set)
    _recovery_told: str = ""
    _jumps_kept: tuple[tuple[int, int], ...] | None = None
    _pool: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(_PUBLICATIONS_MAX, "publication")
    )
    # Notices have a thread of their own: a mail server that does not answer must not keep a narrowing waiting.
    _messenger: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1, "notices"))
    _telling: Future[int] | None = None
    _closing: threading.Event = field(default_factory=threading.Event)

    def tick(self) -> None:
        """One turn. Raises Fault only when the journal cannot be written: then the process ends and starts anew."""
        self._latch_dropped()
        found = self._look()
        self._latch_gateway(found)
        try:
            now_ms = self.clock.now_ms()
        except Refusal as refusal:
            _LOG.error("%s", refusal.message)
            return
        finally:
            self._keep_jumps()
        self._renew_leases(now_ms)
        self.desk.serve(now_ms)
        chain = self._read(journal.load_chain)
        if chain is not None:
            self._recover(now_ms)
            for ask in found:
                self._consider(ask, now_ms)
            self._publish_due(found, now_ms)
            self._deliver_notices(now_ms)

    @property
    def busy(self) -> bool:
        """Whether a publication is under way: then its end is looked for at every turn."""
        return bool(self._running)

    def close(self) -> None:
        """Lets publications under way finish, then ends."""
        self._closing.set()
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._messenger.shutdown(wait=True, cancel_futures=True)

    def _keep_jumps(self) -> None:
        """The clock's jumps outlive the process: no delay is shortened by one, nor by a restart after it."""
        if self._jumps_kept is None:
            stored = json.loads(self._read(view.fact, _CLOCK_JUMPS) or "[]")
            self._jumps_kept = tuple((int(at_ms), int(skipped_ms)) for at_ms, skipped_ms in stored)
            self.clock.jumps = self._jumps_kept + self.clock.jumps
        if self.clock.jumps != self._jumps_kept:
            jumps = self.clock.jumps
            self.tools.writer.run(lambda c: journal.set_fact(c, _CLOCK_JUMPS, json.dumps(jumps)))
            self._jumps_kept = jumps

    # -- 1. narrowings

    def _latch_dropped(self) -> None:
        for dropped in self.dropbox.look():
            self._latch(dropped, "drop box")

    def _signer(self, dropped: Dropped) -> str:
        if dropped.statement is None or dropped.approval is None:
            return ""
        chain = self._read(journal.load_chain)
        try:
            if chain is not None:
                # Whose name stands in the ledger is verified; whether to stop is not made to depend on it.
                chain.verify_narrowing(dropped.statement.to_bytes(), dropped.approval)
                owner = chain.roster.owner(dropped.approval.key)
                return owner.id if owner else ""
        except Refusal as refusal:
            _LOG.warning("a narrowing is not signed by the roster: %s", refusal.message)
        return ""

    def _latch_gateway(self, found: list[Ask]) -> None:
        for ask in found:
            twin = ask.statement.with_intent(Intent.VETO)
            for veto in ask.vetoes if twin.digest not in self._latched else ():
                self._latch(Dropped(twin.digest, "veto", ask.digest, "", twin, veto), "gateway")
        read = self._ask_gateway(lambda c: asks.read_narrowings(c, self._narrowings_after))
        narrowings, self._narrowings_after = read or ((), self._narrowings_after)
        for one in narrowings:
            body = one.statement.body
            if isinstance(body, FreezeBody) and body.action == "set":
                freeze = Dropped(
                    one.statement.digest,
                    "freeze",
                    body.project,
                    body.reason,
                    one.statement,
                    one.approval,
                )
                self._latch(freeze, "gateway")

    def _latch(self, found: Dropped, source: str) -> None:
        now_ms, by = self.clock.raw_ms(), self._signer(found)
        what, target = found.what, found.target

        def work(connection: Connection) -> bool:
            new = journal.latch(
                connection,
                id=found.id,
                what=what,
                target=target,
                by=by,
                reason=found.reason,
                source=source,
                now_ms=now_ms,
            )
            if new:
                entry = {"id": found.id, "what": what, "target": target, "by": by, "source": source}
                self._log(connection, now_ms, kind="narrowing", **entry)
                text = f"{what} of {target or 'everything'}. {found.reason}"
                self._tell(connection, found.id, f"{what}: publishing stopped", text, now_ms)
            if what == "veto":
                journal.reject_vetoed(connection, target, now_ms, found.reason or "vetoed")
            return new

        if self.tools.writer.run(work):
            _LOG.warning(
                "latched a %s of %s from the %s", what, target[:16] or "everything", source
            )
        self._latched.add(found.id)

    # -- 4. statements

    def _look(self) -> list[Ask]:
        listed = self._ask_gateway(lambda c: asks.list_asks(c, self._since_ms))
        if listed is None:
            return []
        candidates = [
            digest for digest in (*sorted(self._open), *listed) if digest not in self._unreadable
        ]
        final = self._read(_final_among, candidates)
        wanted = [digest for digest in dict.fromkeys(candidates) if digest not in final][
            : asks.ASKS_PER_LOOK
        ]
        found = self._ask_gateway(lambda c: asks.read_asks(c, wanted)) if wanted else []
        if found is None:
            return []
        self._open = {ask.digest for ask in found}
        for digest in set(wanted) - self._open:
            _LOG.warning(
                "passed over a request of the gateway that is not what its digest says: %s",
                digest[:16],
            )
            self._unreadable.add(digest)
        # What the gateway says of the future is not believed: it would hide every later request.
        newest_ms = min(max(listed.values(), default=0), self.clock.raw_ms())
        self._since_ms = max(self._since_ms, newest_ms - _LOOK_BACK_MS)
        return found

    def _ask_gateway(self, question: Callable[[Connection], T]) -> T | None:
        """The answer of the gateway's database; None while there is none. Whatever it holds stops nothing here."""
        reader = self.gateway()
        try:
            return reader.run(question) if reader is not None else None
        except Fault as fault:
            _LOG.warning("the gateway's database cannot be read just now: %s", fault.message)
            return None

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

    def _approve(
        self, connection: Connection, ask: Ask, verdict: Verdict, inspected: Inspected, now_ms: int
    ) -> None:
        body = ask.statement.body_as(ReleaseBody)
        chain = self._chain(connection)
        if journal.decide(connection, ask.digest, "approved", now_ms):
            by = list(verdict.tally.counted)
            self._log(
                connection,
                now_ms,
                kind="approved",
                statement=ask.digest,
                by=by,
                review=inspected.digest,
            )
            upstream = gatekeeper.upstream_of(connection, chain, body)
            text = notices.release_text(chain.body.origin, upstream.name, body)
            self._tell(
                connection,
                ask.digest,
                f"About to publish {body.project} {body.version}",
                text,
                now_ms,
            )

    def _still_missing(self, ask: Ask, verdict: Verdict, now_ms: int) -> None:
        try:
            verdict.require()
        except Refusal as refusal:
            code, message = refusal.code.value, refusal.message
            self.tools.writer.run(
                lambda c: journal.decide(c, ask.digest, "seen", now_ms, code, message)
            )

    def _consider_change(self, ask: Ask, now_ms: int) -> None:
        """Roster, policy, upstream, and the clearing of freezes: admitted at once when the quorum has signed."""
        statement = ask.statement
        self._first_sight(ask, now_ms)
        if statement.kind is Kind.GENESIS:
            raise Refusal(
                Code.GENESIS_SEALED, "Genesis is sealed on the press's host, not asked for."
            )
        if isinstance(statement.body, FreezeBody) and statement.body.action != "clear":
            raise Refusal(Code.STATEMENT_MALFORMED, "A freeze is a narrowing; it is not asked for.")
        verdict = self._read(lambda c: self._evaluate_change(c, statement, ask, now_ms))
        if not verdict.reached:
            self._still_missing(ask, verdict, now_ms)
            return
        if isinstance(statement.body, UpstreamBody):
            self._require_credential(ask.digest)
        details: list[Details] = []
        if isinstance(statement.body, RosterBody):
            details = self._details_of(statement.body)
        self.tools.writer.run(lambda c: self._admit(c, ask, verdict, details, now_ms))

    def _require_credential(self, digest: str) -> None:
        try:
            self.tools.vault.use(digest)
        except Fault as fault:
            hint = "Enter it on the press's host: presspass upstream add"
            raise Refusal(
                Code.UPSTREAM_MISSING, f"{fault.message} The upstream waits for it.", hint
            ) from None

    def _details_of(self, body: RosterBody) -> list[Details]:
        known = {person.details for person in body.roster.people}
        return self._ask_gateway(lambda c: asks.read_details(c, known)) or []

    def _evaluate_change(
        self, connection: Connection, statement: Statement, ask: Ask, now_ms: int
    ) -> Verdict:
        chain = self._chain(connection)
        if journal.vetoed(connection, statement):
            raise Refusal(Code.VETOED, "The change was vetoed.")
        gatekeeper.check_admissible(connection, chain, statement, now_ms)
        return chain.evaluate(statement, ask.approvals)

    def _admit(
        self,
        connection: Connection,
        ask: Ask,
        verdict: Verdict,
        details: list[Details],
        now_ms: int,
    ) -> None:
        statement = ask.statement
        counted = {signed.key for signed in verdict.signed}
        journal.admit(
            connection, statement, [one for one in ask.approvals if one.key in counted], now_ms
        )
        if isinstance(statement.body, FreezeBody):
            journal.clear(connection, statement.body.narrowings, ask.digest)
        if isinstance(statement.body, RosterBody):
            journal.keep_details(
                connection, details, {person.details for person in statement.body.roster.people}
            )
        journal.decide(connection, ask.digest, "admitted", now_ms)
        self._log(
            connection,
            now_ms,
            kind="admitted",
            statement=ask.digest,
            what=statement.kind.value,
            by=list(verdict.tally.counted),
        )
        place = f"{self._chain(connection).body.origin}/q/{ask.digest}"
        text = f"A change of {statement.kind.value} was approved.\nLook: {place}"
        self._tell(connection, ask.digest, f"{statement.kind.value} changed", text, now_ms)

    def _first_sight(self, ask: Ask, now_ms: int) -> None:
        if self._read(_decision, ask.digest) is not None:
            return

        body = ask.statement.body
        release = body.release if isinstance(body, ReleaseBody) else ""

        def work(connection: Connection) -> None:
            journal.first_sight(connection, ask.statement, release, now_ms)
            journal.raise_clock_floor(connection, now_ms)
            origin = self._chain(connection).body.origin
            place = f"{origin}/r/{release}" if release else f"{origin}/q/{ask.digest}"
            self._tell(
                connection,
                ask.digest,
                f"A {ask.statement.kind.value} waits for signatures",
                f"Look: {place}",
                now_ms,
            )

        self.tools.writer.run(work)

    def _refuse(self, statement: Statement, refusal: Refusal, now_ms: int) -> None:
        state = "seen" if refusal.code in _WAITING else _STATE_AFTER.get(refusal.code, "rejected")
        digest = statement.digest

        def work(connection: Connection) -> None:
            changed = journal.decide(
                connection, digest, state, now_ms, refusal.code.value, refusal.message
            )
            if changed and state != "seen":
                self._log(
                    connection, now_ms, kind="refused", statement=digest, code=refusal.code.value
                )

        self.tools.writer.run(work)

    def _inspect(self, ask: Ask) -> Inspected:
        body = ask.statement.body_as(ReleaseBody)
        upstream = self._read(lambda c: gatekeeper.upstream_of(c, self._chain(c), body).name)
        with self.tools.writer.read() as connection:
            inspected = inspect_release(self.inspect, self.tools.spool, connection, upstream, body)
        check_report(inspected, body, self._shown(body.review))
        return inspected

    def _shown(self, digest: str) -> Report | None:
        """The report that the gateway says it showed; only used to say *why* digests differ."""
        r = g.REVIEW.c
        query = sa.select(r.report).where(
            r.digest == digest, sa.func.length(r.report) <= REPORT_BYTES_MAX
        )
        data = self._ask_gateway(lambda c: c.execute(query).scalar())
        try:
            return parse_report(data) if isinstance(data, bytes) else None
        except Refusal:
            return None

    # -- recovery by the offline key (72 hours, everybody told, one veto ends it)

    def _recover(self, now_ms: int) -> None:
        pending = self._read(desk.pending_recovery)
        if pending is None:
            return
        statement = pending.statement
        decision = self._read(_decision, statement.digest)
        if decision is None or decision.state in journal.FINAL:
            self.tools.writer.run(lambda c: journal.set_fact(c, desk.PENDING_RECOVERY, ""))
            return

        def tell(connection: Connection) -> None:
            text = (
                "The offline recovery key asks for another roster, in force 72 hours after now.\n"
            )
            text += f"If this was not you: veto {statement.digest}"
            self._tell(connection, statement.digest, "The recovery key was used", text, now_ms)

        if self._recovery_told != statement.digest:
            self.tools.writer.run(tell)
            self._recovery_told = statement.digest
        if self.clock.elapsed_ms(pending.asked_ms, now_ms) < RECOVERY_WAIT_S * 1000:
            return
        body = statement.body_as(RosterBody)
        details = self._details_of(body)

        def work(connection: Connection) -> None:
            if journal.vetoed(connection, statement):
                raise Refusal(Code.VETOED, "The recovery was vetoed.")
            gatekeeper.check_not_restored(connection, statement)
            self._chain(connection).verify_recovery(statement, [pending.approval])
            journal.admit(connection, statement, [pending.approval], now_ms)
            journal.keep_details(
                connection, details, {person.details for person in body.roster.people}
            )
            journal.decide(connection, statement.digest, "admitted", now_ms)
            self._log(
                connection,
                now_ms,
                kind="admitted",
                statement=statement.digest,
                what="recovery",
                by=[],
            )

        try:
            self.tools.writer.run(work)
        except Refusal as refusal:
            self._refuse(statement, refusal, now_ms)

    # -- 5. publications

    def _publish_due(self, found: list[Ask], now_ms: int) -> None:
        self._reap(now_ms)
        by_digest = {ask.digest: ask for ask in found}
        for decision, next_ms in self._read(_approved_or_publishing):
            free = (
                decision.statement not in self._running and len(self._running) < _PUBLICATIONS_MAX
            )
            if not free or now_ms < max(next_ms, self._not_before_ms.get(decision.statement, 0)):
                continue
            ask = by_digest.get(decision.statement)
            try:
                if decision.state == "approved":
                    if ask is not None:
                        self._start_if_due(ask, decision, now_ms)
                else:
                    self._resume(decision.statement, now_ms)
            except Refusal as refusal:
                self._end_refused(decision.statement, refusal, now_ms)
            except Fault as fault:
                if not fault.retryable:
                    raise
                _LOG.warning("%s waits: %s", decision.statement[:16], fault.message)

    def _start_if_due(self, ask: Ask, decision: view.Decision, now_ms: int) -> None:
        verdict = self._read(lambda c: gatekeeper.check_release(c, self._chain(c), ask, now_ms))
        verdict.require()
        waited_ms = self.clock.elapsed_ms(decision.reached_ms or now_ms, now_ms)
        if waited_ms >= _veto_window_ms(verdict):
            self._start(ask, self._inspect(ask), now_ms)

    def _start(self, ask: Ask, inspected: Inspected, now_ms: int) -> None:
        """Checks everything once more in the transaction that claims the intent; then the first byte may go out."""

        def work(connection: Connection) -> tuple[Lease, UpstreamBody] | None:
            chain = self._chain(connection)
            verdict = gatekeeper.check_release(connection, chain, ask, now_ms)
            verdict.require()
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
            counted = {signed.key for signed in verdict.signed}
            journal.keep_statement(
                connection, ask.statement, [a for a in ask.approvals if a.key in counted], now_ms
            )
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
        statement = self._read(view.statement, digest)
        if statement is None:
            raise Fault(
                "journal.damaged",
                f"The journal lacks the claimed statement {digest[:16]}.",
                retryable=False,
            )
        lease = self.tools.writer.run(
            lambda c: journal.claim(c, statement, self.owner, now_ms, self.tools.lease_ms)
        )
        if lease is None:
            return
        try:
            upstream, inspected = self._check_claimed(statement)
        except Refusal as refusal:
            self._end_refused(digest, refusal, now_ms, lease)
        except Fault as fault:
            if not fault.retryable:
                raise
            self._try_again(digest, lease, fault, now_ms)
        else:
            self._run(lease, statement, upstream, inspected, now_ms)

    def _check_claimed(self, statement: Statement) -> tuple[UpstreamBody, Inspected]:
        body = statement.body_as(ReleaseBody)
        with self.tools.writer.read() as connection:
            gatekeeper.check_not_restored(connection, statement)
            gatekeeper.check_not_narrowed(connection, statement)
            upstream = gatekeeper.upstream_of(connection, self._chain(connection), body)
            return upstream, inspect_release(
                self.inspect, self.tools.spool, connection, upstream.name, body
            )

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
            except Refusal as refusal:
                self._end_refused(digest, refusal, now_ms, work.lease)
            except Fault as fault:
                if fault.code == "lease.lost":
                    _LOG.warning("%s: %s", digest[:16], fault.message)
                elif not fault.retryable:
                    raise
                else:
                    self._try_again(digest, work.lease, fault, now_ms)

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
            if refusal.code in _WAITING:
                if lease is not None:
                    journal.postpone(connection, lease, now_ms + _WAITING_MS)
                journal.note(connection, digest, now_ms, refusal.code.value, refusal.message)
                return
            if lease is not None:
                journal.finish(connection, lease, now_ms)
            state = _STATE_AFTER.get(refusal.code, "rejected") if lease is None else "failed"
            if journal.decide(
                connection, digest, state, now_ms, refusal.code.value, refusal.message
            ):
                self._log(connection, now_ms, kind=state, statement=digest, code=refusal.code.value)
                self._tell(connection, digest, f"A release was {state}", refusal.message, now_ms)

        _LOG.warning("%s is stopped: %s", digest[:16], refusal)
        self._write_as_holder(work)

    def _write_as_holder(self, work: Callable[[Connection], None]) -> None:
        try:
            self.tools.writer.run(work)
        except Fault as fault:
            if fault.code != "lease.lost":
                raise
            _LOG.warning("%s", fault.message)

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

    # -- 6. notices

    def _deliver_notices(self, now_ms: int) -> None:
        if self._telling is not None and self._telling.done():
            self._telling.result()
            self._telling = None
        if self._telling is None and not self._closing.is_set():
            self._telling = self._messenger.submit(
                notices.deliver_due, self.tools.writer, self.channels, now_ms, self._closing.is_set
            )

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
            self.tools.log.append(
                connection, {"space": genesis.space, "at": now_ms // 1000, **entry}
            )

    def _tell(
        self, connection: Connection, about: str, subject: str, body: str, now_ms: int
    ) -> None:
        notices.tell(connection, view.roster(connection), about, subject, body, now_ms)


def _decision(connection: Connection, digest: str) -> view.Decision | None:
    return view.decisions(connection, [digest]).get(digest)


def _final_among(connection: Connection, digests: list[str]) -> set[str]:
    d = t.DECISION.c
    final: set[str] = set()
    for start in range(0, len(digests), asks.ASKS_PER_LOOK):
        some = digests[start : start + asks.ASKS_PER_LOOK]
        query = sa.select(d.statement).where(d.statement.in_(some), d.state.in_(journal.FINAL))
        final.update(connection.execute(query).scalars())
    return final


def _veto_window_ms(verdict: Verdict) -> int:
    """How long approvers can still stop an approved release: the longest of the policies that count, and none where an
    approver's own tool has fetched and hashed the bytes (a security key at a terminal; never in `solo`)."""
    policies = [electorate.policy for electorate in verdict.electorates]
    own_tool = any(verdict.key_kind(signed.key) == "security-key-ssh" for signed in verdict.signed)
    if own_tool and all(policy.profile != "solo" for policy in policies):
        return 0
    return max(policy.veto_window_s for policy in policies) * 1000


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
