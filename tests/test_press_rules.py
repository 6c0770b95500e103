"""Rules in Cedar at the press: beyond the quorum, from what it knows itself, at approval and before every byte."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from press_rig import ORIGIN, TOKEN, Rig, rigs
from presspass.cli.main import run
from presspass.core.digests import canonical, sha256_hex
from presspass.core.errors import Code
from presspass.core.policy import Policy
from presspass.core.statement import BundleBody, Member, PolicyBody, ReleaseBody, Statement
from presspass.drill.packages import make_sdist, make_wheel, wheel_with_pth
from presspass.drill.world.registry import Registry
from presspass.press.press import Press
from presspass.rules.document import RuleDocument
from presspass.rules.question import Question
from presspass.store import gateway_tables as g
from presspass.store import journal_view as view
from test_press_laws import wait_for, watch

POLICY = Policy(veto_window_s=0, software_keys=True, key_wait_s=0)
QUORUM = """@id("asking") permit (principal, action in [Action::"exchange", Action::"stage"], resource);
@id("quorum") permit (principal, action == Action::"publish", resource)
when { context.approvals >= context.approvals_needed };
"""
TWO = """
@id("two-look") @message("two people look at it")
forbid (principal, action == Action::"publish", resource) unless { context.approvals >= 2 };
"""


@pytest.fixture
def registry() -> Iterator[Registry]:
    with Registry(seed=7, token=TOKEN) as running:
        yield running


@pytest.fixture
def rig(tmp_path: Path, registry: Registry) -> Iterator[Rig]:
    with rigs(tmp_path, registry, POLICY) as make:
        yield make()


def put_rules(rig: Rig, document: RuleDocument, data: bytes | None = None) -> None:
    row = {"digest": document.digest, "document": data or document.to_bytes(), "received_ms": 1}
    rig.rows.run(lambda c: c.execute(g.RULES.insert().values(**row)))


def ask_policy(rig: Rig, rules: str | None) -> Statement:
    policy = replace(rig.journal(view.policy), rules=rules)
    statement = rig.statement(PolicyBody(policy), rig.journal(view.heads).policy)
    rig.request(statement)
    rig.sign(statement, "ana", "ben")
    return statement


def put_in_force(rig: Rig, press: Press, text: str, **packages: str) -> RuleDocument:
    document = RuleDocument(text, packages)
    put_rules(rig, document)
    rig.until(press, ask_policy(rig, document.digest).digest, "admitted")
    return document


def question(rig: Rig, statement: Statement) -> Question:
    return Question.from_json(
        json.loads(rig.journal(lambda c: view.ruling(c, statement.digest)).question)
    )


def test_a_rule_holds_what_the_quorum_would_let_out_until_it_is_satisfied(
    rig: Rig, tmp_path: Path
) -> None:
    with rig.press() as press:
        rig.upstream(press)
        first = rig.stage(press, [make_wheel(tmp_path, "demo", "1.0")], "demo", "1.0")
        rig.sign(first, "ben")
        rig.until(press, first.digest, "verified")
        document = put_in_force(rig, press, QUORUM + TWO)
        files = [wheel_with_pth(tmp_path, "demo", "1.0.1")]
        second = rig.stage(press, files, "demo", "1.0.1")
        rig.sign(second, "ben")
        wait_for(lambda: press.tick() or bool(rig.decision(second.digest).code == "policy.denied"))
        held = rig.stays(press, second.digest, "seen")
        assert held.code == Code.POLICY_DENIED.value
        assert "two-look (two people look at it)" in held.message
        ruling = rig.journal(lambda c: view.ruling(c, second.digest))
        assert (ruling.document, ruling.allowed, ruling.rules) == (document.digest, 0, "two-look")
        rig.sign(second, "cleo")
        rig.until(press, second.digest, "verified")
        asked = question(rig, second)
        assert (asked.principal, asked.package, asked.registry) == (
            ("Person", "p-ana"),
            "demo",
            "main",
        )
        assert asked.groups == ("approvers",)
        known = asked.context
        assert (known.approvals, known.version_kind, known.releases_last_hour) == (2, "patch", 1)
        assert known.hours_since_last_release == 0 and known.requester_signed
        assert known.findings.highest == "high" and not known.workload
        assert rig.journal(lambda c: view.ruling(c, second.digest)).allowed == 1


def test_who_asked_is_a_person_only_where_that_person_has_signed(rig: Rig, tmp_path: Path) -> None:
    """The gateway names whom it likes; a rule that lets one person's releases out is not opened by that."""
    only = '@id("cleo") permit (principal == Person::"p-cleo", action, resource);'
    with rig.press() as press:
        rig.upstream(press)
        put_in_force(rig, press, only)
        files = [make_wheel(tmp_path, "demo", "1.0")]
        lie = rig.stage(press, files, "demo", "1.0", requester="p-cleo", requester_signs=False)
        rig.sign(lie, "ana", "ben")
        wait_for(lambda: press.tick() or bool(rig.decision(lie.digest).code == "policy.denied"))
        rig.stays(press, lie.digest, "seen")
        assert question(rig, lie).principal == ("Unproved", "requester")
        rig.sign(lie, "cleo")
        rig.until(press, lie.digest, "verified")


