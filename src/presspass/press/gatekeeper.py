"""Every check before a release goes out, made by the press itself (law 1).

Inputs: the statement and its raw signatures, the press's own chains and journal, the press's own time. In order:
1. it belongs to this installation, names heads that were in force, and is alive;
2. no narrowing stands against it (law 8), whoever asked has not left, and its approval was not used before (law 4);
3. its upstream is the one in force, and its file names are its project's and version's own;
4. no file name was published with other bytes;
5. a workload that asked is what the statement says of it, by its raw token;
6. the signatures are enough (law 2), or the release passes under a standing approval (`standing`);
7. the rules in force let it out (`rulings`), for which the press must have inspected it itself.
Then a release that is approved waits for its veto window, and for the freeze windows and holidays of the policy.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

from sqlalchemy.engine import Connection

from presspass.core.approval import Approval
from presspass.core.errors import Code, Refusal
from presspass.core.policy import Policy
from presspass.core.statement import Kind, ReleaseBody, Statement, UpstreamBody
from presspass.formats.filenames import parse_filename
from presspass.press import journal, rulings, standing, workloads
from presspass.press.asks import Ask
from presspass.store import journal_tables as t
from presspass.store import journal_view as view
from presspass.verify.chain import Chain, Verdict

RESTORED_AT = "restored-at-ms"


def check_admissible(
    connection: Connection, chain: Chain, statement: Statement, now_ms: int
) -> None:
    """Rule 1 for every kind, and that nothing from before a restore counts."""
    chain.check_belongs(statement)
    chain.check_alive(statement, now_ms // 1000)
    check_not_restored(connection, statement)


def check_not_restored(connection: Connection, statement: Statement) -> None:
    """What was asked before a restore may have been published, vetoed or ended after the backup was made."""
    restored_ms = int(view.fact(connection, RESTORED_AT) or 0)
    if statement.issued_at * 1000 <= restored_ms:
        raise Refusal(
            Code.STATEMENT_EXPIRED,
            "This was asked for before the press was restored from a backup.",
            "Ask for it again; what happened after the backup is not known here.",
        )


def check_release(connection: Connection, chain: Chain, ask: Ask, now_ms: int) -> Verdict:
    """The first five rules; returns the count, which the caller requires or reports."""
    statement = ask.statement
    check_not_narrowed(connection, statement)
    check_requester(connection, statement)
    check_admissible(connection, chain, statement, now_ms)
    check_unused(connection, statement)
    body = statement.body_as(ReleaseBody)
    upstream = upstream_of(connection, chain, body)
    check_names(body)
    for file in body.files:
        before = journal.published_digest(connection, upstream.name, file.name)
        if before is not None and before != file.sha256:
            raise Refusal(
                Code.RELEASE_OTHER_BYTES,
                f"{file.name} was published before with other bytes.",
                "Release it under a new version.",
            )
    workloads.check_asked_by(connection, chain, statement)
    plans = [one for one in ask.plans if _is_admissible(connection, chain, one, now_ms)]
    under = {one.digest for one in (statement, *plans)}
    approvals = [one for one in ask.approvals if one.statement in under]
    return evaluate(connection, chain, statement, approvals, now_ms, plans)


def _is_admissible(connection: Connection, chain: Chain, plan: Statement, now_ms: int) -> bool:
    """Whether signatures under a plan count at all; where not, those under the release's own statement still do."""
    try:
        check_admissible(connection, chain, plan, now_ms)
    except Refusal:
        return False
    return True


def evaluate(
    connection: Connection,
    chain: Chain,
    statement: Statement,
    approvals: Iterable[Approval],
    now_ms: int,
    plans: Iterable[Statement] = (),
) -> Verdict:
    """The count under what the press knows now: workloads, people who are suspended, approvals that were revoked, what
    it has found in the files, how long it has waited. `plans`: under which some of the approvals were given.
    """
    return chain.evaluate(
        statement,
        view.unrevoked(connection, approvals),
        view.around(connection, statement, now_ms),
        plans,
    )


def check_not_narrowed(connection: Connection, statement: Statement) -> None:
    """Rule 2, first half; asked again before every single file."""
    check_not_revoked(connection, statement)
    stop = journal.blocking(connection, statement)
    if stop is None:
        return
    if stop.what == "veto":
        alone = not view.is_open_target(stop.target)
        how = "" if alone else ", with everything that was open"
        raise Refusal(Code.VETOED, f"The release was vetoed{how}.", stop.reason)
    scope = stop.target or "everything"
    raise Refusal(
        Code.FROZEN,
        f"Publishing is frozen for {scope}: {stop.reason or 'no reason given'}.",
        "Others have seen another ledger; its recovery ends this: presspass log recover"
        if stop.is_ledger_behind
        else f"A quorum can clear it: presspass freeze --clear {stop.id}",
    )


