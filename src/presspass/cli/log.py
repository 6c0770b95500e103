"""`log`: which key signs the ledger's checkpoints, putting another in its place, and going on after a loss."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from presspass.cli.asking import put_before_approvers, standing_of_home
from presspass.cli.bindings import chain_of, waiting
from presspass.cli.options import example, format_option, home_option
from presspass.cli.show import emit_json, grouped, note, safe, say
from presspass.core.digests import JsonObject
from presspass.core.errors import Code, Refusal
from presspass.core.ledger.checkpoint import log_key
from presspass.core.limits import NOTE_BYTES_MAX
from presspass.core.log import LogBody, LogRecovery
from presspass.core.statement import Kind
from presspass.verify.proof import open_checkpoint

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

_RESTORE: Final = b'"source":"restore"'  # in the entry with which a restored press begins; in texts quotes are escaped


@click.group("log", short_help="Which key signs the ledger; recovery of a ledger.")
def log_command() -> None:
    """Which key signs the ledger's checkpoints. Another one takes the approval of two people, and so does going on
    with a ledger that has lost entries which others have seen.

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


@log_command.command(
    "recover",
    epilog=example(
        'presspass log recover --reason "the disk was lost" --seen evidence.note --home /srv/presspass'
    ),
)
@click.option("--reason", required=True, help="Why entries are given up. Everybody reads it.")
@click.option(
    "--seen",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="The largest checkpoint that anybody has, as an auditor keeps it or a copy of the ledger serves it.",
)
@click.option(
    "--kept",
    type=click.IntRange(1),
    metavar="SIZE",
    help="How many of its entries are those that others have seen (default: those that a witness has cosigned, or from "
    "before it was restored; else all).",
)
@home_option
@format_option
def recover_command(
    reason: str, seen: Path | None, kept: int | None, home: Path, as_json: bool
) -> None:
    """Ask to go on with the ledger that is left, under its next name.

    For a ledger that was set back or forked: others have seen entries that it does not have. Look for a newer backup
    first; what is given up here is lost. Until it is approved nothing is published. Witnesses need the verifier key
    that is printed, and auditors tell everybody what is gone.

    Exit codes: 0 asked for; 1 refused; 4 the gate of this home is not running, or the journal cannot be read.
    """
    from presspass.cli.databases import ask_journal

    standing, chain = standing_of_home(home), chain_of(home)
    size, root, known = ask_journal(home, lambda c: _tree(c, kept))
    seen_size, seen_root = known, ""
    if seen is not None:
        with seen.open("rb") as file:
            shown = open_checkpoint(file.read(NOTE_BYTES_MAX + 1), chain.log).checkpoint
        if shown.size >= seen_size:
            seen_size, seen_root = shown.size, shown.root.hex()
    if not seen_size:
        raise Refusal(
            Code.LOG_UNUSABLE,
            "Nobody is known to have seen more than this ledger has.",
            "If somebody has, hand in that checkpoint with --seen; else nothing is to recover.",
        )
    recovery = LogRecovery(size, root, seen_size, seen_root, reason)
    body = LogBody(chain.next_log_origin, chain.log.key, recovery)
    statement = standing.statement(body, previous=chain.head(Kind.LOG))
    answer = put_before_approvers(home, statement)
    if as_json:
        emit_json({**answer, **_described(body), "recovery": recovery.to_json()})
        return
    say(safe(answer["url"]))
    note(
        f"{size} entries are kept, of {seen_size} that were seen. For witnesses, once it is approved:"
    )
    note(_verifier_key(body))


def _tree(connection: Connection, kept: int | None) -> tuple[int, str, int]:
    """Size and root (hex) of what the ledger here begins with, and how large a tree a witness has seen, 0 for none."""
    from presspass.core.ledger import merkle
    from presspass.store import journal_view, ledger_view

    whole = ledger_view.size(connection)
    shared = [size for size, _note in ledger_view.cosigned(connection).values()]
    shared += [n for n, one in enumerate(ledger_view.entries(connection)) if _RESTORE in one]
    size = kept or max(shared, default=whole)
    if size > whole:
        raise Refusal(Code.LOG_UNUSABLE, f"The ledger here has {whole} entries, not {size}.")
    known = int(journal_view.fact(connection, journal_view.LEDGER_SEEN) or 0)
    root = merkle.root(size, ledger_view.node_reader(connection))
    return size, root.hex(), known


def _verifier_key(log: LogBody) -> str:
    return log_key(log.origin, log.public_key).to_text()


def _described(log: LogBody) -> JsonObject:
    return {"key": log.key, "origin": log.origin, "verifier_key": _verifier_key(log)}
