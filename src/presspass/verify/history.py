"""Words in which people ask after the fact, made into a question; and acts told in words. No I/O.

A key, person, policy, publisher, workflow or upstream that nothing here ever named is refused, with what there is; a
word that several things answer to is refused too. An answer that is empty means that nothing was done.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from typing import Final, NoReturn

from packaging.utils import canonicalize_name

from presspass.core.digests import JsonObject, is_sha256, sha256_hex
from presspass.core.effects import effects
from presspass.core.errors import Code, Refusal
from presspass.core.history import Act, Question
from presspass.core.limits import FINGERPRINT_PREFIX_CHARS_MIN, NAME_CHARS_MAX
from presspass.core.publisher import PublisherBody
from presspass.core.statement import FreezeBody, Kind, ReleaseBody, Statement, UpstreamBody
from presspass.verify.chain import Chain

_LISTED_MAX: Final = 10  # of what there is, in a refusal
#: Of what kinds an act can be. A revocation is a narrowing: it stands in the ledger, and is carried out by nobody.
KINDS: Final = tuple(kind.value for kind in Kind if kind is not Kind.REVOCATION)
_NUMBER = re.compile(r"[0-9]{1,7}")
_HEX = re.compile(r"[0-9a-f]+")


@dataclass(frozen=True, slots=True)
class Words:
    """What was typed, "" for nothing. `key`: fingerprint or its beginning; `person`: id, or name where it is known;
    `workflow`: REPOSITORY, REPOSITORY/PATH, either with @SHA256 of the file that ran, or that SHA-256 alone; `policy`:
    its number (genesis brings the first) or digest, or its beginning; `kinds`: of KINDS; times as ISO 8601, in UTC.
    """

    key: str = ""
    person: str = ""
    workflow: str = ""
    publisher: str = ""
    policy: str = ""
    project: str = ""
    upstream: str = ""
    kinds: tuple[str, ...] = ()
    since: str = ""
    until: str = ""

    def pairs(self) -> list[tuple[str, str]]:
        """As parameters of an address, those alone that were given."""
        one = [(f.name, getattr(self, f.name)) for f in fields(self) if f.name != "kinds"]
        return [
            *((name, value) for name, value in one if value),
            *(("kind", k) for k in self.kinds),
        ]

    @classmethod
    def of(cls, pairs: Iterable[tuple[str, str]]) -> Words:
        """From the parameters of an address; others than these are not looked at."""
        found = list(pairs)
        given = {name: value.strip() for name, value in found}
        one = {f.name: given[f.name] for f in fields(cls) if f.name in given and f.name != "kinds"}
        return cls(**one, kinds=tuple(value for name, value in found if name == "kind" and value))

    def question(self, chain: Chain, names: Mapping[str, str]) -> Question:
        """What is meant; refuses with `request.not-found` or `request.malformed`. `names`: by person id."""
        keys = _both(_keys(self.key, chain), _keys_of(self.person, chain, names))
        publishers, ran = _workflow(self.workflow, chain)
        parts = {
            "project": _project(self.project),
            "publisher": _both(publishers, _publisher(self.publisher, chain)),
            "workflow": ran,
            "key": keys,
            "policy": _policy(self.policy, chain),
            "kind": _kinds(self.kinds),
            "upstream": _upstream(self.upstream, chain),
            "space": (chain.genesis.space,),
        }
        given = {
            facet: tuple(sorted(values)) for facet, values in parts.items() if values is not None
        }
        return Question(given, moment(self.since), moment(self.until))


def _project(typed: str) -> tuple[str, ...] | None:
    """Any name may be asked for, but no text that is none: a database need not take it."""
    if not typed:
        return None
    if not typed.isprintable() or len(typed) > NAME_CHARS_MAX:
        hint = "Write it as the registry does."
        raise Refusal(Code.REQUEST_MALFORMED, f"{typed!r:.100} is no name of a project.", hint)
    return (canonicalize_name(typed),)


def _both(first: Iterable[str] | None, second: Iterable[str] | None) -> Iterable[str] | None:
    """What both parts name; None where neither was asked for."""
    if first is None or second is None:
        return second if first is None else first
    return set(first) & set(second)


def _keys(typed: str, chain: Chain) -> tuple[str, ...] | None:
    if not typed:
        return None
    known = {key.id for roster in chain.rosters.values() for key in roster.all_keys()}
    known.add(sha256_hex(bytes.fromhex(chain.body.recovery_key)))
    return (_one(typed, known, "key", "no key of this roster or an earlier one"),)


def _one(typed: str, known: Iterable[str], what: str, none: str) -> str:
    """The digest among `known` that is meant: whole, or by a beginning that only one has."""
    wanted = "".join(typed.split()).lower().removesuffix("…")
    hint = f"Give the fingerprint or digest, or its first {FINGERPRINT_PREFIX_CHARS_MIN} digits or more."
    if len(wanted) < FINGERPRINT_PREFIX_CHARS_MIN or not _HEX.fullmatch(wanted):
        raise Refusal(Code.REQUEST_MALFORMED, f"{typed!r:.100} names no {what}.", hint)
    found = sorted({one for one in known if one.startswith(wanted)})
    if not found:
        raise Refusal(
            Code.REQUEST_NOT_FOUND, f"There is {none} that starts with {wanted:.64}.", hint
        )
    if len(found) > 1:
        _ambiguous(wanted, [f"{one[:16]}…" for one in found])
    return found[0]


def _keys_of(typed: str, chain: Chain, names: Mapping[str, str]) -> set[str] | None:
    """Every key that the person ever had; a key that has gone to somebody else since counts for both."""
    if not typed:
        return None
    people = [person for roster in chain.rosters.values() for person in roster.people]
    ids = sorted({one.id for one in people})
    found = [typed] if typed in ids else [one for one in ids if names.get(one) == typed.strip()]
    if len(found) > 1:
        _ambiguous(typed, found)
    if not found:
        listed = [f"{names[one]} ({one})" if one in names else one for one in ids]
        _unknown(f"Nobody of this roster or an earlier one is called {typed!r:.100}", listed)
    return {key.id for person in people if person.id == found[0] for key in person.keys}


def _workflow(typed: str, chain: Chain) -> tuple[list[str] | None, tuple[str, ...] | None]:
    """The publishers' statements that bound it, and the SHA-256 of the file that ran; None for what was not named."""
    if not typed:
        return None, None
    place, _, sha256 = typed.rpartition("@") if "@" in typed else (typed, "", "")
    if is_sha256(place) and not sha256:
        place, sha256 = "", place
    if sha256 and not is_sha256(sha256):
        raise Refusal(
            Code.REQUEST_MALFORMED,
            f"{sha256!r:.100} is no SHA-256 of a workflow.",
            "Write REPOSITORY, REPOSITORY/PATH, or either with @ and the 64 digits of the file's SHA-256.",
        )
    ran = (sha256,) if sha256 else None
    if not place:
        return None, ran
    bodies = _publishers(chain)
    found = [digest for digest, body in bodies.items() if _is_place(place, body)]
    if not found:
        known = sorted({_place(body) for body in bodies.values()})
        _unknown(f"No publisher was ever bound to {place!r:.200}", known)
    return found, ran


