"""What each process of one installation may open and reach, as the kernel enforces it (Landlock, seccomp).

| process | writes | reads | dials | listens |
|---|---|---|---|---|
| gateway | gateway/ | gateway/, the journal, presspass.toml, certificate | `[dial]`, PostgreSQL | its ports, a socket |
| acme | gateway/tls | presspass.toml | anything | nothing |
| press | press/ | press/, gateway/, drop/, presspass.toml | anything | nothing |

With PostgreSQL neither process has a file of the other's to read but the blobs:
each one's password is its own.

The same user id runs both in a trial, so file modes alone would not keep the gateway from the press's keys; this does.
The inspectors take more away from themselves (`presspass.confine.cell`).
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

import sqlalchemy

import presspass
from presspass.confine import self_confine
from presspass.core.errors import Code, Refusal
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


def tls_folders(home: Path, files: Iterable[Path]) -> tuple[Path, ...]:
    """The folders where the certificate's files lie, and where links lead: a renewal may put new files there.

    None that holds more of the home than gateway/ does: the press's keys must stay out of reach.
    """
    found = {folder for path in files for folder in (path.parent.absolute(), path.resolve().parent)}
    home = home.resolve()
    for folder in found:
        resolved = folder.resolve()
        inside_press = resolved.is_relative_to(home) and not resolved.is_relative_to(
            home / "gateway"
        )
        if home.is_relative_to(resolved) or inside_press:
            raise Refusal(
                Code.CONFIG_INVALID,
                f"The TLS files lie in {folder}, which the gateway may not read.",
                f"Put them into {home / 'gateway' / 'tls'}, or into a folder of their own outside the home.",
            )
    return tuple(sorted(found))


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


def confine_acme(home: Path, ca: str) -> tuple[str, ...]:
    """Before it dials: reads the settings and whom to trust, writes the certificate's folder, listens nowhere.

    Returns what is missing.
    """
    return self_confine(
        read=(*_SYSTEM_READ, home / "presspass.toml", *([ca] if ca else [])),
        write=(home / "gateway" / "tls", "/dev/null"),
        execute=runtime(),
        network=True,
        bind=(),
    )


def confine_gateway(
    home: Path,
    ports: tuple[int, ...],
    tls_files: Iterable[Path] = (),
    database_url: str = "",
) -> tuple[str, ...]:
    """Once it listens at all its doors, before any thread starts: writes only in gateway/, reads the journal and, of
    keys, that of its own certificate alone. It answers who connects to it, opens no other door, and connects to these
    ports alone, and to that of its PostgreSQL server, if it has one (a port, or a Unix socket); without any, it opens
    and connects no socket at all. Returns what is missing."""
    certificates = tls_folders(home, tls_files)
    journal = () if database_url else (home / "press" / "journal",)
    port = tcp_port(database_url) if database_url else None
    ports = (*ports, *(() if port is None else (port,)))
    local = bool(database_url) and port is None
    return self_confine(
        read=(*_SYSTEM_READ, home / "presspass.toml", *journal, *certificates),
        # Blobs are named once more: where gateways share them, they may be a link to a file system elsewhere.
        write=(home / "gateway", home / "gateway" / "blobs", "/dev/null"),
        execute=runtime(),
        network=bool(ports),
        connect=ports,
        bind=(),
        new_sockets=bool(ports) or local,
        local_sockets=local,
    )
