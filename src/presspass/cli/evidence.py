"""Evidence bundles that `verify` was given: checked offline, and told."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from presspass.cli.acts import acts_text, show_act
from presspass.cli.exits import CannotSayError
from presspass.cli.show import emit_json, safe, say
from presspass.cli.times import when

if TYPE_CHECKING:
    from presspass.core.history import Question
    from presspass.verify.evidence import Found


def verify_evidence(
    data: bytes, trust_root: str, witnesses: tuple[str, ...], *, as_json: bool
) -> None:
    """Checks a bundle and says what it shows; refuses what does not verify."""
    from presspass.core.ledger.note import VerifierKey
    from presspass.verify.evidence import Evidence, check_evidence

    keys = [VerifierKey.from_text(one) for one in witnesses]
    found = check_evidence(Evidence.from_bytes(data), trust_root=trust_root, witnesses=keys)
    missing = [key.name for key in keys if key.name not in dict(found.witnesses)]
    if missing:
        raise CannotSayError(
            f"The evidence's checkpoint has no cosignature of {safe(missing[0])}.",
            "Have it made again once the witness has signed.",
        )
    _tell_json(found) if as_json else _tell(found)


def _tell_json(found: Found) -> None:
    emit_json(
        {
            "acts": list(found.acts),
            "complete": "by the press's word",
            "genesis": found.genesis,
            "log": {"origin": found.checkpoint.origin, "size": found.checkpoint.size},
            "made_at": found.made_at,
            "question": found.question.to_json(),
            "valid": True,
            "witnesses": [{"name": name, "at": at} for name, at in found.witnesses],
        }
    )


def _tell(found: Found) -> None:
    outcomes = Counter(str(act["outcome"]) for act in found.acts)
    ended = ", ".join(f"{count} {outcome}" for outcome, count in sorted(outcomes.items()))
    say(f"VALID  evidence of {acts_text(len(found.acts))}, made {when(found.made_at)}")
    for line in _asked(found.question):
        say(f"  asked for    {line}")
    say(f"  acts         {ended or 'none'}")
    say(f"  log          {safe(found.checkpoint.origin)}, {found.checkpoint.size} entries")
    for name, at in found.witnesses:
        say(f"  witness      {safe(name)}, who saw that log at {when(at)}")
    if not found.witnesses:
        say("  witness      none was named: the log may have been shown to others differently")
    say(f"  installation {safe(found.origin)} (genesis {found.genesis[:16]}…)")
    for act in found.acts:
        show_act(act, {})
    say("Each act is proved: its signatures, the rules that it was under, its place in the log.")
    say("That none is missing is not proved: it is what the installation says by its signature.")


def _asked(question: Question) -> list[str]:
    parts = [
        f"{facet} {' or '.join(safe(one) for one in values) or '(nothing has it)'}"
        for facet, values in question.parts.items()
        if facet != "space"
    ]
    times = (("since", question.since), ("until", question.until))
    return [*parts, *(f"{word} {when(at)}" for word, at in times if at is not None)] or [
        "everything"
    ]
