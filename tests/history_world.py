"""A journal with a past, written by the press's own code: changes and releases with real signatures, and the ledger."""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace

from sqlalchemy.engine import Connection, Engine

from presspass.core.digests import sha256_hex
from presspass.core.policy import Policy
from presspass.core.publisher import PublisherBody
from presspass.core.statement import (
    AskedBy,
    Body,
    PolicyBody,
    ReleaseBody,
    ReleaseFile,
    RosterBody,
    Statement,
    UpstreamBody,
)
from presspass.press import journal
from presspass.press.log import Log
from presspass.store.database import Writer
from presspass.verify.proof import Entry
from proof_world import NOW, Paper

#: SHA-256 of two workflow files that ran.
RAN = tuple(sha256_hex(name) for name in (b"honest", b"changed"))

UPSTREAM = UpstreamBody(
    "main",
    "pypi",
    "https://registry.example/legacy/",
    "https://registry.example/simple/",
    "__token__",
    "custody",
    "ab" * 32,
)
CI = PublisherBody(
    name="ci",
    upstream="main",
    projects=("demo", "greet"),
    issuer="https://issuer.example",
    provider="github",
    ids=(("repository_id", "1001"), ("repository_owner_id", "501")),
    repository="acme/greet",
    repository_url="",
    workflow=".github/workflows/release.yml",
    workflow_sha256=RAN[0],
    refs=("refs/tags/v*",),
    protected_refs_only=True,
    events=("push",),
    environment="release",
    self_hosted=False,
)


@dataclass
class Past:
    """`paper` signs; everything is journalled in `writer`, a second after what was before it."""

    writer: Writer
    paper: Paper = field(
        default_factory=lambda: Paper(policy=Policy(software_keys=True, key_wait_s=0))
    )
    now_s: int = NOW
    chance: random.Random = field(default_factory=lambda: random.Random(4))

    def __post_init__(self) -> None:
        self.log = Log(self.paper.chain.log, lambda _key, message: self.paper.log_key.sign(message))
        self.writer.before_commit = self.log.grow
        genesis = self.paper.genesis

        def work(connection: Connection) -> None:
            journal.admit_genesis(connection, genesis, (), self.now_s * 1000)
            entry = {"kind": "genesis", "space": genesis.space, "statement": genesis.digest}
            self.log.append(connection, {**entry, "at": self.now_s})

        self.writer.run(work)

    def change(self, body: Body, *names: str) -> Statement:
        """Something admitted to a chain."""
        self.now_s += 1
        statement = self.paper.admit(body, *names, issued_at=self.now_s - 5)
        approvals = self.paper.links[-1].approvals

        def work(connection: Connection) -> None:
            journal.admit(connection, statement, approvals, self.now_s * 1000)
            self._enter(
                connection,
                kind="admitted",
                statement=statement.digest,
                what=statement.kind.value,
                by=[f"p-{name}" for name in sorted(names)],
            )

        self.writer.run(work)
        return statement

    def bind(self, name: str, path: str = ".github/workflows/release.yml") -> str:
        """A publisher, bound anew where there is one of the name; the digest that releases name."""
        body = replace(CI, name=name, workflow=path)
        return self.change(body, "ana", "ben").digest

    def release(
        self,
        project: str,
        version: str,
        names: tuple[str, ...] = ("ana", "ben"),
        asked_by: AskedBy | None = None,
        asked_for: Statement | None = None,
        end: str = "verified",
    ) -> Statement:
        """One release by its whole way, or as far as `end` ("verified", "failed", "" for claimed)."""
        self.now_s += 1
        statement = asked_for or self.ask(project, version, asked_by)
        approvals = self.paper.approve(statement, *names)
        body = statement.body_as(ReleaseBody)
        files = [one.to_json() for one in body.files]

        def work(connection: Connection) -> None:
            if body.asked_by is not None:
                token = body.asked_by.token
                self._enter(connection, kind="workload", token=token, state="verified")
            by = [f"p-{name}" for name in sorted(names)]
            about = {"statement": statement.digest}
            self._enter(connection, kind="approved", review=body.review, by=by, **about)
            journal.keep_statement(connection, statement, approvals, self.now_s * 1000)
            self._enter(connection, kind="intent", files=files, **about)
            if end == "failed":
                self._enter(connection, kind="failed", code="upstream.conflict", **about)
            elif end:
                self.log.append(connection, self._verified(statement).to_json())

        self.writer.run(work)
        return statement

    def ask(self, project: str, version: str, asked_by: AskedBy | None = None) -> Statement:
        """The request for a release, as things are now."""
        name = f"{project}-{version}.tar.gz"
        file = ReleaseFile(name, sha256_hex(name.encode()), 9)
        statement = self.paper.release([file], issued_at=self.now_s - 5)
        body = replace(
            statement.body_as(ReleaseBody), project=project, version=version, asked_by=asked_by
        )
        return replace(statement, body=body)

    def asked_by(self, bound: str, ran: str = RAN[0]) -> AskedBy:
        """A workload of this publisher."""
        return AskedBy(bound, sha256_hex(self.chance.randbytes(8)), ran, "")

    def _verified(self, statement: Statement) -> Entry:
        body = statement.body_as(ReleaseBody)
        heads = self.paper.chain.heads
        return Entry(
            statement.space,
            statement.digest,
            body.files,
            self.now_s,
            self.now_s + 1,
            heads.roster,
            heads.policy,
            "prevented",
            "not separated",
            body.asked_by is not None,
        )

    def _enter(self, connection: Connection, **entry: object) -> None:
        journal.log_entry(connection, self.log, self.now_s * 1000, entry)


def past_of(engine: Engine, releases: int = 12) -> Past:
    """A past with two policies and more, a person who leaves, workflows that change, and something that failed."""
    past = Past(Writer(engine))
    past.change(UPSTREAM, "ana", "ben")
    first, second = past.bind("ci"), past.bind("nightly", "ci/nightly.yml")
    late = past.ask("late", "1.0")
    for number in range(releases):
        if number == releases // 3:
            past.change(
                PolicyBody(replace(past.paper.policy, quiet_period_s=100 + number)), "ana", "ben"
            )
            past.release("late", "1.0", asked_for=late, names=("ana", "ben", "cleo"))
        if number == 2 * releases // 3:
            first = past.bind("ci", "ci/other.yml")
            past.change(RosterBody(past.paper.roster(without=("cleo",))), "ana", "ben")
        asked = past.chance.choice([None, past.asked_by(first), past.asked_by(second, RAN[1])])
        names = past.chance.choice([("ana", "ben"), ("ana", "ben", "cleo")])
        names = names if number < 2 * releases // 3 else ("ana", "ben")
        end = "failed" if number % 5 == 4 else "verified"
        past.release(past.chance.choice(["greet", "demo"]), f"1.{number}", names, asked, end=end)
    past.release("late", "2.0", end="")
    return past
