"""The log from here on: its name in checkpoints, and the key that signs them.

Both come from genesis, until people put others in force by a statement: another key of the same name (rotation), or,
where the ledger has lost entries that others have seen, another name as well (recovery), since two trees of one name
must never be shown.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from presspass.core.digests import JsonObject
from presspass.core.limits import URL_CHARS_MAX
from presspass.core.strict import Members

_ORIGIN_CHARS_MAX: Final = (
    URL_CHARS_MAX + 32
)  # the gate's origin, "/log", and the number of a recovery
_REASON_CHARS_MAX: Final = 1000


def log_origin(origin: str, recoveries: int = 0) -> str:
    """The log's name in checkpoints: the host and port of the gate's `origin` at genesis, then "/log"; after each
    recovery another one, "/log/2" first.
    """
    name = origin.split("://", 1)[-1] + "/log"
    return f"{name}/{recoveries + 1}" if recoveries else name


@dataclass(frozen=True, slots=True)
class LogRecovery:
    """What the log goes on from, and what is given up. Roots are hex.

    `size`, `root`: the tree with which the recovered log begins, so far as others have seen the same; what is left
    beyond it follows, under the new name. `seen_size`, `seen_root`: the largest tree that anybody has seen under the
    old name, "" where only its size is known; `reason`: in words.
    """

    size: int
    root: str
    seen_size: int
    seen_root: str
    reason: str

    def to_json(self) -> JsonObject:
        return {
            "reason": self.reason,
            "root": self.root,
            "seen_root": self.seen_root,
            "seen_size": self.seen_size,
            "size": self.size,
        }

    @classmethod
    def from_json(cls, value: object) -> LogRecovery:
        members = Members(value, "recovery of the log")
        recovery = cls(
            members.integer("size", low=1),
            members.sha256("root"),
            members.integer("seen_size", low=1),
            members.sha256_or_empty("seen_root"),
            members.text("reason", chars_max=_REASON_CHARS_MAX),
        )
        members.done()
        return recovery


@dataclass(frozen=True, slots=True)
class LogBody:
    """`origin`: the log's name in checkpoints; `key`: the Ed25519 key (raw, hex) that signs them; `recovery`: None
    where the log merely gets another key.
    """

    origin: str
    key: str
    recovery: LogRecovery | None = None

    @property
    def public_key(self) -> bytes:
        """The key's 32 bytes."""
        return bytes.fromhex(self.key)

    def to_json(self) -> JsonObject:
        recovery = {"recovery": self.recovery.to_json()} if self.recovery else {}
        return {"key": self.key, "origin": self.origin, **recovery}

    @classmethod
    def from_json(cls, value: object) -> LogBody:
        members = Members(value, "log statement")
        body = cls(
            members.text("origin", chars_max=_ORIGIN_CHARS_MAX),
            members.sha256("key"),
            members.optional("recovery", LogRecovery.from_json),
        )
        members.done()
        return body
