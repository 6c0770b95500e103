"""Which installation stands behind a gate's address: remembered at the first signature, compared at every later one.

`$XDG_CONFIG_HOME/presspass/known-gates.json` (0600): the gate's origin to the SHA-256 of its genesis. As with SSH's
known hosts the first time is believed, unless --trust names a genesis that came another way; that one counts, and
replaces what is remembered.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from pathlib import Path
from urllib.parse import urlsplit

from presspass.cli.show import grouped, note, safe, say
from presspass.core.digests import is_sha256
from presspass.core.errors import Code, Fault, Refusal
from presspass.core.limits import JSON_BODY_BYTES_MAX, STATEMENT_BYTES_MAX

_NAME = "presspass/known-gates.json"


def known_gates_path() -> Path:
    """The file (XDG Base Directory Specification: a relative XDG_CONFIG_HOME does not count)."""
    folder = Path(os.environ.get("XDG_CONFIG_HOME", ""))
    return (folder if folder.is_absolute() else Path.home() / ".config") / _NAME


def check_installation(base: str, genesis: str, trust: Path | None) -> None:
    """Refuses (`statement.foreign-genesis`) unless `genesis` is that of the gate at `base`; shows it the first time."""
    if trust is not None:
        return _check_pinned(genesis, trust)
    path, origin = known_gates_path(), _origin(base)
    known = _read(path).get(origin)
    if known is None:
        say(f"  this machine has not signed for {safe(origin)} before. Its installation (genesis):")
        say(f"    {grouped(genesis)}")
        say("  compare it with what you were given (sha256sum trust-root.json); it is remembered.")
    elif known != genesis:
        raise Refusal(
            Code.STATEMENT_FOREIGN,
            f"{origin} shows another installation than the one remembered for it: {genesis[:16]}…, not {known[:16]}….",
            "Do not sign. If the gate was really set up anew, get its trust-root.json from a person you trust and give "
            f"it with --trust: it then takes the place of what is remembered in {path}.",
        )
    return None


def remember_installation(base: str, genesis: str) -> None:
    """Remembers what was signed for. Where that cannot be written, says so and goes on: next time is a first time."""
    path, origin = known_gates_path(), _origin(base)
    try:
        known = _read(path)
        if known.get(origin) != genesis:
            _write(path, {**known, origin: genesis})
    except OSError as error:
        note(f"the gate's installation could not be remembered in {path}: {error.strerror}")


def _check_pinned(genesis: str, trust: Path) -> None:
    from presspass.verify.proof import load_trust_root

    with trust.open("rb") as file:
        pinned = load_trust_root(file.read(STATEMENT_BYTES_MAX + 1))
    if pinned != genesis:
        raise Refusal(
            Code.STATEMENT_FOREIGN,
            f"The request belongs to installation {genesis[:16]}…; {trust} is {pinned[:16]}….",
            "Do not sign; tell the operators of the gate.",
        )


def _origin(base: str) -> str:
    parts = urlsplit(base)
    return f"{parts.scheme}://{parts.netloc}".lower()


def _read(path: Path) -> dict[str, str]:
    try:
        with path.open("rb") as file:
            value = json.loads(file.read(JSON_BODY_BYTES_MAX))
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise Fault(
            "known-gates.unreadable", f"{path} cannot be read: {error.strerror}.", retryable=False
        ) from None
    except ValueError:
        value = None
    if not isinstance(value, dict) or not all(map(is_sha256, value.values())):
        raise Refusal(
            Code.CONFIG_INVALID,
            f"{path} is damaged: it should map gates to digests.",
            "Repair it, or remove it and compare fingerprints anew.",
        )
    return value


def _write(path: Path, known: dict[str, str]) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:  # mkstemp makes it 0600
            json.dump(known, file, indent=2, sort_keys=True)
            file.write("\n")
        Path(temporary).replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            Path(temporary).unlink()
        raise
