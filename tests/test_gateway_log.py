"""The ledger as the gateway serves it: whoever reads checkpoint, tiles and entries can check them, and keep them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from sqlalchemy.engine import Connection

from gateway_world import HttpAnswer, World, now_ms
from presspass.core.errors import Refusal
from presspass.core.ledger import revocations
from presspass.core.ledger.checkpoint import Checkpoint, log_key, open_note
from presspass.core.log import LogBody
from presspass.core.statement import GenesisBody
from presspass.press import journal
from presspass.press.clock import Clock
from presspass.press.heads import Heads
from presspass.press.log import Log
from presspass.store.journal_tables import PROOF
from presspass.verify.log_chain import LogChain

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
PUBLIC = KEY.public_key().public_bytes_raw()
ORIGIN = "localhost:8460/log"
LOG = Log(LogBody(ORIGIN, PUBLIC.hex()), lambda _key, message: KEY.sign(message))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, backend: str) -> Iterator[World]:
    with World(tmp_path_factory.mktemp("log") / f"home-{backend}") as running:
        running.journal.writer.before_commit = LOG.grow
        yield running


def check(public: bytes, signature: bytes, message: bytes) -> bool:
    Ed25519PublicKey.from_public_bytes(public).verify(signature, message)
    return True


def get(world: World, path: str) -> HttpAnswer:
    return world.ask("GET", f"/log/{path}")


def checkpoint(world: World) -> Checkpoint:
    return open_note(get(world, "checkpoint").body, PUBLIC, check).checkpoint


def grow(world: World, count: int) -> list[bytes]:
    """Adds entries; all that there are."""
    size = checkpoint(world).size if get(world, "checkpoint").status == 200 else 0
    added = [b'{"n":%d}' % n for n in range(size, size + count)]
    world.journal.writer.run(lambda c: LOG.extend(c, added))
    return [b'{"n":%d}' % n for n in range(size + count)]


def root_of(hashes: list[bytes]) -> bytes:
    """RFC 6962 section 2.1 from leaf hashes, without a line of the product."""
    if len(hashes) == 1:
        return hashes[0]
    split = 1 << (len(hashes) - 1).bit_length() - 1
    return hashlib.sha256(b"\x01" + root_of(hashes[:split]) + root_of(hashes[split:])).digest()


def leaf(entry: bytes) -> bytes:
    return hashlib.sha256(b"\x00" + entry).digest()


def unpacked(data: bytes) -> list[bytes]:
    found = []
    while data:
        end = 2 + int.from_bytes(data[:2], "big")
        found.append(data[2:end])
        data = data[end:]
    return found


def test_before_genesis_has_an_entry_there_is_no_checkpoint_and_afterwards_one(
    world: World,
) -> None:
    answer = get(world, "checkpoint")
    assert (answer.status, answer.code) == (404, "request.not-found")
    grow(world, 1)
    answer = get(world, "checkpoint")
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.headers["cache-control"] == "no-cache"
    assert checkpoint(world) == Checkpoint(ORIGIN, 1, leaf(b'{"n":0}'))


def test_the_newest_revocation_head_is_served_and_nothing_keeps_an_old_one(world: World) -> None:
    answer = get(world, "revocations")
    assert (answer.status, answer.code) == (404, "request.not-found")
    grow(world, 1)
    Heads(world.journal.writer, LOG, Clock()).look()
    answer = get(world, "revocations")
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.headers["cache-control"] == "no-cache"
    head = revocations.open_head(answer.body, log_key(ORIGIN, PUBLIC), check)
    assert (head.size, head.files) == (checkpoint(world).size, ())


def test_whoever_reads_everything_comes_to_the_signed_root(world: World) -> None:
    entries = grow(world, 700)
    now = checkpoint(world)
    assert now.size == len(entries)
    read: list[bytes] = []
    hashes: list[bytes] = []
    for index in range(-(-now.size // 256)):
        width = min(256, now.size - index * 256)
        name = f"{index:03d}" + ("" if width == 256 else f".p/{width}")
        answer = get(world, f"tile/entries/{name}")
        assert answer.headers["content-type"] == "application/octet-stream"
        assert "immutable" in answer.headers["cache-control"]
        read += unpacked(answer.body)
        tile = get(world, f"tile/0/{name}").body
        hashes += [tile[at : at + 32] for at in range(0, len(tile), 32)]
    assert read == entries
    assert hashes == [leaf(one) for one in entries]
    assert root_of(hashes) == now.root
    above = get(world, f"tile/1/000.p/{now.size // 256}").body
    assert above[:32] == root_of(hashes[:256])


def test_a_partial_tile_stays_what_it_was_when_the_log_has_grown(world: World) -> None:
    grow(world, 3)
    width = checkpoint(world).size % 256
    name = f"{checkpoint(world).size // 256:03d}.p/{width}"
    before = [get(world, f"tile/{level}/{name}").body for level in ("0", "entries")]
    grow(world, 2)
    assert [get(world, f"tile/{level}/{name}").body for level in ("0", "entries")] == before
    assert len(before[0]) == 32 * width


@pytest.mark.parametrize(
    "path",
    [
        "tile/0/999", "tile/9/000", "tile/0/000.p/300", "tile/0/0", "tile/entries/x000/001", "tile/0/..%2f000",
        "tile/0/000/", "tile/", "tile", "", "checkpoint/", "tile/0/000%00", "tile/64/000",
    ],
)  # fmt: skip
def test_what_the_log_does_not_have_is_not_found(world: World, path: str) -> None:
    assert get(world, path).status == 404


def test_nobody_writes_there(world: World) -> None:
    for path in ("checkpoint", "tile/0/000"):
        assert world.ask("POST", f"/log/{path}", b"").status == 405
        head = world.ask("HEAD", f"/log/{path}")
        assert (head.status, head.body) == (200, b"")


def test_the_proof_of_a_file_is_found_by_its_digest_and_is_the_newest(world: World) -> None:
    digest = hashlib.sha256(b"a published file").hexdigest()

    def keep(connection: Connection) -> None:
        rows = [
            {"statement": f"{n:064x}", "filename": "demo-1.0.tar.gz", "sha256": digest}
            | {"proof": b"proof %d" % n, "made_ms": n}
            for n in (2, 3, 1)
        ]
        connection.execute(PROOF.insert(), rows)

    world.journal.writer.run(keep)
    answer = get(world, f"proof/{digest}")
    assert (answer.status, answer.body) == (200, b"proof 3")
    assert answer.headers["cache-control"] == "no-cache"
    for wrong in ("0" * 64, digest.upper(), digest[:-1], "x", "%2e%2e", f"{digest}/"):
        assert get(world, f"proof/{wrong}").status == 404


def test_what_leads_to_the_key_is_served_as_it_stands_in_the_journal(world: World) -> None:
    answer = get(world, "keys")
    assert answer.status == 200 and answer.headers["cache-control"] == "no-cache"
    read = LogChain.from_bytes(answer.body)
    genesis = read.genesis
    assert read.chain == () and read.check(genesis.digest).log == genesis.body_as(GenesisBody).log
    body = LogBody(genesis.body_as(GenesisBody).log.origin, "ab" * 32)
    statement = world.journal.statement(body, genesis.digest)
    world.journal.writer.run(lambda c: journal.admit(c, statement, (), now_ms()))
    *_before, signed = LogChain.from_bytes(get(world, "keys").body).chain
    assert signed.statement == statement and signed.approvals == ()
    with pytest.raises(Refusal):
        LogChain.from_bytes(get(world, "keys").body).check(genesis.digest)
