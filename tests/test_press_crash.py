"""A crash at any commit and around any upload loses nothing and repeats nothing (law 6).

Each case starts from the same prepared home, lets the press die at one chosen point, and starts a new press on what is
left. A dead press commits nothing more: from the chosen commit on, every commit fails.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Connection

import backends
from press_rig import TOKEN, Rig
from presspass.core.errors import Fault
from presspass.core.policy import Policy
from presspass.core.roster import Details
from presspass.core.statement import RosterBody, Statement, UpstreamBody
from presspass.drill.packages import make_sdist, make_wheel
from presspass.drill.world.registry import Outcome, Registry
from presspass.press import journal
from presspass.press.press import Press
from presspass.press.publishers import Outgoing, Publisher, Served
from presspass.services import press as service
from presspass.store import journal_tables as t
from presspass.store import journal_view as view
from presspass.store import ledger_check
from presspass.verify.proof import Proof, check_proof

POLICY = Policy(veto_window_s=0, software_keys=True, key_wait_s=0)
LEASE_MS = 200
COMMITS_MAX = 40


class Died(OSError):
    """The end of a process, as the code in it would see the last thing it did."""


@dataclass
class Fuse:
    """Lets `good` commits through; at the next one the press dies, before or after it has persisted."""

    good: int
    persisted: bool
    seen: int = 0

    def __call__(self, connection: Connection) -> None:
        self.seen += 1
        if self.seen <= self.good:
            connection.exec_driver_sql("COMMIT")
            return
        if self.persisted and self.seen == self.good + 1:
            connection.exec_driver_sql("COMMIT")
        raise Died("the press is dead")

    @property
    def blown(self) -> bool:
        return self.seen > self.good


@dataclass
class Prepared:
    """A home in which everything is asked for and signed, and nothing is done yet."""

    rig: Rig
    port: int
    statement: Statement
    files: list[Path]
    runs: int = field(default=0)

    def fresh(self, registry: Registry) -> Rig:
        """A copy of it, with an empty registry."""
        self.runs += 1
        rig = replace(self.rig, home=self.rig.home.with_name(f"run{self.runs}"), registry=registry)
        rig.genesis, rig.identity = self.rig.genesis, self.rig.identity
        shutil.copytree(self.rig.home, rig.home)
        backends.copied(rig.home)
        return rig


def quiet_details(name: str) -> Details:
    """Nobody has an address: no notices, so that the commits of a run are those of the flow."""
    return Details(name.title(), (), (), hashlib.sha256(name.encode()).hexdigest()[:32])


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    folder = tmp_path_factory.mktemp("crash")
    with Registry(seed=7, token=TOKEN) as registry:
        rig = Rig(folder / "prepared", registry, POLICY, lease_ms=LEASE_MS)
        rig.details = quiet_details  # type: ignore[method-assign]  # see there
        rig.build().seal()
        files = [make_wheel(folder, "demo", "1.0"), make_sdist(folder, "demo", "1.0")]
        with rig.press() as press:
            rig.upstream(press)
            statement = rig.stage(press, files, "demo", "1.0")
            rig.sign(statement, "ana", "ben")
        rig.rows.close()
        return Prepared(rig, registry.port, statement, files)


@pytest.fixture
def registries(prepared: Prepared) -> Iterator[Callable[[], Registry]]:
    """New, empty registries, one after the other at the address that the upstream statement names."""
    running: list[Registry] = []

    def make() -> Registry:
        for old in running:
            old.stop()
        registry = Registry(seed=7, token=TOKEN)
        registry.port = prepared.port
        registry.start()
        running[:] = [registry]
        return registry

    yield make
    for registry in running:
        registry.stop()


def drive(press: Press, over: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not over():
        assert time.monotonic() < deadline, "never came to its end"
        press.tick()
        time.sleep(0.005)


def verified(rig: Rig, statement: Statement) -> bool:
    decision = rig.decision(statement.digest)
    return decision is not None and decision.state == "verified"


def entries_about(rig: Rig, statement: Statement) -> list[str]:
    query = sa.select(t.LEDGER_ENTRY.c.entry).order_by(t.LEDGER_ENTRY.c.position)
    found = rig.journal(lambda c: [json.loads(one) for one in c.execute(query).scalars()])
    return [entry["kind"] for entry in found if entry.get("statement") == statement.digest]


def kinds(rig: Rig) -> list[str]:
    query = sa.select(t.LEDGER_ENTRY.c.entry).order_by(t.LEDGER_ENTRY.c.position)
    return [
        json.loads(entry)["kind"]
        for entry in rig.journal(lambda c: list(c.execute(query).scalars()))
    ]


def assert_done_once(rig: Rig, prepared: Prepared) -> None:
    stored = [
        upload.filename for upload in rig.registry.uploads if upload.outcome is not Outcome.REFUSED
    ]
    assert sorted(stored) == sorted(path.name for path in prepared.files)
    assert rig.journal(ledger_check.check) == len(kinds(rig))
    about = entries_about(rig, prepared.statement)
    assert about == ["asked", "signed", "signed", "approved", "intent", "verified"]
    for path in prepared.files:
        proof = rig.journal(
            lambda c, name=path.name: view.proof(c, prepared.statement.digest, name)
        )
        check_proof(
            Proof.from_bytes(proof),
            filename=path.name,
            sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
            size=path.stat().st_size,
            trust_root=rig.genesis.digest,
        )


def finish(rig: Rig, prepared: Prepared) -> None:
    with service.composed(rig.home) as press:
        drive(press, lambda: verified(rig, prepared.statement))
        for _ in range(3):
            press.tick()
    assert_done_once(rig, prepared)


@pytest.mark.parametrize("persisted", [False, True], ids=["commit-lost", "commit-kept"])
def test_a_crash_at_any_commit_of_a_publication_repeats_nothing(
    prepared: Prepared, registries: Callable[[], Registry], persisted: bool
) -> None:
    for good in range(COMMITS_MAX):
        rig, fuse = prepared.fresh(registries()), Fuse(good, persisted)
        with service.composed(rig.home, commit=fuse) as press:
            try:
                drive(press, lambda: fuse.blown or verified(rig, prepared.statement))  # noqa: B023  # called at once
            except Fault as fault:
                assert fault.code == "store.write-failed"
        finish(rig, prepared)
        if not fuse.blown:
            assert good >= 7, "a publication of two files has at least seven commits"
            return
    raise AssertionError("the publication never got through without a crash")


@dataclass
class Mortal:
    """A real publisher; the press dies before or after its upload number `at` (from 0)."""

    real: Publisher
    at: int
    after: bool
    sent: list[str]
    died: list[str]

    def served(self, project: str, filename: str, size_max: int) -> Served | None:
        return self.real.served(project, filename, size_max)

    def send(self, outgoing: Outgoing, username: str, secret: str) -> None:
        dies = len(self.sent) == self.at
        if dies and not self.after:
            self.died.append("before the upload")
            raise Died(self.died[0])
        self.real.send(outgoing, username, secret)
        self.sent.append(outgoing.file.name)
        if dies:
            self.died.append("after the upload")
            raise Died(self.died[0])

    def close(self) -> None:
        self.real.close()


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("at", [0, 1])
def test_a_crash_around_an_upload_repeats_nothing(
    prepared: Prepared, registries: Callable[[], Registry], at: int, after: bool
) -> None:
    rig = prepared.fresh(registries())
    sent: list[str] = []
    died: list[str] = []

    def commit(connection: Connection) -> None:
        if died:
            raise Died("the press is dead")
        connection.exec_driver_sql("COMMIT")

    with service.composed(rig.home, commit=commit) as press:
        real = press.tools.publisher
        press.publications.tools = replace(
            press.tools, publisher=lambda upstream: Mortal(real(upstream), at, after, sent, died)
        )
        with contextlib.suppress(Fault):
            drive(press, lambda: bool(died))
    assert len(sent) == at + after
    finish(rig, prepared)


def test_a_crash_after_an_upload_that_the_registry_reported_as_failed_repeats_nothing(
    prepared: Prepared, registries: Callable[[], Registry]
) -> None:
    registry = registries()
    rig = prepared.fresh(registry)
    registry.error_after_store(502)
    with service.composed(rig.home) as press:
        drive(press, lambda: bool(registry.uploads))
    finish(rig, prepared)


# --- everything before the first release: genesis, a credential, an upstream, another roster --------------------------


@dataclass
class Beginning:
    """What people on the press's host and the approvers do, told again after each crash as they would."""

    rig: Rig
    upstream: Statement
    change: Statement
    orders: dict[str, dict[str, object]]

    def give_orders(self) -> None:
        for name, order in self.orders.items():
            path = self.rig.home / "press" / "inbox" / f"{name}.json"
            if not path.with_suffix(".done").exists():
                path.write_text(json.dumps(order))

    def admitted(self) -> bool:
        found = (self.rig.decision(one.digest) for one in (self.upstream, self.change))
        return all(decision is not None and decision.state == "admitted" for decision in found)


