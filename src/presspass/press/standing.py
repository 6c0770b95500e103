"""Releases that pass under a standing approval: what the press verifies itself before one does, and its count of them.

Every input is a signed statement, the raw token of the workload, the bytes, or the journal (law 1). The gateway's word
that something is routine counts for nothing: it can only ask.
1. The standing approval was not ended, and is not suspended (law 8); it holds at this time.
2. By its signatures it covers this release (`verify.standing`); the workload's identity counts, and the workload itself
   has bound these very files, by their digest in the audience of its token.
3. The version is of an allowed kind, and higher than every one before it in the journal.
4. The press's own inspection has assessed everything, and found nothing worse than is let through
   (`core.standing.check_review`).
5. The numbers of the last 24 hours are not used up. They are counted in the transaction that lets the release through,
   by the name of the standing approval, so that signing it anew does not begin them anew.
Until the claim all of it must hold each time; from the claim on only 1 and 2, without time.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy.engine import Connection

from presspass.core.digests import sha256_hex
from presspass.core.errors import Code, Refusal, invariant
from presspass.core.standing import (
    DAY_MS,
    READ_EVERY_MAX,
    check_count,
    check_time,
    check_version,
    is_chosen,
)
from presspass.core.statement import ReleaseBody, Statement, set_bytes
from presspass.press import journal
from presspass.press.log import Log
from presspass.store import journal_tables as t
from presspass.store import journal_view as view
from presspass.verify.chain import Chain, Verdict
from presspass.verify.standing import Passed, check_passes

_CHANCE_TAG = b"presspass/standing-choice/v1\n"


@dataclass(frozen=True, slots=True)
class Choice:
    """Whether a release is read afterwards, and until when (Unix seconds). `chance`: the log key's signature (hex) by
    which that was decided: nobody can know it before, and everybody can check it after.
    """

    chosen: bool
    chance: str
    read_until: int | None


def find(connection: Connection, chain: Chain, release: Statement, now_ms: int) -> Passed | None:
    """The first standing approval, by name, under which the release may pass, as far as no inspection is needed; None
    where none names its package. Refuses with why not where one does.
    """
    body, why = release.body_as(ReleaseBody), None
    for _, (digest, standing) in sorted(chain.standings.items()):
        if body.project in standing.projects:
            try:
                return check(connection, chain, digest, release, now_ms)
            except Refusal as refusal:
                why = why or refusal
    if why is not None:
        raise why
    return None


def check(
    connection: Connection, chain: Chain, digest: str, release: Statement, now_ms: int
) -> Passed:
    """All of the module's list but 4; a release that was counted before is not counted twice."""
    passed = _check_signed(connection, chain, digest, release)
    body, standing = release.body_as(ReleaseBody), passed.body
    check_time(standing, now_ms / 1000)
    published = view.published_versions(connection, standing.upstream, body.project)
    check_version(standing, body.project, body.version, published)
    since_ms = now_ms - DAY_MS
    uses = view.standing_uses(connection, standing.name, since_ms=since_ms)
    others = [one for one in uses if one.statement != release.digest]
    of_project = sum(one.project == body.project for one in others)
    check_count(standing, of_project, len(others))
    return passed


def require(
    connection: Connection,
    chain: Chain,
    release: Statement,
    verdict: Verdict,
    now_ms: int | None,
) -> Verdict:
    """The signatures that count: those under the release, or under the standing approval that has let it through and
    does so still; refuses unless they are enough. `now_ms`: None once it is claimed.
    """
    used = view.standing_use(connection, release.digest)
    if verdict.reached or used is None:
        verdict.require()
        return verdict
    if now_ms is None:
        return _check_signed(connection, chain, used.standing, release).verdict
    return check(connection, chain, used.standing, release, now_ms).verdict


def _check_signed(connection: Connection, chain: Chain, digest: str, release: Statement) -> Passed:
    """The module's 1, without time, and 2."""
    body = release.body_as(ReleaseBody)
    holding = chain.holding(digest)
    signed = view.statement(connection, holding) if holding else None
    if signed is None:
        raise Refusal(Code.STANDING_ENDED, "The standing approval is not in force.")
    seen = view.workload(connection, body.asked_by.token) if body.asked_by else None
    if seen is None or seen.set_digest != sha256_hex(set_bytes(body.files)):
        raise Refusal(
            Code.STANDING_UNBOUND,
            "The workload has not bound these files by the audience of its token.",
            "Let people sign this release; a run that binds its files needs `presspass submit` in CI.",
        )
    approvals = view.unrevoked(connection, view.approvals_under(connection, signed.digest))
    around = view.circumstances(connection, body)
    passed = check_passes(chain, digest, signed, approvals, release, around)
    _check_not_ended(connection, passed.body.name)
    return passed


def _check_not_ended(connection: Connection, name: str) -> None:
    for one in view.narrowings(connection):
        if (one.what, one.target) == ("standing", name):
            raise Refusal(
                Code.STANDING_ENDED,
                f"The standing approval {name} was ended: {one.reason or 'no reason given'}.",
                f"Let people sign this release. A quorum can clear it: presspass freeze --clear {one.id}",
            )


def _was_stopped(connection: Connection, release: str) -> bool:
    """Whether a release ended before any of it went out: then nobody reads it, and the next one is read in its place,
    so that nobody can ask until the choice falls otherwise.
    """
    decision = view.decisions(connection, [release])[release]
    return decision.state in journal.FINAL and view.statement(connection, release) is None


def use(
    connection: Connection, log: Log, passed: Passed, release: Statement, now_ms: int
) -> Choice:
    """Counts this release, in the transaction that lets it through; whether it was chosen to be read afterwards."""
    body, standing = release.body_as(ReleaseBody), passed.body
    message = _CHANCE_TAG + release.digest.encode()
    chance = log.sign_raw(log.in_force(connection).key, message)
    uses = view.standing_uses(connection, standing.name, count_max=READ_EVERY_MAX)
    since = next((number for number, one in enumerate(uses) if one.chosen), len(uses))
    evaded = since < len(uses) and _was_stopped(connection, uses[since].statement)
    chosen = evaded or is_chosen(bytes.fromhex(sha256_hex(chance)), since, standing)
    due_ms = now_ms + standing.read_within_s * 1000 if chosen else None
    new = journal.insert_new(
        connection,
        t.STANDING_USE,
        statement=release.digest,
        standing=passed.digest,
        name=standing.name,
        project=body.project,
        version=body.version,
        at_ms=now_ms,
        chosen=int(chosen),
        due_ms=due_ms,
    )
    invariant(new, "a release passes once")
    return Choice(chosen, chance.hex(), None if due_ms is None else due_ms // 1000)
