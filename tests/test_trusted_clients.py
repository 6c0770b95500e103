"""Unchanged uv, pdm, npm and pnpm in a CI job get their pass over TLS: nobody has given them a secret.

The job's identity is signed by a certified provider; only the runner that hands it out is a stand-in for GitHub's.
"""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Iterator, Mapping
from itertools import count
from pathlib import Path
from typing import Any

import pytest

import packages
import peers
from client_world import PUBLISHER, ClientWorld
from gateway_world import PROJECT
from presspass.core.errors import Code
from presspass.drill.world import Runner
from test_docs import DOCS, blocks_under
from test_gateway_all_clients import make_project

NPM_CLIENTS = ("npm", "npm of Node", "pnpm")
_VERSIONS = count(1)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClientWorld]:
    with ClientWorld(tmp_path_factory.mktemp("workloads")) as world:
        yield world


@pytest.fixture
def version() -> str:
    return f"{next(_VERSIONS)}.0"


@pytest.fixture
def project(tmp_path: Path, version: str) -> Path:
    return make_project(tmp_path / "project", version)


@pytest.fixture(params=["uv", "pdm"])
def pypi_client(request: pytest.FixtureRequest) -> str:
    name = str(request.param)
    peers.require_peer(name)
    return name


@pytest.fixture(params=NPM_CLIENTS)
def npm_client(request: pytest.FixtureRequest) -> list[str | Path]:
    """The command of one client: npm 12, the npm that comes with Node, pnpm."""
    match request.param:
        case "npm":
            return [
                peers.require_peer("node"),
                peers.require_npm_peer("npm") / "bin" / "npm-cli.js",
            ]
        case "npm of Node":
            return [peers.require_peer("node"), peers.require_peer("npm")]
        case _:
            return [peers.require_npm_peer("pnpm") / "pnpm"]


def in_job(world: ClientWorld, runner: Runner, folder: Path, script: str) -> peers.Answer:
    """Runs commands as a job does: its identity in the environment, and trust in the gate's certificate."""
    path = [peers.peers_folder() / "bin", peers.require_peer("node").parent, os.environ["PATH"]]
    environment = runner.environment() | peers.trusting(world.gate.ca)
    environment["PATH"] = os.pathsep.join(map(str, path))
    command = ["bash", "-euc", f"cd {shlex.quote(str(folder))}\n{script}"]
    return peers.run_client(command, **environment)


def publish(world: ClientWorld, client: str, runner: Runner, project: Path) -> peers.Answer:
    """The client's command of docs/clients.md, with this gate's address."""
    scripts = blocks_under(DOCS / "clients.md", "## Without a token, in CI", "console")
    (script,) = (one for one in scripts if client in one.split())
    written = "https://gate.example/pypi/main/legacy/"
    assert script.count(written) == 1
    script = script.replace(written, world.gate.upload_url)
    if client == "pdm":  # it reads no variable of OpenSSL's
        script = f"export PDM_PUBLISH_CA_CERTS={shlex.quote(str(world.gate.ca))}\n{script}"
    return in_job(world, runner, project, script)


def publish_npm(
    world: ClientWorld, command: list[str | Path], runner: Runner, folder: Path
) -> peers.Answer:
    """`publish` of a package of one file; there is no npm registry at this gate, so it does not end well."""
    folder.mkdir()
    manifest = {"name": PROJECT, "version": "1.0.0", "files": ["index.js"]}
    (folder / "package.json").write_text(json.dumps(manifest))
    (folder / "index.js").write_text("module.exports = 1\n")
    options = ["--registry", f"{world.gate.url}/"]
    options += ["--no-git-checks"] if "pnpm" in str(command[-1]) else ["--provenance=false"]
    return in_job(world, runner, folder, shlex.join(map(str, [*command, "publish", *options])))


# --- with the right identity ------------------------------------------------------------------------------------------


def test_an_unchanged_client_publishes_without_a_secret(
    world: ClientWorld, pypi_client: str, version: str, project: Path
) -> None:
    with world.runner(version) as runner:
        answer = publish(world, pypi_client, runner, project)
    assert answer.exit_code == 0, answer.text
    assert runner.audiences == ["presspass:localhost"]
    (given,) = world.passes(version)
    assert (given["publisher"], given["project"]) == (PUBLISHER, PROJECT)
    (release,) = world.releases(version)
    assert given["release"] == release["id"]
    assert {file["name"] for file in release["files"]} == {
        packages.wheel_filename(PROJECT, version),
        packages.sdist_filename(PROJECT, version),
    }


