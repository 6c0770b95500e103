"""CONFINEMENT of our own processes by the Linux kernel, through ctypes alone: Landlock, seccomp, resource limits.

`self_confine` takes rights away from the calling process for good; call it once, before any thread starts.
A mechanism that the kernel lacks is left out and named, never passed over in silence: `available()` tells the
operator at start, and what a confined process could not have is part of its answers.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from presspass.confine import landlock, rlimits, seccomp


@dataclass(frozen=True, slots=True)
class Mechanism:
    """One protection: whether this machine has it, and a sentence that says so."""

    name: str
    present: bool
    reason: str


def available() -> tuple[Mechanism, ...]:
    """What can be used here, each with its reason; changes nothing."""
    abi = landlock.abi()
    has_seccomp = seccomp.available()
    root = rlimits.is_root()
    return (
        _by_abi("landlock-files", abi, 1, "file access"),
        _by_abi("landlock-tcp", abi, 4, "TCP ports"),
        _by_abi("landlock-scope", abi, 6, "signals and abstract Unix sockets"),
        Mechanism(
            "seccomp",
            has_seccomp,
            "the kernel filters system calls"
            if has_seccomp
            else "no seccomp filters, or an unknown processor",
        ),
        Mechanism(
            "own-user",
            root,
            f"inspections run as user {rlimits.NOBODY}"
            if root
            else "not started as root, so inspections keep the user of the process that starts them",
        ),
    )


def missing() -> tuple[str, ...]:
    """One sentence for each mechanism that this machine lacks."""
    return tuple(f"{one.name}: {one.reason}" for one in available() if not one.present)


def self_confine(
    *,
    read: Iterable[str | Path] = (),
    write: Iterable[str | Path] = (),
    execute: Iterable[str | Path] = (),
    network: bool = False,
    connect: Iterable[int] | None = None,
    bind: Iterable[int] | None = None,
    new_sockets: bool = True,
    local_sockets: bool = True,
    signal_outside: bool = False,
) -> tuple[str, ...]:
    """Keeps of this process's rights only those named; returns what could not be enforced, as sentences.

    Paths stand for all beneath them; those that do not exist are left out. Files and sockets that are already open
    stay open. `network=False` leaves Unix sockets only; with `network=True`, `connect` and `bind` narrow TCP to
    these ports (None: any; neither UDP nor Unix sockets with a path are covered). Without `new_sockets` no socket of
    any kind is opened or connected any more; without `local_sockets` no Unix one. Without `signal_outside` only
    processes started after this call can be signalled. Children inherit all of it. Raises OSError when a mechanism
    that is there refuses.
    """
    "".encode(
        "idna"
    )  # name resolution loads this codec at its first use, when its file would be out of reach
    ports = (connect, bind) if network else ((), ())
    rights = landlock.Rights(
        read=tuple(map(str, read)),
        write=tuple(map(str, write)),
        execute=tuple(map(str, execute)),
        connect=None if ports[0] is None else tuple(ports[0]),
        bind=None if ports[1] is None else tuple(ports[1]),
        signal_outside=signal_outside,
    )
    landlock.restrict(rights)
    seccomp.deny_dangerous(
        internet=network,
        execute=bool(rights.execute),
        new_sockets=new_sockets,
        local_sockets=local_sockets,
    )
    return tuple(line for line in missing() if not line.startswith("own-user"))


def _by_abi(name: str, abi: int, needed: int, what: str) -> Mechanism:
    if abi >= needed:
        return Mechanism(name, True, f"the kernel confines {what} (Landlock ABI {abi})")
    return Mechanism(
        name, False, f"the kernel's Landlock (ABI {abi}) does not confine {what}, ABI {needed} does"
    )
