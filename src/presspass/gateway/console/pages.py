"""The pages as values: everything a template needs, decided here, so that templates only lay out.

Pure: facts in, view models out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlencode

from presspass.core.errors import Code, Refusal
from presspass.core.findings import parse_report
from presspass.core.lifecycle import SETTLED, State
from presspass.core.risk import by_risk
from presspass.gateway.console import askers, ballots, differences, review
from presspass.gateway.console.items import DifferenceView
from presspass.gateway.console.models import (
    ActLine,
    History,
    Overview,
    ReleaseFacts,
    ReleaseLine,
    RequestFacts,
    RequestLine,
    Situation,
    StandingFacts,
    UseLine,
)
from presspass.verify.history import Words

Mark = Literal["done", "now", "later", "bad"]

_WAY = (
    State.OPEN,
    State.STAGED,
    State.REVIEWED,
    State.AWAITING,
    State.APPROVED,
    State.PUBLISHING,
    State.PUBLISHED,
    State.VERIFIED,
)
STATE_WORDS = {
    State.OPEN: "Files may still be added. Nothing is asked of anybody yet.",
    State.STAGED: "The set is closed. The inspector is reading it.",
    State.REVIEWED: "The inspector has reported. The request is being written.",
    State.AWAITING: "Waiting for people to look and sign.",
    State.APPROVED: "Enough people have signed. It can still be vetoed until the press begins.",
    State.PUBLISHING: "The press is sending the files to the registry.",
    State.PUBLISHED: "Every file was sent. The press is reading back what the registry serves.",
    State.VERIFIED: "The registry serves exactly the approved files. The proof is written.",
    State.REJECTED: "Rejected. Nothing was published; this set stays closed.",
    State.EXPIRED: "Expired. Nobody signed in time; nothing was published.",
    State.WITHDRAWN: "Withdrawn by whoever asked. Nothing was published.",
    State.FAILED: "Failed. The press could not finish; somebody must look at it.",
    State.REVOKED: "Revoked after it went out.",
}
#: The way of another statement, by the press's states; "asked" stands for "not seen yet".
_REQUEST_WAY = {
    "asked": "Put before people; the press has not read it yet.",
    "seen": "The press has read it and waits for signatures.",
    "approved": "Enough people have signed, and everybody is told. It can still be vetoed until it is in force.",
    "admitted": "In force.",
}
_REQUEST_ENDS = {
    "rejected": "Rejected. Nothing changes.",
    "expired": "Expired. Nobody signed in time; nothing changes.",
    "stale": "Out of date: something else was decided since. Ask for it again.",
}


@dataclass(frozen=True, slots=True)
class Step:
    """One step of the way. `shown` is False for the ends that were not reached; the page reveals them live."""

    name: str
    words: str
    mark: Mark
    shown: bool = True


@dataclass(frozen=True, slots=True)
class ReleasePage:
    """The page of one set. `unreadable` says why there is a report that cannot be shown."""

    facts: ReleaseFacts
    steps: tuple[Step, ...]
    words: str
    requester: str
    review: review.ReviewView | None
    unreadable: str
    ballot: ballots.BallotView | None
    asker: askers.AskerView | None
    may_approve: bool
    may_veto: bool
    may_read: bool

    @property
    def custody(self) -> bool:
        body = self.facts.upstream_body
        return body is not None and body.mode == "custody"


@dataclass(frozen=True, slots=True)
class RequestPage:
    """The page of one other statement."""

    facts: RequestFacts
    kind: str
    steps: tuple[Step, ...]
    words: str
    difference: DifferenceView
    ballot: ballots.BallotView
    may_approve: bool
    may_sign: bool


@dataclass(frozen=True, slots=True)
class ListPage:
    """The list: what waits for people, what runs by itself, what has ended; `left_out`: how many more releases wait."""

    waiting: tuple[ReleaseLine, ...]
    requests: tuple[RequestLine, ...]
    running: tuple[ReleaseLine, ...]
    ended: tuple[ReleaseLine, ...]
    requests_ended: tuple[RequestLine, ...]
    to_read: tuple[UseLine, ...] = ()
    left_out: int = 0


@dataclass(frozen=True, slots=True)
class StandingPage:
    """What may go out without a signature of its own, and what is to be read afterwards."""

    standings: tuple[StandingFacts, ...]
    to_read: tuple[UseLine, ...]


@dataclass(frozen=True, slots=True)
class HistoryPage:
    """What the press has carried out, by the words of the address. `asked`: those words, told; `older`: the address of
    the next page, "" for none; `problem` and `hint`: why there is no answer.
    """

    words: Words
    asked: tuple[tuple[str, str], ...]
    acts: tuple[ActLine, ...]
    older: str
    status: int = 200
    problem: str = ""
    hint: str = ""


def history_page(found: History, words: Words, situation: Situation) -> HistoryPage:
    """The page of an answer, or of why there is none."""
    pairs = words.pairs()
    asked = tuple(
        (name, situation.name(text) if name == "person" else text) for name, text in pairs
    )
    if found.refusal is not None:
        status = 404 if found.refusal.code is Code.REQUEST_NOT_FOUND else 400
        return HistoryPage(words, asked, (), "", status, found.refusal.message, found.refusal.hint)
    older = f"/history?{urlencode([*pairs, ('further', found.further)])}" if found.further else ""
    return HistoryPage(words, asked, found.acts, older)


def release_page(facts: ReleaseFacts, situation: Situation) -> ReleasePage:
    """The page of a release. A report or a changed workflow that cannot be shown is said to be so, and nobody is asked
    to approve it.
    """
    shown, unreadable = _review(facts)
    ballot = None if facts.ballot is None else ballots.view(facts.ballot, situation)
    waits = facts.state not in SETTLED and facts.reason and is_unusual(facts.code)
    words = facts.reason if waits else f"{STATE_WORDS[facts.state]} {facts.reason}".strip()
    open_vote = ballot is not None and facts.state in (State.AWAITING, State.APPROVED)
    asker = askers.view(facts, situation)
    unseen = asker is not None and asker.workflow is not None and asker.workflow.lines is None
    seen = shown is not None and not unseen
    return ReleasePage(
        facts=facts,
        steps=release_steps(facts),
        words=words,
        requester=situation.name(facts.requester) if facts.requester else "",
        review=shown,
        unreadable=unreadable,
        ballot=ballot,
        asker=asker,
        may_approve=open_vote and facts.state is State.AWAITING and seen,
        may_veto=open_vote,
        may_read=ballot is not None and facts.to_be_read and seen,
    )


def _review(facts: ReleaseFacts) -> tuple[review.ReviewView | None, str]:
    if facts.report is None:
        return None, ""
    try:
        return review.view(parse_report(facts.report)), ""
    except Refusal as refusal:
        return None, str(refusal)


def is_unusual(code: str) -> bool:
    """Whether a reason is worth more attention than that people have yet to sign."""
    return code not in ("", Code.QUORUM_MISSING.value)


def release_steps(facts: ReleaseFacts) -> tuple[Step, ...]:
    """The whole way, with a set that left it early shown as far as it came."""
    reached = _reached(facts)
    ended = facts.state not in _WAY
    steps = []
    for place, state in enumerate(_WAY):
        mark: Mark = "done" if place < reached else "later"
        if state is facts.state:
            mark = "done" if state is State.VERIFIED else "now"
        steps.append(
            Step(state.value, STATE_WORDS[state], mark, shown=not ended or place < reached)
        )
    for state in State:
        if state not in _WAY:
            steps.append(Step(state.value, STATE_WORDS[state], "bad", shown=state is facts.state))
    return tuple(steps)


def _reached(facts: ReleaseFacts) -> int:
    """How many steps are behind it."""
    if facts.state in _WAY:
        return _WAY.index(facts.state)
    if facts.state is State.REVOKED:
        return len(_WAY)
    decision = facts.ballot.decision if facts.ballot else None
    if facts.state is State.FAILED:
        return _WAY.index(State.PUBLISHING) + 1
    if decision is not None and decision.reached_ms is not None:
        return _WAY.index(State.APPROVED) + 1
    if facts.ballot is not None:
        return _WAY.index(State.AWAITING) + 1
    return _WAY.index(State.REVIEWED) + 1 if facts.report is not None else _WAY.index(State.STAGED)


def request_page(facts: RequestFacts, situation: Situation) -> RequestPage:
    """The page of a statement that is no release."""
    state = facts.state if facts.state in (*_REQUEST_WAY, *_REQUEST_ENDS) else "asked"
    words = {**_REQUEST_WAY, **_REQUEST_ENDS}[state]
    if state == "seen" and facts.ballot.tally.reached:
        words = "Enough people have signed. The press takes it up."
    if facts.message and (is_unusual(facts.code) or state in _REQUEST_ENDS):
        words = f"{words} {facts.message}" if state in _REQUEST_ENDS else facts.message
    return RequestPage(
        facts=facts,
        kind=facts.ballot.electorate.kind.value,
        steps=_request_steps(state),
        words=words,
        difference=differences.view(facts, situation),
        ballot=ballots.view(facts.ballot, situation),
        may_approve=state in ("asked", "seen"),
        may_sign=state in ("asked", "seen", "approved"),
    )


def _request_steps(state: str) -> tuple[Step, ...]:
    way, ended = list(_REQUEST_WAY), state in _REQUEST_ENDS
    here = way.index("approved") if ended else way.index(state)
    steps = []
    for place, name in enumerate(way):
        mark: Mark = "done" if place < here or name == state == "admitted" else "later"
        if name == state and name != "admitted":
            mark = "now"
        beyond = ended and name in ("approved", "admitted")
        steps.append(Step(name, _REQUEST_WAY[name], mark, shown=not beyond))
    steps += [
        Step(name, words, "bad", shown=name == state) for name, words in _REQUEST_ENDS.items()
    ]
    return tuple(steps)


def list_page(overview: Overview, own: str | None = None) -> ListPage:
    """Sorts everything into the three questions people come with. `own`: a person who sees the own releases only."""
    releases, requests = overview.releases, overview.requests
    if own is not None:
        releases, requests = tuple(one for one in releases if one.requester == own), ()
    return ListPage(
        waiting=tuple(
            by_risk(
                (one for one in releases if one.state is State.AWAITING), lambda one: one.waiting
            )
        ),
        requests=tuple(one for one in requests if not one.settled),
        running=tuple(
            one for one in releases if one.state is not State.AWAITING and one.state not in SETTLED
        ),
        ended=tuple(one for one in releases if one.state in SETTLED),
        requests_ended=tuple(one for one in requests if one.settled),
        to_read=overview.to_read if own is None else (),
        left_out=0 if own is not None else overview.left_out,
    )
