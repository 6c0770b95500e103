"""Reading bindings: what the press's journal and the gateway's database, on their own host, say of publishers."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from presspass.cli.asking import standing_of_home
from presspass.cli.show import safe
from presspass.core.digests import JsonObject
from presspass.core.errors import Code, Refusal
from presspass.core.publisher import PublisherBody
from presspass.core.statement import Kind

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from presspass.verify.chain import Chain


def chain_of(home: Path) -> Chain:
    """The chains in force, from the press's journal on this host; refuses before genesis."""
    from presspass.cli.databases import ask_journal
    from presspass.store import journal_view
    from presspass.verify.chain import Chain

    standing_of_home(home)
    chain = ask_journal(home, lambda c: Chain.of(journal_view.chained(c)))
    if chain is None:
        raise Refusal(Code.GENESIS_MISSING, "This home is not sealed yet.")
    return chain


def publisher_in(chain: Chain, name: str) -> tuple[str, PublisherBody]:
    """Digest and body of the binding; refuses with the names that there are."""
    found = chain.publishers.get(name)
    if found is None:
        known = ", ".join(sorted(chain.publishers)) or "none"
        raise Refusal(
            Code.REQUEST_NOT_FOUND,
            f"There is no publisher {safe(name)} in force.",
            f"There is: {known}.",
        )
    return found


def waiting(home: Path, kind: Kind) -> list[tuple[str, str]]:
    """Name and digest of every request of this kind that nobody has decided yet."""
    from presspass.cli.databases import ask_gateway, ask_journal
    from presspass.gateway import requests
    from presspass.store import journal_view

    asked = ask_gateway(home, lambda c: requests.of_kind(c, kind))
    decided = ask_journal(home, lambda c: journal_view.decisions(c, [one.digest for one in asked]))
    return [
        (str(getattr(one.statement.body, "name", "")), one.digest)
        for one in asked
        if one.digest not in decided or decided[one.digest].state in ("seen", "approved")
    ]


def state_of(body: PublisherBody, whats: tuple[str, ...]) -> str:
    """revoked, retired, limited or in force. `whats`: the kinds of stops against it."""
    if "publisher" in whats:
        return "revoked"
    if not body.projects:
        return "retired"
    return "limited" if "limited" in whats else "in force"


def stops_by_name(home: Path) -> dict[str, tuple[str, ...]]:
    """By name of the publisher: the kinds of stops against it."""
    from presspass.cli.databases import ask_journal
    from presspass.store import journal_view

    found: dict[str, tuple[str, ...]] = {}
    for one in ask_journal(home, journal_view.narrowings):
        if one.what in ("publisher", "limited"):
            found[one.target] = (*found.get(one.target, ()), one.what)
    return found


def stops_of(home: Path, name: str) -> list[JsonObject]:
    """Every stop against this publisher that nobody has cleared."""
    from presspass.cli.databases import ask_journal
    from presspass.store import journal_view

    return [
        {"id": one.id, "what": one.what, "reason": one.reason, "by": one.by, "source": one.source}
        for one in ask_journal(home, journal_view.narrowings)
        if one.what in ("publisher", "limited") and one.target == name
    ]


def workflow_now(home: Path, digest: str, body: PublisherBody) -> str:
    """SHA-256 of the workflow that counts: as bound, or as an approved release has bound it since."""
    from presspass.cli.databases import ask_journal
    from presspass.store import journal_view

    return ask_journal(home, journal_view.rebound_workflows).get(digest, body.workflow_sha256)


def passes_of(home: Path, name: str) -> list[JsonObject]:
    """The passes of this publisher that are alive, by their hashes."""
    import sqlalchemy as sa

    from presspass.cli.databases import ask_gateway
    from presspass.store.gateway_tables import PASS, WORKLOAD_TOKEN

    now_ms = int(time.time() * 1000)

    def question(connection: Connection) -> list[JsonObject]:
        p = PASS.c
        rows = connection.execute(
            sa.select(p.hash, p.project, p.version, p.release, p.expires_ms, WORKLOAD_TOKEN.c.run)
            .join(WORKLOAD_TOKEN, WORKLOAD_TOKEN.c.hash == p.workload)
            .where(p.publisher == name, p.ended_ms.is_(None), p.expires_ms > now_ms)
            .order_by(p.expires_ms)
        )
        return [
            {"hash": hash, "project": project, "version": version, "release": release or "",
             "expires_at": expires_ms // 1000, "run": run}
            for hash, project, version, release, expires_ms, run in rows
        ]  # fmt: skip

    return ask_gateway(home, question)
