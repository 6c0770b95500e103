"""What an auditor remembers of a ledger between two runs: a JSON file, one for each installation.

`checked` is everything up to the checkpoint `note`, whose root it came to: only this is verified. `towards` is a newer
checkpoint that was seen, signed, and whose entries are still to be read; `unfinished` is how far reading them has come,
with nothing but the bytes that were served behind it. It is taken for more only once it comes to that root.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from presspass.cli.exits import CannotSayError
from presspass.cli.own_files import own_folder, write_whole
from presspass.core.digests import JsonObject
from presspass.core.errors import Code, Fault, PresspassError, Refusal
from presspass.core.ledger.checkpoint import Checkpoint
from presspass.core.log import LogBody, LogRecovery
from presspass.core.statement import Kind, Statement
from presspass.verify.chain import Chain
from presspass.verify.ledger import Account, Finding, Seen
from presspass.verify.log_chain import LogChain
from presspass.verify.proof import is_signed_by

FORMAT: Final = "presspass/audit/v2"
_SETTLED_MAX: Final = 1000


@dataclass(slots=True)
class State:
    """See the module. `log_chain` is the newest that was seen: the log never goes back to what it was before. The notes
    are opened again when they are read, by any key that the log had up to there. `settled`: size and root (hex) of the
    last trees that were verified; `held`: of those with which a recovered log must begin.
    """

    path: Path
    genesis: Statement
    chain: Chain
    log_chain: bytes = b""
    settled: list[tuple[int, str]] = field(default_factory=list)
    held: dict[int, str] = field(default_factory=dict)
    checked: Account = field(default_factory=Account)
    seen: Seen | None = None
    towards: Seen | None = None
    unfinished: Account | None = None

    @classmethod
    def read(cls, path: Path | None, genesis: Statement) -> State:
        """As it was left; CannotSayError where the file is damaged or another installation's."""
        path = path or own_folder() / "audits" / f"{genesis.digest[:32]}.json"
        try:
            value = json.loads(path.read_bytes())
        except FileNotFoundError:
            return cls(path, genesis, Chain.begin(genesis))
        except OSError as error:
            raise Fault("audit.unreadable", f"{path}: {error.strerror}.", retryable=False) from None
        except ValueError:
            raise _damaged(path) from None
        try:
            state = cls(path, genesis, **_members(value, genesis))
        except (PresspassError, ValueError, KeyError, TypeError, AttributeError):
            raise _damaged(path) from None
        return state

    def write(self) -> None:
        """Replaces the file, whole or not at all."""
        value = {
            "checked": _account_json(self.checked),
            "format": FORMAT,
            "genesis": self.genesis.digest,
            "log_chain": self.log_chain.decode(),
            "held": list(self.held.items()),
            "note": _note(self.seen),
            "settled": self.settled,
            "towards": _note(self.towards),
            "unfinished": _account_json(self.unfinished) if self.unfinished else None,
        }
        self._keep(self.path, json.dumps(value, sort_keys=True).encode() + b"\n")

    def learn(self, data: bytes) -> None:
        """Moves on to the log that a served chain leads to; an older one than was seen before is passed over. Refuses
        one that is not signed, and with `log.forked` one that contradicts what was seen.
        """
        served = LogChain.from_bytes(data)
        if not served.chain:
            return
        chain = served.check(self.genesis.digest)
        found, known = (list(one.ever_in_force(Kind.LOG)) for one in (chain, self.chain))
        if found[: len(known)] != known and known[: len(found)] != found:
            raise Refusal(
                Code.LOG_FORKED,
                "The log was given two different keys in the place of one.",
                "Trust no proof of this gate until it is explained.",
            )
        if len(found) > len(known):
            self.chain, self.log_chain = chain, data

    def settle(self, account: Account, seen: Seen) -> None:
        """`account` came to the root of `seen`: from now on that is what is verified."""
        self.checked, self.seen, self.unfinished = account, seen, None
        self.settled = [*self.settled, (account.size, account.root.hex())][-_SETTLED_MAX:]
        if self.towards is not None and self.towards.checkpoint.size <= seen.checkpoint.size:
            self.towards = None
        self.write()

    def lost(self) -> LogRecovery | None:
        """The recovery that gives up entries which were seen here, the furthest back; None where there is none."""
        seen = max(
            (one.checkpoint for one in (self.seen, self.towards) if one), key=_size, default=None
        )
        later = _recoveries(self.chain, seen.origin if seen else self.chain.log.origin)
        lost = [one for one in later if seen is not None and one.size < seen.size]
        return min(lost, key=lambda one: one.size, default=None)

    def begin_anew(self, recovery: LogRecovery) -> None:
        """Forgets what was read of a log that has gone on from less, but for the trees that it must begin with."""
        kept = [one for one in self.settled if one[0] < recovery.size]
        self.held = dict([*kept, (recovery.size, recovery.root)])
        self.settled, self.checked = [], Account()
        self.seen = self.towards = self.unfinished = None

    def keep_evidence(self, notes: list[bytes]) -> Path:
        """Each checkpoint as it was signed, in a file of its own; the folder of them."""
        folder = self.path.with_suffix(".evidence")
        for one in notes:
            self._keep(folder / f"{hashlib.sha256(one).hexdigest()[:32]}.note", one)
        return folder

    def _keep(self, path: Path, data: bytes) -> None:
        try:
            write_whole(path, data)
        except OSError as error:
            message = f"{path} cannot be written: {error.strerror}."
            raise Fault("audit.unwritable", message, retryable=False) from None


