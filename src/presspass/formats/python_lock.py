"""Lock files of Python in TOML: `uv.lock` of uv, and `pylock.toml` (PEP 751). Every file that they list has a hash.

The project's own folders are not installed from anywhere; what comes out of a repository has no hash.
"""

from __future__ import annotations

import tomllib
from typing import Any, Final

from packaging.utils import canonicalize_name

from presspass.formats.pins import (
    Lines,
    Lock,
    Pin,
    Unpinned,
    decoded,
    is_hash,
    malformed,
    sorted_out,
)

_WHAT: Final = "Python lock file"
_OWN: Final = frozenset({"virtual", "editable", "directory"})
_FROM: Final = ("wheels", "sdist", "archive", "vcs")


def read_uv_lock(data: bytes) -> Lock:
    """What a `uv.lock` pins; refuses with `request.malformed` what is none."""
    value, lines = _parsed(data)
    if value.get("version") != 1:
        raise malformed("The uv lock file is not of version 1.")
    found = []
    for package in _tables(value, "package"):
        source = package.get("source")
        if not isinstance(source, dict):
            raise malformed("The uv lock file has a package without a source.")
        if len(source) == 1 and set(source) <= _OWN:
            continue
        files = [*_tables(package, "wheels"), *_one(package, "sdist")]
        # What comes out of a repository is installed by no hash, whatever stands beside it.
        hashes = [] if "git" in source else [_hash(one.get("hash")) for one in files]
        found.append(_pin(package, hashes, lines))
    return sorted_out(found)


def read_pylock(data: bytes) -> Lock:
    """What a `pylock.toml` pins; refuses with `request.malformed` what is none."""
    value, lines = _parsed(data)
    version = value.get("lock-version")
    if not isinstance(version, str) or version.partition(".")[0] != "1":
        raise malformed("The Python lock file is not of lock-version 1.")
    found = []
    for package in _tables(value, "packages"):
        if "directory" in package and not any(kind in package for kind in _FROM):
            continue
        files = [*_tables(package, "wheels"), *_one(package, "sdist"), *_one(package, "archive")]
        hashes = [hash for one in files for hash in _hashes(one.get("hashes"))]
        mixed = "vcs" in package or "directory" in package
        found.append(_pin(package, [] if mixed else hashes, lines))
    return sorted_out(found)


def _parsed(data: bytes) -> tuple[dict[str, Any], Lines]:
    text = decoded(data, _WHAT)
    try:
        return tomllib.loads(text), Lines(text)
    except (ValueError, RecursionError):
        raise malformed(f"The {_WHAT} is no TOML.") from None


def _tables(value: dict[str, Any], name: str) -> list[dict[str, Any]]:
    found = value.get(name, [])
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise malformed(f"The {_WHAT} has no tables in {name!r}.")
    return found


def _one(value: dict[str, Any], name: str) -> list[dict[str, Any]]:
    found = value.get(name)
    if found is not None and not isinstance(found, dict):
        raise malformed(f"The {_WHAT} has no table in {name!r}.")
    return [] if found is None else [found]


def _hash(value: object) -> tuple[str, str]:
    """The pair of "sha256:<hex>"; empty texts of what is none."""
    algorithm, _, digits = value.partition(":") if isinstance(value, str) else ("", "", "")
    return (algorithm, digits) if is_hash(algorithm, digits) else ("", "")


def _hashes(value: object) -> list[tuple[str, str]]:
    """Every hash of a file, since an installer may look at any; a pair of empty texts where one is not right."""
    found = list(value.items()) if isinstance(value, dict) else []
    right = [(name, text) for name, text in found if isinstance(text, str) and is_hash(name, text)]
    return right if right and len(right) == len(found) else [("", "")]


def _pin(package: dict[str, Any], hashes: list[tuple[str, str]], lines: Lines) -> Pin | Unpinned:
    name, version = package.get("name"), package.get("version", "")
    if not isinstance(name, str) or not name or not isinstance(version, str):
        raise malformed(f"The {_WHAT} has a package without a name.")
    names = (canonicalize_name(name),)
    line = lines.of(*(digits for _, digits in hashes), f'name = "{name}"')
    if not hashes or not all(algorithm for algorithm, _ in hashes):
        return Unpinned(line, names, "it has no hash, or a file without one")
    return Pin(line, names, version, tuple(dict.fromkeys(hashes)))
