"""A press on its own: real journal, keys, inspector and registry; the gateway's side is rows in its database, as a
gateway (or whoever has taken it over) would leave them."""

from __future__ import annotations

import contextlib
import json
import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy.exc import IntegrityError

import backends
import ledger_reading
from ledger_reading import entered
from presspass.core.approval import Approval
from presspass.core.digests import JsonObject, canonical, sha256_hex
from presspass.core.policy import Policy
from presspass.core.roster import Details, Person, Roster
from presspass.core.statement import (
    HEAD_AT_GENESIS,
    AskedBy,
    Body,
    FreezeBody,
    GenesisBody,
    Heads,
    Intent,
    ReleaseBody,
    ReleaseFile,
    Statement,
    UpstreamBody,
)
from presspass.drill.world.clock import WorldClock
from presspass.drill.world.keys import SoftwarePasskey
from presspass.drill.world.registry import Registry
from presspass.press.clock import Clock
from presspass.press.press import Press
from presspass.services import press as service
from presspass.services.config import Config, Listen, PressSettings, read_config, write_config
from presspass.services.places import places
from presspass.store import gateway_tables as g
from presspass.store import journal_view as view
from presspass.store import migrate
from presspass.store.blobs import Blobs
from presspass.store.database import Reader, Writer, open_engine

ORIGIN, RP_ID = "http://localhost:8460", "localhost"
TOKEN = "upstream-credential-7f3a"


