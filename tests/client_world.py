"""A gate that speaks TLS, with everything a workload needs to get a pass there: issuer, forge, binding, job.

The issuer is the certified one, the forge the real git; the binding stands in the journal as if people had signed it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import sqlalchemy as sa

import peers
from gateway_world import PROJECT, UPSTREAM, World, until
from oidc_issuer import OidcProvider
from presspass.core.digests import sha256_hex
from presspass.core.errors import Code
from presspass.core.publisher import PublisherBody
from presspass.drill.world import Forge, GithubJob, Runner
from presspass.drill.world.forge import find_git
from presspass.services.config import Config, Dial, Listen, Tls
from presspass.store import gateway_tables as g

WORKFLOW = "release.yml"
WORKFLOW_TEXT = "name: release\non:\n  push:\n    tags: ['v*']\n"
PUBLISHER = "greet-release"


class ClientWorld:
    """`with ClientWorld(folder) as world:` and `world.runner("1.0")` is a job that may release that version."""

    def __init__(self, folder: Path) -> None:
        self._parts = contextlib.ExitStack()
        self._folder = folder

    def __enter__(self) -> Self:
        if find_git() is None:
            peers.missing("git with git-http-backend is not installed; 'make system' installs git")
        with self._parts:  # whatever fails below, what has started is stopped
            self.issuer = self._parts.enter_context(OidcProvider(self._folder / "issuer"))
            self.forge = self._parts.enter_context(Forge(self._folder / "forge"))
            ports = (self.issuer.port, self.forge.port)
            tls = Tls("private-ca")
            config = Config("https://localhost", listen=Listen(port=0), tls=tls, dial=Dial(ports))
            self.gate = World(self._folder / "home", config=config)
            self.job = self._released_job()
            self._bind()
            self._parts.enter_context(self.gate)
            self._parts = self._parts.pop_all()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._parts.close()

    def _released_job(self) -> GithubJob:
        job = GithubJob(workflow=WORKFLOW)
        repository = self.forge.repository(*job.repository.split("/"))
        commit = repository.commit({f".github/workflows/{WORKFLOW}": WORKFLOW_TEXT})
        self._repository_url = repository.url
        return replace(job, sha=commit, workflow_sha=commit)

    def _bind(self) -> None:
        body = PublisherBody(
            name=PUBLISHER,
            upstream=UPSTREAM,
            projects=(PROJECT,),
            issuer=self.issuer.url,
            provider="github",
            ids=(
                ("repository_id", self.job.repository_id),
                ("repository_owner_id", self.job.repository_owner_id),
            ),
            repository=self.job.repository,
            repository_url=self._repository_url,
            workflow=f".github/workflows/{WORKFLOW}",
            workflow_sha256=sha256_hex(WORKFLOW_TEXT.encode()),
            refs=("refs/tags/v*",),
            protected_refs_only=True,
            events=("push",),
            environment=self.job.environment or "",
            self_hosted=False,
        )
        journal = self.gate.journal
        statement = journal.statement(body, journal.genesis)
        journal._admit(statement, f"publisher:{body.name}")

    def runner(self, version: str, **claims: Any) -> Runner:
        """What a job that was started by the tag of `version` runs on; `claims` replace what its token would say."""
        runner = Runner(replace(self.job, ref=f"refs/tags/v{version}"), self.issuer.token)
        runner.claims |= claims
        return runner

    def passes(self, version: str) -> list[Mapping[str, Any]]:
        """The passes that were given for this version, oldest first."""
        query = sa.select(g.PASS).where(g.PASS.c.version == version).order_by(g.PASS.c.created_ms)
        return [row._mapping for row in self.gate.rows(query)]

    def releases(self, version: str) -> list[dict[str, Any]]:
        """The releases of this version, as the API shows them."""
        query = sa.select(g.RELEASE.c.id).where(g.RELEASE.c.version == version)
        return [self.gate.release(row.id) for row in self.gate.rows(query)]

    def refusals(self, code: Code) -> int:
        """How often the exchange has refused with this code."""
        found = sa.select(g.EVENT).where(g.EVENT.c.code == code.value)
        return len(self.gate.rows(found))

    def until_refused(self, code: Code, before: int) -> None:
        """Events are written behind the answer: waits for one more refusal with this code than `before`."""
        until(lambda: self.refusals(code) > before, f"a refusal {code.value}")
