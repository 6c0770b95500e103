"""`witness`: a service that others than a gate's own people run, so that a gate cannot show two ledgers."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import TYPE_CHECKING

import click

from presspass.cli.options import example, format_option
from presspass.cli.show import say
from presspass.core.errors import Code, Refusal
from presspass.core.limits import STATEMENT_BYTES_MAX

if TYPE_CHECKING:
    from presspass.core.ledger.note import VerifierKey


@click.command(
    "witness",
    short_help="Cosign the ledgers of gates, elsewhere than they run.",
    epilog=example(
        "presspass witness --home /srv/witness --name witness.example/w1 --trust trust-root.json"
    ),
)
@click.option(
    "--home", type=click.Path(path_type=Path), required=True, help="Folder of this witness."
)
@click.option(
    "--name", required=True, help="Its name in signatures: an address without https://, as yours."
)
@click.option(
    "--trust",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    multiple=True,
    help="Trust root of a gate whose ledger it cosigns. Repeatable.",
)
@click.option(
    "--log",
    "logs",
    multiple=True,
    help="Verifier key of a log, also a further one of the same log. Repeatable.",
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port",
    type=click.IntRange(0, 65_535),
    default=8470,
    show_default=True,
    help="Port; 0 for a free one.",
)
@format_option
def witness_command(
    home: Path, name: str, trust: tuple[Path, ...], logs: tuple[str, ...], host: str, port: int, as_json: bool
) -> None:  # fmt: skip
    """Run a witness (C2SP tlog-witness) until Ctrl-C or SIGTERM.

    It remembers of each ledger the last checkpoint that it has cosigned, and cosigns only what extends it. Its key and
    its memory are made in the folder the first time and belong together: back them up together or not at all. Run it
    on another machine than the gate, by other people; put a proxy with TLS before it. It needs no access to any gate.

    Exit codes: 0 ended; 1 the folder or a key cannot be used.
    """
    from presspass.core.ledger.note import VerifierKey
    from presspass.services import witness as service

    known = [_log_of(path) for path in trust] + [VerifierKey.from_text(one) for one in logs]
    if not known:
        raise Refusal(
            Code.REQUEST_MALFORMED,
            "No ledger was named to be cosigned.",
            "Name a gate's trust root with --trust, or the verifier key of another log with --log.",
        )
    keys = {one.name: [key for key in known if key.name == one.name] for one in known}
    with (
        service.open_witness(home, name, keys) as witness,
        socket.create_server((host, port)) as listener,
    ):
        bound = listener.getsockname()[1]

        def ready() -> None:
            key = witness.key.to_text()
            if as_json:
                click.echo(json.dumps({"ready": True, "port": bound, "key": key}))
                return
            say(f"The witness {name} listens on {host}:{bound}. Ctrl-C ends it. Its key:")
            click.echo(key)

        service.serve(witness, listener, ready)


def _log_of(path: Path) -> VerifierKey:
    """The verifier key of a gate's ledger, from its trust root."""
    from presspass.core.ledger.checkpoint import log_key
    from presspass.core.statement import GenesisBody, Statement

    with path.open("rb") as file:
        log = Statement.from_bytes(file.read(STATEMENT_BYTES_MAX + 1)).body_as(GenesisBody).log
    return log_key(log.origin, log.public_key)
