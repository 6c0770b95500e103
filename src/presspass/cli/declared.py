"""`presspass.yaml`: what people want to be in force, read and written.

1. A section that is missing stays as it is; a section that is there is whole: what it does not name goes.
2. Keys are never in the file. A person is named by name; an id stands there where a name says too little.
3. `defaults.publishers` is what publishers have in common; `{project}` in a text stands for the one project of a
   publisher, and `{{` and `}}` for braces.
4. What is written from a state reads back as that state.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime
from typing import Any, Final, TypeVar

import click

from presspass.cli.options import Duration
from presspass.cli.yaml_file import Block, Value, flag, nearest, one_of, parse
from presspass.core.approving import Approving
from presspass.core.delegation import VERSION_KINDS, DelegationBody
from presspass.core.digests import JsonObject
from presspass.core.errors import Code, Refusal
from presspass.core.policy import Policy
from presspass.core.publisher import IDENTITY_CLAIMS, WITH_REF, PublisherBody
from presspass.core.statement import UpstreamBody
from presspass.core.workload import PROVIDERS

T = TypeVar("T")
FORMAT: Final = "1"
SECTIONS: Final = (
    "defaults",
    "delegations",
    "groups",
    "people",
    "presspass",
    "publishers",
    "tiers",
    "upstreams",
)
#: The tiers that a policy has today.
TIERS: Final = ("default",)
_NONE: Final = "none"
_NO_CREDENTIAL: Final = "0" * 64  # stands in a body until the secret was entered


@dataclass(frozen=True, slots=True)
class WantedPerson:
    """A person as the file names them. `id` is "" where the name is enough; `name` is "" where only the id is known."""

    at: Value
    name: str
    id: str
    addresses: tuple[str, ...]
    forge_ids: tuple[str, ...]
    groups: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class WantedDelegation:
    """A delegation; `body.person` is the person as the file names them, a name or an id."""

    at: Value
    body: DelegationBody


@dataclass(frozen=True, slots=True)
class WantedPublisher:
    """A publisher with its place in the file."""

    at: Value
    body: PublisherBody


@dataclass(frozen=True, slots=True)
class WantedUpstream:
    """An upstream with its place; its body's credential is zeros."""

    at: Value
    body: UpstreamBody


@dataclass(frozen=True, slots=True)
class Wanted:
    """The file. None: the section is missing, and stays as it is. `rules`: the members of the policy that it names; of
    them, `rules` is a path or a digest, or None for none.
    """

    people: tuple[WantedPerson, ...] | None = None
    rules: Mapping[str, object] | None = None
    upstreams: tuple[WantedUpstream, ...] | None = None
    publishers: tuple[WantedPublisher, ...] | None = None
    delegations: tuple[WantedDelegation, ...] | None = None


def read_wanted(text: str, file: str) -> Wanted:
    """Reads the file; refuses with `request.malformed`, the line, and the nearest known name."""
    whole = parse(text, file).block(f"The file {file}")
    whole.read("presspass", lambda value: one_of(value, "format of the file", (FORMAT,)), FORMAT)
    declared = whole.take("groups")
    groups = _names(declared, "`groups`") if declared else ()
    defaults = _defaults(whole.take("defaults"))
    wanted = Wanted(
        people=_section(whole, "people", lambda one: _person(one, groups)),
        rules=whole.read("tiers", _tiers, None),
        upstreams=_named_section(whole, "upstreams", _upstream),
        publishers=_section(whole, "publishers", lambda one: _publisher(one, defaults)),
        delegations=_section(whole, "delegations", _delegation),
    )
    whole.done(SECTIONS)
    for section in (wanted.publishers, wanted.delegations, wanted.upstreams):
        _refuse_twice(section or ())
    return wanted


def _section(whole: Block, name: str, read: Callable[[Value], T]) -> tuple[T, ...] | None:
    found = whole.take(name)
    return None if found is None else tuple(read(one) for one in found.items(f"`{name}`"))


def _named_section(
    whole: Block, name: str, read: Callable[[str, Value], T]
) -> tuple[T, ...] | None:
    found = whole.take(name)
    if found is None:
        return None
    return tuple(read(key, one) for key, one in found.block(f"`{name}`").left.items())


