"""Chat rooms by their incoming webhooks: one POST of JSON with the text in one member, as most chat servers take it.

The address of such a webhook is its secret. It stands in a file of the press, is `chat:NAME` in the roster, and no
error repeats it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import httpx2

from presspass.notify import Message

#: What stands before the name of a room in an address that notices go to.
SCHEME: Final = "chat:"
_TIMEOUT_S: Final = 10
_CHARS_MAX: Final = 1900  # one of the larger chat services takes no more than 2000
#: What makes links, mentions and markup of text, and what is shown instead: a reason that somebody gave is no link.
_MARKUP: Final = str.maketrans("<>[]`@|", "‹›⟨⟩'＠¦")


@dataclass(frozen=True, slots=True)
class Chat:
    """One room. `url`: of its incoming webhook, secret; `member`: where the text goes, "text" or "content"."""

    name: str
    url: str
    member: str = "text"

    def accepts(self, address: str) -> bool:
        """Its own address alone."""
        return address == SCHEME + self.name

    def deliver(self, message: Message, now_s: int) -> None:
        """Posts one message; OSError unless the server answers 2xx."""
        text = f"{message.subject}\n\n{message.body}".translate(_MARKUP)
        if len(text) > _CHARS_MAX:
            text = text[: _CHARS_MAX - 2] + " …"
        try:
            # Only the status is of interest: the body, however long, is not read.
            with httpx2.stream(
                "POST", self.url, json={self.member: text}, timeout=_TIMEOUT_S, trust_env=False
            ) as answer:
                status, taken = answer.status_code, answer.is_success
        except (httpx2.HTTPError, httpx2.InvalidURL, ValueError) as error:
            raise OSError(f"the chat server cannot be asked: {type(error).__name__}") from None
        if not taken:
            raise OSError(f"the chat server answered {status}")
