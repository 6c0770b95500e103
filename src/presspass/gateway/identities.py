"""What one person can revoke, and what is revoked: people, publishers, workloads, runs, passes, delegations, approvals.

For the page and for `GET /api/v1/identities`. Only reads. What is stopped here and not yet latched by the press is
listed too: it holds at this gate from the moment it was signed.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from presspass.core.approval import approval_id
from presspass.core.digests import JsonObject
from presspass.core.limits import IDENTITIES_PER_KIND_MAX
from presspass.core.roster import b64u
from presspass.core.standing import bounds
from presspass.core.statement import REVOCABLE, FreezeBody, Statement
from presspass.core.workload import workload_key
from presspass.gateway import people, stops
from presspass.gateway.console.ballots import KIND_WORDS
from presspass.gateway.console.models import Identities, Revocable, SignerFacts, StopLine
from presspass.gateway.console.text import plural, short, when
from presspass.gateway.gate import Gate
from presspass.store import journal_view
from presspass.store.gateway_tables import (
    APPROVAL,
    NARROWING,
    PASS,
    RELEASE,
    REQUEST,
    WORKLOAD_TOKEN,
)
from presspass.verify.chain import Chain

_SIGNABLE = ("awaiting", "approved")
#: What is named by a digest that nobody reads whole.
_DIGESTS = ("pass", "workload", "approval", "release", "file")


def identities(gate: Gate) -> Identities | None:
    """Everything that can be revoked now; None before genesis."""
    rules = gate.journal.now()
    chain = rules.chain
    if chain is None:
        return None
    with gate.writer.read() as connection:
        names = {one: found.name for one, found in people.known_people(gate, connection).items()}
        look = _Look(gate, connection, chain, names)
        lines = look.stops()
        rows, projects = look.rows(lines), look.projects()
    return Identities(
        genesis=rules.genesis_digest,
        space=chain.genesis.space,
        heads=chain.heads.to_json(),
        now_s=gate.clock() // 1000,
        life_s=chain.policy.approval_life_s,
        rows={what: found[:IDENTITIES_PER_KIND_MAX] for what, found in rows.items()},
        left_out={
            what: len(found) - IDENTITIES_PER_KIND_MAX
            for what, found in rows.items()
            if len(found) > IDENTITIES_PER_KIND_MAX
        },
        stops=lines,
        signers=look.signers(),
        projects=projects,
    )


@dataclass(frozen=True, slots=True)
class _Look:
    """One look at both databases."""

    gate: Gate
    connection: Connection
    chain: Chain
    names: Mapping[str, str]

    def rows(self, stops: Iterable[StopLine]) -> dict[str, tuple[Revocable, ...]]:
        """What can be revoked, by kind, in the order of REVOCABLE; of files, no list. `stops`: those in force."""
        made = {
            "person": self._people,
            "publisher": self._publishers,
            "delegation": self._delegations,
            "standing": self._standings,
            "pass": self._passes,
            "workload": self._workloads,
            "run": self._runs,
            "approval": self._approvals,
            "release": self._releases,
        }
        stopped = {(one.what, one.target) for one in stops}
        return {
            what: tuple(
                Revocable(one.what, one.target, one.title, one.facts, (what, one.target) in stopped)
                for one in made[what]()
            )
            for what in REVOCABLE
            if what in made
        }

    def _people(self) -> Iterable[Revocable]:
        for person in self.chain.roster.people:
            facts = (("id", person.id), ("keys", str(len(person.keys))))
            yield Revocable("person", person.id, self._name(person.id), facts)

    def _publishers(self) -> Iterable[Revocable]:
        living = self._living_by_publisher()
        for name, (_, body) in sorted(self.chain.publishers.items()):
            if body.projects:
                facts = (
                    ("repository", body.repository or body.issuer),
                    ("may ask for", _few(body.projects)),
                    ("at", body.upstream),
                    ("passes alive", str(living.get(name, 0))),
                )
                yield Revocable("publisher", name, name, facts)

    def _workloads(self) -> Iterable[Revocable]:
        """The bound workloads: revoking one ends it whatever publisher it asks by."""
        found: dict[str, list[str]] = {}
        titles = {}
        for name, (_, body) in sorted(self.chain.publishers.items()):
            if body.projects:
                key = workload_key(body.issuer, body.provider, body.ids)
                found.setdefault(key, []).append(name)
                titles[key] = body.repository or body.issuer, body.ids
        for key, by in found.items():
            repository, ids = titles[key]
            facts = (("ids", ", ".join(f"{a} {b}" for a, b in ids)), ("publishers", _few(by)))
            yield Revocable("workload", key, repository, facts)

    def _delegations(self) -> Iterable[Revocable]:
        for name, (digest, body) in sorted(self.chain.delegations.items()):
            used = self._used(digest)
            facts = (
                ("bot", body.publisher),
                ("on behalf of", self._name(body.person)),
                ("may ask for", _few(body.projects)),
                ("used", f"{used} of {body.count}"),
                ("until", when(body.not_after * 1000)),
            )
            yield Revocable("delegation", name, name, facts)

    def _standings(self) -> Iterable[Revocable]:
        for name, (_, body) in sorted(self.chain.standings.items()):
            if body.projects:
                facts = (*bounds(body), ("until", when(body.not_after * 1000)))
                yield Revocable("standing", name, name, facts)

    def _used(self, digest: str) -> int:
        return self.gate.journal.read(lambda c: journal_view.delegation_used(c, digest, ""))

    def _runs(self) -> Iterable[Revocable]:
        """Runs with a pass that lives, or a release under way."""
        w, p, r = WORKLOAD_TOKEN.c, PASS.c, RELEASE.c
        living = sa.select(p.workload).where(*self._living())
        under_way = sa.select(r.workload).where(r.live == 1, r.workload != "")
        query = sa.select(w.run, w.publisher, w.described, w.received_ms)
        rows = self.connection.execute(
            query.where(sa.or_(w.hash.in_(living), w.hash.in_(under_way))).order_by(w.serial.desc())
        )
        seen = set()
        for row in rows:
            if row.run not in seen:
                seen.add(row.run)
                yield Revocable(
                    "run", row.run, *self._run(row.publisher, row.described, row.received_ms)
                )

    def _run(
        self, publisher: str, described: bytes, received_ms: int
    ) -> tuple[str, tuple[tuple[str, str], ...]]:
        """Title and facts of a run, from what the exchange noted of its token."""
        value = json.loads(described)
        facts = (
            ("publisher", publisher),
            ("ref", str(value.get("ref") or "none")),
            ("commit", str(value.get("commit") or "none")[:12]),
            ("asked", when(received_ms)),
        )
        run, repository = value.get("run") or "without a name", value.get("repository")
        return f"Run {run} of {repository or publisher}", facts

    def _passes(self) -> Iterable[Revocable]:
        p = PASS.c
        rows = self.connection.execute(
            sa.select(PASS).where(*self._living()).order_by(p.created_ms.desc(), p.hash)
        )
        for row in rows:
            what = f"{row.project or 'not bound yet'} {row.version}".strip()
            facts = (
                ("publisher", row.publisher),
                ("for", what),
                ("until", when(row.expires_ms)),
            )
            yield Revocable("pass", row.hash, f"Pass {short(row.hash)}", facts)

    def _approvals(self) -> Iterable[Revocable]:
        """Approvals on releases that have not begun to go out."""
        a, r = APPROVAL.c, RELEASE.c
        rows = self.connection.execute(
            sa.select(a.statement, a.key, a.received_ms, r.project, r.version)
            .join(REQUEST, REQUEST.c.digest == a.request)
            .join(RELEASE, r.statement == REQUEST.c.digest)
            .where(r.state.in_(_SIGNABLE), a.statement == a.request)
            .order_by(a.id.desc())
        )
        for row in rows:
            owner = self.chain.roster.owner(row.key)
            who = self._name(owner.id) if owner else f"Key {short(row.key)}"
            facts = (("signed", when(row.received_ms)), ("key", short(row.key)))
            target = approval_id(row.statement, row.key)
            yield Revocable("approval", target, f"{who}, of {row.project} {row.version}", facts)

    def _releases(self) -> Iterable[Revocable]:
        """What was published, the newest first."""
        found = self.gate.journal.read(
            lambda c: journal_view.newest_releases(c, IDENTITIES_PER_KIND_MAX)
        )
        for one in found:
            facts = (("at", one.upstream), ("published", when(one.at_ms)))
            yield Revocable("release", one.statement, f"{one.project} {one.version}", facts)

    def _living(self) -> tuple[sa.ColumnElement[bool], ...]:
        return PASS.c.ended_ms.is_(None), PASS.c.expires_ms > self.gate.clock()

    def _living_by_publisher(self) -> dict[str, int]:
        query = sa.select(PASS.c.publisher, sa.func.count()).where(*self._living())
        rows = self.connection.execute(query.group_by(PASS.c.publisher))
        return {publisher: int(count) for publisher, count in rows}

    def stops(self) -> tuple[StopLine, ...]:
        """Freezes and revocations in force, the newest first; those that the press has not latched yet as well."""
        rules = self.gate.journal.rules
        found = stops.standing(self.connection, rules.narrowings, rules.cleared)
        lines = [
            StopLine(
                one.id, one.what, one.target, self._title(one.what, one.target), one.by, one.reason,
                one.since_ms, one.latched,
            )
            for one in found
            if one.what != "veto"
        ]  # fmt: skip
        lines += self._fresh_freezes({one.id for one in found} | rules.cleared)
        return tuple(sorted(lines, key=lambda one: -one.since_ms))

    def _fresh_freezes(self, known: Set[str]) -> Iterable[StopLine]:
        """Freezes that were signed at this gate and that the press has not latched yet."""
        rows = self.connection.execute(sa.select(NARROWING.c.statement, NARROWING.c.received_ms))
        for row in rows:
            statement = Statement.from_bytes(row.statement)
            body = statement.body
            if isinstance(body, FreezeBody) and statement.digest not in known:
                title = self._title("freeze", body.project)
                yield StopLine(
                    statement.digest, "freeze", body.project, title, "", body.reason,
                    row.received_ms, latched=False,
                )  # fmt: skip

    def _title(self, what: str, target: str) -> str:
        if what == "freeze":
            return target or "everything"
        if what == "person":
            return self._name(target)
        if what == "run":
            w = WORKLOAD_TOKEN.c
            row = self.connection.execute(
                sa.select(w.publisher, w.described, w.received_ms).where(w.run == target)
            ).first()
            return self._run(*row)[0] if row else short(target)
        return short(target) if what in _DIGESTS else target

    def signers(self) -> tuple[SignerFacts, ...]:
        """Every key of the roster: each may narrow."""
        found = [
            SignerFacts(
                self._name(person.id), key.id, KIND_WORDS[key.kind], b64u(key.credential_id)
            )
            for person in self.chain.roster.people
            for key in person.keys
        ]
        return tuple(sorted(found, key=lambda one: (one.person.casefold(), one.key)))

    def projects(self) -> tuple[str, ...]:
        """Names of projects that this gate knows, for a freeze of one of them."""
        rows = self.connection.execute(
            sa.select(RELEASE.c.project).distinct().limit(IDENTITIES_PER_KIND_MAX)
        )
        bound = {one for _, body in self.chain.publishers.values() for one in body.projects}
        return tuple(sorted(bound | {project for (project,) in rows}))[:IDENTITIES_PER_KIND_MAX]

    def _name(self, person: str) -> str:
        return self.names.get(person, person)


def _few(names: Iterable[str]) -> str:
    """At most five names, and how many more."""
    listed = list(names)
    more = len(listed) - 5
    return ", ".join(listed[:5]) + (f" and {plural(more, 'more', 'more')}" if more > 0 else "")


def identities_json(found: Identities) -> JsonObject:
    """`GET /api/v1/identities`."""
    return {
        "genesis": found.genesis,
        "heads": dict(found.heads),
        "left_out": dict(found.left_out),
        "projects": list(found.projects),
        "revocable": [
            {
                "facts": dict(one.facts),
                "stopped": one.stopped,
                "target": one.target,
                "title": one.title,
                "what": one.what,
            }
            for rows in found.rows.values()
            for one in rows
        ],
        "space": found.space,
        "stops": [
            {
                "by": one.by,
                "id": one.id,
                "latched": one.latched,
                "reason": one.reason,
                "since": one.since_ms // 1000,
                "target": one.target,
                "title": one.title,
                "what": one.what,
            }
            for one in found.stops
        ],
    }
