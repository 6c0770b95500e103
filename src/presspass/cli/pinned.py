"""What lock files pin, each hash against the proof of its file: for `install-check`."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from presspass.cli.exits import CannotSayError
from presspass.cli.show import note, safe
from presspass.core.errors import Code, Fault, Refusal
from presspass.core.ledger.note import VerifierKey
from presspass.core.ledger.revocations import RevocationHead
from presspass.core.limits import LOCK_FILE_BYTES_MAX, PROOF_BYTES_MAX
from presspass.core.statement import ReleaseBody
from presspass.formats.npm_lock import read_npm_lock
from presspass.formats.pins import Lock, Pin, Unpinned
from presspass.formats.python_lock import read_pylock, read_uv_lock
from presspass.formats.requirement_file import read_requirements
from presspass.verify.log_chain import LogChain
from presspass.verify.many import check_all
from presspass.verify.proof import Proof, Valid, file_of
from presspass.verify.revocations import check_not_revoked, no_head, open_head

if TYPE_CHECKING:
    from presspass.cli.client import Gate
    from presspass.core.digests import JsonObject
    from presspass.verify.verifier import Verifier

Hash = tuple[str, str]
PROOFS = "*.presspass.json"


@dataclass(frozen=True, slots=True)
class Line:
    """What stands on one line of a file."""

    file: Path
    found: Pin | Unpinned


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a pin does not pass. `hash`: "" where the line has none; `unknown`: neither yes nor no can be said."""

    line: Line
    hash: str
    why: str
    code: str
    unknown: bool = False

    @property
    def name(self) -> str:
        """What the line is about, as people write it."""
        found = self.line.found
        version = found.version if isinstance(found, Pin) else ""
        return " ".join(one for one in (*found.names[:1], version) if one)

    def to_json(self) -> JsonObject:
        return {
            "file": str(self.line.file),
            "line": self.line.found.line,
            "name": self.name,
            "hash": self.hash,
            "why": self.why,
            "code": self.code,
            "unknown": self.unknown,
        }


# what is pinned


def read_lines(files: Sequence[Path]) -> list[Line]:
    """Every line of these files, and of those that they include from the same folder, that installs something."""
    found: list[Line] = []
    pending, seen = list(files), set[Path]()
    while pending:
        path = pending.pop(0)
        if path.resolve() in seen:
            continue
        seen.add(path.resolve())
        lock = _read_lock(path)
        found += [Line(path, one) for one in lock.pins]
        found += [Line(path, one) for one in lock.unpinned]
        for line, included in lock.includes:
            if Path(included).name == included and "\\" not in included:
                pending.append(path.parent / included)
            else:
                why = "it includes a file that is not in the same folder; check that one by itself"
                found.append(Line(path, Unpinned(line, (), why)))
    return found


def _read_lock(path: Path) -> Lock:
    try:
        with path.open("rb") as file:
            data = file.read(LOCK_FILE_BYTES_MAX + 1)
    except OSError as error:
        raise CannotSayError(f"{path} cannot be read: {error.strerror}.") from None
    if len(data) > LOCK_FILE_BYTES_MAX:
        raise CannotSayError(f"{path} is larger than {LOCK_FILE_BYTES_MAX} bytes.")
    name = path.name
    if name.endswith(".json"):
        read = read_npm_lock
    elif name == "uv.lock":
        read = read_uv_lock
    else:
        read = read_pylock if name.endswith(".toml") else read_requirements
    try:
        return read(data)
    except Refusal as refusal:
        raise CannotSayError(f"{path}: {refusal.message}", refusal.hint) from None


def only(lines: Iterable[Line], patterns: Sequence[str]) -> list[Line]:
    """The lines about packages that one of these names; where there is none, all but the project's own folders. A line
    that says no name is about any.
    """
    wanted = {*patterns, *map(canonicalize_name, patterns)}
    return [
        one
        for one in lines
        if (not wanted and not (isinstance(one.found, Unpinned) and one.found.own))
        or not one.found.names
        or any(fnmatchcase(name, pattern) for name in one.found.names for pattern in wanted)
    ]


# their proofs


class Source(Protocol):
    """Where proofs come from."""

    def find(self, pinned: Hash) -> list[Valid]:
        """The valid proofs of a file with this hash; refuses with the reason where there are only others."""


