"""From a closed set to a request for signatures: inspection, then the statement.

1. `staged`: the inspector reads the files against the last release that the press published; the report and the move to
   `reviewed` are one transaction.
2. `reviewed`: the statement is written under the present heads; the request and the move to `awaiting` are one.

A state moves only together with its product, so a crash at any point leaves the set where it was, and the next look
takes it up again. One thread does this for the whole gateway. Where several gateways share a database, each set is
claimed first, so that it is inspected once; that nothing moves twice does not rest on it.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from presspass.core.digests import JsonObject, sha256_hex
from presspass.core.errors import Code, Fault, Refusal
from presspass.core.findings import Finding, Report, Severity, parse_report
from presspass.core.lifecycle import State
from presspass.core.limits import INSPECTION_WALL_S_MAX
from presspass.core.statement import AskedBy, ReleaseBody, ReleaseFile
from presspass.gateway import events, requests, sets
from presspass.gateway.gate import Gate
from presspass.store import journal_view
from presspass.store.gateway_tables import RELEASE, RELEASE_FILE, REVIEW, WORKLOAD_TOKEN
from presspass.store.journal_view import PublishedRelease

_RETRY_FIRST_MS, _RETRY_MAX_MS = 500, 30_000
#: Rules by which a file is not what its name says; every other critical one is about an archive nobody reads alike.
_IDENTITY = ("identity.", "metadata.", "release.foreign-file")


class Inspector(Protocol):
    """`presspass.confine.worker.Worker`, as far as it is used here."""

    def call(self, request: JsonObject, fds: list[int], timeout_s: float) -> bytes:
        """The report for the files `fds`; raises Refusal, or Fault when the worker as a whole failed."""
        ...


@dataclass(frozen=True, slots=True)
class _Set:
    id: str
    upstream: str
    project: str
    version: str
    requester: str
    state: State
    review: str | None
    asked_by: AskedBy | None
    files: tuple[ReleaseFile, ...]


#: Claims a set for this gateway while the context lasts; says whether it could.
Claim = Callable[[str], AbstractContextManager[bool]]


def _alone(_release: str) -> AbstractContextManager[bool]:
    return contextlib.nullcontext(True)


class Reviews:
    """Does one step for each set that waits for one. Call `step` from one thread only."""

    def __init__(self, gate: Gate, inspector: Inspector, claim: Claim = _alone) -> None:
        self._gate = gate
        self._inspector = inspector
        self._claim = claim
        self._later: dict[str, tuple[int, int]] = {}  # release: (not before, delay), after a fault

    def step(self) -> int:
        """Moves every waiting set by one step; how many it moved."""
        return sum(self._move_claimed(one) for one in self._waiting())

    def _waiting(self) -> list[_Set]:
        wanted = [State.STAGED.value]
        if self._gate.journal.rules.sealed:
            wanted.append(State.REVIEWED.value)
        with self._gate.writer.read() as connection:
            query = (
                sa.select(RELEASE).where(RELEASE.c.state.in_(wanted)).order_by(RELEASE.c.touched_ms)
            )
            rows = connection.execute(query).all()
            return [_read(connection, row) for row in rows if self._is_due(row.id)]

    def _is_due(self, release: str) -> bool:
        return self._later.get(release, (0, 0))[0] <= self._gate.clock()

    def _move_claimed(self, one: _Set) -> bool:
        with self._claim(one.id) as ours:
            return ours and self._is_still(one) and self._move(one)

    def _is_still(self, one: _Set) -> bool:
        """Whether nobody moved it since it was listed: before it was claimed, another gateway may have."""
        with self._gate.writer.read() as connection:
            query = sa.select(RELEASE.c.state).where(RELEASE.c.id == one.id)
            return bool(connection.execute(query).scalar() == one.state.value)

    def _move(self, one: _Set) -> bool:
        try:
            if one.state is State.STAGED:
                self._review(one)
            else:
                self._ask(one)
        except Refusal as refusal:
            self._reject(one, refusal.code, refusal.message)
        except Fault as fault:
            self._put_off(one, fault)
            return False
        self._later.pop(one.id, None)
        return True

    def _review(self, one: _Set) -> None:
        gate = self._gate
        baseline = self._baseline(one)
        report = self._inspect(one, baseline)
        data = report.to_bytes()
        digest = sha256_hex(data)
        blocker = _blocker(report.findings)

        def work(connection: Connection) -> None:
            now = gate.clock()
            if (
                connection.execute(
                    sa.select(REVIEW.c.digest).where(REVIEW.c.digest == digest)
                ).first()
                is None
            ):
                row = {"digest": digest, "report": data, "made_ms": now}
                connection.execute(sa.insert(REVIEW), row)
            if blocker is None:
                sets.advance(connection, one.id, State.STAGED, State.REVIEWED, now, review=digest)
                return
            reason = f"{blocker.artifact or blocker.path}: {blocker.message}"
            sets.advance(
                connection, one.id, State.STAGED, State.REJECTED, now,
                review=digest, code=_code(blocker).value, reason=reason,
            )  # fmt: skip

        gate.writer.run(work)

    def _baseline(self, one: _Set) -> PublishedRelease | None:
        if not self._gate.journal.rules.sealed:
            return None
        return self._gate.journal.read(
            lambda c: journal_view.last_release(c, one.upstream, one.project)
        )

    def _inspect(self, one: _Set, baseline: PublishedRelease | None) -> Report:
        files = one.files + (baseline.files if baseline else ())
        with self._opened(files) as fds:
            answer = self._inspector.call(_inspection(one, baseline), fds, INSPECTION_WALL_S_MAX)
        report = parse_report(answer)
        # The inspector read hostile bytes: it may say anything, but not about another set than it was given.
        about = tuple(ReleaseFile(file.name, file.sha256, file.size) for file in report.candidate)
        if (report.project, report.version, about) != (one.project, one.version, one.files):
            raise Refusal(
                Code.INSPECTION_CRASHED,
                "The inspector answered about other files than it was given.",
            )
        return report

    @contextlib.contextmanager
    def _opened(self, files: Sequence[ReleaseFile]) -> Iterator[list[int]]:
        fds: list[int] = []
        try:
            fds.extend(self._gate.blobs.open(file.sha256) for file in files)
            yield fds
        finally:
            for fd in fds:
                os.close(fd)

    def _ask(self, one: _Set) -> None:
        gate = self._gate
        upstream = gate.journal.now().upstreams.get(one.upstream)
        if upstream is None or one.review is None:
            raise Refusal(Code.UPSTREAM_MISSING, f"There is no upstream {one.upstream!r} any more.")
        body = ReleaseBody(
            release=one.id,
            upstream=upstream[0],
            project=one.project,
            version=one.version,
            files=one.files,
            dist_tags=(),
            requester=one.requester,
            review=one.review,
            asked_by=one.asked_by,
        )
        statement = requests.make_statement(gate, body)

        def work(connection: Connection) -> None:
            now = gate.clock()
            digest = requests.put(connection, statement, one.id, now)
            moved = sets.advance(
                connection, one.id, State.REVIEWED, State.AWAITING, now,
                statement=digest, code="", reason="",
            )  # fmt: skip
            if not moved:  # withdrawn meanwhile: nobody is asked
                raise Refusal(
                    Code.RELEASE_WRONG_STATE, "The set was settled while its request was made."
                )

        with contextlib.suppress(Refusal):
            gate.writer.run(work)

    def _reject(self, one: _Set, code: Code, reason: str) -> None:
        def work(connection: Connection) -> None:
            sets.advance(
                connection, one.id, one.state, State.REJECTED, self._gate.clock(),
                code=code.value, reason=reason,
            )  # fmt: skip

        self._gate.writer.run(work)

    def _put_off(self, one: _Set, fault: Fault) -> None:
        now = self._gate.clock()
        delay = min(_RETRY_MAX_MS, 2 * self._later.get(one.id, (0, _RETRY_FIRST_MS // 2))[1])
        self._later[one.id] = (now + delay, delay)
        events.log(
            "review put off", release=one.id[:8], code=fault.code, error=fault.message, for_ms=delay
        )


def _read(connection: Connection, row: sa.Row[tuple[object, ...]]) -> _Set:
    values = row._mapping
    query = sa.select(RELEASE_FILE.c.filename, RELEASE_FILE.c.sha256, RELEASE_FILE.c.size)
    files = connection.execute(
        query.where(RELEASE_FILE.c.release == values["id"]).order_by(RELEASE_FILE.c.filename)
    )
    return _Set(
        values["id"],
        values["upstream"],
        values["project"],
        values["version"],
        values["requester"],
        State(values["state"]),
        values["review"],
        _asked_by(connection, str(values["workload"])),
        tuple(ReleaseFile(*file) for file in files),
    )


def _asked_by(connection: Connection, token_hash: str) -> AskedBy | None:
    """What the statement says of the workload that asked; None where a person uploaded."""
    if not token_hash:
        return None
    w = WORKLOAD_TOKEN.c
    row = connection.execute(
        sa.select(w.publisher_statement, w.workflow, w.delegation).where(w.hash == token_hash)
    ).one()
    return AskedBy(row.publisher_statement, token_hash, row.workflow, row.delegation)


def _inspection(one: _Set, baseline: PublishedRelease | None) -> JsonObject:
    """The request to the inspector, its files in the order of the descriptors."""
    before = None
    if baseline is not None:
        before = {"version": baseline.version, "files": [file.to_json() for file in baseline.files]}
    return {
        "project": one.project,
        "version": one.version,
        "candidate": [file.to_json() for file in one.files],
        "baseline": before,
    }


def _blocker(findings: Sequence[Finding]) -> Finding | None:
    """A finding that ends a release without asking anybody, since the press would refuse it whatever people sign."""
    return next((one for one in findings if one.severity is Severity.CRITICAL), None)


def _code(blocker: Finding) -> Code:
    says_otherwise = blocker.rule.startswith(_IDENTITY)
    return Code.ARTIFACT_WRONG_METADATA if says_otherwise else Code.ARTIFACT_UNREADABLE
