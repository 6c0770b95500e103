"""Following a ledger: what whoever reads all of it can check, with the pinned genesis and nothing else.

No I/O: a reader of files is handed in. The rules, in this order:
1. a checkpoint counts if it has the name of the log in force, and the key in force signed it (`verify.log_chain`);
2. it is not smaller than one seen before, and one of the same size has the same root;
3. the entries, hashed on from those read before (RFC 6962 section 2.1), come to its root. If they do not, either the
   log has signed two histories, which its own tiles then show, or what is served is not what was signed;
4. the first entry is genesis, and no other one is;
5. every entry is of a kind that a press writes, with its members;
6. a release is approved before the press means to send it, and verified after that, once, with the same files;
7. nothing is meant to be sent after a veto of it, nor while its project or everything is frozen. What a quorum has
   cleared is frozen no more.

What breaks 1 to 3 is believed nothing of. What breaks 4 to 7 was signed by the press, and is a finding.
"""

from __future__ import annotations

import base64
import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from presspass.core.digests import JsonObject, canonical, sha256_hex
from presspass.core.errors import Code, Refusal
from presspass.core.ledger import merkle, tiles
from presspass.core.ledger.checkpoint import Checkpoint
from presspass.core.ledger.note import VerifierKey
from presspass.core.ledger.tiles import ENTRIES, HASH_BYTES, HEIGHT, WIDTH, Tile
from presspass.core.limits import AUDIT_FINDINGS_MAX
from presspass.core.log import LogBody
from presspass.core.statement import Kind, ReleaseFile, Statement
from presspass.formats.filenames import parse_filename
from presspass.verify.entries import KINDS, Line, read_entry
from presspass.verify.proof import open_checkpoint

