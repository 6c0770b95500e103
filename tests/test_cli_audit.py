"""What an auditor notices of a ledger that is not what it should be, and that it finds nothing in one that is."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

import packages
from gateway_world import World
from ledger_copy import HASH, Ledger, Shelf, served
from press_rig import TOKEN, rigs
from presspass.cli import audit as command
from presspass.cli import auditing, exits
from presspass.cli.audit_state import State
from presspass.cli.exits import CannotSayError
from presspass.cli.main import run
from presspass.core.digests import canonical, sha256_hex
from presspass.core.errors import Code, Fault, Refusal
from presspass.core.ledger import tiles
from presspass.core.ledger.note import COSIGNATURE, Note, VerifierKey, cosign
from presspass.core.ledger.tiles import ENTRIES, Tile
from presspass.core.policy import Policy
from presspass.core.statement import ReleaseFile
from presspass.drill.world.clock import WorldClock
from presspass.drill.world.registry import Door, Registry, StoredFile
from presspass.formats.simple_index import Listed, read_page
from presspass.press.log import Log
from presspass.store import ledger_view
from presspass.verify.entries import KINDS
from presspass.verify.listing import compare
from proof_world import NOW, Paper, raw_hex

WHEEL = "demo-1.0-py3-none-any.whl"
OTHER_KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(7, 39)))


@pytest.fixture(autouse=True)
def _own_state(own_config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PRESSPASS_TRUST", raising=False)


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    """A small honest log, laid out."""
    made = Ledger(tmp_path / "copy")
    made.publish(WHEEL)
    made.lay_out()
    return made


@pytest.fixture
def url(ledger: Ledger) -> Iterator[str]:
    with served(ledger.folder) as address:
        yield address


def audit(url: str, ledger: Ledger, *more: str) -> int:
    return run(["audit", url, "--trust", str(ledger.trust), *more])


def verdict(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def in_memory(shelf: Shelf, ledger: Ledger, state: Path) -> auditing.Outcome:
    """One round without HTTP."""
    remembered = State.read(state, ledger.genesis)
    return auditing.audit(shelf, remembered, auditing.Wanted(), _no_progress)


def _no_progress(_title: str, _total: int) -> Any:
    return nullcontext(lambda _count: None)


def codes(outcome: auditing.Outcome) -> list[tuple[str, int | None]]:
    return [(one.code, one.position) for one in outcome.findings]


def test_an_honest_log_is_followed_as_it_grows_and_only_what_is_new_is_read(
    url: str, ledger: Ledger, capsys: pytest.CaptureFixture[str]
) -> None:
    assert audit(url, ledger) == exits.DONE
    told = capsys.readouterr().out
    assert told.startswith("OK  gate.example/log, 4 entries\n")
    assert "releases     1, with 1 files" in told
    ledger.refuse(300)
    ledger.lay_out()
    assert audit(url, ledger, "--format", "json") == exits.DONE
    found = verdict(capsys)
    assert found["log"]["before"] == 4 and found["log"]["size"] == 304
    assert found["valid"] is True and found["verdict"] == "ok"
    assert found["entries"]["refused-at-gateway"] == 300
    shelf = Shelf(ledger.files())
    path = next(iter((ledger.folder.parent / "config").rglob("*.json")))
    assert in_memory(shelf, ledger, path).before == 304
    assert shelf.asked == ["keys", "checkpoint"], "nothing is read twice"


def test_a_gate_serves_what_an_auditor_needs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ledger = Ledger(tmp_path / "unused")
    paper = ledger.paper
    log = Log(paper.chain.log, lambda _key, message: paper.log_key.sign(message))
    with World(tmp_path / "home") as world:
        world.journal.writer.before_commit = log.grow
        assert audit(world.url, ledger) == exits.CANNOT_SAY, "there is no ledger yet"
        world.journal.writer.run(lambda c: log.extend(c, ledger.entries))
        assert audit(world.url, ledger) == exits.DONE
        before = len(ledger.entries)
        ledger.publish(WHEEL)
        ledger.refuse(600)
        world.journal.writer.run(lambda c: log.extend(c, ledger.entries[before:]))
        assert audit(f"{world.url}/log/", ledger) == exits.DONE
    assert "604 entries" in capsys.readouterr().out


def test_what_a_press_writes_has_nothing_to_find_in_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    policy = Policy(veto_window_s=0, software_keys=True, quiet_period_s=0)
    clock = WorldClock.of_this_machine()
    with (
        Registry(seed=11, token=TOKEN, clock=clock) as registry,
        rigs(tmp_path, registry, policy) as make,
    ):
        rig = make()
        with rig.press() as press:
            rig.upstream(press)
            files = [packages.make_wheel(tmp_path, "demo", "1.0")]
            rig.freeze("ana", "other")
            statement = rig.stage(press, files, "demo", "1.0")
            rig.sign(statement, "ben")
            rig.until(press, statement.digest, "verified")
        copy = tmp_path / "copy"
        write_copy(rig, copy)
        trust = tmp_path / "trust-root.json"
        trust.write_bytes(rig.genesis.to_bytes())
        with served(copy) as url:
            words = ["audit", url, "--trust", str(trust), "--registry", registry.simple_url]
            assert run([*words, "--format", "json"]) == exits.DONE
    found = verdict(capsys)
    assert (found["findings"], found["notes"]) == ([], [])
    assert found["entries"]["verified"] == 1 and found["entries"]["narrowing"] == 1


def write_copy(rig: Any, folder: Path) -> None:
    """A static copy of a press's ledger."""

    def read(connection: sa.Connection) -> dict[str, bytes]:
        head = ledger_view.head(connection)
        wanted = {tile.path: tile for tile in tiles.grown(0, head.size)}
        found = {path: ledger_view.served(connection, tile) for path, tile in wanted.items()}
        return {"checkpoint": head.note, **{path: data or b"" for path, data in found.items()}}

    for path, data in rig.journal(read).items():
        (folder / "log" / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / "log" / path).write_bytes(data)


