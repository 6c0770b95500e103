"""Where the two databases of an installation are, as one of its processes reaches them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from presspass.services.config import Config
from presspass.store.address import Place, Server

#: The folder of a process's own password, closed to the other's user, and the file in it.
PASSWORD_FILES: Final = {
    "gateway": "gateway/keys/database.password",
    "press": "press/keys/database.password",
}


@dataclass(frozen=True, slots=True)
class Places:
    """`gateway`: written by the gateway, read by the press; `journal`: the other way round."""

    gateway: Place
    journal: Place


def places(home: Path, config: Config, process: Literal["gateway", "press"]) -> Places:
    """The databases of the installation, for `process`."""
    database = config.database
    if not database.url:
        return Places(home / "gateway" / "gateway.db", home / "press" / "journal" / "journal.db")
    role = database.gateway_role if process == "gateway" else database.press_role
    password = home / PASSWORD_FILES[process]
    return Places(
        Server(database.url, role, "gateway", password),
        Server(database.url, role, "journal", password),
    )
