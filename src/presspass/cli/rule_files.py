"""A folder of rules as people keep it, read into the document that a policy names.

base.cedar            rules for every package (a lone .cedar file is the same as a folder with nothing else)
packages/NAME.cedar   rules that are seen for this package alone
tiers.yaml            TIER: [NAME, …], the labels of packages
tests.yaml            cases for `presspass policy test`; no part of the document
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from packaging.utils import canonicalize_name

from presspass.cli.yaml_file import Value, one_of, parse
from presspass.core.errors import Code, Refusal
from presspass.core.limits import RULES_BYTES_MAX
from presspass.rules.document import RuleDocument
from presspass.rules.question import PRINCIPALS, Question

CASES: Final = "tests.yaml"
_CASE: Final = (
    "action",
    "context",
    "expect",
    "groups",
    "mode",
    "name",
    "package",
    "principal",
    "registry",
    "rules",
)
#: Attributes whose value is a text, whatever it looks like.
_TEXTS: Final = (
    "action",
    "highest_finding",
    "mode",
    "package",
    "registry",
    "version",
    "version_kind",
)


@dataclass(frozen=True, slots=True)
class Case:
    """One case of a team's own. `rules`: ids of those that must decide, None where it says nothing of them."""

    at: Value
    name: str
    question: Question
    allowed: bool
    rules: tuple[str, ...] | None


def read_rules(path: Path) -> RuleDocument:
    """The document of a folder, or of one file for all packages; refuses with `policy.invalid` or a line of YAML."""
    if not path.is_dir():
        return RuleDocument(_read(path))
    packages = {
        _normal(file.stem, file): _read(file)
        for file in sorted((path / "packages").glob("*.cedar"))
    }
    tiers = path / "tiers.yaml"
    return RuleDocument(
        _read(path / "base.cedar"), packages, _tiers(tiers) if tiers.is_file() else {}
    )


def _read(file: Path) -> str:
    try:
        with file.open("rb") as opened:
            data = opened.read(RULES_BYTES_MAX + 1)
        if len(data) <= RULES_BYTES_MAX:
            return data.decode("utf-8")
        why = f"has more than {RULES_BYTES_MAX} bytes"
    except FileNotFoundError:
        why = "is not there"
    except UnicodeDecodeError:
        why = "is not UTF-8 text"
    except OSError as error:
        why = f"cannot be read: {error.strerror}"
    hint = "A folder of rules has base.cedar; begin with: presspass policy show --profile team"
    raise Refusal(Code.POLICY_INVALID, f"{file.name} {why}.", hint)


def _normal(name: str, file: Path) -> str:
    normal = canonicalize_name(name)
    if normal != name:
        what = f"{file.name} is not named as the package is: {normal}.cedar."
        raise Refusal(Code.POLICY_INVALID, what, "Rename it; names are compared in normal form.")
    return normal


def _tiers(file: Path) -> dict[str, str]:
    found: dict[str, str] = {}
    for tier, names in parse(_read(file), file.name).block(file.name).left.items():
        for one in names.items(f"The tier {tier!r}"):
            package = canonicalize_name(one.text("A package"))
            if package in found:
                one.refuse(f"{package} has the tier {found[package]!r} already.")
            found[package] = tier
    return found


def read_cases(file: Path) -> list[Case]:
    """The cases of a file; refuses with its line."""
    return [_case(one) for one in parse(_read(file), file.name).items(f"The file {file.name}")]


def read_question(file: Path) -> Question:
    """An assumed release: a block of what differs from an ordinary one."""
    value = parse(_read(file), file.name)
    return _question(value, value.block(f"The file {file.name}").left)


def _case(value: Value) -> Case:
    block = value.block("A case")
    name = block.need("name").text("A name")
    allowed = one_of(block.need("expect"), "decision", ("allow", "deny")) == "allow"
    ids = block.read(
        "rules", lambda one: tuple(each.text("A rule") for each in one.items("rules")), None
    )
    question = _question(value, block.left)
    return Case(value, name, question, allowed, None if ids is None else tuple(sorted(ids)))


def _question(at: Value, members: Mapping[str, Value]) -> Question:
    for name, one in members.items():
        if name not in _CASE:
            one.refuse(f"A case has no {name!r}.", f"There is: {', '.join(_CASE)}.")
    plain = {name: _plain(name, one) for name, one in members.items()}
    who = plain.get("principal")
    if isinstance(who, str):  # Person::"ada", as in the rules
        kind, _, id = who.partition("::")
        if kind not in PRINCIPALS or len(id) < 2 or (id[0], id[-1]) != ('"', '"'):
            members["principal"].refuse(
                f'The principal is written as Person::"ada", not {who!r:.80}.'
            )
        plain["principal"] = [kind, id[1:-1]]
    try:
        return Question.from_json(plain)
    except Refusal as refusal:
        at.refuse(refusal.message, refusal.hint)


def _plain(name: str, value: Value) -> Any:
    """What a YAML value stands for: the schema says which attributes are texts."""
    if isinstance(value.content, dict):
        return {key: _plain(key, one) for key, one in value.content.items()}
    if isinstance(value.content, list):
        return [one.text(name) for one in value.content]
    text = value.content
    if name in _TEXTS or name == "principal":
        return text
    if text in ("true", "false", "null"):
        return {"true": True, "false": False, "null": None}[text]
    return int(text) if text.removeprefix("-").isdecimal() and len(text) < 20 else text
