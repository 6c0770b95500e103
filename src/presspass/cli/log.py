"""`log`: which key signs the ledger's checkpoints, and putting another in its place."""

from __future__ import annotations

from pathlib import Path

import click

from presspass.cli.asking import put_before_approvers, standing_of_home
from presspass.cli.bindings import chain_of, waiting
from presspass.cli.options import example, format_option, home_option
from presspass.cli.show import emit_json, grouped, note, safe, say
from presspass.core.digests import JsonObject
from presspass.core.ledger.checkpoint import log_key
from presspass.core.log import LogBody
from presspass.core.statement import Kind


@click.group("log", short_help="Which key signs the ledger.")
def log_command() -> None:
    """Which key signs the ledger's checkpoints. Another one takes the approval of two people.

    The first was made with the installation and is named in its genesis.
    """


@log_command.command("rotate", epilog=example("presspass log rotate --home /srv/presspass"))
@home_option
@format_option
def rotate_command(home: Path, as_json: bool) -> None:
    """Make another log key on this host, and put it before the approvers.

    As soon as they have let it in, checkpoints are signed by it, and the key before it is removed from this host. Give
    the verifier key that is printed to your witnesses before that: they cosign nothing by a key that they do not know.
    Asked for again before it was let in, another one is made, and the one before it can no longer be let in.

    Exit codes: 0 asked for; 1 refused; 4 the gate of this home is not running.
    """
    from presspass.cli.press_room import order

    standing, chain = standing_of_home(home), chain_of(home)
    made = order(home, {"do": "log-key"})
    body = LogBody(chain.log.origin, made["log_key"])
    statement = standing.statement(body, previous=chain.head(Kind.LOG))
    answer = put_before_approvers(home, statement)
    if as_json:
        emit_json({**answer, **_described(body)})
        return
    say(safe(answer["url"]))
    note(f"key {grouped(body.key)}")
    note("Approvers are shown this key; give it to them by another way. For witnesses:")
    note(_verifier_key(body))


@log_command.command("show", epilog=example("presspass log show --home /srv/presspass"))
@home_option
@format_option
def show_command(home: Path, as_json: bool) -> None:
    """Show the ledger's name and the key in force, as witnesses and auditors need them, and what waits for signatures.

    Exit codes: 0 shown; 1 not sealed yet; 4 the journal cannot be read.
    """
    chain = chain_of(home)
    if as_json:
        emit_json({**_described(chain.log), "rotations": len(chain.ever_in_force(Kind.LOG))})
        return
    say(_verifier_key(chain.log))
    since = "approved" if chain.logs else "from genesis"
    note(f"{safe(chain.log.origin)}, key {grouped(chain.log.key)}, {since}")
    for _name, digest in waiting(home, Kind.LOG):
        note(f"waits for signatures: request {digest}")


def _verifier_key(log: LogBody) -> str:
    return log_key(log.origin, log.public_key).to_text()


def _described(log: LogBody) -> JsonObject:
    return {"key": log.key, "origin": log.origin, "verifier_key": _verifier_key(log)}
