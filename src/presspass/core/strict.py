"""Strict reading of JSON objects: every member is named, typed and limited; anything left over is refused."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, NoReturn, TypeVar

from presspass.core.digests import INTEGER_MAX, is_sha256
from presspass.core.errors import Code, Refusal
from presspass.core.limits import NAME_CHARS_MAX

T = TypeVar("T")
_NO_TEXT = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]*")


class Members:
    """Takes the members of one JSON object one by one; `done()` refuses what nobody took."""

    def __init__(self, value: object, what: str) -> None:
        self.what = what
        if not isinstance(value, Mapping):
            self.refuse("is not an object")
        self._left: dict[str, Any] = dict(value)

    def refuse(self, why: str) -> NoReturn:
        """Raises `statement.malformed` with the place and the reason."""
        raise Refusal(Code.STATEMENT_MALFORMED, f"The {self.what} {why}.")

    def has(self, name: str) -> bool:
        """Whether there is a member `name` that nobody has taken yet."""
        return name in self._left

    def take(self, name: str) -> Any:
        """The member `name`, whatever its type; refuses when it is absent."""
        if name not in self._left:
            self.refuse(f"lacks {name!r}")
        return self._left.pop(name)

    def text(self, name: str, *, chars_max: int = NAME_CHARS_MAX, empty: bool = False) -> str:
        """A string of whole characters (no lone surrogates), without control characters, at most `chars_max` long."""
        value = self.take(name)
        if not isinstance(value, str) or len(value) > chars_max or not (value or empty):
            self.refuse(f"has no usable text in {name!r} (1 to {chars_max} characters)")
        if _NO_TEXT.search(value):
            self.refuse(f"has a control character or half a character in {name!r}")
        return value

    def name(self, name: str, *, empty: bool = False) -> str:
        """An identifier: ASCII letters, digits and `._:-`, starting with a letter or digit."""
        value = self.text(name, empty=empty)
        if value and not _NAME.fullmatch(value):
            self.refuse(f"has no plain name in {name!r}")
        return value

    def integer(self, name: str, *, low: int = 0, high: int = INTEGER_MAX) -> int:
        """A whole number in `low..high`."""
        value = self.take(name)
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            self.refuse(f"has no whole number from {low} to {high} in {name!r}")
        return value

    def boolean(self, name: str) -> bool:
        """true or false, nothing that merely looks like it."""
        value = self.take(name)
        if not isinstance(value, bool):
            self.refuse(f"has neither true nor false in {name!r}")
        return value

    def sha256(self, name: str) -> str:
        """A SHA-256 as 64 lower-case hex digits."""
        value = self.take(name)
        if not is_sha256(value):
            self.refuse(f"has no SHA-256 (64 lower-case hex digits) in {name!r}")
        return str(value)

    def sha256_or_none(self, name: str) -> str | None:
        """A SHA-256, or null."""
        if self._left.get(name, "") is None:
            self._left.pop(name)
            return None
        return self.sha256(name)

    def sha256_or_empty(self, name: str) -> str:
        """A SHA-256, or ""."""
        if self._left.get(name) == "":
            self._left.pop(name)
            return ""
        return self.sha256(name)

    def optional(self, name: str, read: Callable[[object], T]) -> T | None:
        """A member that may be absent altogether, read by `read`; None when it is."""
        return read(self._left.pop(name)) if name in self._left else None

    def items(self, name: str, read: Callable[[object], T], *, count_max: int) -> tuple[T, ...]:
        """A list of at most `count_max` members, each read by `read`."""
        value = self.take(name)
        if not isinstance(value, list) or len(value) > count_max:
            self.refuse(f"has no list of at most {count_max} in {name!r}")
        return tuple(read(item) for item in value)

    def names(self, name: str, *, count_max: int) -> tuple[str, ...]:
        """A sorted list of different identifiers."""
        found = self.items(name, self._one_name(name), count_max=count_max)
        if list(found) != sorted(set(found)):
            self.refuse(f"has {name!r} unsorted or with repeats")
        return found

    def _one_name(self, name: str) -> Callable[[object], str]:
        def read(item: object) -> str:
            if not isinstance(item, str) or len(item) > NAME_CHARS_MAX or not _NAME.fullmatch(item):
                self.refuse(f"has no plain name in {name!r}")
            return item

        return read

    def choice(self, name: str, allowed: tuple[str, ...]) -> str:
        """One of `allowed`."""
        value = self.take(name)
        if not isinstance(value, str) or value not in allowed:
            self.refuse(f"has {name!r} other than {', '.join(allowed)}")
        return value

    def done(self) -> None:
        """Refuses members that nobody took: what is not understood must not be signed."""
        if self._left:
            self.refuse(f"has unknown members: {', '.join(sorted(self._left))}")
