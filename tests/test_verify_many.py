"""Many proofs under one trust root: whatever a verifier has seen before, its verdict is that of a fresh check."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
import rfc8785
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_der_public_key,
)
from hypothesis import given
from hypothesis import strategies as st

from presspass.core.digests import canonical, parse_canonical
from presspass.core.errors import Code, Refusal
from presspass.verify import many, verifier
from presspass.verify.proof import Proof, Valid, check_proof, file_of
from presspass.verify.public_keys import load
from presspass.verify.verifier import Verifier
from proof_world import FILE, Paper

ASKED: dict[str, Any] = {"filename": FILE.name, "sha256": FILE.sha256, "size": FILE.size}


def proof_of(paper: Paper, *names: str) -> Proof:
    statement = paper.release()
    return paper.proof(statement, paper.approve(statement, *(names or ("ana", "ben"))))


def some_proofs() -> tuple[Paper, list[bytes]]:
    """Right ones of a growing chain; then wrong ones, each in one part, most with a chain that begins rightly."""
    paper = Paper()
    paper.add_upstream()
    found = [proof_of(paper)]
    paper.add_upstream("second")
    found.append(proof_of(paper))
    found.append(proof_of(paper))
    paper.change_roster("ana", "ben", without=("cleo",))
    last, other = proof_of(paper), proof_of(paper)
    found.append(last)
    first, second, third = last.chain
    bare = replace(second, approvals=second.approvals[:1])
    swapped = replace(third, approvals=second.approvals)
    wrong = [
        proof_of(paper, "ana"),
        replace(last, chain=(first, bare, third)),
        replace(last, chain=(first, second, swapped)),
        replace(last, chain=(first, second, second)),
        replace(last, chain=(first, third, second)),
        replace(last, chain=(first, second)),
        replace(last, chain=()),
        replace(last, release=replace(last.release, approvals=last.release.approvals[:1])),
        replace(last, release=replace(last.release, approvals=other.release.approvals)),
        replace(last, release=other.release),
        replace(last, record=other.record),
        replace(last, attestations=other.attestations),
        replace(last, attestations=last.attestations[::-1]),
        replace(last, later=(third,)),
        replace(last, genesis=Paper(names=("ben", "ana", "cleo")).genesis),
        replace(last, filename="other-1.0-py3-none-any.whl"),
    ]
    files = [one.to_bytes() for one in (*found, *wrong)]
    return paper, [*files, files[0][:-1], b"", b"[]", b'{"chain":1}']


def outcome(check: Callable[[], Valid]) -> Valid | Code:
    try:
        return check()
    except Refusal as refusal:
        return refusal.code


PAPER, PROOFS = some_proofs()
RIGHT = 4


def fresh(data: bytes) -> Valid | Code:
    return outcome(
        lambda: check_proof(Proof.from_bytes(data), **ASKED, trust_root=PAPER.genesis.digest)
    )


FRESH = [fresh(data) for data in PROOFS]


def said(one: Verifier, number: int, **changes: Any) -> Valid | Code:
    return outcome(lambda: one.check(PROOFS[number], **{**ASKED, **changes}))


def test_the_proofs_of_this_file_are_right_and_wrong() -> None:
    assert [isinstance(one, Valid) for one in FRESH] == [True] * RIGHT + [False] * (
        len(FRESH) - RIGHT
    )


@given(st.lists(st.integers(0, len(PROOFS) - 1), max_size=30), st.sampled_from([1 << 24, 6000, 0]))
def test_in_any_order_a_verifier_says_of_each_proof_what_a_fresh_check_says(
    order: list[int], kept_bytes: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(verifier, "CHAINS_KEPT_BYTES_MAX", kept_bytes)
        one = Verifier(PAPER.genesis.to_bytes())
        for number in order:
            assert said(one, number) == FRESH[number]


@given(st.integers(0, len(PROOFS[3]) - 1), st.integers(1, 255), st.permutations([0, 1, 2, 3]))
def test_a_changed_byte_is_seen_also_by_a_verifier_that_has_seen_the_right_ones(
    at: int, mask: int, order: list[int]
) -> None:
    one = Verifier(PAPER.genesis.to_bytes())
    for number in order:
        one.check(PROOFS[number], **ASKED)
    changed = bytearray(PROOFS[3])
    changed[at] ^= mask
    with pytest.raises(Refusal):
        one.check(bytes(changed), **ASKED)
    assert one.check(PROOFS[3], **ASKED) == FRESH[3]


def test_a_proof_of_another_file_is_refused_after_the_right_one() -> None:
    one = Verifier(PAPER.genesis.to_bytes())
    assert one.check(PROOFS[0], **ASKED) == FRESH[0]
    for change in ({"sha256": "00" * 32}, {"size": 10}, {"filename": "other-1.0.tar.gz"}):
        assert said(one, 0, **change) is Code.PROOF_WRONG_FILE


def test_threads_may_share_a_verifier() -> None:
    one = Verifier(PAPER.genesis.to_bytes())
    numbers = [number for _ in range(20) for number in range(len(PROOFS))]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda number: said(one, number), numbers))
    assert found == [FRESH[number] for number in numbers]


def test_what_a_verifier_keeps_is_bounded_and_used_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verifier, "CHAINS_KEPT_BYTES_MAX", 8000)
    one, kept = Verifier(PAPER.genesis.to_bytes()), list[int]()
    for data in PROOFS[:RIGHT] * 2:
        one.check(data, **ASKED)
        kept.append(sum(chain.size for chain in one._kept.values()))
        assert one._kept_bytes == kept[-1]
    assert 0 < max(kept) <= 8000
    admitted = {id(chain.after) for chain in one._kept.values()}
    one.check(PROOFS[3], **ASKED)
    assert {id(chain.after) for chain in one._kept.values()} == admitted


def test_a_kept_chain_is_taken_only_where_the_chain_of_the_proof_stands() -> None:
    one, value = Verifier(PAPER.genesis.to_bytes()), json.loads(PROOFS[3])
    one.check(PROOFS[3], **ASKED)
    chain, empty = value["chain"], {**value, "chain": []}
    around = {"a": 1, "chain": chain, "file": ""}
    hidden = [
        {**empty, "attestations": [around]},
        {**empty, "attestations": [around, *value["attestations"]]},
        {**empty, "release": {**value["release"], **around}},
        {**value, "attestations": [{**around, "chain": []}]},
        {**value, "release": {**value["release"], **around, "chain": []}},
        {name: value[name] for name in value if name != "attestations"},
        {**value, "chain": [*chain, {"file": ""}]},
    ]
    for data in map(canonical, hidden):
        assert isinstance(fresh(data), Code)
        assert outcome(lambda data=data: one.check(data, **ASKED)) == fresh(data)


def test_in_several_processes_each_proof_gets_the_answer_of_a_fresh_check_in_order(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(many, "_BATCH", 3)
    monkeypatch.setattr(many, "_BATCHES_ALONE", 1)
    wanted = [outcome(lambda data=data: by_itself(data)) for data in PROOFS]
    for processes in (1, 2):
        found = many.check_all(PAPER.genesis.to_bytes(), iter(PROOFS * 2), processes=processes)
        assert [one.code if isinstance(one, Refusal) else one for one in found] == wanted * 2


def by_itself(data: bytes) -> Valid:
    proof = Proof.from_bytes(data)
    file = file_of(proof)
    return check_proof(
        proof,
        filename=file.name,
        sha256=file.sha256,
        size=file.size,
        trust_root=PAPER.genesis.digest,
    )


def test_what_is_no_trust_root_makes_no_verifier() -> None:
    for data in (b"", b"{}", PAPER.release().to_bytes()):
        with pytest.raises(Refusal):
            Verifier(data)


# --- what makes a check fast: two shorter ways that must come to what the long one comes to ---------------------------


#: With many of the characters at which the orders of UTF-16 and of code points part, and halves of characters.
TEXTS = st.text() | st.text(st.characters(min_codepoint=0xD7F0, exclude_categories=()))
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**54), 2**54) | st.floats() | TEXTS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(TEXTS, inner, max_size=3)
    ),
    max_leaves=8,
)


@given(st.dictionaries(TEXTS | st.integers(0, 2), JSON_VALUES, max_size=4))
def test_what_is_written_is_what_the_canonical_writer_writes(value: dict[Any, Any]) -> None:
    assert attempt(canonical, value) == attempt(rfc8785.dumps, value)


@given(st.dictionaries(TEXTS, JSON_VALUES, max_size=4), st.booleans(), st.booleans())
def test_what_is_read_is_what_the_canonical_writer_writes(
    value: dict[str, Any], ascii_only: bool, compact: bool
) -> None:
    separators = (",", ":") if compact else None
    text = json.dumps(value, ensure_ascii=ascii_only, sort_keys=True, separators=separators)
    data = text.encode("utf-8", "surrogatepass")
    try:
        is_canonical = attempt(rfc8785.dumps, json.loads(data.decode())) == data
    except ValueError:
        is_canonical = False
    read = attempt(lambda one: parse_canonical(one, bytes_max=1 << 20, what="value"), data)
    assert (read is not ValueError) == is_canonical
    if is_canonical:
        assert json.dumps(read) == json.dumps(json.loads(data))


def attempt(work: Callable[[Any], Any], value: object) -> Any:
    """What `work` makes of the value; ValueError where it refuses."""
    try:
        return work(value)
    except (Refusal, ValueError, rfc8785.CanonicalizationError):
        return ValueError


def test_a_key_is_read_as_the_general_reader_reads_it() -> None:
    def parts(key: PublicKeyTypes) -> bytes:
        return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)

    keys: list[PublicKeyTypes] = [
        ec.generate_private_key(ec.SECP256R1()).public_key(),
        ec.generate_private_key(ec.SECP384R1()).public_key(),
        Ed25519PrivateKey.generate().public_key(),
        rsa.generate_private_key(65537, 2048).public_key(),
    ]
    for key in keys:
        der = parts(key)
        assert parts(load(der)) == der
        assert type(load(der)) is type(load_der_public_key(der))
        for wrong in (der[:-1], der + b"\0", b"", der[:26] + b"\x05" + der[27:]):
            assert attempt(load, wrong) == attempt(load_der_public_key, wrong)
    off_the_curve = parts(keys[0])[:-1] + bytes([parts(keys[0])[-1] ^ 1])
    assert attempt(load, off_the_curve) is attempt(load_der_public_key, off_the_curve) is ValueError
