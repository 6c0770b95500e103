"""From a closed set to a request, and the press's decisions back: against a real gateway with a real inspector."""

from __future__ import annotations

import hashlib
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

import packages
from gateway_world import ORIGIN, PROJECT, UPSTREAM, World, basic, form, until
from presspass.core.findings import parse_report
from presspass.core.statement import ReleaseBody, Statement
from presspass.store import gateway_tables as g

_VERSIONS = count(1)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with World(tmp_path_factory.mktemp("review") / "home") as world:
        yield world


@pytest.fixture
def version() -> str:
    return f"{next(_VERSIONS)}.0"


def send(world: World, token: str, *paths: Path) -> str:
    """Uploads these files, closes the set, and returns its id."""
    ids = [world.upload(token, path.name, path.read_bytes()).json["id"] for path in paths]
    close(world, token, ids[0])
    return str(ids[0])


def close(world: World, token: str, release: str) -> None:
    answer = world.ask(
        "POST", f"/api/v1/releases/{release}/close", b"", Authorization=f"Bearer {token}"
    )
    assert answer.status == 200, answer.body


def test_a_closed_set_becomes_a_request_for_exactly_these_files(
    world: World, version: str, tmp_path: Path
) -> None:
    paths = [
        packages.make_wheel(tmp_path, PROJECT, version),
        packages.make_sdist(tmp_path, PROJECT, version),
    ]
    release = world.until(send(world, world.token(), *paths), "awaiting")
    statement = Statement.from_bytes(release["statement"].encode())
    body = statement.body_as(ReleaseBody)
    assert statement.digest == release["request"]
    assert {file.name: file.sha256 for file in body.files} == {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in paths
    }
    assert (body.project, body.version, body.requester, body.release) == (
        PROJECT,
        version,
        "ada",
        release["id"],
    )
    assert body.upstream == world.journal.upstream
    assert statement.heads == world.journal.heads()
    assert statement.expires_at - statement.issued_at == 3600
    report = world.ask("GET", f"/api/v1/releases/{release['id']}/review")
    assert hashlib.sha256(report.body).hexdigest() == body.review == release["review"]
    assert {file.name for file in parse_report(report.body).candidate} == {
        path.name for path in paths
    }
    assert release["tally"] == {
        "needed": 2,
        "counted": [],
        "missing": 2,
        "requester_signed": False,
        "frozen": False,
        "excluded": [],
    }
    assert release["url"] == f"{ORIGIN}/r/{release['id']}"


@pytest.mark.parametrize(
    ("make", "code"),
    [
        (packages.wheel_with_foreign_name, "artifact.wrong-metadata"),
        (packages.wheel_with_foreign_version, "artifact.wrong-metadata"),
        (packages.sdist_with_foreign_name, "artifact.wrong-metadata"),
        (packages.wheel_truncated, "artifact.unreadable"),
        (packages.sdist_truncated, "artifact.unreadable"),
    ],
)
def test_a_file_that_is_not_what_its_name_says_is_rejected(
    world: World, version: str, tmp_path: Path, make: Callable[..., Path], code: str
) -> None:
    token, path = world.token(), make(tmp_path, PROJECT, version)
    release = world.until(send(world, token, path), "rejected", "awaiting")
    assert (release["state"], release["code"]) == ("rejected", code)
    assert path.name in release["reason"]
    again = world.upload(token, path.name, path.read_bytes())
    assert (again.status, again.code) == (403, "release.rejected")
    assert release["url"] in again.reason
    right = packages.make_wheel(tmp_path / "right", PROJECT, version)
    assert (
        world.upload(token, right.name, right.read_bytes()).status == 202
    )  # the version never went out


def test_a_review_compares_with_the_last_published_release(
    world: World, version: str, tmp_path: Path
) -> None:
    token = world.token()
    old = packages.make_wheel(tmp_path, PROJECT, version)
    world.until(send(world, token, old), "awaiting")
    statement = hashlib.sha256(version.encode()).hexdigest()  # other tests of this gate publish too
    world.journal.publish(version, {old.name: old.read_bytes()}, statement)
    new = packages.make_wheel(tmp_path, PROJECT, f"{version}.1")
    release = world.until(send(world, token, new), "awaiting")
    report = parse_report(world.ask("GET", f"/api/v1/releases/{release['id']}/review").body)
    assert report.baseline_version == version
    assert [file.name for file in report.baseline] == [old.name]


# --- what the press decides ---------------------------------------------------------------------------------------


@pytest.fixture
def asked(world: World, version: str, tmp_path: Path) -> dict[str, Any]:
    """A release that awaits approval."""
    path = packages.make_wheel(tmp_path, PROJECT, version)
    return world.until(send(world, world.token(), path), "awaiting")


@pytest.mark.parametrize(
    ("said", "state", "live"),
    [
        ("approved", "approved", True),
        ("publishing", "publishing", True),
        ("published", "published", True),
        ("verified", "verified", False),
        ("rejected", "rejected", False),
        ("expired", "expired", False),
        ("failed", "failed", False),
    ],
)
def test_the_press_has_the_word(
    world: World, asked: dict[str, Any], said: str, state: str, live: bool
) -> None:
    """Also when the gateway missed the states in between."""
    world.journal.decide(asked["request"], asked["id"], said, "narrowing.vetoed", "because")
    release = world.until(asked["id"], state)
    assert (release["reason"], release["press"]["state"]) == ("because", said)
    row = world.rows(sa.select(g.RELEASE).where(g.RELEASE.c.id == asked["id"]))[0]
    assert row.live == (1 if live else None)