def _refuse_twice(
    section: Sequence[WantedPublisher | WantedDelegation | WantedUpstream],
) -> None:
    seen: dict[str, int] = {}
    for one in section:
        if one.body.name in seen:
            one.at.refuse(f"{one.body.name!r} stands there twice; see line {seen[one.body.name]}.")
        seen[one.body.name] = one.at.line


def _texts(value: Value, what: str) -> tuple[str, ...]:
    return tuple(one.text(what) for one in value.items(what))


def _names(value: Value, what: str) -> tuple[str, ...]:
    return tuple(sorted(set(_texts(value, what))))


def _checked(at: Value, read: Callable[[object], T], value: JsonObject) -> T:
    """A body as its own reader takes it: one set of rules for files and statements."""
    try:
        return read(value)
    except Refusal as refusal:
        at.refuse(refusal.message, refusal.hint)


# --- people -------------------------------------------------------------------------------------------------------

_PERSON: Final = ("addresses", "forge_ids", "groups", "id", "name")


def _person(value: Value, declared: tuple[str, ...]) -> WantedPerson:
    block = value.block("A person")
    found = WantedPerson(
        at=value,
        name=block.read("name", lambda one: one.text("A name"), ""),
        id=block.read("id", lambda one: one.text("An id"), ""),
        addresses=block.read("addresses", lambda one: _texts(one, "addresses"), ()),
        forge_ids=block.read("forge_ids", lambda one: _texts(one, "forge_ids"), ()),
        groups=block.read("groups", lambda one: _groups(one, declared), ()),
    )
    block.done(_PERSON)
    if not found.name and not found.id:
        value.refuse("A person has neither a name nor an id.")
    return found


def _groups(value: Value, declared: tuple[str, ...]) -> tuple[str, ...]:
    found = {one_of(one, "group", declared) for one in value.items("groups")}
    return tuple(sorted(found))


# --- tiers --------------------------------------------------------------------------------------------------------

_RULES: Final = tuple(sorted(one.name.removesuffix("_s") for one in fields(Policy)))


def _tiers(value: Value) -> dict[str, object]:
    block = value.block("`tiers`")
    for name, one in block.left.items():
        if name not in TIERS:
            hint = f"There is one tier, {TIERS[0]!r}: its rules are for every project."
            one.refuse(f"There is no tier {name!r}.", hint)
    found = block.take(TIERS[0])
    return {} if found is None else _rules(found)


def _rules(value: Value) -> dict[str, object]:
    block, rules = value.block(f"The tier {TIERS[0]!r}"), {}
    for one in fields(Policy):
        name = one.name.removesuffix("_s")
        found = block.take(name)
        if found is not None:
            rules[one.name] = _rule(name, one.name, found)
    block.done(_RULES)
    members = {name: one for name, one in rules.items() if name != "rules" and one is not None}
    policy = _checked(value, Policy.from_json, {**Policy().to_json(), **members})
    return {**rules, **{name: getattr(policy, name) for name in members}}


_APPROVING: Final = tuple(sorted(one.name.removesuffix("_s") for one in fields(Approving)))


def _approving(value: Value) -> object:
    """The block `approving`, as the policy's own reader takes it."""
    block = value.block("`approving`")
    found: dict[str, object] = {}
    for one in fields(Approving):
        name = one.name.removesuffix("_s")
        given = block.take(name)
        if given is None:
            continue
        if one.name.endswith("_s"):
            found[one.name] = _seconds(given, name)
        elif name in ("groups", "extra_by_finding"):
            numbers = given.block(name).left
            found[name] = {key: _number(number, key) for key, number in numbers.items()}
        else:
            found[name] = _number(given, name) if name == "change_approvals" else given.text(name)
    block.done(_APPROVING)
    return found


