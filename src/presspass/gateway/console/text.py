"""How text and figures are shown. Hostile text becomes inert here: nothing in it can act, hide or reorder.

Pure: strings in, markup out.
"""

from __future__ import annotations

import re
import unicodedata
from datetime import UTC, datetime

from markupsafe import Markup, escape

from presspass.core.limits import REASON_CHARS_MAX

# Characters that draw nothing, or nothing of their own, without being marked so in the Unicode categories.
_BLANK_LETTERS = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0")
_HIDING_CATEGORIES = frozenset({"Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp"})
_STACKED_MARKS_MAX = 2
_INVISIBLE = re.compile(r"<(script|style|title)\b.*?(</\1\s*>|$)", re.IGNORECASE | re.DOTALL)
_MARKUP = re.compile(r"<[/!?a-zA-Z][^<>]*(?:>|$)")


def _is_hiding(char: str, marks_before: int) -> bool:
    """True for what cannot be seen as itself: controls, bidi, zero-width, odd spaces, piled-up marks."""
    if (
        char in _BLANK_LETTERS
        or "\ufe00" <= char <= "\ufe0f"
        or "\U000e0100" <= char <= "\U000e01ef"
    ):
        return True
    category = unicodedata.category(char)
    if category == "Zs":
        return char != " "
    return category in _HIDING_CATEGORIES or (
        category in ("Mn", "Me") and marks_before >= _STACKED_MARKS_MAX
    )


def _pieces(text: str) -> list[tuple[str, bool]]:
    """`text` as runs of plain text and single hiding characters: (piece, hiding)."""
    pieces: list[tuple[str, bool]] = []
    plain, marks = "", 0
    for char in text:
        if _is_hiding(char, marks):
            if plain:
                pieces.append((plain, False))
            pieces.append((char, True))
            plain = ""
        else:
            plain += char
        marks = marks + 1 if unicodedata.category(char) in ("Mn", "Me") else 0
    if plain:
        pieces.append((plain, False))
    return pieces


def _code_point(char: str) -> str:
    return f"U+{ord(char):04X}"


def visible(text: str) -> Markup:
    """Hostile text, escaped, every hiding character replaced by its visible code point."""
    if text.isascii() and text.isprintable():
        return escape(text)
    shown = []
    for piece, hiding in _pieces(text):
        if hiding:
            name = unicodedata.name(piece, "control character").lower()
            shown.append(
                Markup('<span class="ctl" title="{}">{}</span>').format(name, _code_point(piece))
            )
        else:
            shown.append(escape(piece))
    return Markup("").join(shown)


def visible_code(line: str) -> Markup:
    """Like `visible`, for a line of a text file: a tab stays a tab."""
    return Markup("\t").join(visible(part) for part in line.split("\t"))


def visible_lines(text: str) -> list[Markup]:
    """Like `visible_code`, line by line: a line feed ends a line, however it is written, and anything else is shown."""
    lines = text.replace("\r\n", "\n").split("\n")
    return [visible_code(line) for line in lines]


def exact(text: str) -> Markup:
    """Text whose characters must survive unchanged (the browser hashes them), with hiding characters marked.

    The style sheet shows `data-cp` in place of the character; the element's text content stays what it is.
    """
    return Markup("").join(
        Markup('<span class="ctl raw" data-cp="{}">{}</span>').format(_code_point(piece), piece)
        if hiding
        else escape(piece)
        for piece, hiding in _pieces(text)
    )


def told(text: str) -> str:
    """A reason that another program gave (a registry's error page), fit for one line: no markup, and bounded."""
    if _MARKUP.search(text):
        text = " ".join(_MARKUP.sub(" ", _INVISIBLE.sub(" ", text)).split())
    return text if len(text) <= REASON_CHARS_MAX else text[: REASON_CHARS_MAX - 1] + "…"


def size(count: int) -> str:
    """A number of bytes for people: "34,628 B", "1.2 MB"."""
    if count < 100_000:
        return f"{count:,} B"
    for unit, factor in (("kB", 1000), ("MB", 1000**2), ("GB", 1000**3)):
        if count < 1000 * factor:
            return f"{count / factor:.1f} {unit}"
    return f"{count / 1000**4:.1f} TB"


def when(ms: int) -> str:
    """ "24 Nov 2026, 04:01 UTC"."""
    moment = datetime.fromtimestamp(ms / 1000, UTC)
    return f"{moment.day} {moment:%b %Y, %H:%M} UTC"


def day(ms: int) -> str:
    """ "24 Nov 2026"."""
    return when(ms).partition(",")[0]


def iso(ms: int) -> str:
    """The same moment for machines (RFC 3339)."""
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def duration(seconds: int) -> str:
    """ "7 days", "2 minutes", "none"."""
    for unit, length in (("day", 86_400), ("hour", 3_600), ("minute", 60)):
        if seconds and seconds % length == 0:
            return plural(seconds // length, unit)
    return plural(seconds, "second") if seconds else "none"


def groups(digest: str) -> list[str]:
    """A fingerprint in groups of four, as people read it to each other."""
    return [digest[at : at + 4] for at in range(0, len(digest), 4)]


def short(digest: str) -> str:
    """The first sixteen digits of a fingerprint in groups of four: to recognise, not to compare."""
    return " ".join(groups(digest)[:4])


def plural(count: int, noun: str, many: str = "") -> str:
    """ "1 file", "2 files"."""
    return f"{count:,} {noun if count == 1 else many or noun + 's'}"


def listed(words: list[str], last: str = "and") -> str:
    """ "a", "a and b", "a, b and c"."""
    return (
        words[0]
        if len(words) == 1
        else f"{', '.join(words[:-1])} {last} {words[-1]}"
        if words
        else ""
    )
