"""Whether a rule document still lets something out. One that permits nothing to anybody locks the gate.

The rules are asked about releases as favourable as can be: every approver that there is has signed, nothing was found,
a verified workload has bound the files. Of each attribute that a rule mentions, the values around those that the rules
compare with are tried as well, for every package with rules or a tier of its own and for one without. One Allow is
enough.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice, product
from typing import Any, Final

from presspass.core.delegation import VERSION_KINDS
from presspass.core.errors import Code, Refusal
from presspass.core.limits import RULE_TRIALS_MAX
from presspass.core.policy import Policy
from presspass.core.roster import Roster
from presspass.rules.question import EXCHANGE, PUBLISH, STAGE, Context, Findings, Question
from presspass.rules.ruleset import RuleSet
from presspass.rules.texts import Rule

#: Stands for every package without rules and tier of its own; no package is called so.
_ANY_PACKAGE: Final = "any-other-package"
_BATCH: Final = 500
_LONGS: Final = ("files", "hours_since_last_release", "releases_last_hour")


def check_not_locked(rules: RuleSet, approvers: int, groups: Sequence[str]) -> None:
    """Refuses with `policy.locks-out`. `approvers`: how many could sign a release; `groups`: those of the roster."""
    tiers = dict.fromkeys(rules.document.tiers.values())
    one_of_each = [next(p for p, t in rules.document.tiers.items() if t == tier) for tier in tiers]
    packages = dict.fromkeys([_ANY_PACKAGE, *one_of_each, *rules.document.packages])
    if not any(lets_out(rules, package, approvers, groups) for package in packages):
        raise Refusal(
            Code.POLICY_LOCKS_OUT,
            f"Under these rules nothing could be published: of no release, however favourable, with all "
            f"{approvers} approvers that there could be, do they say that it may go out.",
            "presspass policy explain --assume FILE --rules RULES takes each rule apart.",
        )


def approvers_of(roster: Roster, policy: Policy) -> int:
    """How many identities could sign a release at most."""
    keys = [key for key in roster.all_keys() if policy.counts(key)]
    people = {person.id for key in keys if (person := roster.owner(key.id)) is not None}
    return len(keys) if policy.profile == "solo" else len(people)


def groups_of(roster: Roster) -> tuple[str, ...]:
    """Every group that somebody is in."""
    return tuple(sorted({group for person in roster.people for group in person.groups}))


def lets_out(rules: RuleSet, package: str, approvers: int, groups: Sequence[str]) -> bool:
    """Whether some release of this package could go out: be asked for, staged and published."""
    seen = rules.seen_for(package)
    best = Context(
        approvals=approvers,
        approvals_needed=1,
        approver_groups=tuple(groups),
        requester_signed=True,
    )
    dimensions = _dimensions(seen, approvers, groups)

    def may(principal: tuple[str, str], action: str) -> bool:
        own = tuple(groups) if principal[0] == "Person" else ()
        question = Question(principal, own, package, context=best, action=action)
        trials = islice(_trials(best, dimensions), RULE_TRIALS_MAX)
        while some := list(islice(trials, _BATCH)):
            asked = [replace(question, context=context) for context in some]
            if any(one.allowed for one in rules.decide_all(asked)):
                return True
        return False

    who = _principals(seen)
    return any(may(one, PUBLISH) for one in who) and any(
        may(one, STAGE) and (one[0] != "Publisher" or may(one, EXCHANGE)) for one in who
    )


def _principals(seen: Sequence[Rule]) -> list[tuple[str, str]]:
    named = {
        (str(one["type"]), str(one["id"]))
        for rule in seen
        for one in _entities(rule.tree)
        if one.get("type") in ("Person", "Publisher")
    }
    return [
        ("Publisher", "some"),
        ("Person", "somebody"),
        ("Unproved", "requester"),
        *sorted(named),
    ]


def _trials(best: Context, dimensions: dict[str, list[Any]]) -> Iterator[Context]:
    names = list(dimensions)
    for values in product(*dimensions.values()):
        found = dict(zip(names, values, strict=True))
        counts = {name.removeprefix("findings."): found.pop(name) for name in names if "." in name}
        yield replace(best, findings=Findings(**counts), **found)


def _dimensions(
    seen: Sequence[Rule], approvers: int, groups: Sequence[str]
) -> dict[str, list[Any]]:
    """The values to try of each attribute that the rules mention, the most favourable first."""
    mentioned = {name for rule in seen for name in _attributes(rule.tree)}
    longs = sorted({near for rule in seen for value in _values(rule.tree, int)
                    for near in (value - 1, value, value + 1) if near >= 0})  # fmt: skip
    texts = sorted({value for rule in seen for value in _values(rule.tree, str)})
    known: dict[str, list[Any]] = {
        "version_kind": ["patch", *(one for one in VERSION_KINDS if one != "patch")],
        "weekday": [3, 1, 2, 4, 5, 6, 7],
        "hour_utc": [12, *(one for one in range(24) if one != 12)],
        "workload": [True, False],
        "digests_bound": [True, False],
        "workflow_unchanged": [True, False],
        "requester_resolved": [True, False],
        "requester_signed": [True, False],
        "approvals": [approvers, *range(min(approvers, 4))],
        "approver_groups": [tuple(groups), ()],
        "version": ["1.0.1", *texts],
        **{
            name: [{"files": 1, "hours_since_last_release": 24}.get(name, 0), *longs]
            for name in _LONGS
        },
    }
    known["hours_since_last_release"].append(None)
    found = {name: values for name, values in known.items() if name in mentioned}
    if "highest_finding" in mentioned or "findings" in mentioned:
        found |= {f"findings.{name}": [0, 1] for name in ("high", "medium", "low", "info")}
    return found


def _walk(tree: Any) -> Iterator[dict[str, Any]]:
    if isinstance(tree, dict):
        yield tree
        for one in tree.values():
            yield from _walk(one)
    elif isinstance(tree, list):
        for one in tree:
            yield from _walk(one)


def _attributes(tree: Any) -> Iterator[str]:
    return (str(one["attr"]) for one in _walk(tree) if "attr" in one)


def _values(tree: Any, kind: type) -> Iterator[Any]:
    return (one["Value"] for one in _walk(tree) if type(one.get("Value")) is kind)


def _entities(tree: Any) -> Iterator[dict[str, Any]]:
    return (one for one in _walk(tree) if "type" in one and "id" in one)
