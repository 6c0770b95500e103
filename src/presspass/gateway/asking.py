"""Who asked for a release, where a workload did: what its token said here, what the press has made of it since, and
what people had bound. For people to look at; the press judges by itself.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from presspass.core.delegation import DelegationBody
from presspass.core.digests import JsonObject
from presspass.core.effects import Effect
from presspass.core.publisher import PublisherBody
from presspass.core.statement import AskedBy, Kind, ReleaseBody
from presspass.gateway import stops
from presspass.gateway.console.models import ActFacts, AskerFacts, WorkflowFacts
from presspass.gateway.console.text import told
from presspass.gateway.gate import Gate
from presspass.store import journal_view
from presspass.store.gateway_tables import WORKFLOW, WORKLOAD_TOKEN

B = TypeVar("B")


@dataclass(frozen=True, slots=True)
class _PressWord:
    """What the press's journal says around one workload."""

    seen: journal_view.SeenWorkload | None
    publisher: PublisherBody | None
    delegation: DelegationBody | None
    used: int
    against: tuple[str, ...] | None
    bound: str
    rebound: bool


def asker(
    gate: Gate, connection: Connection, release: sa.Row[Any], body: ReleaseBody | None
) -> AskerFacts | None:
    """The workload behind a row of RELEASE; None where a person uploaded. `body`: of its request, once there is one."""
    if not release.workload:
        return None
    token = connection.execute(
        sa.select(WORKLOAD_TOKEN).where(WORKLOAD_TOKEN.c.hash == release.workload)
    ).one()
    asked = AskedBy(token.publisher_statement, token.hash, token.workflow, token.delegation)
    statement = release.statement or ""
    word = gate.journal.read(lambda c: _word(c, asked, body, release.id, statement))
    told_by_token = _Described(json.loads(token.described))
    code = word.seen.code if word.seen else ""
    return AskerFacts(
        publisher=token.publisher,
        publisher_statement=asked.publisher,
        token=token.hash,
        identity=token.identity,
        run_key=token.run,
        issuer=told_by_token.text("issuer"),
        provider=told_by_token.text("provider"),
        repository=told_by_token.text("repository"),
        ids=told_by_token.pairs("ids"),
        ref=told_by_token.text("ref"),
        ref_protected=told_by_token.flag("ref_protected"),
        event=told_by_token.text("event"),
        environment=told_by_token.text("environment"),
        run=told_by_token.text("run"),
        commit=told_by_token.text("commit"),
        actor=told_by_token.text("actor"),
        press=_press(word),
        code=code,
        message=told(word.seen.message) if word.seen else "",
        against=word.against,
        workflow=_workflow(connection, told_by_token.text("workflow"), asked, word),
        act=_act(word),
        stopped=_stopped(gate, connection, token, release.requester),
    )


def _word(
    connection: Connection, asked: AskedBy, body: ReleaseBody | None, release: str, statement: str
) -> _PressWord:
    publisher = journal_view.effect(connection, asked.publisher, Kind.PUBLISHER)
    delegation = (
        journal_view.effect(connection, asked.delegation, Kind.DELEGATION)
        if asked.delegation
        else None
    )
    bound, rebound = journal_view.workflow_before(connection, asked, statement)
    return _PressWord(
        seen=journal_view.workload(connection, asked.token),
        publisher=_body(publisher, PublisherBody),
        delegation=_body(delegation, DelegationBody),
        used=journal_view.delegation_used(connection, asked.delegation, release)
        if asked.delegation
        else 0,
        against=None if body is None else journal_view.reservations(connection, body, asked),
        bound=bound,
        rebound=rebound,
    )


def _body(effect: Effect | None, kind: type[B]) -> B | None:
    return effect.body if effect is not None and isinstance(effect.body, kind) else None


def _press(word: _PressWord) -> str:
    if word.seen is None or word.seen.state == "seen":
        return "waiting"
    return "verified" if word.seen.state == "verified" else "refused"


def _workflow(
    connection: Connection, path: str, asked: AskedBy, word: _PressWord
) -> WorkflowFacts | None:
    if not asked.workflow:
        return None
    named = word.publisher.workflow_sha256 if word.publisher else ""
    contents = _contents(connection, {asked.workflow, word.bound, named} - {""})
    return WorkflowFacts(path, asked.workflow, word.bound, named, contents, word.rebound)