@dataclass(slots=True)
class Folder:
    """A folder of proofs, each checked once. `wrong`: by the SHA-256 that a proof claims, why it does not hold."""

    valid: dict[Hash, list[Valid]] = field(default_factory=dict)
    wrong: dict[Hash, Refusal] = field(default_factory=dict)

    def add(self, paths: Iterable[Path], trust: Trust) -> Iterator[None]:
        """Takes them in, one at each step; what cannot be read as a proof is told of and is none."""
        pending = deque[tuple[Path, bytes]]()

        def proofs() -> Iterator[bytes]:
            for path in paths:
                try:
                    with path.open("rb") as file:
                        data = file.read(PROOF_BYTES_MAX + 1)
                except OSError as error:
                    note(f"{safe(path)} cannot be read: {error.strerror}")
                    continue
                pending.append((path, data))
                yield data

        for said in check_all(trust.trust_root, proofs(), trust.witnesses):
            path, data = pending.popleft()
            if isinstance(said, Valid):
                for pinned in (("sha256", said.file.sha256), ("sha512", said.sha512)):
                    self.valid.setdefault(pinned, []).append(said)
            else:
                self._refused(path, data, said)
            yield

    def _refused(self, path: Path, data: bytes, refusal: Refusal) -> None:
        try:
            claimed = file_of(Proof.from_bytes(data)).sha256
        except Refusal as unreadable:
            note(f"{safe(path)} is no proof: {safe(unreadable.message)}")
            return
        self.wrong["sha256", claimed] = refusal

    def find(self, pinned: Hash) -> list[Valid]:
        found = self.valid.get(pinned, [])
        if not found and pinned in self.wrong:
            raise self.wrong[pinned]
        return found


@dataclass(frozen=True, slots=True)
class OfGate:
    """The proofs that a gate serves by the SHA-256 of their files."""

    gate: Gate
    verifier: Verifier

    def find(self, pinned: Hash) -> list[Valid]:
        algorithm, digits = pinned
        if algorithm != "sha256":
            raise CannotSayError(
                "A gate serves proofs by SHA-256, and this file pins by SHA-512.",
                "Give a folder with the proofs instead: --proofs DIR.",
            )
        try:
            data = self.gate.get_bytes(f"/log/proof/{digits}", bytes_max=PROOF_BYTES_MAX)
        except Refusal as refusal:
            if refusal.code is Code.REQUEST_NOT_FOUND:
                return []
            raise
        except Fault as fault:
            raise CannotSayError(fault.message) from None
        valid = self.verifier.open(data)
        if valid.file.sha256 != digits:
            raise Refusal(Code.PROOF_WRONG_FILE, "The gate's proof is about another file.")
        return [valid]


@dataclass(slots=True)
class Trust:
    """By what proofs are judged. `trust_root`: the content of its file; `head`: a revocation head as it was given, None
    for none; `max_age_s`, `now_s`: how old it may be, and Unix seconds; `log_chain`: what leads to the key that signed
    it.
    """

    trust_root: bytes
    witnesses: tuple[VerifierKey, ...]
    head: bytes | None
    max_age_s: int | None
    now_s: int
    log_chain: LogChain | None = None
    _heads: dict[VerifierKey, RevocationHead] = field(default_factory=dict)

    def check_standing(self, valid: Valid) -> None:
        """Refuses what was revoked, with `proof.revocation-unknown` where that cannot be said."""
        if self.head is None and self.max_age_s is None:
            return
        if not self.head:
            raise no_head(valid)
        if valid.log not in self._heads:
            self._heads[valid.log] = open_head(self.head, valid, self.log_chain)
        head = self._heads[valid.log]
        check_not_revoked(head, valid, max_age_s=self.max_age_s, now_s=self.now_s)


# the verdict


def failures(line: Line, source: Source, trust: Trust) -> Iterator[Failure]:
    """Why this line does not pass; nothing where every hash on it has a valid proof."""
    if isinstance(line.found, Unpinned):
        yield Failure(line, "", line.found.why, "unpinned")
        return
    for pinned in line.found.hashes:
        written = ":".join(pinned)
        try:
            said = _objection(line.found, source.find(pinned), trust)
        except Refusal as refusal:
            unknown = refusal.code is Code.PROOF_REVOCATION_UNKNOWN
            yield Failure(line, written, refusal.message, refusal.code.value, unknown)
            continue
        if said is not None:
            yield Failure(line, written, *said)


def _objection(pin: Pin, found: list[Valid], trust: Trust) -> tuple[str, str, bool] | None:
    """Why the valid proofs of a hash are not enough, in words and a code, and whether nothing can be said; None where
    they are. Refuses as `Trust.check_standing`.
    """
    if not found:
        return "no proof", "no-proof", False
    mine = [one for one in found if _is_of(one.release, pin)]
    if not mine:
        release = found[0].release
        why = f"its proof is of {release.project} {release.version}"
        return why, Code.PROOF_WRONG_FILE.value, False
    for one in mine:
        trust.check_standing(one)
    wanted = {key.name for key in trust.witnesses}
    if not any(wanted <= {name for name, _ in one.witnesses} for one in mine):
        return "its proof lacks a cosignature that was asked for", "no-cosignature", True
    return None


def _is_of(release: ReleaseBody, pin: Pin) -> bool:
    """Whether what is pinned is this release: bytes that were approved under another name are no answer."""
    same = not pin.version or pin.version == release.version
    with contextlib.suppress(InvalidVersion):
        same = same or Version(pin.version) == Version(release.version)
    return same and release.project == pin.names[0]