def test_every_kind_that_the_press_writes_is_read() -> None:
    source = Path(__file__).resolve().parent.parent
    written = set[str]()
    for module in (source / "src" / "presspass" / "press").glob("*.py"):
        written |= set(re.findall(r'"?kind"?[=:] ?"([a-z-]+)",?\s', module.read_text()))
    assert written - {"webauthn"} <= KINDS, written - KINDS


# what is served is not what was signed


def test_any_byte_that_is_changed_is_noticed(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "copy")
    ledger.publish(WHEEL, steps="a")
    files = ledger.files()
    bundle = Tile(ENTRIES, 0, len(ledger.entries)).path
    for path in ("checkpoint", bundle):
        for place in range(len(files[path])):
            changed = bytearray(files[path])
            changed[place] ^= 1
            shelf = Shelf({**files, path: bytes(changed)})
            with pytest.raises(Refusal) as refused:
                in_memory(shelf, ledger, tmp_path / "state.json")
            assert refused.value.code in (Code.PROOF_INVALID, Code.LOG_DAMAGED), (path, place)
            assert State.read(tmp_path / "state.json", ledger.genesis).checked.size == 0


@pytest.mark.parametrize("wrong", ["cut short", "an entry more", "an entry less", "gone", "a page"])
def test_a_bundle_that_is_not_whole_is_noticed_and_nothing_of_it_is_kept(
    url: str, ledger: Ledger, capsys: pytest.CaptureFixture[str], wrong: str
) -> None:
    assert audit(url, ledger) == exits.DONE
    ledger.publish(WHEEL)
    ledger.lay_out()
    path = Tile(ENTRIES, 0, 7).path
    right = ledger.get(path)
    if wrong == "gone":
        ledger.forget(path)
    else:
        ledger.put(path, {
            "cut short": right[:-1],
            "an entry more": right + b"\0\1x",
            "an entry less": tiles.bundle(ledger.entries[:6]),
            "a page": b"<!DOCTYPE html><title>Welcome</title>",
        }[wrong])  # fmt: skip
    assert audit(url, ledger) == exits.REFUSED
    assert "[log.damaged]" in capsys.readouterr().err
    ledger.put(path, right)
    assert audit(url, ledger, "--format", "json") == exits.DONE
    assert verdict(capsys)["log"]["before"] == 4


