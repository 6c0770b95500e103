"""A witness cosigns what extends the last checkpoint it has cosigned, and nothing else, whatever happens to it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from core_values import law
from presspass.core.ledger import merkle
from presspass.core.ledger.checkpoint import Checkpoint, log_key, sign
from presspass.core.ledger.note import Note
from presspass.core.ledger.witness import (
    NotCosignedError,
    Seen,
    Submission,
    judge,
    read_cosignature,
)
from presspass.verify.ed25519 import verifies
from witness_rig import NAME, Running

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
PUBLIC = KEY.public_key().public_bytes_raw()
ORIGIN = "gate.example/log"
LOG = log_key(ORIGIN, PUBLIC)


class Tree:
    """A log in memory: entries by number, or another history from `fork` on."""

    def __init__(self, fork: int = 10**9) -> None:
        self.nodes: dict[tuple[int, int], bytes] = {}
        edge: list[bytes] = []
        for n in range(40):
            entry = b"%d" % n if n < fork else b"other %d" % n
            for level, index, value in merkle.append(n, edge, merkle.leaf_hash(entry)):
                self.nodes[level, index] = value

    def read(self, level: int, index: int) -> bytes:
        return self.nodes[level, index]

    def note(self, size: int, key: Ed25519PrivateKey = KEY, origin: str = ORIGIN) -> bytes:
        return sign(Checkpoint(origin, size, merkle.root(size, self.read)), PUBLIC, key.sign)

    def submission(self, old: int, size: int) -> Submission:
        return Submission(
            old, tuple(merkle.consistency_proof(old, size, self.read)), self.note(size)
        )


HONEST, FORKED = Tree(), Tree(fork=5)


# --- the rules --------------------------------------------------------------------------------------------------------


def status(submission: Submission, seen: Seen) -> int:
    try:
        judge(submission, {ORIGIN: [LOG]}, lambda _origin: seen, verifies)
    except NotCosignedError as no:
        assert (no.size is None) == (no.status != 409)
        return no.status
    return 200


def seen_at(size: int, tree: Tree = HONEST) -> Seen:
    return Seen(size, merkle.root(size, tree.read))


@law
@given(st.integers(0, 40), st.integers(0, 40), st.integers(0, 40))
def test_what_extends_the_last_one_is_cosigned_and_what_does_not_is_refused_by_its_status(
    known: int, old: int, size: int
) -> None:
    if old > size:
        submission = Submission(old, (), HONEST.note(size))
        assert status(submission, seen_at(known)) == 400
        return
    answer = status(HONEST.submission(old, size), seen_at(known))
    assert answer == (200 if old == known else 409)


@law
@given(st.integers(6, 40), st.integers(6, 40))
def test_a_forked_log_is_never_cosigned(one: int, other: int) -> None:
    known, size = sorted((one, other))
    wanted = 409 if known == size else 422
    assert status(FORKED.submission(known, size), seen_at(known)) == wanted


@law
@given(st.integers(0, 40), st.integers(0, 40), st.data())
def test_a_submission_reads_as_it_was_written_and_no_cut_or_changed_one_is_cosigned(
    one: int, other: int, data: st.DataObject
) -> None:
    old, size = sorted((one, other))
    submission = HONEST.submission(old, size)
    body = submission.to_bytes()
    assert Submission.from_bytes(body) == submission
    place = data.draw(st.integers(0, len(body) - 1))
    changed = bytearray(body)
    changed[place] ^= 1 << data.draw(st.integers(0, 7))
    for wrong in (bytes(changed), body[:place]):
        try:
            assert status(Submission.from_bytes(wrong), seen_at(old)) != 200
        except NotCosignedError as no:
            assert no.status == 400


@pytest.mark.parametrize(
    "body",
    [
        b"", b"old 0", b"old 0\n", b"old 00\n\nx", b"old -1\n\nx", b"new 0\n\nx", b"old 0\nAAAA\n\nx",
        b"old 0\n" + b"A" * 43 + b"=\nold\n\nx", b"old 99999999999999999999\n\nx", b"old \xd9\xa0\n\nx",
        b"old 0\n" + (b"A" * 43 + b"=\n") * 64 + b"\nx",
    ],
)  # fmt: skip
def test_what_is_no_submission_is_a_bad_request(body: bytes) -> None:
    with pytest.raises(NotCosignedError) as no:
        Submission.from_bytes(body)
    assert no.value.status == 400


def test_an_unknown_log_is_not_found_and_a_foreign_signature_is_forbidden() -> None:
    other = Ed25519PrivateKey.generate()
    assert status(Submission(0, (), HONEST.note(3, other)), Seen()) == 403
    assert status(Submission(0, (), HONEST.note(3, origin="other.example/log")), Seen()) == 404
    unsigned = Note.from_bytes(HONEST.note(3))
    foreign = Note(
        unsigned.text, tuple(type(s)("x", s.key_id, s.blob) for s in unsigned.signatures)
    )
    assert status(Submission(0, (), foreign.to_bytes()), Seen()) == 403
    assert status(Submission(0, (), b"no note"), Seen()) == 400


# --- the service ------------------------------------------------------------------------------------------------------


@pytest.fixture
def witness(tmp_path: Path) -> Iterator[Running]:
    with Running(tmp_path / "w", LOG) as running:
        yield running


def test_a_log_is_cosigned_as_it_grows_and_the_cosignature_verifies(witness: Running) -> None:
    for old, size in ((0, 7), (7, 7), (7, 20)):
        code, kind, body = witness.submit(HONEST.submission(old, size))
        assert (code, kind) == (200, "text/plain; charset=utf-8"), body
        text = Note.from_bytes(HONEST.note(size)).text
        line, time_s = read_cosignature(body, text, witness.key, verifies)
        assert line.encode() == body and time_s > 1_700_000_000
    assert json.loads(witness.ask("GET", "/")[2]) == {
        "key": witness.key.to_text(),
        "logs": {ORIGIN: 20},
    }


def test_a_wrong_old_size_is_told_the_right_one(witness: Running) -> None:
    witness.submit(HONEST.submission(0, 7))
    assert witness.submit(HONEST.submission(0, 9)) == (409, "text/x.tlog.size", b"7\n")
    assert witness.submit(HONEST.submission(7, 9))[0] == 200


def test_a_fork_is_refused_also_after_the_witness_was_killed(tmp_path: Path) -> None:
    with Running(tmp_path / "w", LOG) as witness:
        assert witness.submit(HONEST.submission(0, 7))[0] == 200
        key = witness.key
        witness.end(signal.SIGKILL)
        with Running(tmp_path / "w", LOG) as again:
            assert again.key == key
            assert again.submit(FORKED.submission(7, 7))[0] == 409
            assert again.submit(FORKED.submission(7, 9))[0] == 422
            assert again.submit(FORKED.submission(0, 9))[0] == 409
            assert again.submit(HONEST.submission(7, 9))[0] == 200


def test_of_two_histories_that_come_at_once_one_is_cosigned(witness: Running) -> None:
    both = [HONEST.submission(0, 9), FORKED.submission(0, 9)] * 4
    with ThreadPoolExecutor(8) as pool:
        codes = list(pool.map(lambda one: witness.submit(one)[0], both))
    assert codes.count(200) == 1 and set(codes) == {200, 409}


def test_other_requests_are_refused_and_nothing_is_remembered(witness: Running) -> None:
    assert witness.ask("POST", "/add-checkpoint", b"x" * 100_000)[0] == 413
    assert witness.ask("POST", "/add-checkpoint", b"old 0\n\nx")[0] == 400
    assert witness.ask("GET", "/add-checkpoint")[0] == 405
    assert witness.ask("GET", "/elsewhere")[0] == 404
    assert json.loads(witness.ask("GET", "/")[2])["logs"] == {ORIGIN: 0}


@pytest.mark.parametrize("lost", ["witness.key", "witness.db", "witness.name"])
def test_a_witness_that_has_lost_a_part_does_not_begin_again(tmp_path: Path, lost: str) -> None:
    with Running(tmp_path / "w", LOG) as witness:
        witness.submit(HONEST.submission(0, 7))
    (tmp_path / "w" / lost).unlink()
    command = [sys.executable, "-m", "presspass.cli.main", "witness", "--home", str(tmp_path / "w")]
    command += ["--name", NAME, "--log", LOG.to_text(), "--port", "0"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 1
    assert "does not hold the whole of a witness" in done.stderr
