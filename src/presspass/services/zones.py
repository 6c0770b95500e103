"""A user of its own for each process, where the supervisor may give one, and plain words where it may not.

With `zones.separate = true` and root, gateway and press run under different numeric users in one shared group:
each reads the other's database, neither can write the other's folder, and press/keys is the press's alone.
Changes owners and modes below the home folder; touches nothing else.
"""

from __future__ import annotations

import contextlib
import errno
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
_PRIVATE_IN_GATEWAY = frozenset({"keys", "tls"})
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
    _hand_over(home / "gateway", gateway, _PRIVATE_IN_GATEWAY)
    _hand_over(home / "press", press, _PRIVATE_IN_PRESS)
    _open_drop_box(home / "drop", press.gid)


def _open_drop_box(drop: Path, gid: int) -> None:
    """The press must be able to read it. Who may write to it is the operator's business, and stays as it is."""
    os.chown(drop, -1, gid)
    drop.chmod(stat.S_IMODE(drop.stat().st_mode) | 0o050)


def _hand_over(folder: Path, owner: Identity, private: frozenset[str]) -> None:
    """Whoever had the folder may have left anything in it: every step goes by descriptors, and follows no link."""
    for place, _folders, names, fd in os.fwalk(folder, onerror=_raise):
        parts = Path(place).relative_to(folder).parts
        closed = bool(parts) and parts[0] in private
        _give_open(fd, owner, _PRIVATE_FOLDER if closed else _SHARED_FOLDER)
        for name in names:
            if stat.S_ISREG(os.stat(name, dir_fd=fd, follow_symlinks=False).st_mode):
                hidden = closed or (not parts and name in private)
                _give(name, owner, _PRIVATE_FILE if hidden else _SHARED_FILE, dir_fd=fd)


def _give(path: str | Path, owner: Identity, mode: int, *, dir_fd: int | None = None) -> None:
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        fd = os.open(path, flags, dir_fd=dir_fd)
    except OSError as error:
        if error.errno == errno.ELOOP:  # it has become a link: nothing of ours
            return
        raise
    try:
        _give_open(fd, owner, mode)
    finally:
        os.close(fd)


def _give_open(fd: int, owner: Identity, mode: int) -> None:
    """Only what is not right is changed: a home may hold very many blobs."""
    now = os.fstat(fd)
    if not (stat.S_ISREG(now.st_mode) or stat.S_ISDIR(now.st_mode)):
        return
    if (now.st_uid, now.st_gid) != (owner.uid, owner.gid):
        os.fchown(fd, owner.uid, owner.gid)
    if stat.S_IMODE(os.fstat(fd).st_mode) != mode:
        os.fchmod(fd, mode)


def _raise(error: OSError) -> None:
    raise error


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
