"""Questions after the fact at the gateway: the journal's answer, as the page and the API show it.

It is the press's word, read from its journal; what can be checked without the gate is in each proof and in the ledger.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from sqlalchemy.engine import Connection

from presspass.core.digests import JsonObject
from presspass.core.errors import Refusal
from presspass.core.history import Act
from presspass.core.limits import HISTORY_PAGE_MAX
from presspass.gateway.console.models import ActLine, History
from presspass.gateway.gate import Gate
from presspass.store import history, journal_view
from presspass.verify.history import Teller, Words

_SHOWN_MAX: Final = 50  # acts on one page


def answer(gate: Gate, words: Words, after: str, names: Mapping[str, str]) -> JsonObject:
    """A page of the answer, oldest first, for programs; refuses what nobody knows. `names`: by person id."""
    mark = history.read_mark(after) if after else history.BEGINNING
    teller, acts = _ask(gate, words, names, mark, HISTORY_PAGE_MAX, newest_first=False)
    whole = len(acts) == HISTORY_PAGE_MAX
    return {
        "acts": [teller.to_json(act) for act in acts],
        "names": dict(names),
        "next": history.mark_text(history.mark_of(acts[-1])) if whole else None,
    }


def shown(gate: Gate, words: Words, further: str, names: Mapping[str, str]) -> History:
    """A page of the answer, newest first, for people."""
    try:
        mark = history.read_mark(further) if further else history.END
        teller, acts = _ask(gate, words, names, mark, _SHOWN_MAX, newest_first=True)
    except Refusal as refusal:
        return History(refusal=refusal)
    whole = len(acts) == _SHOWN_MAX
    more = history.mark_text(history.mark_of(acts[-1])) if whole else ""
    return History(tuple(_line(teller.to_json(act)) for act in acts), more)


def _ask(
    gate: Gate,
    words: Words,
    names: Mapping[str, str],
    mark: history.Mark,
    count: int,
    *,
    newest_first: bool,
) -> tuple[Teller, list[Act]]:
    gate.journal.now().trust()

    def ask(connection: Connection) -> tuple[Teller, list[Act]]:
        teller = Teller.of(journal_view.chained(connection))
        question = words.question(teller.chain, names)
        found = history.acts(connection, question, mark, count, newest_first=newest_first)
        return teller, found

    return gate.journal.read(ask)


def _line(act: JsonObject) -> ActLine:
    return ActLine(
        at_ms=act["at"] * 1000,
        kind=act["kind"],
        title=act["title"],
        outcome=act["outcome"],
        digest=act["digest"],
        release=act.get("release", ""),
        upstream=act.get("upstream", ""),
        publisher=act.get("publisher", ""),
        workflow=act.get("workflow", ""),
        workflow_sha256=act.get("workflow_sha256", ""),
        policies=tuple(act["policies"]),
        signers=tuple((one["person"], one["key"], one["kind"]) for one in act["signed_by"]),
        positions=tuple(one["position"] for one in act["entries"]),
    )
