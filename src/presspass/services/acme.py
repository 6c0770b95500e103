"""The certifier as a process: gets the gate's certificate by ACME and renews it at two thirds of its life.

`python -m presspass.services.acme --home DIR [--fd-supervisor N]` prints `{"ready": true}` and works until SIGTERM, or
until the supervisor's end of the pipe closes. It dials the ACME server, writes in gateway/tls, listens nowhere.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import select
import signal
import socket
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

from presspass.core.errors import Code, Fault, PresspassError, Refusal
from presspass.core.limits import ACME_LOOK_S
from presspass.gateway import events
from presspass.gateway.tls.acme import Renewer, Settings
from presspass.services.config import Config, read_config
from presspass.services.isolation import confine_acme

_DOOR_LOOK_S = 1.0


def settings_of(home: Path, config: Config) -> Settings:
    """What the renewer needs, from the configuration; relative paths start at the home."""
    ca = str(home / config.tls.acme_ca) if config.tls.acme_ca else ""
    return Settings(config.tls.acme_directory, config.tls.acme_contact, ca, config.hosts)


def need_library() -> None:
    """Refuses with `config.invalid` where the optional part of Presspass is not installed."""
    if importlib.util.find_spec("acme") is None:
        raise Refusal(
            Code.CONFIG_INVALID,
            '[tls] has mode = "acme", and the ACME library is not installed.',
            "Install presspass[acme], or set another mode.",
        )


def run(home: Path, supervisor: int | None) -> int:
    """Works until it is told to end. Returns the exit code."""
    config = read_config(home)
    need_library()
    settings = settings_of(home, config)
    (home / "gateway" / "tls").mkdir(mode=0o700, exist_ok=True)
    for line in confine_acme(home, settings.ca):
        print(f"acme: not confined: {line}", file=sys.stderr)
    renewer = Renewer(home / "gateway" / "tls", settings)
    door = (config.listen.host, config.tls.acme_port)
    with _Ending(supervisor) as ending:
        print(json.dumps({"ready": True}), flush=True)
        pause = 0.0
        while not ending.waited(pause):
            if renewer.due_at() <= time.time() and _is_open(door):
                _try(renewer)
            pause = min(max(renewer.due_at() - time.time(), _DOOR_LOOK_S), ACME_LOOK_S)
    return 0


def _is_open(door: tuple[str, int]) -> bool:
    """Whether the gateway answers where the challenge will be asked: else a try only uses up the server's patience."""
    try:
        with socket.create_connection(door, timeout=_DOOR_LOOK_S):
            return True
    except OSError:
        return False


def _try(renewer: Renewer) -> None:
    try:
        pair = renewer.renew()
    except (Fault, Refusal) as error:
        events.log("acme", done=False, code=_code(error), detail=error.message)
    except (
        Exception
    ) as error:  # the certificate that is served stays; the next try comes after a pause
        events.internal(error, "acme")
    else:
        events.log("acme", done=True, ends=pair.ends.isoformat())
    due = datetime.fromtimestamp(renewer.due_at(), UTC)
    events.log("acme", next=due.isoformat(timespec="seconds"))


def _code(error: Fault | Refusal) -> str:
    return error.code.value if isinstance(error, Refusal) else error.code


class _Ending:
    """Waits for time to pass, and notices SIGTERM, SIGINT and the end of the supervisor while it waits.

    While an order is under way a signal ends the process at once: nothing is half written (see the renewer).
    """

    def __init__(self, supervisor: int | None) -> None:
        self._supervisor = supervisor

    def __enter__(self) -> _Ending:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, _end)
        return self

    def __exit__(self, *_exception: object) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)

    def waited(self, seconds: float) -> bool:
        """True when it is over; False when the time has passed."""
        watched = [] if self._supervisor is None else [self._supervisor]
        ready, _, _ = select.select(watched, [], [], seconds)
        return bool(ready)


def _end(_number: int, _frame: object) -> None:
    os._exit(0)


def main() -> int:
    """The command line; exit code 4 when it cannot start."""
    parser = argparse.ArgumentParser(prog="presspass acme")
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--fd-supervisor", type=int)
    parser.add_argument("--zones", default="not separated", choices=("separated", "not separated"))
    given = parser.parse_args()
    try:
        return run(given.home, given.fd_supervisor)
    except (PresspassError, OSError) as error:
        print(f"acme: {error}", file=sys.stderr)
        if isinstance(error, Refusal) and error.hint:
            print(f"acme: {error.hint}", file=sys.stderr)
        return 4


if __name__ == "__main__":
    sys.exit(main())
