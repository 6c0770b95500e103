"""Real twine and uv at the gate, unchanged but for the URL: what they do, and what their users read."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest
import sqlalchemy as sa

import packages
import peers
from gateway_world import ORIGIN, PROJECT, World, until
from presspass.store import gateway_tables as g

_VERSIONS = count(1)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    peers.require_peer("twine")
    peers.require_peer("uv")
    with World(tmp_path_factory.mktemp("clients") / "home") as world:
        yield world


@pytest.fixture
def version() -> str:
    return f"{next(_VERSIONS)}.0"


@pytest.fixture
def files(tmp_path: Path, version: str) -> list[Path]:
    """A wheel and an sdist of one version."""
    return [
        packages.make_wheel(tmp_path, PROJECT, version),
        packages.make_sdist(tmp_path, PROJECT, version),
    ]


Client = Callable[..., peers.Answer]
CLIENTS = [pytest.param(peers.run_twine, id="twine"), pytest.param(peers.run_uv_publish, id="uv")]


def flat(answer: peers.Answer) -> str:
    """What the user reads, with the line breaks of the terminal taken out."""
    return " ".join(answer.text.split())


@pytest.mark.parametrize("client", CLIENTS)
def test_an_unchanged_client_stages_both_files(
    world: World, version: str, files: list[Path], client: Client
) -> None:
    answer = client(world.upload_url, "__token__", world.token(), files)
    assert answer.exit_code == 0, answer.text
    row = world.rows(sa.select(g.RELEASE).where(g.RELEASE.c.version == version))[0]
    release = world.release(row.id)
    assert [file["name"] for file in release["files"]] == sorted(path.name for path in files)
    again = client(world.upload_url, "__token__", world.token(), files)
    assert again.exit_code == 0, again.text
    assert len(world.rows(sa.select(g.RELEASE).where(g.RELEASE.c.version == version))) == 1


def test_twine_shows_where_it_is_staged(world: World, version: str, files: list[Path]) -> None:
    answer = peers.run_twine(world.upload_url, "__token__", world.token(), files[:1], "--verbose")
    row = world.rows(sa.select(g.RELEASE).where(g.RELEASE.c.version == version))[0]
    assert f"{ORIGIN}/r/{row.id}" in answer.text.replace("\n", "").replace(" ", "")
    assert "Staged, awaiting approval" in flat(answer)


def test_what_twine_sends_as_comment_is_shown_to_people(
    world: World, version: str, files: list[Path]
) -> None:
    said = ["--comment", "Bumps idna.\nNothing else."]
    answer = peers.run_twine(world.upload_url, "__token__", world.token(), files, *said)
    assert answer.exit_code == 0, answer.text
    row = world.rows(sa.select(g.RELEASE).where(g.RELEASE.c.version == version))[0]
    assert world.release(row.id)["note"] == "Bumps idna.\nNothing else."


@pytest.mark.parametrize("client", CLIENTS)
def test_a_token_of_another_project_is_told_in_words(
    world: World, files: list[Path], client: Client
) -> None:
    answer = client(world.upload_url, "__token__", world.token("other"), files)
    assert answer.exit_code != 0
    assert "This upload token is for other, and the file is of greet." in flat(answer)
    assert "403" in answer.text


@pytest.mark.parametrize("client", CLIENTS)
def test_other_bytes_are_told_with_the_address_of_the_release(
    world: World, version: str, files: list[Path], tmp_path: Path, client: Client
) -> None:
    token = world.token()
    staged = world.upload(token, files[0].name, files[0].read_bytes()).json
    other = packages.make_wheel(
        tmp_path / "other", PROJECT, version, {"greet/__init__.py": b"poisoned = True\n"}
    )
    answer = client(world.upload_url, "__token__", token, [other])
    assert answer.exit_code != 0
    assert "was uploaded before with other bytes" in flat(answer)
    assert staged["url"] in answer.text.replace("\n", "")


@pytest.mark.parametrize("client", CLIENTS)
def test_a_closed_set_is_told_in_words(world: World, files: list[Path], client: Client) -> None:
    token = world.token()
    release = world.upload(token, files[0].name, files[0].read_bytes()).json["id"]
    world.ask("POST", f"/api/v1/releases/{release}/close", b"", Authorization=f"Bearer {token}")
    answer = client(world.upload_url, "__token__", token, files[1:])
    assert answer.exit_code != 0
    assert "the set is closed and stays so" in flat(answer)


def test_twine_does_not_send_a_refused_file_again(world: World, files: list[Path]) -> None:
    """A 5xx would make it send four more copies at once."""
    token, later = world.token("other"), world.token("another")
    peers.run_twine(world.upload_url, "__token__", token, files)
    world.upload(later, files[0].name, files[0].read_bytes())  # events are written in their order
    until(lambda: world.refusals(later), "the event after those of twine")
    assert len(world.refusals(token)) == 1


def test_twine_does_not_skip_what_waits_for_approval(world: World, files: list[Path]) -> None:
    answer = peers.run_twine(world.upload_url, "__token__", "nonsense", files)
    assert answer.exit_code != 0
    assert "not an upload token of this gate" in flat(answer)


def test_uv_sends_attestations_after_the_file(
    world: World, version: str, files: list[Path]
) -> None:
    """They are read past: an attestation of the build cannot be passed on by a gate that uploads under its own name."""
    statement = {
        "version": 1,
        "verification_material": {"certificate": "AA==", "transparency_entries": [{}]},
    }
    statement["envelope"] = {"statement": "AA==", "signature": "AA=="}
    path = files[0].with_name(f"{files[0].name}.publish.attestation")
    path.write_text(json.dumps(statement))
    answer = peers.run_uv_publish(world.upload_url, "__token__", world.token(), [files[0]])
    assert answer.exit_code == 0, answer.text
    row = world.rows(sa.select(g.RELEASE).where(g.RELEASE.c.version == version))[0]
    assert [file["name"] for file in world.release(row.id)["files"]] == [files[0].name]
