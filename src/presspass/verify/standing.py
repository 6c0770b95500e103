"""Whether a release may pass under a standing approval, as far as statements and signatures show it. The press and
whoever checks a proof ask this same question; what only the press knows (versions, findings, numbers) it asks besides.

1. The standing approval is the one in force under its name, and covers package, upstream and publisher.
2. Upstream and publishers are what they were when people signed it, but for the projects of a publisher and the
   upstream's credential: whoever signed for one workload has not signed for another.
3. A workload asked, whose identity counts.
4. The signatures under it are enough for it today, under the roster and the policy in force: who has left counts no
   more.
5. They are enough for this release as if they stood under it. So whoever is behind the run is no approver here either,
   and where nobody knows who that is, one more is needed (`core.quorum`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from presspass.core.approval import Approval
from presspass.core.errors import Code, Refusal
from presspass.core.quorum import Circumstances
from presspass.core.standing import StandingBody
from presspass.core.statement import ReleaseBody, Statement, UpstreamBody
from presspass.verify.chain import Chain, Verdict

_ASK: str = "Let people sign this release, or ask for a standing approval that covers it."
_SIGN: str = "Let people sign this release, and sign the standing approval anew."


@dataclass(frozen=True, slots=True)
class Passed:
    """A release that passes. `digest`: the standing approval's; `asked_at`: Unix seconds; `approved_by`: ids of those
    whose signatures under it count for this release (in `solo`: of the keys); `verdict`: these, counted for it.
    """

    digest: str
    body: StandingBody
    asked_at: int
    approved_by: tuple[str, ...]
    verdict: Verdict = field(repr=False, compare=False)


def check_passes(
    chain: Chain,
    digest: str,
    signed: Statement,
    approvals: Iterable[Approval],
    release: Statement,
    circumstances: Circumstances,
) -> Passed:
    """All five rules; refuses with a code of `standing.`. `signed`: the statement that is, or holds, the standing
    approval `digest`; `approvals`: those under it.
    """
    body = _in_force(chain, digest)
    _check_covers(chain, digest, body, release.body_as(ReleaseBody))
    if not circumstances.workload:
        raise Refusal(
            Code.STANDING_UNBOUND,
            "No workload asked for this release whose identity counts.",
            "Let people sign this release.",
        )
    verdict = chain.recount(signed, approvals, Circumstances(suspended=circumstances.suspended))
    try:
        verdict.require()
        counted = chain.counted(release, verdict.signed, circumstances)
        counted.require()
    except Refusal as refusal:
        raise Refusal(
            Code.STANDING_SIGNERS,
            f"Too few of those who signed {body.name} count for this release: {refusal.message}",
            _SIGN,
        ) from None
    return Passed(digest, body, signed.issued_at, counted.tally.counted, counted)


def _in_force(chain: Chain, digest: str) -> StandingBody:
    found = next((body for known, body in chain.standings.values() if known == digest), None)
    if found is None:
        raise Refusal(Code.STANDING_ENDED, "The standing approval is not in force.", _ASK)
    return found


def _check_covers(chain: Chain, digest: str, body: StandingBody, release: ReleaseBody) -> None:
    upstream = next((one for one in chain.upstreams.values() if one[0] == release.upstream), None)
    asked = release.asked_by.publisher if release.asked_by else ""
    name = next((name for name, (known, _) in chain.publishers.items() if known == asked), "")
    if (
        release.project not in body.projects
        or name not in body.publishers
        or upstream is None
        or upstream[1].name != body.upstream
    ):
        raise Refusal(
            Code.STANDING_NOT_COVERED,
            f"{body.name} covers other packages, upstreams or publishers than this release.",
            _ASK,
        )
    signed_for = chain.signed_for(digest)
    then, now = signed_for.publishers.get(name), chain.publishers[name][1]
    same = then is not None and replace(then, projects=now.projects) == now
    if not same or not _same_upstream(signed_for.upstream, upstream[1]):
        raise Refusal(
            Code.STANDING_CHANGED,
            f"The publisher {name} or the upstream {body.upstream} was changed since {body.name} was signed.",
            _SIGN,
        )


def _same_upstream(then: UpstreamBody | None, now: UpstreamBody) -> bool:
    return then is not None and replace(then, credential=now.credential) == now
