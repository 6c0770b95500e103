"""A rule file cut into its rules, each with the line that it begins at: the engine's messages name no line."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, NoReturn

import cedarpy

from presspass.core.digests import JsonObject
from presspass.core.errors import Code, Refusal

#: What narrows takes one person; no rule is asked (law 8), so none may speak of it.
NARROWING_ACTIONS: Final = ("deny", "freeze", "revoke", "suspend", "veto", "withdraw", "yank")
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|//[^\n]*|;', re.DOTALL)
_SPACE = re.compile(r"(?:\s|//[^\n]*(?:\n|$))*")
_PREFIX = re.compile(r"^(?:\[policy\d+\] )?(?:for policy `policy\d+`, )?")


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule. `where`: the file and line that it begins at, as people are told; `tree`: as the engine's own JSON."""

    id: str
    effect: str
    text: str
    where: str
    tree: JsonObject

    @property
    def message(self) -> str:
        """What the rule says of itself by `@message`, "" where it says nothing."""
        return str(self.tree["annotations"].get("message") or "")


def rules_of(text: str, source: str) -> tuple[Rule, ...]:
    """Every rule of a text; refuses with `policy.invalid` or `policy.forbids-narrowing`, naming `source` and line."""
    return tuple(_rule(piece, f"{source}, line {line}") for line, piece in _pieces(text))


def refuse(where: str, what: str, hint: str = "", code: Code = Code.POLICY_INVALID) -> NoReturn:
    """A refusal that names the place."""
    raise Refusal(code, f"{where}: {what}", hint)


def plain(message: str) -> str:
    """A message of the engine without the numbers that it gives to policies by itself."""
    return _PREFIX.sub("", message).strip()


def _pieces(text: str) -> Iterator[tuple[int, str]]:
    """(line, text) of each rule, in order: up to its semicolon, which stands in no string and no comment."""
    start = 0
    for token in _TOKEN.finditer(text):
        if token[0] == ";":
            yield _piece(text, start, token.end())
            start = token.end()
    rest = _SPACE.match(text, start)
    if rest is None or rest.end() < len(text):
        yield _piece(text, start, len(text))


def _piece(text: str, start: int, end: int) -> tuple[int, str]:
    space = _SPACE.match(text, start, end)
    begin = space.end() if space else start
    return text.count("\n", 0, begin) + 1, text[begin:end]


def _rule(piece: str, where: str) -> Rule:
    try:
        tree = json.loads(cedarpy.policies_to_json_str(piece))
    except ValueError as error:
        refuse(where, plain(str(error)))
    if tree.get("templates") or len(tree["staticPolicies"]) != 1:
        refuse(where, "This is a template, which decides nothing.", "Write the rule without slots.")
    (only,) = tree["staticPolicies"].values()
    id = only.get("annotations", {}).get("id") or ""
    if not _ID.fullmatch(id):
        hint = 'Begin it with @id("its-name"): refusals and explanations name it by that.'
        refuse(where, "The rule has no id.", hint)
    found = {**only, "annotations": only.get("annotations", {})}
    for action in _actions(found):
        if action in NARROWING_ACTIONS:
            refuse(
                where,
                f'The rule {id!r} speaks of Action::"{action}". '
                "What narrows takes one person, and no rule may forbid it.",
                "Take it out; rules decide who may publish, never who may stop.",
                Code.POLICY_FORBIDS_NARROWING,
            )
    return Rule(id, str(only["effect"]), piece, where, found)


def _actions(tree: object) -> Iterator[str]:
    """Every action that is named anywhere in a rule."""
    if isinstance(tree, dict):
        if tree.get("type") == "Action" and isinstance(tree.get("id"), str):
            yield tree["id"]
        for one in tree.values():
            yield from _actions(one)
    elif isinstance(tree, list):
        for one in tree:
            yield from _actions(one)
