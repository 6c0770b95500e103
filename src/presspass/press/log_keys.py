"""The files of the log key, in the press's own room: `log.key`, which is in force, and `log-next.key`, if one waits.

The log gets another key in three steps; a crash between any two leaves a press that can sign:
1. `log-next.key` is durable before anybody hears its public half, so that none can be asked for that the press lacks;
2. the statement is admitted. From that transaction on the checkpoints are signed with what is in `log-next.key`;
3. `log-next.key` takes the name `log.key`, which removes the old key in the same step (`settle`, at every turn).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from presspass.core.errors import Code, Fault, Refusal
from presspass.press.signing import PressKey

NAME: Final = "log.key"
NEXT_NAME: Final = "log-next.key"


@dataclass(slots=True)
class LogKeys:
    """The keys in `folder`, by their public halves (hex)."""

    folder: Path
    _known: Mapping[str, PressKey] = field(init=False)

    def __post_init__(self) -> None:
        self._read()

    def _read(self) -> None:
        names = [NAME, *([NEXT_NAME] if self.is_next_there else [])]
        keys = [PressKey.load(self.folder / name) for name in names]
        self._known = {key.public.hex(): key for key in keys}

    @property
    def is_next_there(self) -> bool:
        """Whether a key waits to be let in."""
        return (self.folder / NEXT_NAME).exists()

    @property
    def present(self) -> str:
        """The public half (hex) of `log.key`."""
        return next(iter(self._known))

    def get(self, public: str) -> PressKey | None:
        """The key with this public half, if it is here; another node may have made it, and people put it here since."""
        if public not in self._known and self.is_next_there:
            self._read()
        return self._known.get(public)

    def key(self, public: str) -> PressKey:
        """The key in force; Fault("log.key-missing") where this press has another: it must not sign, nor go on."""
        found = self.get(public)
        if found is None:
            text = (
                f"The log key in force is {public[:16]}…, and press/keys has no such key. "
                f"Copy {NAME} from the node, or the backup, that has it."
            )
            raise Fault("log.key-missing", text, retryable=False)
        return found

    def sign_raw(self, public: str, message: bytes) -> bytes:
        """A raw Ed25519 signature by the key in force, 64 bytes."""
        return self.key(public).sign_raw(message)

    def require(self, public: str) -> None:
        """Refuses with `log.key-missing` to let in a key that this press could not sign with."""
        if self.get(public) is None:
            raise Refusal(
                Code.LOG_KEY_MISSING,
                f"This press does not have the key {public[:16]}….",
                "Ask on its host, which makes it: presspass log rotate. The one asked for last counts.",
            )

    def make_next(self, in_force: str) -> str:
        """Makes the key that is to be let in next, in place of one that never was; its public half. `in_force`: the
        public half of the one that signs now.
        """
        self.settle(in_force)
        (self.folder / NEXT_NAME).unlink(missing_ok=True)
        made = PressKey.create(self.folder / NEXT_NAME)
        self._read()
        return made.public.hex()

    def settle(self, in_force: str) -> None:
        """Step 3, once the next key is the one in force; before that nothing."""
        if self.is_next_there and PressKey.load(self.folder / NEXT_NAME).public.hex() == in_force:
            (self.folder / NEXT_NAME).replace(self.folder / NAME)
            self._read()
