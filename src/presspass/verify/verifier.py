"""Many proofs under one trust root: what was admitted for one proof is not checked again for the next.

Proofs of one installation begin alike: genesis, then every statement since that leads to roster, policy and registry. A
verifier keeps the chains that it has itself admitted, each by the SHA-256 of the exact texts of its statements with the
signatures under them. On these, genesis and the rules, and on nothing else, depends whether a chain is admitted. A
proof whose chain begins with a kept one goes on from there; of every other chain all is checked. What was refused is
never kept, and release, entry, checkpoint and attestations are checked of each proof.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Sequence
from dataclasses import dataclass

from presspass.core.digests import JsonObject
from presspass.core.ledger.note import VerifierKey
from presspass.core.limits import CHAINS_KEPT_BYTES_MAX
from presspass.core.statement import GenesisBody, ReleaseFile, Statement
from presspass.verify.chain import Chain
from presspass.verify.proof import (
    Proof,
    SignedStatement,
    Valid,
    check_after,
    parse_proof,
    require_genesis,
)


class _Text:
    """The chain of a proof as it is written. `digest`: SHA-256 of all of its statements with their signatures; `size`:
    their bytes.
    """

    def __init__(self, proof: JsonObject) -> None:
        links = proof.get("chain")
        self._links = links if isinstance(links, list) else []  # else it is refused when it is read
        text = json.dumps(self._links)[1:-1].encode()
        self.digest = hashlib.sha256(text).digest()
        self.size = len(text)

    def beginnings(self) -> list[bytes]:
        """What `digest` is where the chain ends earlier: after one statement, after two, …"""
        digest, found = hashlib.sha256(), list[bytes]()
        for link in self._links[:-1]:
            digest.update(b", " * bool(found) + json.dumps(link).encode())
            found.append(digest.digest())
        return found


@dataclass(frozen=True, slots=True)
class _Kept:
    """A chain that was admitted: `after` is the state after all of `links`, and never moves."""

    links: tuple[SignedStatement, ...]
    after: Chain
    size: int


class Verifier:
    """Checks proofs of one installation, as `check_proof` does. Threads may share it."""

    def __init__(self, trust_root: bytes, witnesses: Sequence[VerifierKey] = ()) -> None:
        """`trust_root`: the content of the pinned trust-root.json, or a refusal; `witnesses`: those whose cosignatures
        mean something to whoever asks.
        """
        self._genesis = Statement.from_bytes(trust_root)
        self._genesis.body_as(GenesisBody)
        self._witnesses = tuple(witnesses)
        self._kept: dict[bytes, _Kept] = {}
        self._kept_bytes = 0
        self._lock = threading.Lock()

    def check(self, proof: bytes, *, filename: str, sha256: str, size: int) -> Valid:
        """What this proof file says of the file with this name, SHA-256 (hex) and size in bytes; refuses, with the
        reason, where it does not hold.
        """
        value = parse_proof(proof)
        text = _Text(value)
        kept = self._longest(text)
        read = Proof.from_json(value, self._genesis, kept.links if kept else ())
        require_genesis(read, self._genesis.digest)
        chain = self._admit(read, text, kept)
        return check_after(chain, read, ReleaseFile(filename, sha256, size), self._witnesses)

    def _longest(self, text: _Text) -> _Kept | None:
        """The longest kept beginning of the chain."""
        whole = self._find(text.digest)
        shorter = () if whole else map(self._find, reversed(text.beginnings()))
        return whole or next(filter(None, shorter), None)

    def _find(self, digest: bytes) -> _Kept | None:
        with self._lock:
            kept = self._kept.pop(digest, None)
            if kept is not None:
                self._kept[digest] = kept  # what was used last is the last to go
            return kept

    def _admit(self, proof: Proof, text: _Text, kept: _Kept | None) -> Chain:
        """The state after the proof's chain, each statement of which is admitted now or was before."""
        known = kept.links if kept else ()
        if kept and len(known) == len(proof.chain):
            return kept.after
        chain = Chain.after(proof.genesis, [one.statement for one in known])
        for signed in proof.chain[len(known) :]:
            chain.admit(signed.statement, signed.approvals)
        if proof.chain:
            self._keep(text.digest, _Kept(proof.chain, chain, text.size))
        return chain

    def _keep(self, digest: bytes, kept: _Kept) -> None:
        with self._lock:
            if digest not in self._kept and kept.size <= CHAINS_KEPT_BYTES_MAX:
                self._kept[digest] = kept
                self._kept_bytes += kept.size
            while self._kept_bytes > CHAINS_KEPT_BYTES_MAX:
                self._kept_bytes -= self._kept.pop(next(iter(self._kept))).size