def test_the_whole_bundle_stands_in_for_a_part_that_is_gone(url: str, ledger: Ledger) -> None:
    old = ledger.get("checkpoint")
    partial = Tile(ENTRIES, 0, 4).path
    ledger.refuse(300)
    ledger.lay_out()
    ledger.forget(partial)
    ledger.put("checkpoint", old)
    assert audit(url, ledger) == exits.DONE


def test_a_log_of_another_key_or_name_is_not_this_one(
    url: str, ledger: Ledger, capsys: pytest.CaptureFixture[str]
) -> None:
    ledger.lay_out(key=OTHER_KEY)
    assert audit(url, ledger) == exits.REFUSED
    assert "[proof.invalid]" in capsys.readouterr().err
    ledger.lay_out()
    foreign = Ledger(ledger.folder.parent / "foreign", paper=Paper(log_key=OTHER_KEY))
    assert audit(url, foreign) == exits.REFUSED


def test_a_log_that_begins_with_another_genesis_is_wrong(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "copy")
    other = Paper(policy=Policy(approvals=2, software_keys=True))
    ledger.entries.clear()
    ledger.add("genesis", statement=other.genesis.digest)
    ledger.add("genesis", statement=ledger.genesis.digest)
    outcome = in_memory(Shelf(ledger.files()), ledger, tmp_path / "state.json")
    assert codes(outcome) == [("entry.genesis", 0), ("entry.genesis", 1)]
    assert other.chain.log.origin == ledger.origin


def test_a_witness_that_is_named_must_have_cosigned(
    url: str, ledger: Ledger, capsys: pytest.CaptureFixture[str]
) -> None:
    key = VerifierKey("witness.example", COSIGNATURE, bytes.fromhex(raw_hex(OTHER_KEY)))
    words = ("--witness", key.to_text())
    assert audit(url, ledger, *words) == exits.CANNOT_SAY
    assert "no cosignature of witness.example" in capsys.readouterr().err
    signed = Note.from_bytes(ledger.get("checkpoint"))
    line = cosign(signed.text, key, NOW, OTHER_KEY.sign)
    ledger.put("checkpoint", Note(signed.text, (*signed.signatures, line)).to_bytes())
    assert audit(url, ledger) == exits.DONE, "others' signatures are passed over"
    capsys.readouterr()
    assert audit(url, ledger, *words, "--format", "json") == exits.DONE
    assert verdict(capsys)["witnesses"] == [{"at": NOW, "name": "witness.example"}]
    assert audit(url, ledger, "--witness", "nonsense") == exits.CANNOT_SAY


# two histories


def evidence(ledger: Ledger) -> set[bytes]:
    folder = ledger.folder.parent / "config"
    return {path.read_bytes() for path in folder.rglob("*.note")}


def test_another_tree_of_the_same_size_is_a_fork_and_both_checkpoints_are_kept(
    url: str, ledger: Ledger, capsys: pytest.CaptureFixture[str]
) -> None:
    assert audit(url, ledger) == exits.DONE
    first = ledger.get("checkpoint")
    ledger.entries.pop()
    ledger.refuse(1)
    ledger.lay_out()
    capsys.readouterr()
    for _ in range(2):  # and it stays one
        assert audit(url, ledger) == exits.REFUSED
        told = capsys.readouterr()
        assert "[log.forked]" in told.err and "audits" in told.err
        for note in (first, ledger.get("checkpoint")):
            assert note.decode().splitlines()[2] in told.out
    assert evidence(ledger) == {first, ledger.get("checkpoint")}