def _is_place(typed: str, body: PublisherBody) -> bool:
    """Repositories are named in any case at every forge; paths are not."""
    repository, rest = typed[: len(body.repository)], typed[len(body.repository) :]
    if not body.repository or repository.lower() != body.repository.lower():
        return False
    return rest == "" or rest == f"/{body.workflow}"


def _place(body: PublisherBody) -> str:
    return "/".join(filter(None, (body.repository, body.workflow)))


def _publishers(chain: Chain) -> dict[str, PublisherBody]:
    found = chain.ever_in_force(Kind.PUBLISHER)
    return {digest: body for digest, body in found.items() if isinstance(body, PublisherBody)}


def _publisher(typed: str, chain: Chain) -> list[str] | None:
    if not typed:
        return None
    bodies = _publishers(chain)
    found = [digest for digest, body in bodies.items() if body.name == typed]
    if not found:
        names = sorted({body.name for body in bodies.values()})
        _unknown(f"No publisher was ever called {typed!r:.100}", names)
    return found


def _policy(typed: str, chain: Chain) -> tuple[str, ...] | None:
    if not typed:
        return None
    if not _NUMBER.fullmatch(typed):
        none = "no policy of this installation, present or past,"
        return (_one(typed, chain.policies, "policy", none),)
    digests, number = list(chain.policies), int(typed)
    if not 1 <= number <= len(digests):
        listed = [f"{at} ({digest[:16]}…)" for at, digest in enumerate(digests, 1)]
        _unknown(f"There was never a policy {number}", listed[-_LISTED_MAX:])
    return (digests[number - 1],)


def _upstream(typed: str, chain: Chain) -> list[str] | None:
    if not typed:
        return None
    bodies = {
        digest: body
        for digest, body in chain.ever_in_force(Kind.UPSTREAM).items()
        if isinstance(body, UpstreamBody)
    }
    found = [digest for digest, body in bodies.items() if body.name == typed]
    if not found:
        names = sorted({body.name for body in bodies.values()})
        _unknown(f"No upstream was ever called {typed!r:.100}", names)
    return found


def _kinds(typed: tuple[str, ...]) -> set[str] | None:
    for one in typed:
        if one not in KINDS:
            _unknown(f"No act is of the kind {one!r:.100}", KINDS)
    return set(typed) or None


