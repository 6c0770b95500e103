"""An auditor follows the ledger's own statements: another key, a recovery; and tells what they do not explain."""

from __future__ import annotations

from pathlib import Path

import pytest

from ledger_copy import Ledger, Shelf
from ledger_copy import served as serving
from presspass.cli import exits
from presspass.cli.auditing import Outcome, TwoCheckpointsError
from presspass.cli.main import run
from presspass.core.errors import Code, Refusal
from presspass.core.ledger import merkle
from presspass.core.log import LogBody, LogRecovery
from presspass.core.statement import Statement
from proof_world import raw_hex
from test_cli_audit import WHEEL, in_memory
from test_verify_log import NEW, served

KEPT = 4


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    """Genesis and a release: KEPT entries."""
    ledger = Ledger(tmp_path / "copy")
    ledger.publish(WHEEL)
    assert len(ledger.entries) == KEPT
    return ledger


def admitted(ledger: Ledger, statement: Statement) -> None:
    ledger.add("admitted", statement=statement.digest, what="log", by=["p-ana", "p-ben"])


def rotate(ledger: Ledger) -> None:
    paper = ledger.paper
    admitted(ledger, paper.admit(LogBody(paper.chain.log.origin, raw_hex(NEW)), "ana", "ben"))
    paper.log_key = NEW


def recover(ledger: Ledger, seen: int, size: int = KEPT) -> None:
    paper, edge = ledger.paper, list[bytes]()
    for position, entry in enumerate(ledger.entries[:size]):
        merkle.append(position, edge, merkle.leaf_hash(entry))
    lost = LogRecovery(size, merkle.edge_root(edge).hex(), seen, "", "the disk was lost")
    body = LogBody(paper.chain.next_log_origin, raw_hex(paper.log_key), lost)
    admitted(ledger, paper.admit(body, "ana", "ben"))


def files(ledger: Ledger) -> dict[str, bytes]:
    return {**ledger.files(), "keys": served(ledger.paper)}


def audit(ledger: Ledger, state: Path, **changed: bytes) -> Outcome:
    return in_memory(Shelf({**files(ledger), **changed}), ledger, state)


def codes(outcome: Outcome) -> list[str]:
    return [one.code for one in outcome.findings]


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state.json"


def test_another_key_is_followed_and_the_old_one_is_taken_no_more(
    ledger: Ledger, state: Path
) -> None:
    old_key, before = ledger.paper.log_key, served(ledger.paper)
    assert codes(audit(ledger, state)) == []
    rotate(ledger)
    outcome = audit(ledger, state)
    assert codes(outcome) == [] and outcome.account.size == KEPT + 1
    ledger.refuse(3)
    forged = ledger.files(key=old_key)["checkpoint"]
    for changed in ({"checkpoint": forged}, {"checkpoint": forged, "keys": before}):
        with pytest.raises(Refusal) as refused:
            audit(ledger, state, **changed)
        assert refused.value.code is Code.PROOF_INVALID
    assert codes(audit(ledger, state, keys=before)) == [], "an older chain is passed over"


def test_a_ledger_whose_own_statements_are_not_served_or_not_entered_is_told(
    ledger: Ledger, state: Path, tmp_path: Path
) -> None:
    old_key, before = ledger.paper.log_key, served(ledger.paper)
    rotate(ledger)
    goes_on = ledger.files(key=old_key)["checkpoint"]
    hidden = audit(ledger, state, checkpoint=goes_on, keys=before)
    assert codes(hidden) == ["entry.log"], "the old key goes on after the entry that ended it"
    ledger.entries.pop()
    assert codes(audit(ledger, tmp_path / "other.json")) == ["entry.log"]


def test_a_recovered_log_is_told_once_with_what_is_lost_and_then_followed(
    ledger: Ledger, state: Path
) -> None:
    assert codes(audit(ledger, state)) == []
    kept = list(ledger.entries)
    ledger.publish("demo-2.0-py3-none-any.whl")
    assert codes(audit(ledger, state)) == []
    ledger.entries = kept
    ledger.refuse(1)
    recover(ledger, seen=KEPT + 3)
    first = audit(ledger, state)
    assert codes(first) == ["recovery.entries-lost", "recovery.files-lost"]
    told = " ".join(one.message for one in first.findings)
    assert "gate.example/log had 7 entries" in told and "from the first 4 of them" in told
    assert "the disk was lost" in told and "demo-2.0-py3-none-any.whl" in told and WHEEL not in told
    assert list(state.with_suffix(".evidence").iterdir()), "what was seen is kept"
    ledger.refuse(2)
    again = audit(ledger, state)
    assert codes(again) == [] and again.account.size == len(ledger.entries)
    assert any("recovered as gate.example/log/2" in one for one in again.notes)


def test_who_had_seen_nothing_of_what_is_lost_goes_on_with_a_remark(
    ledger: Ledger, state: Path, tmp_path: Path
) -> None:
    assert codes(audit(ledger, state)) == []
    recover(ledger, seen=KEPT + 3)
    for one in (state, tmp_path / "new.json"):
        outcome = audit(ledger, one)
        assert codes(outcome) == [] and len(outcome.notes) >= 1


def test_a_recovery_that_begins_with_other_entries_than_were_seen_is_a_fork(
    ledger: Ledger, state: Path
) -> None:
    audit(ledger, state)
    ledger.publish("demo-2.0-py3-none-any.whl")
    audit(ledger, state)
    ledger.entries = ledger.entries[: KEPT - 1]
    ledger.refuse(2)
    recover(ledger, seen=KEPT + 3, size=KEPT + 1)
    with pytest.raises(TwoCheckpointsError) as refused:
        audit(ledger, state)
    assert refused.value.code is Code.LOG_FORKED and len(refused.value.notes) == 2


def test_what_is_served_must_begin_with_the_tree_that_people_have_signed(
    ledger: Ledger, state: Path
) -> None:
    ledger.publish("demo-2.0-py3-none-any.whl")
    audit(ledger, state)
    ledger.entries = ledger.entries[:KEPT]
    recover(ledger, seen=KEPT + 3)
    last = ledger.entries.pop()
    ledger.entries[KEPT - 1] = last
    ledger.entries.append(last)
    with pytest.raises(TwoCheckpointsError) as refused:
        audit(ledger, state)
    assert refused.value.code is Code.LOG_FORKED


def test_the_exit_code_says_that_something_is_lost_in_the_round_that_finds_it(
    ledger: Ledger, state: Path
) -> None:

    with serving(ledger.folder) as url:
        words = ["audit", url, "--trust", str(ledger.trust), "--state", str(state)]
        ledger.refuse(3)
        ledger.lay_out()
        assert run(words) == exits.DONE
        del ledger.entries[KEPT:]
        recover(ledger, seen=KEPT + 3)
        for path, data in files(ledger).items():
            ledger.put(path, data)
        assert run(words) == exits.REFUSED
        assert run(words) == exits.DONE