def beginning(folder: Path, registry: Registry) -> Beginning:
    rig = Rig(folder, registry, POLICY, lease_ms=LEASE_MS)
    rig.details = quiet_details  # type: ignore[method-assign]  # see there
    rig.build()
    orders: dict[str, dict[str, object]] = {}
    ask = service.ask
    try:
        service.ask = lambda home, order, timeout: orders.update({"1-seal": order})  # type: ignore[assignment]  # kept
        rig.seal()
    finally:
        service.ask = ask
    heads = {"heads": heads_of(rig.genesis)}
    body = UpstreamBody(
        "main",
        "pypi",
        registry.upload_url,
        registry.simple_url,
        "__token__",
        "custody",
        service.credential_commitment(TOKEN, "00"),
    )
    rig.journal = lambda question: heads["heads"]  # type: ignore[method-assign]  # no genesis to ask yet
    upstream = rig.statement(body, rig.genesis.digest)
    change = rig.statement(RosterBody(rig.roster(without=("cleo",))), rig.genesis.digest)
    del rig.journal  # type: ignore[method-assign]  # the real one again
    orders["2-credential"] = {
        "do": "credential",
        "statement": upstream.to_bytes().decode(),
        "secret": TOKEN,
        "salt": "00",
    }
    for statement in (upstream, change):
        rig.request(statement)
        rig.sign(statement, "ana", "ben")
    rig.rows.close()
    return Beginning(rig, upstream, change, orders)


