"""Evidence bundles: the journal's answer to one question, with everything to check it, signed by the log key.

Nothing is signed that was handed in: the question is read, and all else is collected here. A bundle that would not
verify is not given out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Protocol, TypeVar

from sqlalchemy.engine import Connection

from presspass.core.errors import Code, Refusal
from presspass.core.history import Act, Question
from presspass.core.ledger import merkle
from presspass.core.limits import EVIDENCE_ACTS_MAX, EVIDENCE_BYTES_MAX
from presspass.core.log import LogBody
from presspass.core.statement import Kind, Statement
from presspass.press.signing import PressKey
from presspass.store import history, ledger_view
from presspass.store import journal_view as view
from presspass.verify.chain import Chain
from presspass.verify.evidence import ActRecord, Body, Evidence, Placed, check_evidence, to_sign
from presspass.verify.proof import SignedStatement, is_signed_by

T = TypeVar("T")
_PROOFS_AT_ONCE = 500
_HINT = "Ask for less at once, with --since and --until."


class Asking(Protocol):
    """Runs one reading of the journal on a snapshot of its own."""

    def __call__(self, reading: Callable[[Connection], T], /) -> T: ...


def make(ask: Asking, question: Question, log_key: Callable[[str], PressKey], now_s: int) -> bytes:
    """The bundle's file. `log_key`: by its public half, hex. Refuses with `request.too-large` what no verifier would
    read.
    """
    acts = _acts(ask, question)
    positions = sorted({position for act in acts for position, _entry in act.entries})
    genesis, chain, log, size, checkpoint = ask(
        lambda c: _grounds(c, positions[-1] if positions else -1)
    )
    proofs: dict[int, tuple[bytes, ...]] = {}
    for start in range(0, len(positions), _PROOFS_AT_ONCE):
        some = positions[start : start + _PROOFS_AT_ONCE]
        proofs |= ask(partial(_inclusion, positions=some, size=size))
    records = tuple(_record(act, proofs) for act in acts)
    body = Body(question, now_s, genesis, chain, records, checkpoint)
    evidence = Evidence.of(body, log_key(log.key).attest(to_sign(body)))
    data = evidence.to_bytes()
    if len(data) > EVIDENCE_BYTES_MAX:
        message = f"The evidence has {len(data)} bytes; the limit is {EVIDENCE_BYTES_MAX}."
        raise Refusal(Code.REQUEST_TOO_LARGE, message, _HINT)
    check_evidence(evidence, trust_root=genesis.digest)
    return data


def _acts(ask: Asking, question: Question) -> list[Act]:
    found: list[Act] = []
    for page in history.every(ask, question):
        found += page
        if len(found) > EVIDENCE_ACTS_MAX:
            message = f"More than {EVIDENCE_ACTS_MAX} acts answer the question."
            raise Refusal(Code.REQUEST_TOO_LARGE, message, _HINT)
    return found


def _grounds(
    connection: Connection, last: int
) -> tuple[Statement, tuple[SignedStatement, ...], LogBody, int, bytes]:
    """The chains, genesis first; the log to which they lead; size and note of the newest checkpoint that it has signed
    and a witness cosigned, if the entry `last` is in it, else of the newest.
    """
    genesis, *admitted = view.chained(connection)
    chain = tuple(
        SignedStatement(one, view.approvals_under(connection, one.digest)) for one in admitted
    )
    log = Chain.after(genesis, admitted).log
    noted = ledger_view.cosigned(connection).values()
    cosigned = [size for size, note in noted if size > last and is_signed_by(note, log)]
    size = max(cosigned, default=ledger_view.size(connection))
    return genesis, chain, log, size, ledger_view.checkpoint(connection, size)


def _inclusion(
    connection: Connection, positions: Sequence[int], size: int
) -> dict[int, tuple[bytes, ...]]:
    read = ledger_view.node_reader(connection)
    return {one: tuple(merkle.inclusion_proof(one, size, read)) for one in positions}


def _record(act: Act, proofs: Mapping[int, tuple[bytes, ...]]) -> ActRecord:
    statement = act.statement
    moves = statement.kind in {Kind.GENESIS, *Statement.MOVING}
    return ActRecord(
        act.after,
        act.at_ms // 1000,
        None if moves else SignedStatement(statement, act.approvals, act.plans),
        tuple(Placed(entry, position, proofs[position]) for position, entry in act.entries),
    )
