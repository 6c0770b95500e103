"""A revocation head is read in one spelling, from its log alone; what it lists is refused, and no old one is young."""

from __future__ import annotations

import base64
import json
import time
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from core_values import digests, law
from presspass.cli import exits
from presspass.cli.main import run
from presspass.core.digests import sha256_hex
from presspass.core.errors import Code, Refusal
from presspass.core.ledger import revocations
from presspass.core.ledger.checkpoint import Checkpoint, log_key, open_note
from presspass.core.ledger.checkpoint import sign as sign_checkpoint
from presspass.core.ledger.note import Note
from presspass.core.ledger.revocations import HEAD_BYTES_MAX, RevocationHead
from presspass.core.limits import CLOCK_SKEW_S_MAX, REVOKED_FILES_MAX
from presspass.core.log import LogBody
from presspass.core.statement import GenesisBody
from presspass.verify.ed25519 import verifies
from presspass.verify.log_chain import LogChain
from presspass.verify.proof import Valid, check_proof
from presspass.verify.revocations import check_not_revoked, open_head
from proof_world import FILE, NOW, Paper, raw_hex

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
PUBLIC = KEY.public_key().public_bytes_raw()
LOG = log_key("gate.example/log", PUBLIC)
ONE, TWO = "1" * 64, "2" * 64
HEAD = RevocationHead(LOG.name, 7, NOW, (ONE, TWO))
HOUR_S = 3600


def signed(head: RevocationHead, key: Ed25519PrivateKey = KEY) -> bytes:
    return revocations.sign(head, key.public_key().public_bytes_raw(), key.sign)


def opened(data: bytes) -> RevocationHead:
    return revocations.open_head(data, LOG, verifies)


def test_a_head_is_these_bytes() -> None:
    text = f"gate.example/log/revocations\n7\n{NOW}\n{ONE}\n{TWO}\n"
    id = bytes.fromhex(sha256_hex(b"gate.example/log/revocations\n\x01" + PUBLIC))[:4]
    line = base64.b64encode(id + KEY.sign(text.encode())).decode()
    assert signed(HEAD) == f"{text}\n\u2014 gate.example/log/revocations {line}\n".encode()


def test_the_documented_example_is_that_head() -> None:
    page = Path(__file__).resolve().parent.parent / "docs" / "reference" / "revocation-head.md"
    shown = page.read_text().partition("## Example")[2]
    assert PUBLIC.hex() in shown
    assert shown.split("```\n")[1].encode() == signed(HEAD)


@law
@given(
    st.integers(0, 2**62), st.integers(0, 2**62), st.sets(digests, max_size=5).map(sorted), digests
)
def test_what_is_signed_is_what_is_read(
    size: int, time_s: int, files: list[str], other: str
) -> None:
    head = RevocationHead(LOG.name, size, time_s, tuple(files))
    assert opened(signed(head)) == head
    assert all(map(head.revokes, files))
    assert head.revokes(other) == (other in files)


def test_no_changed_bit_leaves_a_head_that_says_anything() -> None:
    data = signed(HEAD)
    assert opened(data) == HEAD
    survivors = []
    for bit in range(8 * len(data)):
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        try:
            opened(bytes(changed))
        except Refusal:
            continue
        survivors.append(bit)
    assert survivors == []


def test_a_head_that_is_cut_off_says_nothing() -> None:
    data = signed(HEAD)
    for length in range(len(data)):
        with pytest.raises(Refusal):
            opened(data[:length])


@pytest.mark.parametrize(
    "lines",
    [
        [], ["7"], ["7", "8", ""], ["07", "8"], ["7", "+8"], ["-7", "8"], ["7", "8", ONE, ONE], ["7", "8", TWO, ONE],
        ["7", "8", "A" * 64], ["7", "8", "1" * 63], ["7", "8", ONE + " "], ["7 ", "8"], ["7", "9" * 20],
        ["7", "8", "", ONE],
    ],
)  # fmt: skip
def test_one_spelling_is_read(lines: list[str]) -> None:
    """Also where the log's own key has signed another."""
    text = "".join(f"{line}\n" for line in (f"{LOG.name}/revocations", *lines))
    with pytest.raises(Refusal) as refusal:
        RevocationHead.from_text(text)
    assert refusal.value.code is Code.PROOF_INVALID


def test_a_head_has_its_bounds() -> None:
    digests = tuple(f"{n:064x}" for n in range(REVOKED_FILES_MAX + 1))
    most = RevocationHead(LOG.name, 7, NOW, digests[:-1])
    assert opened(signed(most)) == most
    with pytest.raises(Refusal, match="at most"):
        opened(signed(RevocationHead(LOG.name, 7, NOW, digests)))
    with pytest.raises(Refusal, match="bytes"):
        opened(b"x" * (HEAD_BYTES_MAX + 1))


