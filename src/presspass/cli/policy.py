"""`policy`: rules in Cedar before and after they are in force: checked, tried, explained."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from presspass.cli.exits import DONE, REFUSED
from presspass.cli.options import example, format_option
from presspass.cli.show import emit_json, note, safe, say
from presspass.core.limits import PEOPLE_PER_ROSTER_MAX
from presspass.core.policy import PROFILES

if TYPE_CHECKING:
    from presspass.cli.rule_files import Case
    from presspass.rules.ruleset import Decision, RuleSet

_RULES = click.Path(path_type=Path, exists=True)


@click.group("policy", short_help="Rules in Cedar: check, test, explain them.")
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
    short_help="Print a profile's rules, or the schema.",
    epilog=example(
        "presspass policy show --profile team > policy/base.cedar", "presspass policy show --schema"
    ),
)
@click.option(
    "--profile", type=click.Choice(PROFILES), help="The rules that ship with this profile."
)
@click.option("--schema", is_flag=True, help="What a rule can ask about.")
def show_command(profile: str | None, schema: bool) -> None:
    """Print the rules that ship with a profile, to begin your own with, or the schema that every rule is checked with.

    Exit codes: 0 printed; 2 neither or both were asked for.
    """
    from presspass.rules.profiles import profile_rules
    from presspass.rules.ruleset import SCHEMA_TEXT

    if (profile is None) == (not schema):
        raise click.UsageError("Say --profile NAME or --schema.")
    click.echo(SCHEMA_TEXT if profile is None else profile_rules(profile).base, nl=False)


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