def test_uv_burns_its_pass_and_that_closes_the_set(
    world: ClientWorld, version: str, project: Path
) -> None:
    peers.require_peer("uv")
    with world.runner(version) as runner:
        assert publish(world, "uv", runner, project).exit_code == 0
    (given,) = world.passes(version)
    assert (given["ended_ms"] is not None, given["ended_why"]) == (True, "burned")
    (release,) = world.releases(version)
    assert release["state"] != "open"


def test_what_a_client_prints_hides_its_pass_from_the_log(
    world: ClientWorld, pypi_client: str, version: str, project: Path
) -> None:
    """GitHub masks what stands in an `add-mask` line; nowhere else may the pass be."""
    with world.runner(version) as runner:
        answer = publish(world, pypi_client, runner, project)
    masks = [line for line in answer.text.splitlines() if line.startswith("::add-mask::ppp_")]
    assert len(masks) == 1
    assert answer.text.count(masks[0].removeprefix("::add-mask::")) == 1


def test_npm_and_pnpm_get_a_pass_for_the_package_they_publish(
    world: ClientWorld, npm_client: list[str | Path], version: str, tmp_path: Path
) -> None:
    with world.runner(version) as runner:
        publish_npm(world, npm_client, runner, tmp_path / "package")
    assert runner.audiences == ["npm:localhost"]
    (given,) = world.passes(version)
    assert (given["publisher"], given["project"]) == (PUBLISHER, PROJECT)


# --- with a wrong one -------------------------------------------------------------------------------------------------

WRONG: Mapping[str, tuple[dict[str, Any], Code, str]] = {
    # Nobody has bound it: a stranger hears nothing. Its name alone was bound before: that is told.
    "another repository": (
        {"repository": "evil/greet", "repository_id": "66", "repository_owner_id": "67"}
        | {"workflow_ref": "evil/greet/.github/workflows/release.yml@refs/tags/v1"}
        | {"job_workflow_ref": "evil/greet/.github/workflows/release.yml@refs/tags/v1"},
        Code.PUBLISHER_NONE,
        "404",
    ),
    "a pull request of a fork": (
        {"event_name": "pull_request_target"},
        Code.PUBLISHER_EVENT,
        "pull_request_target",
    ),
    "no environment": ({"environment": None}, Code.PUBLISHER_ENVIRONMENT, "environment"),
    "expired": (
        {"iat": 1_700_000_000, "nbf": None, "exp": 1_700_000_300},
        Code.IDENTITY_EXPIRED,
        "expired",
    ),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_identity_gets_no_pass_and_uv_says_why(
    world: ClientWorld, pypi_client: str, version: str, project: Path, wrong: str
) -> None:
    claims, code, told = WRONG[wrong]
    before = world.refusals(code)
    with world.runner(version, **claims) as runner:
        answer = publish(world, pypi_client, runner, project)
    assert answer.exit_code != 0
    if pypi_client == "uv":
        assert told in answer.text
        assert code.value in answer.text
    else:  # pdm keeps it to itself
        assert "Failed to get PyPI token via OIDC" in answer.text
    if code is not Code.PUBLISHER_NONE:  # anybody's: such are counted, and told of once a minute
        world.until_refused(code, before)
    assert world.passes(version) == []
    assert world.releases(version) == []


def test_a_token_that_comes_a_second_time_gives_no_pass(
    world: ClientWorld, pypi_client: str, version: str, project: Path
) -> None:
    minted: list[str] = []

    def the_same(claims: Mapping[str, Any], audience: str) -> str:
        minted.append(minted[0] if minted else world.issuer.token(claims, audience))
        return minted[0]

    before = world.refusals(Code.IDENTITY_REPLAYED)
    job = world.runner(version, run_id=f"replay-{version}").job
    runner = Runner(job, the_same)
    runner.claims["run_id"] = f"replay-{version}"
    with runner:
        assert publish(world, pypi_client, runner, project).exit_code == 0
        again = publish(world, pypi_client, runner, project)
    assert len(minted) == 2
    assert again.exit_code != 0
    world.until_refused(Code.IDENTITY_REPLAYED, before)
    assert len(world.passes(version)) == 1


def test_npm_goes_on_without_a_token_where_the_identity_is_refused(
    world: ClientWorld, npm_client: list[str | Path], version: str, tmp_path: Path
) -> None:
    """It falls back to the token of its configuration, silently: there must be none."""
    before = world.refusals(Code.PUBLISHER_EVENT)
    with world.runner(version, event_name="pull_request_target") as runner:
        answer = publish_npm(world, npm_client, runner, tmp_path / "package")
    assert answer.exit_code != 0
    world.until_refused(Code.PUBLISHER_EVENT, before)
    assert world.passes(version) == []
