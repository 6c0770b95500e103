"""What nobody could release at present, for people to see: by the gateway's own count, which decides nothing."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from presspass.core.digests import JsonObject
from presspass.gateway.gate import Gate
from presspass.gateway.leaving import stopped
from presspass.store import journal_view
from presspass.store.gateway_tables import RELEASE
from presspass.verify.shortage import Package, packages_of, short_of_approvers


def frozen_packages(gate: Gate, connection: Connection) -> list[JsonObject]:
    """Projects with a publisher, an open release or a past one that too few people are left for."""
    rules = gate.journal.rules
    if rules.chain is None:
        return []
    packages = packages_of(rules.chain, gate.journal.read(journal_view.published_projects))
    r = RELEASE.c
    rows = connection.execute(
        sa.select(r.upstream, r.project, r.workload).where(r.live == 1).distinct()
    )
    packages |= {Package(row.upstream, row.project, bool(row.workload)) for row in rows}
    found: dict[tuple[str, str], JsonObject] = {}
    for one in short_of_approvers(rules.chain, stopped(gate, connection), packages):
        package = one.package
        found[package.upstream, package.project] = {
            "upstream": package.upstream,
            "project": package.project,
            "needed": one.needed,
            "eligible": one.eligible,
        }
    return list(found.values())
