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
    rig = Rig(folder, interpreter, "" if interpreter == sys.executable else path, tls=True)
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


def test_the_key_of_the_certificate_is_the_gateways_alone(gate: Rig) -> None:
    key, owner = gate.home / "gateway" / "tls" / "key.pem", SEPARATE.zones.gateway_uid
    assert (key.stat().st_uid, stat.S_IMODE(key.stat().st_mode)) == (owner, 0o600)
    for uid in (SEPARATE.zones.press_uid, 64_999):
        assert not as_user(uid, SEPARATE.zones.group_gid, "cat", key)
    assert as_user(owner, SEPARATE.zones.group_gid, "cat", key)


def test_a_certificate_made_anew_beside_the_running_gate_stays_the_gateways(gate: Rig) -> None:
    gate.run("tls", "trial")
    key = gate.home / "gateway" / "tls" / "key.pem"
    assert key.stat().st_uid == SEPARATE.zones.gateway_uid


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


def test_handing_a_folder_over_follows_no_link_not_even_one_that_appears_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, outside = tmp_path / "gateway", tmp_path / "outside"
    (folder / "blobs").mkdir(parents=True)
    outside.mkdir(mode=0o700)
    victim = outside / "file"
    victim.write_text("closed")
    victim.chmod(0o600)
    for name in ("plain", "late", "blobs/blob", "keys"):
        (folder / name).write_text("ours")
        (folder / name).chmod(0o666)
    (folder / "linked").symlink_to(outside)
    (folder / "link").symlink_to(victim)
    os.mkfifo(folder / "pipe", 0o600)

    change, real_open = (os.chmod, os.fchmod), os.open

    def swap(name: str = "plain") -> None:
        """What a process of the folder's owner could do between two steps."""
        if not (folder / name).is_symlink():
            (folder / name).rename(folder / f"was-{name}")
            (folder / name).symlink_to(victim)

    def late_chmod(path: Path, mode: int, **more: bool) -> None:
        if Path(path).name == "plain":
            swap()
        change[0](path, mode, **more)

    def late_fchmod(fd: int, mode: int) -> None:
        if os.readlink(f"/proc/self/fd/{fd}").endswith("/plain"):
            swap()
        change[1](fd, mode)

    def late_open(path: str, flags: int, *more: int, dir_fd: int | None = None) -> int:
        if path == "late":
            swap("late")
        return real_open(path, flags, *more, dir_fd=dir_fd)

    monkeypatch.setattr(os, "open", late_open)
    monkeypatch.setattr(os, "chmod", late_chmod)
    monkeypatch.setattr(os, "fchmod", late_fchmod)
    me = zones.Identity(os.getuid(), os.getgid())
    zones._hand_over(folder, me, frozenset({"keys"}))
    modes = {path.name: stat.S_IMODE(path.lstat().st_mode) for path in folder.rglob("*")}
    assert (folder / "plain").is_symlink() and (folder / "late").is_symlink()
    assert (modes["was-plain"], modes["blob"], modes["keys"]) == (0o640, 0o640, 0o600)
    assert (stat.S_IMODE(folder.stat().st_mode), modes["blobs"]) == (0o2750, 0o2750)
    assert modes["pipe"] == 0o600
    assert stat.S_IMODE(victim.stat().st_mode) == 0o600
    assert stat.S_IMODE(outside.stat().st_mode) == 0o700


def test_what_is_not_separated_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    assert any(
        line.startswith("zones not separated")
        for line in zones.isolation_report(Config("https://gate.example"))
    )
    assert not any("zones" in line for line in zones.isolation_report(SEPARATE))
