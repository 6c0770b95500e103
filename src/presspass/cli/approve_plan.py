"""A plan at a terminal: every file of every release is fetched, hashed and inspected here; what is odd is shown first.

All of the plan is looked at, also what the gate calls ended: a signature under the plan would count for it, too.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from presspass.cli.asker import fetch_asker, show_asker, show_workflow
from presspass.cli.client import Gate, PageUrl
from presspass.cli.review import (
    Asked,
    fetch_statement,
    fetch_upstream,
    release_page,
    review_release,
)
from presspass.cli.show import note, safe, say
from presspass.core.errors import Code, Refusal
from presspass.core.findings import Report, Severity
from presspass.core.plan import PlanBody
from presspass.core.statement import ReleaseBody, Statement, UpstreamBody

_ODD_FROM: Final = Severity.MEDIUM
#: Of the releases without anything odd: how many are shown with their difference; each has one line in any case.
_WHOLE_MAX: Final = 12


def review_plan(
    gate: Gate,
    page: PageUrl,
    plan: Asked,
    show: Callable[[Report], None],
    show_upstream: Callable[[UpstreamBody], None],
) -> None:
    """Checks every release of a plan here and shows it; refuses the plan as a whole where one cannot be shown."""
    found, upstreams = [], dict[str, UpstreamBody]()
    digests = plan.statement.body_as(PlanBody).releases
    for number, digest in enumerate(digests, 1):
        note(f"release {number} of {len(digests)}")
        asked = _release(gate, page, plan.statement, digest)
        body = asked.statement.body_as(ReleaseBody)
        there = release_page(page, asked.statement)
        if body.upstream not in upstreams:
            upstreams[body.upstream] = fetch_upstream(gate, there, asked.statement)
        found.append((asked, body, review_release(gate, there, body)))
    for upstream in upstreams.values():
        show_upstream(upstream)
    odd = [one for one in found if _is_odd(one[2])]
    calm = [one for one in found if not _is_odd(one[2])]
    for asked, body, report in (*odd, *calm[:_WHOLE_MAX]):
        say()
        _say_release(body, report)
        asker = fetch_asker(gate, release_page(page, asked.statement), asked.statement)
        if asker is not None:
            show_asker(asker, asked.answer)
            show_workflow(asker)
        show(report)
    for asked, body, report in calm[_WHOLE_MAX:]:
        _say_release(body, report)
        asker = fetch_asker(gate, release_page(page, asked.statement), asked.statement)
        if asker is not None:
            show_workflow(asker)
    left = len(calm) - _WHOLE_MAX
    if left > 0:
        say(f"  {left} releases without findings are shown by one line each; their pages show all")


def _release(gate: Gate, page: PageUrl, plan: Statement, digest: str) -> Asked:
    asked = fetch_statement(gate, PageUrl(page.base, "q", digest))
    statement = asked.statement
    if (statement.genesis, statement.space) != (plan.genesis, plan.space):
        raise Refusal(Code.STATEMENT_FOREIGN, "The plan names a release of another installation.")
    statement.body_as(ReleaseBody)
    return asked


def _is_odd(report: Report) -> bool:
    worst = report.worst
    return report.baseline_version is None or worst.rank >= _ODD_FROM.rank


def _say_release(body: ReleaseBody, report: Report) -> None:
    changes = sum(len(one.changes) for one in report.artifacts)
    before = safe(report.baseline_version) if report.baseline_version else "nothing"
    say(
        f"  {safe(body.project)} {safe(body.version)}, asked by {safe(body.requester) or 'nobody known'}: "
        f"{len(body.files)} files, {changes} changes against {before}, {len(report.findings)} findings",
        bold=True,
    )
