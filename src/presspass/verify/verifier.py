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
from typing import Final

from presspass.core.digests import JsonObject
from presspass.core.ledger.note import VerifierKey
from presspass.core.limits import CHAINS_KEPT_BYTES_MAX, PROOF_BYTES_MAX
from presspass.core.statement import GenesisBody, ReleaseFile, Statement
from presspass.verify.chain import Chain
from presspass.verify.proof import (
    Proof,
    SignedStatement,
    Valid,
    check_after,
    file_of,
    parse_proof,
    require_genesis,
)

#: How the chain of a proof begins and ends in its canonical form. In JSON a comma before a quotation mark that opens a
#: string stands between two members or items, so what begins like this is always a member, and never part of a text.
_BEGIN: Final = b',"chain":['
_END: Final = b'],"file":"'


class _Text:
    """The chain of a proof as it is written. `digest`: SHA-256 of all of its statements with their signatures; `size`:
    their bytes.
    """

    def __init__(self, proof: JsonObject) -> None:
        links = proof.get("chain")
        found = links if isinstance(links, list) else []  # else it is refused when it is read
        self._links = [_written(link) for link in found]
        text = b",".join(self._links)
        self.digest = hashlib.sha256(text).digest()
        self.size = len(text)

    def beginnings(self) -> list[bytes]:
        """What `digest` is where the chain ends earlier: after one statement, after two, …"""
        digest, found = hashlib.sha256(), list[bytes]()
        for link in self._links[:-1]:
            digest.update(b"," * bool(found) + link)
            found.append(digest.digest())
        return found


def _written(link: object) -> bytes:
    """As it stood in the canonical text that it was read from: members keep their order."""
    return json.dumps(link, ensure_ascii=False, separators=(",", ":")).encode()


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
        return self._check(proof, ReleaseFile(filename, sha256, size))

    def open(self, proof: bytes) -> Valid:
        """The same where the file is not here: it is the one that `Valid.file` names."""
        return self._check(proof, None)

    def _check(self, proof: bytes, file: ReleaseFile | None) -> Valid:
        read, chain = self._read(proof)
        return check_after(chain, read, file or file_of(read), self._witnesses)

    def _read(self, proof: bytes) -> tuple[Proof, Chain]:
        """The proof, and the state after its chain, all of which is admitted."""
        without = self._without_kept(proof)
        if without is not None:
            value, kept = without
            read = Proof.from_json(value, self._genesis, kept.links)
            require_genesis(read, self._genesis.digest)
            return read, kept.after
        value = parse_proof(proof)
        text = _Text(value)
        begun = self._longest(text)
        read = Proof.from_json(value, self._genesis, begun.links if begun else ())
        require_genesis(read, self._genesis.digest)
        return read, self._admit(read, text, begun)

    def _without_kept(self, proof: bytes) -> tuple[JsonObject, _Kept] | None:
        """A proof without its chain, and that chain, where it is wholly kept: it need not be read again.

        The text of an array can be replaced by that of another, here of an empty one, and JSON stays JSON, canonical
        JSON canonical. `_BEGIN` stands once in the rest, so it is that of the proof's own member.
        """
        begin = proof.find(_BEGIN) + len(_BEGIN)
        end = proof.find(_END, begin)
        if len(proof) > PROOF_BYTES_MAX or begin < len(_BEGIN) or end < 0:
            return None
        kept = self._find(hashlib.sha256(proof[begin:end]).digest())
        rest = proof[:begin] + proof[end:]
        if kept is None or rest.count(_BEGIN) != 1:
            return None
        value = parse_proof(rest)
        return (value, kept) if value.get("chain") == [] else None

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