def test_rules_without_their_bytes_and_other_bytes_put_nothing_in_force(rig: Rig) -> None:
    document = RuleDocument(QUORUM + TWO)
    with rig.press() as press:
        asked = ask_policy(rig, document.digest)
        assert rig.stays(press, asked.digest, "seen").code == Code.POLICY_RULES_MISSING.value
        put_rules(rig, document, RuleDocument(QUORUM).to_bytes())
        assert rig.stays(press, asked.digest, "seen").code == Code.POLICY_RULES_MISSING.value
        rig.rows.run(lambda c: c.execute(g.RULES.delete()))
        put_rules(rig, document)
        rig.until(press, asked.digest, "admitted")
        assert rig.journal(lambda c: view.rules(c, document.digest)) == document.to_bytes()
        rig.until(press, ask_policy(rig, None).digest, "admitted")
        assert rig.journal(view.policy).rules is None


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (QUORUM.replace("approvals_needed", "aprovals"), Code.POLICY_INVALID),
        ('@id("x") forbid (principal, action, resource);', Code.POLICY_LOCKS_OUT),
        (QUORUM + TWO.replace(">= 2", ">= 4"), Code.POLICY_LOCKS_OUT),
        (QUORUM + '@id("f") forbid (principal, action == Action::"freeze", resource);',
         Code.POLICY_FORBIDS_NARROWING),
    ],
)  # fmt: skip
def test_rules_that_are_none_lock_out_or_forbid_narrowing_are_refused_by_the_press(
    rig: Rig, text: str, code: Code
) -> None:
    document = RuleDocument(text)
    put_rules(rig, document)
    with rig.press() as press:
        asked = ask_policy(rig, document.digest)
        assert rig.until(press, asked.digest, "rejected").code == code.value
        assert rig.journal(view.policy).rules is None
        assert rig.journal(lambda c: view.rules(c, document.digest)) is None


def test_a_document_that_is_none_is_refused(rig: Rig) -> None:
    data = canonical({"format": "presspass/rules/v9"})
    row = {"digest": sha256_hex(data), "document": data, "received_ms": 1}
    rig.rows.run(lambda c: c.execute(g.RULES.insert().values(**row)))
    with rig.press() as press:
        asked = ask_policy(rig, sha256_hex(data))
        assert rig.until(press, asked.digest, "rejected").code == Code.POLICY_INVALID.value


def test_rules_of_the_policy_that_a_release_names_and_those_in_force_must_both_let_it_out(
    rig: Rig, tmp_path: Path
) -> None:
    with rig.press() as press:
        rig.upstream(press)
        strict = put_in_force(rig, press, QUORUM + TWO)
        statement = rig.stage(press, [make_wheel(tmp_path, "demo", "1.0")], "demo", "1.0")
        rig.until(press, ask_policy(rig, RuleDocument(QUORUM).digest).digest, "seen")
        put_rules(rig, RuleDocument(QUORUM))
        wait_for(lambda: press.tick() or rig.journal(view.policy).rules != strict.digest)
        rig.sign(statement, "ben")
        wait_for(lambda: press.tick() or rig.decision(statement.digest).code == "policy.denied")
        assert rig.journal(lambda c: view.ruling(c, statement.digest)).document == strict.digest
        rig.stays(press, statement.digest, "seen")


def test_rules_that_come_into_force_between_two_files_stop_the_second(
    rig: Rig, tmp_path: Path
) -> None:
    with rig.press() as press:
        rig.upstream(press)
        files = [make_wheel(tmp_path, "demo", "1.0"), make_sdist(tmp_path, "demo", "1.0")]
        statement = rig.stage(press, files, "demo", "1.0")
        first, changed = threading.Event(), threading.Event()

        def hold(_name: str) -> None:
            first.set()
            assert changed.wait(60)

        sent = watch(press, after=hold)
        rig.sign(statement, "ben")
        wait_for(lambda: press.tick() or first.is_set())
        put_in_force(rig, press, QUORUM + TWO)
        changed.set()
        assert rig.until(press, statement.digest, "failed").code == Code.POLICY_DENIED.value
        assert len(sent) == 1


