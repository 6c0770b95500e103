"""YAML as people write settings in it, read strictly: every refusal names its line, and the nearest known name.

Nothing is constructed: every value is the text that stands there, and who reads it says what it must be. So `no`,
`1.10` and `0123` are what they look like. A name given twice, a tag and an anchor are refused.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import NoReturn, TypeVar

import yaml

from presspass.core.errors import Code, Refusal

T = TypeVar("T")
_LOADER: type[object] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_DUMPER: type[object] = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
_DEPTH_MAX = 20
_LINE_CHARS_MAX = 4096  # longer lines are folded; that changes nothing


@dataclass(frozen=True, slots=True)
class Value:
    """A value with the place where it stands. `line` counts from 1."""

    file: str
    line: int
    content: str | list[Value] | dict[str, Value]

    def refuse(self, why: str, hint: str = "") -> NoReturn:
        """Raises `request.malformed` with file and line."""
        raise Refusal(Code.REQUEST_MALFORMED, f"{self.file}, line {self.line}: {why}", hint)

    def text(self, what: str) -> str:
        """A scalar as it stands there."""
        if not isinstance(self.content, str):
            self.refuse(f"{what} is a text, not a list or a block.")
        return self.content

    def items(self, what: str) -> list[Value]:
        """The members of a list."""
        if not isinstance(self.content, list):
            self.refuse(
                f"{what} is a list.", "Write it as [a, b], or one member a line after '- '."
            )
        return self.content

    def block(self, what: str) -> Block:
        """The members of a mapping."""
        if not isinstance(self.content, dict):
            self.refuse(f"{what} is a block of `name: value` lines.")
        return Block(self, what, dict(self.content))


@dataclass(slots=True)
class Block:
    """The members of a mapping, taken one by one; `done` refuses what is left."""

    at: Value
    what: str
    left: dict[str, Value]

    def take(self, name: str) -> Value | None:
        """The member `name`, if it is there."""
        return self.left.pop(name, None)

    def need(self, name: str) -> Value:
        """The member `name`; refuses where it is missing."""
        found = self.take(name)
        if found is None:
            self.at.refuse(f"{self.what} lacks {name!r}.")
        return found

    def read(self, name: str, read: Callable[[Value], T], otherwise: T) -> T:
        """The member `name` as `read` takes it; `otherwise` where it is missing."""
        found = self.take(name)
        return otherwise if found is None else read(found)

    def done(self, known: Iterable[str]) -> None:
        """Refuses a member that nobody took. `known`: all that may stand here."""
        for name, value in self.left.items():
            value.refuse(f"{self.what} has no {name!r}.", nearest(name, known))


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint at what was meant."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1)
    return f"Did you mean {close[0]!r}?" if close else f"There is: {', '.join(names) or 'none'}."


def one_of(value: Value, what: str, known: Collection[str]) -> str:
    """A text that must be one of `known`."""
    found = value.text(what)
    if found not in known:
        value.refuse(f"There is no {what} {found!r}.", nearest(found, known))
    return found


def flag(value: Value, what: str) -> bool:
    """true or false, nothing that merely looks like it."""
    return one_of(value, what, ("false", "true")) == "true"


def parse(text: str, file: str) -> Value:
    """The whole file as values; refuses with `request.malformed`. An empty file is an empty block."""
    try:
        return _Reader(file, yaml.parse(text, Loader=_LOADER)).whole()
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        Value(file, line, "").refuse(f"This is no YAML: {error.problem or error}.")
    except yaml.YAMLError as error:
        Value(file, 1, "").refuse(f"This is no YAML: {error}.")


@dataclass(slots=True)
class _Reader:
    """Makes values of the parser's events, one by one, so that no depth of nesting exhausts anything."""

    file: str
    events: Iterator[yaml.Event]

    def whole(self) -> Value:
        found: Value | None = None
        for event in self.events:
            if isinstance(event, yaml.DocumentStartEvent):
                if found is not None:
                    found = Value(self.file, event.start_mark.line + 1, "")
                    found.refuse("A second document begins here; the file is one.")
                found = self._value(next(self.events), 0)
        return found or Value(self.file, 1, {})

    def _value(self, event: yaml.Event, depth: int) -> Value:
        here = Value(self.file, event.start_mark.line + 1, "")
        if depth > _DEPTH_MAX:
            here.refuse(f"This is nested more than {_DEPTH_MAX} deep.")
        if isinstance(event, yaml.NodeEvent) and event.anchor is not None:
            here.refuse("Anchors are not taken.", "Write what repeats under `defaults`.")
        if isinstance(event, yaml.ScalarEvent | yaml.CollectionStartEvent) and event.tag:
            here.refuse(f"The tag {event.tag!r:.60} is not taken.")
        if isinstance(event, yaml.SequenceStartEvent):
            items = []
            while not isinstance(one := next(self.events), yaml.SequenceEndEvent):
                items.append(self._value(one, depth + 1))
            return Value(self.file, here.line, items)
        if isinstance(event, yaml.MappingStartEvent):
            return Value(self.file, here.line, self._members(depth + 1))
        return Value(
            self.file, here.line, event.value if isinstance(event, yaml.ScalarEvent) else ""
        )

    def _members(self, depth: int) -> dict[str, Value]:
        found: dict[str, Value] = {}
        while not isinstance(event := next(self.events), yaml.MappingEndEvent):
            key = self._value(event, depth)
            name = key.text("A name")
            if name in found:
                key.refuse(f"{name!r} stands here twice; it is in line {found[name].line} too.")
            found[name] = self._value(next(self.events), depth)
        return found


def dump(value: object) -> str:
    """`value` (dicts, lists, texts) as YAML that `parse` reads back the same."""
    return yaml.dump(
        value,
        Dumper=_DUMPER,
        sort_keys=False,
        allow_unicode=True,
        default_flow_style=False,
        width=_LINE_CHARS_MAX,
    )
