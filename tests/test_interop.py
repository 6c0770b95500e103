"""Another implementation of the C2SP log formats agrees with this one, both ways. Run by `make interop`."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

import peers
from ledger_copy import Ledger
from presspass.core.ledger import merkle, note, tiles
from presspass.core.ledger.checkpoint import Checkpoint, log_key, open_note
from presspass.core.ledger.note import Note, VerifierKey
from presspass.core.ledger.tiles import ENTRIES, Tile
from presspass.verify.ed25519 import verifies
from proof_world import raw_hex

pytestmark = pytest.mark.long
SCRIPT = Path(__file__).with_name("interop_tlog.py")
WITNESS = Ed25519PrivateKey.from_private_bytes(bytes(range(2, 34)))
WITNESSED_AT = 1_800_000_123
#: Around the edges of tiles, and of the tree.
PLACES = (0, 1, 254, 255, 256, 257, 511, 512, 699)


def other(what: str, folder: Path) -> None:
    """Runs the other library; fails with what it says."""
    python = Path(os.environ.get("PRESSPASS_INTEROP", "")) / "bin" / "python"
    if not python.exists():
        peers.missing("the environment of the other library is not there; 'make interop' makes it")
    done = subprocess.run(
        [python, "-I", str(SCRIPT), what, str(folder)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_the_other_library_reads_what_is_written_here(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    ledger.refuse(700 - len(ledger.entries))
    ledger.lay_out()
    edge, nodes, roots = list[bytes](), dict[tuple[int, int], bytes](), [b""]
    for size, entry in enumerate(ledger.entries):
        for level, index, value in merkle.append(size, edge, merkle.leaf_hash(entry)):
            nodes[level, index] = value
        roots.append(merkle.edge_root(edge))

    def read(level: int, index: int) -> bytes:
        return nodes[level, index]

    signed = Note.from_bytes(ledger.get("checkpoint"))
    witness = VerifierKey("witness.example/one", 0x04, WITNESS.public_key().public_bytes_raw())
    line = note.cosign(signed.text, witness, WITNESSED_AT, WITNESS.sign)
    ledger.put("checkpoint", Note(signed.text, (*signed.signatures, line)).to_bytes())
    size = len(ledger.entries)
    said = {
        "log_key": log_key(ledger.origin, bytes.fromhex(raw_hex(ledger.paper.log_key))).to_text(),
        "witness_key": witness.to_text(),
        "witnessed_at": WITNESSED_AT,
        "entries": [entry.decode() for entry in ledger.entries],
        "inclusion": [
            {"index": n, "proof": [one.hex() for one in merkle.inclusion_proof(n, size, read)]}
            for n in PLACES
        ],
        "consistency": [
            {
                "old": n,
                "root": roots[n].hex(),
                "proof": [one.hex() for one in merkle.consistency_proof(n, size, read)],
            }
            for n in PLACES[1:]
        ],
    }
    (tmp_path / "proofs.json").write_text(json.dumps(said))
    other("check", tmp_path)


def test_what_the_other_library_writes_is_read_here(tmp_path: Path) -> None:
    other("write", tmp_path)
    said = json.loads((tmp_path / "said.json").read_text())
    log, witness = (VerifierKey.from_text(said[name]) for name in ("log_key", "witness_key"))
    data = (tmp_path / "log" / "checkpoint").read_bytes()
    opened = open_note(data, log.public_key, verifies, [witness])
    assert opened.witnesses == ((witness.name, said["witnessed_at"]),)
    head: Checkpoint = opened.checkpoint
    entries = [text.encode() for text in said["entries"]]
    assert (head.origin, head.size) == (log.name, len(entries))

    def file(level: int, index: int) -> bytes:
        width = min(256, (head.size >> 8 * max(level, 0)) - index * 256)
        return (tmp_path / "log" / Tile(level, index, width).path).read_bytes()

    read = tiles.node_reader(file)
    assert merkle.root(head.size, read) == head.root
    for start in range(0, head.size, 256):
        width = min(256, head.size - start)
        path = tmp_path / "log" / Tile(ENTRIES, start // 256, width).path
        assert tiles.entries_of(path.read_bytes(), width) == entries[start : start + width]
    for one in said["inclusion"]:
        proof = [bytes.fromhex(part) for part in one["proof"]]
        assert merkle.inclusion_proof(one["index"], head.size, read) == proof
        leaf = merkle.leaf_hash(entries[one["index"]])
        assert merkle.verify_inclusion(leaf, one["index"], head.size, proof, head.root)
    for one in said["consistency"]:
        proof, before = [bytes.fromhex(part) for part in one["proof"]], bytes.fromhex(one["root"])
        assert merkle.root(one["old"], read) == before
        assert merkle.consistency_proof(one["old"], head.size, read) == proof
        assert merkle.verify_consistency(one["old"], head.size, before, head.root, proof)