@pytest.mark.parametrize("size", [7, 260, 600])
def test_a_larger_tree_with_another_past_is_shown_to_be_a_fork_by_its_own_tiles(
    url: str, ledger: Ledger, capsys: pytest.CaptureFixture[str], size: int
) -> None:
    assert audit(url, ledger) == exits.DONE
    ledger.entries[2] = ledger.entries[1]
    ledger.refuse(size - 4)
    ledger.lay_out()
    assert audit(url, ledger) == exits.REFUSED
    assert "[log.forked]" in capsys.readouterr().err
    shutil.rmtree(ledger.folder / "log" / "tile" / "0")
    assert audit(url, ledger) == exits.REFUSED
    assert "[log.damaged]" in capsys.readouterr().err, (
        "without tiles nothing is shown, nor believed"
    )


def test_a_log_that_was_larger_before_is_refused(
    url: str, ledger: Ledger, capsys: pytest.CaptureFixture[str]
) -> None:
    old = ledger.get("checkpoint")
    ledger.publish(WHEEL)
    ledger.lay_out()
    assert audit(url, ledger) == exits.DONE
    new = ledger.get("checkpoint")
    ledger.put("checkpoint", old)
    capsys.readouterr()
    assert audit(url, ledger, "--format", "json") == exits.REFUSED
    assert verdict(capsys)["error"]["code"] == "log.smaller"
    assert evidence(ledger) == {old, new}


# interrupted


class _Cut(Shelf):
    """Does not answer after so many files."""

    def __init__(self, files: dict[str, bytes], count: int) -> None:
        super().__init__(files)
        self.left = count

    def get_bytes(self, path: str, *, bytes_max: int, accept: str = "") -> bytes:
        self.left -= 1
        if self.left < 0:
            raise Fault("gate.unreachable", "Gone.", retryable=True)
        return super().get_bytes(path, bytes_max=bytes_max, accept=accept)


@pytest.fixture
def interrupted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Ledger, Path]:
    """A log of 1100 entries, whose first three bundles were read before the connection broke."""
    monkeypatch.setattr(auditing, "_SAVE_EVERY_BUNDLES", 1)
    ledger, state = Ledger(tmp_path / "copy"), tmp_path / "state.json"
    ledger.publish(WHEEL, steps="ai")
    ledger.refuse(1097)
    with pytest.raises(CannotSayError):
        in_memory(_Cut(ledger.files(), 5), ledger, state)
    return ledger, state


def test_an_interrupted_round_goes_on_where_it_was_and_is_no_verdict(
    interrupted: tuple[Ledger, Path],
) -> None:
    ledger, path = interrupted
    state = State.read(path, ledger.genesis)
    assert state.unfinished is not None and state.unfinished.size == 768
    assert (state.checked.size, state.seen) == (0, None), "nothing is verified yet"
    ledger.refuse(100)
    shelf = Shelf(
        ledger.files() | {Tile(ENTRIES, 4, 76).path: tiles.bundle(ledger.entries[1024:1100])}
    )
    outcome = in_memory(shelf, ledger, path)
    assert outcome.account.size == 1200 and not outcome.findings
    assert Tile(ENTRIES, 2).path not in shelf.asked
    state = State.read(path, ledger.genesis)
    assert state.checked.size == 1200 and (state.unfinished, state.towards) == (None, None)


def test_what_was_read_before_an_interruption_is_held_to_the_signed_root(
    interrupted: tuple[Ledger, Path],
) -> None:
    ledger, path = interrupted
    value = json.loads(path.read_bytes())
    value["unfinished"]["edge"][0] = HASH
    path.write_text(json.dumps(value))
    with pytest.raises(Refusal) as refused:
        in_memory(Shelf(ledger.files()), ledger, path)
    assert refused.value.code is Code.LOG_DAMAGED
    assert in_memory(Shelf(ledger.files()), ledger, path).account.size == len(ledger.entries)