def test_rules_come_in_a_bundle_with_the_rest_and_each_package_has_its_own(
    rig: Rig, tmp_path: Path
) -> None:
    document = RuleDocument(QUORUM, {"demo": TWO})
    put_rules(rig, document)
    with rig.press() as press:
        rig.upstream(press)
        policy = replace(POLICY, rules=document.digest, approval_life_s=3600)
        member = Member(PolicyBody(policy), rig.journal(view.heads).policy)
        asked = rig.statement(BundleBody((member,)))
        rig.request(asked)
        rig.sign(asked, "ana", "ben")
        rig.until(press, asked.digest, "admitted")
        other = rig.stage(press, [make_wheel(tmp_path, "other", "1.0")], "other", "1.0")
        demo = rig.stage(press, [make_wheel(tmp_path, "demo", "1.0")], "demo", "1.0")
        rig.sign(other, "ben")
        rig.sign(demo, "ben")
        rig.until(press, other.digest, "verified")
        wait_for(lambda: press.tick() or rig.decision(demo.digest).code == "policy.denied")


def told(capsys: pytest.CaptureFixture[str], *words: object, code: int = 0) -> Any:
    assert run(["policy", *map(str, words), "--format", "json"]) == code
    return json.loads(capsys.readouterr().out)


def test_what_was_asked_is_explained_and_other_rules_are_held_against_it(
    rig: Rig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home = ("--home", rig.home)
    other = tmp_path / "other.cedar"
    with rig.press() as press:
        rig.upstream(press)
        out = rig.stage(press, [make_wheel(tmp_path, "out", "1.0")], "out", "1.0")
        rig.sign(out, "ben")
        rig.until(press, out.digest, "verified")
        assert run(["policy", "show", "--home", str(rig.home)]) == 1
        put_in_force(rig, press, QUORUM + TWO)
        held = rig.stage(press, [make_wheel(tmp_path, "held", "1.0")], "held", "1.0")
        rig.sign(held, "ben")
        wait_for(lambda: press.tick() or rig.decision(held.digest).code == "policy.denied")
    capsys.readouterr()
    said = told(capsys, "explain", held.digest, *home, code=1)
    assert said["decided_by"] == ["two-look"] and said["question"]["context"]["approvals"] == 1
    assert [(one["id"], one["applies"]) for one in said["rules"]] == [
        ("asking", False),
        ("quorum", True),
        ("two-look", True),
    ]
    release = held.body_as(ReleaseBody).release
    other.write_text(QUORUM)
    assert told(capsys, "explain", f"{ORIGIN}/r/{release}", *home, "--rules", other)["allowed"]
    replayed = told(capsys, "replay", other, *home)
    assert replayed["asked"] == 2
    (line,) = replayed["changed"]
    assert (line["package"], line["was"], line["would_be"]) == ("held", "deny", "allow")
    other.write_text(QUORUM + TWO)
    (line,) = told(capsys, "replay", other, *home)["changed"]
    assert (line["package"], line["would_be"], line["rules"]) == ("out", "deny", ["two-look"])
    assert run(["policy", "explain", "0" * 64, "--home", str(rig.home)]) == 2


def test_an_audit_tells_what_other_rules_say_to_each_new_question(rig: Rig, tmp_path: Path) -> None:
    other = tmp_path / "other.cedar"
    other.write_text(QUORUM + TWO)
    with rig.press() as press:
        rig.upstream(press)
        before = rig.stage(press, [make_wheel(tmp_path, "before", "1.0")], "before", "1.0")
        rig.sign(before, "ben")
        rig.until(press, before.digest, "verified")
        words = ("policy", "audit", other, "--home", rig.home, "--format", "jsonl", "--for", "1h")
        command = [sys.executable, "-u", "-m", "presspass.cli.main", *map(str, words)]
        lines: list[str] = []
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as audit:
            assert audit.stderr is not None and audit.stdout is not None
            assert "from now on" in audit.stderr.readline()
            now = rig.stage(press, [make_wheel(tmp_path, "now", "1.0")], "now", "1.0")
            rig.sign(now, "ben")
            rig.until(press, now.digest, "verified")
            lines.append(audit.stdout.readline())
            audit.kill()
    (line,) = map(json.loads, lines)
    assert (line["package"], line["was"], line["would_be"]) == ("now", "allow", "deny")