def test_neither_another_key_nor_another_log_nor_a_checkpoint_is_taken() -> None:
    other = Ed25519PrivateKey.from_private_bytes(bytes(range(1, 33)))
    with pytest.raises(Refusal, match="no valid signature"):
        opened(signed(HEAD, other))
    with pytest.raises(Refusal, match="another log"):
        opened(signed(RevocationHead("other.example/log", 7, NOW, ())))
    checkpoint = Checkpoint(LOG.name, 7, bytes(32), ("extension",))
    with pytest.raises(Refusal, match="no revocation head"):
        opened(sign_checkpoint(checkpoint, PUBLIC, KEY.sign))
    with pytest.raises(Refusal):
        open_note(signed(HEAD), PUBLIC, verifies)
    named_so = Checkpoint(f"{LOG.name}/revocations", 7, bytes(32))
    with pytest.raises(Refusal):
        opened(sign_checkpoint(named_so, PUBLIC, KEY.sign))


# beside a proof


def valid(paper: Paper) -> Valid:
    paper.add_upstream()
    statement = paper.release()
    proof = paper.proof(statement, paper.approve(statement, "ana", "ben"))
    return check_proof(
        proof,
        filename=FILE.name,
        sha256=FILE.sha256,
        size=FILE.size,
        trust_root=paper.genesis.digest,
    )


def head_of(
    paper: Paper,
    *files: str,
    size: int = 5,
    time_s: int = NOW,
    key: Ed25519PrivateKey | None = None,
) -> bytes:
    origin = paper.chain.log.origin
    return signed(RevocationHead(origin, size, time_s, tuple(sorted(files))), key or paper.log_key)


def verdict(
    checked: Valid,
    data: bytes,
    max_age_s: int | None = HOUR_S,
    now_s: int = NOW,
    log_chain: LogChain | None = None,
) -> Code | None:
    try:
        head = open_head(data, checked, log_chain)
        check_not_revoked(head, checked, max_age_s=max_age_s, now_s=now_s)
    except Refusal as refusal:
        return refusal.code
    return None


def test_a_young_head_that_does_not_list_the_file_lets_it_stand() -> None:
    paper = Paper()
    assert verdict(valid(paper), head_of(paper, ONE)) is None


def test_a_head_that_lists_the_file_refuses_it_however_old_and_small_it_is() -> None:
    paper = Paper()
    checked = valid(paper)
    for data in (head_of(paper, FILE.sha256), head_of(paper, ONE, FILE.sha256, size=1, time_s=0)):
        assert verdict(checked, data) is Code.RELEASE_REVOKED
        assert verdict(checked, data, max_age_s=None) is Code.RELEASE_REVOKED


def test_age_and_size_count_where_they_were_asked_for_and_the_bounds_are_exact() -> None:
    paper, unknown = Paper(), Code.PROOF_REVOCATION_UNKNOWN
    checked = valid(paper)
    assert checked.checkpoint.size == 5
    assert verdict(checked, head_of(paper), now_s=NOW + HOUR_S) is None
    assert verdict(checked, head_of(paper), now_s=NOW + HOUR_S + 1) is unknown
    assert verdict(checked, head_of(paper), now_s=NOW - CLOCK_SKEW_S_MAX) is None
    assert verdict(checked, head_of(paper), now_s=NOW - CLOCK_SKEW_S_MAX - 1) is unknown
    assert verdict(checked, head_of(paper, size=4)) is unknown
    assert verdict(checked, head_of(paper, size=4), max_age_s=None, now_s=0) is None


def test_a_head_of_another_key_says_nothing_not_even_that_the_file_is_revoked() -> None:
    paper = Paper()
    other = Ed25519PrivateKey.from_private_bytes(bytes(range(2, 34)))
    data = head_of(paper, FILE.sha256, key=other)
    assert raw_hex(other) != raw_hex(paper.log_key)
    assert verdict(valid(paper), data, max_age_s=None) is Code.PROOF_REVOCATION_UNKNOWN


def rotated(paper: Paper) -> tuple[Ed25519PrivateKey, bytes]:
    """Another key is let in; the one before, and what a gate serves at /log/keys."""
    old, paper.log_key = paper.log_key, Ed25519PrivateKey.from_private_bytes(bytes(range(3, 35)))
    paper.admit(LogBody(paper.chain.log.origin, raw_hex(paper.log_key)), "ana", "ben")
    return old, LogChain(paper.genesis, tuple(paper.links)).to_bytes()