def test_a_checkpoint_seen_before_an_interruption_is_not_forgotten(
    interrupted: tuple[Ledger, Path],
) -> None:
    ledger, path = interrupted
    shorter = Ledger(ledger.folder, ledger.entries[:900], ledger.paper)
    with pytest.raises(Refusal) as refused:
        in_memory(Shelf(shorter.files()), ledger, path)
    assert refused.value.code is Code.LOG_SMALLER
    other = Ledger(ledger.folder, ledger.entries[:1000], ledger.paper)
    other.refuse(300)
    other.entries[1001] = other.entries[1]
    with pytest.raises(Refusal) as refused:
        shelf = Shelf(
            other.files() | {Tile(ENTRIES, 4, 76).path: tiles.bundle(other.entries[1024:1100])}
        )
        in_memory(shelf, ledger, path)
    assert refused.value.code is Code.LOG_FORKED


def test_what_is_wrong_is_told_again_the_next_time(
    url: str, ledger: Ledger, capsys: pytest.CaptureFixture[str]
) -> None:
    ledger.publish(WHEEL, steps="v")
    ledger.lay_out()
    assert audit(url, ledger) == exits.REFUSED
    ledger.refuse(1)
    ledger.lay_out()
    capsys.readouterr()
    assert audit(url, ledger) == exits.REFUSED
    assert "wrong: entry 4: The release" in capsys.readouterr().out


# what stands in it


@pytest.mark.parametrize(
    ("steps", "found"),
    [
        ("aiv", []),
        ("iv", [("entry.unapproved", 1), ("entry.unapproved", 2)]),
        ("av", [("entry.unapproved", 2)]),
        ("v", [("entry.unapproved", 1)]),
        ("aivv", [("entry.repeated", 4)]),
        ("aivaiv", [("entry.repeated", 6)]),
    ],
)
def test_a_release_is_approved_then_meant_then_verified_and_all_that_once(
    tmp_path: Path, steps: str, found: list[tuple[str, int]]
) -> None:
    ledger = Ledger(tmp_path / "copy")
    ledger.publish(WHEEL, steps=steps)
    outcome = in_memory(Shelf(ledger.files()), ledger, tmp_path / "state.json")
    assert codes(outcome) == found


@pytest.mark.parametrize("end", ["rejected", "expired", "stale", "failed", "refused"])
def test_an_approval_that_has_ended_counts_for_nothing_any_more(tmp_path: Path, end: str) -> None:
    ledger = Ledger(tmp_path / "copy")
    statement = ledger.publish(WHEEL, steps="ai")
    ledger.add(end, statement=statement, code="release.stale")
    ledger.verify(statement, (ReleaseFile(WHEEL, sha256_hex(b"the wheel"), 9),))
    outcome = in_memory(Shelf(ledger.files()), ledger, tmp_path / "state.json")
    assert codes(outcome) == [("entry.unapproved", 4)]


def stop(ledger: Ledger, what: str, target: str, id: str = HASH) -> None:
    ledger.add("narrowing", id=id, what=what, target=target, by="", source="scim")


@pytest.mark.parametrize(("when", "found"), [("before", [("entry.unapproved", 3)]), ("after", [])])
def test_nothing_is_meant_to_be_sent_after_a_veto(
    tmp_path: Path, when: str, found: list[tuple[str, int]]
) -> None:
    ledger = Ledger(tmp_path / "copy")
    statement = ledger.publish(WHEEL, steps="a" if when == "before" else "ai")
    stop(ledger, "veto", statement)
    if when == "before":
        ledger.add("intent", statement=statement, files=[])
    outcome = in_memory(Shelf(ledger.files()), ledger, tmp_path / "state.json")
    assert codes(outcome) == found


