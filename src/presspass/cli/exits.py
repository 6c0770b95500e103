"""Exit codes of every command, and the two outcomes that are neither a refusal nor a fault."""

from __future__ import annotations

from typing import ClassVar, Final

from presspass.core.errors import PresspassError, Refusal

DONE: Final = 0
REFUSED: Final = 1  # refused, rejected, invalid: a clear no
CANNOT_SAY: Final = 2  # wrong usage, or neither yes nor no can be said with what is here
TIMED_OUT: Final = 3  # the time given to a wait is over
FAULT: Final = 4  # the world failed: something could not be reached, read or written
EXPIRED: Final = 5  # nobody decided in time
FAILED: Final = 6  # approved, and it did not work out
OVERTAKEN: Final = 7  # taken back by whoever asked, or overtaken by a newer request
BUG: Final = 70  # EX_SOFTWARE (sysexits.h): a broken promise of Presspass itself
INTERRUPTED: Final = 130  # 128 + SIGINT, as shells count


class CannotSayError(PresspassError):
    """What was asked cannot be answered with what is here: neither yes nor no. `code`: for scripts; "" for none."""

    code: ClassVar[str] = ""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class NotInstalledError(CannotSayError):
    """A command needs packages that are not installed here."""

    code: ClassVar[str] = "install.incomplete"


class TimedOutError(PresspassError):
    """The time that the caller gave is over and nothing has been decided."""


class EndedError(Refusal):
    """A release or request that was waited for has ended badly; `exit_code` says in which way."""

    exit_code: int = REFUSED
