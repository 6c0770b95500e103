"""The press acts on approved statements, once, and on nothing else."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from press_rig import TOKEN, Rig
from presspass.core.policy import Policy
from presspass.core.statement import FreezeBody
from presspass.drill.packages import make_sdist, make_wheel
from presspass.drill.world.registry import Registry
from presspass.store import journal_view as view
from presspass.store import ledger_check
from presspass.verify.proof import Proof, check_proof

POLICY = Policy(veto_window_s=0, software_keys=True, key_wait_s=0)


@pytest.fixture
def registry() -> Iterator[Registry]:
    with Registry(seed=7, token=TOKEN) as running:
        yield running


@pytest.fixture
def rig(tmp_path: Path, registry: Registry) -> Iterator[Rig]:
    built = Rig(tmp_path / "home", registry, POLICY).build()
    built.seal()
    yield built
    built.rows.close()


def _files(folder: Path, version: str = "1.0") -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    return [make_wheel(folder, "demo", version), make_sdist(folder, "demo", version)]


def test_an_approved_release_is_published_once_and_its_proof_verifies_offline(
    rig: Rig, tmp_path: Path
) -> None:
    with rig.press() as press:
        rig.upstream(press)
        files = _files(tmp_path / "d")
        statement = rig.stage(press, files, "demo", "1.0")
        rig.stays(press, statement.digest, "seen")
        assert not rig.registry.uploads
        rig.sign(statement, "ben")
        rig.until(press, statement.digest, "verified")
        rig.stays(press, statement.digest, "verified")
        assert sorted(upload.filename for upload in rig.registry.uploads) == sorted(
            file.name for file in files
        )
        assert rig.journal(ledger_check.check) > 3
    for file in files:
        data = file.read_bytes()
        proof = rig.journal(lambda c, name=file.name: view.proof(c, statement.digest, name))
        valid = check_proof(
            Proof.from_bytes(proof),
            filename=file.name,
            sha256=hashlib.sha256(data).hexdigest(),
            size=len(data),
            trust_root=rig.genesis.digest,
        )
        assert valid.approved_by == ("p-ben",)


def test_the_requester_never_counts(rig: Rig, tmp_path: Path) -> None:
    with rig.press() as press:
        rig.upstream(press)
        statement = rig.stage(press, _files(tmp_path / "d"), "demo", "1.0", requester="p-ana")
        rig.sign(statement, "ana")
        decision = rig.stays(press, statement.digest, "seen")
        assert decision.code == "quorum.missing"
        assert not rig.registry.uploads


def test_a_requester_whom_only_the_gateway_names_saves_no_approver(
    rig: Rig, tmp_path: Path
) -> None:
    with rig.press() as press:
        rig.upstream(press)
        files = _files(tmp_path / "d")
        statement = rig.stage(press, files, "demo", "1.0", requester="p-ana", requester_signs=False)
        rig.sign(statement, "ben")
        decision = rig.stays(press, statement.digest, "seen")
        assert decision.code == "quorum.missing"
        assert "1 of 2" in decision.message
        assert not rig.registry.uploads
        rig.sign(statement, "ana")
        rig.until(press, statement.digest, "verified")


def test_an_unresolved_requester_needs_one_more(rig: Rig, tmp_path: Path) -> None:
    with rig.press() as press:
        rig.upstream(press)
        statement = rig.stage(press, _files(tmp_path / "d"), "demo", "1.0", requester="")
        rig.sign(statement, "ben")
        rig.stays(press, statement.digest, "seen")
        rig.sign(statement, "cleo")
        rig.until(press, statement.digest, "verified")


def test_a_veto_is_final_even_beside_enough_approvals(rig: Rig, tmp_path: Path) -> None:
    with rig.press() as press:
        rig.upstream(press)
        statement = rig.stage(press, _files(tmp_path / "d"), "demo", "1.0")
        rig.veto(statement, "cleo")
        rig.sign(statement, "ben")
        decision = rig.until(press, statement.digest, "rejected")
        assert decision.code == "narrowing.vetoed"
        rig.stays(press, statement.digest, "rejected")
        assert not rig.registry.uploads


def test_a_file_swapped_in_the_gateway_is_not_published(rig: Rig, tmp_path: Path) -> None:
    with rig.press() as press:
        rig.upstream(press)
        files = _files(tmp_path / "d")
        statement = rig.stage(press, files, "demo", "1.0")
        digest = hashlib.sha256(files[0].read_bytes()).hexdigest()
        blob = rig.home / "gateway" / "blobs" / "sha256" / digest[:2] / digest
        blob.chmod(0o600)
        blob.write_bytes(files[0].read_bytes() + b"x")
        rig.sign(statement, "ben")
        decision = rig.until(press, statement.digest, "rejected")
        assert decision.code == "artifact.digest-mismatch"
        assert not rig.registry.uploads


def test_an_approval_cannot_be_replayed_for_another_statement(rig: Rig, tmp_path: Path) -> None:
    with rig.press() as press:
        rig.upstream(press)
        first = rig.stage(press, _files(tmp_path / "d"), "demo", "1.0")
        rig.sign(first, "ben")
        rig.until(press, first.digest, "verified")
        second = rig.stage(press, _files(tmp_path / "e", "1.1"), "demo", "1.1")
        rig.put_approval(second, replace(rig.approval(first, "ben"), statement=second.digest))
        decision = rig.stays(press, second.digest, "seen")
        assert decision.code == "approval.wrong-statement"


def test_a_freeze_stops_what_is_approved_and_only_a_quorum_clears_it(
    rig: Rig, tmp_path: Path
) -> None:
    with rig.press() as press:
        rig.upstream(press)
        freeze = rig.freeze("cleo")
        statement = rig.stage(press, _files(tmp_path / "d"), "demo", "1.0")
        rig.sign(statement, "ben")
        decision = rig.stays(press, statement.digest, "seen")
        assert decision.code == "narrowing.frozen"
        clear = rig.statement(FreezeBody("clear", "", (freeze.digest,), "looked at"))
        rig.request(clear)
        rig.sign(clear, "ana")
        rig.stays(press, clear.digest, "seen")
        rig.sign(clear, "ben")
        rig.until(press, clear.digest, "admitted")
        rig.until(press, statement.digest, "verified")
