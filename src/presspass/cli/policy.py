"""`policy`: rules in Cedar before and after they are in force: checked, tried, explained, held against the past."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from presspass.cli.exits import DONE, REFUSED, CannotSayError
from presspass.cli.options import Duration, example, format_option, home_option
from presspass.cli.show import emit_json, note, safe, say
from presspass.core.errors import Code, Refusal
from presspass.core.limits import PEOPLE_PER_ROSTER_MAX, STATEMENT_BYTES_MAX
from presspass.core.policy import PROFILES

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from presspass.cli.rule_files import Case
    from presspass.rules.explain import Explanation
    from presspass.rules.question import Question
    from presspass.rules.ruleset import Decision, RuleSet
    from presspass.store.journal_view import Ruling

_BEGINNING: Final = (-1, "")
_PAGE: Final = 500
_LOOK_S: Final = 1.0
_RULES = click.Path(path_type=Path, exists=True)


@click.group("policy", short_help="Rules in Cedar: check, test, explain, replay them.")
def policy_command() -> None:
    """Rules in Cedar, which the press asks beyond the quorum: checked, tried and explained before they are in force.

    RULES is a folder (base.cedar, packages/NAME.cedar, tiers.yaml, tests.yaml) or one .cedar file. They come into force
    as the rest of the policy does: `tiers: {default: {rules: RULES}}` in the file that `presspass apply` takes.
    """


@policy_command.command(
    "check",
    short_help="Whether rules can come into force.",
    epilog=example("presspass policy check policy/"),
)
@click.argument("rules", type=_RULES)
@click.option(
    "--approvers",
    type=click.IntRange(1, PEOPLE_PER_ROSTER_MAX),
    default=2,
    show_default=True,
    help="How many could sign a release, to see whether the rules still let anything out.",
)
@click.option(
    "--group", "groups", multiple=True, help="A group that some approver is in (repeatable)."
)
@format_option
def check_command(rules: Path, approvers: int, groups: tuple[str, ...], as_json: bool) -> None:
    """Read RULES as the press will: syntax, types, ids, no rule against narrowing, and that something can still go out.

    Exit codes: 0 they can come into force; 1 refused, with file and line.
    """
    from presspass.rules.lockout import check_not_locked, lets_out

    found = _rule_set(rules)
    found.check()
    check_not_locked(found, approvers, groups)
    packages = found.document.packages
    held = [one for one in packages if not lets_out(found, one, approvers, groups)]
    count = len(found.base.rules)
    if as_json:
        emit_json({
            "digest": found.document.digest,
            "held": held,
            "packages": len(packages),
            "rules": [one.id for one in found.base.rules],
            "tiers": sorted(set(found.document.tiers.values())),
        })  # fmt: skip
        return
    say(found.document.digest)
    note(f"{count} rules for every package; {len(packages)} packages have rules of their own.")
    for one in held:
        note(f"Nothing of {safe(one)} could be published.")


@policy_command.command(
    "test",
    short_help="Run your own cases.",
    epilog=example(
        "presspass policy test policy/", "presspass policy test policy/ other-cases.yaml"
    ),
)
@click.argument("rules", type=_RULES)
@click.argument(
    "cases", type=click.Path(path_type=Path, exists=True, dir_okay=False), required=False
)
@format_option
def test_command(rules: Path, cases: Path | None, as_json: bool) -> int:
    """Ask RULES about each case of CASES (default: tests.yaml beside them), and compare.

    A case says what differs from an ordinary release (`package`, `principal`, `groups`, `registry`, `context`), what is
    to come of it (`expect: allow` or `deny`), and, if it likes, the `rules` that decide.

    Exit codes: 0 every case comes out as it says; 1 some do not, or a file is refused.
    """
    from presspass.cli.rule_files import CASES, read_cases

    found = _rule_set(rules)
    found.check()
    outcomes = [(case, found.decide(case.question)) for case in read_cases(cases or rules / CASES)]
    failed = [case for case, decision in outcomes if not _comes_out(case, decision)]
    if as_json:
        emit_json({
            "cases": [
                {"name": case.name, "passed": case not in failed, **decision_json(decision)}
                for case, decision in outcomes
            ],
            "failed": len(failed),
        })  # fmt: skip
    else:
        for case, decision in outcomes:
            _say_case(case, decision)
        note(f"{len(outcomes) - len(failed)} of {len(outcomes)} cases come out as they say.")
    return REFUSED if failed or not outcomes else DONE


@policy_command.command(
    "show",
    short_help="Print the rules in force, a profile's, or the schema.",
    epilog=example(
        "presspass policy show --profile team > policy/base.cedar",
        "presspass policy show --schema",
        "presspass policy show --home /srv/presspass",
    ),
)
@click.option(
    "--profile", type=click.Choice(PROFILES), help="The rules that ship with this profile."
)
@click.option("--schema", is_flag=True, help="What a rule can ask about.")
@click.option("--package", help="Also the rules of this package alone.")
@home_option
def show_command(profile: str | None, schema: bool, package: str | None, home: Path) -> None:
    """Print the rules in force, as the press's journal has them; or the rules that ship with a profile, to begin your
    own with; or the schema that every rule is checked with.

    Exit codes: 0 printed; 1 there are no rules in force; 4 the journal cannot be read.
    """
    from packaging.utils import canonicalize_name

    from presspass.rules.profiles import profile_rules
    from presspass.rules.ruleset import SCHEMA_TEXT

    if profile is not None and schema:
        raise click.UsageError("Say --profile NAME or --schema, not both.")
    if schema:
        click.echo(SCHEMA_TEXT, nl=False)
        return
    document = profile_rules(profile) if profile is not None else _in_force(home).document
    own = "" if package is None else document.packages.get(canonicalize_name(package), "")
    for text in filter(None, (document.base, own)):
        for line in text.splitlines():
            say(safe(line))


@policy_command.command(
    "explain",
    short_help="Which rule decides about a release, and what is missing.",
    epilog=example(
        "presspass policy explain https://gate.example/r/4x… --home /srv/presspass",
        "presspass policy explain --assume release.yaml --rules policy/",
    ),
)
@click.argument("release", required=False)
@click.option(
    "--assume",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Instead of RELEASE one that this file describes, as a case of `policy test` does.",
)
@click.option("--rules", type=_RULES, help="Other rules than those in force.")
@home_option
@format_option
def explain_command(
    release: str | None, assume: Path | None, rules: Path | None, home: Path, as_json: bool
) -> int:
    """Take each rule apart that is seen for RELEASE (its address, or the digest of its request), and say which parts
    hold. A real release is explained by what the press has journalled when it asked the rules last.

    Exit codes: 0 it may go out; 1 it may not; 2 nothing can be said: the press has not asked about it; 4 the journal
    cannot be read.
    """
    from presspass.rules.explain import explain

    if (release is None) == (assume is None):
        raise click.UsageError("Say which RELEASE, or --assume FILE.")
    found = _in_force(home) if rules is None else _rule_set(rules)
    question = _assumed(assume) if assume else _asked_about(home, str(release))
    said = explain(found, question)
    if as_json:
        emit_json({**said.to_json(), "question": question.to_json()})
    else:
        _say_explanation(said)
    return DONE if said.decision.allowed else REFUSED


@policy_command.command(
    "replay",
    short_help="Which past decisions other rules would have changed.",
    epilog=example("presspass policy replay policy/ --home /srv/presspass"),
)
@click.argument("rules", type=_RULES)
@home_option
@format_option
def replay_command(rules: Path, home: Path, as_json: bool) -> None:
    """Ask RULES what the press asked, about every release that it has judged, and name those that come out otherwise.

    What is compared is the last answer about each release. Changes nothing.

    Exit codes: 0 compared; 1 RULES are refused; 4 the journal cannot be read.
    """
    found = _rule_set(rules)
    found.check()
    changed, count = [], 0
    for one in _rulings(home):
        count += 1
        line = _compared(found, one)
        if line["was"] != line["would_be"]:
            changed.append(line)
    if as_json:
        emit_json({"asked": count, "changed": changed})
        return
    for line in changed:
        _say_compared(line)
    note(f"{len(changed)} of {count} releases would come out otherwise.")


@policy_command.command(
    "audit",
    short_help="Run other rules in the shadow of those in force.",
    epilog=example("presspass policy audit policy/ --home /srv/presspass --for 7d"),
)
@click.argument("rules", type=_RULES)
@click.option(
    "--for",
    "for_s",
    type=Duration(),
    default="1h",
    show_default=True,
    help="How long to go on (90s, 15m, 1h, 7d).",
)
@home_option
@click.option(
    "--format",
    "as_json",
    type=click.Choice(["text", "jsonl"]),
    default="text",
    show_default=True,
    callback=lambda _ctx, _param, value: value == "jsonl",
    help="jsonl: one answer a line, for scripts.",
)
def audit_command(rules: Path, for_s: int, home: Path, as_json: bool) -> None:
    """Ask RULES what the press asks from now on, and tell each answer as it comes, beside the one that counts.

    Changes nothing: only rules of a policy that people have signed decide.

    Exit codes: 0 the time is over; 1 RULES are refused; 4 the journal cannot be read.
    """
    found = _rule_set(rules)
    found.check()
    until = time.monotonic() + for_s
    after = max(((one.at_ms, one.statement) for one in _rulings(home)), default=_BEGINNING)
    note("Every answer from now on is told; nothing is changed by it.")
    while True:
        for one in _rulings(home, after):
            after = (one.at_ms, one.statement)
            line = _compared(found, one)
            if as_json:
                click.echo(json.dumps(line, sort_keys=True))
            else:
                _say_compared(line)
        left_s = until - time.monotonic()
        if left_s <= 0:
            return
        time.sleep(min(_LOOK_S, left_s))


def _in_force(home: Path) -> RuleSet:
    """The rules in force, from the press's journal on this host."""
    from presspass.cli.databases import ask_journal
    from presspass.rules.document import RuleDocument
    from presspass.rules.ruleset import RuleSet
    from presspass.store import journal_view

    def question(connection: Connection) -> bytes | None:
        digest = journal_view.policy(connection).rules
        return None if digest is None else journal_view.rules(connection, digest)

    data = ask_journal(home, question)
    if data is None:
        raise Refusal(
            Code.POLICY_RULES_MISSING,
            "No rules are in force here: the quorum alone decides.",
            "Begin with: presspass policy show --profile team",
        )
    return RuleSet.of(RuleDocument.from_bytes(data))