def _contents(connection: Connection, wanted: Iterable[str]) -> Mapping[str, bytes]:
    rows = connection.execute(
        sa.select(WORKFLOW.c.sha256, WORKFLOW.c.content).where(WORKFLOW.c.sha256.in_(list(wanted)))
    )
    return {row.sha256: row.content for row in rows}


def _act(word: _PressWord) -> ActFacts | None:
    one = word.delegation
    if one is None:
        return None
    return ActFacts(
        bot=one.publisher,
        person=one.person,
        delegation=one.name,
        used=word.used,
        count=one.count,
        not_after_ms=one.not_after * 1000,
        version_kinds=one.version_kinds,
    )


def _stopped(
    gate: Gate, connection: Connection, token: sa.Row[Any], person: str
) -> tuple[tuple[str, str], ...]:
    """Stops against anybody who is behind this release, at this gate and at the press."""
    mine = {
        ("publisher", token.publisher),
        ("limited", token.publisher),
        ("workload", token.identity),
        ("run", token.run),
        *([("person", person)] if person else []),
        *([("delegation", token.delegation_name)] if token.delegation_name else []),
    }
    rules = gate.journal.rules
    found = stops.standing(connection, rules.narrowings, rules.cleared)
    return tuple((one.what, one.reason) for one in found if (one.what, one.target) in mine)


@dataclass(frozen=True, slots=True)
class _Described:
    """What the exchange noted of a token's claims; a member that an earlier version did not note is empty."""

    value: JsonObject

    def text(self, name: str) -> str:
        return str(self.value.get(name) or "")

    def flag(self, name: str) -> bool | None:
        found = self.value.get(name)
        return found if isinstance(found, bool) else None

    def pairs(self, name: str) -> tuple[tuple[str, str], ...]:
        return tuple((str(key), str(value)) for key, value in self.value.get(name) or ())


def asker_json(one: AskerFacts | None, person: str) -> JsonObject | None:
    """`asked_by` of a release in the API. `person`: who is behind the run, "" where that is not resolved."""
    if one is None:
        return None
    return {
        "act": None if one.act is None else _act_json(one.act),
        "actor": one.actor,
        "against": None if one.against is None else list(one.against),
        "commit": one.commit,
        "counts": one.against == (),
        "environment": one.environment,
        "event": one.event,
        "identity": one.identity,
        "ids": dict(one.ids),
        "issuer": one.issuer,
        "person": person,
        "press": {"state": one.press, "code": one.code, "message": one.message},
        "provider": one.provider,
        "publisher": one.publisher,
        "publisher_statement": one.publisher_statement,
        "ref": one.ref,
        "ref_protected": one.ref_protected,
        "repository": one.repository,
        "run": one.run,
        "run_key": one.run_key,
        "stopped": [{"what": what, "reason": reason} for what, reason in one.stopped],
        "token": one.token,
        "workflow": None if one.workflow is None else _workflow_summary(one.workflow),
    }


def _act_json(act: ActFacts) -> JsonObject:
    return {
        "bot": act.bot,
        "count": act.count,
        "delegation": act.delegation,
        "not_after": act.not_after_ms // 1000,
        "person": act.person,
        "used": act.used,
        "version_kinds": list(act.version_kinds),
    }


def _workflow_summary(one: WorkflowFacts) -> JsonObject:
    return {
        "bound": one.bound,
        "changed": one.changed,
        "named": one.named,
        "path": one.path,
        "ran": one.ran,
        "rebound": one.rebound,
    }


def workflow_json(one: WorkflowFacts) -> JsonObject:
    """`GET …/workflow`: what ran, what was bound before, what people named; contents in base64, null where not kept."""

    def file(sha256: str) -> JsonObject:
        content = one.contents.get(sha256)
        text = None if content is None else base64.b64encode(content).decode()
        return {"sha256": sha256, "content": text}

    summary = _workflow_summary(one)
    return summary | {name: file(summary[name]) for name in ("bound", "named", "ran")}
