"""A project's page in a registry's index: JSON (PEP 691, with the times of PEP 700) or HTML (PEP 503), told apart by
its first character.

Read for one purpose: which files are listed, with which SHA-256. Whatever else stands there is passed over.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from html.parser import HTMLParser
from typing import Any
from urllib.parse import unquote, urlsplit

from presspass.core.digests import is_sha256
from presspass.core.errors import Code, Refusal


@dataclass(frozen=True, slots=True)
class Listed:
    """A file as the registry lists it. `sha256`: "" where it tells none; `uploaded_at`: Unix seconds, where it does."""

    filename: str
    sha256: str
    uploaded_at: float | None = None


def read_page(data: bytes) -> tuple[Listed, ...]:
    """Every file on the page; refuses with `request.unsupported` what is no such page."""
    if data.lstrip()[:1] == b"{":
        return _from_json(data)
    return tuple(map(_from_link, html_links(data)))


def html_links(data: bytes) -> list[str]:
    """Where the anchors of an HTML page lead, as written; refuses with `request.unsupported` what cannot be read."""
    parser = _Anchors()
    try:
        parser.feed(data.decode("utf-8", "replace"))
    except AssertionError:  # the standard library's word for a broken declaration
        raise _refusal() from None
    return parser.links


def _from_json(data: bytes) -> tuple[Listed, ...]:
    try:
        value = json.loads(data)
        return tuple(map(_from_object, value["files"]))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise _refusal() from None


def _from_object(value: Any) -> Listed:
    filename, digest = value["filename"], value["hashes"].get("sha256")
    if not isinstance(filename, str):
        raise ValueError("a file without a name")
    return Listed(filename, digest if is_sha256(digest) else "", _time(value.get("upload-time")))


def _time(value: object) -> float | None:
    try:
        found = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        return None
    return found.timestamp() if found is not None and found.tzinfo is not None else None


def _from_link(link: str) -> Listed:
    try:
        parts = urlsplit(link)
    except ValueError:
        raise _refusal() from None
    digest = parts.fragment.removeprefix("sha256=")
    filename = unquote(parts.path).rsplit("/", 1)[-1]
    return Listed(filename, digest if is_sha256(digest) else "")


def _refusal() -> Refusal:
    message = "The page is no project's page of a registry's index (PEP 691, PEP 503)."
    return Refusal(Code.REQUEST_UNSUPPORTED, message)


class _Anchors(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "a":
            self.links += [value for name, value in attrs if name == "href" and value]
