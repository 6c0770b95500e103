"""A stand-in for the part of a CI runner that publishing clients talk to: the URL a job fetches its identity from.

GitHub's runners give a job that may have one (`permissions: id-token: write`) an address and a token in its
environment; the job asks there for a JWT with the audience it wants. This is that address, on loopback, before whatever
mints the tokens: the world's own issuer, or a certified one in the tests. GitHub itself is not here: what is real are
the clients, which find the variables and ask as they would in a job.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs

from presspass.drill.world.loopback import LoopbackServer, Request, Response

REQUEST_PATH = "/idtoken"

Mint = Callable[[Mapping[str, Any], str], str]
"""Claims and audience to a signed token."""


@dataclass(frozen=True, slots=True)
class GithubJob:
    """What a GitHub Actions job is, in the words of its token; all values are text, ids included.

    The subject has the shape with ids that repositories created after June 2026 have.
    """

    repository: str = "acme/greet"
    repository_id: str = "1001"
    repository_owner_id: str = "501"
    workflow: str = "release.yml"
    workflow_sha: str = "a" * 40
    ref: str = "refs/tags/v1.0"
    ref_protected: str = "true"
    sha: str = "a" * 40
    event_name: str = "push"
    environment: str | None = "release"
    actor: str = "ada"
    actor_id: str = "7001"
    run_id: str = "9001"
    run_attempt: str = "1"
    visibility: str = "public"

    @property
    def workflow_ref(self) -> str:
        """The workflow's file at the ref the run was started from."""
        return f"{self.repository}/.github/workflows/{self.workflow}@{self.ref}"

    def claims(self) -> dict[str, str]:
        """The claims that GitHub's issuer would sign about this job, without the registered times and ids."""
        owner, name = self.repository.split("/")
        context = f"environment:{self.environment}" if self.environment else f"ref:{self.ref}"
        claims = {
            "sub": f"repo:{owner}-{self.repository_owner_id}/{name}-{self.repository_id}:{context}",
            "repository": self.repository,
            "repository_id": self.repository_id,
            "repository_owner": owner,
            "repository_owner_id": self.repository_owner_id,
            "repository_visibility": self.visibility,
            "ref": self.ref,
            "ref_type": "tag" if self.ref.startswith("refs/tags/") else "branch",
            "ref_protected": self.ref_protected,
            "base_ref": "",
            "head_ref": "",
            "sha": self.sha,
            "workflow": self.workflow.removesuffix(".yml"),
            "workflow_ref": self.workflow_ref,
            "workflow_sha": self.workflow_sha,
            "job_workflow_ref": self.workflow_ref,
            "job_workflow_sha": self.workflow_sha,
            "event_name": self.event_name,
            "actor": self.actor,
            "actor_id": self.actor_id,
            "run_id": self.run_id,
            "run_number": "1",
            "run_attempt": self.run_attempt,
            "runner_environment": "github-hosted",
        }
        return claims | ({"environment": self.environment} if self.environment else {})


class Runner(LoopbackServer):
    """`with Runner(job, mint) as runner:` offers the job's identity; a client runs under `runner.environment()`.

    `audiences` are those that were asked for, in order. `claims` may be changed while it serves.
    """

    def __init__(self, job: GithubJob, mint: Mint) -> None:
        super().__init__()
        self.job = job
        self.claims: dict[str, Any] = dict(job.claims())
        self.audiences: list[str] = []
        self._mint = mint
        self._token = secrets.token_urlsafe(24)

    def environment(self) -> dict[str, str]:
        """The variables of the job that publishing clients look at."""
        return {
            "CI": "true",
            "GITHUB_ACTIONS": "true",
            "GITHUB_EVENT_NAME": self.job.event_name,
            "GITHUB_REF": self.job.ref,
            "GITHUB_REPOSITORY": self.job.repository,
            "GITHUB_REPOSITORY_ID": self.job.repository_id,
            "GITHUB_REPOSITORY_OWNER_ID": self.job.repository_owner_id,
            "GITHUB_RUN_ATTEMPT": self.job.run_attempt,
            "GITHUB_RUN_ID": self.job.run_id,
            "GITHUB_SHA": self.job.sha,
            "GITHUB_WORKFLOW_REF": self.job.workflow_ref,
            "RUNNER_ENVIRONMENT": "github-hosted",
            "ACTIONS_ID_TOKEN_REQUEST_URL": f"{self.url}{REQUEST_PATH}?api-version=2.0",
            "ACTIONS_ID_TOKEN_REQUEST_TOKEN": self._token,
        }

    def answer(self, request: Request) -> Response:
        """See LoopbackServer.answer."""
        if request.method != "GET" or request.path != REQUEST_PATH:
            return Response(404, b"not found\n")
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not secrets.compare_digest(
            token.encode(), self._token.encode()
        ):
            return Response(401, b"the request token of this job is missing or wrong\n")
        # Without one, GitHub names the address of the repository's owner.
        owner = self.job.repository.partition("/")[0]
        (audience,) = parse_qs(request.query).get("audience", [f"https://github.com/{owner}"])[-1:]
        self.audiences.append(audience)
        value = self._mint(self.claims, audience)
        return Response(
            200, json.dumps({"count": len(value), "value": value}).encode(), "application/json"
        )
