"""The ledger to be read by anybody: checkpoint, tiles and bundles of entries (C2SP tlog-tiles), and the proof of each
published file, out of the journal.

Tiles and bundles never change: whatever stands before the gate may keep them, and a static host can carry a copy. The
gateway only hands on what the press has signed; whoever reads checks it.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy.engine import Connection
from starlette.requests import Request as HttpRequest
from starlette.routing import Route

from presspass.core.digests import is_sha256
from presspass.core.errors import Code, Refusal
from presspass.core.ledger.tiles import Tile
from presspass.gateway.api import route
from presspass.gateway.gate import Gate
from presspass.gateway.problems import Answer
from presspass.store import journal_view, ledger_view
from presspass.store.journal_view import proof_of_file
from presspass.verify.log_chain import LogChain, leading_to_log
from presspass.verify.proof import SignedStatement

#: "SHOULD prevent caching beyond a few seconds", and "SHOULD be long-lived".
_MUTABLE: Final = (("cache-control", "no-cache"),)
_IMMUTABLE: Final = (("cache-control", "public, max-age=31536000, immutable"),)


class LogFiles:
    """The handlers over one gate."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate

    def routes(self) -> list[Route]:
        """Every address of the ledger, below its name in checkpoints (`core.log.log_origin`)."""
        return [
            route("/log/checkpoint", "GET", self.checkpoint),
            route("/log/keys", "GET", self.keys),
            route("/log/revocations", "GET", self.revocations),
            route("/log/tile/{rest:path}", "GET", self.tile),
            route("/log/proof/{sha256}", "GET", self.proof),
        ]

    def checkpoint(self, _request: HttpRequest, _body: bytes) -> Answer:
        """GET /log/checkpoint"""
        note = self._gate.journal.read(ledger_view.checkpoint)
        if not note:
            raise Refusal(Code.REQUEST_NOT_FOUND, "The ledger begins with genesis.")
        return Answer(200, note, "text/plain; charset=utf-8", headers=_MUTABLE)

    def keys(self, _request: HttpRequest, _body: bytes) -> Answer:
        """GET /log/keys: by which statements the key of the checkpoint is in force."""
        chain = self._gate.journal.read(_log_chain)
        if chain is None:
            raise Refusal(Code.REQUEST_NOT_FOUND, "The ledger begins with genesis.")
        return Answer(200, chain.to_bytes(), headers=_MUTABLE)

    def revocations(self, _request: HttpRequest, _body: bytes) -> Answer:
        """GET /log/revocations: the newest revocation head."""
        note = self._gate.journal.read(ledger_view.revocation_note)
        if not note:
            raise Refusal(
                Code.REQUEST_NOT_FOUND, "The press signs the first revocation head after genesis."
            )
        return Answer(200, note, "text/plain; charset=utf-8", headers=_MUTABLE)

    def proof(self, request: HttpRequest, _body: bytes) -> Answer:
        """GET /log/proof/<SHA-256 of a published file, hex>. It is renewed when more witnesses have cosigned."""
        sha256 = request.path_params["sha256"]
        known = is_sha256(sha256)
        data = self._gate.journal.read(lambda c: proof_of_file(c, sha256)) if known else None
        if data is None:
            raise Refusal(
                Code.REQUEST_NOT_FOUND,
                "This gate has no proof of such a file.",
                "The address ends in the SHA-256 of the file, 64 hex digits in small letters.",
            )
        return Answer(200, data, headers=_MUTABLE)

    def tile(self, request: HttpRequest, _body: bytes) -> Answer:
        """GET /log/tile/<level or "entries">/<index>[.p/<width>]"""
        tile = Tile.from_path(f"tile/{request.path_params['rest']}")
        journal = self._gate.journal
        data = journal.read(lambda c: ledger_view.served(c, tile)) if tile else None
        if data is None:
            raise Refusal(
                Code.REQUEST_NOT_FOUND,
                "The ledger has no such tile, or not yet.",
                "/log/checkpoint says how large it is.",
            )
        return Answer(200, data, "application/octet-stream", headers=_IMMUTABLE)


def _log_chain(connection: Connection) -> LogChain | None:
    """The press's own record; None before genesis."""
    genesis = journal_view.genesis(connection)
    if genesis is None or journal_view.log(connection) is None:
        return None if genesis is None else LogChain(genesis)
    chain = leading_to_log(journal_view.chained(connection)[1:])
    approvals = (journal_view.approvals_under(connection, one.digest) for one in chain)
    return LogChain(genesis, tuple(map(SignedStatement, chain, approvals)))
