"""`presspass submit` in CI: the gate's address is all it needs; `presspass wait` follows the release from anywhere."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

import peers
from ci_rig import GITLAB_JOB, NO_CI, PROJECT, CiRig, until
from cli_gate import RELEASE_ID, StandInGate, make_release
from gateway_world import GatewayProcess
from packages import make_wheel
from presspass.cli import exits
from presspass.cli.client import PageUrl
from presspass.cli.databases import ask_gateway, ask_journal
from presspass.cli.main import run
from presspass.cli.submit import _hand_on
from presspass.core.digests import sha256_hex
from presspass.core.errors import Fault
from presspass.core.statement import ReleaseFile, set_bytes
from presspass.drill.peers import PypiServer, wait_until
from presspass.press.clock import Clock
from presspass.services import press as press_service
from presspass.store import gateway_tables as g
from presspass.store import journal_tables as t
from presspass.store.database import open_engine
from workload_world import CHANGED, HONEST, WORKFLOW

HOURS_S = 3 * 3600


@pytest.fixture(scope="module")
def ci(tmp_path_factory: pytest.TempPathFactory, ssh_keygen: Path) -> Iterator[CiRig]:
    peers.require_peer("pypi-server")
    folder = tmp_path_factory.mktemp("ci")
    with (
        PypiServer(folder / "registry", "__token__", "upstream-secret") as registry,
        CiRig(folder, registry) as ci,
    ):
        ci.start()
        ci.bind()
        yield ci


def set_digest(paths: list[Path]) -> str:
    files = tuple(
        ReleaseFile(one.name, sha256_hex(one.read_bytes()), one.stat().st_size) for one in paths
    )
    return sha256_hex(set_bytes(files))


def judged(ci: CiRig, paths: list[Path]) -> Any:
    """What the press says of the token that these files were bound to. It judges in a thread of its own, behind the
    answer to the upload and beside its other looks."""
    query = sa.select(t.WORKLOAD).where(t.WORKLOAD.c.set_digest == set_digest(paths))
    found: list[Any] = []

    def has() -> bool:
        found[:] = ask_journal(ci.rig.home, lambda c: c.execute(query).all())
        return bool(found)

    wait_until(has, "the press has judged the token", 60.0)
    return found[0]


def published(ci: CiRig, project: str) -> list[str]:
    return sorted(name for name in ci.registry.files() if name.startswith(project))


def test_a_job_submits_with_nothing_but_the_gates_address_and_binds_its_files_to_its_identity(
    ci: CiRig, tmp_path: Path
) -> None:
    files, output = ci.files("1.0"), tmp_path / "output"
    output.write_text("earlier=1\n")
    with ci.runner() as runner:
        more = {**NO_CI, **runner.environment(), "GITHUB_OUTPUT": str(output)}
        url = ci.rig.run(
            "submit", files[0].parent, **{**more, "PRESSPASS_URL": ci.rig.origin}
        ).strip()
        assert runner.audiences == [f"presspass:localhost:sha256:{set_digest(files)}"]
    handle = url.rpartition("/")[2]
    assert output.read_text() == f"earlier=1\nrelease={handle}\nurl={url}\n"
    until(ci, url, "awaiting")
    seen = judged(ci, files)
    assert (seen.state, seen.publisher) == ("verified", "greet-ci")
    of_release = sa.select(g.PASS).where(g.PASS.c.release == handle)
    [given] = ask_gateway(ci.rig.home, lambda c: c.execute(of_release).all())
    assert given.ended_ms is not None, "the pass is ended as soon as it is needed no more"
    ci.rig.approve(url, "ada", "grace")
    said = ci.rig.run(
        "wait", handle, "--timeout", "60s", PRESSPASS_URL=f"{ci.rig.origin}/pypi/private/"
    )
    assert said.strip() == url
    assert published(ci, PROJECT) == [one.name for one in files]


def test_a_job_shows_its_workflow_itself_where_the_gate_cannot_fetch_it(
    ci: CiRig, tmp_path: Path
) -> None:
    repository = ci.forge.repository("acme", "private")
    commit = repository.commit({WORKFLOW: HONEST, "README": "nobody has seen this commit yet"})
    repository.clone(tmp_path / "checkout", "--depth=1")
    ids = ["repository_id=3001", "repository_owner_id=501"]
    ci.bind("private-repo", id=ids, project="private-repo", repository_url="")
    job = replace(ci.job, repository_id="3001", run_id="3001", workflow_sha=commit, sha=commit)
    files = ci.files("1.0", "private-repo")
    with ci.runner(job) as runner:
        environment = {**NO_CI, **runner.environment(), "GITHUB_WORKSPACE": str(ci.folder)}
        said = ci.rig.run(
            "submit", *files, "--url", ci.rig.origin, "--format", "json", code=exits.REFUSED, **environment
        )  # fmt: skip
        assert json.loads(said)["error"]["code"] == "identity.workflow-unavailable"
        environment["GITHUB_WORKSPACE"] = str(tmp_path / "checkout")
        url = ci.rig.run("submit", *files, "--url", ci.rig.origin, **environment).strip()
    until(ci, url, "awaiting")


def test_a_client_of_its_own_gets_a_pass_after_the_job_has_shown_its_workflow(
    ci: CiRig, tmp_path: Path
) -> None:
    repository = ci.forge.repository("acme", "hidden")
    commit = repository.commit({WORKFLOW: HONEST, "README": "another commit that nobody has seen"})
    repository.clone(tmp_path / "checkout", "--depth=1")
    ids = ["repository_id=3011", "repository_owner_id=501"]
    ci.bind("hidden", id=ids, project="hidden", repository_url="")
    job = replace(ci.job, repository_id="3011", run_id="3011", workflow_sha=commit, sha=commit)
    assert ci.exchange(job).json()["code"] == "identity.workflow-missing"
    with ci.runner(job) as runner:
        environment = {
            **NO_CI, **runner.environment(), "GITHUB_WORKSPACE": str(tmp_path / "checkout"),
            "PRESSPASS_URL": ci.rig.origin,
        }  # fmt: skip
        told = ci.rig.ask("identity", "show", **environment)
        assert told["ids"]["github"] == {"repository_id": "3011", "repository_owner_id": "501"}
        shown = ci.rig.ask("identity", "show-workflow", **environment)
        assert shown == {"workflow": WORKFLOW, "commit": commit}
        assert set(runner.audiences) == {"presspass:localhost"}
    assert ci.exchange(job).status_code == 200


def test_a_changed_workflow_is_said_to_the_job_and_people_see_it(ci: CiRig) -> None:
    ids = ["repository_id=3002", "repository_owner_id=501"]
    ci.bind("changed", id=ids, project="changed")
    commit = ci.repository.commit({WORKFLOW: CHANGED})
    try:
        job = replace(ci.job, repository_id="3002", run_id="3002", workflow_sha=commit, sha=commit)
        with ci.runner(job) as runner:
            done = subprocess.run(
                [*ci.rig.command, "submit", *map(str, ci.files("1.0", "changed")), "--url", ci.rig.origin],
                env={**os.environ, **ci.rig.environment, **NO_CI, **runner.environment()},
                capture_output=True, text=True, timeout=60, check=False,
            )  # fmt: skip
        assert done.returncode == exits.DONE, done.stderr
        assert "another than the bound one" in done.stderr
    finally:
        ci.repository.commit({WORKFLOW: HONEST})


def test_a_job_that_may_not_ask_for_its_identity_is_told_which_permission_it_lacks(
    ci: CiRig, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {**NO_CI, "GITHUB_ACTIONS": "true"}.items():
        monkeypatch.setenv(name, value)
    words = ["submit", *map(str, ci.files("1.0")), "--url", ci.rig.origin]
    assert run(words) == exits.REFUSED
    assert "id-token: write" in capfd.readouterr().err
    monkeypatch.setenv("GITHUB_ACTIONS", "")
    monkeypatch.setenv("GITLAB_CI", "true")
    assert run(words) == exits.REFUSED
    assert "id_tokens" in capfd.readouterr().err
    monkeypatch.setenv("GITLAB_CI", "")
    assert run(words) == exits.CANNOT_SAY
    assert "PRESSPASS_ID_TOKEN" in capfd.readouterr().err


def test_a_gitlab_job_hands_its_token_over_and_is_told_that_the_files_are_not_bound(
    ci: CiRig, tmp_path: Path
) -> None:
    path = ".gitlab-ci.yml"
    commit = ci.repository.commit({path: b"release: {script: [presspass submit dist]}\n"})
    ci.repository.clone(tmp_path / "checkout")
    ci.bind(
        "gitlab", provider="gitlab", id=["namespace_id=72", "project_id=4001"], project="gitlab-job",
        workflow=path, checkout=tmp_path / "checkout", environment=None,
    )  # fmt: skip
    claims = {
        **GITLAB_JOB,
        "ci_config_ref_uri": f"127.0.0.1/acme/greet//{path}@refs/tags/v1.0",
        "ci_config_sha": commit,
        "sha": commit,
    }
    token = ci.issuers["gitlab"].mint({**claims, "aud": "presspass:localhost"})
    done = subprocess.run(
        [*ci.rig.command, "submit", *map(str, ci.files("1.0", "gitlab_job")), "--env-file", "presspass.env"],
        env={
            **os.environ, **ci.rig.environment, **NO_CI, "GITLAB_CI": "true",
            "PRESSPASS_ID_TOKEN": token, "PRESSPASS_URL": ci.rig.origin,
        },
        cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == exits.DONE, done.stderr
    assert "GitLab CI" in done.stderr and "does not name them" in done.stderr
    url = done.stdout.strip()
    written = dict(
        line.split("=", 1) for line in (tmp_path / "presspass.env").read_text().splitlines()
    )
    assert written == {"PRESSPASS_RELEASE": url.rpartition("/")[2], "PRESSPASS_RELEASE_URL": url}
    until(ci, url, "awaiting")


#: The programs of two CI systems as stand-ins: they print the token that the job's endpoint gives for the audience.
STAND_IN = """#!{python}
import json, sys, urllib.parse, urllib.request
words = sys.argv[1:]
if sys.argv[0].endswith("circleci"):
    assert words[:4] == ["run", "oidc", "get", "--claims"], words
    audience = json.loads(words[4])["aud"]
