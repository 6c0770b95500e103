"""Every upload client of the documentation at the gate, by the very commands that docs/clients.md shows its users."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest
import sqlalchemy as sa

import packages
import peers
from gateway_world import ORIGIN, PROJECT, World
from presspass.gateway.tokens import secret_hash
from presspass.store import gateway_tables as g
from test_docs import DOCS, blocks_under, codes_in, rows

PAGE = DOCS / "clients.md"
CLIENTS = ("twine", "uv", "flit", "hatch", "poetry", "pdm")
_VERSIONS = count(1)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with World(tmp_path_factory.mktemp("clients") / "home") as world:
        yield world


@pytest.fixture(params=CLIENTS)
def client(request: pytest.FixtureRequest) -> str:
    name = str(request.param)
    peers.require_peer(name)
    return name


@pytest.fixture
def version() -> str:
    return f"{next(_VERSIONS)}.0"


@pytest.fixture
def project(tmp_path: Path, version: str) -> Path:
    return make_project(tmp_path / "project", version)


def make_project(folder: Path, version: str, body: str = "") -> Path:
    """A project as each client wants it: settings and source for flit, which builds itself; `dist` for the others."""
    (folder / PROJECT).mkdir(parents=True)
    (folder / PROJECT / "__init__.py").write_text(body)
    (folder / "pyproject.toml").write_text(
        '[build-system]\nrequires = ["flit_core >=3.11"]\nbuild-backend = "flit_core.buildapi"\n\n'
        f'[project]\nname = "{PROJECT}"\nversion = "{version}"\ndescription = "A tiny package"\n'
    )
    files = {f"{PROJECT}/__init__.py": body}
    packages.make_wheel(folder / "dist", PROJECT, version, files)
    packages.make_sdist(folder / "dist", PROJECT, version, files)
    return folder


def publish(world: World, client: str, project: Path, token: str) -> peers.Answer:
    """Runs the commands under the client's heading, with this gate's address and this token for those of the page."""
    (script,) = blocks_under(PAGE, f"## {client}", "console")
    for written, here in (
        ("https://gate.example/pypi/main/legacy/", world.upload_url),
        ("ppu_…", token),
    ):
        assert script.count(written) == 1, f"{PAGE.name}, {client}: {written}"
        script = script.replace(written, here)
    return peers.run_client(
        ["bash", "-euc", f"cd {shlex.quote(str(project))}\n{script}"],
        PATH=f"{peers.peers_folder() / 'bin'}{os.pathsep}{os.environ['PATH']}",
        SOURCE_DATE_EPOCH=str(packages.FIXED_EPOCH_S),
    )


def refused(answer: peers.Answer, client: str) -> str:
    """What the user reads, line breaks taken out, once the client has failed as the page says it does."""
    shown = {row[0]: row for row in rows(PAGE, "## What a client shows")}[client]
    assert codes_in(shown[-1]) == [str(answer.exit_code)], answer.text
    assert answer.exit_code != 0
    return " ".join(answer.text.split())


def releases(world: World, version: str) -> list[str]:
    found = world.rows(sa.select(g.RELEASE.c.id).where(g.RELEASE.c.version == version))
    return [row.id for row in found]


def test_the_page_shows_every_client_and_no_other() -> None:
    assert tuple(row[0] for row in rows(PAGE, "## What a client shows")) == CLIENTS


def test_the_documented_commands_stage_wheel_and_sdist_and_may_be_repeated(
    world: World, client: str, version: str, project: Path
) -> None:
    token = world.token()
    first = publish(world, client, project, token)
    assert first.exit_code == 0, first.text
    (release,) = releases(world, version)
    names = [file["name"] for file in world.release(release)["files"]]
    tag = "py2.py3" if client == "flit" else "py3"
    assert names == [f"{PROJECT}-{version}-{tag}-none-any.whl", f"{PROJECT}-{version}.tar.gz"]
    again = publish(world, client, project, token)
    assert again.exit_code == 0, again.text
    assert releases(world, version) == [release]
    assert [file["name"] for file in world.release(release)["files"]] == names


def test_other_bytes_are_refused_with_the_address_of_the_release(
    world: World, client: str, version: str, project: Path, tmp_path: Path
) -> None:
    token = world.token()
    publish(world, client, project, token)
    (release,) = releases(world, version)
    before = world.release(release)["files"]
    other = make_project(tmp_path / "other", version, "poisoned = True\n")
    text = refused(publish(world, client, other, token), client)
    assert "was uploaded before with other bytes, and these stay" in text
    assert f"{ORIGIN}/r/{release}" in text
    assert world.release(release)["files"] == before


def test_a_closed_set_takes_no_further_file(
    world: World, client: str, version: str, project: Path
) -> None:
    token = world.token()
    early = packages.make_wheel(project, PROJECT, version, {f"{PROJECT}/__init__.py": ""})
    release = world.upload(token, early.name, early.read_bytes()).json["id"]
    world.ask("POST", f"/api/v1/releases/{release}/close", b"", Authorization=f"Bearer {token}")
    text = refused(publish(world, client, project, token), client)
    assert "the set is closed and stays so" in text
    assert [file["name"] for file in world.release(release)["files"]] == [early.name]


def test_a_token_of_another_project_is_told_in_words(
    world: World, client: str, version: str, project: Path
) -> None:
    text = refused(publish(world, client, project, world.token("other")), client)
    assert f"This upload token is for other, and the file is of {PROJECT}." in text
    assert releases(world, version) == []


def test_a_string_that_is_no_token_is_told_in_words(
    world: World, client: str, version: str, project: Path
) -> None:
    text = refused(publish(world, client, project, "nonsense"), client)
    assert "This is not an upload token of this gate" in text
    assert releases(world, version) == []


def test_the_first_refusal_ends_the_upload(world: World, client: str, project: Path) -> None:
    """Half a release is all that a 4xx would let in: so a file is staged or refused, never answered "pending"."""
    token = world.token("other")
    publish(world, client, project, token)
    world.token(
        "other"
    )  # events are written behind the answer, and before whatever is asked for later
    refusals = sa.select(g.EVENT).where(g.EVENT.c.detail.startswith(secret_hash(token)[:16]))
    assert len(world.rows(refusals)) == 1
