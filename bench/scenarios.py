"""What is done to measure each figure: each function adds one sample a round, under the keys of `figures.figures`."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeAlias

import exchange
import ledger
import nodes
import policies
import procfs
import proofs
import rawhttp
from figures import (
    CROWD_FILES,
    FULL_MB,
    GATEWAYS,
    LEDGER_ENTRIES,
    RULE_PACKAGES,
    Figure,
    figures,
)
from floors import DurableWrite, copy_s
from house import PEOPLE, House
from presspass.core.statement import Statement
from presspass.drill.peers import PypiServer
from presspass.rules.ruleset import RuleSet
from rawhttp import Door, Line, Prepared, Wheel, must
from wheels import LargeWheel, small_wheel

SMALL_BYTES: Final = 20_000
CROWD: Final = 16
_POLL_S: Final = 0.002
_RELEASE_S_MAX: Final = 30.0
Answer: TypeAlias = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much is done. `…_rounds` are counted without the warm-up round."""

    large_mb: int = FULL_MB
    large_rounds: int = 3
    small_count: int = 200
    small_rounds: int = 3
    crowd_count: int = CROWD_FILES
    crowd_rounds: int = 3
    release_rounds: int = 7
    start_rounds: int = 3
    help_rounds: int = 9
    exchange_rounds: int = 3
    exchanges: int = 1920
    revocations: int = 100
    gateways: int = GATEWAYS
    gateway_revocations: int = 100
    ledger_entries: int = LEDGER_ENTRIES
    ledger_appends: int = 1000
    rule_packages: int = RULE_PACKAGES
    rule_rounds: int = 3
    rule_decisions: int = 2000
    engine_decisions: int = 200
    drops: int = 50
    proofs: int = 12
    proof_checks: int = 2400
    proof_rounds: int = 5
    verify_rounds: int = 9

    @property
    def figures(self) -> dict[str, Figure]:
        """The figures, named by what is done."""
        return figures(
            self.large_mb,
            self.crowd_count,
            self.gateways,
            self.ledger_entries,
            self.rule_packages,
        )


FULL: Final = Sizes()
QUICK: Final = Sizes(
    large_mb=50,
    large_rounds=2,
    small_count=60,
    small_rounds=2,
    crowd_rounds=2,
    release_rounds=3,
    start_rounds=1,
    help_rounds=3,
    exchange_rounds=1,
    exchanges=320,
    revocations=30,
    gateway_revocations=20,
    ledger_entries=100_000,
    ledger_appends=300,
    drops=20,
    proofs=4,
    proof_checks=400,
    proof_rounds=3,
    verify_rounds=3,
)


@dataclass(slots=True)
class Samples:
    """What was measured: the values of a figure, round by round, and those of its peer."""

    values: dict[str, list[float]] = field(default_factory=dict)
    beside: dict[str, list[float]] = field(default_factory=dict)

    def add(self, key: str, value: float) -> None:
        """One round of a figure."""
        self.values.setdefault(key, []).append(value)

    def add_beside(self, key: str, value: float) -> None:
        """One round of what stands beside the figure."""
        self.beside.setdefault(key, []).append(value)


def command_line(sizes: Sizes, samples: Samples) -> None:
    """CPU of `presspass --help`, as the kernel accounts it to the child."""
    program = Path(sys.executable).with_name("presspass")
    for number in range(sizes.help_rounds + 1):
        with subprocess.Popen([program, "--help"], stdout=subprocess.DEVNULL) as process:
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != 0:
            raise RuntimeError(f"presspass --help ended with {process.returncode}")
        if number:
            samples.add("help", (usage.ru_utime + usage.ru_stime) * 1000)


def start(house: House, sizes: Sizes, samples: Samples) -> None:
    """Time until `presspass serve` is ready, and what all of it occupies then."""
    house.serve_again()
    for _ in range(sizes.start_rounds):
        samples.add("ready", house.serve_again())
    samples.add("memory-start", house.shared_out_bytes() / procfs.MB)


