"""Rules in Cedar: everything but a plain yes is a no; what is wrong in a file is said with its line."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import presspass.rules.ruleset as ruleset
from presspass.cli.main import run
from presspass.core.errors import Code, Refusal
from presspass.core.limits import RULES_BYTES_MAX
from presspass.core.policy import PROFILES
from presspass.rules.document import RuleDocument
from presspass.rules.explain import explain
from presspass.rules.lockout import check_not_locked, lets_out
from presspass.rules.profiles import profile_rules
from presspass.rules.question import Context, Findings, Question
from presspass.rules.ruleset import Decision, RuleSet
from presspass.rules.texts import NARROWING_ACTIONS

QUORUM = """@id("asking") permit (principal, action in [Action::"exchange", Action::"stage"], resource);
@id("quorum")
permit (principal, action == Action::"publish", resource)
when { context.approvals >= context.approvals_needed };
"""
FORBID = '@id("held") forbid (principal, action == Action::"publish", resource)'
ORDINARY = Question()


def rules(text: str, packages: dict[str, str] | None = None, **tiers: str) -> RuleSet:
    return RuleSet.of(RuleDocument(text, packages or {}, tiers))


def asked(**context: object) -> Question:
    return replace(ORDINARY, context=replace(Context(), **context))  # type: ignore[arg-type]  # a test's own names


def refused(text: str, code: Code = Code.POLICY_INVALID) -> str:
    with pytest.raises(Refusal) as caught:
        rules(text)
    assert caught.value.code is code
    return caught.value.message


# --- the decision -----------------------------------------------------------------------------------------------------


def test_what_no_rule_permits_is_refused() -> None:
    held = rules(FORBID + " when { false };")
    assert held.decide(ORDINARY) == Decision(False)
    assert not rules("").decide(ORDINARY).allowed


def test_a_forbid_outweighs_every_permit_and_the_refusal_names_it_with_its_message() -> None:
    both = rules(QUORUM + '@message("not on mondays")' + FORBID + " when { context.weekday == 1 };")
    assert both.decide(ORDINARY) == Decision(True, ("quorum",))
    monday = asked(weekday=1)
    decision = both.decide(monday)
    assert decision == Decision(False, ("held",))
    with pytest.raises(Refusal, match="held.*not on mondays") as caught:
        decision.require(both, monday)
    assert caught.value.code is Code.POLICY_DENIED


def test_a_forbid_that_cannot_be_evaluated_refuses() -> None:
    """Without a schema the engine skips it, and the answer becomes Allow."""
    overflow = f"{FORBID} when {{ context.files * 9223372036854775807 > 1 }};"
    decision = rules(QUORUM + overflow).decide(asked(files=3))
    assert not decision.allowed and "overflow" in decision.errors[0]
    with pytest.raises(Refusal) as caught:
        decision.require(rules(QUORUM), ORDINARY)
    assert caught.value.code is Code.POLICY_ERROR


def test_a_question_that_does_not_fit_the_schema_is_refused_by_every_rule(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    everything = rules('@id("all") permit (principal, action == Action::"publish", resource);')
    whole = Context.attributes

    def lacking(self: Context, action: str) -> dict[str, object]:
        return {name: value for name, value in whole(self, action).items() if name != "findings"}

    monkeypatch.setattr(Context, "attributes", lacking)
    decision = everything.decide(ORDINARY)
    assert not decision.allowed and decision.errors


def test_an_engine_that_fails_has_not_said_yes(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_given: object) -> object:
        raise RuntimeError("the engine is gone")

    monkeypatch.setattr(ruleset.cedarpy, "is_authorized_batch", broken)
    decision = rules(QUORUM).decide(ORDINARY)
    assert decision == Decision(False, errors=("RuntimeError: the engine is gone",))


@settings(max_examples=60, deadline=None)
@given(
    approvals=st.integers(-3, 9),
    needed=st.integers(0, 9),
    high=st.integers(0, 3),
    hour=st.integers(-1, 30),
    bound=st.booleans(),
    hours=st.none() | st.integers(-5, 10**6),
    package=st.text(max_size=20),
    groups=st.lists(st.text(max_size=5), max_size=3),
)
def test_whatever_is_asked_the_answer_is_yes_only_where_every_rule_says_so(
    approvals: int, needed: int, high: int, hour: int, bound: bool, hours: int | None,
    package: str, groups: list[str],
) -> None:  # fmt: skip
    text = (
        QUORUM
        + FORBID
        + " when { context.findings.high > 0 || context.hour_utc < 6 } unless { context.digests_bound };"
        + '@id("rest") forbid (principal, action, resource)'
        + " when { context has hours_since_last_release && context.hours_since_last_release < 2 };"
    )
    question = Question(
        ("Person", "ana"), tuple(groups), package,
        context=Context(
            approvals=approvals, approvals_needed=needed, findings=Findings(high=high), hour_utc=hour,
            digests_bound=bound, hours_since_last_release=hours, approver_groups=tuple(groups),
        ),
    )  # fmt: skip
    held = (high > 0 or hour < 6) and not bound
    soon = hours is not None and hours < 2
    decision = rules(text).decide(question)
    assert decision.errors == ()
    assert decision.allowed == (approvals >= needed and not held and not soon)
    assert Question.from_json(json.loads(json.dumps(question.to_json()))) == replace(
        question, context=replace(question.context, approver_groups=tuple(sorted(set(groups))))
    )


@pytest.mark.parametrize("action", ["exchange", "stage"])
def test_what_is_not_known_yet_at_a_door_cannot_be_asked_about_there(action: str) -> None:
    text = f'@id("x") forbid (principal, action == Action::"{action}", resource)'
    assert "approvals" in refused(text + " when { context.approvals < 2 };")
    both = rules(QUORUM + text + " when { context.weekday == 7 };")
    sunday = replace(asked(weekday=7), action=action)
    assert both.decide(sunday) == Decision(False, ("x",))
    assert both.decide(replace(ORDINARY, action=action)) == Decision(True, ("asking",))
    assert both.decide(asked(weekday=7)).allowed


# --- slices -----------------------------------------------------------------------------------------------------------


def test_rules_of_a_package_are_seen_for_it_alone_and_add_to_the_base() -> None:
    own = FORBID + " unless { context.approvals >= 3 };"
    both = rules(QUORUM, {"demo": own})
    assert both.decide(ORDINARY) == Decision(False, ("held",))
    assert both.decide(asked(approvals=3)) == Decision(True, ("quorum",))
    assert both.decide(replace(ORDINARY, package="other")).allowed


def test_a_tier_is_the_documents_to_say() -> None:
    text = QUORUM + FORBID + ' when { resource.tier == "critical" };'
    tiered = rules(text, demo="critical")
    assert not tiered.decide(ORDINARY).allowed
    assert tiered.decide(replace(ORDINARY, package="other")).allowed


def test_rules_of_a_package_that_are_none_refuse_that_package_and_no_other() -> None:
    """A press that reads a document from before its schema changed."""
    both = rules(QUORUM, {"demo": FORBID + " when { context.gone };"})
    assert "gone" in both.decide(ORDINARY).errors[0]
    assert both.decide(replace(ORDINARY, package="other")).allowed
    with pytest.raises(Refusal, match="packages/demo.cedar, line 1"):
        both.check()


# --- what is no rule --------------------------------------------------------------------------------------------------


def test_a_misspelt_attribute_a_wrong_type_and_an_unguarded_optional_one_are_refused_with_the_line() -> (
    None
):
    for body, says in (
        ("context.aprovals >= 1", "aprovals"),
        ('context.approvals >= "1"', "expected Long"),
        ("context.hours_since_last_release > 1", "optional"),
        ("context.findings.bad > 1", "bad"),
    ):
        message = refused(f"// a comment;\n{QUORUM}\n{FORBID} when {{ {body} }};")
        assert message.startswith("base.cedar, line 7: ") and says in message


def test_a_syntax_error_is_refused_with_the_line_of_its_rule() -> None:
    assert refused(QUORUM + "\n" + FORBID + " when { 1 +").startswith("base.cedar, line 6: ")
    assert refused("permit permit;").startswith("base.cedar, line 1: ")


def test_semicolons_in_texts_and_comments_end_no_rule() -> None:
    text = '@id("a") @message("one; // two \\" three") permit (principal, action, resource) // no; end\n;'
    found = rules(text)
    assert [one.id for one in found.base.rules] == ["a"]
    assert found.base.rules[0].message == 'one; // two " three'


def test_a_rule_without_an_id_one_id_twice_and_a_template_are_refused() -> None:
    assert "no id" in refused("permit (principal, action, resource);")
    assert "no id" in refused('@id("") permit (principal, action, resource);')
    assert "'asking'" in refused(QUORUM + QUORUM)
    assert "template" in refused('@id("t") permit (principal == ?principal, action, resource);')
    twice = rules(QUORUM, {"demo": QUORUM})
    with pytest.raises(Refusal, match="'asking'"):
        twice.check()


@pytest.mark.parametrize("action", NARROWING_ACTIONS)
def test_no_rule_may_speak_of_narrowing(action: str) -> None:
    for text in (
        f'@id("n") forbid (principal, action == Action::"{action}", resource);',
        f'@id("n") forbid (principal, action in [Action::"publish", Action::"{action}"], resource);',
        f'@id("n") forbid (principal, action, resource) when {{ action == Action::"{action}" }};',
    ):
        assert action in refused(QUORUM + text, Code.POLICY_FORBIDS_NARROWING)


@settings(max_examples=80, deadline=None)
@given(st.text(alphabet='@id("x")permit,forbid{};/\\\n pricontexl?&|=', max_size=60) | st.text())
def test_any_text_is_rules_or_a_refusal(text: str) -> None:
    try:
        assert not rules(text).decide(ORDINARY).errors
    except Refusal as refusal:
        assert refusal.code in (Code.POLICY_INVALID, Code.POLICY_FORBIDS_NARROWING)


# --- the document -----------------------------------------------------------------------------------------------------


def test_a_document_reads_back_and_nothing_else_is_one() -> None:
    document = RuleDocument(QUORUM, {"demo": FORBID + ";"}, {"demo": "critical"})
    data = document.to_bytes()
    assert RuleDocument.from_bytes(data) == document
    assert RuleDocument.from_bytes(data).digest == document.digest
    value = json.loads(data)
    for wrong in (
        data + b" ",
        b"{}",
        json.dumps({**value, "more": 1}).encode(),
        RuleDocument(QUORUM, {"Demo": ""}).to_bytes(),
        RuleDocument(QUORUM, {}, {"demo": "Not A Tier"}).to_bytes(),
    ):
        with pytest.raises(Refusal) as caught:
            RuleDocument.from_bytes(wrong)
        assert caught.value.code is Code.POLICY_INVALID
    with pytest.raises(Refusal, match="limit"):
        RuleDocument("x" * RULES_BYTES_MAX).to_bytes()


# --- locking everybody out --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "",
        QUORUM.partition("\n")[2],
        QUORUM.partition("\n")[0],
        QUORUM.replace(
            '(principal, action in [Action::"exchange", ', "(principal is Publisher, action in ["
        ),
        '@id("a") forbid (principal, action, resource);' + QUORUM,
        QUORUM + FORBID + " unless { context.approvals >= 4 };",
        QUORUM + FORBID + ' unless { context.approver_groups.contains("nobody") };',
        QUORUM + FORBID + " when { context.weekday < 4 || context.weekday >= 4 };",
        '@id("p") permit (principal == Person::"ana", action, resource) when { resource.tier == "none-has-it" };',
    ],
)
def test_rules_that_let_nothing_out_are_refused(text: str) -> None:
    with pytest.raises(Refusal) as caught:
        check_not_locked(rules(text), 3, ("security",))
    assert caught.value.code is Code.POLICY_LOCKS_OUT


@pytest.mark.parametrize(
    "text",
    [
        QUORUM + FORBID + " unless { context.approvals >= 3 };",
        QUORUM + FORBID + ' unless { context.approver_groups.contains("security") };',
        QUORUM + FORBID + " unless { context.weekday == 7 && context.hour_utc == 4 };",
        QUORUM + FORBID + ' unless { context.version_kind == "older" };',
        '@id("p") permit (principal == Person::"ana", action, resource);',
        '@id("p") permit (principal in Group::"security", action, resource);',
        QUORUM.replace("context.approvals >=", "context.findings.high > 0 && context.approvals >="),
        QUORUM + FORBID + " unless { context has hours_since_last_release && "
        "context.hours_since_last_release > 300 };",
    ],
)  # fmt: skip
def test_rules_that_let_something_out_are_not(text: str) -> None:
    check_not_locked(rules(text), 3, ("security",))


def test_one_package_may_be_held_as_long_as_another_can_go_out() -> None:
    held = rules(QUORUM, {"demo": FORBID + ";"})
    check_not_locked(held, 2, ())
    assert not lets_out(held, "demo", 2, ())
    only = rules("", {"demo": QUORUM})
    check_not_locked(only, 2, ())


# --- profiles and explanations ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("profile", PROFILES)
def test_every_profile_ships_rules_that_let_an_ordinary_release_out(profile: str) -> None:
    found = RuleSet.of(profile_rules(profile))
    check_not_locked(found, 2, ())
    assert found.decide(ORDINARY).allowed
    assert not found.decide(asked(approvals=0)).allowed
    assert not found.decide(asked(releases_last_hour=3)).allowed


def test_an_explanation_says_which_part_of_which_rule_is_missing() -> None:
    text = QUORUM + FORBID + (
        ' when { resource.tier == "critical" && context.files > 0 }'
        ' unless { context.approvals >= 2 && context.approver_groups.contains("security") };'
    )  # fmt: skip
    said = explain(rules(text, demo="critical"), asked(approvals=1, approvals_needed=2))
    asking, quorum, held = said.rules
    assert asking.missing == ('action in [Action::"exchange", Action::"stage"]',)
    assert not said.decision.allowed
    assert quorum.missing == ("context.approvals >= context.approvals_needed",)
    assert held.applies and [part.text for part in held.parts] == [
        'action == Action::"publish"',
        'resource.tier == "critical"',
        "context.files > 0",
        'not ((context.approvals >= 2) && (context.approver_groups.contains("security")))',
    ]
    assert said.to_json()["rules"][1]["applies"] is False


# --- the command line -------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "packages").mkdir()
    (tmp_path / "base.cedar").write_text(QUORUM)
    (tmp_path / "packages" / "demo.cedar").write_text(
        FORBID + ' when { resource.tier == "critical" };'
    )
    (tmp_path / "tiers.yaml").write_text("critical: [Demo]\n")
    (tmp_path / "tests.yaml").write_text(
        "- name: demo is held\n  package: demo\n  expect: deny\n  rules: [held]\n"
        '- name: others go out\n  package: other\n  principal: Person::"ana"\n  groups: [dev]\n'
        "  context: {version: 2, hours_since_last_release: null}\n  expect: allow\n"
    )
    return tmp_path


def test_check_and_test_read_a_folder(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["policy", "check", str(folder), "--format", "json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["held"], told["packages"], told["rules"]) == (["demo"], 1, ["asking", "quorum"])
    assert run(["policy", "test", str(folder)]) == 0
    assert "ok    demo is held" in capsys.readouterr().out


def test_a_case_that_comes_out_otherwise_fails_with_its_line(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cases = folder / "tests.yaml"
    cases.write_text(cases.read_text().replace("rules: [held]", "rules: [quorum]"))
    assert run(["policy", "test", str(folder)]) == 1
    out = capsys.readouterr().out
    assert "FAIL  demo is held  (tests.yaml, line 1)" in out and "was    deny (held)" in out


@pytest.mark.parametrize(
    ("file", "text", "says"),
    [
        ("base.cedar", QUORUM + "\n" + FORBID + " when { context.x };", "base.cedar, line 6"),
        ("packages/demo.cedar", "permit", "packages/demo.cedar, line 1"),
        ("packages/De_mo.cedar", QUORUM, "de-mo.cedar"),
        ("tiers.yaml", "a: [demo]\nb: [demo]\n", "tiers.yaml, line 2"),
        ("tests.yaml", "- name: x\n  expect: perhaps\n", "tests.yaml, line 2"),
        ("tests.yaml", "- name: x\n  expect: deny\n  context: {aprovals: 1}\n", "aprovals"),
        ("tests.yaml", "- name: x\n  expect: deny\n  context: {approvals: many}\n", "whole number"),
        ("tests.yaml", "- name: x\n  expect: deny\n  principal: ana\n", "tests.yaml, line 3"),
    ],
)
def test_what_is_wrong_in_a_folder_is_said_with_its_place(
    folder: Path, capsys: pytest.CaptureFixture[str], file: str, text: str, says: str
) -> None:
    (folder / file).write_text(text)
    assert run(["policy", "test", str(folder)]) == 1
    assert says in capsys.readouterr().err


def test_the_rules_of_a_profile_are_printed_to_begin_with(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for profile in PROFILES:
        assert run(["policy", "show", "--profile", profile]) == 0
        (tmp_path / "own.cedar").write_text(capsys.readouterr().out)
        assert run(["policy", "check", str(tmp_path / "own.cedar")]) == 0
        capsys.readouterr()
    assert run(["policy", "show", "--schema"]) == 0
    assert "action publish" in capsys.readouterr().out
    assert run(["policy", "show", "--schema", "--profile", "team"]) == 2


# --- the documentation ------------------------------------------------------------------------------------------------


def test_the_rule_file_and_the_cases_of_the_documentation_are_what_they_say(tmp_path: Path) -> None:
    page = (Path(__file__).parent.parent / "docs" / "policy.md").read_text()
    for kind, file in (("cedar", "base.cedar"), ("yaml", "tests.yaml")):
        body, *_others = re.findall(rf"^```{kind}\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
        (tmp_path / file).write_text(body)
    assert run(["policy", "check", str(tmp_path), "--group", "on-call"]) == 0
    assert run(["policy", "test", str(tmp_path)]) == 0
