"""Signed notes, checkpoints, cosignatures: others' notes open, no changed bit passes, unknown keys are passed over."""

from __future__ import annotations

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from hypothesis import given
from hypothesis import strategies as st

from core_values import law
from presspass.core.errors import Code, Refusal
from presspass.core.ledger import note
from presspass.core.ledger.checkpoint import Checkpoint, Witnessed, open_note, sign
from presspass.core.ledger.note import Note, Signature, VerifierKey
from presspass.core.limits import NOTE_BYTES_MAX, NOTE_SIGNATURES_MAX

LOG_KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
PUBLIC = LOG_KEY.public_key().public_bytes_raw()
WITNESS = Ed25519PrivateKey.from_private_bytes(bytes(range(1, 33)))
WITNESS_KEY = VerifierKey(
    "witness.example/w1", note.COSIGNATURE, WITNESS.public_key().public_bytes_raw()
)
CHECKPOINT = Checkpoint("gate.example/log", 7, bytes(range(32)))

#: Notes that other implementations have made, with the keys that they name.
OTHERS = [
    (
        "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
        "If you think cryptography is the answer to your problem,\n"
        "then you don't know what your problem is.\n",
        "x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=",
    ),
    (
        "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k",
        "This is an example message.\n",
        "Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=",
    ),
]


def check(public: bytes, signature: bytes, message: bytes) -> bool:
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


