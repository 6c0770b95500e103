"""What a lock file pins: names, versions and hashes, each with the line on which it stands."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from presspass.core.errors import Code, Refusal

#: Hash algorithms by which a file is known to its proof, with their hex digits.
DIGITS: Final = {"sha256": 64, "sha512": 128}
_HEX: Final = re.compile(r"[0-9a-f]+")


@dataclass(frozen=True, slots=True)
class Pin:
    """One package. `names`: what it is called, first as its registry does; `version`: "" where any will do; `hashes`:
    (algorithm, hex) pairs, any of which an installer takes.
    """

    line: int
    names: tuple[str, ...]
    version: str
    hashes: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Unpinned:
    """A line that lets something be installed without a hash that can be looked up. `names`: () where none is said;
    `own`: whether it is a folder of the project, which fails only where its name is asked for.
    """

    line: int
    names: tuple[str, ...]
    why: str
    own: bool = False


@dataclass(frozen=True, slots=True)
class Lock:
    """A lock file as it was read. `includes`: (line, path) of files that it says are a part of it."""

    pins: tuple[Pin, ...] = ()
    unpinned: tuple[Unpinned, ...] = ()
    includes: tuple[tuple[int, str], ...] = ()


def sorted_out(found: Sequence[Pin | Unpinned]) -> Lock:
    """The lock file that has these."""
    return Lock(
        tuple(one for one in found if isinstance(one, Pin)),
        tuple(one for one in found if isinstance(one, Unpinned)),
    )


class Lines:
    """Where words stand in a text whose parser does not say it."""

    def __init__(self, text: str) -> None:
        self._text = text

    def of(self, *words: str) -> int:
        """The number of the first line with the first of these that stands in the text; 1 where none does."""
        found = (self._text.find(word) for word in words if word)
        at = next((one for one in found if one >= 0), 0)
        return self._text.count("\n", 0, at) + 1


def is_hash(algorithm: str, digits: str) -> bool:
    """Whether this is a hash of a file as proofs have them, in small letters."""
    return len(digits) == DIGITS.get(algorithm) and _HEX.fullmatch(digits) is not None


def decoded(data: bytes, what: str) -> str:
    """UTF-8 text, with or without a byte order mark; refuses with `request.malformed`."""
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise malformed(f"The {what} is not UTF-8.") from None


def malformed(why: str) -> Refusal:
    """The refusal of a file that cannot be read as what its name says."""
    return Refusal(Code.REQUEST_MALFORMED, why, "Write it anew with the tool that made it.")
