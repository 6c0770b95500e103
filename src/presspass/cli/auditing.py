"""One round of an audit: checkpoint, entries, registries, and the state moved on when all of it holds.

A state is moved on only to a checkpoint whose root its entries came to. Every `_SAVE_EVERY_BUNDLES` bundles it is noted
how far reading has come, so that an interrupted round goes on there.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import NoReturn, Protocol
from urllib.parse import urlsplit

from presspass.cli.audit_state import State, recoveries
from presspass.cli.client import Gate
from presspass.cli.exits import CannotSayError
from presspass.core.errors import Code, Fault, Refusal
from presspass.core.ledger.note import VerifierKey
from presspass.core.ledger.tiles import ENTRY_BYTES_MAX, WIDTH
from presspass.core.limits import NOTE_BYTES_MAX, UPSTREAM_ANSWER_BYTES_MAX
from presspass.core.log import LogRecovery
from presspass.core.statement import Kind
from presspass.formats.simple_index import Listed, read_page
from presspass.verify.ledger import (
    UNKNOWN_KIND,
    Account,
    Fetch,
    Finding,
    Seen,
    check_growth,
    check_root,
    projects,
    read_on,
)
from presspass.verify.listing import compare, missing

_BUNDLE_BYTES_MAX = WIDTH * (2 + ENTRY_BYTES_MAX)
_PAGE_TYPES = "application/vnd.pypi.simple.v1+json, text/html;q=0.5"
_INDEX_HINT = "Give the address of its index, as pip takes it."
_SAVE_EVERY_BUNDLES = 64
_LOST_TOLD = 5  # names of files in one line


class Served(Protocol):
    """Where files are read from, as `client.Gate` does it. `base`: its address, for messages."""

    base: str

    def get_bytes(self, path: str, *, bytes_max: int, accept: str = "*/*") -> bytes:
        """A whole file of at most `bytes_max` bytes; refuses with `request.not-found` where there is none."""
        ...


#: A progress bar: title and total to something that is told how much more is done.
Progress = Callable[[str, int], AbstractContextManager[Callable[[int], None]]]


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be looked at beside the log: `registries` by the addresses of their indexes, `witnesses` by keys."""

    registries: tuple[str, ...] = ()
    witnesses: tuple[VerifierKey, ...] = ()


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a round has found. `before`: how many entries were checked the last time; `notes`: remarks, no faults."""

    seen: Seen
    account: Account
    before: int
    findings: tuple[Finding, ...]
    notes: tuple[str, ...]

    @property
    def is_unknown(self) -> bool:
        """Whether nothing is wrong but that some entries cannot be read by this program."""
        kinds = {one.code for one in self.findings}
        return kinds == {UNKNOWN_KIND} and not self.account.untold


class TwoCheckpointsError(Refusal):
    """A refusal with the checkpoints that show it, as they were signed, older first."""

    def __init__(self, refusal: Refusal, notes: list[bytes], where: str) -> None:
        super().__init__(refusal.code, refusal.message, f"{refusal.hint} {where}")
        self.notes = notes


def audit(gate: Served, state: State, wanted: Wanted, progress: Progress) -> Outcome:
    """One round. Refuses with `log.*` or `proof.invalid` where the log is not to be believed, CannotSayError where it
    or a registry cannot be read, or a witness has not cosigned.
    """
    fetch = _fetcher(gate)
    before = state.checked.size
    newest = _newest(fetch, gate.base, state, wanted.witnesses)
    if not newest.checkpoint.size:
        raise CannotSayError("The ledger is empty: there is nothing to check yet.")
    gone = _Gone.of(state)
    if gone is not None:
        _begin_anew(state, gone, newest)
    _follow(fetch, state, newest, progress, gone.seen if gone else ())
    _require_witnesses(wanted.witnesses, newest)
    found, notes = _look_at_registries(state.checked, wanted.registries)
    told = gone.findings(state) if gone else ()
    findings = (*told, *state.checked.findings, *_look_at_log(state), *found)
    return Outcome(newest, state.checked, before, findings, (*_recoveries(state), *notes))


def _fetcher(gate: Served) -> Fetch:
    def fetch(path: str) -> bytes | None:
        try:
            return gate.get_bytes(f"/log/{path}", bytes_max=_BUNDLE_BYTES_MAX)
        except Refusal as refusal:
            if refusal.code is Code.REQUEST_NOT_FOUND:
                return None
            if refusal.code is Code.REQUEST_TOO_LARGE:
                raise Refusal(
                    Code.LOG_DAMAGED, refusal.message, "No log has such a file."
                ) from None
            raise CannotSayError(
                refusal.message, "Does whatever stands before the gate let you in?"
            ) from None
        except Fault as fault:
            raise CannotSayError(fault.message) from None

    return fetch


def _newest(fetch: Fetch, base: str, state: State, witnesses: Sequence[VerifierKey]) -> Seen:
    """The newest checkpoint, by the key in force: what leads to that is read first, and both again where the log may
    have got another key in between.
    """
    try:
        return _opened(fetch, base, state, witnesses)
    except Refusal:
        return _opened(fetch, base, state, witnesses)


def _opened(fetch: Fetch, base: str, state: State, witnesses: Sequence[VerifierKey]) -> Seen:
    if (chain := fetch("keys")) is not None:
        state.learn(chain)
    return Seen.open(_checkpoint(fetch, base), state.chain.log, witnesses)


@dataclass(frozen=True, slots=True)
class _Gone:
    """What was seen of a log that has gone on from less since. `seen`: by size; `files` as in `Account`."""

    recovery: LogRecovery
    seen: tuple[Seen, ...]
    files: Mapping[str, list[str]]

    @classmethod
    def of(cls, state: State) -> _Gone | None:
        """None where nothing that was seen is given up."""
        recovery = state.lost()
        seen = tuple(one for one in (state.seen, state.towards) if one)
        return None if recovery is None else cls(recovery, seen, state.checked.files)

    def findings(self, state: State) -> tuple[Finding, ...]:
        """Told in the round in which the recovered log was read for the first time."""
        old, now = self.seen[-1].checkpoint, state.checked.files
        text = (
            f"{old.origin} had {old.size} entries; the log was recovered and goes on as {state.chain.log.origin} "
            f"from the first {self.recovery.size} of them. Said by those who signed: {self.recovery.reason}"
        )
        found = [Finding("recovery.entries-lost", text)]
        lost = sorted(
            one for one in self.files if not set(self.files[one]) <= set(now.get(one, ()))
        )
        if lost:
            text = f"{len(lost)} published files are in the ledger no more: {', '.join(lost[:_LOST_TOLD])}"
            found.append(Finding("recovery.files-lost", text))
        return tuple(found)


def _begin_anew(state: State, gone: _Gone, newest: Seen) -> None:
    """What was seen is kept as evidence, and a recovered log is read from its beginning."""
    size, begins = newest.checkpoint.size, gone.recovery.size
    if size <= begins:
        text = f"The recovered log has {size} entries; it goes on from {begins}."
        _refuse(state, Refusal(Code.LOG_SMALLER, text), [*gone.seen, newest])
    state.keep_evidence([one.note for one in gone.seen])
    state.begin_anew(gone.recovery)


def _recoveries(state: State) -> list[str]:
    return [
        f"The log was recovered as {one.origin}: it went on from {one.recovery.size} entries where "
        f"{one.recovery.seen_size} had been seen ({one.recovery.reason})."
        for one in recoveries(state.chain)
        if one.recovery
    ]


def _look_at_log(state: State) -> list[Finding]:
    """The statements by which the key is in force stand in the ledger, and no others do."""
    if state.checked.logs == list(state.chain.ever_in_force(Kind.LOG)):
        return []
    text = "The ledger's entries about its own key are not the statements by which that key is in force."
    return [Finding("entry.log", text)]


def _checkpoint(fetch: Fetch, base: str) -> bytes:
    note = fetch("checkpoint")
    if note is None:
        raise CannotSayError(
            f"There is no ledger at {base}/log/checkpoint.",
            "Name the gate's address, or that of a copy; before genesis there is none.",
        )
    if len(note) > NOTE_BYTES_MAX:
        raise Refusal(Code.PROOF_INVALID, f"The checkpoint has more than {NOTE_BYTES_MAX} bytes.")
    return note


def _require_witnesses(witnesses: Sequence[VerifierKey], seen: Seen) -> None:
    missing = [key.name for key in witnesses if key.name not in dict(seen.witnesses)]
    if missing:
        raise CannotSayError(
            f"The checkpoint of {seen.checkpoint.size} entries has no cosignature of {missing[0]}.",
            "Look again in a minute: the gate asks its witnesses after each entry.",
        )


def _follow(
    fetch: Fetch, state: State, newest: Seen, progress: Progress, before: Sequence[Seen]
) -> None:
    """Reads up to what was aimed at the last time, then up to `newest`: whatever was signed once is held to it.
    `before`: what was seen of a log before its recovery.
    """
    known = [one for one in (state.seen, state.towards) if one]
    try:
        for one in known:
            check_growth(one.checkpoint, newest.checkpoint)
        for goal in [state.towards, newest] if state.towards else [newest]:
            if state.seen is None or goal.checkpoint.size > state.seen.checkpoint.size:
                _read_to(fetch, state, goal, newest, progress)
    except Refusal as refusal:
        _refuse(state, refusal, [*before, *known, newest])


def _read_to(fetch: Fetch, state: State, goal: Seen, newest: Seen, progress: Progress) -> None:
    account, size = state.unfinished or copy.deepcopy(state.checked), goal.checkpoint.size
    earlier = [one.checkpoint for one in (state.seen, state.towards) if one]
    state.towards = goal
    state.write()
    try:
        with progress(f"reading {size - account.size:,} entries", size - account.size) as moved:
            reading = read_on(fetch, account, size, state.genesis, state.held)
            for number, count in enumerate(reading, 1):
                moved(count)
                if number % _SAVE_EVERY_BUNDLES == 0:
                    state.unfinished = account
                    state.write()
        check_root(fetch, account, goal.checkpoint, newest.checkpoint, earlier)
    except Refusal:
        state.unfinished = None  # what was served is not to be believed; begin again where it was
        with contextlib.suppress(Fault):
            state.write()
        raise
    state.settle(account, goal)


def _refuse(state: State, refusal: Refusal, seen: list[Seen]) -> NoReturn:
    notes = list(dict.fromkeys(one.note for one in seen))
    try:
        where = f"Kept in {state.keep_evidence(notes)}."
    except Fault as fault:
        where = f"Keep them yourself: {fault.message}"
    raise TwoCheckpointsError(refusal, notes, where) from None


def _look_at_registries(
    account: Account, registries: Sequence[str]
) -> tuple[list[Finding], list[str]]:
    findings, notes = list[Finding](), list[str]()
    with contextlib.ExitStack() as stack:
        opened = [stack.enter_context(Gate(one)) for one in registries]
        for project, names in projects(account.files).items() if opened else ():
            found, remarks = _look_at_project(account, project, names, opened)
            findings, notes = findings + found, notes + remarks
    return findings, notes


def _look_at_project(
    account: Account, project: str, names: list[str], registries: Sequence[Served]
) -> tuple[list[Finding], list[str]]:
    findings, notes, everywhere = list[Finding](), list[str](), list[Listed]()
    for registry in registries:
        listed = _listed(registry, project)
        found, remarks = compare(account.files, listed, account.began_at)
        findings, notes = findings + found, notes + remarks
        everywhere += listed
    return findings, [*notes, *missing(names, everywhere)]


def _listed(registry: Served, project: str) -> tuple[Listed, ...]:
    """What one registry has of a project. Its address may hold a password, so no message repeats it."""
    host, path = urlsplit(registry.base).hostname, f"/{project}/"
    silent = f"{host} does not say what it has of {project}"
    try:
        data = registry.get_bytes(path, bytes_max=UPSTREAM_ANSWER_BYTES_MAX, accept=_PAGE_TYPES)
    except Refusal as refusal:
        if refusal.code is Code.REQUEST_NOT_FOUND:
            return ()
        raise CannotSayError(f"{silent} [{refusal.code.value}].", _INDEX_HINT) from None
    except Fault as fault:
        raise CannotSayError(f"{silent} [{fault.code}].", _INDEX_HINT) from None
    try:
        return read_page(data)
    except Refusal as refusal:
        raise CannotSayError(f"{silent}: {refusal.message}", _INDEX_HINT) from None
