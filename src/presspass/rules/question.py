"""What a rule is asked: who asks for what, and what is known around it. Frozen values, and the engine's own forms."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Final, NoReturn

from presspass.core.digests import JsonObject
from presspass.core.errors import Code, Refusal
from presspass.core.findings import Report, Severity

PUBLISH: Final = "publish"
EXCHANGE: Final = "exchange"
STAGE: Final = "stage"
ACTIONS: Final = (EXCHANGE, STAGE, PUBLISH)
_AT_EXCHANGE: Final = frozenset(
    {"hour_utc", "hours_since_last_release", "releases_last_hour", "requester_resolved"}
    | {"weekday", "workflow_unchanged", "workload"}
)
#: What is known when files are on their way, of the attributes of a release.
_KNOWN: Final = {EXCHANGE: _AT_EXCHANGE, STAGE: _AT_EXCHANGE | {"version", "version_kind"}}
PRINCIPALS: Final = ("Person", "Publisher", "Unproved")
NO_FINDING: Final = "none"
_NUMBER_MAX: Final = 2**53 - 1


@dataclass(frozen=True, slots=True)
class Findings:
    """How many findings of each severity."""

    info: int = 0
    low: int = 0
    medium: int = 0
    high: int = 0
    critical: int = 0

    @classmethod
    def of(cls, report: Report) -> Findings:
        """Counted in a report; one rule's findings are bounded there."""
        counts = dict.fromkeys(Severity, 0)
        for finding in report.findings:
            counts[finding.severity] += 1
        return cls(**{one.value: number for one, number in counts.items()})

    @property
    def highest(self) -> str:
        """The name of the highest severity that there is; "none" without a finding."""
        found = [one for one in Severity if getattr(self, one.value)]
        return max(found, key=lambda one: one.rank).value if found else NO_FINDING


@dataclass(frozen=True, slots=True)
class Context:
    """The attributes of `Release` in the schema, which says what each of them means."""

    version: str = "1.0.1"
    version_kind: str = "patch"
    files: int = 1
    approvals: int = 1
    approvals_needed: int = 1
    approver_groups: tuple[str, ...] = ()
    requester_resolved: bool = True
    requester_signed: bool = False
    findings: Findings = field(default_factory=Findings)
    workload: bool = True
    digests_bound: bool = True
    workflow_unchanged: bool = True
    hour_utc: int = 12
    weekday: int = 3
    releases_last_hour: int = 0
    hours_since_last_release: int | None = 24

    def to_json(self) -> JsonObject:
        """What `from_json` reads back the same."""
        groups = sorted(set(self.approver_groups))
        return {**asdict(self), "approver_groups": groups, "highest_finding": self.findings.highest}

    def attributes(self, action: str = PUBLISH) -> JsonObject:
        """As the engine takes it: an attribute that is absent, or not known yet at this action, is left out."""
        known = _KNOWN.get(action)
        return {
            name: value
            for name, value in self.to_json().items()
            if value is not None and (known is None or name in known)
        }

    @classmethod
    def from_json(cls, value: object, what: str = "context") -> Context:
        """What `to_json` writes, or a part of it; what is not said is as in the class. Refuses with
        `request.malformed`."""
        given = _members(value, what, {*_KINDS, "findings", "highest_finding"})
        given.pop("highest_finding", None)
        found = {name: _typed(one, _KINDS[name], f"{what}.{name}") for name, one in given.items()
                 if name != "findings"}  # fmt: skip
        counts = _members(
            given.get("findings", {}), f"{what}.findings", {one.value for one in Severity}
        )
        numbers = {
            name: _typed(one, int, f"{what}.findings.{name}") for name, one in counts.items()
        }
        return cls(**found, findings=Findings(**numbers))


_KINDS: Final[dict[str, type]] = {
    "approvals": int,
    "approvals_needed": int,
    "approver_groups": tuple,
    "digests_bound": bool,
    "files": int,
    "hour_utc": int,
    "hours_since_last_release": type(None),  # a whole number, or none
    "releases_last_hour": int,
    "requester_resolved": bool,
    "requester_signed": bool,
    "version": str,
    "version_kind": str,
    "weekday": int,
    "workflow_unchanged": bool,
    "workload": bool,
}


@dataclass(frozen=True, slots=True)
class Question:
    """May this be done? `principal`: (type, id); `groups`: of the principal, where it is a person.

    `package`: normalised name; `registry`, `mode`: of its upstream. The tier is the rule document's to say.
    """

    principal: tuple[str, str] = ("Publisher", "ci")
    groups: tuple[str, ...] = ()
    package: str = "demo"
    registry: str = "main"
    mode: str = "custody"
    context: Context = field(default_factory=Context)
    action: str = PUBLISH

    def to_json(self) -> JsonObject:
        return {
            "action": self.action,
            "context": self.context.to_json(),
            "groups": list(self.groups),
            "mode": self.mode,
            "package": self.package,
            "principal": list(self.principal),
            "registry": self.registry,
        }

    @classmethod
    def from_json(cls, value: object, what: str = "question") -> Question:
        """What `to_json` writes, or a part of it; what is not said is as in the class. Refuses with
        `request.malformed`."""
        given = _members(value, what, {one.name for one in fields(cls)})
        context = Context.from_json(given.pop("context", {}), f"{what}.context")
        pairs = {name: _typed(given.pop(name), tuple, f"{what}.{name}") for name in ("groups", "principal")
                 if name in given}  # fmt: skip
        texts = {name: _typed(one, str, f"{what}.{name}") for name, one in given.items()}
        found = cls(**texts, **pairs, context=context)
        if (
            found.action not in ACTIONS
            or len(found.principal) != 2
            or found.principal[0] not in PRINCIPALS
        ):
            _refuse(
                what,
                f"asks for another action than {ACTIONS}, or has a principal other than {PRINCIPALS}",
            )
        return found

    def request(self) -> dict[str, Any]:
        """The engine's request."""
        kind, id = self.principal
        return {
            "principal": {"type": kind, "id": id},
            "action": {"type": "Action", "id": self.action},
            "resource": {"type": "Package", "id": self.package},
            "context": self.context.attributes(self.action),
        }

    def entities(self, tier: str) -> list[dict[str, Any]]:
        """The engine's entities: who asks, their groups, the package."""
        kind, id = self.principal
        groups = [{"type": "Group", "id": one} for one in self.groups] if kind == "Person" else []
        package = {"registry": self.registry, "mode": self.mode, "tier": tier}
        return [
            {"uid": {"type": kind, "id": id}, "attrs": {}, "parents": groups},
            *({"uid": one, "attrs": {}, "parents": []} for one in groups),
            {"uid": {"type": "Package", "id": self.package}, "attrs": package, "parents": []},
        ]


def _members(value: object, what: str, known: set[str]) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        _refuse(what, "is no map")
    for name in value:
        if name not in known:
            _refuse(what, f"has {name!r:.80}, which there is not")
    return dict(value)


def _typed(value: object, kind: type, what: str) -> Any:
    if kind is tuple:
        if not isinstance(value, list | tuple) or not all(isinstance(one, str) for one in value):
            _refuse(what, "is no list of texts")
        return tuple(value)
    if kind is type(None):
        return None if value is None else _typed(value, int, what)
    if type(value) is not kind or (isinstance(value, int) and abs(value) > _NUMBER_MAX):
        _refuse(what, f"is no {'whole number' if kind is int else kind.__name__}")
    return value


def _refuse(what: str, why: str) -> NoReturn:
    raise Refusal(Code.REQUEST_MALFORMED, f"{what} {why}.")
