"""Why the rules answer as they do: each rule taken apart, each part evaluated alone.

A part is the scope of the rule, or one of what its conditions join by `&&`. A part that cannot be evaluated alone (it
asks for an attribute that is absent) does not hold.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import cedarpy

from presspass.core.digests import JsonObject
from presspass.rules.question import Question
from presspass.rules.ruleset import SCHEMA, Decision, RuleSet
from presspass.rules.texts import Rule

_ANYTHING: Final = {"op": "All"}
_PATH = re.compile(r"(?<!\w)\(([\w.]+)\)")
_WHOLE_SCOPE = re.compile(
    r"permit ?\((?P<principal>principal.*), (?P<action>action.*), (?P<resource>resource.*?)\)"
)
_SCOPE: Final = ("principal", "action", "resource")


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a rule as text, and whether it holds."""

    text: str
    holds: bool


@dataclass(frozen=True, slots=True)
class RuleSays:
    """One rule: whether all of it holds, and its parts. A permit that does not hold lacks what does not hold in it."""

    id: str
    effect: str
    message: str
    where: str
    parts: tuple[Part, ...]

    @property
    def applies(self) -> bool:
        return all(part.holds for part in self.parts)

    @property
    def missing(self) -> tuple[str, ...]:
        """What does not hold."""
        return tuple(part.text for part in self.parts if not part.holds)

    def to_json(self) -> JsonObject:
        return {
            "applies": self.applies,
            "effect": self.effect,
            "id": self.id,
            "message": self.message,
            "parts": [{"holds": part.holds, "text": part.text} for part in self.parts],
            "where": self.where,
        }


@dataclass(frozen=True, slots=True)
class Explanation:
    """The decision, and what each rule that is seen for the package says."""

    decision: Decision
    tier: str
    rules: tuple[RuleSays, ...]

    def to_json(self) -> JsonObject:
        return {
            "allowed": self.decision.allowed,
            "decided_by": list(self.decision.rules),
            "errors": list(self.decision.errors),
            "rules": [one.to_json() for one in self.rules],
            "tier": self.tier,
        }


def explain(rules: RuleSet, question: Question) -> Explanation:
    """Refuses with `policy.invalid` where the rules of the package are no rules."""
    tier = rules.tier(question.package)
    seen = rules.seen_for(question.package)
    return Explanation(
        rules.decide(question), tier, tuple(_says(one, question, tier) for one in seen)
    )


def _says(rule: Rule, question: Question, tier: str) -> RuleSays:
    parts = tuple(Part(text, _holds(tree, question, tier)) for text, tree in _parts(rule.tree))
    return RuleSays(rule.id, rule.effect, rule.message, rule.where, parts)


def _parts(tree: JsonObject) -> Iterator[tuple[str, JsonObject]]:
    """(text, a permit of this part alone) for each part of a rule."""
    for name in _SCOPE:
        if tree[name]["op"] != "All":
            alone = _alone(**{name: tree[name]})
            yield _scope_text(alone, name), alone
    for condition in tree["conditions"]:
        if condition["kind"] == "when":
            for body in _conjuncts(condition["body"]):
                alone = _alone(conditions=[{"kind": "when", "body": body}])
                yield _condition_text(alone), alone
        else:
            alone = _alone(conditions=[condition])
            yield _condition_text(alone), alone


def _conjuncts(body: Any) -> Iterator[Any]:
    if isinstance(body, dict) and set(body) == {"&&"}:
        yield from _conjuncts(body["&&"]["left"])
        yield from _conjuncts(body["&&"]["right"])
    else:
        yield body


def _alone(**members: Any) -> JsonObject:
    return {
        "effect": "permit",
        "principal": _ANYTHING,
        "action": _ANYTHING,
        "resource": _ANYTHING,
        "conditions": [],
        **members,
    }


def _document(tree: JsonObject) -> str:
    return json.dumps({"templates": {}, "staticPolicies": {"part": tree}, "templateLinks": []})


def _holds(tree: JsonObject, question: Question, tier: str) -> bool:
    answer = cedarpy.is_authorized(
        question.request(),
        cedarpy.PolicySet.from_json_str(_document(tree)),
        question.entities(tier),
        SCHEMA,
    )
    return answer.allowed and not answer.diagnostics.errors


def _text(tree: JsonObject) -> str:
    return " ".join(cedarpy.policies_from_json_str(_document(tree)).split())


def _scope_text(tree: JsonObject, name: str) -> str:
    found = _WHOLE_SCOPE.match(_text(tree))
    return found[name] if found else name


def _condition_text(tree: JsonObject) -> str:
    text = _text(tree)
    keyword = "unless" if tree["conditions"][0]["kind"] == "unless" else "when"
    body = text[text.index("{") + 1 : text.rindex("}")].strip()
    body = _PATH.sub(r"\1", _PATH.sub(r"\1", body))
    return body if keyword == "when" else f"not ({body})"