def _members(value: Any, genesis: Statement) -> dict[str, Any]:
    if value["format"] != FORMAT or value["genesis"] != genesis.digest:
        raise ValueError("another format, or of another installation")
    log_chain = value.get("log_chain", "").encode()  # a state from before there was any has none
    chain = Chain.begin(genesis)
    if log_chain:
        chain = LogChain.from_bytes(log_chain).check(genesis.digest)
    seen, towards = (
        _opened(value[name].encode(), chain) if value[name] else None
        for name in ("note", "towards")
    )
    checked = _account(value["checked"])
    if (checked.size, checked.root) != (
        (seen.checkpoint.size, seen.checkpoint.root) if seen else (0, Account().root)
    ):
        raise ValueError("not what its checkpoint says")
    unfinished = _account(value["unfinished"]) if value["unfinished"] else None
    held, settled = (
        [(int(size), str(root)) for size, root in value.get(name, [])]
        for name in ("held", "settled")
    )
    return {
        "chain": chain,
        "held": dict(held),
        "settled": settled,
        "log_chain": log_chain,
        "checked": checked,
        "seen": seen,
        "towards": towards,
        "unfinished": unfinished,
    }


def recoveries(chain: Chain) -> list[LogBody]:
    """The log after each of its recoveries, in order."""
    logs = [one for one in chain.ever_in_force(Kind.LOG).values() if isinstance(one, LogBody)]
    return [one for one in logs if one.recovery]


def _recoveries(chain: Chain, origin: str) -> list[LogRecovery]:
    """Those since the log was called `origin`."""
    found = recoveries(chain)
    since = next((n for n, one in enumerate(found, 1) if one.origin == origin), 0)
    return [one.recovery for one in found[since:] if one.recovery]


def _size(checkpoint: Checkpoint) -> int:
    return checkpoint.size


def _opened(note: bytes, chain: Chain) -> Seen:
    logs = [one for one in chain.ever_in_force(Kind.LOG).values() if isinstance(one, LogBody)]
    log = next((one for one in logs if is_signed_by(note, one)), chain.body.log)
    return Seen.open(note, log)


def _note(seen: Seen | None) -> str:
    return seen.note.decode() if seen else ""


def _account_json(account: Account) -> JsonObject:
    return {
        **asdict(account),
        "edge": [one.hex() for one in account.edge],
        "approved": sorted(account.approved),
        "verified": sorted(account.verified),
        "findings": [one.to_json() for one in account.findings],
    }


def _account(value: Any) -> Account:
    return Account(
        **{
            **value,
            "edge": [bytes.fromhex(one) for one in value["edge"]],
            "approved": set(value["approved"]),
            "verified": set(value["verified"]),
            "findings": [Finding(**one) for one in value["findings"]],
        }
    )


def _damaged(path: Path) -> CannotSayError:
    return CannotSayError(
        f"{path} is damaged, or of another installation, so nothing can be compared with last time.",
        "Put it back from a backup, or name another file with --state: everything is then read from the beginning.",
    )
