"""The press's own inspection: it believes no report but the one that its own inspector makes of its own copies."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from presspass.core.digests import JsonObject, sha256_hex
from presspass.core.errors import Code, Refusal
from presspass.core.findings import Report, Severity, parse_report
from presspass.core.limits import INSPECTION_WALL_S_MAX, REPORT_BYTES_MAX
from presspass.core.statement import ReleaseBody, ReleaseFile, Statement
from presspass.press import gatekeeper
from presspass.press.books import Books
from presspass.press.custody import Spool
from presspass.store import gateway_tables as g
from presspass.store import journal_view as view

Inspect = Callable[[JsonObject, list[int], float], bytes]


@dataclass(frozen=True, slots=True)
class Inspected:
    """The press's report. `baseline`: digest of the release statement it was compared with, "" for a first release."""

    report: Report
    digest: str
    baseline: str

    def metadata(self, filename: str) -> Mapping[str, Sequence[str]]:
        """The core metadata of one artifact, for the upload form."""
        return next(
            (dict(one.metadata) for one in self.report.artifacts if one.name == filename), {}
        )


@dataclass(frozen=True, slots=True)
class Inspection:
    """The inspection that a release must pass: the press's own report, and the very one that the approvers signed."""

    books: Books
    spool: Spool
    inspect: Inspect

    def of(self, statement: Statement) -> Inspected:
        """Refuses as `check_report`; the gateway's copy of the report is asked only to say *why* digests differ."""
        body = statement.body_as(ReleaseBody)
        with self.books.writer.read() as connection:
            upstream = gatekeeper.upstream_of(connection, self.books.chain(connection), body)
            inspected = inspect_release(self.inspect, self.spool, connection, upstream.name, body)
        check_report(inspected, body, self._shown(body.review))
        return inspected

    def _shown(self, digest: str) -> Report | None:
        r = g.REVIEW.c
        query = sa.select(r.report).where(
            r.digest == digest, sa.func.length(r.report) <= REPORT_BYTES_MAX
        )
        data = self.books.ask_gateway(lambda c: c.execute(query).scalar())
        try:
            return parse_report(data) if isinstance(data, bytes) else None
        except Refusal:
            return None


def inspect_release(
    inspect: Inspect, spool: Spool, connection: Connection, upstream: str, body: ReleaseBody
) -> Inspected:
    """Takes the files over, inspects them against the press's own last release of the project."""
    last = view.last_release(connection, upstream, body.project)
    before = last.files if last else ()
    with ExitStack() as stack:
        fds = spool.open_all(body.files + before, stack)
        request: JsonObject = {
            "project": body.project,
            "version": body.version,
            "candidate": [_listed(file) for file in body.files],
            "baseline": {"version": last.version, "files": [_listed(file) for file in before]}
            if last
            else None,
        }
        data = inspect(request, fds, INSPECTION_WALL_S_MAX)
    return Inspected(parse_report(data), sha256_hex(data), last.statement if last else "")


def check_report(inspected: Inspected, body: ReleaseBody, shown: Report | None) -> None:
    """The approvers were shown this very report, and nothing in it forbids publishing.

    Refuses with `release.stale` when they were shown a comparison with another release than the last one, or one by
    other rules; with `inspection.disagrees` when the same question got another answer: then somebody is lying.
    """
    if inspected.digest != body.review:
        mine = inspected.report
        if shown is not None and (shown.baseline, shown.engine) != (mine.baseline, mine.engine):
            raise Refusal(
                Code.RELEASE_STALE,
                "The approvers saw a comparison with another release than the last one.",
                "The release is reviewed again; sign again.",
            )
        raise Refusal(
            Code.INSPECTION_DISAGREES,
            "The press's own inspection gives another report than the one that was signed.",
            "Somebody changed the gateway's report or files. Look before you release again.",
        )
    if inspected.report.worst is Severity.CRITICAL:
        blocker = inspected.report.findings[0]
        raise Refusal(
            Code.ARTIFACT_WRONG_METADATA, f"{blocker.path}: {blocker.message}".lstrip(": ")
        )


def _listed(file: ReleaseFile) -> JsonObject:
    return {"name": file.name, "sha256": file.sha256, "size": file.size}
