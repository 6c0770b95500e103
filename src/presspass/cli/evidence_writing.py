"""`history --evidence`: the press's key signs what its journal answers. Apart from what `verify` loads."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from presspass.cli.show import note, quoted
from presspass.core.errors import Fault

if TYPE_CHECKING:
    from presspass.core.history import Question


def write_evidence(home: Path, question: Question, file: Path) -> None:
    """Has the press's key sign what its journal answers, on the press's own host. `file` must be a new one."""
    from presspass.services import press, zones

    try:
        with zones.acting_as_owner_of(home / "press" / "inbox"):
            data = press.evidence(home, question)
    except OSError as error:
        text = f"{home}/press cannot be used: {error.strerror}. Run this as the press's user."
        raise Fault("press.keys", text, retryable=False) from None
    _write_new(file, data)
    note(f"Signed evidence of {len(data)} bytes is in {quoted(file)}.")
    note(f"Whoever has the trust root checks it: presspass verify {quoted(file)} --trust FILE")


def _write_new(file: Path, data: bytes) -> None:
    try:
        with file.open("xb") as target:
            target.write(data)
            target.flush()
            os.fsync(target.fileno())
    except OSError as error:
        text = f"{file} cannot be written: {error.strerror}. Name a file that is not there yet."
        raise Fault("evidence.file", text, retryable=False) from None
