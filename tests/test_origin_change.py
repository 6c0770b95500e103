"""Moving the gate to another address: new keys enrolled there, the move signed by the old keys, proofs across it."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

import packages
import peers
from cli_rig import running
from gateway_world import until
from presspass.cli import exits
from presspass.cli.move import moved_roster
from presspass.core.approval import Approval
from presspass.core.digests import sha256_hex
from presspass.core.errors import Code, Refusal
from presspass.core.roster import Key, Person, Roster
from presspass.core.statement import OriginBody, RosterBody, Statement
from presspass.drill.world.keys import SoftwarePasskey
from presspass.verify.chain import veto_of
from presspass.verify.proof import Valid, check_proof
from proof_world import FILE, ORIGIN, RP_ID, Paper

NEW, NEW_RP = "https://new.example", "new.example"
NAMES = ("ana", "ben", "cleo")
FRESH = {name: SoftwarePasskey.generate(100 + number) for number, name in enumerate(NAMES)}


def there(*names: str) -> Roster:
    """The people with the keys they enrolled at the new address."""
    return Roster(
        tuple(
            Person(f"p-{name}", sha256_hex(name.encode()), (), (FRESH[name].key,))
            for name in names or NAMES
        )
    )


def move(roster: Roster | None = None) -> OriginBody:
    return OriginBody(NEW, NEW_RP, roster or there())


def signed(statement: Statement, *names: str, origin: str = NEW) -> tuple[Approval, ...]:
    """By the new keys."""
    rp_id = origin.removeprefix("https://")
    data = statement.to_bytes()
    return tuple(FRESH[name].approve(data, origin=origin, rp_id=rp_id) for name in names)


def checked(paper: Paper, statement: Statement, approvals: tuple[Approval, ...]) -> Valid:
    proof = paper.proof(statement, approvals)
    size = FILE.size
    return check_proof(
        proof, filename=FILE.name, sha256=FILE.sha256, size=size, trust_root=paper.genesis.digest
    )


@pytest.fixture
def paper() -> Paper:
    found = Paper()
    found.add_upstream()
    return found


@pytest.fixture
def moved(paper: Paper) -> Paper:
    paper.admit(move(), "ana", "ben")
    return paper


# who may move it


def test_the_old_keys_move_it_at_the_old_address(moved: Paper) -> None:
    assert moved.chain.site == (NEW, NEW_RP)
    assert moved.chain.roster == there()


def test_one_old_key_is_not_enough(paper: Paper) -> None:
    with pytest.raises(Refusal) as caught:
        paper.admit(move(), "ana")
    assert caught.value.code is Code.QUORUM_MISSING
    assert paper.chain.site == (ORIGIN, RP_ID)


@pytest.mark.parametrize("origin", [NEW, ORIGIN])
def test_the_new_keys_cannot_move_it_by_themselves(paper: Paper, origin: str) -> None:
    statement = paper.statement(move())
    with pytest.raises(Refusal):
        paper.chain.admit(statement, signed(statement, "ana", "ben", origin=origin))
    assert paper.chain.site == (ORIGIN, RP_ID)


def test_old_keys_do_not_move_it_by_signing_at_the_new_address(paper: Paper) -> None:
    statement = paper.statement(move())
    data = statement.to_bytes()
    approvals = [paper.keys[n].approve(data, origin=NEW, rp_id=NEW_RP) for n in ("ana", "ben")]
    with pytest.raises(Refusal) as caught:
        paper.chain.admit(statement, approvals)
    assert caught.value.code is Code.APPROVAL_WRONG_ORIGIN


@pytest.mark.parametrize(
    ("origin", "rp_id"),
    [
        ("http://new.example", "new.example"),
        ("https://new.example", "example"),
        ("https://new.example/", "new.example"),
        ("https://a@new.example", "new.example"),
    ],
)
def test_it_does_not_move_to_what_passkeys_cannot_be_bound_to(
    paper: Paper, origin: str, rp_id: str
) -> None:
    with pytest.raises(Refusal) as caught:
        paper.admit(OriginBody(origin, rp_id, there()), "ana", "ben")
    assert caught.value.code is Code.APPROVAL_WRONG_ORIGIN


def test_a_move_follows_the_roster_in_force_and_nothing_else(paper: Paper) -> None:
    statement = paper.statement(move())
    paper.change_roster("ana", "ben", without=["cleo"])
    with pytest.raises(Refusal) as caught:
        paper.chain.admit(statement, paper.approve(statement, "ana", "ben"))
    assert caught.value.code is Code.STATEMENT_OLD_HEAD


# what counts afterwards


def test_new_keys_count_at_the_new_address_alone(moved: Paper) -> None:
    statement = moved.release()
    assert moved.chain.evaluate(statement, signed(statement, "ana", "ben")).reached
    verdict = moved.chain.evaluate(statement, signed(statement, "ana", "ben", origin=ORIGIN))
    assert not verdict.reached
    assert {one.code for one in verdict.problems} == {Code.APPROVAL_WRONG_ORIGIN}


def test_old_keys_count_for_nothing_that_is_asked_afterwards(moved: Paper) -> None:
    statement = moved.release()
    assert not moved.chain.evaluate(statement, moved.approve(statement, "ana", "ben")).reached


def test_what_was_asked_before_must_be_asked_again(paper: Paper) -> None:
    statement = paper.release()
    old = paper.approve(statement, "ana", "ben")
    assert paper.chain.evaluate(statement, old).reached
    paper.admit(move(), "ana", "ben")
    assert not paper.chain.evaluate(statement, old).reached
    assert not paper.chain.evaluate(statement, signed(statement, "ana", "ben")).reached


def test_a_roster_change_after_the_move_keeps_the_new_address(moved: Paper) -> None:
    statement = moved.statement(RosterBody(there("ana", "ben")))
    moved.chain.admit(statement, signed(statement, "ana", "ben"))
    assert moved.chain.site == (NEW, NEW_RP)


def test_what_was_asked_before_can_be_stopped_by_a_new_key_and_by_no_old_one(
    paper: Paper,
) -> None:
    twin = veto_of(paper.release())
    paper.admit(move(), "ana", "ben")
    [veto] = signed(twin, "cleo")
    assert paper.chain.verify_narrowing(twin.to_bytes(), veto).key == FRESH["cleo"].key.id
    [old] = paper.approve(twin, "cleo")
    with pytest.raises(Refusal) as caught:
        paper.chain.verify_narrowing(twin.to_bytes(), old)
    assert caught.value.code is Code.APPROVAL_KEY_REMOVED


# proofs


def test_a_proof_from_before_the_move_and_one_from_after_it_verify_under_one_trust_root(
    paper: Paper,
) -> None:
    before = paper.release()
    approvals = paper.approve(before, "ana", "ben")
    assert checked(paper, before, approvals).origin == ORIGIN
    old_proof = paper.proof(before, approvals)
    paper.admit(move(), "ana", "ben")
    after = paper.release()
    assert checked(paper, after, signed(after, "ana", "ben")).origin == NEW
    root = paper.genesis.digest
    still = check_proof(old_proof, filename=FILE.name, sha256=FILE.sha256, size=9, trust_root=root)
    assert still.origin == ORIGIN


def test_a_proof_that_leaves_the_move_out_does_not_verify(moved: Paper) -> None:
    after = moved.release()
    del moved.links[-1]
    with pytest.raises(Refusal):
        checked(moved, after, signed(after, "ana", "ben"))


# whose keys come along


def test_ssh_keys_come_along_and_passkeys_are_replaced() -> None:
    ssh = Key("ssh", b"\0\0\0\x0bssh-ed25519" + b"\0\0\0\x20" + bytes(32))
    old = SoftwarePasskey.generate(1).key
    keys = tuple(sorted((ssh, old), key=lambda key: key.id))
    present = Roster((Person("p-ana", "a" * 64, ("approvers",), keys),))
    assert moved_roster(present, {}, (), {}).people[0].keys == (ssh,)
    found = moved_roster(present, {"p-ana": [FRESH["ana"].key]}, (), {}).people[0]
    assert set(found.keys) == {ssh, FRESH["ana"].key} and found.groups == ("approvers",)


def test_nobody_is_left_behind_unnoticed() -> None:
    old = SoftwarePasskey.generate(1).key
    present = Roster((Person("p-ana", "a" * 64, (), (old,)),))
    with pytest.raises(Refusal, match="No key at the new address yet: Ana"):
        moved_roster(present, {}, (), {"p-ana": "Ana"})
    for named in ("Ana", "p-ana"):
        assert moved_roster(present, {}, (named,), {"p-ana": "Ana"}) == Roster(())


# the whole, with a real gate


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[peers.PypiServer]:
    peers.require_peer("pypi-server")
    with peers.PypiServer(tmp_path / "registry", password="secret") as server:
        yield server


def fetch_proof(base: str, release: str, file: Path) -> None:
    """Puts the proof beside the file, once it is published."""
    until(lambda: of(base, release)["state"] == "verified", "the release to be published", 60)
    url = f"{base}/api/v1/releases/{release}/proofs/{file.name}"
    proof = httpx2.get(url, trust_env=False).content
    file.with_name(f"{file.name}.presspass.json").write_bytes(proof)


def test_a_gate_moves_and_goes_on_publishing(tmp_path: Path, registry: peers.PypiServer) -> None:
    with running(tmp_path) as rig:
        local = rig.origin
        rig.seal()
        rig.add_upstream(registry.upload_url, registry.simple_url, "secret")
        first = packages.make_wheel(tmp_path / "dist", "greet", "1.0")
        url = rig.submit(rig.token("greet"), first)
        until(lambda: of(local, url.rsplit("/", 1)[1])["request"], "the review", 60)
        rig.approve(url, "ada", "grace")
        fetch_proof(local, url.rsplit("/", 1)[1], first)

        # prepare: people enrol at the new address while the old one is in force
        rig.run("invite", "Ada", "--next-origin", code=exits.REFUSED)
        rig.run("origin", "change", code=exits.REFUSED)
        rig.run("origin", "prepare", NEW)
        rig.stop()
        rig.start()
        refused = rig.run("origin", "change", code=exits.REFUSED)
        assert refused == ""
        link = rig.ask("invite", "Ada", "--next-origin")["links"][0]["url"]
        assert link.startswith(f"{NEW}/enrol#")
        fresh = tmp_path / "ada-new.json"
        rig.run("enrol", link.replace(NEW, local), "--software-passkey", fresh)

        # change: asked for here, signed by the old keys at the old address
        asked = rig.ask("origin", "change")
        assert asked["url"].startswith(f"{local}/q/")
        shown = rig.run("approve", asked["url"], *rig.key("ada"), "--yes")
        assert f"THIS GATE MOVES to {NEW}" in shown
        rig.run("origin", "finish", code=exits.REFUSED)
        rig.approve(asked["url"], "grace")
        rig.run("wait", asked["url"], "--timeout", "30s")

        # in force: the running gate goes on, a restart before `finish` too
        rig.stop()
        rig.start()
        # new.example leads nowhere here, and doctor calls that bad
        doctor = {line["what"]: line for line in rig.ask("doctor", code=exits.REFUSED)}
        assert doctor["name new.example"]["grade"] == "bad"
        assert "presspass origin finish" in doctor["RP id"]["fix"]
        rig.run("origin", "finish")
        config = tomllib.loads((rig.home / "presspass.toml").read_text())
        assert (config["origin"], config["next_origin"]) == (NEW, "")
        rig.stop()
        rig.start()

        # and publishes by the new keys, at the new address
        second = packages.make_wheel(tmp_path / "dist", "greet", "2.0")
        url = rig.submit(rig.token("greet"), second)
        assert url.startswith(f"{NEW}/r/")
        release = url.rsplit("/", 1)[1]
        until(lambda: of(local, release)["request"], "the review", 60)
        assert sign(local, release, rig.ada, ORIGIN) == 403
        assert sign(local, release, rig.ada, NEW) == 403
        assert sign(local, release, fresh, NEW) == 202
        rig.approve(url.replace(NEW, local), "grace")
        fetch_proof(local, release, second)
        assert set(registry.files()) == {first.name, second.name}
        for file in (first, second):
            rig.run("verify", file, "--trust", rig.home / "trust-root.json")


def of(base: str, release: str) -> dict[str, str]:
    """The release as the API shows it."""
    found: dict[str, str] = httpx2.get(f"{base}/api/v1/releases/{release}", trust_env=False).json()
    return found


def sign(base: str, release: str, key: Path, origin: str) -> int:
    """Signs the release with a passkey as a browser at `origin` would; the gate's status."""
    found = of(base, release)
    approval = SoftwarePasskey.load(key).approve(
        found["statement"].encode(), origin=origin, rp_id=origin.removeprefix("https://")
    )
    url = f"{base}/api/v1/requests/{found['request']}/approvals"
    return httpx2.post(url, content=approval.to_bytes(), trust_env=False).status_code
