"""A press on its own and a bound workload: what a gateway shows of both, an honest one or one in other hands."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from press_rig import TOKEN, Rig
from presspass.cli.workflow_path import read_workflow_path
from presspass.core.digests import sha256_hex
from presspass.core.policy import Policy
from presspass.core.publisher import PublisherBody
from presspass.core.statement import AskedBy, Statement
from presspass.drill.packages import make_wheel
from presspass.drill.world.forge import Forge
from presspass.drill.world.registry import Registry
from presspass.drill.world.runner import GithubJob
from presspass.press.clock import Clock
from presspass.press.press import Press
from presspass.store import gateway_tables as g
from presspass.store import journal_view as view
from presspass.verify.workflow import WorkflowPath
from workload_world import HONEST, WORKFLOW, CountingIssuer, real_time

POLICY = Policy(veto_window_s=0, software_keys=True)
AUDIENCE = "presspass:localhost"


@dataclass
class Scene:
    """A press, a bound workload, and the gateway's rows about it as an honest or a hostile gateway leaves them."""

    rig: Rig
    press: Press
    issuer: CountingIssuer
    forge: Forge
    folder: Path
    publisher: str = ""
    contents: dict[str, dict[str, bytes | str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.repository = self.forge.repository("acme", "demo")
        self.commit = self.repository.commit({WORKFLOW: HONEST})
        self.job = GithubJob(
            repository="acme/demo", workflow_sha=self.commit, sha=self.commit, ref="refs/heads/main"
        )
        self.publisher = self.bind()

    def bind(self, previous: str | None = None, **changes: Any) -> str:
        """A publisher that ana and ben have signed; the digest of its statement."""
        body = PublisherBody(
            name="demo-ci",
            upstream="main",
            projects=("demo",),
            issuer=self.issuer.url,
            provider="github",
            ids=(("repository_id", "1001"), ("repository_owner_id", "501")),
            repository="acme/demo",
            repository_url=self.repository.url,
            workflow=WORKFLOW,
            workflow_sha256=sha256_hex(HONEST),
            refs=("refs/heads/main", "refs/tags/v*"),
            protected_refs_only=True,
            events=("push",),
            environment="release",
            self_hosted=False,
        )
        statement = self.rig.statement(
            replace(body, **changes), previous or self.rig.genesis.digest
        )
        self.rig.request(statement)
        self.rig.sign(statement, "ana", "ben")
        self.rig.until(self.press, statement.digest, "admitted")
        return statement.digest

    def token(self, audience: str = AUDIENCE, job: GithubJob | None = None, **claims: Any) -> str:
        return self.issuer.mint({**(job or self.job).claims(), "aud": audience, **claims})

    def shown(self, token: str, path: WorkflowPath | None = None, **changes: Any) -> str:
        """The gateway's row of an exchanged token; its hash."""
        digest = sha256_hex(token.encode())
        row = {
            "hash": digest,
            "token": token.encode(),
            "publisher": "demo-ci",
            "publisher_statement": self.publisher,
            "identity": "0" * 64,
            "run": "0" * 64,
            "workflow": "0" * 64,
            "workflow_path": (path or self.path()).to_bytes(),
            "described": b"{}",
            "received_ms": 1,
            **changes,
        }
        self.rig.rows.run(lambda c: c.execute(g.WORKLOAD_TOKEN.insert().values(**row)))
        return digest

    def path(self, commit: str = "") -> WorkflowPath:
        return read_workflow_path(self.repository.folder, commit or self.commit, WORKFLOW)

    def files(self, version: str = "1.0") -> list[Path]:
        folder = self.folder / version
        folder.mkdir(exist_ok=True)
        return [make_wheel(folder, "demo", version, self.contents.get(version))]

    def asked(self, token_hash: str, workflow: bytes = HONEST) -> AskedBy:
        return AskedBy(self.publisher, token_hash, sha256_hex(workflow), "")

    def stage(
        self, token: str, *, version: str = "1.0", workflow: bytes = HONEST, **more: Any
    ) -> Statement:
        """A release that this token asked for."""
        digest = more.pop("token_hash", None) or self.shown(token, more.pop("path", None))
        self.press.workloads.look()
        more.setdefault("requester", "p-ana")
        return self.rig.stage(
            self.press, self.files(version), "demo", version,
            requester_signs=False, asked_by=self.asked(digest, workflow), **more,
        )  # fmt: skip

    def seen(self, token_hash: str) -> view.SeenWorkload:
        found: view.SeenWorkload | None = self.rig.journal(lambda c: view.workload(c, token_hash))
        assert found is not None
        return found


@contextlib.contextmanager
def scenes(folder: Path, policy: Policy = POLICY, clock: Clock | None = None) -> Iterator[Scene]:
    """A sealed installation of ana (whose runs they are), ben and cleo, with an upstream and the publisher demo-ci."""
    with (
        Registry(seed=7, token=TOKEN) as registry,
        CountingIssuer(clock=real_time()) as issuer,
        Forge(folder / "forge") as forge,
    ):
        rig = Rig(folder / "home", registry, policy, forge_ids={"ana": ("github:7001",)}).build()
        rig.seal()
        with rig.press(clock) as press:
            rig.upstream(press)
            files = folder / "files"
            files.mkdir()
            yield Scene(rig, press, issuer, forge, files)
        rig.rows.close()