def flipped(data: bytes, bit: int) -> bytes:
    changed = bytearray(data)
    changed[bit // 8 % len(data)] ^= 1 << bit % 8
    return bytes(changed)


def witnessed(time_s: int = 1679315147, checkpoint: Checkpoint = CHECKPOINT) -> bytes:
    signed = Note.from_bytes(sign(checkpoint, PUBLIC, LOG_KEY.sign))
    line = note.cosign(signed.text, WITNESS_KEY, time_s, WITNESS.sign)
    return Note(signed.text, (*signed.signatures, line)).to_bytes()


@pytest.mark.parametrize(("key", "text", "signature"), OTHERS)
def test_notes_of_other_implementations_open(key: str, text: str, signature: str) -> None:
    verifier = VerifierKey.from_text(key)
    assert verifier.to_text() == key
    data = f"{text}\n\u2014 {verifier.name} {signature}\n".encode()
    opened = Note.from_bytes(data)
    assert opened.to_bytes() == data
    assert opened.verify([verifier], check) == (note.Signed(verifier, None),)
    assert opened.verify([WITNESS_KEY], check) == ()


def test_a_text_may_have_empty_lines() -> None:
    text = "one\n\ntwo\n\n\nthree\n"
    key = VerifierKey("gate.example/log", note.ED25519, PUBLIC)
    made = Note(text, (note.sign(text, key, LOG_KEY.sign),))
    assert Note.from_bytes(made.to_bytes()) == made
    assert made.verify([key], check)[0].key == key


def test_a_witness_signs_what_the_specification_says_with_its_time() -> None:
    text = "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n"
    assert note.cosigned(text, 1679315147) == (
        b"cosignature/v1\ntime 1679315147\nexample.com/behind-the-sofa\n20852163\n"
        b"CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n"
    )
    line = note.cosign(text, WITNESS_KEY, 1679315147, WITNESS.sign)
    assert int.from_bytes(line.blob[:8], "big") == 1679315147 and len(line.blob) == 72
    assert line.to_text().startswith("\u2014 witness.example/w1 ")
    assert Signature.from_text(line.to_text()[:-1]) == line


def test_the_specifications_cosigned_checkpoint_has_a_log_line_and_a_witness_line() -> None:
    data = (
        "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n\n"
        "\u2014 example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5"
        "/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=\n"
        "\u2014 witness.example.com/w1 jWbPPwAAAABkGFDLEZMHwSRaJNiIDoe9DYn/zXcrtPHeolMI5OWXEhZCB9dlrDJ"
        "sX3b2oyin1nPZqhf5nNo0xUe+mbIUBkBIfZ+qnA==\n"
    ).encode()
    opened = Note.from_bytes(data)
    log, witness = opened.signatures
    assert len(log.blob) == 64
    assert int.from_bytes(witness.blob[:8], "big") == 1679315147
    assert Checkpoint.from_text(opened.text).size == 20852163


@law
@given(st.integers(0, 2**40), st.binary(min_size=32, max_size=32), st.integers(0, 2**63 - 1))
def test_a_signed_checkpoint_opens_to_itself_and_to_who_has_cosigned(
    size: int, root: bytes, time_s: int
) -> None:
    checkpoint = Checkpoint("gate.example/log", size, root)
    opened = open_note(sign(checkpoint, PUBLIC, LOG_KEY.sign), PUBLIC, check, [WITNESS_KEY])
    assert opened == Witnessed(checkpoint, ())
    data = witnessed(time_s, checkpoint)
    assert open_note(data, PUBLIC, check, [WITNESS_KEY]).witnesses == ((WITNESS_KEY.name, time_s),)
    assert open_note(data, PUBLIC, check).witnesses == ()


def test_a_checkpoint_with_any_bit_changed_or_cut_off_says_nothing_new() -> None:
    """It is refused; or what is left of the witness's line names somebody who is not known, and counts for nothing."""
    data = witnessed()
    lines_of_log = len(sign(CHECKPOINT, PUBLIC, LOG_KEY.sign))
    changed = [(bit // 8, flipped(data, bit)) for bit in range(8 * len(data))]
    for place, wrong in [*changed, *((length, data[:length]) for length in range(len(data)))]:
        try:
            opened = open_note(wrong, PUBLIC, check, [WITNESS_KEY])
        except Refusal as refusal:
            assert refusal.code is Code.PROOF_INVALID
        else:
            assert opened == Witnessed(CHECKPOINT, ()) and place >= lines_of_log


def test_a_checkpoint_of_another_key_is_refused_and_a_false_cosignature_refuses_the_note() -> None:
    other = Ed25519PrivateKey.generate()
    with pytest.raises(Refusal, match="does not verify"):
        open_note(sign(CHECKPOINT, PUBLIC, other.sign), PUBLIC, check)
    data = sign(CHECKPOINT, PUBLIC, LOG_KEY.sign)
    line = note.cosign(CHECKPOINT.to_text(), WITNESS_KEY, 1, other.sign).to_text().encode()
    with pytest.raises(Refusal, match="witness.example/w1 does not verify"):
        open_note(data + line, PUBLIC, check, [WITNESS_KEY])
    assert open_note(data + line, PUBLIC, check).checkpoint == CHECKPOINT
    only_witness = Note(CHECKPOINT.to_text(), (Signature.from_text(line.decode()[:-1]),))
    with pytest.raises(Refusal, match="no valid signature of this log"):
        open_note(only_witness.to_bytes(), PUBLIC, check)


def test_a_key_of_another_type_with_the_same_bytes_is_another_key() -> None:
    """So that no checkpoint's own signature passes for a witness's, nor the other way round."""
    as_witness = VerifierKey("gate.example/log", note.COSIGNATURE, PUBLIC)
    data = sign(CHECKPOINT, PUBLIC, LOG_KEY.sign)
    assert open_note(data, PUBLIC, check, [as_witness]).witnesses == ()


@pytest.mark.parametrize(
    "text",
    [
        "gate.example/log\n7\n",
        "gate.example/log\n7\nAAAA\n",
        f"gate.example/log\n07\n{'A' * 43}=\n",
        f"gate.example/log\n-7\n{'A' * 43}=\n",
        f"gate.example/log\n7\n{'A' * 43}\n",
        f"gate.example/log\n7\n{'A' * 42}B=\n",
        f"gate.example/log\n99999999999999999999\n{'A' * 43}=\n",
        f"gate.example/log\n٧\n{'A' * 43}=\n",
        f"\n7\n{'A' * 43}=\n",
        f"gate.example/log\n7\n{'A' * 43}=\n\nmore\n",
        f"gate.example/log\n7\n{'A' * 43}=",
    ],
)
def test_what_is_no_checkpoint_is_refused(text: str) -> None:
    with pytest.raises(Refusal) as refusal:
        Checkpoint.from_text(text)
    assert refusal.value.code is Code.PROOF_INVALID


def test_extension_lines_are_kept() -> None:
    checkpoint = Checkpoint("gate.example/log", 7, bytes(32), ("one more",))
    assert Checkpoint.from_text(checkpoint.to_text()) == checkpoint
    assert open_note(sign(checkpoint, PUBLIC, LOG_KEY.sign), PUBLIC, check).checkpoint == checkpoint


@pytest.mark.parametrize(
    "text",
    [
        "",
        "name",
        "na me+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k",
        "+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k",
        "example.com/foo+530d903b+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k",
        "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2",
        "example.com/foo+530d903a+AukyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k",
    ],
)
def test_what_is_no_key_is_refused(text: str) -> None:
    with pytest.raises(Refusal) as refusal:
        VerifierKey.from_text(text)
    assert refusal.value.code is Code.PROOF_INVALID


def test_a_note_is_bounded_and_sixteen_signatures_are_not_too_many() -> None:
    data = sign(CHECKPOINT, PUBLIC, LOG_KEY.sign)
    line = "\u2014 another.example AAAAAAAA\n".encode()
    assert open_note(data + line * 15, PUBLIC, check).checkpoint == CHECKPOINT
    for large in (data + line * NOTE_SIGNATURES_MAX, b"x" * (NOTE_BYTES_MAX + 1)):
        with pytest.raises(Refusal, match="has more than"):
            Note.from_bytes(large)


@law
@given(
    st.binary(max_size=200) | st.text(max_size=80).map(lambda text: f"{text}\n\n{text}\n".encode())
)
def test_any_bytes_are_opened_or_refused(data: bytes) -> None:
    with pytest.raises(Refusal) as refusal:
        open_note(data, PUBLIC, check)
    assert refusal.value.code is Code.PROOF_INVALID
