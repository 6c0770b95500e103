"""What is in force and which packages there are, on the pages of a real gateway over a real journal."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from gateway_world import now_ms
from presspass.core.policy import Policy
from presspass.core.statement import PolicyBody
from presspass.drill.packages import make_sdist
from presspass.store.journal_tables import APPROVAL, DECISION
from workload_world import WorkloadWorld


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WorkloadWorld]:
    """A gate with a bound workload."""
    with WorkloadWorld(tmp_path_factory.mktemp("gate")) as made:
        yield made


def page(world: WorkloadWorld, path: str) -> str:
    """The text of a page, for somebody with a view token."""
    answer = world.world.control("POST", "/view-tokens", {})
    token = str(answer.json["url"]).rpartition("token=")[2]
    shown = world.world.ask("GET", path, None, Authorization=f"Bearer {token}")
    assert shown.status == 200, shown.body
    return re.sub(r"<[^>]+>", "", shown.body.decode().partition("<main")[2])


def test_a_package_is_listed_once_it_is_bound_and_with_every_set_of_it(
    world: WorkloadWorld, tmp_path: Path
) -> None:
    assert "no release yet" in page(world, "/packages")
    data = make_sdist(tmp_path, "greet", "1.0", {"greet/__init__.py": ""}).read_bytes()
    assert world.upload(world.pass_(), "greet-1.0.tar.gz", data).status == 202
    listed = page(world, "/packages?name=gr")
    assert "1.0 open" in listed and "1 set" in listed and "greet-ci" in listed
    assert "No package has a name" in page(world, "/packages?name=grx")
    (upstream,) = re.findall(r"to (\S+), custody", listed)
    versions = page(world, f"/packages?upstream={upstream}&project=greet")
    assert "1.0\nopen" in versions
    assert "Nothing of it" in page(world, "/packages?upstream=other&project=greet")


def test_what_was_asked_refused_and_signed_is_counted_by_day(world: WorkloadWorld) -> None:
    journal = world.world.journal
    journal.decide("a" * 64, "set-a", "verified")
    journal.decide("b" * 64, "set-b", "rejected", "narrowing.vetoed")
    journal.decide("c" * 64, "set-c", "seen")
    person = journal.roster().people[0]
    for statement in ("d" * 64, "e" * 64):
        row = {
            "statement": statement,
            "key": person.keys[0].id,
            "approval": b"{}",
            "seen_ms": now_ms(),
        }
        journal.write(sa.insert(APPROVAL).values(row))
    old = {
        "statement": "f" * 64,
        "kind": "release",
        "state": "verified",
        "first_seen_ms": 1,
        "updated_ms": 2,
    }
    journal.write(sa.insert(DECISION).values(old))
    shown = page(world, "/activity")
    assert re.findall(r"(\d+) releases?, at most", shown) == ["3", "1", "1"]
    assert re.search(r"narrowing.vetoed\s*1", shown)
    assert re.search(r"\S+\s*2", shown.partition("Signatures")[2])


def test_publishers_delegations_and_upstreams_are_those_in_force(world: WorkloadWorld) -> None:
    assert "Publisher greet-ci" in page(world, "/publishers")
    world.admit(world.delegation())
    assert "Delegation bot" in page(world, "/publishers")
    assert "sealed at the press" in page(world, "/upstreams")


def test_a_change_of_the_policy_stands_on_top_of_its_history(world: WorkloadWorld) -> None:
    before = page(world, "/policy")
    journal = world.world.journal
    body = PolicyBody(Policy(approvals=3, software_keys=True))
    journal._admit(journal.statement(body, journal.genesis), "policy")
    after = page(world, "/policy")
    numbers = re.findall(r"Policy (\d+) since", after)
    assert numbers == sorted(numbers, reverse=True, key=int)
    assert len(numbers) == len(re.findall(r"Policy (\d+) since", before)) + 1
    assert re.search(r"Signatures needed for a release\s*3", after.partition("Every policy")[0])
