"""The workload that asked, in words: what it is, whether the press believes it, whether it counts, and what changed in
its workflow.

Pure. The contents of workflows are hostile: they become lines of a difference, escaped where they are shown.
"""

from __future__ import annotations

from dataclasses import dataclass

from presspass.core.lifecycle import SETTLED, State
from presspass.formats.textdiff import difference, unified
from presspass.gateway.console.models import (
    ActFacts,
    AskerFacts,
    ReleaseFacts,
    Situation,
    WorkflowFacts,
)
from presspass.gateway.console.review import DiffLine, numbered
from presspass.gateway.console.text import listed, plural, when

_AGAINST = {
    "unseen": "the press has not verified its token yet",
    "refused": "the press refuses its token",
    "limited": "its publisher is limited: a run that was not allowed had another workflow",
    "publisher": "its publisher was bound anew since it asked",
    "statement": "the request names another workflow than its token proves",
    "workflow": "its workflow is another than the one people bound",
    "person": "the press knows another person behind the run than the request names",
}
_SIGNS = (("+", "came"), ("-", "went"))
_STOPPED = {
    "publisher": "Its publisher is revoked",
    "limited": "Its publisher is limited",
    "workload": "The workload is revoked",
    "run": "This run is revoked",
    "person": "The person behind it is revoked",
    "delegation": "The delegation is revoked",
}


@dataclass(frozen=True, slots=True)
class WorkflowView:
    """The difference of two workflows. `lines` is None when what ran is not kept here: then nobody can look at it.

    `before`: whether the old content is known; without it every line counts as added. `cut`: not all of it is shown.
    """

    facts: WorkflowFacts
    headline: str
    words: str
    lines: tuple[DiffLine, ...] | None
    before: bool
    cut: bool


@dataclass(frozen=True, slots=True)
class AskerView:
    """Who asked. `press` and `counts` are whole sentences, each with whether all is well (`sound`); `speaker`: whose
    words came with the files.
    """

    facts: AskerFacts
    name: str
    speaker: str
    person: str
    press: str
    press_sound: bool
    counts: str
    counts_sound: bool
    chain: str
    stopped: tuple[str, ...]
    workflow: WorkflowView | None


def view(release: ReleaseFacts, situation: Situation) -> AskerView | None:
    """None where a person uploaded the files."""
    facts = release.asker
    if facts is None:
        return None
    counts, sound = _counts(release, facts)
    return AskerView(
        facts=facts,
        name=_name(facts, situation),
        speaker=f"the {'bot' if facts.act else 'workload'} {facts.publisher}",
        person=_person(release, facts, situation),
        press=_press(facts),
        press_sound=facts.press == "verified",
        counts=counts,
        counts_sound=sound,
        chain=_chain(facts.act, situation) if facts.act else "",
        stopped=tuple(
            f"{_STOPPED.get(what, what)}: {reason or 'no reason given'}."
            for what, reason in facts.stopped
        ),
        workflow=_workflow(facts, release.state),
    )


def _name(facts: AskerFacts, situation: Situation) -> str:
    if facts.act is not None:
        return f"the bot {facts.act.bot} on behalf of {situation.name(facts.act.person)}"
    return f"the workload {facts.publisher}"


def _person(release: ReleaseFacts, facts: AskerFacts, situation: Situation) -> str:
    if facts.act is not None:
        return f"{situation.name(facts.act.person)}, who therefore approves none of its releases."
    if release.requester:
        return f"{situation.name(release.requester)}, who therefore does not approve."
    known = f"{facts.actor} is not in the roster" if facts.actor else "The token names nobody"
    return f"{known}: one approver more."


def _press(facts: AskerFacts) -> str:
    if facts.press == "verified":
        return "Verified by the press itself, with the issuer's keys that it fetched."
    if facts.press == "refused":
        return f"Refused by the press: {facts.message} [{facts.code}]"
    return "Waiting: the press has not verified the token yet. Until it has, this is the gateway's word alone."


def _counts(release: ReleaseFacts, facts: AskerFacts) -> tuple[str, bool]:
    if facts.against is None:
        return "Said once the request is written.", True
    if not facts.against:
        return "Counts as one of the two identities that every release needs.", True
    why = listed([_AGAINST.get(one, one) for one in facts.against])
    more = "" if release.state in SETTLED else " People must make up for it."
    return f"Does not count as one of the two identities: {why}.{more}", False


def _chain(act: ActFacts, situation: Situation) -> str:
    kinds = f" for {listed(list(act.version_kinds), 'or')} versions" if act.version_kinds else ""
    return (
        f"{act.bot} asks on behalf of {situation.name(act.person)} under the delegation {act.delegation}{kinds}: "
        f"{act.used} of {act.count} used before this, until {when(act.not_after_ms)}."
    )


# --- the workflow -------------------------------------------------------------------------------------------------


def _workflow(facts: AskerFacts, state: State) -> WorkflowView | None:
    """Shown where what ran is another than what people had bound."""
    one = facts.workflow
    if one is None or not one.changed:
        return None
    old, new = one.contents.get(one.bound), one.contents.get(one.ran)
    lines, cut = (None, False) if new is None else _difference(old or b"", new)
    return WorkflowView(
        facts=one,
        headline=_headline(one, state),
        words=_words(lines, known=old is not None),
        lines=lines,
        before=old is not None,
        cut=cut,
    )


def _headline(one: WorkflowFacts, state: State) -> str:
    if one.rebound:
        return "The release workflow was another than the one bound; approving this release bound the new one"
    said = "The release workflow is another than the one people bound"
    if state in SETTLED:
        return f"{said}; nothing was bound by this release"
    return f"{said}; approving this release binds the new one"


def _words(lines: tuple[DiffLine, ...] | None, *, known: bool) -> str:
    if lines is None:
        return "What ran is not kept here and cannot be shown. Nobody should approve what cannot be seen: veto it."
    if not known:
        return (
            "What the bound workflow says is not kept here, so the whole file that ran is shown. Compare it with what "
            "you remember, or with the repository's history."
        )
    counts = {word: sum(one.sign == sign for one in lines) for sign, word in _SIGNS}
    moved = " and ".join(f"{plural(n, 'line')} {word}" for word, n in counts.items() if n)
    return (
        f"{moved or 'No line differs'}. Whoever wrote them decides what is built: "
        "read them as you would read a change of the release itself."
    )


def _difference(old: bytes, new: bytes) -> tuple[tuple[DiffLine, ...], bool]:
    """Always something to look at: what is no text is shown with every odd byte written out."""
    found = difference(old, new)
    if found is None:
        found = unified(_written_out(old), _written_out(new))
    lines, cut = found
    return numbered(lines), cut


def _written_out(content: bytes) -> list[str]:
    lines = content.decode("utf-8", "backslashreplace").split("\n")
    return lines if lines[-1] else lines[:-1]
