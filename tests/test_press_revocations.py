"""What is revoked goes out no more, is listed in the next revocation head, and is cleared by a quorum only."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ledger_reading import entered
from press_rig import TOKEN, Rig
from presspass.core.digests import sha256_hex
from presspass.core.errors import Refusal
from presspass.core.ledger import revocations
from presspass.core.ledger.checkpoint import log_key
from presspass.core.ledger.revocations import RevocationHead
from presspass.core.limits import REVOCATION_HEAD_S_MAX
from presspass.core.log import log_origin
from presspass.core.policy import Policy
from presspass.core.statement import FreezeBody, GenesisBody, ReleaseBody, RevocationBody, Statement
from presspass.drill.packages import make_sdist, make_wheel
from presspass.drill.world.clock import WorldClock
from presspass.drill.world.registry import Registry
from presspass.press.clock import Clock
from presspass.press.press import Press
from presspass.services import press as service
from presspass.store import gateway_tables as g
from presspass.store import journal_view as view
from presspass.store import ledger_view
from presspass.verify.ed25519 import verifies
from test_log_key import rotate

POLICY = Policy(veto_window_s=0, software_keys=True, key_wait_s=0)
REVOKED = "release.revoked"


@pytest.fixture
def rig(tmp_path: Path, backend: str) -> Iterator[Rig]:
    with Registry(seed=7, token=TOKEN) as registry:
        rig = Rig(tmp_path / "home", registry, POLICY).build()
        rig.seal()
        yield rig
        rig.rows.close()


@pytest.fixture
def files(tmp_path: Path) -> Callable[..., list[Path]]:
    def make(version: str = "1.0") -> list[Path]:
        folder = tmp_path / version
        folder.mkdir(exist_ok=True)
        return [make_wheel(folder, "demo", version), make_sdist(folder, "demo", version)]

    return make


Files = Callable[..., list[Path]]


def publish(rig: Rig, press: Press, paths: list[Path], version: str = "1.0") -> Statement:
    statement = rig.stage(press, paths, "demo", version)
    rig.sign(statement, "ben")
    rig.until(press, statement.digest, "verified")
    return statement


def drop(rig: Rig, what: str, target: str) -> None:
    """A revocation that nobody has signed."""
    told = {"revoke": {"what": what, "target": target, "reason": "broken runner"}}
    (rig.home / "drop" / f"{secrets.token_hex(4)}.json").write_text(json.dumps(told))


def revoke(rig: Rig, what: str, target: str, name: str = "ana") -> Statement:
    """A revocation that somebody has signed, as the gateway hands it on."""
    statement = rig.statement(RevocationBody(what, target, "broken runner"))
    row = {
        "id": statement.digest, "what": what, "target": target, "reason": "broken runner", "source": "signed",
        "statement": statement.to_bytes(), "approval": rig.approval(statement, name).to_bytes(), "made_ms": 1,
    }  # fmt: skip
    rig.rows.run(lambda c: c.execute(g.STOP.insert().values(**row)))
    return statement


def clear(rig: Rig, press: Press, *ids: str) -> None:
    statement = rig.statement(FreezeBody("clear", "", tuple(sorted(ids)), "looked at"))
    rig.request(statement)
    rig.sign(statement, "ana", "ben")
    rig.until(press, statement.digest, "admitted")


def head(rig: Rig) -> RevocationHead:
    """The newest one, by the key that genesis names."""
    genesis = rig.genesis.body_as(GenesisBody)
    key = log_key(log_origin(genesis.origin), bytes.fromhex(genesis.log_key))
    return revocations.open_head(rig.journal(ledger_view.revocation_note), key, verifies)


def digests(*paths: Path) -> tuple[str, ...]:
    return tuple(sorted(sha256_hex(path.read_bytes()) for path in paths))


def test_a_release_that_is_revoked_before_it_goes_out_is_not_sent(rig: Rig, files: Files) -> None:
    with rig.press() as press:
        rig.upstream(press)
        statement = rig.stage(press, files(), "demo", "1.0")
        press.tick()
        revoke(rig, "release", statement.digest)
        press.tick()
        rig.sign(statement, "ben")
        assert rig.until(press, statement.digest, "rejected").code == REVOKED
        early = rig.stage(press, files("1.1"), "demo", "1.1", requester_signs=False)
        # and one that the press has not seen yet
        unseen = rig.statement(early.body)
        drop(rig, "release", unseen.digest)
        press.tick()
        rig.request(unseen)
        rig.sign(unseen, "ana", "ben")
        assert rig.until(press, unseen.digest, "rejected").code == REVOKED
        press.heads.look()
    assert rig.registry.uploads == []
    assert head(rig).files == (), "what never went out is no matter of the head"


def test_bytes_that_are_revoked_are_not_sent_under_another_name_either(
    rig: Rig, files: Files, tmp_path: Path
) -> None:
    with rig.press() as press:
        rig.upstream(press)
        wheel, sdist = files()
        publish(rig, press, [wheel])
        revoke(rig, "file", digests(sdist)[0])
        statement = rig.stage(press, [sdist], "demo", "1.0")
        rig.sign(statement, "ben")
        assert rig.until(press, statement.digest, "rejected").code == REVOKED
        # the very same wheel, under another build number
        drop(rig, "file", digests(wheel)[0])
        twin = tmp_path / wheel.name.replace("-1.0-", "-1.0-2-")
        twin.write_bytes(wheel.read_bytes())
        again = rig.stage(press, [twin], "demo", "1.0")
        rig.sign(again, "ben")
        assert rig.until(press, again.digest, "rejected").code == REVOKED
        assert "The bytes of" in str(rig.decision(again.digest))


def test_files_of_a_revoked_release_are_not_sent_with_another_one(rig: Rig, files: Files) -> None:
    with rig.press() as press:
        rig.upstream(press)
        wheel, sdist = files()
        first = publish(rig, press, [wheel])
        revoke(rig, "release", first.digest)
        statement = rig.stage(press, [wheel, sdist], "demo", "1.0")
        rig.sign(statement, "ben")
        assert rig.until(press, statement.digest, "rejected").code == REVOKED


def test_the_head_lists_every_file_of_a_revoked_release_at_the_next_look_and_names_who_asked(
    rig: Rig, files: Files
) -> None:
    with rig.press() as press:
        rig.upstream(press)
        press.heads.look()
        assert head(rig).files == ()
        wheel, sdist = files()
        statement = publish(rig, press, [wheel, sdist])
        other = publish(rig, press, files("1.1"), "1.1")
        stop = revoke(rig, "release", statement.digest)
        press.narrowings.look_gateway()
        press.heads.look()
        assert head(rig).files == digests(wheel, sdist)
        assert head(rig).size == rig.journal(ledger_view.size)
        entry = {"what": "release", "target": statement.digest, "by": "p-ana", "id": stop.digest}
        assert entered(rig.ledger(), "narrowing", **entry)
        decision = rig.decision(statement.digest)
        assert decision is not None and decision.state == "verified", "it did go out"
        clear(rig, press, stop.digest)
        press.heads.look()
        assert head(rig).files == ()
        newest = {one.name: one.sha256 for one in other.body_as(ReleaseBody).files}
        drop(rig, "file", next(iter(newest.values())))
        press.narrowings.look_dropped()
        press.heads.look()
        assert head(rig).files == (next(iter(newest.values())),)


def test_nobody_can_make_the_head_longer_than_what_went_out(rig: Rig, files: Files) -> None:
    with rig.press() as press:
        rig.upstream(press)
        [wheel, _] = files()
        publish(rig, press, [wheel])
        for n in range(20):
            drop(rig, "file", sha256_hex(b"%d" % n))
            drop(rig, "release", sha256_hex(b"r%d" % n))
        drop(rig, "file", digests(wheel)[0])
        press.narrowings.look_dropped()
        press.heads.look()
        assert len(rig.journal(view.narrowings)) == 41
        assert head(rig).files == digests(wheel)


@pytest.mark.parametrize("target", ["greet==1.0", "a" * 63, "A" * 64, ""])
def test_a_revocation_that_names_no_digest_is_none(rig: Rig, target: str) -> None:
    with rig.press() as press:
        drop(rig, "file", target)
        drop(rig, "release", target)
        press.narrowings.look_dropped()
        assert rig.journal(view.narrowings) == []


def moments(rig: Rig) -> tuple[WorldClock, Clock]:
    world = WorldClock(wall_s=float(rig.genesis.issued_at + 10))
    return world, Clock(world.wall, world.monotonic, settle_s=30)


def test_a_head_is_renewed_before_it_is_a_minute_old_and_not_at_every_look(rig: Rig) -> None:
    world, clock = moments(rig)
    with rig.press(clock) as press:
        press.heads.look()
        first = head(rig)
        assert first.time_s == int(world.wall())
        press.heads.look()
        assert head(rig) == first
        world.advance(REVOCATION_HEAD_S_MAX / 2 - 1)
        press.heads.look()
        assert head(rig) == first
        world.advance(1)
        press.heads.look()
        assert head(rig).time_s == int(world.wall())
        assert press.heads.look in service.looks(press)
        assert REVOCATION_HEAD_S_MAX / 2 + service.LISTEN_S < REVOCATION_HEAD_S_MAX


def test_a_head_follows_the_ledger_a_second_later(rig: Rig) -> None:
    world, clock = moments(rig)
    with rig.press(clock) as press:
        press.heads.look()
        first = head(rig)
        drop(rig, "file", "0" * 64)
        press.narrowings.look_dropped()
        press.heads.look()
        assert head(rig) == first
        world.advance(1)
        press.heads.look()
        assert head(rig) == RevocationHead(first.origin, first.size + 1, first.time_s + 1, ())


def test_no_time_is_signed_that_the_press_itself_does_not_believe(rig: Rig) -> None:
    world, clock = moments(rig)
    with rig.press(clock) as press:
        rig.upstream(press)
        press.tick()
        press.heads.look()
        first = head(rig)
        world.jump_wall(10 * 3600)
        press.heads.look()
        assert head(rig) == first
        world.jump_wall(-20 * 3600)
        press.heads.look()
        assert head(rig) == first


def test_after_a_rotation_the_next_head_is_by_the_new_key(rig: Rig) -> None:
    world, clock = moments(rig)
    with rig.press(clock) as press:
        press.heads.look()
        before = head(rig)
        key = rotate(rig, press)
        world.advance(1)
        press.heads.look()
        note = rig.journal(ledger_view.revocation_note)
        by = log_key(before.origin, bytes.fromhex(key))
        assert revocations.open_head(note, by, verifies).size > before.size
        with pytest.raises(Refusal):
            head(rig)  # by the key of genesis


def test_what_is_revoked_is_listed_also_while_the_clock_cannot_be_trusted(
    rig: Rig, files: Files
) -> None:
    world, clock = moments(rig)
    with rig.press(clock) as press:
        rig.upstream(press)
        [wheel, _] = files()
        publish(rig, press, [wheel])
        press.heads.look()
        before = head(rig)
        world.jump_wall(10 * 3600)
        drop(rig, "file", digests(wheel)[0])
        press.narrowings.look_dropped()
        press.heads.look()
        after = head(rig)
        assert after.files == digests(wheel)
        assert (after.time_s, after.size > before.size) == (before.time_s, True)


def test_a_press_that_starts_anew_goes_on_from_the_last_head(rig: Rig, files: Files) -> None:
    with rig.press() as press:
        rig.upstream(press)
        [wheel, _] = files()
        publish(rig, press, [wheel])
        drop(rig, "file", digests(wheel)[0])
        press.narrowings.look_dropped()
        press.heads.look()
        before = head(rig)
    with rig.press() as press:
        press.heads.look()
        assert head(rig) == before
