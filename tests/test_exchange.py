"""The exchange: a workload proves what it is and gets a pass for one set; everything else is refused for its reason."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from gateway_world import PROJECT
from presspass.store import gateway_tables as g
from workload_world import AUDIENCE, WorkloadWorld


@pytest.fixture
def world(tmp_path: Path) -> Iterator[WorkloadWorld]:
    with WorkloadWorld(tmp_path) as world:
        yield world


def test_a_bound_workload_gets_a_pass_and_uploads_with_it(world: WorkloadWorld) -> None:
    assert world.world.ask("GET", "/_/oidc/audience").json == {"audience": AUDIENCE}
    answer = world.mint(world.token())
    assert answer.status == 200, answer.body
    assert answer.json["success"] is True and answer.json["token"].startswith("ppp_")
    placed = world.upload(answer.json["token"], "greet-1.0.tar.gz")
    assert placed.status == 202, placed.body
    row = world.world.rows(sa.select(g.PASS))[0]
    assert (row.project, row.version, row.release) == (PROJECT, "1.0", placed.json["id"])
