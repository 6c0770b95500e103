"""`presspass revoke`: one command and one signature end an identity at once; only a quorum gives it back."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

import peers
from ci_rig import CiRig
from presspass.cli import exits
from presspass.core.approval import approval_id
from presspass.core.digests import sha256_hex
from presspass.core.statement import RevocationBody
from presspass.drill.peers import PypiServer, wait_until
from presspass.press.dropbox import DropBox

ALIVE = {"request.not-found", "release.wrong-state"}


@pytest.fixture(scope="module")
def ci(tmp_path_factory: pytest.TempPathFactory, ssh_keygen: Path) -> Iterator[CiRig]:
    peers.require_peer("pypi-server")
    folder = tmp_path_factory.mktemp("ci")
    with (
        PypiServer(folder / "registry", "__token__", "upstream-secret") as registry,
        CiRig(folder, registry) as ci,
    ):
        ci.start()
        yield ci


def revoke(ci: CiRig, *words: object, given: str = "", code: int = 0) -> str:
    """Ada revokes over the network."""
    more = ("--url", ci.rig.origin, *ci.rig.key("ada"), "--yes")
    return ci.rig.run("revoke", *words, *more, given=given, code=code)


def test_a_pass_that_leaked_is_ended_by_the_secret_itself_from_standard_input(ci: CiRig) -> None:
    job = ci.bind_job("leaked", 2001)
    secret, other = ci.pass_(job), ci.pass_(job)
    assert ci.word_on_pass(secret) in ALIVE
    said = revoke(ci, "pass", "-", "--reason", "in a log", given=secret + "\n")
    assert ci.word_on_pass(secret) == "pass.ended"
    assert ci.word_on_pass(other) in ALIVE
    assert secret not in said and sha256_hex(secret.encode()) in said


def test_a_revoked_publisher_gets_nothing_more_until_a_quorum_clears_it(ci: CiRig) -> None:
    job = ci.bind_job("broken", 2002)
    secret = ci.pass_(job)
    revoke(ci, "publisher", "broken", "--reason", "runner broken into")
    assert ci.word_on_pass(secret) == "pass.ended"
    refused = ci.exchange(job)
    assert (refused.status_code, refused.json()["code"]) == (422, "identity.revoked")
    assert "runner broken into" in refused.text
    wait_until(lambda: listed(ci, "broken")["latched"], "the press has latched it")
    assert ci.rig.ask("publisher", "list")["broken"]["state"] == "revoked"
    [stop] = ci.rig.ask("publisher", "show", "broken")["stops"]
    assert stop["what"] == "publisher" and stop["by"], "whoever signed stands in the journal"
    url = ci.rig.ask("freeze", "--clear", stop["id"])["url"]
    ci.rig.approve(url, "ada")
    assert ci.exchange(job).status_code == 422, "one person does not give it back"
    ci.rig.approve(url, "grace")
    ci.rig.run("wait", url, "--timeout", "30s")
    assert ci.exchange(job).status_code == 200
    assert ci.word_on_pass(secret) == "pass.ended", "what ended stays ended"


def listed(ci: CiRig, target: str) -> dict[str, object]:
    found = ci.rig.ask("revoke", "--list")["revocations"]
    return next(one for one in found if one["target"] == target)


def test_a_workload_is_ended_under_every_name_by_its_publishers_name(ci: CiRig) -> None:
    job = ci.bind_job("one-name", 2003)
    secret = ci.pass_(job)
    revoke(ci, "workload", "one-name")
    assert ci.word_on_pass(secret) == "pass.ended"
    assert ci.exchange(job).json()["code"] == "identity.revoked"
    assert listed(ci, ci.rig.ask("publisher", "show", "one-name")["workload"])["what"] == "workload"


def test_one_run_is_ended_and_the_next_run_of_the_same_workload_is_not(ci: CiRig) -> None:
    from dataclasses import replace

    job = ci.bind_job("runs", 2004)
    secret = ci.pass_(job)
    [alive] = ci.rig.ask("publisher", "show", "runs")["passes"]
    assert alive["hash"] == sha256_hex(secret.encode())
    revoke(ci, "run", alive["run"])
    assert ci.word_on_pass(secret) == "pass.ended"
    assert ci.exchange(job).json()["code"] == "identity.revoked"
    assert ci.exchange(replace(job, run_id="2005")).status_code == 200


def test_a_revocation_in_the_drop_box_needs_no_signature_and_ends_passes_at_the_gate_too(
    ci: CiRig,
) -> None:
    job = ci.bind_job("dropped", 2006)
    secret = ci.pass_(job)
    drop = ci.rig.home / "drop"
    ci.rig.run("revoke", "bot", "dropped", "--reason", "at night", "--drop", drop, "--yes")
    wait_until(lambda: ci.word_on_pass(secret) == "pass.ended", "the pass has ended")
    assert ci.exchange(job).json()["code"] == "identity.revoked"
    found = listed(ci, "dropped")
    assert (found["what"], found["source"], found["reason"]) == (
        "publisher",
        "drop box",
        "at night",
    )


def test_a_signed_revocation_in_a_drop_box_is_read_with_its_signature(
    ci: CiRig, tmp_path: Path
) -> None:
    (tmp_path / "drop").mkdir()
    drop = tmp_path / "drop"
    ci.rig.run(
        "revoke", "person", "Grace", "--reason", "left", "--drop", drop, *ci.rig.key("ada"), "--yes"
    )
    [found] = DropBox(drop).look()
    assert found.statement is not None and found.approval is not None
    body = found.statement.body_as(RevocationBody)
    roster = ci.rig.ask("roster", "show")["people"]
    grace = next(one["person"] for one in roster if one["name"] == "Grace")
    assert (found.what, found.target, found.reason) == ("person", grace, "left")
    assert (body.what, body.target) == ("person", grace)
    assert found.id == found.statement.digest == found.approval.statement


def test_an_approval_is_named_by_its_request_and_key(ci: CiRig, tmp_path: Path) -> None:
    (tmp_path / "drop").mkdir()
    request, key = sha256_hex(b"request"), sha256_hex(b"key")
    ci.rig.run("revoke", "approval", f"{request}:{key}", "--drop", tmp_path / "drop", "--yes")
    [found] = DropBox(tmp_path / "drop").look()
    assert (found.what, found.target) == ("approval", approval_id(request, key))


def test_far_from_the_gates_host_what_is_typed_is_taken_as_it_stands(
    ci: CiRig, tmp_path: Path
) -> None:
    job = ci.bind_job("far", 2007)
    secret = ci.pass_(job)
    words = ("publisher", "far", "--url", ci.rig.origin, *ci.rig.key("ada"), "--yes")
    ci.rig.run("revoke", *words, PRESSPASS_HOME=str(tmp_path / "nowhere"))
    assert ci.word_on_pass(secret) == "pass.ended"
    said = ci.rig.run(
        "revoke", "workload", *words[1:], "--format", "json",
        PRESSPASS_HOME=str(tmp_path / "nowhere"), code=exits.REFUSED,
    )  # fmt: skip
    assert "on the gate's host" in json.loads(said)["error"]["hint"]


def test_what_names_nothing_is_refused_and_a_mistyped_secret_is_not_repeated(ci: CiRig) -> None:
    said = revoke(ci, "publisher", "nobody", "--format", "json", code=exits.REFUSED)
    error = json.loads(said)["error"]
    assert error["code"] == "request.not-found" and "There is:" in error["hint"]
    said = revoke(ci, "pass", "ppx_secret", "--format", "json", code=exits.REFUSED)
    assert json.loads(said)["error"]["code"] == "request.malformed" and "ppx_secret" not in said


def test_a_revocation_that_clears_something_or_is_of_an_unknown_kind_is_no_revocation(
    tmp_path: Path,
) -> None:
    (tmp_path / "a.json").write_text('{"revoke": {"what": "everything", "target": "x"}}')
    (tmp_path / "b.json").write_text('{"revoke": {"what": "pass", "target": "x", "until": 5}}')
    assert DropBox(tmp_path).look() == []


def test_a_file_is_named_by_itself_or_its_digest_and_a_release_by_what_is_known_here(
    ci: CiRig, tmp_path: Path
) -> None:
    (tmp_path / "drop").mkdir()
    file, far = tmp_path / "greet-1.0.tar.gz", {"PRESSPASS_HOME": str(tmp_path / "nowhere")}
    file.write_bytes(b"the bytes")
    digest = sha256_hex(b"the bytes")
    dropping = ("--drop", tmp_path / "drop", "--yes")
    for words in (("file", file), ("file", digest), ("release", digest)):
        ci.rig.run("revoke", *words, *dropping, **far)
    found = [(one.what, one.target) for one in DropBox(tmp_path / "drop").look()]
    assert sorted(found) == [("file", digest), ("file", digest), ("release", digest)]
    for words in (("file", tmp_path / "missing"), ("file", "123"), ("release", "greet==1.0")):
        ci.rig.run("revoke", *words, *dropping, code=exits.REFUSED, **far)
    ci.rig.run("revoke", "release", "nothing==1.0", *dropping, code=exits.REFUSED)
    assert len(list((tmp_path / "drop").iterdir())) == 3
