"""The rules of one installation as a value: how many must approve, how long things last.

A policy can only ask for more than the floor in `quorum`, never for less. Some members came later than the others, and
a policy that was signed without them is read, and written again, without them: without `key_wait_s` it has neither the
wait nor the exclusion that comes with it (ADR 0019), without `synced_passkeys` it accepts them, without `rules` nothing
is asked beyond the quorum (ADR 0032), without `freeze_windows` and `holidays` there are none, without
`escalate_after_s` nothing is escalated, without `burst_cap` no number of requests is too many, without `approving`
nobody more approves than the number says (ADR 0035).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from presspass.core.approving import Approving
from presspass.core.calendar import (
    HOLIDAYS_MAX,
    WINDOWS_MAX,
    FreezeWindow,
    Holiday,
    leaves_open,
    open_again,
)
from presspass.core.digests import JsonObject
from presspass.core.limits import ESCALATE_S_MIN
from presspass.core.roster import Key
from presspass.core.strict import Members

PROFILES: Final = ("solo", "team", "high-assurance", "many-packages")
_DAY_S = 86_400
SOLO_DELAY_S_MIN: Final = 120
KEY_WAIT_S: Final = _DAY_S


@dataclass(frozen=True, slots=True)
class Policy:
    """Times are whole seconds. `approvals` counts approving people for a release (in `solo`: keys).

    `key_wait_s`: how long a roster with a new key waits from the press's first sight; None in policies from before.
    `synced_passkeys`: whether passkeys count that are copied to other devices or a cloud. `rules`: SHA-256 of the rule
    document that the press asks beyond the quorum; None for none. `freeze_windows`, `holidays`: when the press holds
    releases that are approved.
    `escalate_after_s`: how long a request is undecided before `escalate_to` is told, a group or "" for everybody;
    None: never. `burst_cap`: when more than so many releases are asked for within an hour, at the latest, they are held
    as one incident (`core.burst`); None for no limit. `approving`: who approves, and when how many must.
    """

    profile: str = "team"
    approvals: int = 1
    approval_life_s: int = 7 * _DAY_S
    quiet_period_s: int = 300
    veto_window_s: int = 120
    software_keys: bool = False
    key_wait_s: int | None = KEY_WAIT_S
    synced_passkeys: bool = True
    rules: str | None = None
    freeze_windows: tuple[FreezeWindow, ...] = ()
    holidays: tuple[Holiday, ...] = ()
    escalate_after_s: int | None = None
    escalate_to: str = ""
    burst_cap: int | None = None
    approving: Approving = Approving()

    def counts(self, key: Key) -> bool:
        """Whether a key of this kind counts at all; a passkey may still have been copied when it signs."""
        return (self.software_keys or not key.is_software) and (
            self.synced_passkeys or not key.backed_up
        )

    @property
    def window_s(self) -> int:
        """The veto window as it is kept; in `solo` it stands in for the second person, and has a least length."""
        return (
            max(self.veto_window_s, SOLO_DELAY_S_MIN)
            if self.profile == "solo"
            else self.veto_window_s
        )

    @property
    def new_key_wait_s(self) -> int:
        """The wait for a new key as it is kept: never shorter than the veto window."""
        return max(self.window_s, self.key_wait_s or 0)

    def held(self, at_s: int) -> tuple[str, int] | None:
        """The window or holiday that holds releases at this time, and when they go out again; None where none does."""
        return open_again((*self.freeze_windows, *self.holidays), at_s)

    def to_json(self) -> JsonObject:
        wait = {} if self.key_wait_s is None else {"key_wait_s": self.key_wait_s}
        synced = {} if self.synced_passkeys else {"synced_passkeys": False}
        rules = {} if self.rules is None else {"rules": self.rules}
        windows = [one.text for one in self.freeze_windows]
        holidays = [one.text for one in self.holidays]
        approving = self.approving.to_json()
        return {
            **({"approving": approving} if approving else {}),
            **wait,
            **synced,
            **rules,
            **({"freeze_windows": windows} if windows else {}),
            **({"holidays": holidays} if holidays else {}),
            **(
                {} if self.escalate_after_s is None else {"escalate_after_s": self.escalate_after_s}
            ),
            **({"escalate_to": self.escalate_to} if self.escalate_to else {}),
            **({} if self.burst_cap is None else {"burst_cap": self.burst_cap}),
            "approval_life_s": self.approval_life_s,
            "approvals": self.approvals,
            "profile": self.profile,
            "quiet_period_s": self.quiet_period_s,
            "software_keys": self.software_keys,
            "veto_window_s": self.veto_window_s,
        }

    @classmethod
    def from_json(cls, value: object) -> Policy:
        members = Members(value, "policy")
        policy = cls(
            profile=members.choice("profile", PROFILES),
            approvals=members.integer("approvals", low=1, high=64),
            approval_life_s=members.integer("approval_life_s", low=1, high=90 * _DAY_S),
            quiet_period_s=members.integer("quiet_period_s", high=_DAY_S),
            veto_window_s=members.integer("veto_window_s", high=30 * _DAY_S),
            software_keys=members.boolean("software_keys"),
            key_wait_s=members.integer("key_wait_s", high=30 * _DAY_S)
            if members.has("key_wait_s")
            else None,
            synced_passkeys=members.boolean("synced_passkeys")
            if members.has("synced_passkeys")
            else True,
            rules=members.sha256("rules") if members.has("rules") else None,
            freeze_windows=members.items("freeze_windows", _window, count_max=WINDOWS_MAX)
            if members.has("freeze_windows")
            else (),
            holidays=members.items("holidays", _holiday, count_max=HOLIDAYS_MAX)
            if members.has("holidays")
            else (),
            escalate_after_s=members.integer(
                "escalate_after_s", low=ESCALATE_S_MIN, high=30 * _DAY_S
            )
            if members.has("escalate_after_s")
            else None,
            escalate_to=members.name("escalate_to") if members.has("escalate_to") else "",
            burst_cap=members.integer("burst_cap", low=1, high=10_000)
            if members.has("burst_cap")
            else None,
            approving=members.optional("approving", Approving.from_json) or Approving(),
        )
        members.done()
        if 0 < policy.approving.change_approvals < policy.approvals:
            members.refuse("lets fewer people change the rules than a release takes")
        if not leaves_open(policy.freeze_windows):
            members.refuse("has freeze windows that leave no time open")
        return policy


def _window(value: object) -> FreezeWindow:
    return FreezeWindow(value if isinstance(value, str) else "")


def _holiday(value: object) -> Holiday:
    return Holiday(value if isinstance(value, str) else "")