def _rule(name: str, member: str, value: Value) -> object:
    if name == "approving":
        return _approving(value)
    if member.endswith("_s"):
        return _seconds(value, name)
    if name == "approvals":
        return _number(value, name)
    if name in ("freeze_windows", "holidays"):
        return list(_texts(value, name))
    if name in ("rules", "burst_cap") and value.text(name) == _NONE:
        return None
    if name == "burst_cap":
        return _number(value, name)
    return flag(value, name) if name in ("software_keys", "synced_passkeys") else value.text(name)


def _number(value: Value, what: str) -> int:
    text = value.text(what)
    if not re.fullmatch(r"[0-9]{1,15}", text):
        value.refuse(f"{what} is a whole number, not {text!r:.40}.")
    return int(text)


def _seconds(value: Value, what: str) -> int:
    try:
        return Duration().convert(value.text(what), None, None)
    except click.BadParameter:
        value.refuse(f"{what} is no duration; write 90s, 15m, 1h or 7d.")


# --- upstreams ----------------------------------------------------------------------------------------------------

_UPSTREAM: Final = ("index_url", "mode", "protocol", "upload_url", "username")


def _upstream(name: str, value: Value) -> WantedUpstream:
    block = value.block(f"The upstream {name!r}")
    found = {
        "name": name,
        "protocol": block.read("protocol", lambda one: one.text("protocol"), "pypi"),
        "upload_url": block.need("upload_url").text("upload_url"),
        "index_url": block.need("index_url").text("index_url"),
        "username": block.read("username", lambda one: one.text("username"), "__token__"),
        "mode": block.read("mode", lambda one: one.text("mode"), "custody"),
        "credential": _NO_CREDENTIAL,
    }
    block.done(_UPSTREAM)
    return WantedUpstream(value, _checked(value, UpstreamBody.from_json, found))


# --- publishers ---------------------------------------------------------------------------------------------------

_TEXTS: Final = (
    "environment",
    "issuer",
    "name",
    "provider",
    "repository",
    "repository_url",
    "upstream",
    "workflow",
    "workflow_sha256",
)
_LISTS: Final = ("events", "refs")
_FLAGS: Final = ("delegated_only", "protected_refs_only", "self_hosted")
_PUBLISHER: Final = (*_TEXTS, *_LISTS, *_FLAGS, "ids", "project", "projects")
_BUILT_IN: Final[dict[str, object]] = {
    "delegated_only": False,
    "environment": "",
    "events": (),
    "name": "{project}",
    "refs": (),
    "repository": "",
    "repository_url": "",
    "self_hosted": False,
    "workflow": "",
    "workflow_sha256": "",
}
_PLACE = re.compile(r"\{\{|\}\}|\{project\}")
_NEEDED: Final = ("upstream", "issuer", "provider")


@dataclass(frozen=True, slots=True)
class _Said:
    """What the defaults or one publisher say. `values`: texts (templates), lists of templates, flags."""

    values: Mapping[str, object]
    ids: Mapping[str, str]


def _defaults(value: Value | None) -> _Said:
    if value is None:
        return _Said({}, {})
    whole = value.block("`defaults`")
    found = whole.take("publishers")
    whole.done(("publishers",))
    if found is None:
        return _Said({}, {})
    block = found.block("`defaults.publishers`")
    said = _said(block)
    block.done((*_TEXTS, *_LISTS, *_FLAGS, "ids"))
    return said


def _said(block: Block) -> _Said:
    values: dict[str, object] = {}
    for name in (*_TEXTS, *_LISTS, *_FLAGS):
        found = block.take(name)
        if found is None:
            continue
        if name in _FLAGS:
            values[name] = flag(found, name)
        elif name in _LISTS:
            values[name] = _texts(found, name)
        elif name == "provider":
            values[name] = one_of(found, "provider", PROVIDERS)
        else:
            values[name] = found.text(name)
    ids = block.take("ids")
    inner = ids.block("ids").left if ids else {}
    return _Said(values, {claim: one.text(claim) for claim, one in inner.items()})


def _publisher(value: Value, defaults: _Said) -> WantedPublisher:
    block = value.block("A publisher")
    one, many = block.take("project"), block.take("projects")
    if (one is None) == (many is None):
        value.refuse("A publisher has one `project`, or a list of `projects`.")
    projects = (one.text("project"),) if one else _names(many, "projects") if many else ()
    said = _said(block)
    block.done(_PUBLISHER)
    body = _resolved(value, projects, said, defaults)
    return WantedPublisher(value, _checked(value, PublisherBody.from_json, body))


