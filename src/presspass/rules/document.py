"""The rule document: what the signed policy names by its digest, and what travels as bytes beside it.

1. It is canonical JSON (RFC 8785): `format`, `base` (rules for every package), `packages` (rules that are seen for one
   package alone, by its normalised name), `tiers` (the label of a package, by its normalised name).
2. Its digest is the SHA-256 of those bytes, so two documents with one digest say the same.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final

from presspass.core.digests import JsonObject, canonical, parse_canonical, sha256_hex
from presspass.core.errors import Code, Refusal
from presspass.core.limits import RULE_PACKAGES_MAX, RULES_BYTES_MAX
from presspass.core.strict import Members

FORMAT: Final = "presspass/rules/v1"
_PACKAGE = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
_TIER = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


@dataclass(frozen=True)
class RuleDocument:
    """Texts in Cedar. `packages`, `tiers`: by normalised name of the package."""

    base: str
    packages: Mapping[str, str] = field(default_factory=dict)
    tiers: Mapping[str, str] = field(default_factory=dict)

    def to_bytes(self) -> bytes:
        value: JsonObject = {
            "base": self.base,
            "format": FORMAT,
            "packages": dict(self.packages),
            "tiers": dict(self.tiers),
        }
        data = canonical(value)
        if len(data) > RULES_BYTES_MAX:
            raise Refusal(
                Code.POLICY_INVALID,
                f"The rules have {len(data)} bytes; the limit is {RULES_BYTES_MAX}.",
                "Say in `base` what packages have in common, and tell them apart by tiers.",
            )
        return data

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the canonical bytes: what the member `rules` of a policy names."""
        return sha256_hex(self.to_bytes())

    @classmethod
    def from_bytes(cls, data: bytes) -> RuleDocument:
        """Reads exactly what `to_bytes` writes; refuses with `policy.invalid`."""
        try:
            value = parse_canonical(data, bytes_max=RULES_BYTES_MAX, what="rule document")
            members = Members(value, "rule document")
            members.choice("format", (FORMAT,))
            found = cls(
                _text(members, "base"),
                _by_package(members, "packages"),
                _by_package(members, "tiers"),
            )
            members.done()
        except Refusal as refusal:
            raise Refusal(Code.POLICY_INVALID, refusal.message, refusal.hint) from None
        for tier in found.tiers.values():
            if not _TIER.fullmatch(tier):
                raise Refusal(Code.POLICY_INVALID, f"{tier!r:.80} is no name of a tier.")
        return found


def _text(members: Members, name: str) -> str:
    value = members.take(name)
    if not isinstance(value, str):
        members.refuse(f"has no text in {name!r}")
    return value


def _by_package(members: Members, name: str) -> dict[str, str]:
    value = members.take(name)
    if not isinstance(value, dict) or len(value) > RULE_PACKAGES_MAX:
        members.refuse(f"has no map of at most {RULE_PACKAGES_MAX} packages in {name!r}")
    for package, text in value.items():
        if not _PACKAGE.fullmatch(package) or not isinstance(text, str):
            members.refuse(f"has {package!r:.80} in {name!r}, which is no normalised name")
    return value
