"""Uploads at the gateway's door, a real gateway process: who may, what is checked, what sending again does."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest
import sqlalchemy as sa

import packages
from gateway_world import ORIGIN, PROJECT, UPSTREAM, HttpAnswer, World, basic, form, until
from presspass.core.policy import Policy
from presspass.gateway.problems import PROBLEM_TYPE
from presspass.store import gateway_tables as g

_VERSIONS = count(1)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with World(tmp_path_factory.mktemp("uploads") / "home") as world:
        yield world


@pytest.fixture
def version() -> str:
    """A version nobody has used."""
    return f"{next(_VERSIONS)}.0"


def wheel(version: str, project: str = PROJECT) -> str:
    return f"{project}-{version}-py3-none-any.whl"


def sdist(version: str) -> str:
    return f"{PROJECT}-{version}.tar.gz"


def refused(answer: HttpAnswer, status: int, code: str) -> None:
    """The refusal is shown in every form that a client may show."""
    assert (answer.status, answer.code) == (status, code), answer.body
    assert answer.headers["content-type"] == PROBLEM_TYPE
    assert answer.json["detail"][:100] == answer.reason[:100]
    assert answer.json["status"] == status
    assert "already exist" not in answer.reason.lower()


def test_a_file_is_staged_and_the_answer_says_where(world: World, version: str) -> None:
    data = os.urandom(3000)
    answer = world.upload(world.token(), wheel(version), data)
    url = f"{ORIGIN}/r/{answer.json['id']}"
    assert (answer.status, answer.headers["location"]) == (202, url)
    assert answer.reason == f"Staged, awaiting approval: {url}"
    release = world.release(answer.json["id"])
    assert (release["state"], release["requester"], release["project"]) == ("open", "ada", PROJECT)
    assert release["files"] == [
        {"name": wheel(version), "sha256": hashlib.sha256(data).hexdigest(), "size": 3000}
    ]
    assert (
        world.ask("GET", f"/api/v1/releases/{answer.json['id']}/files/{wheel(version)}").body
        == data
    )
    assert world.leftovers() == []


def test_a_release_id_cannot_be_guessed(world: World, version: str) -> None:
    token = world.token()
    ids = {world.upload(token, wheel(f"{version}.{n}"), b"x").json["id"] for n in range(5)}
    assert len(ids) == 5
    assert all(
        len(one) == 32 and one.isalnum() and one.islower() for one in ids
    )  # 160 bits in base32
    assert world.ask("GET", "/api/v1/releases/" + "a" * 32).status == 404


def test_both_files_of_a_version_come_into_one_set(world: World, version: str) -> None:
    token = world.token()
    first = world.upload(token, wheel(version), b"wheel")
    second = world.upload(token, sdist(version), b"sdist")
    assert first.json["id"] == second.json["id"]
    assert [file["name"] for file in world.release(first.json["id"])["files"]] == [
        wheel(version),
        sdist(version),
    ]


def test_names_and_versions_compare_in_their_normal_form(world: World, version: str) -> None:
    token = world.token("Greet")
    first = world.upload(token, wheel(version, "Greet"), b"wheel")
    assert world.release(first.json["id"])["project"] == "greet"
    assert (
        world.upload(token, sdist(f"{version}.0".removesuffix(".0")), b"sdist").json["id"]
        == first.json["id"]
    )


def test_the_form_cannot_say_which_project_it_is(world: World, version: str) -> None:
    fields = [(":action", "file_upload"), ("name", PROJECT), ("version", version)]
    refused(
        world.upload(world.token(), "other-1.0-py3-none-any.whl", b"x", fields=fields),
        403,
        "token.wrong-project",
    )


# --- who may ------------------------------------------------------------------------------------------------------


def test_nobody_in_particular_is_asked_for_credentials(world: World, version: str) -> None:
    content_type, body = form(wheel(version), b"x")
    answer = world.ask("POST", "/pypi/private/legacy/", body, **{"Content-Type": content_type})
    refused(answer, 401, "token.invalid")
    assert answer.headers["www-authenticate"].startswith("Basic ")


@pytest.mark.parametrize("user", ["__token__", "anybody", ""])
def test_any_user_name_goes_with_a_token(world: World, version: str, user: str) -> None:
    content_type, body = form(wheel(version), b"x")
    headers = {"Content-Type": content_type, "Authorization": basic(world.token(), user)}
    assert (
        world.ask("POST", "/pypi/private/legacy", body, **headers).status == 202
    )  # the slash may be missing


def test_a_mistyped_token_is_refused_before_anything_is_looked_up(
    world: World, version: str
) -> None:
    token = world.token()
    wrong = token[:-1] + ("a" if token[-1] != "a" else "b")
    refused(world.upload(wrong, wheel(version), b"x"), 403, "token.invalid")
    refused(world.upload("", wheel(version), b"x"), 403, "token.invalid")


def test_a_token_of_another_project_or_upstream_is_refused(world: World, version: str) -> None:
    refused(world.upload(world.token("other"), wheel(version), b"x"), 403, "token.wrong-project")
    refused(
        world.upload(world.token(), wheel(version), b"x", upstream="elsewhere"),
        403,
        "token.wrong-project",
    )


def test_an_expired_token_is_refused_with_403(world: World, version: str) -> None:
    token = world.token(life_s=1)
    until(lambda: world.upload(token, wheel(version), b"x").status == 403, "the token to expire")
    refused(world.upload(token, wheel(version), b"x"), 403, "token.expired")


def test_a_revoked_token_is_refused(world: World, version: str) -> None:
    token = world.token()
    assert world.upload(token, wheel(version), b"x").status == 202
    token_hash = hashlib.sha256(token.encode()).hexdigest()
    assert world.control("DELETE", f"/tokens/{token_hash}").status == 200
    refused(world.upload(token, wheel(version), b"x"), 403, "token.invalid")
    assert world.control("DELETE", f"/tokens/{'0' * 64}").status == 404


def test_only_the_hash_of_a_token_is_stored(world: World) -> None:
    token = world.token()
    files = [path for path in (world.home / "gateway").rglob("*") if path.is_file()]
    assert all(token.encode() not in path.read_bytes() for path in files)
    hashes = {row.hash for row in world.rows(sa.select(g.UPLOAD_TOKEN.c.hash))}
    assert hashlib.sha256(token.encode()).hexdigest() in hashes


def test_tokens_are_only_made_on_the_control_socket(world: World) -> None:
    asked = {"upstream": "private", "project": PROJECT, "person": "", "life_s": 60}
    for path in ("/tokens", "/links", "/view-tokens", "/requests", "/drain"):
        assert world.ask("POST", path, asked).status == 404
    assert world.ask("GET", "/status").status == 404
    assert (world.home / "gateway" / "control.sock").stat().st_mode & 0o777 == 0o600


def test_a_refusal_of_a_known_token_is_an_event_and_a_stranger_is_only_a_line(
    world: World, version: str
) -> None:
    content_type, body = form(wheel(version), b"x")
    for _ in range(3):
        world.ask("POST", "/pypi/private/legacy/", body, **{"Content-Type": content_type})
        world.upload("ppu_nonsense", wheel(version), b"x")
    token = world.token("other")
    world.upload(token, wheel(version), b"x")
    row = until(lambda: world.refusals(token), "the event")[0]  # events are written in their order
    assert (row.kind, row.code) == ("upload", "token.wrong-project")
    assert world.refusals("ppu_nonsense") == []
    assert not [row for row in world.rows(sa.select(g.EVENT)) if row.detail.startswith(": ")], (
        "nobody"
    )
    assert token not in world.gateway.log()


def test_a_token_that_was_a_right_once_is_no_stranger(world: World, version: str) -> None:
    ended = world.token(life_s=3600)
    token_hash = hashlib.sha256(ended.encode()).hexdigest()
    assert world.control("DELETE", f"/tokens/{token_hash}").status == 200
    world.upload(ended, wheel(version), b"x")
    row = until(lambda: world.refusals(ended), "the event")[0]
    assert (row.kind, row.code) == ("upload", "token.invalid")


# --- digests ------------------------------------------------------------------------------------------------------

SMALL, LARGE = 1000, 3 * 1024 * 1024 + 17


def digests(data: bytes) -> list[tuple[str, str]]:
    return [
        ("md5_digest", hashlib.md5(data).hexdigest()),
        ("sha256_digest", hashlib.sha256(data).hexdigest()),
        ("blake2_256_digest", hashlib.blake2b(data, digest_size=32).hexdigest()),
    ]


@pytest.mark.parametrize("size", [SMALL, LARGE])
@pytest.mark.parametrize("place", ["before", "after"])
def test_right_digests_are_accepted_wherever_they_stand(
    world: World, version: str, size: int, place: str
) -> None:
    data = os.urandom(size)
    fields = [(":action", "file_upload")]
    more = (
        {"fields": fields + digests(data)}
        if place == "before"
        else {"fields": fields, "after": digests(data)}
    )
    assert world.upload(world.token(), wheel(version), data, **more).status == 202


@pytest.mark.parametrize("size", [SMALL, LARGE])
@pytest.mark.parametrize("place", ["before", "after"])
@pytest.mark.parametrize("which", [0, 1, 2])
def test_each_digest_is_checked_wherever_it_stands(
    world: World, version: str, size: int, place: str, which: int
) -> None:
    data = os.urandom(size)
    wrong = digests(data)
    name, value = wrong[which]
    wrong[which] = (name, value[:-1] + ("0" if value[-1] != "0" else "1"))
    fields = [(":action", "file_upload")]
    more = {"fields": fields + wrong} if place == "before" else {"fields": fields, "after": wrong}
    before = len(world.blobs())
    refused(
        world.upload(world.token(), wheel(version), data, **more), 400, "artifact.digest-mismatch"
    )
    assert len(world.blobs()) == before
    assert world.leftovers() == []
    assert not world.rows(sa.select(g.RELEASE).where(g.RELEASE.c.version == version))


# --- sending again ------------------------------------------------------------------------------------------------


def test_the_same_bytes_again_are_the_same_answer(world: World, version: str) -> None:
    token = world.token()
    answers = [world.upload(token, wheel(version), b"same") for _ in range(3)]
    assert [answer.status for answer in answers] == [202] * 3
    assert len({answer.headers["location"] for answer in answers}) == 1
    assert len(world.release(answers[0].json["id"])["files"]) == 1


def test_many_at_once_make_one_set_and_one_file(world: World, version: str) -> None:
    token, data = world.token(), os.urandom(200_000)
    answers: list[HttpAnswer] = []

    def send() -> None:
        answers.append(world.upload(token, wheel(version), data))

    threads = [threading.Thread(target=send) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [answer.status for answer in answers] == [202] * 12
    assert len({answer.json["id"] for answer in answers}) == 1
    assert len(world.rows(sa.select(g.RELEASE).where(g.RELEASE.c.version == version))) == 1


def test_the_same_name_with_other_bytes_is_refused_and_changes_nothing(
    world: World, version: str
) -> None:
    token = world.token()
    first = world.upload(token, wheel(version), b"these bytes")
    answer = world.upload(token, wheel(version), b"other bytes")
    refused(answer, 400, "release.other-bytes")
    assert first.headers["location"] in answer.reason
    assert (
        world.release(first.json["id"])["files"][0]["sha256"]
        == hashlib.sha256(b"these bytes").hexdigest()
    )


def close(world: World, release: str, token: str) -> HttpAnswer:
    return world.ask(
        "POST", f"/api/v1/releases/{release}/close", b"", Authorization=f"Bearer {token}"
    )


def test_a_closed_set_never_reopens(world: World, version: str, tmp_path: Path) -> None:
    token, path = world.token(), packages.make_wheel(tmp_path, PROJECT, version)
    first = world.upload(token, path.name, path.read_bytes())
    release = first.json["id"]
    assert close(world, release, token).status == 200
    answer = world.upload(token, sdist(version), b"late")
    refused(answer, 403, "release.set-closed")
    assert first.headers["location"] in answer.reason
    world.until(release, "awaiting")
    refused(world.upload(token, sdist(version), b"later"), 403, "release.set-closed")
    assert [file["name"] for file in world.release(release)["files"]] == [path.name]
    assert world.upload(token, path.name, path.read_bytes()).status == 202


def test_closing_again_changes_nothing_and_a_stranger_cannot(world: World, version: str) -> None:
    token = world.token()
    release = world.upload(token, wheel(version), b"x").json["id"]
    assert close(world, release, world.token(person="grace")).code == "token.wrong-project"
    assert close(world, release, "nonsense").code == "token.invalid"
    assert world.ask("POST", f"/api/v1/releases/{release}/close", b"").status == 401
    assert world.release(release)["state"] == "open"
    assert close(world, release, token).status == 200
    assert close(world, release, token).status == 200


def test_only_the_person_who_opened_a_set_adds_to_it(world: World, version: str) -> None:
    """Otherwise whoever adds a poisoned file to a colleague's set could approve it."""
    first = world.upload(world.token(person="ada"), wheel(version), b"x")
    refused(
        world.upload(world.token(person="grace"), sdist(version), b"y"), 403, "release.set-closed"
    )
    assert len(world.release(first.json["id"])["files"]) == 1


