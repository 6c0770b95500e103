"""The other side of `test_interop`: aics-tlog in an environment of its own, which knows nothing of this project.

`python interop_tlog.py check FOLDER`: the log in FOLDER, and FOLDER/proofs.json, as this library sees them.
`python interop_tlog.py write FOLDER`: a log of this library's making, with what it says of it in FOLDER/said.json.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import aics_tlog as tlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

SIZE, OLD = 700, 260


def check(folder: Path) -> None:
    said = json.loads((folder / "proofs.json").read_text())
    note = tlog.parse_note((folder / "log" / "checkpoint").read_bytes())
    result = tlog.verify_checkpoint(
        note, tlog.parse_vkey(said["log_key"]), [tlog.parse_vkey(said["witness_key"])], quorum=1
    )
    assert result.ok, result.error
    assert list(result.timestamps.values()) == [said["witnessed_at"]]
    size, root = result.size, result.root
    reader = tlog.FileSystemTileReader(folder / "log")
    assert tlog.tree_root_from_tiles(reader, size) == root
    for index, text in enumerate(said["entries"]):
        assert tlog.read_entry(reader, index, size) == text.encode()
    for one in said["inclusion"]:
        index, proof = one["index"], [bytes.fromhex(part) for part in one["proof"]]
        assert tlog.inclusion_proof_from_tiles(reader, index, size) == proof
        entry = said["entries"][index].encode()
        assert tlog.verify_leaf_inclusion(entry, index, size, proof, root)
    for one in said["consistency"]:
        old, proof = one["old"], [bytes.fromhex(part) for part in one["proof"]]
        assert tlog.consistency_proof_from_tiles(reader, old, size) == proof
        before = bytes.fromhex(one["root"])
        assert tlog.verify_consistency(old, size, before, root, proof)
        assert not tlog.verify_consistency(old, size, root, root, proof)


def write(folder: Path) -> None:
    log, witness = (Ed25519PrivateKey.from_private_bytes(bytes([n]) * 32) for n in (1, 2))
    origin, name, at = "log.example/other", "witness.example/one", 1_800_000_000
    entries = [b"entry %d of another library" % n for n in range(SIZE)]
    tree = tlog.MerkleTree(entries)
    tlog.TileWriter(entries).write_to(folder / "log")
    note = tlog.sign_checkpoint(tlog.Checkpoint(origin, SIZE, tree.root()), log, origin)
    _, line = tlog.sign_cosignature(witness, name, at, origin, SIZE, tree.root())
    whole = tlog.Note(text=note.text, signatures=(*note.signatures, line))
    (folder / "log" / "checkpoint").write_bytes(whole.to_bytes())
    said = {
        "log_key": tlog.format_vkey(tlog.vkey_from_ed25519(origin, log.public_key())),
        "witness_key": tlog.format_vkey(tlog.cosignature_vkey(name, witness.public_key())),
        "witnessed_at": at,
        "entries": [entry.decode() for entry in entries],
        "inclusion": [
            {"index": n, "proof": [part.hex() for part in tree.inclusion_proof(n)]}
            for n in (0, 1, 255, 256, 511, 699)
        ],
        "consistency": [
            {
                "old": n,
                "root": tree.root(n).hex(),
                "proof": [part.hex() for part in tree.consistency_proof(n, SIZE)],
            }
            for n in (1, 255, 256, OLD, 512, 699)
        ],
    }
    (folder / "said.json").write_text(json.dumps(said))


if __name__ == "__main__":
    {"check": check, "write": write}[sys.argv[1]](Path(sys.argv[2]))
