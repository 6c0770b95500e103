"""The log's key and name are those to which signed statements lead: no proof and no state goes back behind them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from presspass.cli.audit_state import State
from presspass.core.errors import Code, Refusal
from presspass.core.ledger.checkpoint import Checkpoint, sign
from presspass.core.log import LogBody, LogRecovery
from presspass.core.statement import Kind, Statement
from presspass.verify.ledger import Seen
from presspass.verify.log_chain import LogChain, leading_to_log
from presspass.verify.proof import Proof, Valid, check_proof
from proof_world import FILE, Paper, raw_hex

NEW = Ed25519PrivateKey.from_private_bytes(bytes(range(64, 96)))
NEWER = Ed25519PrivateKey.from_private_bytes(bytes(range(96, 128)))
LOST = LogRecovery(3, "ab" * 32, 7, "", "the disk was lost")


@pytest.fixture
def paper() -> Paper:
    paper = Paper()
    paper.add_upstream()
    return paper


def body(paper: Paper, key: Ed25519PrivateKey = NEW) -> LogBody:
    return LogBody(paper.chain.log.origin, raw_hex(key))


def rotate(paper: Paper, key: Ed25519PrivateKey = NEW) -> Statement:
    """People let the key in, and the press signs with it."""
    statement = paper.admit(body(paper, key), "ana", "ben")
    paper.log_key = key
    return statement


def published(paper: Paper) -> Proof:
    statement = paper.release()
    return paper.proof(statement, paper.approve(statement, "ana", "ben"))


def check(paper: Paper, proof: Proof) -> Valid:
    return check_proof(
        Proof.from_bytes(proof.to_bytes()),
        filename=FILE.name,
        sha256=FILE.sha256,
        size=FILE.size,
        trust_root=paper.genesis.digest,
    )


def refused(work: Callable[[], object]) -> Code:
    with pytest.raises(Refusal) as refusal:
        work()
    return refusal.value.code


def test_a_proof_is_by_the_key_to_which_its_own_chain_leads(paper: Paper) -> None:
    before = published(paper)
    rotate(paper)
    after = published(paper)
    assert check(paper, after).attested_by[0] == "ed25519"
    assert check(paper, before).position == check(paper, after).position
    old_chain = replace(after, chain=before.chain)
    for wrong in (
        replace(before, chain=after.chain),  # the old key goes on after the rotation
        old_chain,  # the new key before anybody let it in
        replace(after, record=before.record),
        replace(after, attestations=before.attestations),
    ):
        assert refused(lambda wrong=wrong: check(paper, wrong)) is Code.PROOF_INVALID


def test_a_release_that_was_claimed_before_the_rotation_leads_on_to_the_new_key(
    paper: Paper,
) -> None:
    statement = paper.release()
    approvals = paper.approve(statement, "ana", "ben")
    claimed = tuple(paper.links)
    proof = paper.proof(statement, approvals)
    paper.change_roster("ana", "ben", without=("cleo",))
    rotate(paper)
    later = tuple(paper.links[len(claimed) :])
    chain = paper.chain
    paper.chain, paper.links = chain.after(chain.genesis, [one.statement for one in claimed]), []
    paper.links = list(claimed)
    made = replace(paper.proof(statement, approvals), later=later)
    assert refused(lambda: check(paper, replace(made, later=()))) is Code.PROOF_INVALID
    # The attestations are by the key that signed the checkpoint, whose key id the paper takes from the chain.
    paper.chain = chain
    signed = paper.attest_claimed(made, claimed)
    made = replace(made, attestations=signed)
    assert check(paper, made).attested_by[0] == "ed25519"
    assert proof.record != made.record
    for wrong in (
        replace(made, later=later[:1]),
        replace(made, later=later[1:]),
        replace(made, later=(*later, later[0])),
        replace(made, later=(*later[:1], replace(later[1], approvals=later[1].approvals[:1]))),
        replace(made, record=proof.record),
        replace(made, attestations=proof.attestations),
    ):
        with pytest.raises(Refusal):
            check(paper, wrong)


def test_no_key_comes_in_without_a_quorum_nor_twice_nor_under_another_name(paper: Paper) -> None:
    for statement, signers in (
        (paper.statement(body(paper)), ("ana",)),
        (paper.statement(body(paper)), ()),
        (paper.statement(LogBody("elsewhere.example/log", raw_hex(NEW))), ("ana", "ben")),
        (paper.statement(LogBody("gate.example/log/2", raw_hex(NEW))), ("ana", "ben")),
        (paper.statement(paper.chain.log), ("ana", "ben")),
    ):
        with pytest.raises(Refusal):
            paper.chain.admit(statement, paper.approve(statement, *signers))
    assert not paper.chain.logs
    first = raw_hex(paper.log_key)
    rotate(paper)
    again = paper.statement(LogBody(paper.chain.log.origin, first))
    assert (
        refused(lambda: paper.chain.admit(again, paper.approve(again, "ana", "ben")))
        is Code.LOG_UNUSABLE
    )


def test_a_recovered_log_has_the_next_name_and_proofs_of_the_old_one_stay(paper: Paper) -> None:
    old = published(paper)
    key = raw_hex(paper.log_key)
    for wrong in (
        LogBody(paper.chain.log.origin, key, LOST),
        LogBody("gate.example/log/3", key, LOST),
    ):
        statement = paper.statement(wrong)
        approvals = paper.approve(statement, "ana", "ben")
        assert (
            refused(lambda s=statement, a=approvals: paper.chain.admit(s, a)) is Code.LOG_UNUSABLE
        )
    for name in ("gate.example/log/2", "gate.example/log/3"):
        paper.admit(LogBody(name, key, LOST), "ana", "ben")
        assert check(paper, published(paper)).checkpoint.origin == name
    assert check(paper, old).checkpoint.origin == "gate.example/log"
    mixed = replace(published(paper), chain=old.chain)
    assert refused(lambda: check(paper, mixed)) is Code.PROOF_INVALID


def test_a_statement_about_the_log_reads_as_it_was_written(paper: Paper) -> None:
    for one in (body(paper), LogBody("gate.example/log/2", raw_hex(NEW), LOST)):
        statement = paper.statement(one)
        assert Statement.from_bytes(statement.to_bytes()) == statement
        assert statement.kind is Kind.LOG


def served(paper: Paper) -> bytes:
    """What a gate serves at /log/keys."""
    signed = {one.statement.digest: one for one in paper.links}
    chain = leading_to_log([one.statement for one in paper.links])
    return LogChain(paper.genesis, tuple(signed[one.digest] for one in chain)).to_bytes()


def state_of(paper: Paper, path: Path) -> State:
    return State.read(path / "state.json", paper.genesis)


def test_an_auditor_follows_the_key_and_never_goes_back(paper: Paper, tmp_path: Path) -> None:
    state = state_of(paper, tmp_path)
    first = Checkpoint("gate.example/log", 1, b"r" * 32)
    old = sign(first, bytes.fromhex(raw_hex(paper.log_key)), paper.log_key.sign)
    state.towards = Seen.open(old, state.chain.log)
    chains = [served(paper)]
    for key in (NEW, NEWER):
        rotate(paper, key)
        chains.append(served(paper))
    for chain in (*chains, chains[0], chains[1], b""):
        if chain:
            state.learn(chain)
    assert state.chain.log.key == raw_hex(NEWER)
    state.write()
    again = state_of(paper, tmp_path)
    assert again.chain.log.key == raw_hex(NEWER)
    assert again.towards is not None and again.towards.note == old, "signed by a key of its time"
    again.learn(chains[1])
    assert again.chain.log.key == raw_hex(NEWER)


def test_an_auditor_believes_no_chain_that_people_have_not_signed(
    paper: Paper, tmp_path: Path
) -> None:
    state = state_of(paper, tmp_path)
    rotate(paper)
    right = LogChain.from_bytes(served(paper))
    last = right.chain[-1]
    unsigned = replace(right, chain=(*right.chain[:-1], replace(last, approvals=())))
    stranger = replace(right, genesis=Paper(names=("ana", "eve")).genesis)
    for wrong in (unsigned, stranger):
        with pytest.raises(Refusal):
            state.learn(wrong.to_bytes())
    for nonsense in (b"", b"{}", right.to_bytes()[:-1], right.to_bytes().replace(b"v1", b"v9", 1)):
        with pytest.raises(Refusal):
            LogChain.from_bytes(nonsense)
    assert not state.chain.logs
    state.learn(right.to_bytes())
    # The same people have signed another key in its place: one of the two is a lie.
    other = Paper(names=paper.names)
    other.genesis, other.chain = paper.genesis, type(paper.chain).begin(paper.genesis)
    other.keys = paper.keys
    rotate(other, NEWER)
    assert refused(lambda: state.learn(served(other))) is Code.LOG_FORKED


def test_no_changed_byte_of_the_chain_leads_to_another_log(paper: Paper) -> None:
    rotate(paper)
    data = served(paper)
    right = LogChain.from_bytes(data).check(paper.genesis.digest).log
    for place in range(0, len(data), 5):
        changed = data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]
        try:
            found = LogChain.from_bytes(changed).check(paper.genesis.digest).log
        except Refusal:
            continue
        assert found == right, place


@given(st.binary(max_size=300))
def test_nonsense_in_place_of_the_chain_is_refused(data: bytes) -> None:
    with pytest.raises(Refusal):
        LogChain.from_bytes(data)


def test_what_leads_to_the_log_is_nothing_until_it_has_another_key(paper: Paper) -> None:
    def leading() -> list[Statement]:
        return leading_to_log([one.statement for one in paper.links])

    assert leading() == []
    rotate(paper)
    upstream, rotation = (one.statement for one in paper.links)
    assert leading() == [upstream, rotation]
    paper.change_roster("ana", "ben", without=("cleo",))
    assert leading() == [upstream, rotation]
