"""Upkeep and reviews in process, with a clock of the test's own and an inspector that fails on request."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

import backends
from gateway_world import ORIGIN, RP_ID, JournalFixture
from presspass.core.digests import JsonObject
from presspass.core.errors import Code, Fault, Refusal
from presspass.core.findings import InputFile, Report
from presspass.core.limits import EVENTS_PER_MINUTE_MAX
from presspass.core.policy import Policy
from presspass.core.statement import Statement
from presspass.drill.world.keys import SoftwarePasskey
from presspass.gateway import sets
from presspass.gateway.events import Events
from presspass.gateway.gate import Gate
from presspass.gateway.journal import Journal
from presspass.gateway.review import Reviews
from presspass.gateway.sets import Offer
from presspass.gateway.tokens import Right
from presspass.gateway.upkeep import Upkeep
from presspass.services.config import Config
from presspass.services.places import places
from presspass.store import gateway_tables as g
from presspass.store import migrate
from presspass.store.blobs import Blobs
from presspass.store.database import Writer, open_engine

LIFE_S, QUIET_S = 600, 300


@dataclass
class Bench:
    """A gate with a clock that a test sets."""

    gate: Gate
    upkeep: Upkeep
    now: list[int]
    journal: JournalFixture
    fails: list[Exception] = field(default_factory=list)
    inspections: int = 0

    def call(self, request: JsonObject, fds: list[int], timeout_s: float) -> bytes:
        """An inspector that reads the files and finds nothing, or fails as it was told to."""
        self.inspections += 1
        if self.fails:
            raise self.fails.pop(0)
        for file, fd in zip(request["candidate"], fds, strict=True):
            assert hashlib.sha256(os.pread(fd, 1 << 20, 0)).hexdigest() == file["sha256"]
        candidate = tuple(InputFile(**file) for file in request["candidate"])
        return Report(
            "test", request["project"], request["version"], candidate, None, (), ()
        ).to_bytes()

    def upload(
        self, version: str = "1.0", filename: str = "greet-1.0.tar.gz", data: bytes = b"data"
    ) -> str:
        sha256 = hashlib.sha256(data).hexdigest()
        self.gate.blobs.add([data], sha256)
        right = Right("0" * 64, "private", "greet", "ada")
        offer = Offer(right, "greet", version, filename, sha256, len(data))
        return self.gate.writer.run(lambda c: sets.place(c, offer, {}, "", self.now[0])).release

    def close(self, release: str) -> None:
        right = Right("0" * 64, "private", "greet", "ada")
        self.gate.writer.run(lambda c: sets.close_set(c, release, right, self.now[0]))

    def row(self, release: str) -> Any:
        with self.gate.writer.read() as connection:
            return connection.execute(sa.select(g.RELEASE).where(g.RELEASE.c.id == release)).one()

    def state(self, release: str) -> str:
        return str(self.row(release).state)

    def later(self, seconds: float) -> None:
        self.now[0] += int(seconds * 1000)
        self.upkeep.look()


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    policy = Policy(approval_life_s=LIFE_S, quiet_period_s=QUIET_S, software_keys=True)
    config = Config(ORIGIN, database=backends.section())
    found = places(tmp_path, config, "gateway")
    (tmp_path / "gateway").mkdir()
    (tmp_path / "press" / "journal").mkdir(parents=True)
    journal = JournalFixture(places(tmp_path, config, "press").journal, policy)
    ada, grace = SoftwarePasskey.generate(1), SoftwarePasskey.generate(2)
    journal.seal({"ada": [ada.key], "grace": [grace.key]})
    engine = open_engine(found.gateway)
    migrate.bring_up(engine, "gateway")
    writer, view, now = Writer(engine), Journal(found.journal), [1_800_000_000_000]
    blobs = Blobs(tmp_path / "blobs", tmp_path / "tmp")
    with ThreadPoolExecutor(2) as pool:
        events = Events(writer, lambda: now[0])
        gate = Gate(ORIGIN, RP_ID, "main", writer, view, blobs, events, pool, lambda: now[0])
        upkeep = Upkeep(gate, found.journal)
        yield Bench(gate, upkeep, now, journal)
        upkeep.close()
    writer.close()
    view.close()
    journal.writer.close()


def test_a_set_closes_only_after_the_whole_quiet_period(bench: Bench) -> None:
    release = bench.upload()
    bench.later(QUIET_S - 1)
    assert bench.state(release) == "open"
    bench.upload(filename="greet-1.0-py3-none-any.whl")
    bench.later(QUIET_S - 1)
    assert bench.state(release) == "open"
    bench.later(1)
    assert bench.state(release) == "staged"
    assert bench.row(release).closed_ms == bench.now[0]


def test_sending_the_same_file_again_does_not_keep_a_set_open(bench: Bench) -> None:
    release = bench.upload()
    bench.later(QUIET_S - 1)
    assert bench.upload() == release
    bench.later(1)
    assert bench.state(release) == "staged"


def asked(bench: Bench) -> tuple[str, str]:
    """(release, digest of its request)."""
    release = bench.upload()
    bench.close(release)
    reviews = Reviews(bench.gate, bench)
    assert [reviews.step(), reviews.step(), reviews.step()] == [1, 1, 0]
    return release, str(bench.row(release).statement)


def test_a_request_that_nobody_decided_expires(bench: Bench) -> None:
    release, _request = asked(bench)
    bench.later(LIFE_S)
    assert bench.state(release) == "awaiting"  # the press has the word for a while
    bench.later(40)
    assert (bench.state(release), bench.row(release).code) == ("expired", "release.expired")
    assert bench.row(release).live is None
    assert bench.upload() != release


def test_what_the_press_approved_in_time_does_not_expire(bench: Bench) -> None:
    release, request = asked(bench)
    bench.journal.decide(request, release, "approved")
    bench.later(LIFE_S + 40)
    assert bench.state(release) == "approved"


def test_an_inspector_that_fails_as_a_whole_is_asked_again_later(bench: Bench) -> None:
    release = bench.upload()
    bench.close(release)
    reviews = Reviews(bench.gate, bench)
    bench.fails = [Fault("inspection.crashed", "gone", retryable=True)] * 2
    assert reviews.step() == 0
    assert reviews.step() == 0
    assert bench.inspections == 1  # not again at once
    bench.later(1)
    assert reviews.step() == 0
    bench.later(2)
    assert reviews.step() == 1
    assert (bench.state(release), bench.inspections) == ("reviewed", 3)


@pytest.mark.parametrize(
    "code", [Code.INSPECTION_TIMED_OUT, Code.INSPECTION_CRASHED, Code.INSPECTION_TOO_LARGE]
)
def test_a_file_that_no_inspection_survives_ends_the_release(bench: Bench, code: Code) -> None:
    release = bench.upload()
    bench.close(release)
    bench.fails = [Refusal(code, "The inspection did not end.")]
    Reviews(bench.gate, bench).step()
    assert (bench.state(release), bench.row(release).code) == ("rejected", code.value)


def test_an_answer_about_other_files_is_not_taken(bench: Bench) -> None:
    release = bench.upload()
    bench.close(release)

    class Liar:
        def call(self, request: JsonObject, fds: list[int], timeout_s: float) -> bytes:
            other = (InputFile("greet-1.0.tar.gz", "f" * 64, 4),)
            return Report("test", "greet", "1.0", other, None, (), ()).to_bytes()

    Reviews(bench.gate, Liar()).step()
    assert (bench.state(release), bench.row(release).code) == ("rejected", "inspection.crashed")


def test_a_set_withdrawn_during_its_review_is_not_asked_for(bench: Bench) -> None:
    release = bench.upload()
    bench.close(release)
    reviews = Reviews(bench.gate, bench)
    reviews.step()
    right = Right("0" * 64, "private", "greet", "ada")

    waiting = reviews._waiting()
    bench.gate.writer.run(lambda c: sets.withdraw(c, release, right, bench.now[0]))
    for one in waiting:
        reviews._move(one)
    assert bench.state(release) == "withdrawn"
    with bench.gate.writer.read() as connection:
        assert connection.execute(sa.select(g.REQUEST)).all() == []


def test_a_stale_request_makes_a_new_statement_for_the_same_files(bench: Bench) -> None:
    release, request = asked(bench)
    bench.journal.decide(request, release, "stale", "release.stale", "a head moved on")
    bench.upkeep.look()
    assert (bench.state(release), bench.row(release).statement) == ("staged", None)
    reviews = Reviews(bench.gate, bench)
    reviews.step()
    reviews.step()
    second = bench.row(release).statement
    assert second not in (None, request)
    with bench.gate.writer.read() as connection:
        rows = (
            connection.execute(sa.select(g.REQUEST.c.statement).order_by(g.REQUEST.c.created_ms))
            .scalars()
            .all()
        )
    first, other = (Statement.from_bytes(row).body for row in rows)
    assert first == other
    assert bench.row(release).live == 1


def test_refusals_at_a_door_are_bounded_and_what_has_no_row_is_a_number_when_its_minute_is_over(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    def events() -> list[tuple[str, str, str]]:
        bench.gate.writer.run(lambda c: None)
        query = sa.select(g.EVENT.c.kind, g.EVENT.c.code, g.EVENT.c.detail).order_by(g.EVENT.c.id)
        with bench.gate.writer.read() as connection:
            return [tuple(row) for row in connection.execute(query)]

    refusal = Refusal(Code.TOKEN_EXPIRED, "expired")
    for _ in range(EVENTS_PER_MINUTE_MAX + 50):
        bench.gate.events.refused(refusal, "upload", "a" * 64)
        bench.gate.events.refused(refusal, "upload", "")
    bench.gate.events.refused(refusal, "exchange", "b" * 64)
    bench.upkeep.look()
    rows = events()
    assert [row[0] for row in rows] == ["upload"] * EVENTS_PER_MINUTE_MAX + ["exchange"]
    assert capsys.readouterr().err.count('"refused"') == EVENTS_PER_MINUTE_MAX
    bench.later(60)
    numbers = [("strangers", "", str(EVENTS_PER_MINUTE_MAX + 50)), ("left-out", "", "50")]
    assert events() == rows + numbers
    assert '"left_out": 50' in capsys.readouterr().err
    bench.gate.events.refused(refusal, "upload", "")
    bench.gate.events.settle(ending=True)
    assert events() == [*rows, *numbers, ("strangers", "", "1")], "what ends tells what it knows"