def check_not_held(policy: Policy, now_ms: int) -> None:
    """Whether releases may begin to go out at this time; one that has begun goes on, since half a release is worse."""
    held = policy.held(now_ms // 1000)
    if held is not None:
        until = datetime.fromtimestamp(held[1], UTC).strftime("%a %Y-%m-%d %H:%M UTC")
        raise Refusal(
            Code.FREEZE_WINDOW,
            f"Releases are held until {until}, by the policy: {held[0]}.",
            "It goes out by itself then.",
        )


def check_not_revoked(connection: Connection, statement: Statement) -> None:
    """Neither the release nor any of its bytes, under whatever name and in whatever release they were revoked."""
    releases = {one.target: one for one in view.narrowings(connection) if one.what == "release"}
    found = releases.get(statement.digest)
    if found is not None:
        raise Refusal(
            Code.RELEASE_REVOKED,
            f"The release was revoked: {found.reason or 'no reason given'}.",
            "Release it under a new version.",
        )
    revoked = view.revoked_files(connection)
    for file in statement.body_as(ReleaseBody).files:
        if file.sha256 in revoked:
            why = revoked[file.sha256].reason or "no reason given"
            raise Refusal(
                Code.RELEASE_REVOKED,
                f"The bytes of {file.name} were revoked: {why}.",
                "Release other bytes under a new version; a quorum can end a revocation: "
                f"presspass freeze --clear {revoked[file.sha256].id}",
            )


def check_requester(connection: Connection, statement: Statement) -> None:
    """Rule 2, too: what somebody asked for who has left is over, for good; clearing the stop does not bring it back."""
    requester = statement.body_as(ReleaseBody).requester
    if requester and requester in view.suspended(connection):
        raise Refusal(
            Code.RELEASE_REQUESTER_GONE,
            "Whoever asked for this release has left, or was revoked.",
            "Somebody else asks for it anew.",
        )


def check_still_wanted(
    connection: Connection, chain: Chain, statement: Statement, now_ms: int
) -> None:
    """What must hold before every byte that goes out, also long after the claim: no stop stands against it, nothing was
    restored since, and the journalled signatures, or those under its standing approval, are still enough under the
    roster and the rules in force."""
    check_not_restored(connection, statement)
    check_not_narrowed(connection, statement)
    check_requester(connection, statement)
    workloads.check_asked_by(connection, chain, statement)
    approvals = view.approvals_under(connection, statement.digest)
    plans = view.plans_under(connection, statement.digest, approvals)
    verdict = evaluate(connection, chain, statement, approvals, now_ms, plans)
    counting = standing.require(connection, chain, statement, verdict, None)
    rulings.require_still(connection, statement, counting, now_ms)


def check_unused(connection: Connection, statement: Statement) -> None:
    """Rule 2, second half: one approval, one publication; the nonce too is used once."""
    i = t.INTENT.c
    row = connection.execute(
        t.INTENT.select().where((i.statement == statement.digest) | (i.nonce == statement.nonce))
    ).first()
    if row is not None and (row.statement != statement.digest or row.finished_ms is not None):
        raise Refusal(
            Code.STATEMENT_REPLAYED, "This approval was used before.", "Ask for a new one."
        )


def upstream_of(connection: Connection, chain: Chain, body: ReleaseBody) -> UpstreamBody:
    """The upstream that the release names, if it is in force; `release.stale` where another has taken its place."""
    for digest, upstream in chain.upstreams.values():
        if digest == body.upstream:
            return upstream
    if view.effect(connection, body.upstream, Kind.UPSTREAM) is not None:
        raise Refusal(
            Code.RELEASE_STALE, "The upstream was changed since this was asked for.", "Sign again."
        )
    raise Refusal(
        Code.UPSTREAM_MISSING,
        "The upstream of this release is not in force.",
        "Approve the upstream first, then ask again.",
    )


def check_names(body: ReleaseBody) -> None:
    """Rule 3, second half: an approval for one project must not publish a file that clients take for another's."""
    for file in body.files:
        parsed = parse_filename(file.name)
        if parsed.project != body.project or parsed.version != body.version:
            raise Refusal(
                Code.ARTIFACT_WRONG_METADATA,
                f"{file.name} is not a file of {body.project} {body.version}.",
            )
