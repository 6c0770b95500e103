"""The log gets another key by a statement of people: a real press, at every crash point, beside releases under way."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

import backends
from press_rig import TOKEN, Rig
from presspass.core.digests import JsonObject, sha256_hex
from presspass.core.errors import Code, Fault
from presspass.core.history import Question
from presspass.core.ledger.note import VerifierKey
from presspass.core.log import LogBody
from presspass.core.policy import Policy
from presspass.core.signer import SignerBody
from presspass.core.statement import Kind, Statement
from presspass.drill.packages import make_wheel
from presspass.drill.world.registry import Registry
from presspass.press import desk
from presspass.press.log_keys import NEXT_NAME, LogKeys
from presspass.press.press import Press
from presspass.press.signing import Signers
from presspass.services import press as service
from presspass.store import journal_view as view
from presspass.store import ledger_check, ledger_view
from presspass.verify.chain import Chain
from presspass.verify.evidence import Evidence, check_evidence
from presspass.verify.proof import Proof, Valid, check_proof, is_signed_by
from test_press_crash import Fuse

POLICY = Policy(veto_window_s=0, software_keys=True, key_wait_s=0)


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    with Registry(seed=7, token=TOKEN) as registry:
        built = Rig(tmp_path / "home", registry, POLICY).build()
        built.seal()
        yield built
        built.rows.close()


def chain(rig: Rig) -> Chain:
    found = rig.journal(lambda c: Chain.of(view.chained(c)))
    assert isinstance(found, Chain)
    return found


def make_key(press: Press) -> str:
    """As `presspass log rotate` asks for it."""
    answer = desk.put_order(press.desk.inbox, {"do": "log-key"})
    press.tick()
    found = desk.take_answer(answer)
    assert found is not None
    return str(found["log_key"])


def ask_for(rig: Rig, key: str, *signers: str) -> Statement:
    now = chain(rig)
    statement = rig.statement(LogBody(now.log.origin, key), now.head(Kind.LOG))
    rig.request(statement)
    rig.sign(statement, *signers)
    return statement


def rotate(rig: Rig, press: Press) -> str:
    key = make_key(press)
    rig.until(press, ask_for(rig, key, "ana", "ben").digest, "admitted")
    press.tick()
    return key


def publish(rig: Rig, press: Press, wheel: Path, version: str) -> Statement:
    statement = rig.stage(press, [wheel], "demo", version)
    rig.sign(statement, "ben")
    rig.until(press, statement.digest, "verified")
    return statement


def proof_of(rig: Rig, statement: Statement, wheel: Path) -> Proof:
    return Proof.from_bytes(rig.journal(lambda c: view.proof(c, statement.digest, wheel.name)))


def checked(
    rig: Rig, statement: Statement, wheel: Path, witnesses: Sequence[VerifierKey] = ()
) -> Valid:
    return check_proof(
        proof_of(rig, statement, wheel),
        filename=wheel.name,
        sha256=sha256_hex(wheel.read_bytes()),
        size=wheel.stat().st_size,
        trust_root=rig.genesis.digest,
        witnesses=witnesses,
    )


def assert_in_order(rig: Rig, key: str) -> None:
    """The ledger is whole, signed by this key, which alone is left on the host."""
    head = rig.journal(ledger_view.head)
    assert is_signed_by(head.note, chain(rig).log) and chain(rig).log.key == key
    assert rig.journal(ledger_check.check) == head.size
    kept = {path.name: path.read_bytes() for path in (rig.home / "press" / "keys").glob("log*")}
    (seed,) = kept.values()
    assert Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw().hex() == key


def wheels(folder: Path, *versions: str) -> list[Path]:
    return [make_wheel(folder, "demo", version) for version in versions]


def test_once_people_have_let_a_key_in_it_signs_and_the_one_before_is_gone(
    rig: Rig, tmp_path: Path
) -> None:
    first, second, third = wheels(tmp_path, "1.0", "2.0", "3.0")
    with rig.press() as press:
        rig.upstream(press)
        before = publish(rig, press, first, "1.0")
        key = rotate(rig, press)
        after = publish(rig, press, second, "2.0")
        assert_in_order(rig, key)
        again = rotate(rig, press)
        assert again != key != rig.identity.log_key
    with rig.press() as press:
        last = publish(rig, press, third, "3.0")
        assert_in_order(rig, again)
    found = [checked(rig, before, first), checked(rig, after, second), checked(rig, last, third)]
    signed_by = [
        sha256_hex(SignerBody.of_raw("attestation", bytes.fromhex(one)).public_key)
        for one in (rig.identity.log_key, key, again)
    ]
    assert [one.attested_by for one in found] == [("ed25519", one) for one in signed_by]
    names = [one.get("what") for one in rig.ledger() if one["kind"] == "admitted"]
    assert names == ["upstream", "log", "log"]


def test_a_key_that_the_press_does_not_have_is_not_let_in(rig: Rig) -> None:
    stranger = Ed25519PrivateKey.generate().public_key().public_bytes_raw().hex()
    with rig.press() as press:
        made = make_key(press)
        statement = ask_for(rig, stranger, "ana", "ben")
        decision = rig.stays(press, statement.digest, "seen")
        assert decision.code == Code.LOG_KEY_MISSING.value
        forgotten = ask_for(rig, made, "ana", "ben")
        newest = make_key(press)
        assert rig.stays(press, forgotten.digest, "seen").code == Code.LOG_KEY_MISSING.value
        rig.until(press, ask_for(rig, newest, "ana", "ben").digest, "admitted")
        press.tick()
        assert_in_order(rig, newest)


def test_without_the_quorum_the_key_stays_and_a_veto_ends_the_request(rig: Rig) -> None:
    with rig.press() as press:
        key = make_key(press)
        statement = ask_for(rig, key, "ana")
        rig.stays(press, statement.digest, "seen")
        rig.veto(statement, "cleo")
        rig.sign(statement, "ben")
        rig.until(press, statement.digest, "rejected")
        assert chain(rig).log.key == rig.identity.log_key
        assert is_signed_by(rig.journal(ledger_view.head).note, chain(rig).log)


@pytest.mark.parametrize("persisted", [False, True], ids=["commit-lost", "commit-kept"])
def test_a_crash_at_any_commit_of_the_rotation_leaves_a_press_that_can_sign(
    rig: Rig, persisted: bool
) -> None:
    with rig.press() as press:
        key = make_key(press)
        statement = ask_for(rig, key, "ana", "ben")
    rig.rows.close()
    for good in range(40):
        run = replace(rig, home=rig.home.with_name(f"run{good}"))
        run.genesis, run.identity = rig.genesis, rig.identity
        shutil.copytree(rig.home, run.home)
        backends.copied(run.home)
        fuse = Fuse(good, persisted)
        with service.composed(run.home, commit=fuse) as press:
            try:
                while not fuse.blown and not _is_admitted(run, statement):
                    press.tick()
            except Fault as fault:
                assert fault.code == "store.write-failed"
        with service.composed(run.home) as press:
            while not _is_admitted(run, statement):
                press.tick()
            press.tick()
        assert_in_order(run, key)
        about = [one["kind"] for one in run.ledger() if one.get("statement") == statement.digest]
        assert sorted(about) == ["admitted", "approved", "asked", "signed", "signed"]
        if not fuse.blown:
            assert good >= 3, "first sight, the count and the admission are commits of their own"
            return
    raise AssertionError("it never got through without a crash")


def _is_admitted(rig: Rig, statement: Statement) -> bool:
    decision = rig.decision(statement.digest)
    return decision is not None and decision.state == "admitted"


def test_a_press_that_ended_before_the_old_key_was_removed_removes_it(rig: Rig) -> None:
    keys = rig.home / "press" / "keys"
    with rig.press() as press:
        old = (keys / "log.key").read_bytes()
        key = rotate(rig, press)
        new = (keys / "log.key").read_bytes()
    (keys / "log.key").write_bytes(old)
    (keys / "log-next.key").write_bytes(new)
    (keys / "log-next.key").chmod(0o600)
    with rig.press() as press:
        freeze = rig.freeze("ana")
        press.tick()
        assert rig.journal(view.narrowings)[0].id == freeze.digest, (
            "signed by what is in log-next.key"
        )
    assert_in_order(rig, key)


def test_a_key_that_another_node_has_made_is_taken_from_where_people_put_it(
    rig: Rig, tmp_path: Path
) -> None:
    other = LogKeys(rig.home / "press" / "keys")
    shutil.copytree(rig.home / "press" / "keys", tmp_path / "node")
    made = LogKeys(tmp_path / "node").make_next(rig.identity.log_key)
    assert other.get(made) is None
    shutil.copy2(tmp_path / "node" / NEXT_NAME, other.folder / NEXT_NAME)
    found = other.get(made)
    assert found is not None and found.public.hex() == made
    other.settle(rig.identity.log_key)
    assert other.is_next_there, "nobody has let it in"
    other.settle(made)
    assert other.present == made and not other.is_next_there


def test_a_press_without_the_key_in_force_does_not_start(rig: Rig) -> None:
    keys = rig.home / "press" / "keys"
    old = (keys / "log.key").read_bytes()
    with rig.press() as press:
        rotate(rig, press)
    size = rig.journal(ledger_view.size)
    (keys / "log.key").write_bytes(old)
    with pytest.raises(Fault) as fault, rig.press():
        pass
    assert fault.value.code == "log.key-missing" and not fault.value.retryable
    assert rig.journal(ledger_view.size) == size


@dataclass
class Held:
    """The press's own signers; the first time they sign, they wait until `go`."""

    real: Signers
    reached: threading.Event = field(default_factory=threading.Event)
    go: threading.Event = field(default_factory=threading.Event)
    count: int = 0

    def attest(
        self, signer: SignerBody, statements: Sequence[JsonObject]
    ) -> tuple[JsonObject, ...]:
        made = self.real.attest(signer, statements)
        self.count += 1
        self.reached.set()
        assert self.go.wait(60)
        return made


