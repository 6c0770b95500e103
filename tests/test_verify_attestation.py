"""What is attested of a release is what its proof shows, and is signed by the signer that people have put in force."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from securesystemslib.dsse import Envelope
from securesystemslib.signer import CryptoSigner, SSlibKey

from presspass.core.digests import JsonObject, canonical, sha256_hex
from presspass.core.errors import Code, Refusal
from presspass.core.policy import Policy
from presspass.core.roster import Roster
from presspass.core.signer import ATTESTATION, SignerBody
from presspass.core.statement import RosterBody
from presspass.press.signing import signer_of
from presspass.verify.attestation import PAYLOAD_TYPE
from presspass.verify.proof import Proof, Valid, check_proof
from proof_world import FILE, Paper


def check(paper: Paper, proof: Proof) -> Valid:
    return check_proof(
        Proof.from_bytes(proof.to_bytes()),
        filename=FILE.name,
        sha256=FILE.sha256,
        size=FILE.size,
        trust_root=paper.genesis.digest,
    )


def refused(paper: Paper, proof: Proof) -> Code:
    with pytest.raises(Refusal) as refusal:
        check(paper, proof)
    return refusal.value.code


@pytest.fixture
def paper() -> Paper:
    paper = Paper()
    paper.add_upstream()
    return paper


def ec256() -> Any:
    return ec.generate_private_key(ec.SECP256R1())


def ec384() -> Any:
    return ec.generate_private_key(ec.SECP384R1())


def rsa2048() -> Any:
    return rsa.generate_private_key(65537, 2048)


def ed25519() -> Any:
    return Ed25519PrivateKey.generate()


def short_rsa() -> SignerBody:
    key = rsa.generate_private_key(65537, 1024).public_key()
    spelt = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return SignerBody(ATTESTATION, "rsassa-pss-sha256", spelt)


def test_attestations_that_say_something_else_than_the_proof_are_refused(paper: Paper) -> None:
    one = paper.release()
    proof = paper.proof(one, paper.approve(one, "ana", "ben"))
    other = paper.release([replace(FILE, sha256=sha256_hex(b"other"))])
    foreign = paper.proof(other, paper.approve(other, "ana", "ben")).attestations
    right = proof.attestations
    said = [json.loads(base64.b64decode(envelope["payload"])) for envelope in right]
    failed = {**said[0]["predicate"], "verificationResult": "FAILED"}
    more = {**said[2]["predicate"], "keys": []}
    odd: JsonObject = {"payload": 1}
    for wrong in (
        foreign,
        (paper.envelope(said[0], predicate=failed), *right[1:]),
        (*right[:2], paper.envelope(said[2], predicate=more)),
        (*right[:2], paper.envelope(said[2], _type="https://in-toto.io/Statement/v2")),
        (right[1], right[0], right[2]),
        (*right[:2], foreign[2]),
        right[:2],
        (),
        ({}, *right[1:]),
        (odd, odd, odd),
    ):
        assert refused(paper, replace(proof, attestations=wrong)) is Code.PROOF_INVALID
    assert (
        check(paper, replace(proof, attestations=right)).sha512
        == said[0]["subject"][0]["digest"]["sha512"]
    )


def test_the_approval_attestation_names_keys_authenticators_and_roles(paper: Paper) -> None:
    statement = paper.release()
    approvals = paper.approve(statement, "ana", "ben")
    proof = paper.proof(statement, approvals)
    predicate = json.loads(base64.b64decode(proof.attestations[2]["payload"]))["predicate"]
    assert [(key["person"], key["role"]) for key in predicate["keys"]] == [
        ("p-ana", "requester"),
        ("p-ben", "approver"),
    ]
    assert {key["authenticator"] for key in predicate["keys"]} == {"software-passkey"}
    assert predicate["statement"].encode() == statement.to_bytes()
    assert predicate["approvals"] == [approval.to_json() for approval in approvals]
    assert predicate["rosterChain"] == [
        paper.genesis.digest,
        *(link.statement.digest for link in paper.links),
    ]


@pytest.mark.parametrize("make", [ec256, ec384, rsa2048, ed25519])
def test_a_signer_that_people_let_in_attests_and_the_log_key_no_more(
    paper: Paper, make: Callable[[], Any]
) -> None:
    key = make()
    signer = signer_of(ATTESTATION, key.public_key())
    before = paper.release()
    old = paper.proof(before, paper.approve(before, "ana", "ben"))
    paper.admit(signer, "ana", "ben")
    statement = paper.release()
    proof = paper.proof(statement, paper.approve(statement, "ana", "ben"))
    assert refused(paper, proof) is Code.PROOF_INVALID, "by the log key"
    said = [json.loads(base64.b64decode(one["payload"])) for one in proof.attestations]
    public = SSlibKey.from_crypto(key.public_key(), scheme=signer.scheme)
    made = []
    for one in said:
        envelope = Envelope(canonical(one), PAYLOAD_TYPE, {})
        envelope.sign(CryptoSigner(key, public))
        envelope.verify([public], 1)
        made.append(envelope.to_dict())
    valid = check(paper, replace(proof, attestations=tuple(made)))
    assert valid.attested_by == (signer.scheme, sha256_hex(signer.public_key))
    assert check(paper, old).attested_by[0] == "ed25519"


def test_a_signer_needs_two_people_and_a_key_that_verifies(paper: Paper) -> None:
    signer = signer_of(ATTESTATION, ed25519().public_key())
    with pytest.raises(Refusal) as alone:
        paper.admit(signer, "ana")
    assert alone.value.code is Code.QUORUM_MISSING
    for wrong in (
        replace(signer, scheme="ecdsa-sha2-nistp256"),
        replace(signer, scheme="rsassa-pss-sha256"),
        replace(signer, scheme="ecdsa-sha2-nistp384", public_key=b"\x30\x00"),
        short_rsa(),
    ):
        with pytest.raises(Refusal) as unusable:
            paper.admit(wrong, "ana", "ben")
        assert unusable.value.code is Code.SIGNER_UNUSABLE
    assert paper.chain.signer(ATTESTATION).raw.hex() == paper.chain.body.log_key


SYNCED = 0x18  # the flags BE and BS (WebAuthn Level 3 section 6.1)


def test_a_passkey_that_is_copied_since_it_was_enrolled_counts_only_where_the_policy_accepts_it() -> (
    None
):
    for accepted in (True, False):
        paper = Paper(policy=Policy(software_keys=True, synced_passkeys=accepted))
        paper.add_upstream()
        statement = paper.release()
        paper.keys["ben"].flags |= SYNCED
        proof = paper.proof(statement, paper.approve(statement, "ana", "ben"))
        if accepted:
            assert check(paper, proof).synced == {paper.keys["ben"].key.id}
        else:
            assert refused(paper, proof) is Code.APPROVAL_SYNCED_KEY
        other = paper.proof(statement, paper.approve(statement, "ana", "cleo"))
        assert check(paper, other).synced_accepted is accepted


def test_a_passkey_that_was_copied_when_it_was_enrolled_is_known_by_its_roster() -> None:
    paper = Paper(policy=Policy(software_keys=True, synced_passkeys=False))
    paper.add_upstream()
    people = tuple(
        replace(one, keys=tuple(replace(key, backed_up=one.id == "p-ben") for key in one.keys))
        for one in paper.roster().people
    )
    paper.admit(RosterBody(Roster(people)), "ana", "cleo")
    statement = paper.release()
    proof = paper.proof(statement, paper.approve(statement, "ana", "ben"))
    assert refused(paper, proof) is Code.APPROVAL_SYNCED_KEY
    assert check(paper, paper.proof(statement, paper.approve(statement, "ana", "cleo")))