def releases(house: House, sizes: Sizes, samples: Samples) -> None:
    """A signature's way to the registry, beside the same file sent to another registry of the same kind directly."""
    project = "bench-release"
    door = house.door(project)
    with PypiServer(house.folder / "direct") as direct:
        straight = Door(direct.port, "/")
        for number in range(sizes.release_rounds + 1):
            wheel = small_wheel(project, f"1.{number}", SMALL_BYTES)
            own_s = _upload_s(straight, wheel)
            live_s = _release_s(house, door, wheel)
            if number == 0:
                samples.add("memory-release", house.shared_out_bytes() / procfs.MB)
            else:
                samples.add("release", (live_s - own_s) * 1000)


def large(house: House, sizes: Sizes, samples: Samples) -> None:
    """One large wheel to the gate, to pypiserver, and copied by hand; then what the gateway's memory grew by."""
    door = house.door("bench-large")
    gateway = house.gateway
    procfs.reset_peak(gateway)
    before = procfs.resident_bytes(gateway)
    source = LargeWheel(house.folder / "large.whl", "bench-large", sizes.large_mb * procfs.MB)
    with PypiServer(house.folder / "large-peer") as peer:
        for number in range(sizes.large_rounds + 1):
            wheel = source.become(f"1.{number}")
            gate_s = _large_to_gate_s(house, door, wheel)
            peer_s = _settled_upload_s(Door(peer.port, "/"), wheel)
            (peer.packages / wheel.filename).unlink()
            os.sync()
            floor_s = copy_s(source.path, house.folder)
            if number:
                megabytes = wheel.size / procfs.MB
                samples.add("large-peer", megabytes / gate_s)
                samples.add_beside("large-peer", megabytes / peer_s)
                samples.add("large-floor", megabytes / gate_s)
                samples.add_beside("large-floor", megabytes / floor_s)
    samples.add("large-memory", (procfs.peak_bytes(gateway) - before) / procfs.MB)
    source.path.unlink()


def _large_to_gate_s(house: House, door: Door, wheel: Wheel) -> float:
    os.sync()
    with Line(door.port) as line:
        request = Prepared.upload(door, wheel)
        begin = time.perf_counter()
        answer = must(line, request)
        seconds = time.perf_counter() - begin
    house.withdraw(door, [answer])
    house.forget_blobs()
    return seconds


def _settled_upload_s(door: Door, wheel: Wheel) -> float:
    """Begins when the disk is quiet: what an earlier writer left to be written back is not this one's to pay for."""
    os.sync()
    return _upload_s(door, wheel)


def _upload_s(door: Door, wheel: Wheel) -> float:
    with Line(door.port) as line:
        request = Prepared.upload(door, wheel)
        begin = time.perf_counter()
        must(line, request)
        return time.perf_counter() - begin


def small(house: House, sizes: Sizes, samples: Samples) -> None:
    """Small wheels one after the other, each a set of its own, in turn with the floor."""
    door = house.door("bench-small")
    gateway = house.gateway
    with DurableWrite(house.folder, SMALL_BYTES) as floor:
        for number in range(sizes.small_rounds + 1):
            wheels = _small_wheels("bench-small", number, sizes.small_count)
            beside = [floor.once_s() * 1000 for _ in range(sizes.small_count)]
            cpu_before = procfs.cpu_ms(gateway)
            times, answers = _one_by_one_ms(door, wheels)
            cpu = procfs.cpu_ms(gateway) - cpu_before
            house.withdraw(door, answers)
            if number:
                samples.add("small-p50", statistics.median(times))
                samples.add_beside("small-p50", statistics.median(beside))
                samples.add("small-cpu", cpu / sizes.small_count)