@pytest.mark.parametrize("target", ["", "demo"])
def test_nothing_is_meant_to_be_sent_while_it_is_frozen(tmp_path: Path, target: str) -> None:
    ledger = Ledger(tmp_path / "copy")
    stop(ledger, "freeze", "another", "1" * 64)
    ledger.publish(WHEEL)
    stop(ledger, "freeze", target, "2" * 64)
    ledger.publish(WHEEL)
    ledger.add("cleared", statement=HASH, id="1" * 64)
    ledger.publish(WHEEL)
    ledger.add("cleared", statement=HASH, id="2" * 64)
    ledger.publish(WHEEL)
    outcome = in_memory(Shelf(ledger.files()), ledger, tmp_path / "state.json")
    assert codes(outcome) == [("entry.frozen", 7), ("entry.frozen", 11)]


def test_other_files_than_were_meant_are_told(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "copy")
    statement = ledger.publish(WHEEL, steps="ai")
    ledger.verify(statement, (ReleaseFile(WHEEL, sha256_hex(b"another"), 7),))
    outcome = in_memory(Shelf(ledger.files()), ledger, tmp_path / "state.json")
    assert codes(outcome) == [("entry.other-files", 3)]


@pytest.mark.parametrize(
    "entry",
    [
        b"", b"{}", b"not json", b'{"kind":"genesis"}',
        b'{"at": 1,"kind":"genesis","space":"main"}',
        canonical({"at": 1, "kind": "refused", "space": "other", "statement": HASH, "code": "x"}),
        canonical({"at": 1, "kind": "refused", "space": "main", "statement": HASH}),
        canonical({"at": 1, "kind": "refused", "space": "main", "statement": HASH, "code": "x", "more": 1}),
        canonical({"at": "1", "kind": "refused", "space": "main", "statement": HASH, "code": "x"}),
        canonical({"at": 1, "kind": "refused-at-gateway", "space": "main", "door": 1, "code": "x", "about": ""}),
        canonical({"at": 1, "kind": "approved", "space": "main", "statement": HASH, "review": "", "by": [1]}),
    ],
)  # fmt: skip
def test_an_entry_that_no_press_writes_is_told_with_its_place(tmp_path: Path, entry: bytes) -> None:
    ledger = Ledger(tmp_path / "copy")
    ledger.entries.append(entry)
    outcome = in_memory(Shelf(ledger.files()), ledger, tmp_path / "state.json")
    assert codes(outcome) == [("entry.malformed", 1)]


def test_a_kind_that_is_not_known_is_called_newer_and_not_wrong(
    url: str, ledger: Ledger, capsys: pytest.CaptureFixture[str]
) -> None:
    ledger.add("yanked", more=1)
    ledger.lay_out()
    assert audit(url, ledger) == exits.CANNOT_SAY
    assert "newer than this program. [entry.unknown-kind]" in capsys.readouterr().out
    ledger.publish(WHEEL, steps="v")
    ledger.lay_out()
    assert audit(url, ledger) == exits.REFUSED, "what is wrong besides counts"


# registries


@pytest.fixture
def registry() -> Iterator[Registry]:
    with Registry(seed=3, clock=WorldClock(wall_s=NOW + 100)) as running:
        yield running


def hold(registry: Registry, name: str, data: bytes, uploaded_s: float = NOW + 100) -> None:
    stored = StoredFile(name, "demo", "1.0", data, sha256_hex(data), uploaded_s)
    registry._files[name] = stored


def test_a_file_at_the_registry_that_nothing_explains_is_told(
    url: str, ledger: Ledger, registry: Registry, capsys: pytest.CaptureFixture[str]
) -> None:
    hold(registry, WHEEL, b"the wheel")
    words = ("--registry", registry.simple_url)
    assert audit(url, ledger, *words) == exits.DONE
    hold(registry, "demo-0.9.tar.gz", b"older", NOW - 100)
    assert audit(url, ledger, *words) == exits.DONE
    assert "demo-0.9.tar.gz is older than the ledger" in capsys.readouterr().out
    hold(registry, "demo-1.1.tar.gz", b"poison")
    assert audit(url, ledger, *words) == exits.REFUSED
    assert "demo-1.1.tar.gz is there, and nothing in the ledger" in capsys.readouterr().out
    assert not any(seen.with_credential for seen in registry.requests)
    assert {seen.path for seen in registry.requests} == {"/simple/demo/"}