def _resolved(value: Value, projects: tuple[str, ...], said: _Said, defaults: _Said) -> JsonObject:
    values = {**_BUILT_IN, **defaults.values, **said.values}
    for name in _NEEDED:
        if name not in values:
            value.refuse(
                f"A publisher lacks {name!r}.", "Say it here or under defaults.publishers."
            )
    provider = str(values["provider"])
    claims = IDENTITY_CLAIMS[provider]
    for claim in said.ids:
        if claim not in claims:
            value.refuse(f"{provider} has no id {claim!r}.", nearest(claim, claims))
    ids = {**defaults.ids, **said.ids}

    def filled(found: object) -> object:
        if isinstance(found, str):
            return _fill(value, found, projects)
        return [_fill(value, one, projects) for one in found] if isinstance(found, tuple) else found

    body = {name: filled(found) for name, found in values.items()}
    body["refs"] = sorted(set(body["refs"])) if isinstance(body["refs"], list) else []
    body["events"] = sorted(set(body["events"])) if isinstance(body["events"], list) else []
    pairs = [[claim, filled(ids[claim])] for claim in claims if claim in ids]
    protected = values.get("protected_refs_only", provider in WITH_REF)
    return {
        **body,
        "ids": pairs,
        "projects": list(projects),
        "protected_refs_only": protected,
    }


def _fill(value: Value, text: str, projects: tuple[str, ...]) -> str:
    def piece(found: re.Match[str]) -> str:
        if found[0] != "{project}":
            return found[0][0]
        if len(projects) != 1:
            value.refuse("{project} stands for one project, and this publisher has several.")
        return projects[0]

    return _PLACE.sub(piece, text)


# --- delegations --------------------------------------------------------------------------------------------------

_DELEGATION: Final = (
    "count",
    "from",
    "name",
    "person",
    "projects",
    "publisher",
    "until",
    "version_kinds",
)


def _delegation(value: Value) -> WantedDelegation:
    block = value.block("A delegation")
    kinds = block.need("version_kinds")
    person = block.need("person").text("person")
    found = {
        "name": block.need("name").text("name"),
        "publisher": block.need("publisher").text("publisher"),
        "person": "p",
        "projects": list(_names(block.need("projects"), "projects")),
        "version_kinds": sorted(
            {one_of(one, "kind of version", VERSION_KINDS) for one in kinds.items("version_kinds")}
        ),
        "count": _number(block.need("count"), "count"),
        "not_before": _time(block.need("from"), "from"),
        "not_after": _time(block.need("until"), "until"),
    }
    block.done(_DELEGATION)
    body = _checked(value, DelegationBody.from_json, found)
    return WantedDelegation(value, replace(body, person=person))


def _time(value: Value, what: str) -> int:
    text = value.text(what)
    if re.fullmatch(r"[0-9]{9,16}", text):
        return int(text)
    try:
        found = datetime.fromisoformat(text)
        found = found if found.tzinfo else found.replace(tzinfo=UTC)
        return int(found.timestamp())
    except (ValueError, OverflowError):
        value.refuse(f"{what} is no time; write 2026-12-01T09:00:00Z.")


# --- writing ------------------------------------------------------------------------------------------------------


def written_policy(policy: Policy) -> JsonObject:
    """`tiers`, whole: also what a statement leaves out because it says nothing."""
    rules: JsonObject = {}
    nothing: JsonObject = {"approving": {}, "freeze_windows": [], "holidays": []}
    unsaid: JsonObject = {**nothing, "rules": _NONE, "burst_cap": _NONE, "synced_passkeys": True}
    for name, value in {**unsaid, **policy.to_json()}.items():
        short = name.removesuffix("_s")
        rules[short] = _duration(value) if name.endswith("_s") else _plain(value)
    rules["approving"] = {
        name.removesuffix("_s"): _duration(one) if name.endswith("_s") else one
        for name, one in policy.approving.to_json().items()
    }
    return {TIERS[0]: rules}


