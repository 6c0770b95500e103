"""What an approver's own machine finds out before it signs. The gate is believed in nothing.

1. The statement is read strictly; it is the one whose digest is in the address, or the release whose id is.
2. Every file it names is fetched and hashed here, and so is the statement of the upstream that they would go to.
3. The same inspection runs here, confined, on those bytes and on the files of the release before.
4. Its report must be, byte for byte, the one that the statement names.
"""

from __future__ import annotations

import contextlib
import hashlib
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final, TypeVar
from urllib.parse import quote

from presspass.cli.client import Gate, PageUrl
from presspass.cli.exits import CannotSayError
from presspass.cli.show import note, size_text
from presspass.core.delegation import DelegationBody
from presspass.core.digests import JsonObject, sha256_hex
from presspass.core.effects import effects
from presspass.core.errors import Code, Fault, Refusal
from presspass.core.findings import Report, parse_report, report_digest
from presspass.core.limits import REPORT_BYTES_MAX, STATEMENT_BYTES_MAX
from presspass.core.publisher import PublisherBody
from presspass.core.statement import (
    Intent,
    Kind,
    ReleaseBody,
    ReleaseFile,
    Statement,
    UpstreamBody,
)

#: What an approver does not know while a statement that the release names is not shown.
_UNKNOWN: Final[dict[type, tuple[str, str]]] = {
    UpstreamBody: ("upstream", "where the files would go is not known"),
    PublisherBody: ("publisher", "which workload asked is not known"),
    DelegationBody: ("delegation", "on whose behalf the bot asked is not known"),
}
B = TypeVar("B", UpstreamBody, PublisherBody, DelegationBody)


@dataclass(frozen=True, slots=True)
class Asked:
    """A statement as fetched: its bytes, read, and the gate's own words about it (`answer`: hostile)."""

    data: bytes
    statement: Statement
    answer: JsonObject


def fetch_statement(gate: Gate, page: PageUrl) -> Asked:
    """The statement behind an address; refuses when it is not the one that the address or the answer names."""
    answer = gate.get_json(page.api)
    text = answer.get("statement")
    if not isinstance(text, str):
        raise Refusal(
            Code.RELEASE_WRONG_STATE,
            f"There is nothing to sign: it is {answer.get('state')}. {answer.get('reason') or ''}".rstrip(),
            "Wait until it has been inspected (`presspass status URL`).",
        )
    data = text.encode("utf-8", "surrogatepass")
    digest = sha256_hex(data)
    if digest != (page.id if page.kind == "q" else answer.get("request")):
        raise Refusal(
            Code.APPROVAL_WRONG_STATEMENT, "The gate sent another statement than the one asked for."
        )
    statement = _read_statement(data)
    if page.kind == "r":
        _check_is_release(statement, page.id)
    return Asked(data, statement, answer)


def _check_is_release(statement: Statement, release: str) -> None:
    """At a release's address stands that release, and never, say, a roster with other people in it."""
    if not isinstance(statement.body, ReleaseBody) or statement.body.release != release:
        raise Refusal(
            Code.APPROVAL_WRONG_STATEMENT,
            f"The gate sent a {statement.kind.value} statement that is not this release's.",
            "Do not sign; tell the operators of the gate.",
        )


def fetch_upstream(gate: Gate, page: PageUrl, release: Statement) -> UpstreamBody:
    """The registry that a release statement names by digest."""
    return fetch_named(gate, page, release, release.body_as(ReleaseBody).upstream, UpstreamBody)


def fetch_named(gate: Gate, page: PageUrl, release: Statement, digest: str, body: type[B]) -> B:
    """What a release names by its digest: a statement with such a body, or such a member of a bundle, from the gate,
    checked against the digest."""
    what, unknown = _UNKNOWN[body]
    text = gate.get_json(PageUrl(page.base, "q", digest).api).get("statement")
    data = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else b""
    not_shown = Refusal(
        Code.APPROVAL_WRONG_STATEMENT,
        f"The gate does not show the {what} that the release names.",
        f"Do not sign: {unknown}.",
    )
    try:
        holder = _read_statement(data)
    except Refusal:
        raise not_shown from None
    named = next((one for one in effects(holder) if one.digest == digest), None)
    if named is None or not isinstance(named.body, body):
        raise not_shown
    if (holder.genesis, holder.space) != (release.genesis, release.space):
        raise Refusal(
            Code.STATEMENT_FOREIGN, f"The release names a {what} of another installation."
        )
    return named.body


