"""A stand-in for the gate on a loopback port: one release as the contract has it, and lies of a hostile gate.

What is tested against it is the client, which must believe nothing. The real gate is judged in other tests.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from presspass.cli.inspection import inspect_here
from presspass.core.approval import Approval
from presspass.core.digests import sha256_hex
from presspass.core.findings import report_digest
from presspass.core.statement import (
    Heads,
    Intent,
    ReleaseBody,
    ReleaseFile,
    Statement,
    UpstreamBody,
)
from presspass.drill.world.loopback import LoopbackServer, Request, Response

GENESIS = "a" * 64
RELEASE_ID = "r3leaseidr3leaseidr3leaseid"


@dataclass
class Release:
    """One set of files with its report and statement, made by the real inspector. `named`: further statements that it
    names (publisher, delegation); `told`: further members of its JSON.
    """

    files: dict[str, bytes]
    review: bytes
    statement: Statement
    upstream: Statement
    baseline: dict[str, bytes] = field(default_factory=dict)
    named: list[Statement] = field(default_factory=list)
    told: dict[str, Any] = field(default_factory=dict)


def make_release(
    paths: list[Path],
    project: str,
    version: str,
    baseline: list[Path] | None = None,
    before: str = "0.9",
    life_s: int = 3600,
) -> Release:
    """Inspects `paths` (against `baseline` of version `before`) and writes the statement that asks for them."""
    files = sorted(_listed(path) for path in paths)
    old = sorted(_listed(path) for path in baseline or [])
    opened = [(file, (paths[0].parent / file.name).open("rb")) for _name, file in files]
    opened_old = [
        (file, ((baseline or paths)[0].parent / file.name).open("rb")) for _name, file in old
    ]
    review = inspect_here(project, version, opened, before if old else None, opened_old)
    for _file, handle in (*opened, *opened_old):
        handle.close()
    now = int(time.time())
    upstream = make_upstream(now)
    body = ReleaseBody(
        release=RELEASE_ID,
        upstream=upstream.digest,
        project=project,
        version=version,
        files=tuple(file for _name, file in files),
        dist_tags=(),
        requester="p-ada",
        review=report_digest(review),
    )
    statement = Statement(
        genesis=GENESIS,
        space="main",
        intent=Intent.APPROVE,
        body=body,
        heads=Heads(GENESIS, GENESIS, GENESIS),
        previous=None,
        nonce="0" * 32,
        issued_at=now - 10,
        expires_at=now - 10 + life_s,
    )
    content = {path.name: path.read_bytes() for path in paths}
    return Release(
        content,
        review,
        statement,
        upstream,
        {path.name: path.read_bytes() for path in baseline or []},
    )


def make_upstream(now: int, genesis: str = GENESIS) -> Statement:
    """The statement of the registry that releases go to."""
    url = "https://registry.example"
    body = UpstreamBody(
        "main", "pypi", f"{url}/legacy/", f"{url}/simple/", "robot", "custody", "c" * 64
    )
    heads = Heads(genesis, genesis, genesis)
    return Statement(
        genesis, "main", Intent.APPROVE, body, heads, genesis, "1" * 32, now - 90, now + 900
    )


def _listed(path: Path) -> tuple[str, ReleaseFile]:
    data = path.read_bytes()
    return path.name, ReleaseFile(path.name, sha256_hex(data), len(data))


class StandInGate(LoopbackServer):
    """Serves `release`. `lies` replaces answers by path; `received` keeps approvals as they came."""

    def __init__(self, release: Release) -> None:
        super().__init__()
        self.release = release
        self.lies: dict[str, Response] = {}
        self.received: list[Approval] = []
        self.requests: list[Request] = []

    @property
    def page(self) -> str:
        """The release's page."""
        return f"{self.url}/r/{RELEASE_ID}"

    def answer(self, request: Request) -> Response | None:
        self.requests.append(request)
        if request.path in self.lies:
            return self.lies[request.path]
        base = f"/api/v1/releases/{RELEASE_ID}"
        if request.path == base:
            return as_json(self.release_json())
        if request.path == f"{base}/review":
            return Response(200, self.release.review)
        for folder, files in (("files", self.release.files), ("baseline", self.release.baseline)):
            name = request.path.removeprefix(f"{base}/{folder}/")
            if name in files:
                return Response(200, files[name], "application/octet-stream")
        if request.path == f"/api/v1/requests/{self.release.upstream.digest}":
            return as_json(request_json(self.release.upstream))
        for one in self.release.named:
            if request.path == f"/api/v1/requests/{one.digest}":
                return as_json(request_json(one))
        if request.path.endswith("/approvals"):  # of whatever it got signed
            self.received.append(Approval.from_bytes(request.body))
            return as_json({"state": "awaiting", "tally": {"needed": 1, "counted": ["p-grace"]}})
        return problem(404, "request.not-found", "There is no such thing here.")

    def release_json(self) -> dict[str, Any]:
        """The JSON of the release."""
        statement = self.release.statement
        return {
            "id": RELEASE_ID,
            "url": self.page,
            "project": "greet",
            "version": "1.0",
            "state": "awaiting",
            "files": [file.to_json() for file in statement.body_as(ReleaseBody).files],
            "request": statement.digest,
            "statement": statement.to_bytes().decode(),
            "tally": {"needed": 1, "counted": [], "excluded": []},
            **self.release.told,
        }


def request_json(statement: Statement) -> dict[str, Any]:
    """The JSON of a request, as far as the client looks at it."""
    return {"state": "awaiting", "statement": statement.to_bytes().decode(), "details": {}}


def as_json(value: object, status: int = 200) -> Response:
    """A JSON answer."""
    return Response(status, json.dumps(value).encode(), "application/json")


def problem(status: int, code: str, message: str, hint: str = "") -> Response:
    """An error answer as the gate gives it (RFC 9457)."""
    detail = f"{message} {hint}".strip()
    body = {"title": code, "status": status, "detail": detail, "code": code, "hint": hint}
    return Response(status, json.dumps(body).encode(), "application/problem+json")
