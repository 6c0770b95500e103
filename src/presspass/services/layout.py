"""The home folder: which parts it has and with which modes. Makes and checks folders, nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Final

#: Folder below the home: nobody but its owner gets in. `zones.prepare` opens some of them to a shared group.
FOLDERS: Final = (
    "gateway",
    "gateway/blobs",
    "gateway/tmp",
    "gateway/tls",
    "press",
    "press/journal",
    "press/keys",
    "press/keys/credentials",
    "press/spool",
    "press/inbox",
    "drop",
)
_PRIVATE = 0o700


def make_folders(home: Path) -> None:
    """Makes the home and its parts, mode 0700. FileExistsError when the home is there already."""
    home.mkdir(mode=_PRIVATE, parents=True)
    for name in FOLDERS:
        (home / name).mkdir(mode=_PRIVATE)
