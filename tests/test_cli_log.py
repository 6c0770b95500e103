"""`presspass log` at a real gate: another key, shown to whoever signs, followed by verifiers and auditors."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

import packages
import peers
from cli_rig import Rig, running
from gateway_world import until
from presspass.cli import exits
from presspass.cli.show import grouped
from test_origin_change import fetch_proof, of


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[peers.PypiServer]:
    peers.require_peer("pypi-server")
    with peers.PypiServer(tmp_path / "registry", password="secret") as server:
        yield server


def publish(rig: Rig, folder: Path, version: str) -> Path:
    wheel = packages.make_wheel(folder / "dist", "greet", version)
    url = rig.submit(rig.token("greet"), wheel)
    release = url.rsplit("/", 1)[1]
    until(lambda: of(rig.origin, release)["request"], "the review", 60)
    rig.approve(url, "ada", "grace")
    fetch_proof(rig.origin, release, wheel)
    return wheel


def audited(rig: Rig) -> Any:
    trust = rig.home / "trust-root.json"
    found = rig.ask("audit", rig.origin, "--trust", trust, "--state", rig.folder / "state.json")
    assert found["valid"] is True
    return found


def test_another_key_signs_and_whoever_checked_before_goes_on_checking(
    tmp_path: Path, registry: peers.PypiServer
) -> None:
    with running(tmp_path) as rig:
        rig.seal()
        first = rig.ask("log", "show")
        rig.add_upstream(registry.upload_url, registry.simple_url, "secret")
        before = publish(rig, tmp_path, "1.0")
        size = audited(rig)["log"]["size"]

        asked = rig.ask("log", "rotate")
        assert asked["origin"] == first["origin"] and asked["key"] != first["key"]
        assert rig.ask("log", "show") == first, "nobody has signed yet"
        page = httpx2.get(asked["url"], trust_env=False).text
        assert asked["key"] in page and "Another key signs the log" in page
        shown = rig.run("approve", asked["url"], *rig.key("ada"), "--yes")
        assert grouped(asked["key"]) in shown and "LOOK TWICE" in shown
        rig.approve(asked["url"], "grace")
        rig.run("wait", asked["url"], "--timeout", "30s")

        now = rig.ask("log", "show")
        assert now["verifier_key"] == asked["verifier_key"] and now["rotations"] == 1
        assert now["verifier_key"] in rig.run("log", "show")
        after = publish(rig, tmp_path, "2.0")
        for wheel in (before, after):
            rig.run("verify", wheel, "--trust", rig.home / "trust-root.json")
        assert audited(rig)["log"]["size"] > size
        bundle = tmp_path / "all.evidence.json"
        rig.run("history", "--evidence", bundle)
        rig.run("verify", bundle, "--trust", rig.home / "trust-root.json")
        rig.stop()
        rig.run(
            "log", "rotate", code=exits.FAULT
        )  # a key was made, and nobody was asked to let it in
        rig.start()
        assert rig.ask("log", "show") == now
