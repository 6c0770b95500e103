"""`serve`: the supervisor at a terminal or under systemd."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import click

from presspass.cli.options import example, format_option, home_option
from presspass.cli.show import note, say


@click.command(
    "serve",
    short_help="Run the gate: gateway and press.",
    epilog=example("presspass serve --home /srv/presspass"),
)
@home_option
@format_option
def serve_command(home: Path, as_json: bool) -> None:
    """Start gateway and press as children of this process and keep them running.

    Says first what isolation is missing here. Prints the address when both are ready (with --format json as one line
    on stdout). A child that crashes is started again. Ctrl-C or SIGTERM drains: first the gateway, then the press,
    which finishes what it is publishing; a second Ctrl-C stops at once. If this process is killed, the children end.

    Exit codes: 0 drained; 1 the home cannot be used; 4 a child could not be started.
    """
    from presspass.services import serve, zones
    from presspass.services.config import read_config

    home = home.resolve()
    config = read_config(home)
    with serve.only_supervisor(home):
        found = zones.identities(config)
        if found:
            zones.prepare(home, found)
        for line in zones.isolation_report(config):
            note(f"presspass: {line}")

        def ready(said: dict[str, dict[str, Any]]) -> None:
            listening = serve.shown_url(config, said)
            if as_json:
                port = said.get("gateway", {}).get("port")
                value = {
                    "ready": True,
                    "url": config.origin,
                    "listening": listening,
                    "port": port,
                    "pid": os.getpid(),
                }
                click.echo(json.dumps(value))
            else:
                say(
                    f"Presspass is ready at {config.origin} (listening on {listening}). Ctrl-C ends it."
                )

        specs = serve.child_specs(home, found, acme=config.tls.mode == "acme")
        serve.Supervisor(specs, tell=lambda line: note(f"presspass: {line}")).run(ready)
