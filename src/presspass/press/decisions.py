"""What the press thinks of each request: first sight, the count, and what follows from it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from sqlalchemy.engine import Connection

from presspass.core import quorum
from presspass.core.approving import SEVERITIES, Approving
from presspass.core.changes import Opened
from presspass.core.effects import Effect, effects, only_takes_away, roster_after
from presspass.core.errors import Code, Fault, Refusal
from presspass.core.limits import RECOVERY_WAIT_S
from presspass.core.log import LogBody
from presspass.core.plan import PlanBody
from presspass.core.roster import Details, Roster
from presspass.core.signer import SignerBody
from presspass.core.standing import check_review
from presspass.core.statement import (
    FreezeBody,
    Kind,
    OriginBody,
    PolicyBody,
    ReleaseBody,
    RevocationBody,
    RosterBody,
    Statement,
    UpstreamBody,
)
from presspass.keystore.envelopes import Vault
from presspass.press import (
    asks,
    bounds,
    bursts,
    desk,
    gatekeeper,
    journal,
    notices,
    rulings,
    standing,
)
from presspass.press.asks import Ask
from presspass.press.books import Books
from presspass.press.clock import Clock
from presspass.press.forges import Forges
from presspass.press.inspection import Inspected, Inspection
from presspass.press.log import check_recovery
from presspass.press.log_keys import LogKeys
from presspass.press.rulings import Ruling
from presspass.press.signing import Signers
from presspass.rules.document import RuleDocument
from presspass.rules.question import Findings
from presspass.store import journal_view as view
from presspass.verify.chain import Verdict
from presspass.verify.standing import Passed

_LOG = logging.getLogger("presspass.press")
_SET_ASIDE_MS = 60_000
_NOT_LET_THROUGH_KEPT = 1000
#: Refusals after which a request can still be granted, once something else has happened (another person has signed).
WAITING = frozenset(
    {
        Code.FROZEN,
        Code.FREEZE_WINDOW,
        Code.UPSTREAM_MISSING,
        Code.CLOCK_UNTRUSTED,
        Code.IDENTITY_UNAVAILABLE,
    }
    | {Code.IDENTITY_REVOKED, Code.SIGNER_MISSING, Code.LOG_KEY_MISSING}
    | {Code.POLICY_DENIED, Code.POLICY_ERROR, Code.POLICY_RULES_MISSING}
    | {code for code in Code if code.value.startswith(("approval.", "quorum.", "standing."))}
    - {Code.STANDING_UNUSABLE}
)
_BY_HOLIDAY = (
    "Fewer people have approved it than the policy asks for: the holiday rule lets it out, "
    "{} minutes after this at the earliest."
)
STATE_AFTER = {
    Code.STATEMENT_EXPIRED: "expired",
    Code.STATEMENT_OLD_HEAD: "stale",
    Code.RELEASE_STALE: "stale",
}


@dataclass(slots=True)
class Decisions:
    """Considers one request at a time. A release that is approved here is published elsewhere (`publications`)."""

    books: Books
    clock: Clock
    vault: Vault
    signers: Signers
    log_keys: LogKeys
    inspection: Inspection
    forges: Forges
    _not_before_ms: dict[str, int] = field(default_factory=dict)
    _recovery_told: str = ""
    #: Changes whose rules were found sound, and journalled, since this press began.
    _rules_checked: set[str] = field(default_factory=set)
    #: By release: the standing approval that its review does not pass, and why. The same bytes are not read each turn.
    _not_let_through: dict[str, tuple[str, Refusal]] = field(default_factory=dict)
    #: What was last written of each plan: state, message, how many signatures.
    _plans_told: dict[str, tuple[str, str, int]] = field(default_factory=dict)

    def consider(self, ask: Ask, now_ms: int) -> None:
        """Does what follows from the signatures under this request now; nothing twice."""
        if now_ms < self._not_before_ms.get(ask.digest, 0):
            return
        try:
            if ask.statement.kind is Kind.RELEASE:
                self._consider_release(ask, now_ms)
            elif ask.statement.kind is Kind.PLAN:
                self._consider_plan(ask, now_ms)
            else:
                self._consider_change(ask, now_ms)
        except Refusal as refusal:
            self._refuse(ask.statement, refusal, now_ms)
        except Fault as fault:
            if not fault.retryable:
                raise
            _LOG.warning("%s waits: %s", ask.digest[:16], fault.message)
        except Exception:  # a fault of ours over one request must not keep the others waiting
            self._set_aside(ask.digest, now_ms)

    def _set_aside(self, digest: str, now_ms: int) -> None:
        _LOG.exception("%s is set aside for a while", digest[:16])
        self._not_before_ms[digest] = now_ms + _SET_ASIDE_MS

    def _consider_release(self, ask: Ask, now_ms: int) -> None:
        self._first_sight(ask, now_ms)
        decision = self.books.decision(ask.digest)
        if decision is not None and decision.state in ("approved", "publishing", "published"):
            return
        verdict = self.books.read(
            lambda c: gatekeeper.check_release(c, self.books.chain(c), ask, now_ms)
        )
        if not verdict.reached and would_do_without_findings(verdict):
            worst = self.inspection.of(ask.statement).report.worst
            self.books.writer.run(lambda c: journal.keep_worst(c, ask.statement, worst))
            verdict = self.books.read(
                lambda c: gatekeeper.check_release(c, self.books.chain(c), ask, now_ms)
            )
        if verdict.reached:
            found = self._inspect(ask, verdict, verdict, now_ms)
            if found is not None:
                self.books.writer.run(lambda c: self._approve(c, ask, verdict, *found, now_ms))
            return
        try:
            considered = self._consider_standing(ask, verdict, now_ms)
        except Refusal as refusal:
            if not refusal.code.value.startswith("standing."):
                raise
            self._still_missing(ask, verdict, now_ms, refusal)
        else:
            if not considered:
                self._still_missing(ask, verdict, now_ms)

    def _inspect(
        self, ask: Ask, verdict: Verdict, counting: Verdict, now_ms: int
    ) -> tuple[Inspected, Ruling] | None:
        """The press's own inspection, and what the rules say; None where they hold it. `counting`: the signatures that
        count for it.
        """
        # What was held once is asked again with the findings of then, and inspected again only once it may go out.
        if self.books.read(view.ruling, ask.digest) is not None:
            ruling = self._ruling(ask, counting, None, now_ms)
            if not ruling.allowed:
                self._held(ask, verdict, ruling, now_ms)
                return None
        inspected = self.inspection.of(ask.statement)
        ruling = self._ruling(ask, counting, Findings.of(inspected.report), now_ms)
        if not ruling.allowed:
            self._held(ask, verdict, ruling, now_ms)
            return None
        return inspected, ruling

    def _ruling(self, ask: Ask, verdict: Verdict, findings: Findings | None, now_ms: int) -> Ruling:
        return self.books.read(lambda c: rulings.judge(c, ask.statement, verdict, findings, now_ms))

    def _held(self, ask: Ask, verdict: Verdict, ruling: Ruling, now_ms: int) -> None:
        """Enough have signed, and the rules do not let it out as things stand."""
        try:
            ruling.require()
        except Refusal as refusal:
            self._waits(ask, verdict, refusal, now_ms, ruling)

    def _consider_plan(self, ask: Ask, now_ms: int) -> None:
        """A plan decides nothing: what is signed under it is counted for each of its releases, by `_consider_release`.
        Here its signatures are entered, and it ends: vetoed, expired, or with the last of its releases.
        """
        self._first_sight(ask, now_ms)
        plan = ask.statement

        def question(connection: Connection) -> tuple[Verdict, list[tuple[str, str]]]:
            chain = self.books.chain(connection)
            if journal.vetoed(connection, plan):
                raise Refusal(Code.VETOED, "The plan was vetoed, and each of its releases with it.")
            gatekeeper.check_admissible(connection, chain, plan, now_ms)
            verdict = gatekeeper.evaluate(connection, chain, plan, ask.approvals, now_ms)
            return verdict, view.planned_states(connection, ask.digest)

        verdict, members = self.books.read(question)
        states = [state for _, state in members]
        verified = states.count("verified")
        ended = all(state in journal.FINAL for state in states)
        state = ("verified" if verified == len(states) else "failed") if ended else "seen"
        told = f"{verified} of {len(states)} releases are published." if verified or ended else ""

        def work(connection: Connection) -> None:
            self._enter_signed(connection, ask.digest, verdict, now_ms)
            code = Code.PLAN_INCOMPLETE.value if state == "failed" else ""
            if journal.decide(connection, ask.digest, state, now_ms, code, told) and code:
                self.books.enter(connection, now_ms, kind=state, statement=ask.digest, code=code)

        if self._plans_told.get(ask.digest) != (state, told, len(verdict.signed)):
            self.books.writer.run(work)
            self._plans_told[ask.digest] = (state, told, len(verdict.signed))
        if ended:
            del self._plans_told[ask.digest]

    def _approve(
        self,
        connection: Connection,
        ask: Ask,
        verdict: Verdict,
        inspected: Inspected,
        ruling: Ruling,
        now_ms: int,
        passed: Passed | None = None,
    ) -> None:
        """`passed`: the standing approval under which it passes; None where people have signed the release itself."""
        body = ask.statement.body_as(ReleaseBody)
        chain = self.books.chain(connection)
        rulings.keep(connection, ask.statement, ruling, now_ms)
        journal.keep_worst(connection, ask.statement, inspected.report.worst)
        self._enter_signed(connection, ask.digest, verdict, now_ms)
        if not journal.decide(connection, ask.digest, "approved", now_ms):
            return
        by, more, read_until = list(verdict.tally.counted), {}, None
        if passed is not None:
            choice = standing.use(connection, self.books.log, passed, ask.statement, now_ms)
            by = list(passed.approved_by)
            read_until = choice.read_until
            more = {
                "standing": passed.digest,
                "chosen": choice.chosen,
                "chance": choice.chance,
            }
        self.books.enter(
            connection,
            now_ms,
            kind="approved",
            statement=ask.digest,
            by=by,
            review=inspected.digest,
            **more,
        )
        upstream = gatekeeper.upstream_of(connection, chain, body)
        name = passed.body.name if passed else ""
        text = notices.release_text(chain.site[0], upstream.name, body, name, read_until)
        if passed is None and by_holiday(verdict):
            text += f"\n{_BY_HOLIDAY.format(longest_window_ms(verdict) // 60_000)}"
        subject = f"About to publish {body.project} {body.version}"
        self.books.tell(connection, ask.digest, subject, text, now_ms)

    def _consider_standing(self, ask: Ask, verdict: Verdict, now_ms: int) -> bool:
        """Lets a release through that people have approved in advance; False where no standing approval names its
        package. Refuses with why not where one does. The inspection, which takes its time, comes last.
        """
        statement = ask.statement
        passes = self.books.read(lambda c: standing.find(c, self.books.chain(c), statement, now_ms))
        if passes is None:
            return False
        known = self._not_let_through.get(ask.digest)
        if known is not None and known[0] == passes.digest:
            raise known[1]
        found = self._inspect(ask, verdict, passes.verdict, now_ms)
        if found is None:
            return True
        inspected, ruling = found
        try:
            check_review(passes.body, inspected.report)
        except Refusal as refusal:
            if len(self._not_let_through) >= _NOT_LET_THROUGH_KEPT:
                self._not_let_through.clear()
            self._not_let_through[ask.digest] = passes.digest, refusal
            raise

        def work(connection: Connection) -> None:
            chain = self.books.chain(connection)
            now = gatekeeper.check_release(connection, chain, ask, now_ms)
            passed = standing.check(connection, chain, passes.digest, statement, now_ms)
            self._approve(connection, ask, now, inspected, ruling, now_ms, passed)

        self.books.writer.run(work)
        return True

    def _still_missing(
        self, ask: Ask, verdict: Verdict, now_ms: int, why_not: Refusal | None = None
    ) -> None:
        """`why_not`: why it does not pass under a standing approval that names its package; that is what is said until
        somebody signs.
        """
        try:
            verdict.require()
        except Refusal as refusal:
            said = refusal if why_not is None or ask.approvals else why_not
            self._waits(ask, verdict, said, now_ms)

    def _waits(
        self,
        ask: Ask,
        verdict: Verdict,
        refusal: Refusal,
        now_ms: int,
        ruling: Ruling | None = None,
    ) -> None:
        code, message = refusal.code.value, refusal.message

        def work(connection: Connection) -> None:
            self._enter_signed(connection, ask.digest, verdict, now_ms)
            if ruling is not None:
                rulings.keep(connection, ask.statement, ruling, now_ms)
            journal.decide(connection, ask.digest, "seen", now_ms, code, message)
            if ask.approvals:  # before anybody has signed nothing is refused yet
                for one in dict.fromkeys((code, *(one.code.value for one in verdict.problems))):
                    self.books.enter_refusal(connection, now_ms, "not-yet", ask.digest, one)

        self.books.writer.run(work)

    def _consider_change(self, ask: Ask, now_ms: int) -> None:
        """Roster, policy, upstream, and the clearing of freezes: admitted when the quorum has signed and the veto
        window, in which everybody has been told what changes, is over."""
        statement = ask.statement
        self._first_sight(ask, now_ms)
        if statement.kind is Kind.GENESIS:
            raise Refusal(
                Code.GENESIS_SEALED, "Genesis is sealed on the press's host, not asked for."
            )
        if isinstance(statement.body, FreezeBody) and statement.body.action != "clear":
            raise Refusal(Code.STATEMENT_MALFORMED, "A freeze is a narrowing; it is not asked for.")
        if isinstance(statement.body, RevocationBody):
            raise Refusal(
                Code.STATEMENT_MALFORMED, "A revocation is a narrowing; it is not asked for."
            )
        verdict = self.books.read(lambda c: self._evaluate_change(c, statement, ask, now_ms))
        if not verdict.reached:
            self._still_missing(ask, verdict, now_ms)
            return
        moves = effects(statement)
        for one in moves:
            if isinstance(one.body, UpstreamBody):
                self._require_credential(one.digest)
            elif isinstance(one.body, SignerBody):
                self.signers.require(one.body)
            elif isinstance(one.body, LogBody):
                self.log_keys.require(one.body.key)
        roster = roster_after(statement)
        self._require_not_locked(moves, roster)
        details = [] if roster is None else self._details_of(roster)
        document = self._rules_asked_for(statement, roster)
        self.books.writer.run(
            lambda c: self._approve_change(c, ask, verdict, details, document, now_ms)
        )
        if document is not None:
            self._rules_checked.add(ask.digest)
        decision = self.books.decision(ask.digest)
        if not self._only_takes_away(moves) and not self._has_waited(
            statement, verdict, decision, now_ms
        ):
            return
        self.books.writer.run(lambda c: self._admit(c, ask, verdict, details, now_ms))

    def _has_waited(
        self, statement: Statement, verdict: Verdict, decision: view.Decision | None, now_ms: int
    ) -> bool:
        """The veto window since enough signatures; for a new key also its own wait, since the press first saw it."""
        if decision is None or decision.reached_ms is None:
            return False  # never so after `_approve_change`; whatever it is, it is looked at again
        since_reached = self.clock.elapsed_ms(decision.reached_ms, now_ms)
        since_seen = self.clock.elapsed_ms(decision.first_seen_ms, now_ms)
        new = isinstance(statement.body, OriginBody) or self.books.read(
            lambda c: self.books.chain(c).new_keys(statement)
        )
        wait_ms = longest_key_wait_ms(verdict) if new else 0
        return since_reached >= longest_window_ms(verdict) and since_seen >= wait_ms

    def _only_takes_away(self, moves: Sequence[Effect]) -> bool:
        """What takes rights away and gives none is in force at once: whoever leaves must not count for one more
        window. Of a bundle, each member must be such a change."""

        def question(connection: Connection) -> bool:
            chain = self.books.chain(connection)
            return all(
                only_takes_away(chain.in_force(one.kind, one.name), one.body) for one in moves
            )

        return bool(moves) and self.books.read(question)

    def _approve_change(
        self,
        connection: Connection,
        ask: Ask,
        verdict: Verdict,
        details: list[Details],
        document: RuleDocument | None,
        now_ms: int,
    ) -> None:
        """Tells everybody in the roster still in force what is about to change, from the statement itself."""
        if document is not None:
            rulings.keep_rules(connection, document)
        self._enter_signed(connection, ask.digest, verdict, now_ms)
        if journal.decide(connection, ask.digest, "approved", now_ms):
            kind, by = ask.statement.kind.value, list(verdict.tally.counted)
            self.books.enter(
                connection, now_ms, kind="approved", statement=ask.digest, by=by, review=""
            )
            text = notices.change_text(
                self.books.chain(connection), ask.statement, opened(connection, details)
            )
            self.books.tell(connection, ask.digest, f"About to change: {kind}", text, now_ms)

    def _require_credential(self, digest: str) -> None:
        try:
            self.vault.use(digest)
        except Fault as fault:
            hint = "Enter it on the press's host: presspass upstream add"
            raise Refusal(
                Code.UPSTREAM_MISSING, f"{fault.message} The upstream waits for it.", hint
            ) from None

    def _require_not_locked(self, moves: Sequence[Effect], roster: Roster | None) -> None:
        """A policy that asks for certain people, and for more than there are, does not come into force."""
        for one in moves:
            if isinstance(one.body, PolicyBody) and one.body.policy.approving != Approving():
                quorum.check_not_locked(one.body.policy, roster or self.books.read(view.roster))

    def _rules_asked_for(self, statement: Statement, roster: Roster | None) -> RuleDocument | None:
        """The rules that come into force with the statement, checked; None where none do. From the gateway, believed by
        their digest. Only for what enough people have signed: to check rules takes time.
        """
        bodies = [one.body for one in effects(statement)]
        policy = next((body.policy for body in bodies if isinstance(body, PolicyBody)), None)
        if policy is None or policy.rules is None or statement.digest in self._rules_checked:
            return None
        digest = policy.rules
        data = self.books.ask_gateway(lambda c: asks.read_rules(c, digest))
        document = rulings.read_document(data or self.books.read(view.rules, digest), digest)
        after = roster or self.books.read(view.roster)
        rulings.check_change(document, after, policy)
        return document

    def _details_of(self, roster: Roster) -> list[Details]:
        known = {person.details for person in roster.people}
        return self.books.ask_gateway(lambda c: asks.read_details(c, known)) or []

    def _evaluate_change(
        self, connection: Connection, statement: Statement, ask: Ask, now_ms: int
    ) -> Verdict:
        chain = self.books.chain(connection)
        if journal.vetoed(connection, statement):
            raise Refusal(Code.VETOED, "The change was vetoed.")
        gatekeeper.check_admissible(connection, chain, statement, now_ms)
        if isinstance(statement.body, LogBody) and statement.body.recovery:
            check_recovery(connection, statement.body.recovery)
        return gatekeeper.evaluate(connection, chain, statement, ask.approvals, now_ms)

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
        before = self.books.chain(connection)
        journal.admit(
            connection, statement, [one for one in ask.approvals if one.key in counted], now_ms
        )
        text = notices.admitted_text(
            before, self.books.chain(connection).site[0], statement, opened(connection, details)
        )
        if isinstance(statement.body, FreezeBody):
            journal.clear(connection, statement.body.narrowings, ask.digest)
        roster = roster_after(statement)
        if roster is not None:
            journal.keep_details(connection, details, {person.details for person in roster.people})
        journal.decide(connection, ask.digest, "admitted", now_ms)
        self.books.enter(
            connection,
            now_ms,
            kind="admitted",
            statement=ask.digest,
            what=statement.kind.value,
            by=list(verdict.tally.counted),
        )
        cleared = statement.body.narrowings if isinstance(statement.body, FreezeBody) else ()
        if isinstance(statement.body, LogBody) and statement.body.recovery:
            cleared = journal.recover_ledger(connection, ask.digest)
        for id in cleared:
            self.books.enter(connection, now_ms, kind="cleared", statement=ask.digest, id=id)
        self.books.tell(
            connection, ask.digest, f"{statement.kind.value} changed", text, now_ms, before.roster
        )

    def _enter_signed(
        self, connection: Connection, statement: str, verdict: Verdict, now_ms: int
    ) -> None:
        """Every signature that verifies, once: also one that in the end counts for nothing."""
        roster = verdict.electorates[0].roster_now
        for one in verdict.signed:
            owner = roster.owner(one.key)
            by = owner.id if owner else ""
            entry = {"kind": "signed", "statement": statement, "by": by, "key": one.key}
            if journal.first_time(connection, entry):
                self.books.enter(connection, now_ms, **entry)

    def _first_sight(self, ask: Ask, now_ms: int) -> None:
        if self.books.decision(ask.digest) is not None:
            return

        body = ask.statement.body
        release = body.release if isinstance(body, ReleaseBody) else ""

        def work(connection: Connection) -> None:
            journal.first_sight(connection, ask.statement, release, now_ms)
            if isinstance(body, PlanBody):
                journal.keep_planned(connection, ask.statement)
            if bounds.within(connection, self.books.log, "asked", now_ms):
                self.books.enter(
                    connection,
                    now_ms,
                    kind="asked",
                    statement=ask.digest,
                    what=ask.statement.kind.value,
                )
            self.forges.note(connection, ask.statement)
            journal.raise_clock_floor(connection, now_ms)
            chain = self.books.chain(connection)
            place = f"{chain.site[0]}/r/{release}" if release else f"{chain.site[0]}/q/{ask.digest}"
            about, subject = ask.digest, f"A {ask.statement.kind.value} waits for signatures"
            if release:
                bursts.note(connection, self.books.log, chain.policy, ask.statement, now_ms)
                about, subject = bursts.prompt(connection, ask.statement, now_ms)
            if about != ask.digest:
                place = f"{chain.site[0]}/"
            self.books.tell(connection, about, subject, f"Look: {place}", now_ms, urgent=False)

        self.books.writer.run(work)

    def _refuse(self, statement: Statement, refusal: Refusal, now_ms: int) -> None:
        state = "seen" if refusal.code in WAITING else STATE_AFTER.get(refusal.code, "rejected")
        digest = statement.digest

        def work(connection: Connection) -> None:
            changed = journal.decide(
                connection, digest, state, now_ms, refusal.code.value, refusal.message
            )
            if changed:
                kind = "not-yet" if state == "seen" else "refused"
                self.books.enter_refusal(connection, now_ms, kind, digest, refusal.code.value)

        self.books.writer.run(work)

    def recover(self, now_ms: int) -> None:
        """The offline recovery key's request: 72 hours, everybody told, one veto ends it."""
        pending = self.books.read(desk.pending_recovery)
        if pending is None:
            return
        statement = pending.statement
        decision = self.books.decision(statement.digest)
        if decision is None or decision.state in journal.FINAL:
            self.books.writer.run(lambda c: journal.set_fact(c, desk.PENDING_RECOVERY, ""))
            return

        def tell(connection: Connection) -> None:
            text = (
                "The offline recovery key asks for another roster, in force 72 hours after now.\n"
            )
            text += f"If this was not you: veto {statement.digest}"
            self.books.tell(connection, statement.digest, "The recovery key was used", text, now_ms)

        if self._recovery_told != statement.digest:
            self.books.writer.run(tell)
            self._recovery_told = statement.digest
        if self.clock.elapsed_ms(pending.asked_ms, now_ms) < RECOVERY_WAIT_S * 1000:
            return
        body = statement.body_as(RosterBody)
        details = self._details_of(body.roster)

        def work(connection: Connection) -> None:
            if journal.vetoed(connection, statement):
                raise Refusal(Code.VETOED, "The recovery was vetoed.")
            gatekeeper.check_not_restored(connection, statement)
            self.books.chain(connection).verify_recovery(statement, [pending.approval])
            journal.admit(connection, statement, [pending.approval], now_ms)
            journal.keep_details(
                connection, details, {person.details for person in body.roster.people}
            )
            journal.decide(connection, statement.digest, "admitted", now_ms)
            self.books.enter(
                connection,
                now_ms,
                kind="admitted",
                statement=statement.digest,
                what="recovery",
                by=[],
            )

        try:
            self.books.writer.run(work)
        except Refusal as refusal:
            self._refuse(statement, refusal, now_ms)


