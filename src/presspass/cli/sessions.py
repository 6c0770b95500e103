"""Signed-in terminals: the tokens of `presspass login`, one for each gate, in a file that only their owner can read.

`$XDG_CONFIG_HOME/presspass/sessions.json` (0600): the gate's origin to its token. A token looks and asks in somebody's
name for twelve hours and approves nothing.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from pathlib import Path
from urllib.parse import urlsplit

from presspass.cli.client import Gate
from presspass.core.errors import Code, Fault, Refusal
from presspass.core.limits import JSON_BODY_BYTES_MAX

_NAME = "presspass/sessions.json"


def sessions_path() -> Path:
    """The file (XDG Base Directory Specification: a relative XDG_CONFIG_HOME does not count)."""
    folder = Path(os.environ.get("XDG_CONFIG_HOME", ""))
    return (folder if folder.is_absolute() else Path.home() / ".config") / _NAME


def gate_origin(text: str) -> str:
    """The origin in an address of a gate; refuses what is none."""
    parts = urlsplit(text)
    if parts.scheme not in ("https", "http") or not parts.netloc or "@" in parts.netloc:
        raise Refusal(
            Code.REQUEST_MALFORMED,
            f"{text!r} is no address of a gate.",
            "Like https://gate.example.",
        )
    return f"{parts.scheme}://{parts.netloc}".lower()


def known_sessions() -> dict[str, str]:
    """Origin to token."""
    path = sessions_path()
    try:
        with path.open("rb") as file:
            value = json.loads(file.read(JSON_BODY_BYTES_MAX))
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise Fault(
            "sessions.unreadable", f"{path} cannot be read: {error.strerror}.", retryable=False
        ) from None
    except ValueError:
        value = None
    if not isinstance(value, dict) or not all(isinstance(one, str) for one in value.values()):
        raise Refusal(
            Code.CONFIG_INVALID,
            f"{path} is damaged: it should map gates to tokens.",
            "Remove it and sign in again.",
        )
    return value


def keep_session(origin: str, token: str) -> None:
    """Remembers a token; "" forgets it. Whole or not at all."""
    path, known = sessions_path(), known_sessions()
    known.pop(origin, None)
    if token:
        known[origin] = token
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


def chosen_origin(text: str | None) -> str:
    """The gate that is meant: as named, or the only one that this terminal is signed in at."""
    if text:
        return gate_origin(text)
    known = sorted(known_sessions())
    if len(known) == 1:
        return known[0]
    raise Refusal(
        Code.SESSION_MISSING,
        "Which gate? This terminal is signed in at " + (", ".join(known) or "none") + ".",
        "Name its address; sign in with `presspass login URL`.",
    )


def signed_in(origin: str) -> Gate:
    """The gate, with this terminal's token; refuses with `session.missing` without one."""
    token = known_sessions().get(origin)
    if token is None:
        raise Refusal(
            Code.SESSION_MISSING,
            f"This terminal is not signed in at {origin}.",
            f"presspass login {origin}",
        )
    return Gate(origin, token=token)