def heads_of(genesis: Statement) -> object:
    return replace(
        genesis.heads, roster=genesis.digest, policy=genesis.digest, revocation=genesis.digest
    )


@pytest.mark.parametrize("persisted", [False, True], ids=["commit-lost", "commit-kept"])
def test_a_crash_at_any_commit_of_the_beginning_repeats_nothing(
    tmp_path: Path, persisted: bool
) -> None:
    with Registry(seed=7, token=TOKEN) as registry:
        for good in range(COMMITS_MAX):
            start = beginning(tmp_path / f"run{good}", registry)
            fuse = Fuse(good, persisted)
            start.give_orders()
            try:
                with service.composed(start.rig.home, commit=fuse) as press:
                    drive(press, lambda: fuse.blown or start.admitted())  # noqa: B023  # called at once
            except Fault as fault:
                assert fault.code == "store.write-failed"
            with service.composed(start.rig.home) as press:
                start.give_orders()
                drive(press, start.admitted)
            for name in start.orders:
                assert json.loads(
                    (start.rig.home / "press" / "inbox" / f"{name}.done").read_text()
                )["ok"]
            assert kinds(start.rig)[0] == "genesis"
            assert start.rig.journal(ledger_check.check) == len(kinds(start.rig)) == 12
            for change in (start.upstream, start.change):
                about = entries_about(start.rig, change)
                assert about[-5:] == ["asked", "signed", "signed", "approved", "admitted"]
                assert about[:-5] == (["credential"] if change is start.upstream else [])
            chain = start.rig.journal(journal.load_chain)
            assert chain.heads.roster == start.change.digest
            assert chain.upstreams["main"][0] == start.upstream.digest
            if not fuse.blown:
                assert good >= 4
                return
    raise AssertionError("the beginning never got through without a crash")
