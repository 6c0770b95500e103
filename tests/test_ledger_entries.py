"""Entries of the ledger: small whatever comes in, each of a kind that is documented."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from presspass.core.digests import canonical
from presspass.core.errors import Code, Refusal
from presspass.core.ledger.tiles import ENTRY_BYTES_MAX
from presspass.core.limits import (
    APPROVALS_PER_STATEMENT_MAX,
    FILE_BYTES_MAX,
    FILENAME_CHARS_MAX,
    FILES_PER_RELEASE_MAX,
    NAME_CHARS_MAX,
)
from presspass.core.statement import ReleaseFile
from presspass.formats.filenames import parse_filename
from presspass.press.doors import _event
from presspass.press.dropbox import read_dropped
from presspass.verify.entries import KINDS, read_entry

DOCS = Path(__file__).parent.parent / "docs"
FILE = ReleaseFile("demo-1.0.tar.gz", "0" * 64, 1).to_json()
#: A value that each member may have.
VALUES: dict[str, Any] = {
    **dict.fromkeys(
        ("statement", "token", "review", "roster", "policy", "publisher_statement"), "0" * 64
    ),
    **dict.fromkeys(("what", "by", "key", "code", "id", "target", "source", "door", "why"), "x"),
    **dict.fromkeys(("state", "delegation", "run", "workflow", "person"), "x"),
    **dict.fromkeys(("claimed_at", "verified_at", "count"), 1),
    **{
        "files": [FILE],
        "mode": "prevented",
        "zones": "separated",
        "about": "0" * 16,
        "workload": True,
        "risk": "low",
        "waited_s": 60,
        "standing": "0" * 64,
        "chosen": True,
        "chance": "0" * 128,
    },
}
TEXT = st.text(max_size=2 * NAME_CHARS_MAX) | st.just("\U0010ffff" * NAME_CHARS_MAX)


def whole(entry: dict[str, Any]) -> bytes:
    """As `press.journal.log_entry` completes it."""
    data = canonical({"space": "s" * NAME_CHARS_MAX, "at": 2**53 - 1, **entry})
    assert len(data) <= ENTRY_BYTES_MAX
    assert read_entry(data, "s" * NAME_CHARS_MAX).known
    return data


@given(st.sampled_from(["freeze", "veto", "revoke"]), TEXT, TEXT, st.text(max_size=1000))
def test_no_stop_in_the_drop_box_makes_an_entry_too_long(
    kind: str, target: str, what: str, reason: str
) -> None:
    inner = {"freeze": {"project": target}, "veto": {"statement": target}}.get(
        kind, {"what": what, "target": target}
    )
    try:
        found = read_dropped(json.dumps({kind: {**inner, "reason": reason}}).encode())
    except Refusal:
        return
    whole(
        {
            "kind": "narrowing", "id": found.id, "what": found.what, "target": found.target,
            "by": "b" * NAME_CHARS_MAX, "source": "\U0010ffff" * 16,
        }
    )  # fmt: skip


@given(
    st.sampled_from(["exchange", "upload", "signature", "strangers", "left-out"]) | TEXT,
    st.sampled_from([*(code.value for code in Code), ""]) | TEXT,
    TEXT | st.integers(0, 10**30).map(str) | st.integers() | st.binary(),
)
def test_no_row_of_the_gateway_makes_an_entry_too_long(
    kind: object, code: object, detail: object
) -> None:
    found = _event(kind, code, detail)
    if found is not None:
        whole(found[1])


def test_the_largest_release_and_the_largest_quorum_fit() -> None:
    tail = "-1.0-py3-none-any.whl"
    name = "n" * (FILENAME_CHARS_MAX - len(tail)) + tail
    assert parse_filename(name).project, "a name that a release may have"
    file = ReleaseFile(name, "0" * 64, FILE_BYTES_MAX).to_json()
    whole({"kind": "intent", "statement": "0" * 64, "files": [file] * FILES_PER_RELEASE_MAX})
    by = ["p" * NAME_CHARS_MAX] * APPROVALS_PER_STATEMENT_MAX
    whole({"kind": "approved", "statement": "0" * 64, "by": by, "review": "0" * 64})


def documented() -> dict[str, tuple[set[str], set[str]]]:
    """Of each kind in the reference: the members that it must have, and those that it may have."""
    found = {}
    for line in (DOCS / "reference" / "ledger-entries.md").read_text().splitlines():
        cells = [cell.strip() for cell in line.split("|")]
        if len(cells) == 5 and cells[1].startswith("`"):
            may = set(re.findall(r"\[`(\w+)`\]", cells[2]))
            found[cells[1].strip("`")] = set(re.findall(r"`(\w+)`", cells[2])) - may, may
    return found


def test_the_reference_lists_every_kind_and_no_other() -> None:
    assert documented().keys() == KINDS


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_an_entry_has_the_members_of_its_kind_in_the_reference_and_no_others(kind: str) -> None:
    must, may = documented()[kind]
    entry = {"kind": kind, "space": "main", **{name: VALUES[name] for name in must}}
    if kind in ("approved", "admitted", "read-afterwards"):
        entry["by"] = ["p-ana"]
    if kind != "verified":
        entry["at"] = 1

    def reads(value: dict[str, Any]) -> bool:
        try:
            return read_entry(canonical(value), "main").known
        except Refusal:
            return False

    assert reads(entry)
    assert reads({**entry, **{name: VALUES[name] for name in may}})
    for name in must:
        assert not reads({other: value for other, value in entry.items() if other != name}), name
    assert not reads({**entry, "more": "x"})
    assert not reads({**entry, "space": "another"})
