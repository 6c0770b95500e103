"""What each process of one installation may open and reach, as the kernel enforces it (Landlock, seccomp).

| process | writes | reads | dials | listens |
|---|---|---|---|---|
| gateway | gateway/ | gateway/, the press's journal, presspass.toml | its PostgreSQL server | its two doors |
| press | press/ | press/, gateway/, drop/, presspass.toml | anything | nothing |

Without PostgreSQL the gateway dials nothing; with it, neither process has a file of the other's to read but the blobs:
each one's password is its own.

The same user id runs both in a trial, so file modes alone would not keep the gateway from the press's keys; this does.
The inspectors take more away from themselves (`presspass.confine.cell`).
"""

from __future__ import annotations

import sys
from pathlib import Path

import sqlalchemy

import presspass
from presspass.confine import self_confine
from presspass.store.address import tcp_port

#: What a Python process needs of the machine: programs and libraries, name service and certificates, null and random.
_SYSTEM_READ = ("/etc", "/dev/null", "/dev/urandom", "/usr/share/zoneinfo")
_SYSTEM_EXECUTE = ("/usr", "/lib", "/lib64", "/bin")


def runtime() -> tuple[str, ...]:
    """Where this interpreter and this package are; readable and executable for every process."""
    package = Path(presspass.__file__).resolve().parent.parent
    dependencies = Path(sqlalchemy.__file__).resolve().parent.parent
    interpreter = Path(sys.executable).resolve().parent.parent
    places = {sys.prefix, sys.base_prefix, *map(str, (interpreter, package, dependencies))}
    return (*_SYSTEM_EXECUTE, *sorted(places))


def confine_press(home: Path, database_url: str = "") -> tuple[str, ...]:
    """Before any thread starts: writes only in press/, reads what it judges, listens nowhere.

    Returns what is missing.
    """
    gateway = home / "gateway" / "blobs" if database_url else home / "gateway"
    return self_confine(
        read=(*_SYSTEM_READ, gateway, home / "drop", home / "presspass.toml"),
        write=(home / "press", "/dev/null"),
        execute=runtime(),
        network=True,
        bind=(),
    )


def confine_gateway(home: Path, database_url: str = "") -> tuple[str, ...]:
    """Once it listens at both its doors, before any thread starts: writes only in gateway/, reads the journal but no
    key. It answers who connects to it, and opens or connects no socket itself but to its PostgreSQL server, if it has
    one: that server's port alone, or a Unix socket. Returns what is missing."""
    journal = () if database_url else (home / "press" / "journal",)
    port = tcp_port(database_url) if database_url else None
    return self_confine(
        read=(*_SYSTEM_READ, home / "presspass.toml", *journal),
        # Blobs are named once more: where gateways share them, they may be a link to a file system elsewhere.
        write=(home / "gateway", home / "gateway" / "blobs", "/dev/null"),
        execute=runtime(),
        network=port is not None,
        connect=() if port is None else (port,),
        bind=(),
        new_sockets=bool(database_url),
    )
