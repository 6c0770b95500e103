"""Text from elsewhere made fit to be shown: nothing in it may move a cursor, colour, hide or reorder anything."""

from __future__ import annotations

import unicodedata

#: Unicode general categories, by first letter, that are not shown as they are. C: controls, formats (bidi, zero width),
#: surrogates, private use, unassigned. Z: spaces that look like a plain one, line separators. M: marks that change the
#: character before them.
_UNSHOWN = frozenset("CZM")


def safe(text: object) -> str:
    """`text` on one line, every character that is not plainly visible written as an escape such as \\x1b or \\u202e.

    A backslash stays as it is, so the result is for people to read, not to be decoded again.
    """
    return "".join(_visible(char) for char in str(text))


def _visible(char: str) -> str:
    if char == " " or (char.isascii() and char.isprintable()):
        return char
    if unicodedata.category(char)[0] in _UNSHOWN:
        return char.encode("unicode_escape").decode("ascii")
    return char
