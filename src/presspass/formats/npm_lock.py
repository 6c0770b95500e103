"""Lock files of npm: package-lock.json and npm-shrinkwrap.json, lockfileVersion 2 and 3 (npm, "package-lock.json").

Each package that is installed from elsewhere has an `integrity` with SHA-512 (Subresource Integrity). `packages` is
what npm reads since version 7, `dependencies` beside it (version 2) what older ones do: both are held to it. The
project's own folders, which `packages` lists without an address, and links to them, are not installed from anywhere.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from typing import Any, Final

from presspass.formats.pins import Lines, Lock, Pin, Unpinned, decoded, malformed, sorted_out

_VERSIONS: Final = (2, 3)
_INSTALLED: Final = "node_modules/"
#: The one spelling that is taken. Programs differ in what else stands between two hashes, and in what they drop.
_INTEGRITY: Final = re.compile(r"sha512-[A-Za-z0-9+/]{86}==(?: sha512-[A-Za-z0-9+/]{86}==)*")
_SHA512: Final = "sha512-"
#: Where the bytes are that `integrity` is about; npm does not hold what it clones to it.
_FILE_AT: Final = ("https://", "http://", "file:")
_LINK: Final = "file:"
_DEPTH_MAX: Final = 100


def read_npm_lock(data: bytes) -> Lock:
    """What a lock file of npm pins; refuses with `request.malformed` what is none, or of another version."""
    text = decoded(data, "npm lock file")
    try:
        value = json.loads(text, object_pairs_hook=_once)
    except (ValueError, RecursionError):
        raise malformed("The npm lock file is no JSON, or names something twice.") from None
    version = value.get("lockfileVersion") if isinstance(value, dict) else None
    if version not in _VERSIONS or isinstance(version, bool):
        raise malformed("The npm lock file is not of lockfileVersion 2 or 3.")
    packages, older = value.get("packages"), value.get("dependencies", {})
    if not isinstance(packages, dict) or not isinstance(older, dict):
        raise malformed("The npm lock file has no 'packages'.")
    lines = Lines(text)
    return sorted_out([*_packages(packages, lines), *_dependencies(older, packages, lines, 0)])


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({name for name, _ in pairs}) != len(pairs):
        raise ValueError("a member stands twice")
    return dict(pairs)


def _packages(packages: dict[str, Any], lines: Lines) -> Iterator[Pin | Unpinned]:
    for place, entry in packages.items():
        if not isinstance(entry, dict):
            raise malformed(f"The npm lock file has no object at {place[:200]!r}.")
        if place and not _is_plain(place):
            raise malformed(f"The npm lock file has the unusual path {place[:200]!r}.")
        where = f"{json.dumps(place)}:"
        called = place.rpartition(_INSTALLED)[2]
        if _INSTALLED not in place:
            if not _is_own(place, packages):
                yield Unpinned(
                    lines.of(where), (), "it is a folder of the project and has an address"
                )
        elif entry.get("link") is not True:
            yield _pin(entry, called, lines, where)
        elif _is_own(entry.get("resolved"), packages):
            why = "it is linked to a folder, and no proof is about that"
            yield Unpinned(lines.of(where), _names(entry, called), why, own=True)
        else:
            why = "it is a link, and not to a folder of the project"
            yield Unpinned(lines.of(where), _names(entry, called), why)


def _is_plain(place: str) -> bool:
    """Whether a path is spelled in the one way that npm writes it: `..` at its beginning only."""
    parts = place.split("/")
    while parts and parts[0] == "..":
        del parts[0]
    return "\\" not in place and not {"", ".", ".."} & set(parts)


def _is_own(place: object, packages: dict[str, Any]) -> bool:
    """Whether `packages` lists this path as a folder of the project, which comes from nowhere else."""
    if not isinstance(place, str) or _INSTALLED in place:
        return False
    entry = packages.get(place)
    return isinstance(entry, dict) and not {"resolved", "integrity", "link"} & set(entry)


def _dependencies(
    older: dict[str, Any], packages: dict[str, Any], lines: Lines, depth: int
) -> Iterator[Pin | Unpinned]:
    for called, entry in older.items():
        if not isinstance(entry, dict) or depth > _DEPTH_MAX:
            raise malformed(f"The npm lock file has no object at {called[:200]!r}.")
        version = entry.get("version")
        where = f"{json.dumps(called)}: {{"
        link = isinstance(version, str) and version.startswith(_LINK)
        folder = str(version).removeprefix(_LINK) if link else None
        if "integrity" not in entry and _is_own(folder, packages):
            why = "it is linked to a folder, and no proof is about that"
            yield Unpinned(lines.of(where), _names(entry, called), why, own=True)
        else:
            yield _pin(entry, called, lines, where)
        inner = entry.get("dependencies", {})
        if not isinstance(inner, dict):
            raise malformed(f"The npm lock file has no 'dependencies' at {called[:200]!r}.")
        yield from _dependencies(inner, packages, lines, depth + 1)


def _names(entry: dict[str, Any], called: str) -> tuple[str, ...]:
    real = entry.get("name")
    return tuple(dict.fromkeys((real, called) if isinstance(real, str) and real else (called,)))


def _pin(entry: dict[str, Any], called: str, lines: Lines, place: str) -> Pin | Unpinned:
    version, integrity, at = (entry.get(one) for one in ("version", "integrity", "resolved"))
    names, line = _names(entry, called), lines.of(place)
    if not isinstance(integrity, str) or not integrity:
        return Unpinned(line, names, "it has no integrity")
    if at is not None and not (isinstance(at, str) and at.startswith(_FILE_AT)):
        return Unpinned(line, names, "what it is resolved to is not the address of a file")
    if _INTEGRITY.fullmatch(integrity) is None:
        return Unpinned(line, names, "its integrity is not SHA-512 and nothing else")
    hashes = [_digits(one) for one in integrity.split(" ")]
    if not all(hashes):
        return Unpinned(line, names, "its integrity cannot be read")
    pairs = tuple(("sha512", digits) for digits in dict.fromkeys(hashes))
    return Pin(line, names, version if isinstance(version, str) else "", pairs)


def _digits(integrity: str) -> str:
    """The hash in hex, "" of what is not in its one spelling: bits are left over in the last character."""
    encoded = integrity.removeprefix(_SHA512)
    data = base64.b64decode(encoded)
    return data.hex() if base64.b64encode(data).decode() == encoded else ""
