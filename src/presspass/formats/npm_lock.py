"""Lock files of npm: package-lock.json and npm-shrinkwrap.json, lockfileVersion 2 and 3 (npm, "package-lock.json").

Each package that is installed from elsewhere has an `integrity` with SHA-512 (Subresource Integrity), here in one
spelling and nothing beside it: npm splits that text at other characters than others do, and checks nothing by a hash
that it does not find. `packages` is
what npm reads since version 7, `dependencies` beside it (version 2) what older ones do: both are held to it. The
project's own folders, and links to them, are not installed from anywhere.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterator
from typing import Any, Final

from presspass.formats.pins import Lines, Lock, Pin, Unpinned, decoded, malformed, sorted_out

_VERSIONS: Final = (2, 3)
_INSTALLED: Final = "node_modules/"
_SHA512: Final = "sha512-"
_BYTES: Final = 64
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
    own = frozenset(f"file:{place}" for place in packages if place and _INSTALLED not in place)
    return sorted_out([*_packages(packages, lines), *_dependencies(older, own, lines, 0)])


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({name for name, _ in pairs}) != len(pairs):
        raise ValueError("a member stands twice")
    return dict(pairs)


def _packages(packages: dict[str, Any], lines: Lines) -> Iterator[Pin | Unpinned]:
    for place, entry in packages.items():
        if not isinstance(entry, dict):
            raise malformed(f"The npm lock file has no object at {place[:200]!r}.")
        if _INSTALLED not in place or entry.get("link") is True:
            continue
        called = place.rpartition(_INSTALLED)[2]
        yield _pin(entry, called, lines, f"{json.dumps(place)}:")


def _dependencies(
    older: dict[str, Any], own: frozenset[str], lines: Lines, depth: int
) -> Iterator[Pin | Unpinned]:
    for called, entry in older.items():
        if not isinstance(entry, dict) or depth > _DEPTH_MAX:
            raise malformed(f"The npm lock file has no object at {called[:200]!r}.")
        version = entry.get("version")
        if not isinstance(version, str) or version not in own or "integrity" in entry:
            yield _pin(entry, called, lines, f"{json.dumps(called)}: {{")
        inner = entry.get("dependencies", {})
        if not isinstance(inner, dict):
            raise malformed(f"The npm lock file has no 'dependencies' at {called[:200]!r}.")
        yield from _dependencies(inner, own, lines, depth + 1)


def _pin(entry: dict[str, Any], called: str, lines: Lines, place: str) -> Pin | Unpinned:
    real, version, integrity = (entry.get(one) for one in ("name", "version", "integrity"))
    names = tuple(dict.fromkeys((real, called) if isinstance(real, str) and real else (called,)))
    line = lines.of(place)
    if not isinstance(integrity, str) or not integrity:
        return Unpinned(line, names, "it has no integrity")
    hashes = [_digits(one) for one in integrity.split(" ")]
    if not all(hashes):
        return Unpinned(line, names, "its integrity is not SHA-512 alone")
    pairs = tuple(("sha512", digits) for digits in dict.fromkeys(hashes))
    return Pin(line, names, version if isinstance(version, str) else "", pairs)


def _digits(integrity: str) -> str:
    """The hash in hex, "" of what is none in its one spelling."""
    if not integrity.startswith(_SHA512):
        return ""
    encoded = integrity.removeprefix(_SHA512)
    try:
        data = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        return ""
    return data.hex() if len(data) == _BYTES and base64.b64encode(data).decode() == encoded else ""