def moment(typed: str) -> int | None:
    """Unix seconds of a date or time in ISO 8601, in UTC where it names no zone; None for "". Refuses other texts."""
    if not typed:
        return None
    try:
        found = datetime.fromisoformat(typed)
        at = (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        at = -1.0
    if at < 0:
        hint = (
            "Write 2026-11-24, or 2026-11-24T17:30 (UTC), or with a zone: 2026-11-24T17:30+01:00."
        )
        raise Refusal(Code.REQUEST_MALFORMED, f"{typed!r:.100} is no time.", hint)
    return int(at)


def _unknown(sentence: str, listed: Iterable[str]) -> NoReturn:
    every = list(listed)
    more = f" and {len(every) - _LISTED_MAX} more" if len(every) > _LISTED_MAX else ""
    there = ", ".join(every[:_LISTED_MAX])
    hint = f"There are: {there}{more}." if every else "There are none yet."
    raise Refusal(Code.REQUEST_NOT_FOUND, f"{sentence}.", hint)


def _ambiguous(typed: str, found: list[str]) -> NoReturn:
    listed = ", ".join(found[:_LISTED_MAX])
    raise Refusal(
        Code.REQUEST_MALFORMED,
        f"{typed!r:.100} may mean several: {listed}.",
        "Name one by more of its digits, or a person by the id.",
    )


# --- told ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Teller:
    """Tells acts in words. `policies`: digest to number, genesis' is 1; `in_force`: its digest after so many statements
    of the chains; `owners`: key to person and kind, as the newest roster has it that knows the key.
    """

    chain: Chain
    policies: Mapping[str, int]
    in_force: tuple[str, ...]
    owners: Mapping[str, tuple[str, str]]

    @classmethod
    def of(cls, admitted: list[Statement]) -> Teller:
        """`admitted`: the chains' statements, genesis first, as far as the acts go that are to be told."""
        chain = Chain.after(admitted[0], admitted[1:])
        in_force, policy = [admitted[0].digest], admitted[0].digest
        for statement in admitted:
            moves = (one.digest for one in effects(statement) if one.kind is Kind.POLICY)
            policy = next(moves, policy)
            in_force.append(policy)
        owners = {
            key.id: (person.id, key.kind)
            for roster in chain.rosters.values()
            for person in roster.people
            for key in person.keys
        }
        numbers = {digest: number for number, digest in enumerate(chain.policies, 1)}
        return cls(chain, numbers, tuple(in_force), owners)

    def to_json(self, act: Act) -> JsonObject:
        """An act for programs: what was signed and logged, word for word, and beside it what it says."""
        statement = act.statement
        return {
            "approvals": [one.to_json() for one in act.approvals],
            "at": act.at_ms // 1000,
            "digest": statement.digest,
            "entries": [
                {"entry": entry.decode(), "position": position} for position, entry in act.entries
            ],
            "kind": statement.kind.value,
            "outcome": outcome(act),
            "policies": [self.policies[one] for one in self._policies(act)],
            "signed_by": [self._signer(one.key) for one in act.approvals],
            "statement": statement.to_bytes().decode(),
            "title": self.title(statement),
            **self._release(statement),
        }

    def _policies(self, act: Act) -> list[str]:
        """Of those that counted, in the order in which they came into force."""
        in_force = self.in_force[act.after]
        named = act.statement.heads.policy if act.after else in_force
        return sorted({named, in_force}, key=self.policies.__getitem__)

    def _signer(self, key: str) -> JsonObject:
        person, kind = self.owners.get(key, ("", "recovery"))
        return {"key": key, "kind": kind, "person": person}

    def _release(self, statement: Statement) -> JsonObject:
        body = statement.body
        if not isinstance(body, ReleaseBody):
            return {}
        upstream = self.chain.once_in_force(Kind.UPSTREAM, body.upstream)
        asked = body.asked_by
        bound = self.chain.once_in_force(Kind.PUBLISHER, asked.publisher) if asked else None
        publisher = bound if isinstance(bound, PublisherBody) else None
        return {
            "project": body.project,
            "publisher": publisher.name if publisher else "",
            "release": body.release,
            "upstream": upstream.name if isinstance(upstream, UpstreamBody) else "",
            "version": body.version,
            "workflow": _place(publisher) if publisher else "",
            "workflow_sha256": asked.workflow if asked else "",
        }

    @staticmethod
    def title(statement: Statement) -> str:
        """What it does, in a few words."""
        body = statement.body
        if isinstance(body, ReleaseBody):
            return f"{body.project} {body.version}"
        if isinstance(body, FreezeBody):
            return (
                f"freeze of {body.project or 'everything'}"
                if body.action == "set"
                else "freezes ended"
            )
        if statement.kind in (Kind.GENESIS, Kind.ORIGIN):
            return statement.kind.value
        return ", ".join(one.chain.replace(":", " ", 1) for one in effects(statement))


_ENDS: Final = ("verified", "failed", "genesis", "admitted")


def outcome(act: Act) -> str:
    """How it ended by its own entries: verified, failed, admitted; "publishing" while it has not."""
    digest = act.statement.digest
    read = (json.loads(entry) for _position, entry in act.entries)
    kinds = {one["kind"] for one in read if one.get("statement") == digest}
    found = next((end for end in _ENDS if end in kinds), "publishing")
    return "admitted" if found == "genesis" else found
