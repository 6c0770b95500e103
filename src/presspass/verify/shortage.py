"""Packages that nobody could release at present: too few people are left, and the number is not lowered.

Counted over a release that does not exist yet, in the case that needs least: whoever could still ask does, signs
for it, and nothing is found. What is short even then is frozen until people are enrolled, or a stop is cleared, by a
quorum.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from presspass.core.approving import SEVERITIES
from presspass.core.quorum import Circumstances, Electorate
from presspass.core.statement import Kind
from presspass.verify.chain import Chain


@dataclass(frozen=True, slots=True)
class Package:
    """A project at an upstream. `by_workload`: a publisher is bound to it, so that a workload asks."""

    upstream: str
    project: str
    by_workload: bool = False


@dataclass(frozen=True, slots=True)
class Shortage:
    """`needed` must approve and `eligible` could."""

    package: Package
    needed: int
    eligible: int


def short_of_approvers(
    chain: Chain, suspended: frozenset[str], packages: Iterable[Package]
) -> list[Shortage]:
    """The packages that are frozen for want of people, in order of their names."""
    found = {by_workload: _gap(chain, suspended, by_workload) for by_workload in (False, True)}
    wanted = sorted(set(packages), key=lambda one: (one.upstream, one.project, one.by_workload))
    return [Shortage(one, *gap) for one in wanted if (gap := found[one.by_workload]) is not None]


def packages_of(chain: Chain, published: Iterable[tuple[str, str]]) -> set[Package]:
    """What has a publisher in force, and what was `published` (upstream, project) before."""
    packages = {Package(upstream, project) for upstream, project in published}
    return packages | {
        Package(body.upstream, project, by_workload=True)
        for _, body in chain.publishers.values()
        for project in body.projects
    }


def _gap(chain: Chain, suspended: frozenset[str], by_workload: bool) -> tuple[int, int] | None:
    """(needed, eligible) of the case that is nearest to enough; None where one of them is enough."""
    around = Circumstances(by_workload, suspended, risk=SEVERITIES[0])
    requesters = ["", *(one.id for one in chain.roster.people if one.id not in suspended)]
    nearest: tuple[int, int] | None = None
    for requester in requesters:
        count = Electorate(
            Kind.RELEASE, chain.roster, chain.roster, chain.policy, requester, around
        )
        if count.reachable():
            return None
        case = (count.needed(), count.eligible())
        if nearest is None or case[0] - case[1] < nearest[0] - nearest[1]:
            nearest = case
    return nearest