def _small_wheels(project: str, number: int, count: int) -> list[Wheel]:
    return [small_wheel(project, f"{number}.{one}", SMALL_BYTES) for one in range(count)]


def _one_by_one_ms(door: Door, wheels: list[Wheel]) -> tuple[list[float], list[Answer]]:
    requests = [Prepared.upload(door, wheel) for wheel in wheels]
    times, answers = [], []
    with Line(door.port) as line:
        for request in requests:
            begin = time.perf_counter()
            answers.append(must(line, request))
            times.append((time.perf_counter() - begin) * 1000)
    return times, answers


def crowd(house: House, sizes: Sizes, samples: Samples) -> None:
    """Small wheels, 16 at a time, in turn to the gate and to a pypiserver over a folder that is empty each time."""
    project = "bench-crowd"
    door = house.door(project)
    for number in range(sizes.crowd_rounds + 1):
        wheels = _small_wheels(project, number, sizes.crowd_count)
        with PypiServer(house.folder / f"crowd-peer-{number}") as peer:
            beside = _crowd_rate(Door(peer.port, "/"), wheels)[0]
        rate, answers = _crowd_rate(door, wheels)
        house.withdraw(door, answers)
        if number:
            samples.add("small-crowd", rate)
            samples.add_beside("small-crowd", beside)


def _crowd_rate(door: Door, wheels: list[Wheel]) -> tuple[float, list[Answer]]:
    os.sync()
    begin = time.perf_counter()
    answers, _broken = rawhttp.crowd(door, wheels, CROWD)
    return len(wheels) / (time.perf_counter() - begin), answers


def identities(house: House, sizes: Sizes, samples: Samples) -> None:
    """Exchanges, passes and revocations."""
    for number in range(sizes.exchange_rounds + 1):
        rate, check_ms = exchange.exchanges(house.folder / f"exchange-{number}", sizes.exchanges)
        p99_s = exchange.revocations(house, sizes.revocations)
        if number:
            samples.add("exchange", rate)
            samples.add("pass-check", check_ms)
            samples.add("revocation", p99_s)


def several_gateways(house: House, sizes: Sizes, samples: Samples) -> None:
    """A revocation at one of several gateways, until all of them know."""
    folder = house.folder / "gateways"
    seconds = nodes.revocation_s(folder, sizes.gateways, sizes.gateway_revocations)
    samples.add("revocation-gateways", seconds)


def the_ledger(house: House, sizes: Sizes, samples: Samples) -> None:
    """Appends, proofs and size."""
    found = ledger.measure(house.folder / "ledger", sizes.ledger_entries, sizes.ledger_appends)
    samples.add("ledger-batch", found.batch)
    samples.add("ledger-single", found.single)
    samples.add_beside("ledger-single", found.commits)
    samples.add("ledger-group", found.group)
    samples.add_beside("ledger-group", found.commits)
    samples.add("ledger-proof", found.proof_ms)
    samples.add("ledger-size", found.size_mb)
    samples.add("ledger-audit", found.audit_s)


def dropped(house: House, sizes: Sizes, samples: Samples) -> None:
    """A revocation that nobody signed, put into the drop box: past the gateway (law 8)."""
    samples.add("drop", exchange.dropped(house, sizes.drops))


def rules(_house: House, sizes: Sizes, samples: Samples) -> None:
    """Decisions about packages that each have rules of their own, and of the engine that sees all of them."""
    sliced = RuleSet.of(policies.document(sizes.rule_packages))
    for number in range(sizes.rule_rounds + 1):
        ours = policies.decisions_ms(sliced, sizes.rule_decisions)
        whole = policies.engine_ms(sliced, sizes.engine_decisions)
        if number:
            samples.add("decision", ours)
            samples.add_beside("decision", whole)


