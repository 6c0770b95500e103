"""A proof convinces of the file it was made for, whole, under the pinned trust root; every changed byte is seen."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import pytest

from presspass.core.digests import canonical, sha256_hex
from presspass.core.errors import Code, Refusal
from presspass.core.limits import PROOF_BYTES_MAX
from presspass.core.policy import Policy
from presspass.core.statement import (
    Intent,
    PolicyBody,
    ReleaseBody,
    ReleaseFile,
    RosterBody,
    Statement,
)
from presspass.verify.chain import veto_of
from presspass.verify.proof import (
    Proof,
    SignedStatement,
    Valid,
    check_proof,
    load_trust_root,
    verdict_json,
)
from proof_world import FILE, NOW, Paper


def check(paper: Paper, proof: Proof, file: ReleaseFile = FILE, trust_root: str = "") -> Valid:
    return check_proof(
        Proof.from_bytes(proof.to_bytes()),
        filename=file.name,
        sha256=file.sha256,
        size=file.size,
        trust_root=trust_root or paper.genesis.digest,
    )


def refused(paper: Paper, proof: Proof, file: ReleaseFile = FILE, trust_root: str = "") -> Code:
    with pytest.raises(Refusal) as refusal:
        check(paper, proof, file, trust_root)
    return refusal.value.code


@pytest.fixture
def paper() -> Paper:
    paper = Paper()
    paper.add_upstream()
    return paper


def test_a_right_proof_says_who_approved_what(paper: Paper) -> None:
    statement = paper.release()
    valid = check(paper, paper.proof(statement, paper.approve(statement, "ana", "ben")))
    assert (valid.file, valid.approved_by, valid.upstream) == (FILE, ("p-ben",), "main")
    said = json.loads(verdict_json(valid))
    assert said["valid"] is True
    assert said["keys"] == [
        {"key": paper.keys[name].key.id, "kind": "software-passkey", "synced": False}
        for name in ("ana", "ben")
    ]
    assert said["synced_passkeys"] == "accepted"
    assert load_trust_root(paper.genesis.to_bytes()) == paper.genesis.digest


def small_proof() -> tuple[Paper, bytes]:
    paper = Paper(names=("ana", "ben"))
    paper.add_upstream()
    statement = paper.release()
    return paper, paper.proof(statement, paper.approve(statement, "ana", "ben")).to_bytes()


def survivors(masks: Callable[[int], list[int]]) -> list[tuple[int, int]]:
    """Positions and masks of changed bytes after which the proof still convinces; anything but a Refusal escapes."""
    paper, data = small_proof()
    check(paper, Proof.from_bytes(data))
    found = []
    for position in range(len(data)):
        for mask in masks(position):
            changed = bytearray(data)
            changed[position] ^= mask
            try:
                check_bytes(paper, bytes(changed))
            except Refusal:
                continue
            found.append((position, mask))
    return found


def check_bytes(paper: Paper, data: bytes) -> Valid:
    return check_proof(
        Proof.from_bytes(data),
        filename=FILE.name,
        sha256=FILE.sha256,
        size=FILE.size,
        trust_root=paper.genesis.digest,
    )


def test_a_proof_with_any_byte_changed_is_refused() -> None:
    assert (
        survivors(lambda position: [(0x01, 0x02, 0x04, 0x08, 0x10, 0x20, 0x40, 0x80)[position % 8]])
        == []
    )


def test_a_signature_beyond_what_is_needed_is_checked_as_well(paper: Paper) -> None:
    statement = paper.release()
    right = paper.approve(statement, "ana", "ben", "cleo")
    assert check(paper, paper.proof(statement, right))
    for wrong in (
        replace(right[2], signature=right[1].signature),
        replace(right[2], key="ab" * 32),
    ):
        assert refused(paper, paper.proof(statement, (*right[:2], wrong))).value.startswith(
            "approval."
        )


@pytest.mark.long
def test_a_proof_with_any_bit_changed_is_refused() -> None:
    assert survivors(lambda position: [1 << bit for bit in range(8)]) == []


def test_a_truncated_proof_is_refused() -> None:
    paper, data = small_proof()
    for length in range(0, len(data), 37):
        with pytest.raises(Refusal):
            check_bytes(paper, data[:length])


def test_a_proof_over_the_limit_is_refused_unread() -> None:
    paper, data = small_proof()
    with pytest.raises(Refusal, match="limit"):
        check_bytes(paper, data + b" " * (PROOF_BYTES_MAX + 1 - len(data)))
    with pytest.raises(Refusal):
        check_bytes(paper, b"[" * PROOF_BYTES_MAX)


@pytest.mark.parametrize(
    "file",
    [
        replace(FILE, sha256=sha256_hex(b"another wheel")),
        replace(FILE, size=10),
        replace(FILE, name="demo-1.1-py3-none-any.whl"),
    ],
    ids=["bytes", "size", "name"],
)
def test_a_proof_of_another_file_is_refused(paper: Paper, file: ReleaseFile) -> None:
    statement = paper.release()
    proof = paper.proof(statement, paper.approve(statement, "ana", "ben"))
    assert refused(paper, proof, file) is Code.PROOF_WRONG_FILE


def test_each_file_of_a_release_has_a_proof_of_its_own_even_with_equal_bytes(paper: Paper) -> None:
    twin = replace(FILE, name="demo-1.0-py2-none-any.whl")
    statement = paper.release([twin, FILE])
    proof = paper.proof(statement, paper.approve(statement, "ana", "ben"))
    assert check(paper, proof, twin).file == twin
    assert refused(paper, proof, FILE) is Code.PROOF_WRONG_FILE
    assert check(paper, replace(proof, filename=FILE.name), FILE).file == FILE


def test_a_proof_of_another_installation_is_refused(paper: Paper) -> None:
    statement = paper.release()
    proof = paper.proof(statement, paper.approve(statement, "ana", "ben"))
    assert refused(paper, proof, trust_root=Paper().genesis.digest) is Code.PROOF_INVALID


def test_a_proof_under_a_forged_genesis_with_the_same_keys_is_refused(paper: Paper) -> None:
    other = Paper()
    other.add_upstream()
    statement = other.release()
    proof = other.proof(statement, other.approve(statement, "ana", "ben"), genesis=paper.genesis)
    assert refused(paper, proof).value.startswith(("statement.", "proof."))


def test_the_quorum_is_counted_again(paper: Paper) -> None:
    alone = paper.release()
    assert refused(paper, paper.proof(alone, paper.approve(alone, "ana"))) is Code.QUORUM_MISSING
    assert refused(paper, paper.proof(alone, ())) is Code.QUORUM_MISSING
    unresolved = paper.release(requester="")
    assert (
        refused(paper, paper.proof(unresolved, paper.approve(unresolved, "ben")))
        is Code.QUORUM_MISSING
    )
    assert check(paper, paper.proof(unresolved, paper.approve(unresolved, "ben", "cleo")))


def test_a_roster_chain_cut_short_is_refused(paper: Paper) -> None:
    paper.change_roster("ana", "ben", without=("cleo",))
    statement = paper.release()
    proof = paper.proof(statement, paper.approve(statement, "ana", "ben"))
    check(paper, proof)
    assert refused(paper, replace(proof, chain=proof.chain[:-1])) in (
        Code.PROOF_INVALID,
        Code.STATEMENT_FOREIGN,
    )


def test_a_removed_approvers_key_under_an_old_roster_does_not_count(paper: Paper) -> None:
    statement = paper.release()
    approvals = paper.approve(statement, "ana", "cleo")
    paper.change_roster("ana", "ben", without=("cleo",))
    proof = paper.proof(statement, approvals)
    assert refused(paper, proof) is Code.APPROVAL_KEY_REMOVED
    # Cutting the chain back to the roster that had the key does not help: the press's entry names the newer one.
    assert refused(paper, replace(proof, chain=proof.chain[:-1])) is Code.PROOF_INVALID


def test_a_chain_in_another_order_is_refused(paper: Paper) -> None:
    paper.change_roster("ana", "ben", without=("cleo",))
    paper.change_roster("ana", "ben")
    statement = paper.release()
    proof = paper.proof(statement, paper.approve(statement, "ana", "ben"))
    check(paper, proof)
    first, second, third = proof.chain
    for order in ((first, third, second), (third, first, second), (first, second, second, third)):
        assert refused(paper, replace(proof, chain=order)).value.startswith("statement.")


def test_a_link_that_nobody_approved_is_refused(paper: Paper) -> None:
    statement = paper.statement(RosterBody(paper.roster(without=("cleo",))))
    paper.chain.move_head(statement)
    paper.links.append(SignedStatement(statement, paper.approve(statement, "cleo")))
    release = paper.release()
    assert (
        refused(paper, paper.proof(release, paper.approve(release, "ana", "ben")))
        is Code.QUORUM_MISSING
    )


def test_vetoes_of_a_change_do_not_admit_it(paper: Paper) -> None:
    veto = veto_of(paper.statement(RosterBody(paper.roster(without=("cleo",)))))
    with pytest.raises(Refusal) as refusal:
        paper.chain.admit(veto, paper.approve(veto, "ana", "ben"))
    assert refusal.value.code is Code.APPROVAL_WRONG_STATEMENT


def test_a_veto_is_no_approval(paper: Paper) -> None:
    veto = paper.release(intent=Intent.VETO)
    assert (
        refused(paper, paper.proof(veto, paper.approve(veto, "ana", "ben"))) is Code.PROOF_INVALID
    )
    approve = replace(veto, intent=Intent.APPROVE)
    proof = paper.proof(approve, paper.approve(veto, "ana", "ben"))
    assert refused(paper, proof) is Code.APPROVAL_WRONG_STATEMENT


def test_a_stricter_policy_than_the_signed_one_is_held_against_it(paper: Paper) -> None:
    statement = paper.release()
    approvals = paper.approve(statement, "ana", "ben")
    paper.admit(PolicyBody(replace(paper.policy, approvals=2)), "ana", "ben")
    assert refused(paper, paper.proof(statement, approvals)) is Code.QUORUM_MISSING
    both = (*approvals, *paper.approve(statement, "cleo"))
    assert check(paper, paper.proof(statement, both)).approved_by == ("p-ben", "p-cleo")


@pytest.mark.parametrize("claimed_at", [NOW + 600, NOW + 10_000, NOW - 61])
def test_a_publication_outside_the_life_of_its_approval_is_refused(
    paper: Paper, claimed_at: int
) -> None:
    statement = paper.release()
    proof = paper.proof(statement, paper.approve(statement, "ana", "ben"), claimed_at)
    assert refused(paper, proof) is Code.PROOF_INVALID


def test_the_policys_own_life_of_an_approval_ends_it_too() -> None:
    paper = Paper(policy=Policy(software_keys=True, approval_life_s=60))
    paper.add_upstream()
    statement = paper.release()
    approvals = paper.approve(statement, "ana", "ben")
    check(paper, paper.proof(statement, approvals, NOW + 59))
    assert refused(paper, paper.proof(statement, approvals, NOW + 60)) is Code.PROOF_INVALID


def test_an_upstream_that_was_not_in_force_is_refused(paper: Paper) -> None:
    statement = paper.release()
    body = replace(statement.body_as(ReleaseBody), upstream="cd" * 32)
    statement = paper.statement(body)
    assert (
        refused(paper, paper.proof(statement, paper.approve(statement, "ana", "ben")))
        is Code.PROOF_INVALID
    )


def test_an_entry_about_another_release_is_refused(paper: Paper) -> None:
    one, other = paper.release(), paper.release()
    proof = paper.proof(one, paper.approve(one, "ana", "ben"))
    entry = paper.proof(other, paper.approve(other, "ana", "ben")).record
    assert refused(paper, replace(proof, record=entry)) is Code.PROOF_INVALID


def test_a_log_of_another_key_is_refused(paper: Paper) -> None:
    statement = paper.release()
    proof = paper.proof(statement, paper.approve(statement, "ana", "ben"))
    thief = Paper(log_key=paper.recovery_key)
    thief.chain = paper.chain
    forged = thief.proof(statement, proof.release.approvals)
    assert refused(paper, replace(proof, record=forged.record)) is Code.PROOF_INVALID
    assert refused(paper, replace(proof, attestations=forged.attestations)) is Code.PROOF_INVALID


def test_the_recovery_key_asks_for_a_roster_and_for_nothing_else(paper: Paper) -> None:
    recovery = paper.statement(RosterBody(paper.roster(without=("ana",)), recovery=True))
    for wrong in (
        (),
        paper.approve(recovery, "ana"),
        (replace(paper.recover(recovery), signature=b"x" * 64),),
    ):
        with pytest.raises(Refusal):
            paper.chain.admit(recovery, wrong)
    plain = paper.statement(RosterBody(paper.roster(without=("ana",))))
    policy = paper.statement(PolicyBody(replace(paper.policy, approvals=3)))
    for other in (plain, policy):
        with pytest.raises(Refusal):
            paper.chain.admit(other, [paper.recover(other)])
    paper.chain.admit(recovery, [paper.recover(recovery)])
    assert paper.chain.roster.person("p-ana") is None


def test_a_recovery_that_people_approved_is_in_the_chain_like_any_roster(paper: Paper) -> None:
    recovery = paper.statement(RosterBody(paper.roster(without=("cleo",)), recovery=True))
    approvals = paper.approve(recovery, "ana", "ben")
    paper.chain.admit(recovery, approvals)
    paper.links.append(SignedStatement(recovery, approvals))
    statement = paper.release()
    assert check(paper, paper.proof(statement, paper.approve(statement, "ana", "ben")))


def test_every_member_of_a_proof_is_needed_and_no_other_is_taken(paper: Paper) -> None:
    statement = paper.release()
    value = json.loads(paper.proof(statement, paper.approve(statement, "ana", "ben")).to_bytes())
    for name in value:
        with pytest.raises(Refusal):
            Proof.from_bytes(canonical({key: one for key, one in value.items() if key != name}))
    with pytest.raises(Refusal):
        Proof.from_bytes(canonical({**value, "more": 1}))


def test_a_genesis_is_the_only_trust_root(paper: Paper) -> None:
    for data in (paper.release().to_bytes(), b"", paper.genesis.to_bytes()[:-1]):
        with pytest.raises(Refusal):
            load_trust_root(data)
    assert Statement.from_bytes(paper.genesis.to_bytes()) == paper.genesis
