"""A gate with a bound workload: an issuer, a forge with a release workflow, a publisher in force, and jobs that ask.

The issuer is the world's own (`drill.world.issuer`), which can also lie; the certified one is in `oidc_issuer`.
"""

from __future__ import annotations

import contextlib
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Self
from urllib.parse import urlencode, urlsplit

from gateway_world import ORIGIN, PROJECT, UPSTREAM, HttpAnswer, World
from presspass.core.delegation import DelegationBody
from presspass.core.digests import sha256_hex
from presspass.core.limits import KEY_SET_FETCH_S_MAX
from presspass.core.policy import Policy
from presspass.core.publisher import PublisherBody
from presspass.core.statement import RevocationBody
from presspass.drill.world.forge import Forge
from presspass.drill.world.issuer import JWKS_PATH, Issuer
from presspass.drill.world.loopback import Request, Response
from presspass.drill.world.runner import GithubJob
from presspass.services.config import Dial, write_config

AUDIENCE = "presspass:localhost"
WORKFLOW = ".github/workflows/release.yml"
HONEST = b"on: {push: {tags: ['v*']}}\njobs: {publish: {environment: release}}\n"
CHANGED = HONEST + b"# one more step\n"
EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
JWT = "urn:ietf:params:oauth:token-type:jwt"


def real_time() -> Any:
    """The clock of the machine, in the world's words: the gateway under test has no other."""
    return SimpleNamespace(wall=time.time, monotonic=time.monotonic)


class CountingIssuer(Issuer):
    """The world's issuer, which remembers what it was asked. `mood`: "" for well, "down", "slow" or "empty"."""

    def __init__(self, **more: Any) -> None:
        super().__init__(**more)
        self.requests: list[str] = []
        self.mood = ""

    def answer(self, request: Request) -> Response:
        self.requests.append(request.path)
        if self.mood == "down":
            return Response(503, b"down\n")
        if self.mood == "slow":
            time.sleep(KEY_SET_FETCH_S_MAX + 1)
        if self.mood == "empty" and request.path == JWKS_PATH:
            return Response(200, b'{"keys": []}')
        return super().answer(request)


class WorkloadWorld:
    """`with WorkloadWorld(tmp_path) as world:`; `world.job` is the honest job, `world.token()` its identity token."""

    def __init__(self, folder: Path, policy: Policy | None = None, **changes: Any) -> None:
        self._stack = contextlib.ExitStack()
        self.issuer = self._stack.enter_context(CountingIssuer(clock=real_time()))
        self.forge = self._stack.enter_context(Forge(folder / "forge"))
        self.repository = self.forge.repository("acme", "greet")
        self.commit = self.repository.commit({WORKFLOW: HONEST})
        self.job = GithubJob(workflow_sha=self.commit, sha=self.commit)
        home = folder / "home"
        self.world = World(home, policy=policy)
        ports = tuple(int(urlsplit(one.url).port or 0) for one in (self.issuer, self.forge))
        self.world.config = replace(self.world.config, dial=Dial(ports))
        write_config(home, self.world.config)
        self.publisher = self.binding(**changes)
        self.publisher_statement = self.admit(self.publisher)

    def binding(self, name: str = "greet-ci", **changes: Any) -> PublisherBody:
        """The honest job's binding."""
        body = PublisherBody(
            name=name,
            upstream=UPSTREAM,
            projects=(PROJECT,),
            issuer=self.issuer.url,
            provider="github",
            ids=(("repository_id", "1001"), ("repository_owner_id", "501")),
            repository="acme/greet",
            repository_url=self.repository.url,
            workflow=WORKFLOW,
            workflow_sha256=sha256_hex(HONEST),
            refs=("refs/heads/main", "refs/tags/v*"),
            protected_refs_only=True,
            events=("push", "workflow_dispatch"),
            environment="release",
            self_hosted=False,
        )
        return replace(body, **changes)

    @property
    def issuer_requests(self) -> list[str]:
        """What the issuer was asked, path by path."""
        return self.issuer.requests

    def admit(self, body: PublisherBody | DelegationBody, previous: str | None = None) -> str:
        """Puts a statement into the press's journal as admitted; its digest."""
        journal = self.world.journal
        statement = journal.statement(body, previous or journal.genesis)
        kind = "publisher" if isinstance(body, PublisherBody) else "delegation"
        journal._admit(statement, f"{kind}:{body.name}")
        if kind == "delegation":
            self.delegated = statement.digest
        return statement.digest

    def delegation(self, **changes: Any) -> DelegationBody:
        """A delegation to the honest job for patch versions, ten minutes from now."""
        now = int(time.time())
        body = DelegationBody(
            name="bot", publisher="greet-ci", person="ada", projects=(PROJECT,),
            version_kinds=("first", "patch"), count=2, not_before=now - 5, not_after=now + 600,
        )  # fmt: skip
        return replace(body, **changes)

    def token(self, audience: str = AUDIENCE, job: GithubJob | None = None, **claims: Any) -> str:
        """A fresh identity token of a job; `claims` replace its claims (None removes one)."""
        life = claims.pop("lifetime_s", 300)
        header = claims.pop("header", None)
        values = {**(job or self.job).claims(), "aud": audience, **claims}
        return self.issuer.mint(values, lifetime_s=life, header=header)

    # the doors

    def mint(self, token: str) -> HttpAnswer:
        """PyPI's door."""
        return self.world.ask("POST", "/_/oidc/mint-token", {"token": token})

    def npm(self, token: str, package: str) -> HttpAnswer:
        """npm's door."""
        path = f"/-/npm/v1/oidc/token/exchange/package/{package}"
        return self.world.ask("POST", path, None, Authorization=f"Bearer {token}")

    def oauth(self, token: str, path: str = "/token", **form: str) -> HttpAnswer:
        """RFC 8693's door."""
        values = {"grant_type": EXCHANGE, "subject_token": token, "subject_token_type": JWT, **form}
        return self.form(path, values)

    def form(self, path: str, values: dict[str, str]) -> HttpAnswer:
        """A form-encoded request."""
        kind = {"Content-Type": "application/x-www-form-urlencoded"}
        return self.world.ask("POST", path, urlencode(values).encode(), **kind)

    def pass_(self, **claims: Any) -> str:
        """A pass for the honest job."""
        answer = self.mint(self.token(**claims))
        assert answer.status == 200, answer.body
        return str(answer.json["token"])

    def upload(
        self, secret: str, filename: str = "greet-1.0.tar.gz", data: bytes = b"x"
    ) -> HttpAnswer:
        """An upload with a pass."""
        return self.world.upload(secret, filename, data)

    def revoke(self, what: str, target: str) -> HttpAnswer:
        """A revocation that ada has signed."""
        statement = self.world.journal.statement(RevocationBody(what, target, "no longer trusted"))
        data = statement.to_bytes()
        approval = self.world.ada.approve(data, origin=ORIGIN, rp_id="localhost")
        body = {"statement": data.decode(), "approval": approval.to_json()}
        return self.world.ask("POST", "/api/v1/narrowings", body)

    def __enter__(self) -> Self:
        self.world.__enter__()
        return self

    def __exit__(self, *exception: object) -> None:
        self.world.__exit__(*exception)
        self._stack.close()