def test_other_bytes_and_missing_files_at_the_registry_are_told(
    url: str, ledger: Ledger, registry: Registry, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("--registry", registry.simple_url, "--format", "json")
    assert audit(url, ledger, *words) == exits.DONE, "it may have been taken away"
    assert "no registry that was asked lists it" in verdict(capsys)["notes"][0]
    hold(registry, WHEEL, b"other bytes")
    assert audit(url, ledger, *words) == exits.REFUSED
    assert [one["code"] for one in verdict(capsys)["findings"]] == ["registry.other-bytes"]


def test_a_registry_that_does_not_answer_leaves_no_verdict(
    url: str, ledger: Ledger, registry: Registry, capsys: pytest.CaptureFixture[str]
) -> None:
    registry.stop()
    assert audit(url, ledger, "--registry", registry.simple_url) == exits.CANNOT_SAY
    assert "OK" not in capsys.readouterr().out


def test_a_registrys_password_goes_to_that_registry_and_into_no_message(
    url: str, ledger: Ledger, registry: Registry, capsys: pytest.CaptureFixture[str]
) -> None:
    address = registry.simple_url.replace("://", "://reader:s3cret-word@")
    assert audit(url, ledger, "--registry", address) == exits.DONE
    assert all(seen.with_credential for seen in registry.requests)
    for trouble in (lambda: registry.redirect("http://127.0.0.1:1", (Door.INDEX,)), registry.stop):
        trouble()
        assert audit(url, ledger, "--registry", address) == exits.CANNOT_SAY
    told = capsys.readouterr()
    assert "127.0.0.1 does not say what it has of demo" in told.err
    assert "s3cret" not in told.out + told.err
    states = (ledger.folder.parent / "config").rglob("*.json")
    assert not any(b"s3cret" in path.read_bytes() for path in states)


def test_pages_of_an_index_are_read_in_both_forms() -> None:
    digest = sha256_hex(b"x")
    page = f'<a href="/f/a-1.tar.gz#sha256={digest}">a</a> <a href="b%2D1.tar.gz">b</a> <a>c</a>'
    assert read_page(page.encode()) == (Listed("a-1.tar.gz", digest), Listed("b-1.tar.gz", ""))
    file = {
        "filename": "a-1.tar.gz",
        "hashes": {"sha256": digest},
        "upload-time": "2026-01-01T00:00:00Z",
    }
    page = json.dumps({"files": [file, {"filename": "b-1.tar.gz", "hashes": {}, "upload-time": 3}]})
    first, second = read_page(page.encode())
    assert first == Listed("a-1.tar.gz", digest, 1767225600.0)
    assert second == Listed("b-1.tar.gz", "")
    assert compare({"b-1.tar.gz": [digest]}, [second], 0)[0] == []
    for wrong in (
        "{}",
        '{"files":[1]}',
        '{"files":[{"filename":1,"hashes":{}}]}',
        "<![x[",
        "{" * 9999,
    ):
        with pytest.raises(Refusal):
            read_page(wrong.encode())


# how it speaks


def test_nothing_is_said_without_a_trust_root_or_without_the_log(
    url: str, ledger: Ledger, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert run(["audit", url]) == exits.CANNOT_SAY
    assert "--trust or PRESSPASS_TRUST" in capsys.readouterr().err
    for trust in (tmp_path / "missing", ledger.folder / "log" / "checkpoint"):
        assert run(["audit", url, "--trust", str(trust)]) == exits.CANNOT_SAY
    assert audit("http://127.0.0.1:1", ledger) == exits.CANNOT_SAY
    assert audit(f"{url}/nowhere", ledger) == exits.CANNOT_SAY
    assert "There is no ledger at" in capsys.readouterr().err


def test_a_damaged_state_is_no_verdict_and_is_left_as_it_is(
    url: str, ledger: Ledger, tmp_path: Path
) -> None:
    state = tmp_path / "mine.json"
    assert audit(url, ledger, "--state", str(state)) == exits.DONE
    value = json.loads(state.read_bytes())
    for wrong in (b"{", b"[]", json.dumps({**value, "note": ""}).encode()):
        state.write_bytes(wrong)
        assert audit(url, ledger, "--state", str(state)) == exits.CANNOT_SAY
        assert state.read_bytes() == wrong


def test_the_watch_tells_each_change_once_and_ends_when_something_is_wrong(
    url: str, ledger: Ledger, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = iter(("nothing", "grows", "away", "back", "wrong"))

    def between(seconds: int) -> None:
        assert seconds == 60
        step = next(steps)
        if step == "grows":
            ledger.publish(WHEEL)
        elif step == "wrong":
            ledger.publish(WHEEL, steps="v")
        ledger.lay_out()
        if step == "away":
            ledger.forget("checkpoint")

    monkeypatch.setattr(command, "_pause", between)
    assert audit(url, ledger, "--watch", "1m") == exits.REFUSED
    told = capsys.readouterr()
    lines = [line.partition("ok: ")[2] for line in told.out.splitlines() if "ok: " in line]
    assert lines == ["4 entries, 1 releases", "7 entries, 2 releases"]
    assert told.err.count("cannot say: There is no ledger") == 1
    assert "WRONG  gate.example/log, 8 entries" in told.out


def test_the_watch_gives_a_script_one_line_for_each_change(
    url: str, ledger: Ledger, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def between(_seconds: int) -> None:
        if len(ledger.entries) == 7:
            raise KeyboardInterrupt
        ledger.publish(WHEEL)
        ledger.lay_out()

    monkeypatch.setattr(command, "_pause", between)
    assert audit(url, ledger, "--watch", "1s", "--format", "json") == exits.INTERRUPTED
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["log"]["size"] for line in lines] == [4, 7]


def test_a_state_that_cannot_be_written_leaves_no_verdict_but_hides_no_fork(
    url: str, ledger: Ledger, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("in the way of a folder")
    assert audit(url, ledger, "--state", str(tmp_path / "file" / "x.json")) == exits.CANNOT_SAY
    state = tmp_path / "state.json"
    assert audit(url, ledger, "--state", str(state)) == exits.DONE
    state.with_suffix(".evidence").write_text("in the way")
    ledger.entries.pop()
    ledger.refuse(1)
    ledger.lay_out()
    assert audit(url, ledger, "--state", str(state)) == exits.REFUSED
    told = capsys.readouterr().err
    assert "[log.forked]" in told and "Keep them yourself" in told


def test_hostile_words_of_a_log_do_not_act_on_the_terminal(
    url: str, ledger: Ledger, capsys: pytest.CaptureFixture[str]
) -> None:
    ledger.publish("\N{RIGHT-TO-LEFT OVERRIDE}\x9b2J.whl", steps="v")
    ledger.lay_out()
    assert audit(url, ledger) == exits.REFUSED
    told = capsys.readouterr()
    assert not {"\x1b", "\x9b", "\N{RIGHT-TO-LEFT OVERRIDE}"} & set(told.out + told.err)


def test_only_the_log_is_asked_of_the_gate(ledger: Ledger) -> None:
    shelf = Shelf(ledger.files())
    in_memory(shelf, ledger, ledger.folder / "state.json")
    assert shelf.asked == ["keys", "checkpoint", Tile(ENTRIES, 0, 4).path]


def test_an_empty_ledger_is_no_good_one(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "copy")
    ledger.entries.clear()
    with pytest.raises(CannotSayError):
        in_memory(Shelf(ledger.files()), ledger, tmp_path / "state.json")
