"""Rules, measured: a decision where ten thousand packages have rules of their own, beside the engine that is given all
of them at once, as it comes.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Final

import cedarpy

from presspass.rules.document import RuleDocument
from presspass.rules.profiles import profile_rules
from presspass.rules.question import Question
from presspass.rules.ruleset import SCHEMA, RuleSet

_OWN: Final = """\
@id("own")
forbid (principal, action == Action::"publish", resource == Package::"{name}")
when {{ context.findings.high > 0 }}
unless {{ context.approvals >= 2 }};
"""
_STEP: Final = (
    7919  # a prime: packages come in an order in which none is at hand from the time before
)


def document(count: int) -> RuleDocument:
    """The rules of the profile for many packages, and `count` packages with a rule of their own."""
    names = [f"package-{number:05}" for number in range(count)]
    base = profile_rules("many-packages").base
    return RuleDocument(
        base, {name: _OWN.format(name=name) for name in names}, dict.fromkeys(names, "routine")
    )


def decisions_ms(rules: RuleSet, decisions: int) -> float:
    """The 99th percentile of a decision's CPU time (ms), each about another package than the one before: its own rules
    are parsed and validated anew.
    """
    names = list(rules.document.packages)

    def decide(number: int) -> bool:
        return rules.decide(Question(package=names[number * _STEP % len(names)])).allowed

    return _p99_ms(decide, decisions)


def engine_ms(rules: RuleSet, decisions: int) -> float:
    """The same of the engine with every rule in one set, parsed before."""
    names = list(rules.document.packages)
    texts = [
        text.replace('"own"', f'"own-{name}"') for name, text in rules.document.packages.items()
    ]
    policies = cedarpy.PolicySet.from_str("\n".join([rules.document.base, *texts]))

    def decide(number: int) -> bool:
        asked = Question(package=names[number * _STEP % len(names)])
        answer = cedarpy.is_authorized(asked.request(), policies, asked.entities("routine"), SCHEMA)
        return answer.allowed

    return _p99_ms(decide, decisions)


def _p99_ms(decide: Callable[[int], bool], decisions: int) -> float:
    taken = []
    for number in range(decisions):
        begun = time.thread_time()
        allowed = decide(number)
        taken.append((time.thread_time() - begun) * 1000)
        if not allowed:
            raise RuntimeError("the bench asks for what the rules allow")
    return statistics.quantiles(taken, n=100)[98]
