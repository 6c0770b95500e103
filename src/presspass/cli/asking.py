"""Making statements and putting them before the approvers, for every command that asks for one."""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from presspass.cli.client import Gate, control
from presspass.core.digests import JsonObject
from presspass.core.errors import Code, Refusal
from presspass.core.policy import Policy
from presspass.core.statement import Body, GenesisBody, Heads, Intent, Statement

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection


@dataclass(frozen=True, slots=True)
class Standing:
    """What a new statement has to name: the installation, its space, the heads; and the policy, for its life."""

    genesis: str
    space: str
    heads: Heads
    policy: Policy

    def statement(
        self, body: Body, *, previous: str | None = None, life_s: int | None = None
    ) -> Statement:
        """A new statement with intent "approve", from now on."""
        now = int(time.time())
        life = self.policy.approval_life_s if life_s is None else life_s
        return Statement(
            genesis=self.genesis,
            space=self.space,
            intent=Intent.APPROVE,
            body=body,
            heads=self.heads,
            previous=previous,
            nonce=secrets.token_hex(16),
            issued_at=now,
            expires_at=now + life,
        )


def standing_of_home(home: Path) -> Standing:
    """From the press's journal on this host, which is the press's own word."""
    from presspass.cli.databases import ask_journal
    from presspass.store import journal_view

    def question(connection: Connection) -> tuple[Statement, Heads, Policy] | None:
        genesis = journal_view.genesis(connection)
        if genesis is None:
            return None
        return genesis, journal_view.heads(connection), journal_view.policy(connection)

    found = ask_journal(home, question)
    if found is None:
        raise Refusal(
            Code.GENESIS_MISSING,
            "This home is not sealed yet.",
            "Enrol keys, then `presspass init --seal`.",
        )
    genesis, heads, policy = found
    return Standing(genesis.digest, genesis.space, heads, policy)


def site_of_home(home: Path) -> tuple[str, str] | None:
    """The origin that keys are bound to and its RP id, by the press's journal; None before genesis."""
    from presspass.cli.databases import ask_journal
    from presspass.store import journal_view

    return ask_journal(home, journal_view.site)


def standing_of_gate(gate: Gate) -> Standing:
    """From the gate over the network. Enough for a narrowing: it can only stop things."""
    answer = gate.get_json("/api/v1/trust")
    genesis = Statement.from_bytes(str(answer["genesis"]).encode("utf-8", "surrogatepass"))
    return Standing(
        genesis.digest,
        genesis.space,
        Heads.from_json(answer["heads"]),
        genesis.body_as(GenesisBody).policy,
    )


def put_before_approvers(
    home: Path, statement: Statement, workflow: str | None = None
) -> JsonObject:
    """Hands a statement to the gateway, which asks people to sign it; {"digest", "url"}.

    `workflow`: the content that a publisher's statement binds, to be shown with it.
    """
    with control(home) as gate:
        if workflow is None:
            return gate.post_json("/requests", statement.to_bytes())
        asked = {"statement": statement.to_bytes().decode("utf-8"), "workflow": workflow}
        return gate.post_json("/requests", asked)
