"""The drop box: narrowings that reach the press without passing the gateway (law 8); one JSON file each."""

from __future__ import annotations

import json
import os
import secrets
from pathlib import Path
from typing import Any

from presspass.core.approval import Approval
from presspass.core.errors import Fault
from presspass.core.statement import FreezeBody, RevocationBody


def drop_signed(folder: Path, statement: bytes, approval: Approval) -> Path:
    """A veto, freeze or revocation with its signature."""
    return _drop(folder, {"statement": statement.decode("utf-8"), "approval": approval.to_json()})


def drop_unsigned_freeze(folder: Path, body: FreezeBody) -> Path:
    """A freeze that nobody signed: whoever may write here may stop publishing, and nothing else."""
    denies = {"deny_open": True} if body.deny_open else {}
    return _drop(folder, {"freeze": {"project": body.project, "reason": body.reason, **denies}})


def drop_unsigned_veto(folder: Path, digest: str, reason: str) -> Path:
    """A veto of the request with this digest that nobody signed."""
    return _drop(folder, {"veto": {"statement": digest, "reason": reason}})


def drop_unsigned_revocation(folder: Path, body: RevocationBody) -> Path:
    """A revocation that nobody signed."""
    return _drop(folder, {"revoke": body.to_json()})


def _drop(folder: Path, value: dict[str, Any]) -> Path:
    """Writes beside, then renames: the press never reads half a file (it looks at *.json only)."""
    name = f"{secrets.token_hex(8)}.json"
    temporary, target = folder / f".{name}.part", folder / name
    try:
        with temporary.open("w", encoding="utf-8") as file:
            json.dump(value, file)
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(0o644)  # the press may run as another user; a narrowing is no secret
        temporary.rename(target)
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise Fault(
            "drop.unwritable",
            f"The drop box {folder} cannot be written: {error.strerror}.",
            retryable=False,
        ) from None
    return target
