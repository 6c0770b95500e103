"""For whom an identity token must be made: this gate, by the names that clients give it.

`presspass:<host>` is what this gate asks for. npm and pnpm always ask for `npm:<host>`, yarn with the port as well. A
workload that binds its files itself appends `:sha256:<digest of the set>` to the first.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from presspass.core.digests import is_sha256

_PREFIX = "presspass:"
_SET = ":sha256:"


def audience(url: str) -> str:
    """The audience of the gate at this address."""
    return _PREFIX + (urlsplit(url).hostname or "")


def audiences(*urls: str) -> frozenset[str]:
    """Every audience that is taken for the gate at these addresses, but for those with a set's digest."""
    found = set()
    for url in urls:
        parts = urlsplit(url)
        found |= {audience(url), f"npm:{parts.hostname}", f"npm:{parts.netloc.rpartition('@')[2]}"}
    return frozenset(found)


def split_set(text: str) -> tuple[str, str]:
    """An audience without the set's digest, and that digest ("" for none)."""
    before, mark, digest = text.rpartition(_SET)
    bound = bool(mark) and before.startswith(_PREFIX) and is_sha256(digest)
    return (before, digest) if bound else (text, "")
