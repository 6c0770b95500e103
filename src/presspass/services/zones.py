"""A user of its own for each process, where the supervisor may give one, and plain words where it may not.

With `zones.separate = true` and root, gateway and press run under different numeric users in one shared group:
each reads the other's database, neither can write the other's folder, and press/keys is the press's alone.
Changes owners and modes below the home folder; touches nothing else.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from presspass import confine
from presspass.core.errors import Code, Refusal
from presspass.services.config import Config

_SHARED_FOLDER, _PRIVATE_FOLDER = 0o2750, 0o700
_SHARED_FILE, _PRIVATE_FILE = 0o640, 0o600
_UMASK_SHARED = 0o027
_PRIVATE_IN_PRESS = frozenset({"keys", "inbox", "spool"})


@dataclass(frozen=True, slots=True)
class Identity:
    """The numeric user and group of one process; it belongs to no other group."""

    uid: int
    gid: int

    def popen_arguments(self) -> dict[str, Any]:
        """For subprocess.Popen: what it creates is readable by the group, so that the other process can read it."""
        return {"user": self.uid, "group": self.gid, "extra_groups": [], "umask": _UMASK_SHARED}


def identities(config: Config) -> dict[str, Identity]:
    """Who runs as whom; empty where zones are not separated. Refuses when asked for without being root."""
    zones = config.zones
    if not zones.separate:
        return {}
    if os.geteuid() != 0:
        raise Refusal(
            Code.CONFIG_INVALID,
            "zones.separate needs root to start each process as a user of its own.",
            "Start `presspass serve` as root, or set separate = false in [zones].",
        )
    return {
        "gateway": Identity(zones.gateway_uid, zones.group_gid),
        "press": Identity(zones.press_uid, zones.group_gid),
    }


def prepare(home: Path, found: dict[str, Identity]) -> None:
    """Hands each folder to its process. Idempotent: run before each start, so that a restored home is right too."""
    gateway, press = found["gateway"], found["press"]
    root = Identity(0, gateway.gid)
    _give(home, root, 0o750)
    _give(home / "presspass.toml", root, _SHARED_FILE)
    _hand_over(home / "gateway", gateway, frozenset())
    _hand_over(home / "press", press, _PRIVATE_IN_PRESS)
    _open_drop_box(home / "drop", press.gid)


def _open_drop_box(drop: Path, gid: int) -> None:
    """The press must be able to read it. Who may write to it is the operator's business, and stays as it is."""
    os.chown(drop, -1, gid)
    drop.chmod(stat.S_IMODE(drop.stat().st_mode) | 0o050)


def _hand_over(folder: Path, owner: Identity, private: frozenset[str]) -> None:
    _give(folder, owner, _SHARED_FOLDER)
    for path in folder.rglob("*"):
        closed = path.relative_to(folder).parts[0] in private
        mode = path.lstat().st_mode
        if stat.S_ISDIR(mode):
            _give(path, owner, _PRIVATE_FOLDER if closed else _SHARED_FOLDER)
        elif stat.S_ISREG(mode):
            _give(path, owner, _PRIVATE_FILE if closed else _SHARED_FILE)


def _give(path: Path, owner: Identity, mode: int) -> None:
    """Only what is not right is changed: a home may hold very many blobs."""
    now = path.lstat()
    if (now.st_uid, now.st_gid) != (owner.uid, owner.gid):
        os.chown(path, owner.uid, owner.gid, follow_symlinks=False)
    if stat.S_IMODE(path.lstat().st_mode) != mode:
        path.chmod(mode)


@contextlib.contextmanager
def acting_as_owner_of(folder: Path) -> Iterator[None]:
    """Lets root do something as the user that `folder` belongs to; anybody else stays who they are."""
    owner = folder.stat()
    if os.geteuid() != 0 or owner.st_uid == 0:
        yield
        return
    gid = os.getegid()
    os.setegid(owner.st_gid)
    os.seteuid(owner.st_uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(gid)


def isolation_report(config: Config) -> list[str]:
    """What separates the processes here and what does not, one sentence a line, for the operator at the start."""
    lines = []
    if not config.zones.separate:
        lines.append(f"zones not separated: {unseparated_zones()} {_SEPARATE}")
    lines.extend(f"not everything can be confined here: {line}" for line in confine.missing())
    return lines


def unseparated_zones() -> str:
    """What it means on this machine that gateway and press are one OS user."""
    if any(one.name == "landlock-files" and one.present for one in confine.available()):
        return (
            "gateway and press run as one OS user. The kernel keeps the gateway's process from the press's files "
            "(Landlock); anything else that runs as this user can read the press's keys."
        )
    return (
        "gateway and press run as one OS user, and the kernel has no Landlock: whoever takes over the gateway's "
        "process can read the press's keys."
    )


_SEPARATE = "Start as root with separate = true in [zones]."
