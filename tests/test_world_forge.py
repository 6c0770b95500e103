"""The world's forge: the same calls give the same commits, and an unchanged git clones from it."""

from __future__ import annotations

from pathlib import Path
from subprocess import CalledProcessError

import pytest

from presspass.drill.world.forge import Forge

PATH = ".github/workflows/release.yml"
WORKFLOW = b"on: push\njobs: {}\n"


def test_the_same_seed_and_calls_give_the_same_commits(tmp_path: Path, forge: Forge) -> None:
    def made(server: Forge, name: str) -> list[str]:
        repository = server.repository("acme", name)
        first = repository.commit({PATH: WORKFLOW, "a": "b"})
        return [first, repository.commit({"a": None}), repository.commit({"c": "d"}, branch="x/y")]

    with Forge(tmp_path / "other") as same, Forge(tmp_path / "third", seed=1) as different:
        assert made(forge, "demo") == made(same, "demo") == made(same, "again")
        assert not set(made(forge, "more")) & set(made(different, "demo"))


def test_an_unchanged_git_clones_from_the_forge_and_sees_tags_and_deletions(
    forge: Forge, tmp_path: Path
) -> None:
    repository = forge.repository("acme", "demo")
    repository.commit({"a": "b", "gone": "x"})
    commit = repository.commit({"gone": None, PATH: WORKFLOW})
    repository.tag("v1", commit)
    repository.clone(tmp_path / "clone", "--depth=1", "--branch=v1")
    assert (tmp_path / "clone" / PATH).read_bytes() == WORKFLOW
    assert not (tmp_path / "clone" / "gone").exists()
    newer = repository.commit({"a": "c"})
    with pytest.raises(CalledProcessError):
        repository.tag("v1", newer)
    repository.tag("v1", newer, force=True)
    assert repository.git("rev-parse", "v1").decode().strip() == newer
