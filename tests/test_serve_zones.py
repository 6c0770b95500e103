"""Zones: as root, each process is a user of its own, and the file modes keep each out of the other's rooms."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import peers
from cli_rig import Rig
from presspass.cli import exits
from presspass.core.errors import Refusal
from presspass.drill.peers import wait_until
from presspass.services import zones
from presspass.services.config import Config, Zones

SEPARATE = Config("https://gate.example", zones=Zones(separate=True))


def others_can_run(program: str) -> bool:
    """Whether a user who owns nothing here can execute the program."""
    path = Path(program).resolve()
    return path.exists() and all(
        part.stat().st_mode & stat.S_IXOTH for part in (path, *path.parents)
    )


@pytest.fixture(scope="module")
def gate() -> Iterator[Rig]:
    """A sealed gate with separated zones, in a folder that others may pass through."""
    if os.geteuid() != 0:
        peers.missing("separate zones need root")
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    candidates = (sys.executable, f"/usr/bin/{version}", f"/usr/local/bin/{version}")
    interpreter = next((one for one in candidates if others_can_run(one)), None)
    if interpreter is None:
        peers.missing("no interpreter that other users can run")
    source = Path(zones.__file__).resolve().parents[2]
    path = os.pathsep.join((str(source), sysconfig.get_path("purelib")))
    folder = Path(tempfile.mkdtemp(prefix="presspass-zones-"))
    folder.chmod(0o755)
    rig = Rig(folder, interpreter, "" if interpreter == sys.executable else path)
    try:
        rig.init()
        config = rig.home / "presspass.toml"
        config.write_text(config.read_text().replace("separate = false", "separate = true"))
        rig.start()
        rig.seal()
        yield rig
    finally:
        rig.stop()
        shutil.rmtree(folder)


def as_user(uid: int, gid: int, *command: str | Path) -> bool:
    """Whether the command succeeds as this user."""
    done = subprocess.run(
        command, user=uid, group=gid, extra_groups=[], capture_output=True, check=False
    )
    return done.returncode == 0


def test_each_process_is_a_user_of_its_own(gate: Rig) -> None:
    owners = {name: Path(f"/proc/{pid}").stat() for name, pid in gate.children().items()}
    expected = SEPARATE.zones
    assert owners["gateway"].st_uid == expected.gateway_uid
    assert owners["press"].st_uid == expected.press_uid
    assert "not separated" not in gate.log()


def test_the_gateways_user_reads_the_journal_and_no_key(gate: Rig) -> None:
    user = (SEPARATE.zones.gateway_uid, SEPARATE.zones.group_gid)
    assert as_user(*user, "cat", gate.home / "press" / "journal" / "journal.db")
    for closed in ("keys/kek", "keys/log.key"):
        assert not as_user(*user, "cat", gate.home / "press" / closed)
    for folder in ("press", "press/keys", "press/inbox", "press/journal", "drop"):
        assert not as_user(*user, "touch", gate.home / folder / "planted")


def test_the_presss_user_reads_the_gateways_rows_and_writes_none(gate: Rig) -> None:
    user = (SEPARATE.zones.press_uid, SEPARATE.zones.group_gid)
    assert as_user(*user, "cat", gate.home / "gateway" / "gateway.db")
    assert not as_user(*user, "touch", gate.home / "gateway" / "planted")


def test_a_stranger_gets_nowhere(gate: Rig) -> None:
    for name in ("presspass.toml", "gateway/gateway.db", "press/journal/journal.db", "drop"):
        assert not as_user(64_999, 64_999, "ls", gate.home / name)


def test_root_acts_as_the_press_and_leaves_nothing_that_the_press_cannot_write(gate: Rig) -> None:
    gate.run("freeze", "--drop", gate.home / "drop", "--yes")
    wait_until(lambda: bool(gate.ask("status")["narrowings"]), "the press has latched it", 10.0)
    gate.run("init", "--seal", "--yes-all-fingerprints-compared", code=exits.REFUSED)
    owners = {path.stat().st_uid for path in (gate.home / "press").rglob("*")}
    assert owners == {SEPARATE.zones.press_uid}


def test_separate_zones_without_root_are_refused_and_never_silently_left_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(Refusal, match="needs root"):
        zones.identities(SEPARATE)


def test_what_is_not_separated_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    assert any(
        line.startswith("zones not separated")
        for line in zones.isolation_report(Config("https://gate.example"))
    )
    assert not any("zones" in line for line in zones.isolation_report(SEPARATE))