def _assumed(file: Path) -> Question:
    from presspass.cli.rule_files import read_question

    return read_question(file)


def _asked_about(home: Path, release: str) -> Question:
    """What the press asked about a release last; `release`: its address or id, or the digest of its request."""
    from presspass.cli.client import parse_page_url
    from presspass.cli.databases import ask_journal
    from presspass.store import journal_view

    wanted = parse_page_url(release).id if "/" in release else release

    def question(connection: Connection) -> journal_view.Ruling | None:
        digest = journal_view.statement_of_release(connection, wanted) or wanted
        return journal_view.ruling(connection, digest)

    found = ask_journal(home, question)
    if found is None:
        raise CannotSayError(
            f"The press has not asked the rules about {release} yet.",
            "It does when enough people have signed; --assume FILE explains one that is not there.",
        )
    return _read(found)


def _read(ruling: Ruling) -> Question:
    from presspass.core.digests import parse_canonical
    from presspass.rules.question import Question

    value = parse_canonical(ruling.question, bytes_max=STATEMENT_BYTES_MAX, what="question")
    return Question.from_json(value)


def _rulings(home: Path, after: tuple[int, str] = _BEGINNING) -> Iterator[Ruling]:
    """What the press has journalled later than `after`, oldest first."""
    from presspass.cli.databases import ask_journal
    from presspass.store import journal_view

    while page := ask_journal(home, partial(journal_view.rulings, after=after, count_max=_PAGE)):
        yield from page
        after = (page[-1].at_ms, page[-1].statement)