def test_a_withdrawn_set_is_settled_and_a_new_one_may_open(world: World, version: str) -> None:
    token = world.token()
    first = world.upload(token, wheel(version), b"x").json["id"]
    answer = world.ask(
        "POST", f"/api/v1/releases/{first}/withdraw", b"", Authorization=f"Bearer {token}"
    )
    assert (answer.status, answer.json["state"]) == (200, "withdrawn")
    second = world.upload(token, wheel(version), b"y").json["id"]
    assert second != first
    assert world.release(first)["state"] == "withdrawn"


def test_a_published_version_takes_only_what_was_published(world: World, version: str) -> None:
    token = world.token()
    world.journal.publish(version, {wheel(version): b"published"})
    answer = world.upload(token, wheel(version), b"published")
    assert (answer.status, answer.reason) == (200, "Published.")
    refused(world.upload(token, wheel(version), b"other"), 403, "release.already-published")
    refused(world.upload(token, sdist(version), b"more"), 403, "release.already-published")


def test_there_is_no_token_before_genesis_nor_for_an_unknown_upstream(
    world: World, tmp_path: Path
) -> None:
    asked = {"upstream": "unknown", "project": PROJECT, "person": "", "life_s": 60}
    answer = world.control("POST", "/tokens", asked)
    assert (answer.code, answer.json["hint"]) == ("upstream.missing", f"There is: {UPSTREAM}.")
    with World(tmp_path / "home", sealed=False) as unsealed:
        assert unsealed.control("POST", "/tokens", asked).code == "genesis.missing"
        assert unsealed.ask("GET", "/healthz").json["sealed"] is False


def test_the_quiet_period_closes_a_set(tmp_path: Path) -> None:
    policy = Policy(quiet_period_s=1, software_keys=True, approval_life_s=3600)
    with World(tmp_path / "home", policy=policy) as world:
        release = world.upload(world.token(), wheel("1.0"), b"x").json["id"]
        world.until(release, "staged", "reviewed", "awaiting", "rejected")
        row = world.rows(sa.select(g.RELEASE))[0]
        assert row.closed_ms - row.touched_ms >= 1000, "until then it was open"


@pytest.mark.parametrize("path", ["/", "/legacy/", f"/pypi/{UPSTREAM}/", "/simple/"])
def test_an_upload_to_another_address_is_told_what_the_address_looks_like(
    world: World, path: str
) -> None:
    answer = world.ask("POST", path, b"x")
    assert answer.status in (404, 405)
    assert "/pypi/UPSTREAM/legacy/" in answer.reason