else:
    assert words[:3] == ["oidc", "request-token", "--audience"], words
    assert words[4:] == ["--claim", "organization_id", "--claim", "pipeline_id"], words
    audience = words[3]
url = {url!r} + "&audience=" + urllib.parse.quote(audience)
asked = urllib.request.Request(url, headers={{"Authorization": "Bearer " + {token!r}}})
print(json.load(urllib.request.urlopen(asked))["value"])
"""

BUILDKITE_JOB = {
    "organization_id": "o-1", "pipeline_id": "p-1", "organization_slug": "acme", "pipeline_slug": "greet",
    "build_number": 7, "job_id": "j-1", "build_commit": "c" * 40, "build_branch": "main",
    "build_tag": "v1.0", "runner_environment": "buildkite-hosted", "sub": "organization:acme:pipeline:greet",
}  # fmt: skip
CIRCLECI_JOB = {
    "oidc.circleci.com/org-id": "o-2", "oidc.circleci.com/project-id": "p-2",
    "oidc.circleci.com/pipeline-definition-id": "d-2", "oidc.circleci.com/vcs-ref": "refs/tags/v1.0",
    "oidc.circleci.com/vcs-origin": "github.com/acme/greet", "oidc.circleci.com/ssh-rerun": False,
    "sub": "org/o-2/project/p-2/user/u-2",
}  # fmt: skip


@pytest.mark.parametrize(
    ("provider", "program", "variable", "claims"),
    [
        ("buildkite", "buildkite-agent", "BUILDKITE", BUILDKITE_JOB),
        ("circleci", "circleci", "CIRCLECI", CIRCLECI_JOB),
    ],
)
def test_a_job_of_another_system_asks_its_own_program_for_a_token_bound_to_the_files(
    ci: CiRig, tmp_path: Path, provider: str, program: str, variable: str, claims: dict[str, Any]
) -> None:
    from presspass.core.publisher import IDENTITY_CLAIMS

    project = f"{provider}-job"
    ci.bind(
        provider, provider=provider, project=project, workflow=None, checkout=None, environment=None,
        repository_url=None, ref="refs/tags/v*",
        id=[f"{claim}={claims[claim]}" for claim in IDENTITY_CLAIMS[provider]],
    )  # fmt: skip
    files = ci.files("1.0", project.replace("-", "_"))
    with ci.runner(provider=provider) as runner:
        runner.claims = dict(claims)
        given = runner.environment()
        (tmp_path / program).write_text(
            STAND_IN.format(
                python=sys.executable,
                url=given["ACTIONS_ID_TOKEN_REQUEST_URL"],
                token=given["ACTIONS_ID_TOKEN_REQUEST_TOKEN"],
            )
        )
        (tmp_path / program).chmod(0o755)
        path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
        url = ci.rig.run(
            "submit", *files, "--url", f"{ci.rig.origin}/pypi/private/", **{**NO_CI, variable: "true", "PATH": path}
        ).strip()  # fmt: skip
        assert runner.audiences == [f"presspass:localhost:sha256:{set_digest(files)}"]
    until(ci, url, "awaiting")


def test_an_upload_token_still_wins_over_the_jobs_identity(ci: CiRig) -> None:
    token = ci.rig.token("by-token")
    with ci.runner() as runner:
        environment = {**NO_CI, **runner.environment(), "PRESSPASS_TOKEN": token}
        ci.rig.run(
            "submit", *ci.files("1.0", "by_token"), "--url", f"{ci.rig.origin}/pypi/private/", **environment
        )  # fmt: skip
        assert runner.audiences == []


@contextmanager
def later(ci: CiRig, seconds: int) -> Iterator[None]:
    """The same home `seconds` later: the press by a clock that has moved on; to the gateway, which has only the
    machine's clock, everything that it has stored happened that much earlier."""
    ci.rig.stop()
    engine = open_engine(ci.rig.home / "gateway" / "gateway.db")
    with engine.begin() as connection:
        for table in (g.PASS, g.WORKLOAD_TOKEN, g.RELEASE, g.REQUEST, g.SEEN_TOKEN):
            columns = [one for one in table.columns if one.name.endswith("_ms")]
            moved = {one.name: one - seconds * 1000 for one in columns}
            connection.execute(sa.update(table).values(**moved))
    engine.dispose()
    clock = Clock(lambda: time.time() + seconds, lambda: time.monotonic() + seconds)
    ended = threading.Event()

    def turn() -> None:
        with press_service.composed(ci.rig.home, clock=clock) as press:
            while not ended.wait(0.05):
                press.workloads.look()
                press.tick()

    thread = threading.Thread(target=turn)
    thread.start()
    try:
        with GatewayProcess(ci.rig.home, "--port", str(ci.rig.port)):
            yield
    finally:
        ended.set()
        thread.join()
        ci.rig.start()


