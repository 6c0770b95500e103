"""After the fact: what is asked of a journal, and what answers it. The index of the journal is made of the same words.

1. An *act* is a statement that the press carried out: a change that was admitted, a release that it began to send.
2. An act has *facets*: pairs such as ("key", fingerprint), one for everything by which it can be asked for.
3. A question is a conjunction. Each part names values of one facet, and an act answers it by having one of them.
4. Time is when the press acted (admitted, or claimed the release), in whole seconds; `since` included, `until` not.
5. What nobody carried out (expired, rejected, vetoed in time) is no act: of it the ledger has digests alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from presspass.core.approval import Approval
from presspass.core.digests import JsonObject, is_sha256
from presspass.core.limits import HISTORY_VALUES_MAX
from presspass.core.statement import Kind, ReleaseBody, Statement
from presspass.core.strict import Members

#: Every facet, that by which fewest acts are found first. `publisher` and `upstream`: digests of their statements, as
#: releases name them; `workflow`: SHA-256 of the file that ran; `policy`: digests of those that counted, which are the
#: one that the statement names and the one in force when the press acted.
FACETS: Final = ("project", "publisher", "workflow", "key", "policy", "kind", "upstream", "space")


@dataclass(frozen=True, slots=True)
class Question:
    """`parts`: facet to the values of which an act must have one; no values at all are had by nothing. `since` and
    `until`: Unix seconds, None for open.
    """

    parts: Mapping[str, tuple[str, ...]]
    since: int | None = None
    until: int | None = None

    def is_answered_by(self, facets: Iterable[tuple[str, str]], at: int) -> bool:
        """Whether an act of these facets, at this time, is meant."""
        had = frozenset(facets)
        within = (self.since or 0) <= at and (self.until is None or at < self.until)
        return within and all(
            any((facet, value) in had for value in values) for facet, values in self.parts.items()
        )

    def to_json(self) -> JsonObject:
        times = {"since": self.since, "until": self.until}
        parts = {facet: list(values) for facet, values in self.parts.items()}
        return {**parts, **{name: at for name, at in times.items() if at is not None}}

    @classmethod
    def from_json(cls, value: object) -> Question:
        members = Members(value, "question")
        found = [facet for facet in FACETS if members.has(facet)]
        parts = {facet: members.names(facet, count_max=HISTORY_VALUES_MAX) for facet in found}
        times = [
            members.integer(name) if members.has(name) else None for name in ("since", "until")
        ]
        members.done()
        return cls(parts, *times)


@dataclass(frozen=True, slots=True)
class Act:
    """One act. `after`: how many statements, genesis first, had moved a chain before it; `entries`: the ledger's about
    it, or about the workload that asked, each with its position, in order; `plans`: under which some of the approvals
    stand, in order of their digests.
    """

    statement: Statement
    approvals: tuple[Approval, ...]
    at_ms: int
    after: int
    entries: tuple[tuple[int, bytes], ...]
    plans: tuple[Statement, ...] = ()


def facets_of(statement: Statement, keys: Iterable[str], policy: str) -> frozenset[tuple[str, str]]:
    """By what an act is asked for. `keys`: that signed it; `policy`: in force when the press acted."""
    found = {("kind", statement.kind.value), ("space", statement.space), ("policy", policy)}
    found.update(("key", key) for key in keys)
    if statement.kind is not Kind.GENESIS:
        found.add(("policy", statement.heads.policy))
    body = statement.body
    if isinstance(body, ReleaseBody):
        found |= {("project", body.project), ("upstream", body.upstream)}
        if body.asked_by is not None:
            found.add(("publisher", body.asked_by.publisher))
        if body.asked_by is not None and body.asked_by.workflow:
            found.add(("workflow", body.asked_by.workflow))
    return frozenset(found)


def subjects_of(entry: Mapping[str, object]) -> frozenset[str]:
    """What an entry of the ledger is about: digests of statements, and the hash of a workload's token."""
    found = {entry.get("statement")}
    if entry.get("kind") == "workload":
        found.add(entry.get("token"))
    if entry.get("kind") == "narrowing" and entry.get("what") in ("veto", "release"):
        found.add(entry.get("target"))
    return frozenset(str(one) for one in found if is_sha256(one))


def subjects(statement: Statement) -> tuple[str, ...]:
    """By what the entries that belong to this act are found."""
    body = statement.body
    asked = isinstance(body, ReleaseBody) and body.asked_by
    return (statement.digest, asked.token) if asked else (statement.digest,)
