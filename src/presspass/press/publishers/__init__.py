"""One file per registry protocol. A publisher sends one file and says what the registry serves; it decides nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from presspass.core.statement import ReleaseFile


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One file to send: the press's own copy, and the artifact's metadata as (field, values)."""

    file: ReleaseFile
    path: Path
    project: str
    version: str
    metadata: Mapping[str, Sequence[str]]
    go_on: Callable[[], None] = lambda: None
    """Raises what stops the sending; asked again and again while the bytes go out."""


@dataclass(frozen=True, slots=True)
class Served:
    """What the registry serves under a name: digests (hex) and size of the bytes it really sent; see `served`."""

    sha256: str
    sha512: str
    size: int


class Publisher(Protocol):
    """Refusals are final answers of the registry; retryable faults may have had an effect, so ask `served` again."""

    def served(self, project: str, filename: str, size_max: int) -> Served | None:
        """Downloads the file as a consumer would and hashes it; None when the registry does not list it.

        Where more than `size_max` bytes come, reading stops: `size` is above the limit, and the digest nobody's.
        """

    def send(self, outgoing: Outgoing, username: str, secret: str) -> None:
        """Uploads one file."""

    def close(self) -> None:
        """Ends connections."""