def test_after_a_rotation_the_keys_of_the_log_lead_an_old_proof_to_the_new_head_alone() -> None:
    paper, unknown = Paper(), Code.PROOF_REVOCATION_UNKNOWN
    checked = valid(paper)
    old, keys = rotated(paper)
    chain, new = LogChain.from_bytes(keys), head_of(paper, FILE.sha256)
    assert verdict(checked, new) is unknown, "nothing leads there"
    assert verdict(checked, new, log_chain=chain) is Code.RELEASE_REVOKED
    assert verdict(checked, head_of(paper), log_chain=chain) is None
    forged = head_of(paper, key=old)
    assert verdict(checked, forged) is None, "by the key that leaked; offline nobody can tell"
    assert verdict(checked, forged, log_chain=chain) is unknown
    unsigned = replace(chain, chain=tuple(replace(one, approvals=()) for one in chain.chain))
    for wrong in (unsigned, LogChain(Paper().genesis)):
        assert verdict(checked, new, log_chain=wrong) is unknown


def test_keys_that_are_older_than_the_proof_lead_nowhere() -> None:
    paper = Paper()
    before = LogChain(paper.genesis)
    rotated(paper)
    assert verdict(valid(paper), head_of(paper)) is None
    assert verdict(valid(paper), head_of(paper), log_chain=before) is Code.PROOF_REVOCATION_UNKNOWN


# by the command


def test_the_command_takes_the_keys_of_the_log(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paper, path, keys = Paper(), tmp_path / "revocations", tmp_path / "keys"
    words = [*lay_out(tmp_path, paper), "--revocations", str(path), "--max-age", "15m"]
    keys.write_bytes(rotated(paper)[1])
    path.write_bytes(head_of(paper, time_s=int(time.time())))
    assert run(words) == exits.CANNOT_SAY
    assert (
        f"curl -o keys {paper.genesis.body_as(GenesisBody).origin}/log/keys"
        in capsys.readouterr().err
    )
    assert run([*words, "--log-keys", str(keys)]) == exits.DONE
    for wrong in (b"", b"{}"):
        keys.write_bytes(wrong)
        assert run([*words, "--log-keys", str(keys)]) == exits.CANNOT_SAY


def lay_out(folder: Path, paper: Paper) -> list[str]:
    paper.add_upstream()
    statement = paper.release()
    file = folder / FILE.name
    file.write_bytes(b"the wheel")
    proof = paper.proof(statement, paper.approve(statement, "ana", "ben"))
    Path(f"{file}.presspass.json").write_bytes(proof.to_bytes())
    trust = folder / "trust-root.json"
    trust.write_bytes(paper.genesis.to_bytes())
    return ["verify", str(file), "--trust", str(trust)]


def test_the_command_says_what_it_has_looked_at(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paper, path, now = Paper(), tmp_path / "revocations", int(time.time())
    words = lay_out(tmp_path, paper)
    assert run([*words, "--format", "json"]) == exits.DONE
    assert json.loads(capsys.readouterr().out)["revocations"] == {"checked": False}
    path.write_bytes(head_of(paper, time_s=now))
    asked = [*words, "--revocations", str(path)]
    assert run([*asked, "--max-age", "24h", "--format", "json"]) == exits.DONE
    told = json.loads(capsys.readouterr().out)["revocations"]
    assert told == {"checked": True, "at": now, "size": 5}
    assert run(asked) == exits.DONE
    assert "revocations  not among them at" in capsys.readouterr().out


def test_the_command_refuses_what_is_revoked_with_and_without_an_age(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paper, path = Paper(), tmp_path / "revocations"
    words = [*lay_out(tmp_path, paper), "--revocations", str(path)]
    path.write_bytes(head_of(paper, FILE.sha256, time_s=0))
    for more in ([], ["--max-age", "15m"]):
        assert run([*words, *more]) == exits.REFUSED
        told = capsys.readouterr()
        assert "VALID" not in told.out and "has been revoked since" in told.err


def test_the_command_cannot_say_without_a_usable_head_and_says_where_to_get_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paper, path, now = Paper(), tmp_path / "revocations", int(time.time())
    words = lay_out(tmp_path, paper)
    asked = [*words, "--max-age", "15m", "--revocations", str(path)]
    assert run([*words, "--max-age", "15m"]) == exits.CANNOT_SAY
    assert run(asked) == exits.CANNOT_SAY
    told = capsys.readouterr()
    assert told.err.count("curl -o revocations https://gate.example/log/revocations") == 2
    for data in (
        b"", b"\n", b"\xff" * 100, head_of(paper, time_s=now)[:-1], Note("x\n", ()).to_bytes(),
        head_of(paper, time_s=now - 901), head_of(paper, time_s=now + HOUR_S), head_of(paper, size=4, time_s=now),
    ):  # fmt: skip
        path.write_bytes(data)
        assert run(asked) == exits.CANNOT_SAY, data
        told = capsys.readouterr()
        assert "VALID" not in told.out and "/log/revocations" in told.err


def test_evidence_is_not_looked_for_in_a_head(tmp_path: Path) -> None:
    evidence = tmp_path / "x.evidence.json"
    evidence.write_bytes(b"{}")
    words = ["verify", str(evidence), "--trust", str(evidence), "--max-age", "1h"]
    assert run(words) == exits.CANNOT_SAY