def _compared(rules: RuleSet, ruling: Ruling) -> dict[str, object]:
    question = _read(ruling)
    decision = rules.decide(question)
    return {
        "at": ruling.at_ms // 1000,
        "package": question.package,
        "rules": list(decision.rules),
        "errors": list(decision.errors),
        "statement": ruling.statement,
        "version": question.context.version,
        "was": "allow" if ruling.allowed else "deny",
        "would_be": "allow" if decision.allowed else "deny",
    }


def _say_compared(line: Mapping[str, Any]) -> None:
    why = "; ".join(line["errors"]) or ", ".join(line["rules"]) or "no rule permits it"
    other = line["was"] != line["would_be"]
    change = f"{line['was']} -> {line['would_be']}" if other else f"{line['was']}, as before"
    text = f"{line['package']} {line['version']}  {change}  ({why})  {str(line['statement'])[:16]}"
    say(safe(text), fg="yellow" if other else None)


def _say_explanation(said: Explanation) -> None:
    say(decision_text(said.decision), bold=True, fg="green" if said.decision.allowed else "red")
    for one in said.rules:
        word = "applies" if one.applies else "does not apply"
        say(safe(f"  {one.effect} {one.id}: {word}  ({one.where})"))
        if one.message:
            say(safe(f"      {one.message}"))
        for part in one.parts:
            say(safe(f"      {'yes' if part.holds else 'NO '}  {part.text}"))


def _rule_set(path: Path) -> RuleSet:
    from presspass.cli.rule_files import read_rules
    from presspass.rules.ruleset import RuleSet

    return RuleSet.of(read_rules(path))


def _comes_out(case: Case, decision: Decision) -> bool:
    return decision.allowed == case.allowed and case.rules in (None, decision.rules)


def decision_json(decision: Decision) -> dict[str, object]:
    """A decision for scripts."""
    return {
        "allowed": decision.allowed,
        "errors": list(decision.errors),
        "rules": list(decision.rules),
    }


def decision_text(decision: Decision) -> str:
    """A decision on one line."""
    word = "allow" if decision.allowed else "deny"
    why = "; ".join(decision.errors) or ", ".join(decision.rules) or "no rule permits it"
    return safe(f"{word} ({why})")


def _say_case(case: Case, decision: Decision) -> None:
    if _comes_out(case, decision):
        say(f"ok    {safe(case.name)}", fg="green")
        return
    say(f"FAIL  {safe(case.name)}  ({safe(case.at.file)}, line {case.at.line})", fg="red")
    wanted = "allow" if case.allowed else "deny"
    named = "" if case.rules is None else f" ({', '.join(case.rules)})"
    say(safe(f"      wanted {wanted}{named}"))
    say(f"      was    {decision_text(decision)}")
