"""The ready pieces for CI systems are what those systems read, and their scripts run against a real gate.

YAML is read by the parser of the peers' environment (ruamel.yaml, YAML 1.2), which is none of ours. The runner is a
stand-in that does with a composite action what GitHub documents: inputs into expressions, each `run` by
`bash --noprofile --norc -eo pipefail`, outputs from GITHUB_OUTPUT, folders from GITHUB_PATH.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

import peers
from ci_rig import GITLAB_JOB, NO_CI, CiRig, until
from packages import make_wheel
from presspass import __version__
from presspass.cli import exits
from presspass.cli.publisher import ISSUERS, Content, _body, bind_command
from presspass.core.publisher import (
    IDENTITY_CLAIMS,
    REFUSED_EVENTS,
    WITH_REF,
    WITH_WORKFLOW,
    match_ref,
)
from presspass.core.workload import PROVIDERS
from presspass.drill.peers import PypiServer
from presspass.services.config import Config, parse_config

ROOT = Path(__file__).resolve().parent.parent
ACTION = ROOT / "integrations" / "github" / "action.yml"
COMPONENT = ROOT / "integrations" / "gitlab" / "presspass.yml"
EXAMPLES = ROOT / "docs" / "examples"
EXPRESSION = re.compile(r"\$\{\{\s*(.*?)\s*\}\}")
INPUT = re.compile(r"\$\[\[ inputs\.([a-z-]+) \]\]")
READ = """
import json, sys, ruamel.yaml
json.dump(list(ruamel.yaml.YAML(typ="safe", pure=True).load_all(sys.stdin)), sys.stdout)
"""


def documents(text: str) -> list[Any]:
    """The YAML documents in a text. A name given twice is an error of the parser's."""
    python = peers.require_peer("python")
    done = subprocess.run(
        [python, "-c", READ], input=text, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr[-1000:]
    return list(json.loads(done.stdout))


def load(path: Path) -> Any:
    [value] = documents(path.read_text())
    return value


@pytest.fixture(scope="module")
def ci(tmp_path_factory: pytest.TempPathFactory, ssh_keygen: Path) -> Iterator[CiRig]:
    peers.require_peer("pypi-server")
    folder = tmp_path_factory.mktemp("ci")
    with (
        PypiServer(folder / "registry", "__token__", "upstream-secret") as registry,
        CiRig(folder, registry) as ci,
    ):
        ci.start()
        yield ci


# GitHub


class ActionRunner:
    """Runs a composite action's steps. Any expression but the few that are known here is an error."""

    def __init__(
        self, action: Any, inputs: Mapping[str, str], folder: Path, environment: Mapping[str, str]
    ) -> None:
        self._action = action
        declared = action["inputs"]
        assert set(inputs) <= set(declared)
        self._inputs = {name: str(one.get("default", "")) for name, one in declared.items()} | dict(
            inputs
        )
        self._outputs: dict[str, str] = {}
        self._folder = folder
        self._environment = dict(environment)

    def run(self) -> dict[str, str]:
        """The action's outputs."""
        for step in self._action["runs"]["steps"]:
            if "if" not in step or self._condition(step["if"]):
                self._step(step)
        return {name: self._filled(one["value"]) for name, one in self._action["outputs"].items()}

    def _step(self, step: Mapping[str, Any]) -> None:
        assert step["shell"] == "bash", "a composite action's step names its shell"
        script = self._folder / "step.sh"
        script.write_text(step["run"])
        output, path = self._folder / "output", self._folder / "path"
        output.write_text("")
        path.write_text("")
        given = {name: self._filled(text) for name, text in step.get("env", {}).items()}
        files = {
            "GITHUB_OUTPUT": str(output),
            "GITHUB_PATH": str(path),
            "RUNNER_TEMP": str(self._folder),
        }
        done = subprocess.run(
            ["bash", "--noprofile", "--norc", "-eo", "pipefail", script],
            env={**self._environment, **files, **given},
            cwd=self._folder, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{step['name']}: {done.stdout}\n{done.stderr}"
        for line in output.read_text().splitlines():
            name, _, value = line.partition("=")
            self._outputs[f"steps.{step['id']}.outputs.{name}"] = value
        added = path.read_text().split()
        self._environment["PATH"] = os.pathsep.join([*reversed(added), self._environment["PATH"]])

    def _condition(self, text: str) -> bool:
        match = re.fullmatch(r"\$\{\{ inputs\.([a-z-]+) != '' \}\}", text)
        assert match is not None, f"this runner does not know {text!r}"
        return self._inputs[match[1]] != ""

    def _filled(self, text: str) -> str:
        def value(match: re.Match[str]) -> str:
            name = match[1].removeprefix("inputs.")
            return self._outputs[match[1]] if match[1].startswith("steps.") else self._inputs[name]

        return EXPRESSION.sub(value, text)


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """A folder with `presspass` in it, as an installation has."""
    folder = tmp_path / "programs"
    folder.mkdir()
    shim = folder / "presspass"
    shim.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m presspass.cli.main "$@"\n')
    shim.chmod(0o755)
    return folder


def test_the_action_stages_at_a_real_gate_and_hands_the_release_on(
    ci: CiRig, tmp_path: Path, programs: Path
) -> None:
    job = ci.bind_job("by-action", 6001)
    files = ci.files("1.0", "by_action")
    (files[0].parent / "notes.txt").write_text("left where it is")
    with ci.runner(job) as runner:
        environment = {
            **os.environ, **ci.rig.environment, **NO_CI, **runner.environment(),
            "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
        }  # fmt: skip
        inputs = {
            "url": ci.rig.origin + "/", "upstream": "private", "packages-dir": str(files[0].parent),
            "version": "",
        }  # fmt: skip
        outputs = ActionRunner(load(ACTION), inputs, tmp_path, environment).run()
    assert outputs["url"] == f"{ci.rig.origin}/r/{outputs['release']}"
    until(ci, outputs["url"], "awaiting")
    assert [one["name"] for one in ci.rig.ask("status", outputs["url"])["files"]] == [
        one.name for one in files
    ]


def test_the_action_installs_exactly_the_version_that_it_names(tmp_path: Path) -> None:
    action = load(ACTION)
    assert str(action["inputs"]["version"]["default"]) == __version__
    shelf = tmp_path / "shelf"
    shelf.mkdir()
    for version in (__version__, "99.0"):
        make_wheel(shelf, "presspass", version)
    install = {**action, "runs": {"steps": action["runs"]["steps"][:1]}, "outputs": {}}
    environment = {**os.environ, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(shelf)}
    ActionRunner(install, {"url": "https://gate.example"}, tmp_path, environment).run()
    python = tmp_path / "presspass" / "bin" / "python"
    said = subprocess.run(
        [python, "-m", "pip", "list", "--format", "json", "--disable-pip-version-check"],
        capture_output=True, check=True,
    )  # fmt: skip
    found = {one["name"]: one["version"] for one in json.loads(said.stdout)}
    assert found["presspass"] == __version__
    assert (tmp_path / "path").read_text().strip() == str(python.parent)


def test_the_action_is_what_github_reads_and_takes_no_input_into_a_script() -> None:
    action = load(ACTION)
    assert set(action) == {"name", "description", "author", "inputs", "outputs", "runs"}
    assert set(action["inputs"]) == {"url", "upstream", "packages-dir", "version"}
    assert set(action["outputs"]) == {"release", "url"}
    assert all(
        one["description"] for one in (*action["inputs"].values(), *action["outputs"].values())
    )
    assert action["runs"]["using"] == "composite"
    ids = {step.get("id") for step in action["runs"]["steps"]}
    for output in action["outputs"].values():
        match = re.fullmatch(r"\$\{\{ steps\.(\w+)\.outputs\.(release|url) \}\}", output["value"])
        assert match is not None and match[1] in ids
    for step in action["runs"]["steps"]:
        assert "uses" not in step, "nothing of anybody else's runs in here"
        assert step["shell"] == "bash" and not EXPRESSION.search(step["run"])
        for found in re.findall(r"pip install .*", step["run"]):
            assert '"presspass[gate]==$VERSION"' in found and "--only-binary :all:" in found
    assert "--wait" not in ACTION.read_text() and "presspass wait\n" not in ACTION.read_text()


def test_the_example_workflow_is_one_that_can_be_bound_as_it_is() -> None:
    workflow = load(EXAMPLES / "release.yml")
    assert workflow["permissions"] == {}
    [(event, trigger)] = workflow["on"].items()
    assert event not in REFUSED_EVENTS
    publish = workflow["jobs"]["publish"]
    given = {
        "name": "greet-ci", "upstream": "private", "projects": ("greet",), "provider": "github",
        "ids": ("repository_id=1001", "repository_owner_id=501"), "issuer": "", "repository": "acme/greet",
        "repository_url": None, "workflow": ".github/workflows/release.yml", "refs": (), "events": (),
        "environment": publish["environment"], "unprotected_refs": False, "self_hosted": False, "bot": False,
    }  # fmt: skip
    body = _body(given, Content((EXAMPLES / "release.yml").read_text()))
    assert body.events == (event,) and body.issuer == ISSUERS["github"]
    [pattern] = trigger["tags"]
    assert match_ref(body.refs[0], "refs/tags/" + pattern.replace("*", "1.0")) == "1.0"
    assert publish["permissions"]["id-token"] == "write"
    others = [job for name, job in workflow["jobs"].items() if name != "publish"]
    assert all("id-token" not in job["permissions"] for job in others), "who builds is not who asks"
    action = load(ACTION)
    used = next(step for step in publish["steps"] if "integrations/github" in step.get("uses", ""))
    assert set(used["with"]) <= set(action["inputs"])
    for name, value in publish["outputs"].items():
        assert (
            value == f"${{{{ steps.{used['id']}.outputs.{name} }}}}" and name in action["outputs"]
        )


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.yml")), ids=lambda path: path.name)
def test_what_the_examples_use_is_pinned_and_no_event_is_part_of_a_script(path: Path) -> None:
    workflow = load(path)
    steps = [step for job in workflow["jobs"].values() for step in job["steps"]]
    assert steps
    for step in steps:
        if "uses" in step:
            assert re.fullmatch(r"[\w./-]+@[0-9a-f]{40}", step["uses"]), step["uses"]
        else:
            assert not EXPRESSION.search(step["run"]), step["run"]


def test_the_second_workflow_goes_on_where_the_press_sends_it() -> None:
    from presspass.drill.world.forge_api import ForgeApi
    from presspass.notify import Message
    from presspass.notify.forge import FOLLOW_UP, Call, Forge

    workflow = load(EXAMPLES / "after-release.yml")
    [event] = workflow["on"]["repository_dispatch"]["types"]
    with ForgeApi("token") as api:
        forge = Forge("x", "github", "https://issuer.example", api.url, "token", follow_up=event)
        call = Call(
            "acme/greet",
            "",
            "5" * 40,
            "success",
            "",
            "https://gate.example/r/x",
            "x",
            "greet",
            "1.0",
        )
        forge.deliver(Message("1", forge.address, FOLLOW_UP, call.to_text()), 0)
        [(_, sent)] = api.told.events
    text = (EXAMPLES / "after-release.yml").read_text()
    used = set(re.findall(r"github\.event\.client_payload\.(\w+)", text))
    assert used and used <= set(sent["client_payload"])
    assert f"== '{sent['client_payload']['state']}'" in workflow["jobs"]["notes"]["if"]


# GitLab


def component(inputs: Mapping[str, str]) -> tuple[Any, Any]:
    """The component's header and its jobs, with the inputs filled in as GitLab does (textually, before it parses)."""
    head, mark, body = COMPONENT.read_text().partition("\n---\n")
    assert mark
    [spec] = documents(head)
    declared = spec["spec"]["inputs"]
    values = {name: one.get("default") for name, one in declared.items()} | dict(inputs)
    assert set(inputs) <= set(declared) and None not in values.values()
    assert set(INPUT.findall(body)) == set(declared), "every input is used, and no other"
    [jobs] = documents(INPUT.sub(lambda match: str(values[match[1]]), body))
    return spec["spec"], jobs


def test_the_component_is_what_gitlab_reads() -> None:
    spec, jobs = component({"url": "https://gate.example", "audience": "presspass:gate.example"})
    assert all(one["description"] for one in spec["inputs"].values())
    [(name, job)] = jobs.items()
    assert name == "presspass" and job["id_tokens"] == {
        "PRESSPASS_ID_TOKEN": {"aud": "presspass:gate.example"}
    }
    assert job["artifacts"]["reports"]["dotenv"] in job["script"][0]
    assert str(spec["inputs"]["version"]["default"]) == __version__
    assert '"presspass[gate]==$PRESSPASS_VERSION"' in job["script"][0]


def test_the_component_stages_at_a_real_gate_and_hands_the_release_on(
    ci: CiRig, tmp_path: Path, programs: Path
) -> None:
    path = ".gitlab-ci.yml"
    commit = ci.repository.commit({path: COMPONENT.read_bytes()})
    checkout = tmp_path / "checkout"
    ci.repository.clone(checkout)
    ci.bind(
        "component", provider="gitlab", id=["namespace_id=72", "project_id=4002"], project="by-component",
        workflow=path, checkout=checkout,
    )  # fmt: skip
    files = ci.files("1.0", "by_component")
    inputs = {
        "url": ci.rig.origin, "audience": "presspass:localhost", "packages-dir": str(files[0].parent),
        "version": "",
    }  # fmt: skip
    _, jobs = component(inputs)
    [job] = jobs.values()
    claims = {
        **GITLAB_JOB, "project_id": "4002", "job_id": "14", "ci_config_sha": commit, "sha": commit,
        "environment": job["environment"]["name"],
        "ci_config_ref_uri": f"127.0.0.1/acme/greet//{path}@refs/tags/v1.0",
        "aud": job["id_tokens"]["PRESSPASS_ID_TOKEN"]["aud"],
    }  # fmt: skip
    done = subprocess.run(
        ["bash", "-eo", "pipefail", "-c", "\n".join(job["script"])],
        env={
            **os.environ, **ci.rig.environment, **NO_CI, **{k: str(v) for k, v in job["variables"].items()},
            "GITLAB_CI": "true", "CI_PROJECT_DIR": str(checkout),
            "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
            "PRESSPASS_ID_TOKEN": ci.issuers["gitlab"].mint(claims),
        },
        cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    report = (tmp_path / job["artifacts"]["reports"]["dotenv"]).read_text()
    written = dict(line.split("=", 1) for line in report.splitlines())
    until(ci, written["PRESSPASS_RELEASE_URL"], "awaiting")
    ci.rig.approve(written["PRESSPASS_RELEASE_URL"], "ada", "grace")
    ci.rig.run("wait", written["PRESSPASS_RELEASE"], "--url", ci.rig.origin, "--timeout", "60s")


# the pages

PAGES = {
    name: ROOT / "docs" / f"{name}.md"
    for name in ("ci-github", "ci-gitlab", "ci-other", "who-reaches-what")
}
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(page: str, kind: str) -> list[str]:
    return [body for found, body in BLOCK.findall(PAGES[page].read_text()) if found == kind]


def commands(page: str) -> list[list[str]]:
    """The words of every command in the page's shell blocks."""
    lines = "\n".join(blocks(page, "sh")).replace("\\\n", " ").splitlines()
    return [shlex.split(line) for line in lines if line.startswith("presspass ")]


@pytest.mark.parametrize("page", PAGES)
def test_every_snippet_is_of_a_kind_that_is_run_or_parsed(page: str, tmp_path: Path) -> None:
    kinds = {kind for kind, _ in BLOCK.findall(PAGES[page].read_text())}
    assert kinds and kinds <= {"sh", "yaml", "toml"}
    for body in blocks(page, "yaml"):
        assert all(documents(body))
    for body in blocks(page, "sh"):
        subprocess.run(["bash", "-n"], input=body, text=True, check=True)
    for body in blocks(page, "toml"):
        text = Config("https://gate.example").to_toml()
        if body.startswith("[dial]"):
            text = re.sub(r"\[dial\]\n(?:\w.*\n)+", body, text)
            assert parse_config(text).dial.ports == (443, 8443)
        else:
            [forge] = parse_config(text + body).forges
            assert forge.follow_up and forge.api_url.startswith("https://")


@pytest.mark.parametrize("page", ["ci-github", "ci-gitlab", "ci-other"])
def test_every_binding_of_the_pages_is_one_that_people_could_sign(page: str) -> None:
    found = [words for words in commands(page) if words[1:3] == ["publisher", "bind"]]
    assert found
    for words in found:
        given = dict(bind_command.make_context("bind", words[3:], resilient_parsing=False).params)
        content = Content("on: push\n" if given["provider"] in WITH_WORKFLOW else None)
        body = _body(given, content)
        assert body.issuer.startswith("https://") and body.projects == ("greet",)


def test_the_snippets_of_jobs_use_the_inputs_that_there_are() -> None:
    [[step]] = [documents(body)[0] for body in blocks("ci-github", "yaml")]
    assert set(step["with"]) <= set(load(ACTION)["inputs"])
    include, job, notes = (documents(body)[0] for body in blocks("ci-gitlab", "yaml"))
    [used] = include["include"]
    component(used["inputs"])
    assert job["publish"]["id_tokens"]["PRESSPASS_ID_TOKEN"]["aud"] == used["inputs"]["audience"]
    assert job["publish"]["artifacts"]["reports"]["dotenv"] in job["publish"]["script"][0]
    assert notes["notes"]["rules"]


def test_the_presets_are_those_of_the_code() -> None:
    rows = re.findall(r"^\| `(\w+)` \|(.*)\|$", PAGES["ci-other"].read_text(), re.MULTILINE)
    table = {name: [cell.strip() for cell in rest.split("|")] for name, rest in rows}
    assert set(table) == set(PROVIDERS) - {"github", "gitlab"}
    for name, (issuer, claims, ref, workflow, _files) in table.items():
        assert tuple(re.findall(r"`([^`]+)`", claims)) == IDENTITY_CLAIMS[name]
        assert (ref != "none") == (name in WITH_REF)
        assert (workflow != "no") == (name in WITH_WORKFLOW)
        if name in ISSUERS:
            assert issuer == f"`{ISSUERS[name]}`"


def test_the_defaults_and_refusals_that_the_page_names_are_those_of_the_code() -> None:
    text = PAGES["ci-github"].read_text()
    body = _body(
        {
            "name": "x", "upstream": "main", "projects": ("greet",), "provider": "github",
            "ids": ("repository_id=1", "repository_owner_id=2"), "issuer": "", "repository": "",
            "repository_url": None, "workflow": "w.yml", "refs": (), "events": (), "environment": "",
            "unprotected_refs": False, "self_hosted": False, "bot": False,
        },
        Content("on: push\n"),
    )  # fmt: skip
    assert (
        f"| `--ref` | `{body.refs[0]}` |" in text and f"| `--event` | `{body.events[0]}` |" in text
    )
    named = {one for one in REFUSED_EVENTS if f"`{one}`" in text}
    assert named == {"pull_request", "pull_request_target", "workflow_run", "issue_comment"}
    assert f"{exits.EXPIRED} expired" in text and f"{exits.FAILED} failed" in text
    assert "`[dial] ports`, by default 443" in PAGES["who-reaches-what"].read_text()
    assert Config("https://gate.example").dial.ports == (443,)
