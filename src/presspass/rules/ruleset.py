"""Rules that were parsed and validated, and the decision. Everything but a plain yes is a no.

1. A rule is evaluated only with the schema: the engine itself skips a `forbid` that it cannot evaluate.
2. Allowed is: the engine says Allow, and reports no error. Whatever else happens, also in the engine, is a refusal.
3. For a package are seen: the rules of `base`, and those that stand under its own name. The engine's time grows with
   the rules that it sees; so that of a decision does not grow with the number of packages.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import cedarpy

from presspass.core.errors import Code, Refusal
from presspass.core.limits import RULE_SLICES_KEPT
from presspass.rules.document import RuleDocument
from presspass.rules.question import Question
from presspass.rules.texts import Rule, plain, refuse, rules_of

SCHEMA_TEXT: Final = Path(__file__).with_name("presspass.cedarschema").read_text()
SCHEMA: Final = cedarpy.Schema.from_str(SCHEMA_TEXT)
BASE: Final = "base.cedar"


@dataclass(frozen=True, slots=True)
class Decision:
    """`rules`: ids of the rules that decided; none where no rule permits it. `errors`: what could not be evaluated."""

    allowed: bool
    rules: tuple[str, ...] = ()
    errors: tuple[str, ...] = ()

    def require(self, rules: RuleSet, question: Question) -> None:
        """Refuses with `policy.denied`, or `policy.error`, naming the rules and what they say of themselves."""
        if self.allowed:
            return
        if self.errors:
            text = "; ".join(self.errors)[:500]
            raise Refusal(Code.POLICY_ERROR, f"The rules cannot be evaluated: {text}", _EXPLAIN)
        if not self.rules:
            what = f"No rule permits to {question.action} {question.package}."
            raise Refusal(Code.POLICY_DENIED, what, _EXPLAIN)
        says = {one.id: one.message for one in rules.seen_for(question.package)}
        named = ", ".join(f"{id} ({says[id]})" if says.get(id) else id for id in self.rules)
        raise Refusal(Code.POLICY_DENIED, f"Forbidden by the rule {named}.", _EXPLAIN)


_EXPLAIN: Final = "presspass policy explain RELEASE says what is still missing."


@dataclass(frozen=True, slots=True)
class Slice:
    """The rules that are seen for one package: themselves, and parsed."""

    rules: tuple[Rule, ...]
    policies: cedarpy.PolicySet


@dataclass(frozen=True)
class RuleSet:
    """The rules of a document. `base` is validated at once, the rules of a package when they are first needed."""

    document: RuleDocument
    base: Slice
    _kept: OrderedDict[str, Slice] = field(default_factory=OrderedDict, repr=False)

    @classmethod
    def of(cls, document: RuleDocument) -> RuleSet:
        """Refuses with `policy.invalid` or `policy.forbids-narrowing` what is wrong in `base`."""
        rules = _validated(document.base, BASE)
        return cls(document, Slice(rules, _parsed(document.base, BASE)))

    def check(self) -> None:
        """Validates the rules of every package."""
        for package in self.document.packages:
            self._own(package)

    def seen_for(self, package: str) -> tuple[Rule, ...]:
        """The rules that are seen for this package."""
        return self._slice(package).rules

    def tier(self, package: str) -> str:
        """The label of a package, "" where it has none."""
        return self.document.tiers.get(package, "")

    def decide(self, question: Question) -> Decision:
        """Whether it may be done; never raises for what the rules or the engine do."""
        return self.decide_all([question])[0]

    def decide_all(self, questions: list[Question]) -> list[Decision]:
        """`decide` of several questions of one package and principal that differ in their context alone."""
        try:
            first = questions[0]
            answers = cedarpy.is_authorized_batch(
                [one.request() for one in questions],
                self._slice(first.package).policies,
                first.entities(self.tier(first.package)),
                SCHEMA,
            )
            return [self._read(one, first.package) for one in answers]
        except Refusal as refusal:
            return [Decision(False, errors=(refusal.message,))] * len(questions)
        except Exception as error:  # whatever the engine may do, it is no yes
            return [Decision(False, errors=(f"{type(error).__name__}: {error}",))] * len(questions)

    def _read(self, answer: cedarpy.AuthzResult, package: str) -> Decision:
        found = answer.diagnostics
        ids = found.id_annotations_by_reason
        named = tuple(sorted(str(ids.get(one, one)) for one in found.reasons))
        if found.errors:
            return Decision(False, errors=tuple(plain(str(one)) for one in found.errors))
        if answer.decision is cedarpy.Decision.NoDecision:
            return Decision(False, errors=("The engine comes to no decision.",))
        return Decision(answer.decision is cedarpy.Decision.Allow, named)

    def _own(self, package: str) -> tuple[Rule, ...]:
        """The rules that are a package's alone, validated."""
        own = _validated(self.document.packages[package], f"packages/{package}.cedar")
        _refuse_twice((*self.base.rules, *own))
        return own

    def _slice(self, package: str) -> Slice:
        if package not in self.document.packages:
            return self.base
        kept = self._kept.pop(package, None)
        if kept is None:
            seen = (*self.base.rules, *self._own(package))
            text = self.document.packages[package]
            kept = Slice(seen, self.base.policies.with_added_str(text))
        self._kept[package] = kept
        while len(self._kept) > RULE_SLICES_KEPT:
            self._kept.popitem(last=False)
        return kept


def _validated(text: str, source: str) -> tuple[Rule, ...]:
    rules = rules_of(text, source)
    _refuse_twice(rules)
    for rule in rules:
        result = cedarpy.validate_policies(rule.text, SCHEMA)
        if not result.validation_passed:
            what = "; ".join(plain(one.error) for one in result.errors)
            hint = "What a rule can ask about: presspass policy show --schema"
            refuse(
                rule.where, f"The rule {rule.id!r}: {what or 'it does not fit the schema'}.", hint
            )
    return rules


def _parsed(text: str, source: str) -> cedarpy.PolicySet:
    try:
        return cedarpy.PolicySet.from_str(text)
    except ValueError as error:
        refuse(source, plain(str(error)))


def _refuse_twice(rules: tuple[Rule, ...]) -> None:
    seen: dict[str, Rule] = {}
    for rule in rules:
        if rule.id in seen:
            refuse(rule.where, f"Another rule is called {rule.id!r}: {seen[rule.id].where}.")
        seen[rule.id] = rule
