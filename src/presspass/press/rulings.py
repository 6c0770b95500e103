"""The rules, asked by the press itself, beyond the quorum and never below it.

1. Asked are the rules of the policy that the statement names and of the one in force: both must let it out.
2. Every attribute is from the statement, from signatures that count, from a token that the press has verified, from its
   own inspection, journal or clock (law 1). Who asked is a person only where that person has signed, a workload only
   where it counts as an identity.
3. The time is that of the claim once the publication was claimed: what has begun in good order ends, unless people have
   put other rules in force, or a signature no longer counts.
4. A document is believed by its digest, which the signed policy names. Where its bytes are missing, nothing goes out.
5. What was asked is journalled with the answer, also where no rules are in force: other rules can be tried on it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy.engine import Connection

from presspass.core.delegation import version_kind
from presspass.core.digests import canonical, parse_canonical, sha256_hex
from presspass.core.errors import Code, Refusal
from presspass.core.limits import STATEMENT_BYTES_MAX
from presspass.core.policy import Policy
from presspass.core.roster import Roster
from presspass.core.statement import Kind, ReleaseBody, Statement, UpstreamBody, set_bytes
from presspass.press import journal
from presspass.rules.document import RuleDocument
from presspass.rules.lockout import approvers_of, check_not_locked, groups_of
from presspass.rules.question import Context, Findings, Question
from presspass.rules.ruleset import Decision, RuleSet
from presspass.store import journal_tables as t
from presspass.store import journal_view as view
from presspass.verify.chain import Verdict

_HOUR_MS = 3_600_000
_DOCUMENTS_KEPT = 4
#: Stands in where the press has no findings of its own: the worst.
_UNKNOWN = Findings(critical=1)


@dataclass(frozen=True, slots=True)
class Ruling:
    """What was asked, and what each document said. `decisions`: (digest, rules, decision), none without rules."""

    question: Question
    decisions: tuple[tuple[str, RuleSet, Decision], ...]

    @property
    def allowed(self) -> bool:
        return all(decision.allowed for _digest, _rules, decision in self.decisions)

    @property
    def deciding(self) -> tuple[str, Decision]:
        """(digest, decision) of the document that refuses, else of the last; an empty yes without rules."""
        refusing = (one for one in self.decisions if not one[2].allowed)
        found = next(refusing, self.decisions[-1] if self.decisions else None)
        return ("", Decision(True)) if found is None else (found[0], found[2])

    def require(self) -> None:
        """Refuses with `policy.denied` or `policy.error`, naming the rules."""
        for _digest, rules, decision in self.decisions:
            decision.require(rules, self.question)


def judge(
    connection: Connection,
    statement: Statement,
    verdict: Verdict,
    findings: Findings | None,
    now_ms: int,
) -> Ruling:
    """Asks every rule that is in force. `findings`: of the inspection just made; None for those that were journalled.

    Refuses with `policy.rules-missing` or `policy.invalid` where there are no rules to be asked.
    """
    if findings is None:
        findings = _kept_findings(connection, statement.digest)
    question = _question(connection, statement, verdict, findings, now_ms)
    digests = dict.fromkeys(one.policy.rules for one in verdict.electorates if one.policy.rules)
    found = []
    for digest in digests:
        rules = rules_of(connection, digest)
        found.append((digest, rules, rules.decide(question)))
    return Ruling(question, tuple(found))


def require_still(
    connection: Connection, statement: Statement, verdict: Verdict, now_ms: int
) -> None:
    """Refuses as `Ruling.require` what the rules in force do not let out, by the findings that were journalled."""
    if any(one.policy.rules for one in verdict.electorates):
        judge(connection, statement, verdict, None, now_ms).require()


def keep(connection: Connection, statement: Statement, ruling: Ruling, now_ms: int) -> None:
    """Journals the newest ruling on a release. What was asked anew with the same answer stays as it was."""
    digest, decision = ruling.deciding
    before = view.ruling(connection, statement.digest)
    answer = (digest, int(decision.allowed), " ".join(decision.rules))
    if before is not None and (before.document, before.allowed, before.rules) == answer:
        return
    values = dict(zip(("document", "allowed", "rules"), answer, strict=True))
    question = canonical(ruling.question.to_json())
    row = {"statement": statement.digest, "question": question, "at_ms": now_ms, **values}
    if not journal.insert_new(connection, t.RULING, **row):
        where = t.RULING.c.statement == statement.digest
        connection.execute(t.RULING.update().where(where).values(**row))


def rules_of(connection: Connection, digest: str) -> RuleSet:
    """The rules of a policy that a quorum has signed; refuses with `policy.rules-missing` where they are not here."""
    found = _PARSED.get(digest)
    if found is None:
        found = RuleSet.of(read_document(view.rules(connection, digest), digest))
        _PARSED[digest] = found
        while len(_PARSED) > _DOCUMENTS_KEPT:
            _PARSED.popitem(last=False)
    return found


#: By the digest of the document, so that it does not matter which journal they came from.
_PARSED: OrderedDict[str, RuleSet] = OrderedDict()


def read_document(data: bytes | None, digest: str) -> RuleDocument:
    """The document with this digest; refuses with `policy.rules-missing` any other, and none."""
    if data is None or sha256_hex(data) != digest:
        raise Refusal(
            Code.POLICY_RULES_MISSING,
            f"The policy names the rules {digest[:16]}…, and they are not here.",
            "Ask for the policy again with the rule file: presspass apply",
        )
    return RuleDocument.from_bytes(data)


def keep_rules(connection: Connection, document: RuleDocument) -> None:
    """Journals a document whose policy was signed."""
    data = document.to_bytes()
    journal.insert_new(connection, t.RULES, digest=document.digest, document=data)


def check_change(document: RuleDocument, roster: Roster, policy: Policy) -> None:
    """Whether these rules may come into force; refuses with `policy.invalid`, `policy.forbids-narrowing` or
    `policy.locks-out`. `roster`, `policy`: as they are after the change.
    """
    rules = RuleSet.of(document)
    rules.check()
    check_not_locked(rules, approvers_of(roster, policy), groups_of(roster))


def _question(
    connection: Connection, statement: Statement, verdict: Verdict, findings: Findings, now_ms: int
) -> Question:
    body = statement.body_as(ReleaseBody)
    upstream = _upstream(connection, body)
    at_ms = view.claimed_ms(connection, statement.digest) or now_ms
    at = datetime.fromtimestamp(at_ms / 1000, UTC)
    out = view.released_at(connection, upstream.name, body.project, statement.digest).values()
    before = [one for one in out if one <= at_ms]
    published = view.published_versions(connection, upstream.name, body.project)
    tally = verdict.tally
    kind, id, groups = _principal(connection, verdict, body)
    workload = kind == "Publisher"
    seen = view.workload(connection, body.asked_by.token) if body.asked_by and workload else None
    context = Context(
        version=body.version,
        version_kind=version_kind(body.version, published - {body.version}),
        files=len(body.files),
        approvals=len(tally.counted),
        approvals_needed=tally.needed,
        approver_groups=_groups(verdict, tally.counted),
        requester_resolved=all(one.requester_resolved for one in verdict.electorates),
        requester_signed=tally.requester_signed,
        findings=findings,
        workload=workload,
        digests_bound=seen is not None and seen.set_digest == sha256_hex(set_bytes(body.files)),
        workflow_unchanged=workload
        and body.asked_by is not None
        and not view.workflow_changed(connection, body.asked_by),
        hour_utc=at.hour,
        weekday=at.isoweekday(),
        releases_last_hour=sum(at_ms - one < _HOUR_MS for one in before),
        hours_since_last_release=(at_ms - max(before)) // _HOUR_MS if before else None,
    )
    return Question((kind, id), groups, body.project, upstream.name, upstream.mode, context)


def _upstream(connection: Connection, body: ReleaseBody) -> UpstreamBody:
    """As the statement names it; that it is in force is another check (`gatekeeper.upstream_of`)."""
    found = view.effect(connection, body.upstream, Kind.UPSTREAM)
    if found is None or not isinstance(found.body, UpstreamBody):
        raise Refusal(
            Code.UPSTREAM_MISSING,
            "The upstream of this release is not in force.",
            "Approve the upstream first, then ask again.",
        )
    return found.body


def _principal(
    connection: Connection, verdict: Verdict, body: ReleaseBody
) -> tuple[str, str, tuple[str, ...]]:
    """(type, id, groups) of who asked, as far as it is proved."""
    if body.asked_by is not None and view.circumstances(connection, body).workload:
        seen = view.workload(connection, body.asked_by.token)
        return "Publisher", seen.publisher if seen else "", ()
    if verdict.tally.requester_signed:
        return "Person", body.requester, _groups(verdict, (body.requester,))
    return "Unproved", "requester", ()


def _groups(verdict: Verdict, identities: Iterable[str]) -> tuple[str, ...]:
    """Groups that one of these is in, under the roster of the statement and under the present one; in `solo` they are
    keys.
    """
    electorate = verdict.electorates[0]
    found: set[str] = set()
    for one in identities:
        then, now = (
            roster.person(one) or roster.owner(one)
            for roster in (electorate.roster_then, electorate.roster_now)
        )
        if then is not None and now is not None:
            found |= set(then.groups) & set(now.groups)
    return tuple(sorted(found))


def _kept_findings(connection: Connection, digest: str) -> Findings:
    """Those that the press has journalled of its own inspection of this release."""
    kept = view.ruling(connection, digest)
    if kept is None:
        return _UNKNOWN
    return Question.from_json(
        parse_canonical(kept.question, bytes_max=STATEMENT_BYTES_MAX, what="question")
    ).context.findings