#: A file of the log by its path (C2SP tlog-tiles); None where there is none.
Fetch = Callable[[str], bytes | None]
UNKNOWN_KIND: Final = "entry.unknown-kind"
_ENDS: Final = frozenset({"admitted", "rejected", "expired", "stale", "failed", "refused"})
_NOTHING: Final[Mapping[int, str]] = MappingProxyType({})
_TRY_AGAIN: Final = (
    "Nothing of it is believed. Run it again, from another network or from a copy; "
    "if it stays, tell the operators."
)


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that should not stand in the ledger, or at a registry. `position`: of the entry, None of no entry."""

    code: str
    message: str
    position: int | None = None

    def to_json(self) -> JsonObject:
        return {"code": self.code, "message": self.message, "position": self.position}


@dataclass(frozen=True, slots=True)
class Seen:
    """A checkpoint with the note in which the log signed it. `witnesses`: name of each that was asked for and has
    cosigned it, and when (Unix seconds).
    """

    note: bytes
    checkpoint: Checkpoint
    witnesses: tuple[tuple[str, int], ...] = ()

    @classmethod
    def open(cls, note: bytes, log: LogBody, witnesses: Sequence[VerifierKey] = ()) -> Seen:
        """Rule 1; refuses with `proof.invalid` a note of anybody else."""
        opened = open_checkpoint(note, log, witnesses)
        return cls(note, opened.checkpoint, opened.witnesses)


@dataclass(slots=True)
class Account:
    """What the first `size` entries say. `edge`: see `merkle.append`; `began_at`: Unix seconds of genesis; `approved`
    and `intents` (to the digest of the files): of releases that are not yet at their end; `files`: every published name
    to its SHA-256s; `frozen`: id of a freeze to its project, "" for all; `logs`: statements about the log itself, in
    their order; `untold`: findings beyond the limit.
    """

    size: int = 0
    edge: list[bytes] = field(default_factory=list)
    began_at: int = 0
    kinds: dict[str, int] = field(default_factory=dict)
    approved: set[str] = field(default_factory=set)
    intents: dict[str, str] = field(default_factory=dict)
    verified: set[str] = field(default_factory=set)
    files: dict[str, list[str]] = field(default_factory=dict)
    frozen: dict[str, str] = field(default_factory=dict)
    logs: list[str] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    untold: int = 0

    @property
    def root(self) -> bytes:
        """Of the tree of these entries."""
        return merkle.edge_root(self.edge)

    def take(self, data: bytes, genesis: Statement) -> None:
        """Adds one entry, by the rules 4 to 7."""
        position = self.size
        merkle.append(position, self.edge, merkle.leaf_hash(data))
        self.size += 1
        try:
            line = read_entry(data, genesis.space)
        except Refusal as refusal:
            return self._find("entry.malformed", refusal.message, position)
        kind = line.kind if line.known else "unknown"
        self.kinds[kind] = self.kinds.get(kind, 0) + 1
        self._check_genesis(line, genesis, position)
        if not line.known:
            text = f"It is of the kind {line.kind!r}, which is newer than this program."
            return self._find(UNKNOWN_KIND, text, position)
        if line.kind == "admitted" and line.what == Kind.LOG.value:
            self.logs.append(line.statement)
        self._check_stop(line)
        return self._check_release(line, position)

    def _check_genesis(self, line: Line, genesis: Statement, position: int) -> None:
        first = position == 0
        if first:
            self.began_at = line.at
        if first != (line.kind == "genesis") or (first and line.statement != genesis.digest):
            text = "The ledger begins with something else than the genesis that you trust."
            again = "Genesis stands here a second time."
            self._find("entry.genesis", text if first else again, position)

    def _check_release(self, line: Line, position: int) -> None:
        if line.kind == "approved":
            self.approved.add(line.statement)
        elif line.kind == "intent":
            self._check_intent(line, position)
        elif line.kind == "verified":
            self._check_verified(line, position)
        elif line.kind in _ENDS:
            self._forget(line.statement)

    def _check_stop(self, line: Line) -> None:
        ends = line.kind == "narrowing" and line.what in ("veto", "release")
        if line.kind == "cleared":
            self.frozen.pop(line.id, None)
        elif line.kind == "narrowing" and line.what == "freeze":
            self.frozen[line.id] = line.target
        elif ends and line.target == "open:":  # everything that was open
            self.approved &= set(self.intents)
        elif ends and line.target not in self.intents:
            self.approved.discard(line.target)

    def _check_intent(self, line: Line, position: int) -> None:
        if line.statement not in self.approved:
            text = _said(line, "is sent without approval, or after a veto")
            self._find("entry.unapproved", text, position)
        if set(self.frozen.values()) & {"", *projects(file.name for file in line.files)}:
            self._find("entry.frozen", _said(line, "is sent while it is frozen"), position)
        self.intents[line.statement] = _files_digest(line.files)

    def _check_verified(self, line: Line, position: int) -> None:
        statement = line.statement
        if statement in self.verified:
            self._find("entry.repeated", _said(line, "is verified a second time"), position)
        elif statement not in self.approved or statement not in self.intents:
            self._find("entry.unapproved", _said(line, "is verified without approval"), position)
        elif self.intents[statement] != _files_digest(line.files):
            self._find("entry.other-files", _said(line, "is not what was to be sent"), position)
        self.verified.add(statement)
        self._forget(statement)
        for file in line.files:
            known = self.files.setdefault(file.name, [])
            if file.sha256 not in known:
                known.append(file.sha256)

    def _forget(self, statement: str) -> None:
        self.approved.discard(statement)
        self.intents.pop(statement, None)

    def _find(self, code: str, message: str, position: int) -> None:
        if len(self.findings) < AUDIT_FINDINGS_MAX:
            self.findings.append(Finding(code, message, position))
        else:
            self.untold += 1


def projects(files: Iterable[str]) -> dict[str, list[str]]:
    """Names of files by project (normal form); those of no wheel and no sdist are left out."""
    found: dict[str, list[str]] = {}
    for name in sorted(files):
        with contextlib.suppress(Refusal):
            found.setdefault(parse_filename(name).project, []).append(name)
    return found


def check_growth(old: Checkpoint, new: Checkpoint) -> None:
    """Rule 2; refuses with `log.smaller` or `log.forked`."""
    if new.size < old.size:
        raise Refusal(
            Code.LOG_SMALLER,
            f"The log has {new.size} entries; it had {old.size}.",
            "Was a backup restored, or is an old copy served? If neither, signed entries were taken away.",
        )
    if new.size == old.size and new.root != old.root:
        raise _forked(f"The log has signed two trees of {new.size} entries.")


def read_on(
    fetch: Fetch,
    account: Account,
    size: int,
    genesis: Statement,
    held: Mapping[int, str] = _NOTHING,
) -> Iterator[int]:
    """Takes the entries up to `size` into `account`; yields after each bundle how many it brought. `held`: size to root
    (hex) of trees that it must begin with, else refuses with `log.forked`.
    """
    while account.size < size:
        index, inside = divmod(account.size, WIDTH)
        entries = _entries(fetch, Tile(ENTRIES, index, min(WIDTH, size - index * WIDTH)))
        for entry in entries[inside:]:
            account.take(entry, genesis)
            if held.get(account.size, "") not in ("", account.root.hex()):
                raise _forked(
                    f"The recovered log begins with {account.size} other entries than it says, or than were seen."
                )
        yield len(entries) - inside


def check_root(
    fetch: Fetch,
    account: Account,
    goal: Checkpoint,
    newest: Checkpoint,
    before: Sequence[Checkpoint],
) -> None:
    """Rule 3, at the size of `goal`. `before`: checkpoints seen earlier than `newest`, by which two histories show."""
    if account.root == goal.root:
        return
    for old in before:
        if _rewritten(fetch, old, newest):
            raise _forked(
                f"The log of {newest.size} entries does not contain the {old.size} entries that it signed before."
            )
    raise Refusal(
        Code.LOG_DAMAGED,
        f"The entries that are served do not come to the signed root of {goal.size} entries.",
        _TRY_AGAIN,
    )


def _rewritten(fetch: Fetch, old: Checkpoint, new: Checkpoint) -> bool:
    """Whether the tree of `new` provably has another beginning than `old` says: its own tiles show which."""
    read = tiles.node_reader(lambda level, index: _hashes(fetch, level, index, new.size))
    if not 0 < old.size < new.size:
        return False
    try:
        begins = merkle.root(old.size, read)
        proof = merkle.consistency_proof(old.size, new.size, read)
    except IndexError:
        return False
    shown = merkle.verify_consistency(old.size, new.size, begins, new.root, proof)
    return shown and begins != old.root


def _hashes(fetch: Fetch, level: int, index: int, size: int) -> bytes:
    width = min(WIDTH, (size >> HEIGHT * level) - index * WIDTH)
    data = _file(fetch, Tile(level, index, width)) if width > 0 else None
    return data[: width * HASH_BYTES] if data and len(data) % HASH_BYTES == 0 else b""


def _entries(fetch: Fetch, tile: Tile) -> list[bytes]:
    """Of the whole bundle only those that `tile` has, where it stands in for one that is gone."""
    data, width = fetch(tile.path), tile.width
    if data is None and tile.width < WIDTH:
        data, width = fetch(Tile(ENTRIES, tile.index).path), WIDTH
    if data is None:
        raise Refusal(
            Code.LOG_DAMAGED,
            f"{tile.path} is not served, though a checkpoint covers it.",
            _TRY_AGAIN,
        )
    try:
        return tiles.entries_of(data, width)[: tile.width]
    except Refusal as refusal:
        message = f"{tile.path}: {refusal.message}"
        raise Refusal(Code.LOG_DAMAGED, message, _TRY_AGAIN) from None


def _file(fetch: Fetch, tile: Tile) -> bytes | None:
    """Partial ones may go when the whole one is there (tlog-tiles, "Partial tiles")."""
    data = fetch(tile.path)
    return (
        data
        if data is not None or tile.width == WIDTH
        else fetch(Tile(tile.level, tile.index).path)
    )


def _forked(message: str) -> Refusal:
    hint = "Trust no proof of this gate until it is explained; show both checkpoints to other auditors."
    return Refusal(Code.LOG_FORKED, message, hint)


def _said(line: Line, what: str) -> str:
    return f"The release {line.statement[:16]}… {what}."


def _files_digest(files: Sequence[ReleaseFile]) -> str:
    return sha256_hex(canonical({"files": [file.to_json() for file in files]}))


def root_text(checkpoint: Checkpoint) -> str:
    """The root as it stands in the checkpoint."""
    return base64.b64encode(checkpoint.root).decode()


__all__ = [
    "KINDS", "UNKNOWN_KIND", "Account", "Fetch", "Finding", "Seen", "check_growth", "check_root", "projects", "read_on",
    "root_text",
]  # fmt: skip