def opened(connection: Connection, details: list[Details]) -> Opened:
    """What is behind a commitment, as the press knows it: from its journal, or checked against the commitment."""
    fresh = {one.commitment: one for one in details}
    return lambda commitment: fresh.get(commitment) or view.person_details(connection, commitment)


def longest_key_wait_ms(verdict: Verdict) -> int:
    """The longest wait for a new key of the policies that count."""
    return max(electorate.policy.new_key_wait_s for electorate in verdict.electorates) * 1000


def longest_window_ms(verdict: Verdict) -> int:
    """The longest veto window of the policies that count."""
    windows = (quorum.window_s(one, verdict.signed) for one in verdict.electorates)
    return max(windows) * 1000


def by_holiday(verdict: Verdict) -> bool:
    """Whether it is enough only by the holiday rule."""
    return any(quorum.count(one, verdict.signed).by_holiday for one in verdict.electorates)


def would_do_without_findings(verdict: Verdict) -> bool:
    """Whether the signatures would be enough if the press found nothing, which it has not looked for yet: to inspect
    takes time, and what too few have signed is not inspected.
    """
    return any(
        one.policy.approving.asks_risk and not one.circumstances.risk for one in verdict.electorates
    ) and all(
        quorum.count(
            replace(one, circumstances=replace(one.circumstances, risk=SEVERITIES[0])),
            verdict.signed,
        ).reached
        for one in verdict.electorates
    )