def test_what_the_press_has_only_seen_changes_nothing(world: World, asked: dict[str, Any]) -> None:
    world.journal.decide(
        asked["request"], asked["id"], "seen", "quorum.missing", "1 more must sign"
    )
    press = until(lambda: world.release(asked["id"])["press"], "the press's word")
    assert press == {"state": "seen", "code": "quorum.missing", "message": "1 more must sign"}
    assert world.release(asked["id"])["state"] == "awaiting"


def test_a_stale_release_is_inspected_and_asked_again(world: World, asked: dict[str, Any]) -> None:
    world.journal.decide(
        asked["request"], asked["id"], "stale", "release.stale", "another release came first"
    )
    release = until(
        lambda: (
            (found := world.release(asked["id"]))["request"] not in (None, asked["request"])
            and found
        ),
        "a new request",
    )
    assert release["state"] == "awaiting"
    approval = world.grace.approve(asked["statement"].encode(), origin=ORIGIN, rp_id="localhost")
    late = world.ask("POST", f"/api/v1/requests/{asked['request']}/approvals", approval.to_bytes())
    assert late.code == "release.stale"


def test_a_settled_release_ignores_what_the_press_says_of_an_older_request(
    world: World, asked: dict[str, Any]
) -> None:
    world.journal.decide(asked["request"], asked["id"], "rejected", "narrowing.vetoed", "no")
    world.until(asked["id"], "rejected")
    world.journal.decide(asked["request"], asked["id"], "verified")
    world.ask("GET", "/healthz")
    time.sleep(0.2)  # several looks of the upkeep, none of which may do anything
    assert world.release(asked["id"])["state"] == "rejected"


def test_after_a_publication_the_same_upload_answers_published(
    world: World, asked: dict[str, Any], tmp_path: Path
) -> None:
    path = packages.make_wheel(tmp_path, PROJECT, asked["version"])
    world.journal.decide(asked["request"], asked["id"], "verified")
    world.until(asked["id"], "verified")
    answer = world.upload(world.token(), path.name, path.read_bytes())
    assert (answer.status, answer.reason) == (200, f"Published: {asked['url']}")
    other = world.upload(world.token(), packages.sdist_filename(PROJECT, asked["version"]), b"more")
    assert (other.status, other.code) == (403, "release.already-published")


# --- crashes ------------------------------------------------------------------------------------------------------


def test_kill_9_in_the_middle_of_an_upload_loses_nothing(tmp_path: Path) -> None:
    world = World(tmp_path / "home")
    with world:
        token, data = world.token(), bytes(6 << 20)
        content_type, body = form("greet-1.0-py3-none-any.whl", data)
        lines = [
            f"POST /pypi/{UPSTREAM}/legacy/ HTTP/1.1",
            "Host: x",
            f"Authorization: {basic(token)}",
        ]
        lines += [f"Content-Type: {content_type}", f"Content-Length: {len(body)}", "", ""]
        with socket.create_connection(("127.0.0.1", world.gateway.port)) as client:
            client.sendall("\r\n".join(lines).encode() + body[: 4 << 20])
            until(world.leftovers, "the upload to have begun")
            world.gateway.kill()
        assert world.leftovers() != []
        world.gateway.start()
        assert world.leftovers() == []
        assert world.count(g.RELEASE) == 0
        answer = world.upload(token, "greet-1.0-py3-none-any.whl", data)
        assert answer.status == 202


@pytest.mark.parametrize("delay_s", [0.0, 0.05, 0.15, 0.3])
def test_kill_9_at_any_point_of_a_review_resumes_at_the_next_start(
    tmp_path: Path, delay_s: float
) -> None:
    world = World(tmp_path / "home")
    with world:
        token = world.token()
        paths = [
            packages.make_wheel(tmp_path, PROJECT, "1.0"),
            packages.make_sdist(tmp_path, PROJECT, "1.0"),
        ]
        release = send(world, token, *paths)
        time.sleep(delay_s)
        world.gateway.kill()
        world.gateway.start()
        found = world.until(release, "awaiting")
        assert [file["name"] for file in found["files"]] == sorted(path.name for path in paths)
        requests = world.rows(sa.select(g.REQUEST))
        assert [row.digest for row in requests] == [found["request"]]
        assert world.count(g.REVIEW) == 1


def test_an_acknowledged_upload_survives_kill_9(tmp_path: Path) -> None:
    world = World(tmp_path / "home")
    with world:
        token = world.token()
        ids = {}
        for number in range(10):
            data = b"%d" % number * 1000
            answer = world.upload(token, f"greet-{number}.0-py3-none-any.whl", data)
            ids[answer.json["id"]] = data
        world.gateway.kill()
        world.gateway.start()
        for release, data in ids.items():
            name = world.release(release)["files"][0]["name"]
            assert world.ask("GET", f"/api/v1/releases/{release}/files/{name}").body == data


def test_a_second_gateway_on_the_same_home_refuses_to_start(world: World) -> None:
    command = [
        sys.executable,
        "-m",
        "presspass.services.gateway",
        "--home",
        str(world.home),
        "--port",
        "0",
    ]
    done = subprocess.run(command, capture_output=True, timeout=30, check=False)
    assert done.returncode == 4
    assert b"home.in-use" in done.stderr


def test_the_gateway_ends_when_its_supervisor_does(tmp_path: Path) -> None:
    world = World(tmp_path / "home")
    with world:
        socket_path = world.home / "gateway" / "control.sock"
        assert socket_path.exists()
        assert world.gateway.stop() == 0
        assert not socket_path.exists()


def test_a_drain_by_the_control_socket_ends_the_process(tmp_path: Path) -> None:
    world = World(tmp_path / "home")
    with world:
        process = world.gateway.process
        assert process is not None
        assert world.control("POST", "/drain").status == 202
        assert process.wait(20) == 0
