"""What is done on the press's own host, as the press: sealing genesis, entering a credential, recovery.

Commands put a file into `press/inbox`, which only the press's user can write to, and wait for its answer. When no
press is running they hold its lock and run the same code themselves; there is one path.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy.engine import Connection

from presspass.core.approval import Approval
from presspass.core.digests import JsonObject, sha256_hex
from presspass.core.effects import effects
from presspass.core.errors import Code, Fault, Refusal
from presspass.core.limits import JSON_BODY_BYTES_MAX
from presspass.core.policy import Policy
from presspass.core.roster import Details, Roster
from presspass.core.statement import GenesisBody, RosterBody, Statement, UpstreamBody
from presspass.core.strict import Members
from presspass.keystore.envelopes import Vault
from presspass.press import journal
from presspass.press.log import Log
from presspass.press.log_keys import LogKeys
from presspass.store import journal_view as view
from presspass.verify.approvals import check_origin

_LOG = logging.getLogger("presspass.press")
_SECRET_CHARS_MAX = 16 * 1024
PENDING_RECOVERY = "recovery"


@dataclass(frozen=True, slots=True)
class Desk:
    """The inbox, and what its orders may touch. `run` executes work in the journal's writer."""

    inbox: Path
    vault: Vault
    log: Log
    log_keys: LogKeys
    run: Callable[[Callable[[Connection], None]], None]

    def serve(self, now_ms: int) -> int:
        """Does every waiting order and answers each with `<name>.done`; returns how many there were."""
        done = 0
        for path in sorted(self.inbox.glob("*.json")):
            answer = self._answer(path, now_ms)
            temporary = path.with_suffix(".tmp")
            temporary.write_text(json.dumps(answer))
            temporary.replace(path.with_suffix(".done"))
            path.unlink(missing_ok=True)
            done += 1
        return done

    def _answer(self, path: Path, now_ms: int) -> JsonObject:
        try:
            with path.open("rb") as file:
                data = file.read(4 * JSON_BODY_BYTES_MAX)
            order = Members(json.loads(data), "order")
            return {"ok": True, **self._do(order, now_ms)}
        except Refusal as refusal:
            return {
                "ok": False,
                "code": refusal.code.value,
                "message": refusal.message,
                "hint": refusal.hint,
            }
        except Fault as fault:
            if fault.code == "store.write-failed":
                raise  # it may be done or not; the order stays, and a press that starts anew does it if it is not
            return {"ok": False, "fault": fault.code, "message": fault.message}
        except (ValueError, OSError, RecursionError) as error:
            return {
                "ok": False,
                "fault": "press.order",
                "message": f"The order cannot be read: {error}",
            }

    def _do(self, order: Members, now_ms: int) -> JsonObject:
        what = order.choice("do", ("seal", "credential", "recover", "log-key"))
        if what == "log-key":
            return self._make_log_key(order)
        does = {"seal": self._seal, "credential": self._credential, "recover": self._recover}
        return does[what](order, now_ms)

    def _make_log_key(self, order: Members) -> JsonObject:
        """Another key for the log, to be let in by a statement."""
        order.done()
        made = ""

        def work(connection: Connection) -> None:
            nonlocal made
            if view.genesis(connection) is None:
                text = "The log has its first key, which genesis will name."
                raise Refusal(Code.GENESIS_MISSING, text, "presspass init --seal")
            made = self.log_keys.make_next(self.log.in_force(connection).key)

        self.run(work)  # between transactions: no statement is admitted meanwhile
        return {"log_key": made}

    def _seal(self, order: Members, now_ms: int) -> JsonObject:
        genesis = _statement(order)
        details = order.items("details", Details.from_json, count_max=1000)
        order.done()
        body = genesis.body_as(GenesisBody)
        check_origin(body.origin, body.rp_id)
        check_beginning(body.roster, body.policy)
        if body.log_key != self.log.beginning.key:
            raise Refusal(
                Code.GENESIS_INCOMPLETE, "The genesis names another log key than this press has."
            )
        entry = {
            "kind": "genesis",
            "space": genesis.space,
            "statement": genesis.digest,
            "at": now_ms // 1000,
        }

        def work(connection: Connection) -> None:
            if view.fact(connection, view.GENESIS) == genesis.digest:
                return  # done before, and the press ended before it could answer
            journal.admit_genesis(connection, genesis, details, now_ms)
            self.log.append(connection, entry)

        self.run(work)
        return {"genesis": genesis.digest}

    def _credential(self, order: Members, now_ms: int) -> JsonObject:
        statement = _statement(order)
        secret = order.take("secret")
        salt = order.name("salt")
        order.done()
        if not isinstance(secret, str) or not 0 < len(secret) <= _SECRET_CHARS_MAX:
            raise Refusal(Code.REQUEST_MALFORMED, "The credential is empty or too long.")
        committed = commitment(secret, salt)
        for one in effects(statement):
            if isinstance(one.body, UpstreamBody) and one.body.credential == committed:
                self._enter_credential(one.digest, now_ms)
                self.vault.put(one.digest, secret.encode())
                return {"statement": one.digest}
        raise Refusal(
            Code.REQUEST_MALFORMED, "The upstream statement was made for another credential."
        )

    def _enter_credential(self, upstream: str, now_ms: int) -> None:
        """Durable before the secret can be used (law 6); a crash in between leaves an entry, and the order."""
        entry = {"kind": "credential", "statement": upstream}

        def work(connection: Connection) -> None:
            if journal.first_time(connection, entry):
                journal.log_entry(connection, self.log, now_ms, entry)

        self.run(work)

    def _recover(self, order: Members, now_ms: int) -> JsonObject:
        statement = _statement(order)
        approval = Approval.from_json(order.take("approval"))
        order.done()
        body = statement.body_as(RosterBody)

        def work(connection: Connection) -> None:
            chain = journal.load_chain(connection)
            if chain is None:
                raise Refusal(Code.GENESIS_MISSING, "There is nothing to recover before genesis.")
            if not body.recovery:
                raise Refusal(
                    Code.STATEMENT_MALFORMED,
                    "The roster statement does not say that it is a recovery.",
                )
            chain.verify_recovery(statement, [approval])
            known = pending_recovery(connection)
            if known is not None and known.statement.digest == statement.digest:
                return  # the 72 hours run already
            value = {
                "statement": statement.to_bytes().decode(),
                "approval": approval.to_json(),
                "asked_ms": now_ms,
            }
            journal.set_fact(connection, PENDING_RECOVERY, json.dumps(value))
            journal.first_sight(connection, statement, "", now_ms)
            self.log.append(
                connection,
                {
                    "kind": "recovery-asked",
                    "space": statement.space,
                    "statement": statement.digest,
                    "at": now_ms // 1000,
                },
            )

        try:
            self.run(work)
        except Refusal as refusal:
            code = refusal.code.value
            entry = {"kind": "refused", "statement": statement.digest, "code": code}
            self.run(lambda connection: journal.log_entry(connection, self.log, now_ms, entry))
            raise
        return {"statement": statement.digest}


