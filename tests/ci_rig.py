"""A real gate with a real registry behind it, an issuer, a forge and a CI job: everything bound by the commands alone.

What stands in for somebody else's service (issuer, runner, forge) is of `presspass.drill.world`; the gate, the press,
git and the registry are real processes.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2

import packages
from cli_rig import Rig
from presspass.drill.peers import PypiServer, wait_until
from presspass.drill.world.forge import Forge
from presspass.drill.world.issuer import Issuer
from presspass.drill.world.runner import GithubJob, Runner
from presspass.services.config import Dial, read_config, write_config
from workload_world import HONEST, WORKFLOW, real_time

PROJECT = "greet"
#: Nothing of the CI system in which the tests themselves may run.
NO_CI = dict.fromkeys(
    [
        *("GITHUB_ACTIONS", "GITLAB_CI", "CIRCLECI", "BUILDKITE", "PRESSPASS_TOKEN"),
        *("PRESSPASS_ID_TOKEN", "PRESSPASS_ID_TOKEN_FILE", "PRESSPASS_URL"),
    ],
    "",
)

#: What a job of GitLab CI is, in the words of its token, but for the file that defines it.
GITLAB_JOB: dict[str, Any] = {
    "namespace_id": "72", "project_id": "4001", "project_path": "acme/greet", "ref_path": "refs/tags/v1.0",
    "ref_protected": "true", "pipeline_source": "push", "pipeline_id": "11", "job_id": "12",
    "user_id": "8001", "runner_environment": "gitlab-hosted", "sub": "project_path:acme/greet",
}  # fmt: skip


def until(ci: CiRig, url: str, wanted: str) -> None:
    """Waits until the release or request is in this state."""
    wait_until(lambda: ci.rig.ask("status", url)["state"] == wanted, f"{url} is {wanted}", 30.0)


class CiRig:
    """A sealed gate with the upstream `private`. `rig`: its commands; `job`: the honest job of acme/greet."""

    def __init__(self, folder: Path, registry: PypiServer) -> None:
        self.folder = folder
        self._stack = contextlib.ExitStack()
        # One address has tokens of one provider: each has an issuer of its own. Their key is the same, since making one
        # takes longer than a gate waits for an answer; it is made here, before anybody asks for it.
        self.issuers = {
            provider: self._stack.enter_context(Issuer(clock=real_time()))
            for provider in ("github", "gitlab", "buildkite", "circleci")
        }
        self.issuers["github"].jwks()
        self.issuer = self.issuers["github"]
        self.forge = self._stack.enter_context(Forge(folder / "forge"))
        self.repository = self.forge.repository("acme", PROJECT)
        self.commit = self.repository.commit({WORKFLOW: HONEST})
        self.checkout = folder / "checkout"
        self.repository.clone(self.checkout)
        self.job = GithubJob(workflow_sha=self.commit, sha=self.commit)
        (folder / "gate").mkdir()
        self.rig = Rig(folder / "gate")
        self.registry = registry
        self._stack.callback(self.rig.stop)

    def start(self, **config: Any) -> None:
        """Makes the home, lets the gateway dial the issuer and the forge, starts, seals, adds the upstream."""
        if not self.rig.home.exists():
            self.rig.init()
        self.configure(**config)
        self.rig.start()
        self.rig.seal()
        registry = self.registry
        self.rig.add_upstream(registry.upload_url, registry.simple_url, str(registry.password))

    def configure(self, **changes: Any) -> None:
        """Writes presspass.toml with these members changed."""
        ports = tuple(
            int(urlsplit(one.url).port or 0) for one in (*self.issuers.values(), self.forge)
        )
        config = replace(read_config(self.rig.home), dial=Dial(ports), **changes)
        write_config(self.rig.home, config)

    def arguments(self, name: str = "greet-ci", **changes: Any) -> list[object]:
        """Of `publisher bind` for the honest job; a change of None leaves an option out, a list repeats it."""
        options: dict[str, Any] = {
            "upstream": "private",
            "project": PROJECT,
            "issuer": self.issuers.get(changes.get("provider", "github"), self.issuer).url,
            "provider": "github",
            "id": ["repository_id=1001", "repository_owner_id=501"],
            "repository": "acme/greet",
            "repository-url": self.repository.url,
            "workflow": WORKFLOW,
            "checkout": self.checkout,
            "environment": "release",
            **{key.replace("_", "-"): value for key, value in changes.items()},
        }
        words: list[object] = ["publisher", "bind", name]
        for option, value in options.items():
            if value is True:
                words.append(f"--{option}")
            elif value is not None:
                for one in value if isinstance(value, list) else [value]:
                    words += [f"--{option}", one]
        return words

    def bind(self, name: str = "greet-ci", **changes: Any) -> str:
        """Binds the honest job, approved by both; the request's URL."""
        url = str(self.rig.ask(*self.arguments(name, **changes))["url"])
        self.rig.approve(url, "ada", "grace")
        self.rig.run("wait", url, "--timeout", "30s")
        return url

    def bind_job(self, name: str, number: int) -> GithubJob:
        """Binds a job of a repository of its own, for a project of the publisher's name."""
        ids = [f"repository_id={number}", "repository_owner_id=501"]
        self.bind(name, id=ids, project=name)
        return replace(self.job, repository_id=str(number), run_id=str(number))

    def exchange(self, job: GithubJob, audience: str = "presspass:localhost") -> httpx2.Response:
        """PyPI's door, asked with a fresh token of this job."""
        token = self.issuer.mint({**job.claims(), "aud": audience})
        return httpx2.post(
            f"{self.rig.origin}/_/oidc/mint-token", json={"token": token}, trust_env=False
        )

    def pass_(self, job: GithubJob) -> str:
        """A pass for this job."""
        answer = self.exchange(job)
        assert answer.status_code == 200, answer.text
        return str(answer.json()["token"])

    def word_on_pass(self, secret: str) -> str:
        """The code by which the gate refuses an act with this pass: `release.…` or `request.…` while it is alive."""
        answer = httpx2.post(
            f"{self.rig.origin}/api/v1/releases/none/close",
            headers={"Authorization": f"Bearer {secret}"},
            trust_env=False,
        )
        return str(answer.json()["code"])

    @contextlib.contextmanager
    def runner(self, job: GithubJob | None = None, provider: str = "github") -> Iterator[Runner]:
        """The runner of a job, whose identity the issuer of this provider signs."""

        def signed(claims: Any, audience: str) -> str:
            return self.issuers[provider].mint({**claims, "aud": audience})

        with Runner(job or self.job, signed) as runner:
            yield runner

    def files(self, version: str = "1.0", project: str = PROJECT) -> list[Path]:
        """A wheel and an sdist of this version."""
        folder = self.folder / f"dist-{project}-{version}"
        if not folder.is_dir():
            folder.mkdir()
            module = {f"{project}/__init__.py": f"VERSION = {version!r}\n".encode()}
            packages.make_wheel(folder, project, version, files=module)
            packages.make_sdist(folder, project, version)
        return sorted(folder.iterdir())

    def __enter__(self) -> CiRig:
        return self

    def __exit__(self, *exception: object) -> None:
        self._stack.close()
