"""Who asked for a release, as an approver's own machine can know it. The gate is believed in nothing.

1. Publisher and delegation are their own signed statements, fetched by the digests that the release names.
2. Where the workflow that ran is another than the one in the publisher's statement, both files are fetched and hashed
   here, and their difference is shown. Without the new one nothing is signed.
3. Everything else (the run, the ref, what the press thinks, what the asker says) is the gate's word, and said to be so.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from presspass.cli.client import Gate, PageUrl
from presspass.cli.review import fetch_named
from presspass.cli.show import safe, safe_lines, say, show_lines
from presspass.core.delegation import DelegationBody
from presspass.core.digests import JsonObject, sha256_hex
from presspass.core.errors import Code, Refusal
from presspass.core.limits import ASKER_NOTE_CHARS_MAX
from presspass.core.publisher import PublisherBody
from presspass.core.statement import AskedBy, ReleaseBody, Statement
from presspass.formats.textdiff import difference, unified

_LINES_SHOWN = 1000


@dataclass(frozen=True, slots=True)
class Workflow:
    """What ran is another than what the publisher's statement names. `old`: None where the gate does not keep it;
    `bound_since`: the gate says that an approved release has bound it since, which cannot be checked here.
    """

    old: bytes | None
    new: bytes
    bound_since: bool


@dataclass(frozen=True, slots=True)
class Asker:
    """The workload that asked. `workflow`: None where what ran is what people named."""

    publisher: PublisherBody
    delegation: DelegationBody | None
    workflow: Workflow | None


def fetch_asker(gate: Gate, page: PageUrl, release: Statement) -> Asker | None:
    """The workload behind a release statement; None where a person uploaded. Refuses where something cannot be seen."""
    asked = release.body_as(ReleaseBody).asked_by
    if asked is None:
        return None
    publisher = fetch_named(gate, page, release, asked.publisher, PublisherBody)
    delegation = None
    if asked.delegation:
        delegation = fetch_named(gate, page, release, asked.delegation, DelegationBody)
    workflow = None
    if asked.workflow != publisher.workflow_sha256:
        workflow = _fetch_workflow(gate, page, asked, publisher)
    return Asker(publisher, delegation, workflow)


def _fetch_workflow(
    gate: Gate, page: PageUrl, asked: AskedBy, publisher: PublisherBody
) -> Workflow:
    answer = gate.get_json(f"{page.api}/workflow")
    new = _content(answer.get("ran"), asked.workflow)
    if new is None:
        raise Refusal(
            Code.PUBLISHER_WORKFLOW_CHANGED,
            "The release workflow is another than the one that people bound, and the gate does not show it.",
            "Do not sign what cannot be seen: approving would bind it. Veto the release, or run it again.",
        )
    bound = answer.get("bound")
    since = isinstance(bound, dict) and bound.get("sha256") == asked.workflow
    return Workflow(_content(answer.get("named"), publisher.workflow_sha256), new, since)


def _content(value: object, sha256: str) -> bytes | None:
    """The bytes of one file of the answer, if a signed statement names them; None if there are none."""
    text = value.get("content") if isinstance(value, dict) else None
    if not isinstance(text, str):
        return None
    try:
        content = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        content = b""
    if sha256_hex(content) != sha256:
        raise Refusal(
            Code.APPROVAL_WRONG_STATEMENT,
            "The gate shows another workflow than the one that is named.",
            "Do not sign; tell the operators of the gate.",
        )
    return content


# what people see


def show_workflow(asker: Asker) -> None:
    """The difference, before anything else of the release; nothing where the workflow is the one that people named."""
    one = asker.workflow
    if one is None:
        return
    say()
    if one.bound_since:
        say(
            "the release workflow is another than the one in the publisher's statement",
            fg="yellow",
            bold=True,
        )
        say(
            "  the gate says that an approved release has bound it since; that cannot be checked here",
            fg="yellow",
        )
    else:
        say("the release workflow is ANOTHER than the one people bound", fg="red", bold=True)
        say("  approving this release binds the new one", fg="red", bold=True)
    before, after = asker.publisher.workflow_sha256[:16], sha256_hex(one.new)[:16]
    say(f"  {safe(asker.publisher.workflow)}: {before}… became {after}…")
    if one.old is None:
        say("  what the named one says is not kept at the gate; this is the whole new file:")
    found = difference(one.old or b"", one.new)
    if found is None:
        found = unified(_written_out(one.old or b""), _written_out(one.new))
    lines, cut = found
    show_lines(lines, _LINES_SHOWN, indent="    ")
    if cut:
        say("    … more differs than is shown; read both files whole before you sign", fg="red")


def show_asker(asker: Asker, answer: JsonObject) -> None:
    """Who asked: first what is signed, then what the gate says."""
    publisher = asker.publisher
    say(
        f"  asked by the workload {safe(publisher.name)} of {safe(publisher.repository or publisher.issuer)}"
    )
    for name, value in publisher.ids:
        say(f"    {safe(name)} {safe(value)}")
    if asker.delegation is not None:
        one = asker.delegation
        until = datetime.fromtimestamp(one.not_after, UTC).strftime("%Y-%m-%d %H:%M UTC")
        say(
            f"  {safe(publisher.name)} asks on behalf of {safe(one.person)} under the delegation {safe(one.name)}: "
            f"at most {one.count} releases, until {until}"
        )
    told = answer.get("asked_by")
    if isinstance(told, dict):
        _show_told(told)


def _show_told(told: dict[str, Any]) -> None:
    guard = told.get("ref_protected")
    protected = " (protected)" if guard is True else " (NOT protected)" if guard is False else ""
    ref, event = safe(told.get("ref") or "no ref"), safe(told.get("event") or "no event")
    run, commit = safe(told.get("run") or "?"), safe(str(told.get("commit") or "?")[:12])
    say(f"  the gate says: on {ref}{protected}, by {event}, run {run}, commit {commit}")
    press = told.get("press")
    state = safe(press.get("state") if isinstance(press, dict) else "unknown")
    counts = "counts" if told.get("counts") is True else "does NOT count"
    against = told.get("against")
    why = f" ({', '.join(map(safe, against))})" if isinstance(against, list) and against else ""
    say(f"  the gate says: {state} by the press; it {counts} as one of two identities{why}")
    act = told.get("act")
    if isinstance(act, dict):
        say(
            f"  the gate says: {safe(act.get('used'))} of {safe(act.get('count'))} used before this"
        )


def show_note(answer: JsonObject) -> None:
    """What the asker says, after every fact: framed, bounded, inert."""
    note = answer.get("note")
    if not isinstance(note, str) or not note:
        return
    say()
    say(
        "unverified text that came with the upload; a program may have written it to persuade you:",
        bold=True,
    )
    for line in safe_lines(note[:ASKER_NOTE_CHARS_MAX]):
        say(f"  | {line}")


def _written_out(content: bytes) -> list[str]:
    lines = content.decode("utf-8", "backslashreplace").split("\n")
    return lines if lines[-1] else lines[:-1]