def some_proofs(house: House, sizes: Sizes, samples: Samples) -> None:
    """Proofs of releases that this gate has published, checked by the command and by the library."""
    project = "bench-proof"
    door, trust_root = house.door(project), house.gate.home / "trust-root.json"
    published = []
    for number in range(sizes.proofs):
        wheel = small_wheel(project, f"1.{number}", SMALL_BYTES)
        _release_s(house, door, wheel)
        status, proof = rawhttp.ask(door.port, "GET", f"/log/proof/{wheel.sha256}")
        _expect(status, proof)
        published.append(proofs.Proved(wheel, proof))
    file = published[0].lay_out(house.folder / "proofs")
    for number in range(sizes.verify_rounds + 1):
        verify_ms, floor_ms = proofs.command_ms(file, trust_root)
        if number:
            samples.add("verify-cpu", verify_ms)
            samples.add_beside("verify-cpu", floor_ms)
    for number in range(sizes.proof_rounds + 1):
        rate, bare = proofs.rates(published, trust_root.read_bytes(), sizes.proof_checks)
        if number:
            samples.add("verify-rate", rate)
            samples.add_beside("verify-rate", bare)
        all_rate = proofs.all_rate(published, trust_root.read_bytes(), 8 * sizes.proof_checks)
        if number:
            samples.add("verify-all", all_rate)


def _release_s(house: House, door: Door, wheel: Wheel) -> float:
    """Seconds from the answer to the last signature needed until the registry serves the file."""
    with Line(door.port) as line:
        release = str(must(line, Prepared.upload(door, wheel))["id"])
    page, bearer = f"/api/v1/releases/{release}", {"Authorization": f"Bearer {door.password}"}
    _expect(*rawhttp.ask(door.port, "POST", f"{page}/close", b"", **bearer))
    deadline = time.monotonic() + _RELEASE_S_MAX
    while (found := json.loads(rawhttp.ask(door.port, "GET", page)[1]))["state"] != "awaiting":
        _wait(deadline, f"a request for signatures; the release is {found['state']}")
    statement = Statement.from_bytes(found["statement"].encode())
    with _poll(house.upstream.port, f"/packages/{wheel.filename}") as served:
        begin = _sign(house, door, statement)
        while not served():
            _wait(deadline, "the registry to serve the file")
        seconds = time.perf_counter() - begin
    while json.loads(rawhttp.ask(door.port, "GET", page)[1])["state"] != "verified":
        _wait(deadline, "the press to have read the file back")
    return seconds


def _sign(house: House, door: Door, statement: Statement) -> float:
    """Everybody signs in turn until nobody is missing; when that last signature was answered (perf_counter)."""
    target = f"/api/v1/requests/{statement.digest}/approvals"
    for name in PEOPLE:
        key = house.gate.passkey(name)
        approval = key.approve(statement.to_bytes(), origin=house.gate.origin, rp_id="localhost")
        status, body = rawhttp.ask(door.port, "POST", target, approval.to_bytes())
        answered = time.perf_counter()
        _expect(status, body)
        if json.loads(body)["tally"]["missing"] == 0:
            return answered
    raise RuntimeError(f"everybody has signed, and it is not enough: {body[:300]!r}")


@contextlib.contextmanager
def _poll(port: int, path: str) -> Iterator[Callable[[], bool]]:
    """Asks again and again over one connection, which is open before the clock runs."""
    connection = http.client.HTTPConnection("127.0.0.1", port)

    def served() -> bool:
        connection.request("GET", path)
        answer = connection.getresponse()
        answer.read()
        return answer.status == 200

    with contextlib.closing(connection):
        if served():
            raise RuntimeError(f"{path} is served before it was approved")
        yield served


def _expect(status: int, body: bytes) -> None:
    if status not in (200, 202):
        raise RuntimeError(f"the gate answered {status}: {body[:300]!r}")


def _wait(deadline: float, what: str) -> None:
    if time.monotonic() > deadline:
        raise RuntimeError(f"waited {_RELEASE_S_MAX:g} s for {what}")
    time.sleep(_POLL_S)
