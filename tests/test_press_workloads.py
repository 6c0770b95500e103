"""The press and workloads: it verifies the raw token itself, and believes only it, the bytes and its own journal."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.engine import Connection

from ledger_reading import entered
from presspass.core.approval import approval_id
from presspass.core.digests import sha256_hex
from presspass.core.limits import EVENTS_PER_MINUTE_MAX
from presspass.core.statement import FreezeBody, ReleaseFile, set_bytes
from presspass.core.workload import Workload
from presspass.formats.jwt import Jwt
from presspass.press import bounds, workloads
from presspass.store import gateway_tables as g
from presspass.store import journal_view as view
from presspass.verify.proof import Proof, check_proof
from workload_scene import AUDIENCE, POLICY, Scene, scenes
from workload_world import CHANGED, WORKFLOW, CountingIssuer, real_time


@pytest.fixture
def scene(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Scene]:
    with scenes(tmp_path, getattr(request, "param", POLICY)) as found:
        yield found


def test_a_verified_workload_is_the_other_identity_and_one_approver_is_enough(scene: Scene) -> None:
    statement = scene.stage(scene.token())
    decision = scene.rig.stays(scene.press, statement.digest, "seen")
    assert decision.code == "quorum.missing" and "0 of 1" in decision.message
    scene.rig.sign(statement, "ana")
    assert scene.rig.stays(scene.press, statement.digest, "seen").code == "quorum.missing"
    scene.rig.sign(statement, "ben")
    scene.rig.until(scene.press, statement.digest, "verified")
    [file] = scene.files()
    proof = scene.rig.journal(lambda c: view.proof(c, statement.digest, file.name))
    data = file.read_bytes()
    valid = check_proof(
        Proof.from_bytes(proof), filename=file.name, sha256=sha256_hex(data), size=len(data),
        trust_root=scene.rig.genesis.digest,
    )  # fmt: skip
    assert valid.approved_by == ("p-ben",) and valid.entry.workload


def test_a_run_of_somebody_whom_nobody_knows_needs_one_approver_more(scene: Scene) -> None:
    job = replace(scene.job, actor_id="9999")
    statement = scene.stage(scene.token(job=job), requester="")
    scene.rig.sign(statement, "ben")
    decision = scene.rig.stays(scene.press, statement.digest, "seen")
    assert "1 of 2" in decision.message
    scene.rig.sign(statement, "cleo")
    scene.rig.until(scene.press, statement.digest, "verified")


def test_a_gateway_that_names_another_requester_than_the_token_is_refused(scene: Scene) -> None:
    statement = scene.stage(scene.token(), requester="p-cleo")
    scene.rig.sign(statement, "ana", "ben")
    decision = scene.rig.until(scene.press, statement.digest, "rejected")
    assert decision.code == "identity.invalid"


def test_a_gateway_that_hides_the_person_behind_a_run_is_refused(scene: Scene) -> None:
    statement = scene.stage(scene.token(), requester="")
    scene.rig.sign(statement, "ana", "ben")
    assert scene.rig.until(scene.press, statement.digest, "rejected").code == "identity.invalid"


def test_one_token_serves_one_set(scene: Scene) -> None:
    token = scene.token()
    first = scene.stage(token)
    scene.rig.sign(first, "ben")
    scene.rig.until(scene.press, first.digest, "verified")
    second = scene.stage(token, version="1.1", token_hash=sha256_hex(token.encode()))
    scene.rig.sign(second, "ben")
    assert scene.rig.until(scene.press, second.digest, "rejected").code == "identity.replayed"


@pytest.mark.parametrize(
    ("claims", "code"),
    [
        ({"aud": "presspass:elsewhere.example"}, "identity.wrong-audience"),
        ({"exp": 1000, "iat": 900, "nbf": 900}, "identity.expired"),
        ({"event_name": "pull_request"}, "publisher.wrong-event"),
        ({"ref": "refs/heads/side"}, "publisher.wrong-ref"),
        ({"repository_id": "6"}, "publisher.other-repository"),
        ({"workflow_sha": "b" * 40}, "identity.workflow-unproven"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_gateway_that_lets_a_bad_token_in_publishes_nothing(
    scene: Scene, claims: dict[str, Any], code: str
) -> None:
    statement = scene.stage(scene.token(**claims))
    scene.rig.sign(statement, "ben", "cleo")
    assert scene.rig.until(scene.press, statement.digest, "rejected").code == code
    assert not scene.rig.registry.uploads


def test_a_token_that_another_key_signed_counts_for_nothing(scene: Scene) -> None:
    with CountingIssuer(seed=66, clock=real_time()) as thief:
        claims = {**scene.job.claims(), "aud": AUDIENCE, "iss": scene.issuer.url}
        forged = thief.mint(claims, header={"kid": scene.issuer.kid})
    statement = scene.stage(forged)
    scene.rig.sign(statement, "ben", "cleo")
    assert scene.rig.until(scene.press, statement.digest, "rejected").code == "identity.invalid"


def test_an_issuer_that_is_down_is_waited_for_and_nothing_is_published_meanwhile(
    scene: Scene,
) -> None:
    scene.issuer.mood = "down"
    statement = scene.stage(scene.token())
    scene.rig.sign(statement, "ben")
    decision = scene.rig.stays(scene.press, statement.digest, "seen")
    assert decision.code == "identity.keys-unavailable"
    scene.issuer.mood = ""
    scene.press.workloads.key_sets._cool_down_s = 0
    scene.press.workloads.look()
    scene.rig.until(scene.press, statement.digest, "verified")


def test_a_fault_over_one_token_keeps_no_other_waiting(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = scene.token(run_id="9101"), scene.token(run_id="9102")
    real = workloads.verify_workload

    def faulty(token: Jwt, *rest: Any, **more: Any) -> Workload:
        if token.text == first:
            raise RuntimeError("a bug over this one token")
        return real(token, *rest, **more)

    monkeypatch.setattr(workloads, "verify_workload", faulty)
    monkeypatch.setattr(workloads, "_SET_ASIDE_MS", 200)
    bad, good = scene.shown(first), scene.shown(second)
    for _ in range(2):
        scene.press.workloads.look()
    assert (scene.seen(bad).state, scene.seen(good).state) == ("seen", "verified")
    monkeypatch.undo()
    time.sleep(0.3)
    scene.press.workloads.look()
    assert scene.seen(bad).state == "verified", "tried again later"


def test_a_token_is_judged_as_of_the_first_sight_of_it(scene: Scene) -> None:
    scene.issuer.mood = "empty"
    token = scene.token(exp=int(time.time()) + 1)
    digest = scene.shown(token)
    scene.press.workloads.look()
    time.sleep(1.1)
    scene.issuer.mood = ""
    scene.press.workloads.key_sets._cool_down_s = 0
    scene.press.workloads.look()
    assert scene.seen(digest).state == "verified"


def test_a_changed_workflow_does_not_count_and_its_approval_binds_it(scene: Scene) -> None:
    commit = scene.repository.commit({WORKFLOW: CHANGED})
    job = replace(scene.job, workflow_sha=commit, sha=commit)
    statement = scene.stage(scene.token(job=job), workflow=CHANGED, path=scene.path(commit))
    scene.rig.sign(statement, "ben")
    assert "1 of 2" in scene.rig.stays(scene.press, statement.digest, "seen").message
    scene.rig.sign(statement, "cleo")
    scene.rig.until(scene.press, statement.digest, "verified")
    again = scene.stage(
        scene.token(job=job), version="1.1", workflow=CHANGED, path=scene.path(commit)
    )
    scene.rig.sign(again, "ben")
    scene.rig.until(scene.press, again.digest, "verified")
    old = scene.stage(scene.token(), version="1.2")
    scene.rig.sign(old, "ben")
    assert "1 of 2" in scene.rig.stays(scene.press, old.digest, "seen").message


@pytest.mark.parametrize(
    "scene", [replace(POLICY, profile="high-assurance")], indirect=True, ids=["high-assurance"]
)
def test_in_high_assurance_a_changed_workflow_is_refused_until_it_is_bound(scene: Scene) -> None:
    commit = scene.repository.commit({WORKFLOW: CHANGED})
    job = replace(scene.job, workflow_sha=commit, sha=commit)
    statement = scene.stage(scene.token(job=job), workflow=CHANGED, path=scene.path(commit))
    scene.rig.sign(statement, "ben", "cleo")
    decision = scene.rig.until(scene.press, statement.digest, "rejected")
    assert decision.code == "publisher.workflow-changed"
    scene.publisher = scene.bind(scene.publisher, workflow_sha256=sha256_hex(CHANGED))
    bound = scene.stage(
        scene.token(job=job), version="1.1", workflow=CHANGED, path=scene.path(commit)
    )
    scene.rig.sign(bound, "ben")
    scene.rig.until(scene.press, bound.digest, "verified")


def test_files_that_the_workload_did_not_bind_are_refused(scene: Scene) -> None:
    [wheel] = scene.files()
    data = wheel.read_bytes()
    right = (ReleaseFile(wheel.name, sha256_hex(data), len(data)),)
    wrong = (ReleaseFile(wheel.name, "e" * 64, len(data)),)
    bad = scene.stage(scene.token(f"{AUDIENCE}:sha256:{sha256_hex(set_bytes(wrong))}"))
    scene.rig.sign(bad, "ben")
    assert scene.rig.until(scene.press, bad.digest, "rejected").code == "artifact.digest-mismatch"
    good = scene.stage(scene.token(f"{AUDIENCE}:sha256:{sha256_hex(set_bytes(right))}"))
    scene.rig.sign(good, "ben")
    scene.rig.until(scene.press, good.digest, "verified")


def test_a_tag_that_names_another_version_is_refused(scene: Scene) -> None:
    job = replace(scene.job, ref="refs/tags/v2.0")
    statement = scene.stage(scene.token(job=job))
    scene.rig.sign(statement, "ben")
    assert scene.rig.until(scene.press, statement.digest, "rejected").code == "pass.wrong-version"


@pytest.mark.parametrize("what", ["publisher", "workload", "run", "person", "limited", "approval"])
def test_a_stop_at_the_gateway_holds_for_what_is_under_way(scene: Scene, what: str) -> None:
    token = scene.token()
    statement = scene.stage(token)
    seen = scene.seen(sha256_hex(token.encode()))
    ben = scene.rig.approval(statement, "ben")
    target = {
        "publisher": "demo-ci",
        "limited": "demo-ci",
        "workload": seen.identity,
        "run": seen.run,
        "person": "p-ben",
        "approval": approval_id(statement.digest, ben.key),
    }[what]
    row = {"id": "5" * 64, "what": what, "target": target, "source": "test", "made_ms": 1}
    scene.rig.rows.run(lambda c: c.execute(g.STOP.insert().values(**row)))
    scene.rig.sign(statement, "ben")
    decision = scene.rig.stays(scene.press, statement.digest, "seen")
    wanted = {
        "person": "identity.revoked",
        "limited": "quorum.missing",
        "approval": "quorum.missing",
    }
    assert decision.code == wanted.get(what, "identity.revoked"), decision
    if what == "limited":
        assert "1 of 2" in decision.message
    assert not scene.rig.registry.uploads


def test_a_quorum_ends_a_stop(scene: Scene) -> None:
    statement = scene.stage(scene.token())
    row = {"id": "5" * 64, "what": "publisher", "target": "demo-ci", "source": "test", "made_ms": 1}
    scene.rig.rows.run(lambda c: c.execute(g.STOP.insert().values(**row)))
    scene.rig.sign(statement, "ben")
    scene.rig.stays(scene.press, statement.digest, "seen")
    clear = scene.rig.statement(FreezeBody("clear", "", ("5" * 64,), "a false alarm"))
    scene.rig.request(clear)
    scene.rig.sign(clear, "ana", "ben")
    scene.rig.until(scene.press, clear.digest, "admitted")
    scene.rig.until(scene.press, statement.digest, "verified")


def test_what_is_found_out_about_a_token_is_in_the_ledger_without_a_name(scene: Scene) -> None:
    token = scene.token()
    scene.shown(token)
    scene.press.workloads.look()
    entries = scene.rig.ledger()
    [workload] = entered(entries, "workload")
    assert (workload["state"], workload["token"]) == ("verified", sha256_hex(token.encode()))
    assert "acme" not in json.dumps(entries)


def test_tokens_that_prove_nothing_are_entered_up_to_a_bound(scene: Scene) -> None:
    clock, log = scene.press.clock, scene.press.tools.log
    clock.floor_ms = clock.raw_ms() + 3_600_000  # time stands still, within one minute

    def fill(connection: Connection) -> None:
        for _ in range(EVENTS_PER_MINUTE_MAX - 1):
            assert bounds.within(connection, log, "workload", clock.raw_ms())

    scene.press.books.writer.run(fill)
    for token in ("junk", "more junk"):
        digest = scene.shown(token)
        scene.press.workloads.look()
        assert scene.seen(digest).state == "refused"
    assert len(entered(scene.rig.ledger(), "workload", state="refused")) == 1