def release_page(page: PageUrl, statement: Statement) -> PageUrl:
    """Where the files of a release statement are fetched."""
    return PageUrl(page.base, "r", statement.body_as(ReleaseBody).release)


def check_alive(statement: Statement) -> None:
    """Refuses what has expired or comes from the future."""
    statement.check_alive(int(time.time()))


def review_release(gate: Gate, page: PageUrl, body: ReleaseBody) -> Report:
    """Fetches, hashes and inspects the release here; returns our own report, which is the one in the statement."""
    note(
        f"fetching {len(body.files)} files, {size_text(sum(file.size for file in body.files))}, and hashing them here"
    )
    with contextlib.ExitStack() as stack:
        candidate = [
            (file, stack.enter_context(_fetched(gate, f"{page.api}/files", file)))
            for file in body.files
        ]
        theirs = parse_report(_their_report(gate, page, body))
        before = [ReleaseFile(one.name, one.sha256, one.size) for one in theirs.baseline]
        baseline = [
            (file, stack.enter_context(_fetched(gate, f"{page.api}/baseline", file)))
            for file in before
        ]
        note("inspecting them here, confined")
        ours = _inspect(body, candidate, theirs.baseline_version, baseline)
    if report_digest(ours) != body.review:
        raise Refusal(
            Code.INSPECTION_DISAGREES,
            "The inspection here does not come to the report that the statement names.",
            "Do not sign. Either the gate shows something else than it asks you to sign, or its version of Presspass "
            "is another than yours: compare `presspass --version` on both.",
        )
    return parse_report(ours)


def _their_report(gate: Gate, page: PageUrl, body: ReleaseBody) -> bytes:
    report = gate.get_bytes(f"{page.api}/review", bytes_max=REPORT_BYTES_MAX)
    if report_digest(report) != body.review:
        raise Refusal(
            Code.INSPECTION_DISAGREES,
            "The gate's report is not the one that the statement names.",
            "Do not sign.",
        )
    return report


@contextlib.contextmanager
def _fetched(gate: Gate, folder: str, file: ReleaseFile) -> Iterator[IO[bytes]]:
    """The file in an unnamed temporary file, if its bytes are the ones that are named."""
    digest = hashlib.sha256()
    with tempfile.TemporaryFile(prefix="presspass-") as target:
        gate.download(f"{folder}/{quote(file.name, safe='')}", target, bytes_max=file.size)
        size = 0
        target.seek(0)
        while piece := target.read(1 << 20):
            digest.update(piece)
            size += len(piece)
        if digest.hexdigest() != file.sha256 or size != file.size:
            raise Refusal(
                Code.ARTIFACT_DIGEST_MISMATCH,
                f"{file.name} as the gate serves it is not the file that the statement names.",
                "Do not sign; tell the operators of the gate.",
            )
        target.seek(0)
        yield target


def _inspect(
    body: ReleaseBody,
    candidate: list[tuple[ReleaseFile, IO[bytes]]],
    baseline_version: str | None,
    baseline: list[tuple[ReleaseFile, IO[bytes]]],
) -> bytes:
    from presspass.cli.inspection import inspect_here

    try:
        return inspect_here(body.project, body.version, candidate, baseline_version, baseline)
    except Fault as fault:
        raise CannotSayError(f"The inspection could not run here: {fault.message}") from None


def read_statement_file(path: Path) -> Asked:
    """A statement from a file, for when the gate cannot be reached."""
    with path.open("rb") as file:
        data = file.read(STATEMENT_BYTES_MAX + 2).strip()
    return Asked(data, _read_statement(data), {})


def _read_statement(data: bytes) -> Statement:
    statement = Statement.from_bytes(data)
    if statement.kind is Kind.GENESIS or statement.intent is not Intent.APPROVE:
        raise Refusal(Code.STATEMENT_MALFORMED, "This is no request that people are asked to sign.")
    return statement