def test_an_approval_three_hours_later_counts_though_pass_and_token_are_over_and_wait_sees_it(
    ci: CiRig,
) -> None:
    ids = ["repository_id=3003", "repository_owner_id=501"]
    ci.bind("patient", id=ids, project="patient")
    job = replace(ci.job, repository_id="3003", run_id="3003")
    still = ci.pass_(job)  # of the same workload: one that nobody ends
    files = ci.files("1.0", "patient")
    with ci.runner(replace(job, run_id="3004")) as runner:
        url = ci.rig.run(
            "submit", *files, "--url", ci.rig.origin, **{**NO_CI, **runner.environment()}
        ).strip()
    until(ci, url, "awaiting")
    assert judged(ci, files).state == "verified", "while token and pass were good"
    wait_until(lambda: bool(decided(ci, url)), "the press has seen the request", 60.0)
    words = [
        *ci.rig.command,
        "wait",
        url.rpartition("/")[2],
        "--url",
        ci.rig.origin,
        "--timeout",
        "120s",
    ]
    environment = {**os.environ, **ci.rig.environment}
    waiting = subprocess.Popen(
        words, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert ci.word_on_pass(still) in {"request.not-found", "release.wrong-state"}
        with later(ci, HOURS_S):
            assert ci.word_on_pass(still) == "pass.expired"
            assert waiting.poll() is None, "it waits through the restart"
            ci.rig.approve(url, "ada", "grace")
            out, err = waiting.communicate(timeout=60)
    finally:
        waiting.kill()
        waiting.wait()
    assert waiting.returncode == exits.DONE, err
    assert out.strip() == url
    assert published(ci, "patient") == [one.name for one in files]
    [told] = decided(ci, url)
    assert told.state == "verified"
    assert told.updated_ms - told.first_seen_ms > (HOURS_S - 60) * 1000


def decided(ci: CiRig, url: str) -> list[Any]:
    """The press's decision on a release, if it has seen the request."""
    query = sa.select(t.DECISION).where(t.DECISION.c.release == url.rpartition("/")[2])
    return list(ask_journal(ci.rig.home, lambda c: c.execute(query).all()))


# what `wait` says, against a stand-in


@pytest.mark.parametrize(
    ("ended", "code"),
    [
        ("verified", exits.DONE),
        ("rejected", exits.REFUSED),
        ("revoked", exits.REFUSED),
        ("expired", exits.EXPIRED),
        ("failed", exits.FAILED),
        ("withdrawn", exits.OVERTAKEN),
    ],
)
def test_wait_ends_with_a_code_of_its_own_for_each_end(
    tmp_path: Path, ended: str, code: int, capfd: pytest.CaptureFixture[str]
) -> None:
    class Ended(StandInGate):
        def release_json(self) -> dict[str, Any]:
            return {**super().release_json(), "state": ended, "reason": "as it was"}

    release = make_release([make_wheel(tmp_path, "greet", "1.0")], "greet", "1.0")
    with Ended(release) as gate:
        assert run(["wait", RELEASE_ID, "--url", gate.url]) == code
    told = capfd.readouterr()
    assert ended in told.err if code else gate.page.rpartition("/")[2] in told.out


def test_an_id_alone_needs_a_gate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PRESSPASS_URL", raising=False)
    assert run(["wait", RELEASE_ID]) == exits.CANNOT_SAY


@pytest.mark.parametrize("id", ["a\nurl=evil", "a b", "", "x" * 200])
def test_a_hostile_gate_sets_no_output_of_its_own(
    tmp_path: Path, id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "output"
    monkeypatch.setenv("GITHUB_OUTPUT", str(output))
    with pytest.raises(Fault):
        _hand_on(PageUrl("https://gate.example", "r", id), tmp_path / "env")
    assert not output.exists() and not (tmp_path / "env").exists()
