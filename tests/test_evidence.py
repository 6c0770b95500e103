"""Evidence bundles: what the press signs is checked by others to the last byte, and a press that lies is caught."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from history_world import Past, past_of
from presspass.core.digests import canonical
from presspass.core.errors import Code, Refusal
from presspass.core.history import Question
from presspass.core.ledger import note
from presspass.core.ledger.note import VerifierKey
from presspass.press import evidence as press_evidence
from presspass.press.signing import PressKey
from presspass.store import journal_tables as t
from presspass.store import ledger_view, migrate
from presspass.store.database import open_engine
from presspass.verify.evidence import Body, Evidence, Found, Placed, check_evidence, to_sign
from presspass.verify.history import Words
from presspass.verify.proof import Entry, SignedStatement
from proof_world import NOW


@pytest.fixture(scope="module")
def past(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Past]:
    engine = open_engine(tmp_path_factory.mktemp("journal") / "journal.db")
    migrate.upgrade(engine, "journal")
    made = past_of(engine)
    yield made
    made.writer.close()


def bundle(past: Past, **words: Any) -> bytes:
    question = Words(**words).question(past.paper.chain, {})

    def ask(reading: Callable[..., Any]) -> Any:
        with past.writer.read() as connection:
            return reading(connection)

    return press_evidence.make(ask, question, lambda _key: PressKey(past.paper.log_key), past.now_s)


def checked(past: Past, data: bytes) -> Found:
    return check_evidence(Evidence.from_bytes(data), trust_root=past.paper.genesis.digest)


@pytest.fixture(scope="module")
def whole(past: Past) -> bytes:
    return bundle(past)


@pytest.fixture(scope="module")
def small(past: Past) -> bytes:
    return bundle(past, kinds=("policy",))


def test_everything_that_was_done_is_proved(past: Past, whole: bytes) -> None:
    found = checked(past, whole)
    kinds = [act["kind"] for act in found.acts]
    assert kinds[:3] == ["genesis", "upstream", "publisher"] and "roster" in kinds
    outcomes = {str(act["outcome"]) for act in found.acts}
    assert outcomes == {"verified", "failed", "publishing", "admitted"}
    assert any(act.get("publisher") for act in found.acts)
    assert (found.made_at, found.genesis) == (past.now_s, past.paper.genesis.digest)
    assert found.question == Question({"space": ("main",)})
    assert Evidence.from_bytes(whole).to_bytes() == whole


@pytest.mark.parametrize(
    "words",
    [
        {"person": "p-cleo"},
        {"policy": "2"},
        {"workflow": "acme/greet/ci/nightly.yml"},
        {"publisher": "ci", "project": "demo"},
        {"kinds": ("roster", "genesis")},
        {"project": "nothing"},
    ],
)
def test_each_question_has_its_own_evidence(past: Past, words: dict[str, Any]) -> None:
    found = checked(past, bundle(past, **words))
    everything = checked(past, bundle(past)).acts
    assert len(found.acts) < len(everything)
    assert bool(found.acts) == (words != {"project": "nothing"})
    assert all(act in everything for act in found.acts)


def test_evidence_of_another_installation_is_none(whole: bytes) -> None:
    with pytest.raises(Refusal, match="another installation"):
        check_evidence(Evidence.from_bytes(whole), trust_root="0" * 64)


@given(data=st.data())
def test_a_byte_changed_anywhere_is_never_valid(
    past: Past, small: bytes, data: st.DataObject
) -> None:
    place = data.draw(st.integers(0, len(small) - 1))
    byte = data.draw(st.integers(0, 255).filter(lambda one: one != small[place]))
    with pytest.raises(Refusal):
        checked(past, small[:place] + bytes([byte]) + small[place + 1 :])


@given(data=st.data())
def test_a_part_cut_out_or_put_in_is_never_valid(
    past: Past, small: bytes, data: st.DataObject
) -> None:
    start = data.draw(st.integers(0, len(small) - 1))
    end = data.draw(st.integers(start, len(small)))
    more = data.draw(st.binary(max_size=20))
    changed = small[:start] + more + small[end:]
    if changed != small:
        with pytest.raises(Refusal):
            checked(past, changed)


@given(data=st.data())
def test_whatever_the_press_signs_is_refused_or_told_and_never_a_failure(
    past: Past, whole: bytes, data: st.DataObject
) -> None:
    """A press that lies can sign anything: values swapped, left out, of other types."""
    body = json.loads(whole)["body"]
    spot = body
    for _ in range(data.draw(st.integers(0, 4))):
        keys = sorted(spot) if isinstance(spot, dict) else range(len(spot))
        if not keys:
            break
        key = data.draw(st.sampled_from(list(keys)))
        inner = spot[key]
        if not isinstance(inner, dict | list) or not inner:
            break
        spot = inner
    keys = sorted(spot) if isinstance(spot, dict) else range(len(spot))
    key = data.draw(st.sampled_from(list(keys)))
    values = st.sampled_from([None, -1, 0, 2**53, "", "x", [], {}, True, "f" * 64, [[]], ["x"]])
    spot[key] = data.draw(values)
    try:
        lie = Body.from_json(body)
    except Refusal:
        return
    try:
        found = checked(past, signed(past, lie))
    except Refusal:
        return
    assert len(found.acts) == len(lie.acts)


def signed(past: Past, body: Body) -> bytes:
    """As the press would sign whatever body it wants."""
    return Evidence.of(body, PressKey(past.paper.log_key).attest(to_sign(body))).to_bytes()


def released(body: Body, end: str = "verified") -> int:
    """The number of an act that is a release with this entry."""
    return next(
        number
        for number, act in enumerate(body.acts)
        if act.signed and json.loads(act.entries[-1].entry)["kind"] == end
    )


def with_act(body: Body, number: int, **changes: Any) -> Body:
    acts = list(body.acts)
    acts[number] = replace(acts[number], **changes)
    return replace(body, acts=tuple(acts))


def without_approvals(body: Body) -> Body:
    number = released(body)
    act = body.acts[number]
    assert act.signed is not None
    return with_act(body, number, signed=SignedStatement(act.signed.statement, ()))


def of_another_statement(body: Body) -> Body:
    number = released(body)
    act = body.acts[number]
    assert act.signed is not None
    other = replace(act.signed.statement, nonce="0" * 32)
    return with_act(body, number, signed=SignedStatement(other, act.signed.approvals))


def under_older_rules(body: Body) -> Body:
    number = next(n for n, act in enumerate(body.acts) if act.signed and act.after > 5)
    return with_act(body, number, after=2)


def before_genesis(body: Body) -> Body:
    return with_act(body, released(body), after=0)


def after_the_end(body: Body) -> Body:
    return with_act(body, released(body), after=len(body.chain) + 2)


def at_another_time(body: Body) -> Body:
    number = released(body)
    return with_act(body, number, at=body.acts[number].at + 1)


def without_its_intent(body: Body) -> Body:
    number = released(body)
    kept = [one for one in body.acts[number].entries if b'"intent"' not in one.entry]
    return with_act(body, number, entries=tuple(kept))


def with_another_acts_entry(body: Body) -> Body:
    number = released(body)
    other = next(act for n, act in enumerate(body.acts) if act.signed and n != number)
    return with_act(body, number, entries=other.entries)


def with_an_entry_that_is_not_logged(body: Body) -> Body:
    number = released(body)
    act = body.acts[number]
    entry = Entry.from_bytes(act.entries[-1].entry)
    said = replace(act.entries[-1], entry=canonical(replace(entry, zones="separated").to_json()))
    return with_act(body, number, entries=(*act.entries[:-1], said))


def at_another_position(body: Body) -> Body:
    number = released(body)
    first, *rest = body.acts[number].entries
    return with_act(
        body, number, entries=(Placed(first.entry, first.position + 1, first.inclusion), *rest)
    )


def entries_turned_round(body: Body) -> Body:
    number = released(body)
    return with_act(body, number, entries=body.acts[number].entries[::-1])


def twice(body: Body) -> Body:
    number = released(body)
    return replace(body, acts=(*body.acts[: number + 1], *body.acts[number:]))


def out_of_order(body: Body) -> Body:
    return replace(body, acts=body.acts[::-1])


def a_change_left_out(body: Body) -> Body:
    return replace(body, chain=body.chain[:2] + body.chain[3:])


def a_change_that_nobody_signed(body: Body) -> Body:
    bare = SignedStatement(body.chain[-1].statement, ())
    return replace(body, chain=(*body.chain[:-1], bare))


def a_change_beside_the_chains(body: Body) -> Body:
    number = next(n for n, act in enumerate(body.acts) if act.signed is None and act.after > 0)
    moved = body.chain[body.acts[number].after - 1]
    return with_act(body, number, signed=moved)


def an_answer_to_another_question(body: Body) -> Body:
    return replace(body, question=Question({**body.question.parts, "project": ("demo",)}))


def another_log(body: Body) -> Body:
    return replace(body, checkpoint=body.checkpoint.replace(b"gate.example", b"gate.elsewhere"))


LIES = {
    without_approvals: "0 of 1 needed approvals",
    of_another_statement: "is not about the act that it stands under",
    under_older_rules: "under other rules than those of its place",
    before_genesis: "before genesis",
    after_the_end: "after more changes than the evidence has",
    at_another_time: "another time for an act",
    without_its_intent: "does not say of an act that it was carried out",
    with_another_acts_entry: "is not about the act that it stands under",
    with_an_entry_that_is_not_logged: "is not in the log",
    at_another_position: "is not in the log",
    entries_turned_round: "not in their order",
    twice: "stands in the evidence twice",
    out_of_order: "not in the order of time",
    a_change_left_out: "after more changes than the evidence has",
    a_change_that_nobody_signed: "0 of 2 needed approvals",
    a_change_beside_the_chains: "stands beside the chains",
    an_answer_to_another_question: "does not answer the question",
    another_log: "no valid signature of this log",
}


@pytest.mark.parametrize("lie", LIES, ids=lambda lie: str(lie.__name__))
def test_a_press_that_signs_a_lie_is_caught(
    past: Past, whole: bytes, lie: Callable[[Body], Body]
) -> None:
    body = Evidence.from_bytes(whole).body
    assert checked(past, signed(past, body)).acts
    with pytest.raises(Refusal, match=LIES[lie]):
        checked(past, signed(past, lie(body)))


def test_the_newest_cosigned_checkpoint_is_taken_if_everything_is_in_it(tmp_path: Path) -> None:
    engine = open_engine(tmp_path / "journal.db")
    migrate.upgrade(engine, "journal")
    past = past_of(engine, releases=3)
    private = Ed25519PrivateKey.from_private_bytes(bytes(32))
    witness = VerifierKey(
        "witness.example", note.COSIGNATURE, private.public_key().public_bytes_raw()
    )
    head = past.writer.run(ledger_view.head)
    text = note.Note.from_bytes(head.note).text
    seen = note.Note(
        text,
        (
            *note.Note.from_bytes(head.note).signatures,
            note.cosign(text, witness, NOW, private.sign),
        ),
    )
    row = {"name": witness.name, "size": head.size, "note": seen.to_bytes()}
    past.writer.run(lambda c: c.execute(t.LEDGER_WITNESS.insert().values(**row)))
    past.release("new", "1.0")

    def shown(**words: Any) -> Found:
        evidence = Evidence.from_bytes(bundle(past, **words))
        root = past.paper.genesis.digest
        return check_evidence(evidence, trust_root=root, witnesses=[witness])

    before = shown(kinds=("policy",))
    assert (before.checkpoint.size, before.witnesses) == (head.size, (("witness.example", NOW),))
    after = shown(project="new")
    assert (after.checkpoint.size, after.witnesses) == (head.size + 3, ())
    past.writer.close()


def test_an_attestation_of_another_body_or_by_another_key_is_none(past: Past, whole: bytes) -> None:
    evidence = Evidence.from_bytes(whole)
    fewer = replace(evidence.body, acts=evidence.body.acts[:-1])
    with pytest.raises(Refusal, match="about something else"):
        checked(past, Evidence.of(fewer, evidence.attestation).to_bytes())
    stranger = PressKey(past.paper.recovery_key).attest(to_sign(evidence.body))
    with pytest.raises(Refusal, match="signature does not verify"):
        checked(past, replace(evidence, attestation=stranger).to_bytes())


def test_what_is_left_out_is_not_noticed_and_the_verdict_says_so(past: Past, whole: bytes) -> None:
    """The limit of evidence: fewer acts, signed by the press, are as valid. `verify` tells people so."""
    body = Evidence.from_bytes(whole).body
    number = released(body)
    fewer = replace(body, acts=body.acts[:number] + body.acts[number + 1 :])
    assert len(checked(past, signed(past, fewer)).acts) == len(body.acts) - 1


def test_an_answer_that_nobody_would_read_is_not_signed(
    past: Past, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(press_evidence, "EVIDENCE_ACTS_MAX", 3)
    with pytest.raises(Refusal, match="More than 3 acts") as caught:
        bundle(past)
    assert caught.value.code is Code.REQUEST_TOO_LARGE and "--since" in caught.value.hint
    monkeypatch.setattr(press_evidence, "EVIDENCE_BYTES_MAX", 1000)
    with pytest.raises(Refusal, match="the limit is 1000"):
        bundle(past, kinds=("policy",))