def _duration(seconds: int) -> str:
    for unit, length in (("d", 86_400), ("h", 3600), ("m", 60)):
        if seconds and seconds % length == 0:
            return f"{seconds // length}{unit}"
    return f"{seconds}s"


def _plain(value: object) -> object:
    """Lists for tuples; the rest as it is."""
    return list(value) if isinstance(value, tuple) else value


def written_upstreams(bodies: Sequence[UpstreamBody]) -> JsonObject:
    """`upstreams`; credentials are nobody's to write."""
    return {
        body.name: {name: getattr(body, name) for name in _UPSTREAM}
        for body in sorted(bodies, key=lambda b: b.name)
    }


def written_delegation(body: DelegationBody, person: str) -> JsonObject:
    """One delegation. `person`: as the file names people."""
    return {
        "name": body.name,
        "publisher": body.publisher,
        "person": person,
        "projects": list(body.projects),
        "version_kinds": list(body.version_kinds),
        "count": body.count,
        "from": _written_time(body.not_before),
        "until": _written_time(body.not_after),
    }


def _written_time(seconds: int) -> str:
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (OverflowError, ValueError, OSError):
        return f"{seconds:09d}"


def written_publishers(bodies: Sequence[PublisherBody]) -> tuple[JsonObject, list[JsonObject]]:
    """(`defaults.publishers`, `publishers`): what most of them say stands in the defaults, the rest with each."""
    ordered = sorted(bodies, key=lambda body: body.name)
    templates = [_templates(body) for body in ordered]
    defaults: dict[str, Any] = {}
    for name in (*_TEXTS, *_LISTS, *_FLAGS):
        common = Counter(repr(one[name][-1]) for one in templates).most_common(1)
        if common and common[0][1] > 1:
            value = next(one[name][-1] for one in templates if repr(one[name][-1]) == common[0][0])
            if _BUILT_IN.get(name, None) != value:
                defaults[name] = value
    ids = Counter(pair for body in ordered for pair in body.ids)
    shared = {
        claim: _escape(value) for (claim, value), times in reversed(ids.most_common()) if times > 1
    }
    said = _Said(defaults, shared)
    entries = [_entry(body, one, said) for body, one in zip(ordered, templates, strict=True)]
    if shared:
        defaults["ids"] = shared
    return {name: _plain(value) for name, value in defaults.items()}, entries


def _escape(text: str) -> str:
    return text.replace("{", "{{").replace("}", "}}")


def _templates(body: PublisherBody) -> dict[str, list[Any]]:
    """Every way to write each member: literally, and, last, with the project's name left out."""
    found: dict[str, list[Any]] = {}
    for name in _TEXTS:
        text = str(getattr(body, name))
        found[name] = [_escape(text)]
        if len(body.projects) == 1 and name in ("name", "repository", "repository_url"):
            pieces = text.split(body.projects[0])
            found[name].append("{project}".join(map(_escape, pieces)))
    for name in _LISTS:
        found[name] = [tuple(map(_escape, getattr(body, name)))]
    for name in _FLAGS:
        found[name] = [getattr(body, name)]
    return found


def _entry(body: PublisherBody, templates: Mapping[str, list[Any]], defaults: _Said) -> JsonObject:
    entry: JsonObject = {}
    if len(body.projects) == 1:
        entry["project"] = body.projects[0]
    else:
        entry["projects"] = list(body.projects)
    built_in = {**_BUILT_IN, "protected_refs_only": body.provider in WITH_REF}
    inherited = {**built_in, **defaults.values}
    for name, ways in templates.items():
        if inherited.get(name) not in ways or name not in inherited:
            entry[name] = _plain(ways[0])
    own = {claim: _escape(value) for claim, value in body.ids}
    missing = {claim: value for claim, value in own.items() if defaults.ids.get(claim) != value}
    if missing:
        entry["ids"] = missing
    return entry


def refuse_file(message: str, hint: str = "") -> Refusal:
    """The refusal of a file as a whole."""
    return Refusal(Code.REQUEST_MALFORMED, message, hint)