@dataclass(frozen=True, slots=True)
class Recovery:
    """A roster that the recovery key asks for. Its wait begins at `asked_ms`, not when the statement was first seen."""

    statement: Statement
    approval: Approval
    asked_ms: int


def pending_recovery(connection: Connection) -> Recovery | None:
    """The recovery that waits for its 72 hours, if there is one."""
    text = view.fact(connection, PENDING_RECOVERY)
    if not text:
        return None
    value = json.loads(text)
    statement = Statement.from_bytes(value["statement"].encode())
    return Recovery(statement, Approval.from_json(value["approval"]), int(value["asked_ms"]))


def check_beginning(roster: Roster, policy: Policy) -> None:
    """Genesis needs enough identities to ever reach the floor: two people, or in `solo` one person with two keys."""
    keys = [key for key in roster.all_keys() if policy.counts(key)]
    people = {person.id for key in keys if (person := roster.owner(key.id)) is not None}
    if policy.profile == "solo":
        if len(roster.people) != 1 or len(keys) < 2:
            raise Refusal(
                Code.GENESIS_INCOMPLETE,
                "`solo` is one person with two keys.",
                "Enrol the second key.",
            )
    elif len(people) < max(2, policy.approvals):
        raise Refusal(
            Code.GENESIS_INCOMPLETE,
            f"`team` needs at least {max(2, policy.approvals)} people with a key that counts; {len(people)} have one.",
            "Send the others their links, or make new ones with `presspass invite NAME`.",
        )


def commitment(secret: str, salt: str) -> str:
    """What an upstream statement says of its credential: SHA-256 of salt and secret, hex."""
    return sha256_hex(f"presspass/credential/v1\n{salt}\n{secret}".encode())


def put_order(inbox: Path, order: JsonObject) -> Path:
    """Writes an order whole; returns the path at which its answer will appear."""
    path = inbox / f"{time.time_ns()}-{secrets.token_hex(4)}.json"
    temporary = path.with_suffix(".new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        json.dump(order, file)
    temporary.replace(path)
    return path.with_suffix(".done")


def take_answer(answer: Path) -> JsonObject | None:
    """The answer, once it is there; removes it. Raises the refusal or fault that it carries."""
    try:
        value: dict[str, Any] = json.loads(answer.read_text())
    except FileNotFoundError:
        return None
    with contextlib.suppress(FileNotFoundError):
        answer.unlink()
    if value.pop("ok"):
        return value
    if "code" in value:
        raise Refusal(Code(value["code"]), value["message"], value["hint"])
    raise Fault(value["fault"], value["message"], retryable=False)


def _statement(order: Members) -> Statement:
    text = order.take("statement")
    return Statement.from_bytes(text.encode("utf-8", "replace") if isinstance(text, str) else b"")
