"""Enrolment: a link is for one person, one key and fifteen minutes; what the key must prove is proved."""

from __future__ import annotations

import base64
import json
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from gateway_world import ORIGIN, RP_ID, HttpAnswer, World, now_ms
from presspass.core.policy import Policy
from presspass.core.roster import Details, Key
from presspass.core.statement import RosterBody, Statement
from presspass.drill.world.keys import SoftwarePasskey
from presspass.services.places import places
from presspass.store import gateway_tables as g
from presspass.store.database import open_engine

_SEEDS = iter(range(1000, 2000))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Before genesis."""
    with World(tmp_path_factory.mktemp("enrolment") / "home", sealed=False) as world:
        yield world


@pytest.fixture(scope="module")
def sealed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with World(tmp_path_factory.mktemp("enrolment-sealed") / "home") as world:
        yield world


def invite(world: World, name: str = "Ada", **more: Any) -> str:
    """The secret of a fresh link."""
    asked = {
        "person": "",
        "name": name,
        "addresses": [f"mailto:{name}@people.example"],
        "groups": [],
        "forge_ids": [],
    }
    answer = world.control("POST", "/links", {**asked, **more})
    assert answer.status == 201, answer.body
    base, _, secret = answer.json["url"].partition("#")
    assert base == f"{ORIGIN}/enrol"
    assert answer.json["expires_at"] - now_ms() // 1000 in range(890, 901)
    return str(secret)


def begin(world: World, secret: str) -> HttpAnswer:
    return world.ask("POST", "/api/v1/enrolments/begin", {"link": secret})


def enrol(world: World, secret: str, credential: Any, **more: Any) -> HttpAnswer:
    return world.ask(
        "POST",
        "/api/v1/enrolments",
        {"link": secret, "credential": credential, "software": True, **more},
    )


def new_key() -> SoftwarePasskey:
    return SoftwarePasskey.generate(next(_SEEDS))


def registered(world: World, secret: str, key: SoftwarePasskey, **more: Any) -> HttpAnswer:
    begun = begin(world, secret).json
    return enrol(world, secret, key.registration(begun["public_key"], begun["origin"]), **more)


def test_a_passkey_is_enrolled_before_genesis(world: World) -> None:
    secret, key = invite(world, "Alice", groups=["release-managers"]), new_key()
    begun = begin(world, secret).json
    options = begun["public_key"]
    assert (begun["origin"], begun["rp_id"], begun["sealed"]) == (ORIGIN, RP_ID, False)
    assert options["authenticatorSelection"]["userVerification"] == "required"
    assert options["authenticatorSelection"]["residentKey"] == "preferred"
    assert options["attestation"] == "none"
    assert [one["alg"] for one in options["pubKeyCredParams"]] == [-7, -8, -257]
    assert options["user"]["displayName"] == "Alice"
    answer = enrol(world, secret, key.registration(options, ORIGIN))
    assert (answer.status, answer.json["request"]) == (201, None)
    assert answer.json["counts"] is None
    assert (answer.json["key"], answer.json["kind"]) == (key.key.id, "software-passkey")
    row = world.rows(sa.select(g.ENROLMENT).where(g.ENROLMENT.c.key == key.key.id))[0]
    assert Key.from_json(json.loads(row.key_json)) == key.key
    assert (row.person, json.loads(row.groups)) == (begun["person"], ["release-managers"])
    details = world.rows(
        sa.select(g.PERSON_DETAILS).where(g.PERSON_DETAILS.c.commitment == row.details)
    )[0]
    assert Details.from_json(json.loads(details.details)).commitment == row.details
    waiting = world.control("GET", "/status").json["enrolments"]
    assert {
        "person": row.person,
        "name": "Alice",
        "kind": "software-passkey",
        "key": key.key.id,
    } in waiting


def test_a_link_is_good_for_one_key(world: World) -> None:
    secret = invite(world)
    assert registered(world, secret, new_key()).status == 201
    answer = begin(world, secret)
    assert (answer.status, answer.code) == (403, "enrolment.used")


def test_two_at_once_by_one_link_enrol_one_key(world: World) -> None:
    secret = invite(world)
    options = begin(world, secret).json["public_key"]
    answers: list[HttpAnswer] = []

    def run() -> None:
        answers.append(enrol(world, secret, new_key().registration(options, ORIGIN)))

    threads = [threading.Thread(target=run) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answer.status for answer in answers) == [201, 403, 403, 403, 403, 403]


def test_only_the_hash_of_a_link_is_stored(world: World) -> None:
    secret = invite(world)
    files = [path for path in (world.home / "gateway").rglob("*") if path.is_file()]
    assert all(secret.encode() not in path.read_bytes() for path in files)


def test_an_unknown_or_expired_link_is_refused(world: World, tmp_path: Path) -> None:
    assert begin(world, "x" * 43).code == "enrolment.invalid"
    with World(tmp_path / "home", sealed=False) as other:
        secret = invite(other)
        other.gateway.stop()
        _age_links(other)
        other.gateway.start()
        assert begin(other, secret).code == "enrolment.expired"
        assert enrol(other, secret, {}).code == "enrolment.expired"


def _age_links(world: World) -> None:
    """Writes while the gateway is down: its database has one writer."""
    engine = open_engine(places(world.home, world.config, "gateway").gateway)
    with engine.begin() as connection:
        connection.execute(sa.update(g.ENROLMENT_LINK).values(expires_ms=now_ms() - 1))
    engine.dispose()


def unverified(key: SoftwarePasskey, options: dict[str, Any]) -> Any:
    return replace(key, flags=0x01).registration(options, ORIGIN)


def elsewhere(key: SoftwarePasskey, options: dict[str, Any]) -> Any:
    return key.registration(options, "http://localhost:1")


def other_challenge(key: SoftwarePasskey, options: dict[str, Any]) -> Any:
    return key.registration({**options, "challenge": "A" * 43}, ORIGIN)


def other_site(key: SoftwarePasskey, options: dict[str, Any]) -> Any:
    return key.registration({**options, "rp": {"id": "elsewhere.example", "name": "x"}}, ORIGIN)


def embedded(key: SoftwarePasskey, options: dict[str, Any]) -> Any:
    credential = key.registration(options, ORIGIN)
    padded = credential["response"]["clientDataJSON"] + "=="
    client = json.loads(base64.urlsafe_b64decode(padded)) | {"crossOrigin": True}
    credential["response"]["clientDataJSON"] = (
        base64.urlsafe_b64encode(json.dumps(client).encode()).decode().rstrip("=")
    )
    return credential


def nothing(_key: SoftwarePasskey, _options: dict[str, Any]) -> Any:
    return {}


@pytest.mark.parametrize(
    "make", [unverified, elsewhere, other_challenge, other_site, embedded, nothing]
)
def test_a_passkey_that_was_not_made_as_asked_is_refused_and_the_link_stays_good(
    world: World, make: Any
) -> None:
    secret, key = invite(world), new_key()
    options = begin(world, secret).json["public_key"]
    answer = enrol(world, secret, make(key, options))
    assert (answer.status, answer.code) == (400, "enrolment.invalid"), answer.body
    assert registered(world, secret, key).status == 201


def test_the_answer_to_an_older_question_is_refused(world: World) -> None:
    secret, key = invite(world), new_key()
    credential = key.registration(begin(world, secret).json["public_key"], ORIGIN)
    begin(world, secret)
    assert enrol(world, secret, credential).code == "enrolment.invalid"


def test_a_key_is_enrolled_once(world: World) -> None:
    key = new_key()
    assert registered(world, invite(world), key).status == 201
    assert registered(world, invite(world, "Mallory"), key).code == "enrolment.invalid"


def test_a_person_is_found_again_by_name(world: World) -> None:
    first = registered(world, invite(world, "Barbara"), new_key()).json
    second = registered(world, invite(world, "Barbara", addresses=[]), new_key()).json
    assert first["person"] == second["person"]
    rows = world.rows(sa.select(g.ENROLMENT).where(g.ENROLMENT.c.person == first["person"]))
    assert len({row.details for row in rows}) == 1


def test_ssh_keys_are_enrolled_by_what_they_are(
    world: World, tmp_path: Path, ssh_keygen: Path
) -> None:
    path = tmp_path / "key"
    subprocess.run(
        [ssh_keygen, "-q", "-t", "ed25519", "-N", "", "-f", path], check=True, timeout=30
    )
    line = path.with_suffix(".pub").read_text()
    answer = world.ask(
        "POST", "/api/v1/enrolments", {"link": invite(world), "ssh_public_key": line.strip()}
    )
    assert (answer.status, answer.json["kind"]) == (201, "ssh")
    security = _sk_line()
    answer = world.ask(
        "POST", "/api/v1/enrolments", {"link": invite(world), "ssh_public_key": security}
    )
    assert (answer.status, answer.json["kind"]) == (201, "security-key-ssh")
    for wrong in (
        "",
        "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAAAgQ== x",
        line.replace("ssh-ed25519", "sk-ssh-ed25519@openssh.com"),
    ):
        answer = world.ask(
            "POST", "/api/v1/enrolments", {"link": invite(world), "ssh_public_key": wrong.strip()}
        )
        assert answer.status == 400


def _sk_line() -> str:
    def field(data: bytes) -> bytes:
        return len(data).to_bytes(4, "big") + data

    kind = b"sk-ssh-ed25519@openssh.com"
    blob = field(kind) + field(bytes(range(32))) + field(b"ssh:")
    return f"{kind.decode()} {base64.b64encode(blob).decode()} token"


# --- after genesis ------------------------------------------------------------------------------------------------


def roster_of(world: World, request: str) -> RosterBody:
    answer = world.ask("GET", f"/api/v1/requests/{request}").json
    assert (answer["kind"], answer["state"]) == ("roster", "awaiting")
    return Statement.from_bytes(answer["statement"].encode()).body_as(RosterBody)


def test_after_genesis_a_key_becomes_a_request_to_the_others(sealed: World) -> None:
    key = new_key()
    answer = registered(sealed, invite(sealed, "Dorothy"), key)
    roster = roster_of(sealed, answer.json["request"]).roster
    assert {one.id for one in roster.people} == {"ada", "grace", answer.json["person"]}
    assert roster.owner(key.key.id) == roster.person(answer.json["person"])
    shown = sealed.ask("GET", f"/api/v1/requests/{answer.json['request']}").json
    assert "Dorothy" in {details["name"] for details in shown["details"].values()}
    assert shown["tally"]["needed"] == 2


def test_a_new_key_may_replace_own_keys_and_no_others(sealed: World) -> None:
    def attempt(replaced: str) -> HttpAnswer:
        return registered(
            sealed, invite(sealed, "Ada", person="ada"), new_key(), replace=[replaced]
        )

    assert attempt(sealed.grace.key.id).code == "enrolment.invalid"
    assert attempt("nonsense").code == "enrolment.invalid"
    assert attempt(sealed.ada.key.id[:7]).code == "enrolment.invalid"
    answer = attempt(sealed.ada.key.id[:12])
    roster = roster_of(sealed, answer.json["request"]).roster
    assert roster.key(sealed.ada.key.id) is None
    assert roster.key(answer.json["key"]) is not None
    assert roster.key(sealed.grace.key.id) is not None


def test_an_enrolled_key_is_not_taken_a_second_time(sealed: World) -> None:
    assert registered(sealed, invite(sealed, "Eve"), sealed.ada).code == "enrolment.invalid"


def test_whether_the_policy_counts_a_software_key_is_said_at_its_enrolment(
    sealed: World, tmp_path: Path
) -> None:
    assert registered(sealed, invite(sealed, "Yes"), new_key()).json["counts"] is True
    with World(tmp_path / "home", policy=Policy()) as strict:
        assert registered(strict, invite(strict, "No"), new_key()).json["counts"] is False
