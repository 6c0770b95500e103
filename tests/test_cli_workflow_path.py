"""A workload reads the proof of its workflow from its own checkout, whatever kind of clone that is."""

from __future__ import annotations

from pathlib import Path

import pytest

from presspass.cli.workflow_path import read_workflow_path
from presspass.core import limits
from presspass.core.errors import Code, Refusal
from presspass.drill.world.forge import Forge, Symlink, run_git
from presspass.verify.workflow import WorkflowPath, prove
from test_gateway_forge import PATH, WORKFLOW, fetch


def refused(code: Code, checkout: Path, commit: str, path: str = PATH) -> str:
    with pytest.raises(Refusal) as caught:
        read_workflow_path(checkout, commit, path)
    assert caught.value.code is code, caught.value
    return caught.value.message


@pytest.mark.parametrize("object_format", ["sha1", "sha256"])
@pytest.mark.parametrize("options", [[], ["--depth=1"], ["--no-checkout"], ["--bare"]])
def test_the_checkout_gives_what_the_forge_gives(
    forge: Forge, tmp_path: Path, object_format: str, options: list[str]
) -> None:
    repository = forge.repository("acme", "demo", object_format=object_format)
    repository.commit({PATH: WORKFLOW, "a": "b"})
    commit = repository.commit({"a": "c", "é/ x.yml": WORKFLOW})
    checkout = tmp_path / "checkout"
    repository.clone(checkout, *options)
    for path in (PATH, "é/ x.yml"):
        found = read_workflow_path(checkout, commit, path)
        assert found == fetch(repository.url, commit, path)
        assert WorkflowPath.from_bytes(found.to_bytes()) == found
        assert prove(commit, path, found.objects) == WORKFLOW
    run_git(["gc", "--quiet"], checkout)
    assert prove(commit, PATH, read_workflow_path(checkout, commit, PATH).objects) == WORKFLOW


def test_the_commit_of_the_token_counts_not_what_lies_in_the_folder(
    forge: Forge, tmp_path: Path
) -> None:
    repository = forge.repository("acme", "demo")
    old = repository.commit({PATH: b"on: push # old\n"})
    new = repository.commit({PATH: WORKFLOW})
    checkout = tmp_path / "checkout"
    repository.clone(checkout)
    (checkout / PATH).write_bytes(b"edited by a step of the job\n")
    run_git(["replace", new, old], checkout)
    assert b"old" in run_git(["show", f"{new}:{PATH}"], checkout), (
        "git itself follows the replacement"
    )
    assert prove(new, PATH, read_workflow_path(checkout / ".github", new, PATH).objects) == WORKFLOW
    assert b"old" in prove(old, PATH, read_workflow_path(checkout, old, PATH).objects)


def test_what_the_checkout_does_not_have_is_left_to_the_gate(
    forge: Forge, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository = forge.repository("acme", "demo")
    old = repository.commit({PATH: WORKFLOW, "big": b"#" * (limits.WORKFLOW_OBJECTS_BYTES_MAX + 1)})
    commit = repository.commit({"link": Symlink(PATH), "noise": b"\xff", "other.yml": "x"})
    shallow, partial = tmp_path / "shallow", tmp_path / "partial"
    repository.clone(shallow, "--depth=1")
    repository.clone(partial, "--filter=tree:0", "--no-checkout")
    assert "does not have the commit" in refused(Code.WORKFLOW_UNAVAILABLE, shallow, old)
    forge.requests.clear()
    refused(Code.WORKFLOW_UNAVAILABLE, partial, commit)
    assert forge.requests == [], "nothing is fetched behind the back of who runs the command"
    refused(Code.WORKFLOW_UNPROVEN, shallow, commit[:10])
    refused(Code.WORKFLOW_UNPROVEN, shallow, "--help")
    refused(Code.WORKFLOW_MISSING, shallow, commit, "none.yml")
    refused(Code.WORKFLOW_NOT_A_FILE, shallow, commit, "link")
    refused(Code.WORKFLOW_UNPROVEN, shallow, commit, "noise")
    refused(Code.WORKFLOW_TOO_LARGE, shallow, commit, "big")
    (tmp_path / "plain").mkdir()
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    assert "git says" in refused(Code.WORKFLOW_UNAVAILABLE, tmp_path / "plain", commit)
    assert "git says" in refused(Code.WORKFLOW_UNAVAILABLE, tmp_path / "none", commit)
    monkeypatch.setenv("PATH", str(tmp_path / "plain"))
    assert "not installed" in refused(Code.WORKFLOW_UNAVAILABLE, shallow, commit)
