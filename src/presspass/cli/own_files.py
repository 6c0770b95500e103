"""Small files of whoever is at this terminal: one JSON object each, a gate's origin to one text, for its owner's eyes.

`$XDG_CONFIG_HOME/presspass/<name>.json`, 0600 in a folder that is made 0700; written whole or not at all.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from presspass.core.errors import Code, Fault, Refusal
from presspass.core.limits import JSON_BODY_BYTES_MAX


@dataclass(frozen=True, slots=True)
class ByGate:
    """One of them. `values`: what it maps gates to, in words; `remedy`: what to do when it is damaged."""

    name: str
    values: str
    is_value: Callable[[object], bool]
    remedy: str

    @property
    def path(self) -> Path:
        """The file."""
        return own_folder() / f"{self.name}.json"

    def read(self) -> dict[str, str]:
        """Origin to value. A fault (`<name>.unreadable`) where it cannot be read, `config.invalid` where damaged."""
        try:
            with self.path.open("rb") as file:
                value = json.loads(file.read(JSON_BODY_BYTES_MAX))
        except FileNotFoundError:
            return {}
        except OSError as error:
            message = f"{self.path} cannot be read: {error.strerror}."
            raise Fault(f"{self.name}.unreadable", message, retryable=False) from None
        except ValueError:
            value = None
        if not isinstance(value, dict) or not all(map(self.is_value, value.values())):
            raise Refusal(
                Code.CONFIG_INVALID,
                f"{self.path} is damaged: it should map gates to {self.values}.",
                self.remedy,
            )
        return value

    def write(self, known: dict[str, str]) -> None:
        """Replaces it. Raises OSError and leaves the old one where that fails."""
        write_whole(self.path, json.dumps(known, indent=2, sort_keys=True).encode() + b"\n")


def own_folder() -> Path:
    """Where they lie (XDG Base Directory Specification: a relative XDG_CONFIG_HOME does not count)."""
    folder = Path(os.environ.get("XDG_CONFIG_HOME", ""))
    folder = folder if folder.is_absolute() else Path.home() / ".config"
    return folder / "presspass"


def write_whole(path: Path, data: bytes) -> None:
    """Replaces a file, 0600, in a folder that is made 0700. Raises OSError and leaves the old one where that fails."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:  # mkstemp makes it 0600
            file.write(data)
        Path(temporary).replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            Path(temporary).unlink()
        raise


def origin_of(address: str) -> str:
    """The origin in an address, as these files spell it."""
    parts = urlsplit(address)
    return f"{parts.scheme}://{parts.netloc}".lower()
