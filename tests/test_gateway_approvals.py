"""Signatures at the gateway: each wrong in one way is refused for that, and what is right is kept as it came."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

import packages
from gateway_world import ORIGIN, PROJECT, RP_ID, HttpAnswer, World, until
from presspass.core.approval import Approval
from presspass.core.policy import Policy
from presspass.core.statement import FreezeBody, Intent, PolicyBody, Statement
from presspass.drill.world.keys import SoftwarePasskey
from presspass.store import gateway_tables as g

_VERSIONS = count(1)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with World(tmp_path_factory.mktemp("approvals") / "home") as world:
        yield world


def ask_for(world: World, folder: Path, version: str) -> dict[str, Any]:
    token, path = world.token(), packages.make_wheel(folder, PROJECT, version)
    release = world.upload(token, path.name, path.read_bytes()).json["id"]
    world.ask("POST", f"/api/v1/releases/{release}/close", b"", Authorization=f"Bearer {token}")
    return world.until(release, "awaiting")


@pytest.fixture
def release(world: World, tmp_path: Path) -> dict[str, Any]:
    """A release that awaits approval."""
    return ask_for(world, tmp_path, f"{next(_VERSIONS)}.0")


def signed(key: SoftwarePasskey, statement: bytes, **more: str) -> Approval:
    return key.approve(statement, **{"origin": ORIGIN, "rp_id": RP_ID, **more})


def post(world: World, release: dict[str, Any], approval: Approval | bytes) -> HttpAnswer:
    body = approval if isinstance(approval, bytes) else approval.to_bytes()
    return world.ask("POST", f"/api/v1/requests/{release['request']}/approvals", body)


def stored(world: World, release: dict[str, Any]) -> list[Any]:
    return world.rows(sa.select(g.APPROVAL).where(g.APPROVAL.c.request == release["request"]))


def test_a_right_signature_is_kept_as_it_came_and_counted(
    world: World, release: dict[str, Any]
) -> None:
    approval = signed(world.grace, release["statement"].encode())
    answer = post(world, release, approval)
    assert answer.status == 202
    assert answer.json["tally"]["counted"] == ["grace"]
    assert [row.approval for row in stored(world, release)] == [approval.to_bytes()]
    assert world.release(release["id"])["approvals"] == [approval.to_json()]
    assert post(world, release, approval).status == 202
    assert len(stored(world, release)) == 1


def test_the_requesters_own_signature_is_kept_and_does_not_count(
    world: World, release: dict[str, Any]
) -> None:
    answer = post(world, release, signed(world.ada, release["statement"].encode()))
    assert answer.status == 202
    assert answer.json["tally"]["counted"] == []
    assert answer.json["tally"]["requester_signed"] is True
    assert answer.json["tally"]["missing"] == 1


def wrong_origin(world: World, statement: bytes) -> Approval:
    return signed(world.grace, statement, origin="http://localhost:1")


def wrong_site(world: World, statement: bytes) -> Approval:
    return signed(world.grace, statement, rp_id="elsewhere.example")


def unknown_key(_world: World, statement: bytes) -> Approval:
    return signed(SoftwarePasskey.generate(99), statement)


def user_not_verified(world: World, statement: bytes) -> Approval:
    return signed(replace(world.grace, flags=0x01), statement)


def another_statement(world: World, statement: bytes) -> Approval:
    parsed = Statement.from_bytes(statement)
    return signed(world.grace, replace(parsed, nonce="0" * 32).to_bytes())


def another_statements_signature(world: World, statement: bytes) -> Approval:
    return replace(
        another_statement(world, statement), statement=Statement.from_bytes(statement).digest
    )


def one_bit_flipped(world: World, statement: bytes) -> Approval:
    approval = signed(world.grace, statement)
    return replace(
        approval, signature=approval.signature[:-1] + bytes([approval.signature[-1] ^ 1])
    )


def somebody_elses_name(world: World, statement: bytes) -> Approval:
    return replace(signed(SoftwarePasskey.generate(99), statement), key=world.grace.key.id)


def recovery_form(world: World, statement: bytes) -> Approval:
    return replace(signed(world.grace, statement), form="recovery")


@pytest.mark.parametrize(
    ("make", "status", "code"),
    [
        (wrong_origin, 403, "approval.wrong-origin"),
        (wrong_site, 403, "approval.wrong-origin"),
        (unknown_key, 403, "approval.key-unknown"),
        (user_not_verified, 403, "approval.user-not-verified"),
        (another_statement, 400, "approval.wrong-statement"),
        (another_statements_signature, 400, "approval.wrong-statement"),
        (one_bit_flipped, 400, "approval.invalid"),
        (somebody_elses_name, 400, "approval.invalid"),
        (recovery_form, 410, "request.unsupported"),
    ],
)
def test_a_signature_wrong_in_one_way_is_refused_for_it(
    world: World, release: dict[str, Any], make: Any, status: int, code: str
) -> None:
    answer = post(world, release, make(world, release["statement"].encode()))
    assert (answer.status, answer.code) == (status, code), answer.body
    assert stored(world, release) == []


def test_only_canonical_approvals_are_read(world: World, release: dict[str, Any]) -> None:
    data = signed(world.grace, release["statement"].encode()).to_bytes()
    for body in (
        b"",
        b"{}",
        data + b" ",
        data.replace(b'{"', b'{ "', 1),
        data.replace(b'"form"', b'"from"'),
    ):
        assert post(world, release, body).code == "statement.malformed"
    assert stored(world, release) == []


def test_an_unknown_request_is_not_found(world: World, release: dict[str, Any]) -> None:
    approval = signed(world.grace, release["statement"].encode())
    assert (
        world.ask("POST", f"/api/v1/requests/{'0' * 64}/approvals", approval.to_bytes()).status
        == 404
    )
    assert world.ask("GET", f"/api/v1/requests/{'0' * 64}").status == 404


def test_a_veto_is_kept_and_shows_at_once(world: World, release: dict[str, Any]) -> None:
    request = world.ask("GET", f"/api/v1/requests/{release['request']}").json
    veto = signed(world.grace, request["veto_statement"].encode())
    assert veto.statement == request["veto_digest"]
    answer = post(world, release, veto)
    assert (answer.status, answer.json["code"]) == (202, "narrowing.vetoed")
    shown = world.release(release["id"])
    assert (shown["state"], shown["code"]) == ("awaiting", "narrowing.vetoed")
    assert shown["tally"]["counted"] == []
    assert [row.statement for row in stored(world, release)] == [request["veto_digest"]]


def test_a_request_shows_both_statements_whole(world: World, release: dict[str, Any]) -> None:
    request = world.ask("GET", f"/api/v1/requests/{release['request']}").json
    statement = Statement.from_bytes(request["statement"].encode())
    assert statement.digest == release["request"]
    assert Statement.from_bytes(request["veto_statement"].encode()) == statement.with_intent(
        Intent.VETO
    )
    assert (request["kind"], request["state"], request["url"]) == (
        "release",
        "awaiting",
        release["url"],
    )


def test_a_settled_release_takes_no_signature(world: World, release: dict[str, Any]) -> None:
    world.journal.decide(release["request"], release["id"], "rejected", "narrowing.vetoed", "no")
    world.until(release["id"], "rejected")
    assert (
        post(world, release, signed(world.grace, release["statement"].encode())).code
        == "release.wrong-state"
    )


def test_a_removed_key_is_told_from_an_unknown_one(tmp_path: Path) -> None:
    with World(tmp_path / "home") as world:
        release = ask_for(world, tmp_path, "1.0")
        other = SoftwarePasskey.generate(3)
        world.journal.set_roster({"ada": [world.ada.key], "grace": [other.key]})
        answer = post(world, release, signed(world.grace, release["statement"].encode()))
        assert (answer.status, answer.code) == (403, "approval.key-removed")
        answer = post(world, release, signed(other, release["statement"].encode()))
        assert (
            answer.status == 202
        )  # the press counts it or not: it is enrolled now, and was not then
        assert answer.json["tally"]["excluded"] == [
            {"key": other.key.id, "code": "approval.key-unknown"}
        ]


def test_software_keys_only_narrow_where_the_policy_does_not_count_them(tmp_path: Path) -> None:
    policy = Policy(approval_life_s=3600, quiet_period_s=3600, software_keys=False)
    with World(tmp_path / "home", policy=policy) as world:
        release = ask_for(world, tmp_path, "1.0")
        answer = post(world, release, signed(world.grace, release["statement"].encode()))
        assert (answer.status, answer.code) == (403, "approval.software-key")
        veto = world.ask("GET", f"/api/v1/requests/{release['request']}").json["veto_statement"]
        assert post(world, release, signed(world.grace, veto.encode())).status == 202


def test_an_expired_request_takes_no_signature(tmp_path: Path) -> None:
    policy = Policy(approval_life_s=1, quiet_period_s=3600, software_keys=True)
    with World(tmp_path / "home", policy=policy) as world:
        release = ask_for(world, tmp_path, "1.0")
        expires = Statement.from_bytes(release["statement"].encode()).expires_at
        until(lambda: time.time() > expires, "the request to expire")
        answer = post(world, release, signed(world.grace, release["statement"].encode()))
        assert (answer.status, answer.code) == (403, "statement.expired")


# --- other statements ---------------------------------------------------------------------------------------------


def policy_statement(world: World) -> Statement:
    body = PolicyBody(replace(world.journal.policy, approvals=2))
    return world.journal.statement(body, previous=world.journal.genesis)


def test_a_statement_made_on_the_host_is_put_before_people(world: World) -> None:
    statement = policy_statement(world)
    first = world.control("POST", "/requests", statement.to_bytes())
    assert (first.status, first.json["digest"]) == (201, statement.digest)
    assert first.json["url"] == f"{ORIGIN}/q/{statement.digest}"
    assert (
        world.control("POST", "/requests", {"statement": statement.to_bytes().decode()}).json
        == first.json
    )
    request = world.ask("GET", f"/api/v1/requests/{statement.digest}").json
    assert (request["kind"], request["state"], request["tally"]["needed"]) == (
        "policy",
        "awaiting",
        2,
    )
    answer = post(world, {"request": statement.digest}, signed(world.ada, statement.to_bytes()))
    assert answer.json["tally"]["counted"] == ["ada"]
    assert statement.digest in [
        one["digest"] for one in world.control("GET", "/status").json["requests"]
    ]


def test_statements_that_do_not_belong_here_are_not_put_before_people(
    world: World, release: dict[str, Any]
) -> None:
    statement = policy_statement(world)
    for wrong, code in (
        (replace(statement, genesis="9" * 64), "statement.foreign-genesis"),
        (replace(statement, space="other"), "statement.foreign-genesis"),
        (replace(statement, previous="9" * 64), "statement.old-head"),
        (replace(statement, issued_at=1, expires_at=2), "statement.expired"),
        (statement.with_intent(Intent.VETO), "request.unsupported"),
        (Statement.from_bytes(release["statement"].encode()), "request.unsupported"),
    ):
        answer = world.control("POST", "/requests", wrong.to_bytes())
        assert answer.code == code


def freeze(world: World, **more: Any) -> Statement:
    body = FreezeBody(
        **{"action": "set", "project": PROJECT, "narrowings": (), "reason": "stop", **more}
    )
    return world.journal.statement(body)


def narrow(world: World, statement: Statement, key: SoftwarePasskey, **more: str) -> HttpAnswer:
    approval = signed(key, statement.to_bytes(), **more)
    return world.ask(
        "POST",
        "/api/v1/narrowings",
        {"statement": statement.to_bytes().decode(), "approval": approval.to_json()},
    )


def test_one_person_freezes(world: World) -> None:
    statement = freeze(world)
    approval = signed(world.grace, statement.to_bytes())
    value = {"statement": statement.to_bytes().decode(), "approval": approval.to_json()}
    for _ in range(2):
        answer = world.ask("POST", "/api/v1/narrowings", value)
        assert (answer.status, answer.json) == (202, {"statement": statement.digest})
    rows = world.rows(sa.select(g.NARROWING).where(g.NARROWING.c.statement == statement.to_bytes()))
    assert [row.approval for row in rows] == [approval.to_bytes()]


def test_a_freeze_that_nobody_here_signed_is_refused(world: World) -> None:
    before = world.count(g.NARROWING)
    statement = freeze(world)
    assert narrow(world, statement, SoftwarePasskey.generate(98)).code == "approval.key-unknown"
    assert (
        narrow(world, statement, world.grace, origin="http://localhost:1").code
        == "approval.wrong-origin"
    )
    assert (
        narrow(world, replace(statement, genesis="9" * 64), world.grace).code
        == "statement.foreign-genesis"
    )
    assert narrow(world, policy_statement(world), world.grace).code == "narrowing.cannot-clear"
    assert world.count(g.NARROWING) == before


def test_one_person_cannot_end_a_freeze(world: World) -> None:
    statement = freeze(world, action="clear", narrowings=("n1",))
    assert narrow(world, statement, world.grace).code == "narrowing.cannot-clear"