def test_a_release_that_is_under_way_is_proved_by_the_new_key_and_sent_once(
    rig: Rig, tmp_path: Path
) -> None:
    (wheel,) = wheels(tmp_path, "1.0")
    with rig.press() as press:
        rig.upstream(press)
        held = Held(press.tools.signers)
        press.publications.tools = replace(press.tools, signers=held)  # type: ignore[arg-type]  # the same, but later
        release = rig.stage(press, [wheel], "demo", "1.0")
        rig.sign(release, "ben")
        while not held.reached.is_set():
            press.tick()
        key = rotate(rig, press)
        held.go.set()
        rig.until(press, release.digest, "verified")
        assert held.count == 2, "what the old key signed was given up"
        assert_in_order(rig, key)
    proof = proof_of(rig, release, wheel)
    assert [one.statement.kind for one in proof.later] == [Kind.LOG]
    assert rig.registry.accepted(wheel.name) == 1
    new = SignerBody.of_raw("attestation", bytes.fromhex(key))
    assert checked(rig, release, wheel).attested_by[1] == sha256_hex(new.public_key)


def test_evidence_after_a_rotation_is_signed_by_the_key_in_force(rig: Rig) -> None:

    with rig.press() as press:
        rig.upstream(press)
        key = rotate(rig, press)
    data = service.evidence(rig.home, Question({"space": ("main",)}))
    found = check_evidence(Evidence.from_bytes(data), trust_root=rig.genesis.digest)
    assert [one["kind"] for one in found.acts][-1] == "log"
    assert chain(rig).log.key == key