@dataclass
class Rig:
    """One installation: people with virtual keys, a gateway database to write lies into, a registry upstream."""

    home: Path
    registry: Registry
    policy: Policy
    names: Sequence[str] = ("ana", "ben", "cleo")
    lease_ms: int = 1_000
    forge_ids: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    addresses: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    groups: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    keys: dict[str, SoftwarePasskey] = field(default_factory=dict)
    genesis: Statement = field(init=False)
    rows: Writer = field(init=False)
    blobs: Blobs = field(init=False)
    identity: service.PressIdentity = field(init=False)

    def build(self) -> Rig:
        self.home.mkdir(exist_ok=True)
        settings = PressSettings(lease_ms=self.lease_ms)
        config = Config(
            ORIGIN, listen=Listen(port=8460), press=settings, database=backends.section()
        )
        write_config(self.home, config)
        (self.home / "gateway").mkdir()
        self.identity = service.initialise(self.home)
        engine = open_engine(places(self.home, config, "gateway").gateway)
        migrate.bring_up(engine, "gateway")
        self.rows = Writer(engine)
        self.blobs = Blobs(self.home / "gateway" / "blobs", self.home / "gateway" / "tmp")
        for number, name in enumerate(self.names):
            self.keys.setdefault(name, SoftwarePasskey.generate(number + 1))
        return self

    def details(self, name: str) -> Details:
        return Details(
            name.title(),
            self.addresses.get(name, (f"mailto:{name}@team.invalid",)),
            self.forge_ids.get(name, ()),
            sha256_hex(name.encode())[:32],
        )

    def roster(self, without: Sequence[str] = (), **replaced: SoftwarePasskey) -> Roster:
        people = [
            Person(
                f"p-{name}",
                self.details(name).commitment,
                self.groups.get(name, ("approvers",)),
                (replaced.get(name, key).key,),
            )
            for name, key in sorted(self.keys.items())
            if name not in without
        ]
        return Roster(tuple(people))

    def seal(self) -> None:
        now = int(time.time())
        body = GenesisBody(
            ORIGIN,
            RP_ID,
            self.roster(),
            self.policy,
            self.identity.log_key,
            self.identity.recovery_public,
        )
        heads = Heads(HEAD_AT_GENESIS, HEAD_AT_GENESIS, HEAD_AT_GENESIS)
        self.genesis = Statement(
            HEAD_AT_GENESIS,
            "main",
            Intent.APPROVE,
            body,
            heads,
            None,
            secrets.token_hex(16),
            now - 5,
            now + 600,
        )
        order = {
            "do": "seal",
            "statement": self.genesis.to_bytes().decode(),
            "details": [self.details(name).to_json() for name in self.names],
        }
        service.ask(self.home, order, 10)

    def statement(
        self, body: Body, previous: str | None = None, life_s: int = 600, **changes: Any
    ) -> Statement:
        now = int(time.time())
        life_s += 2 * self.policy.window_s
        values: dict[str, Any] = {
            "genesis": self.genesis.digest,
            "space": "main",
            "intent": Intent.APPROVE,
            "body": body,
            "heads": self.journal(view.heads),
            "previous": previous,
            "nonce": secrets.token_hex(16),
            "issued_at": now,
            "expires_at": now + life_s,
        }
        return Statement(**{**values, **changes})

    def request(self, statement: Statement, release: str | None = None) -> str:
        row = {
            "digest": statement.digest,
            "veto_digest": statement.with_intent(Intent.VETO).digest,
            "kind": statement.kind.value,
            "release": release,
            "statement": statement.to_bytes(),
            "created_ms": int(time.time() * 1000),
        }
        self.rows.run(lambda c: c.execute(g.REQUEST.insert().values(**row)))
        return statement.digest

    def approval(self, statement: Statement, name: str) -> Approval:
        return self.keys[name].approve(statement.to_bytes(), origin=ORIGIN, rp_id=RP_ID)

    def sign(self, statement: Statement, *names: str) -> None:
        for name in names:
            self.put_approval(statement, self.approval(statement, name))

    def put_approval(self, statement: Statement, approval: Approval) -> None:
        row = {
            "request": statement.with_intent(Intent.APPROVE).digest,
            "statement": approval.statement,
            "key": approval.key,
            "approval": approval.to_bytes(),
            "received_ms": int(time.time() * 1000),
        }
        with contextlib.suppress(
            IntegrityError
        ):  # the same key under the same statement: it is there
            self.rows.run(lambda c: c.execute(g.APPROVAL.insert().values(**row)))

    def veto(self, statement: Statement, name: str) -> None:
        self.sign(statement.with_intent(Intent.VETO), name)

    def put_details(self, *details: Details) -> None:
        rows = [
            {"commitment": one.commitment, "details": canonical(one.to_json())} for one in details
        ]
        self.rows.run(lambda c: c.execute(g.PERSON_DETAILS.insert(), rows))

    def upstream(
        self,
        press: Press,
        name: str = "main",
        signers: Sequence[str] = ("ana", "ben"),
        **changes: str,
    ) -> str:
        salt = secrets.token_hex(16)
        values = {
            "name": name,
            "protocol": "pypi",
            "upload_url": self.registry.upload_url,
            "index_url": self.registry.simple_url,
            "username": "__token__",
            "mode": "custody",
            "credential": service.credential_commitment(TOKEN, salt),
        }
        known = self.journal(view.upstreams).get(name)
        previous = known[0] if known else self.genesis.digest
        statement = self.statement(UpstreamBody(**{**values, **changes}), previous)
        order = {
            "do": "credential",
            "statement": statement.to_bytes().decode(),
            "secret": TOKEN,
            "salt": salt,
        }
        press.desk.inbox.joinpath(f"{name}.json").write_text(json.dumps(order))
        self.request(statement)
        self.sign(statement, *signers)
        self.until(press, statement.digest, "admitted")
        return statement.digest

    def stage(
        self,
        press: Press,
        files: Sequence[Path],
        project: str,
        version: str,
        requester: str = "p-ana",
        requester_signs: bool = True,
        asked_by: AskedBy | None = None,
        release: str = "",
        **changes: Any,
    ) -> Statement:
        """Puts files and an honest review where a gateway would, and asks for signatures, the requester's first."""
        listed = []
        for path in sorted(files, key=lambda one: one.name):
            data = path.read_bytes()
            self.blobs.add([data], sha256_hex(data))
            listed.append(ReleaseFile(path.name, sha256_hex(data), len(data)))
        release = release or secrets.token_hex(16)
        self.release_row(release, project, version)
        review = self.review(press, tuple(listed), project, version)
        upstream = self.journal(view.upstreams)["main"][0]
        body = ReleaseBody(
            release, upstream, project, version, tuple(listed), (), requester, review, asked_by
        )
        statement = self.statement(body, **changes)
        self.request(statement, release)
        name = requester.removeprefix("p-")
        if requester_signs and name in self.keys:
            self.sign(statement, name)
        return statement

    def review(
        self, press: Press, files: tuple[ReleaseFile, ...], project: str, version: str
    ) -> str:
        last = self.journal(lambda c: view.last_release(c, "main", project))
        before = last.files if last else ()
        request = {
            "project": project,
            "version": version,
            "candidate": [file.to_json() for file in files],
            "baseline": {"version": last.version, "files": [f.to_json() for f in before]}
            if last
            else None,
        }
        fds = [self.blobs.open(file.sha256) for file in (*files, *before)]
        report = press.publications.inspection.inspect(request, fds, 30)
        row = {"digest": sha256_hex(report), "report": report, "made_ms": 1}
        with contextlib.suppress(IntegrityError):
            self.rows.run(lambda c: c.execute(g.REVIEW.insert().values(**row)))
        return sha256_hex(report)

    def release_row(self, release: str, project: str, version: str) -> None:
        now = int(time.time() * 1000)
        row = {
            "id": release,
            "upstream": "main",
            "project": project,
            "version": version,
            "requester": "p-ana",
            "token_hash": "0" * 64,
            "state": "awaiting",
            "live": None,
            "opened_ms": now,
            "touched_ms": now,
            "updated_ms": now,
        }
        with contextlib.suppress(IntegrityError):  # the same set is asked for again
            self.rows.run(lambda c: c.execute(g.RELEASE.insert().values(**row)))

    def freeze(
        self, name: str, project: str = "", reason: str = "looks wrong", *, deny_open: bool = False
    ) -> Statement:
        statement = self.statement(FreezeBody("set", project, (), reason, deny_open))
        approval = self.approval(statement, name)
        row = {"statement": statement.to_bytes(), "approval": approval.to_bytes(), "received_ms": 1}
        self.rows.run(lambda c: c.execute(g.NARROWING.insert().values(**row)))
        return statement

    def journal(self, question: Callable[..., Any]) -> Any:
        reader = Reader(places(self.home, read_config(self.home), "press").journal)
        try:
            return reader.run(question)
        finally:
            reader.close()

    def ledger(self) -> list[JsonObject]:
        """Every entry, read strictly."""
        entries: list[JsonObject] = self.journal(ledger_reading.in_journal)
        return entries

    def decision(self, digest: str) -> view.Decision | None:
        found: view.Decision | None = self.journal(lambda c: view.decisions(c, [digest])).get(
            digest
        )
        return found

    def until(self, press: Press, digest: str, state: str, timeout_s: float = 60) -> view.Decision:
        """Turns the press until the statement is in `state`; fails with what it says otherwise."""
        deadline = time.monotonic() + timeout_s
        decision = None
        while time.monotonic() < deadline:
            press.tick()
            decision = self.decision(digest)
            if decision is not None and decision.state == state:
                self._stands_in_the_ledger(digest, decision)
                return decision
            if decision is not None and (decision.state, state) == ("approved", "admitted"):
                self._let_the_window_pass(press)
            time.sleep(0.01)
        raise AssertionError(f"never {state}: {decision}")

    def _stands_in_the_ledger(self, digest: str, decision: view.Decision) -> None:
        """What the press refuses is an entry of its kind and code; so is why it waits for what somebody has signed."""
        kinds = ("refused", decision.state)
        if decision.state == "seen":
            kinds = ("not-yet",) if decision.code and self._is_signed(digest) else ()
        elif decision.state not in ("rejected", "expired", "stale", "failed"):
            kinds = ()
        entries = self.ledger() if kinds else []
        members = {"statement": digest, "code": decision.code}
        assert not kinds or any(entered(entries, kind, **members) for kind in kinds), decision

    def _is_signed(self, digest: str) -> bool:
        with self.rows.read() as connection:
            query = g.APPROVAL.select().where(g.APPROVAL.c.statement == digest)
            return connection.execute(query).first() is not None

    def _let_the_window_pass(self, press: Press) -> None:
        world = getattr(press.clock.wall, "__self__", None)
        if isinstance(world, WorldClock):
            world.advance(self.policy.window_s + 1)

    def stays(self, press: Press, digest: str, state: str, turns: int = 8) -> view.Decision:
        """Turns the press a few times and asserts that it does not move on."""
        for _ in range(turns):
            press.tick()
            time.sleep(0.01)
        decision = self.decision(digest)
        assert decision is not None and decision.state == state, decision
        self._stands_in_the_ledger(digest, decision)
        return decision

    @contextmanager
    def press(self, clock: Clock | None = None) -> Iterator[Press]:
        """The press in this process, composed as the real one is."""
        with service.composed(self.home, clock=clock) as press:
            yield press


@contextmanager
def rigs(folder: Path, registry: Registry, policy: Policy) -> Iterator[Callable[..., Rig]]:
    """Makes rigs, of another policy and other people on demand; sealed unless told otherwise."""
    made: list[Rig] = []

    def make(policy: Policy = policy, sealed: bool = True, **options: Any) -> Rig:
        rig = Rig(folder / f"home{len(made)}", registry, policy, **options).build()
        made.append(rig)
        if sealed:
            rig.seal()
        return rig

    yield make
    for rig in made:
        rig.rows.close()
