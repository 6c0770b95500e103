"""Requirement files of pip and uv with `--hash` (pip, "Requirements File Format", "Secure installs").

Read strictly, since what is checked must be what is installed:
1. A logical line is a requirement with options, or options alone. Each option is spelled out: pip takes any beginning
   of its name as well, so one that is not known here is told of, never passed over.
2. A requirement is one by name (PEP 508), also `NAME @ URL`; each has hashes, all of which count: any of them will do
   for an installer. So an address has no fragment, in which pip finds hashes too.
3. Where a comment, an encoding or an unusual end of a line could be read in two ways, the file says nothing.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from presspass.formats.pins import Lock, Pin, Unpinned, decoded, is_hash, malformed

_COMMENT: Final = re.compile(r"(^|\s+)#.*$")
#: PEP 263, which pip reads in the first two lines.
_ENCODING: Final = re.compile(r"^#.*coding[:=]\s*([-\w.]+)")
_VARIABLE: Final = "${"
#: Options of a whole file that change nothing in what a hash lets through, with and without a value.
_FLAGS: Final = frozenset({"--pre", "--require-hashes", "--no-index", "--prefer-binary"})
_VALUED: Final = frozenset(
    {"-i", "--index-url", "--extra-index-url", "-f", "--find-links", "--no-binary", "--only-binary"}
    | {"--trusted-host", "--use-feature"}
)
#: A constraint can name an address, and a hash with it: what is installed then is on no line of this file.
_CONSTRAINTS: Final = frozenset({"-c", "--constraint", "--build-constraint"})
_INCLUDES: Final = frozenset({"-r", "--requirement"})
_EDITABLE: Final = frozenset({"-e", "--editable"})
_HASH: Final = "--hash"
#: Ends of lines to some programs and not to others, and other characters that act on a terminal.
_ODD: Final = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\x85\u2028\u2029]|\r(?!\n)")


@dataclass(slots=True)
class _Found:
    pins: list[Pin] = field(default_factory=list)
    unpinned: list[Unpinned] = field(default_factory=list)
    includes: list[tuple[int, str]] = field(default_factory=list)

    def wrong(self, line: int, why: str, *names: str) -> None:
        self.unpinned.append(Unpinned(line, names, why))


def read_requirements(data: bytes) -> Lock:
    """What a requirement file pins; refuses with `request.malformed` what is no text that all read alike."""
    text = decoded(data, "requirement file")
    odd = _ODD.search(text)
    if odd is not None:
        at = text.count("\n", 0, odd.start()) + 1
        raise malformed(f"Line {at} of the requirement file has a control character.")
    lines = text.replace("\r\n", "\n").split("\n")
    for line in lines[:2]:
        named = _ENCODING.match(line)
        if named is not None and named[1].lower() not in ("utf-8", "utf8"):
            raise malformed(f"The requirement file says that it is {named[1]}, not UTF-8.")
    found = _Found()
    for number, logical in _logical(lines, found):
        _take(number, logical, found)
    return Lock(tuple(found.pins), tuple(found.unpinned), tuple(found.includes))


def _logical(lines: list[str], found: _Found) -> Iterator[tuple[int, str]]:
    """Lines as they are meant, each with its first number: continued ones joined, without comments and empty ones."""
    begun, first = "", 0
    for number, line in enumerate(lines, 1):
        comment = line.lstrip().startswith("#")
        if begun and comment:
            # pip ends the requirement here, other tools do not.
            found.wrong(number, "a comment stands within a continued line")
            begun = ""
        if line.endswith("\\") and not comment:
            first = first if begun else number
            begun += line[:-1] or " "
            continue
        yield from _stripped(first if begun else number, begun + line)
        begun = ""
    yield from _stripped(first, begun)


def _stripped(number: int, line: str) -> Iterator[tuple[int, str]]:
    text = _COMMENT.sub("", line).strip()
    if text:
        yield number, text


def _take(number: int, line: str, found: _Found) -> None:
    if _VARIABLE in line:
        found.wrong(number, "it depends on a variable of the environment")
        return
    words = line.split(" ")
    at = next((n for n, word in enumerate(words) if word.startswith("-")), len(words))
    wanted, rest = " ".join(words[:at]).strip(), " ".join(words[at:])
    try:
        options = shlex.split(rest)
    except ValueError:
        found.wrong(number, "its options cannot be read: a quotation mark is missing")
        return
    if wanted:
        _take_requirement(number, wanted, options, found)
    else:
        _take_options(number, options, found)


def _take_requirement(number: int, wanted: str, options: list[str], found: _Found) -> None:
    try:
        requirement = Requirement(wanted)
    except InvalidRequirement:
        found.wrong(number, "this is no requirement by name; write NAME @ URL for an address")
        return
    name = canonicalize_name(requirement.name)
    if "#" in (requirement.url or ""):
        found.wrong(number, "its address has a fragment, which can hold another hash", name)
        return
    hashes = []
    for option, value in _pairs(options):
        algorithm, _, digits = value.partition(":")
        if option != _HASH:
            found.wrong(number, f"the option {option} is not known here", name)
            return
        if not is_hash(algorithm, digits):
            found.wrong(number, "a hash is not sha256 or sha512 in small hex digits", name)
            return
        hashes.append((algorithm, digits))
    if not hashes:
        found.wrong(number, "it has no hash", name)
        return
    pinned = [one.version for one in requirement.specifier if one.operator in ("==", "===")]
    version = pinned[0] if len(pinned) == 1 and not pinned[0].endswith("*") else ""
    found.pins.append(Pin(number, (name,), version, tuple(dict.fromkeys(hashes))))


def _take_options(number: int, options: list[str], found: _Found) -> None:
    for option, value in _pairs(options):
        if option in _INCLUDES and value:
            found.includes.append((number, value))
        elif option in _CONSTRAINTS:
            found.wrong(
                number, "a constraint can replace what is installed; check the file that is locked"
            )
        elif option in _EDITABLE:
            found.wrong(number, "nothing pins what is installed from a folder or repository")
        elif (option in _FLAGS) != (not value) or option not in _FLAGS | _VALUED:
            found.wrong(number, f"the option {option} is not known here")


def _pairs(options: list[str]) -> Iterator[tuple[str, str]]:
    """Options with their values, "" for none: --name=value, --name value, -n value."""
    left = list(options)
    while left:
        name, equals, value = left.pop(0).partition("=")
        if not equals and name not in _FLAGS and left and not left[0].startswith("-"):
            value = left.pop(0)
        yield name, value
