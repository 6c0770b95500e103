"""The ledger as anybody reads it: files over HTTP, hashed up to the signed checkpoint, every entry read strictly."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
from sqlalchemy.engine import Connection

from presspass.core.digests import JsonObject
from presspass.core.ledger.tiles import Tile
from presspass.core.statement import GenesisBody, Statement
from presspass.drill.peers import wait_until
from presspass.store import journal_view, ledger_view
from presspass.verify.entries import read_entry
from presspass.verify.ledger import Account, Fetch, Seen, check_root, read_on

WAIT_S = 60.0


def over_http(origin: str, trust_root: Path, ca: Path | None = None) -> list[JsonObject]:
    """Every entry of the log that this gate serves; nothing in it may be a finding of an auditor."""
    trust = str(ca) if ca is not None else True
    with httpx2.Client(base_url=f"{origin}/log/", verify=trust, trust_env=False) as client:

        def fetch(path: str) -> bytes | None:
            answer = client.get(path)
            return answer.content if answer.status_code == 200 else None

        return read_checked(fetch, Statement.from_bytes(trust_root.read_bytes()))


def read_checked(fetch: Fetch, genesis: Statement) -> list[JsonObject]:
    """Every entry of the log whose files `fetch` gets, by an audit without findings."""
    note = fetch("checkpoint")
    assert note is not None
    seen, taken = Seen.open(note, genesis.body_as(GenesisBody).log), _Taken()
    for _ in read_on(fetch, taken, seen.checkpoint.size, genesis):
        pass
    check_root(fetch, taken, seen.checkpoint, seen.checkpoint, ())
    assert taken.findings == []
    return taken.entries


def audited(connection: Connection) -> list[JsonObject]:
    """As `over_http`, from the files as the journal has them to serve."""
    genesis = journal_view.genesis(connection)
    assert genesis is not None

    def fetch(path: str) -> bytes | None:
        if path == "checkpoint":
            return ledger_view.checkpoint(connection)
        tile = Tile.from_path(path)
        return ledger_view.served(connection, tile) if tile is not None else None

    return read_checked(fetch, genesis)


class _Taken(Account):
    """An account that keeps what it has read."""

    entries: list[JsonObject]

    def __init__(self) -> None:
        super().__init__()
        self.entries = []

    def take(self, data: bytes, genesis: Statement) -> None:
        super().take(data, genesis)
        self.entries.append(json.loads(data))


def in_journal(connection: Connection) -> list[JsonObject]:
    """Every entry in the press's journal."""
    genesis = journal_view.genesis(connection)
    assert genesis is not None
    found = list(ledger_view.entries(connection))
    assert all(read_entry(one, genesis.space).known for one in found)
    return [json.loads(one) for one in found]


def entered(entries: list[JsonObject], kind: str, **members: Any) -> list[JsonObject]:
    """Those of a kind that have these members."""
    wanted = {"kind": kind, **members}
    return [one for one in entries if wanted.items() <= one.items()]


def until_entered(
    read: Callable[[], list[JsonObject]], kind: str, times: int = 1, **members: Any
) -> None:
    """Waits until an entry of this kind with these members stands in the ledger, so many times at least."""
    wait_until(
        lambda: len(entered(read(), kind, **members)) >= times,
        f"{kind} {members} is in the ledger",
        WAIT_S,
    )
