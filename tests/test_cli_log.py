"""`presspass log` at a real gate: another key, shown to whoever signs, followed by verifiers and auditors."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
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
from presspass.core.ledger.note import VerifierKey
from presspass.services.config import WitnessSettings, read_config, write_config
from presspass.services.press import mark_restored
from test_origin_change import fetch_proof, of
from witness_rig import Running


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


def test_a_gate_that_was_set_back_stops_and_goes_on_after_its_recovery(
    tmp_path: Path, registry: peers.PypiServer
) -> None:
    with running(tmp_path) as rig:
        rig.seal()
        rig.add_upstream(registry.upload_url, registry.simple_url, "secret")
        first = publish(rig, tmp_path, "1.0")
        key = VerifierKey.from_text(rig.ask("log", "show")["verifier_key"])
        with Running(tmp_path / "w", key) as witness:
            settings = WitnessSettings(f"http://127.0.0.1:{witness.port}", witness.key.to_text())
            write_config(rig.home, replace(read_config(rig.home), witnesses=(settings,)))
            restart(rig)
            kept = audited(rig)["log"]["size"]
            rig.stop()
            backup = tmp_path / "backup"
            shutil.copytree(rig.home / "press" / "journal", backup)
            rig.start()
            lost = publish(rig, tmp_path, "2.0")
            until_cosigned(rig, witness)
            before = audited(rig)["log"]["size"]
            newest = tmp_path / "seen.note"
            newest.write_bytes(httpx2.get(f"{rig.origin}/log/checkpoint", trust_env=False).content)
            rig.stop()
            shutil.rmtree(rig.home / "press" / "journal")
            shutil.copytree(backup, rig.home / "press" / "journal")
            mark_restored(rig.home)
            rig.start()
            until(lambda: witnessed(rig), "the stop", 60)
            stop = witnessed(rig)[0]
            rig.run("freeze", "--clear", stop["id"], code=exits.REFUSED)
            clearing = rig.ask("freeze", "--clear", "restored-", "--reason", "looked at")
            rig.approve(clearing["url"], "ada", "grace")
            rig.run("wait", clearing["url"], "--timeout", "30s")
            wheel = packages.make_wheel(tmp_path / "dist", "greet", "3.0")
            url = rig.submit(rig.token("greet"), wheel)
            release = url.rsplit("/", 1)[1]
            until(lambda: of(rig.origin, release)["request"], "the review", 60)
            rig.approve(url, "ada", "grace")

            asked = rig.ask("log", "recover", "--reason", "the disk was lost", "--seen", newest)
            said = asked["recovery"]
            assert (
                said["seen_size"] == before and said["seen_root"] and kept <= said["size"] < before
            )
            assert asked["origin"] == f"{key.name}/2"
            page = httpx2.get(asked["url"], trust_env=False).text
            assert "The log is recovered" in page and "the disk was lost" in page
            shown = rig.run("approve", asked["url"], *rig.key("ada"), "--yes")
            assert "the disk was lost" in shown and "given up" in shown
            assert of(rig.origin, release)["state"] != "verified", "one signature is not enough"
            rig.approve(asked["url"], "grace")
            rig.run("wait", asked["url"], "--timeout", "30s")
        fetch_proof(rig.origin, release, wheel)
        trust = rig.home / "trust-root.json"
        for one in (first, lost, wheel):
            rig.run("verify", one, "--trust", trust)
        words = ("audit", rig.origin, "--trust", trust, "--state", rig.folder / "state.json")
        told = rig.ask(*words, code=exits.REFUSED)
        codes = [one["code"] for one in told["findings"]]
        assert codes == ["recovery.entries-lost", "recovery.files-lost"]
        assert lost.name in told["findings"][1]["message"]
        assert audited(rig)["log"]["origin"] == f"{key.name}/2"


def witnessed(rig: Rig) -> list[Any]:
    """The stops by a witness."""
    found = rig.ask("status")["narrowings"]
    return [one for one in found if one["source"] == "witness"]


def restart(rig: Rig) -> None:
    rig.stop()
    rig.start()


def until_cosigned(rig: Rig, witness: Running) -> None:
    def cosigned() -> bool:
        note = httpx2.get(f"{rig.origin}/log/checkpoint", trust_env=False).text
        return f"— {witness.key.name} " in note

    until(cosigned, "the cosignature", 60)
