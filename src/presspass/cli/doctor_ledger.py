"""What `doctor` finds of the ledger: whether its tree is that of its entries, who signed it, and who has cosigned."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from sqlalchemy.engine import Connection

from presspass.cli.checks import BAD, OK, WARN, Line
from presspass.cli.databases import ask_journal
from presspass.core.errors import Fault, Refusal
from presspass.core.ledger.note import VerifierKey
from presspass.services.config import Config
from presspass.store import journal_view, ledger_view
from presspass.store.ledger_check import check
from presspass.verify.chain import Chain
from presspass.verify.proof import open_checkpoint


def ledger(home: Path, config: Config) -> Iterator[Line]:
    """Of a sealed gate: the whole tree is computed from the entries again, as the press does when it starts."""
    try:
        size, note, cosigned = ask_journal(home, _look)
        yield Line(OK, "ledger", f"{size} entries, and the tree and checkpoint that they come to")
        chain = ask_journal(home, lambda c: Chain.of(journal_view.chained(c)))
        if chain is not None:
            opened = open_checkpoint(note, chain.log)
            found = f"{opened.checkpoint.origin}, signed by {chain.log.key[:16]}…, the key in force"
            yield Line(OK, "log key", found)
    except Fault as fault:
        fix = "" if fault.retryable else "Stop the gate; see docs/operating.md, restoring a backup."
        yield Line(WARN if fault.retryable else BAD, "ledger", fault.message, fix)
        return
    except Refusal as refusal:
        yield Line(BAD, "log key", refusal.message, "Stop the gate; see docs/log-key.md.")
        return
    for name in (VerifierKey.from_text(one.key).name for one in config.witnesses):
        yield _witness(name, cosigned.get(name, 0), size)
    if not config.witnesses:
        fix = "presspass witness, run by somebody else; see docs/witness.md."
        yield Line(WARN, "witnesses", "none: whoever holds the press can show two ledgers", fix)


def _look(connection: Connection) -> tuple[int, bytes, dict[str, int]]:
    """Entries, the log's own checkpoint, and how many entries each witness has cosigned."""
    cosigned = {name: size for name, (size, _) in ledger_view.cosigned(connection).items()}
    return check(connection), ledger_view.head(connection).note, cosigned


def _witness(name: str, cosigned: int, size: int) -> Line:
    if cosigned == size:
        return Line(OK, f"witness {name}", f"has cosigned all {size} entries")
    fix = "Look whether it runs and knows the log's key: presspass log show."
    return Line(WARN, f"witness {name}", f"has cosigned {cosigned} of {size} entries", fix)
