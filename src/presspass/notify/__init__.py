"""Tells people: mail and signed webhooks. Carries short messages out, takes nothing in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Message:
    """One message to one address. `id` is stable over retries, so that a receiver can drop repeats."""

    id: str
    address: str
    subject: str
    body: str


class Channel(Protocol):
    """Delivers messages to one kind of address. Raises OSError when it did not work; trying again is the caller's."""

    def accepts(self, address: str) -> bool:
        """True for addresses of this channel."""

    def deliver(self, message: Message, now_s: int) -> None:
        """Sends one message."""
