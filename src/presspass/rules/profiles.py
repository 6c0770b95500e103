"""The rules that ship with each profile: a beginning for a rule file of one's own."""

from __future__ import annotations

from pathlib import Path

from presspass.rules.document import RuleDocument

_FOLDER = Path(__file__).with_name("profiles")


def profile_rules(profile: str) -> RuleDocument:
    """The document of a profile (of `core.policy.PROFILES`)."""
    return RuleDocument((_FOLDER / f"{profile}.cedar").read_text())
