"""People and their keys: who may sign, as one value.

A roster carries pseudonymous ids only. Name, addresses and forge ids of a person stand in a `Details` object that
never leaves the gate; the roster commits to it with a salted SHA-256 (`details`), so that rosters can be
published in proofs and the details erased later without breaking one.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Final

from presspass.core.digests import JsonObject, canonical, sha256_hex
from presspass.core.errors import Code, Refusal
from presspass.core.limits import (
    GROUPS_PER_PERSON_MAX,
    KEYS_PER_PERSON_MAX,
    PEOPLE_PER_ROSTER_MAX,
    URL_CHARS_MAX,
)
from presspass.core.strict import Members

#: What a key is. `passkey` and `security-key-ssh` verify their user; the other two are for the demo and tests.
KEY_KINDS: Final = ("passkey", "security-key-ssh", "software-passkey", "ssh")
SOFTWARE_KINDS: Final = frozenset({"software-passkey", "ssh"})
_BLOB_CHARS_MAX = 4096


def b64u(data: bytes) -> str:
    """base64url without padding (RFC 4648 section 5)."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def unb64u(text: str, what: str = "value") -> bytes:
    """Strict inverse of `b64u`: one spelling only."""
    try:
        data = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        data = b""
    if b64u(data) != text:
        raise Refusal(Code.STATEMENT_MALFORMED, f"The {what} is not unpadded base64url.")
    return data


@dataclass(frozen=True, slots=True)
class Key:
    """One public key of one person.

    `public_key`: SubjectPublicKeyInfo in DER for passkeys, the OpenSSH wire blob (RFC 4253 section 6.6) for SSH
    keys. `credential_id`: the WebAuthn credential id, empty for SSH. `backed_up`: the passkey was synced when enrolled.
    """

    kind: str
    public_key: bytes
    credential_id: bytes = b""
    backed_up: bool = False

    @property
    def id(self) -> str:
        """The fingerprint people compare: SHA-256 of the public key, hex."""
        return sha256_hex(self.public_key)

    @property
    def is_software(self) -> bool:
        """True for keys that prove no user verification; they count only where the policy says so."""
        return self.kind in SOFTWARE_KINDS

    def to_json(self) -> JsonObject:
        return {
            "backed_up": self.backed_up,
            "credential_id": b64u(self.credential_id),
            "kind": self.kind,
            "public_key": b64u(self.public_key),
        }

    @classmethod
    def from_json(cls, value: object) -> Key:
        members = Members(value, "key")
        key = cls(
            kind=members.choice("kind", KEY_KINDS),
            public_key=unb64u(members.text("public_key", chars_max=_BLOB_CHARS_MAX), "public key"),
            credential_id=unb64u(
                members.text("credential_id", chars_max=_BLOB_CHARS_MAX, empty=True),
                "credential id",
            ),
            backed_up=members.boolean("backed_up"),
        )
        members.done()
        return key


@dataclass(frozen=True, slots=True)
class Details:
    """What the gate knows of a person and the roster only commits to. `salt`: 32 hex digits, random."""

    name: str
    addresses: tuple[str, ...]
    forge_ids: tuple[str, ...]
    salt: str

    def to_json(self) -> JsonObject:
        return {
            "addresses": list(self.addresses),
            "forge_ids": list(self.forge_ids),
            "name": self.name,
            "salt": self.salt,
        }

    @classmethod
    def from_json(cls, value: object) -> Details:
        members = Members(value, "person's details")

        def text(item: object) -> str:
            return Members({"item": item}, "person's details").text("item", chars_max=URL_CHARS_MAX)

        details = cls(
            name=members.text("name"),
            addresses=members.items("addresses", text, count_max=16),
            forge_ids=members.items("forge_ids", text, count_max=16),
            salt=members.name("salt"),
        )
        members.done()
        return details

    @property
    def commitment(self) -> str:
        """SHA-256 of the canonical details with their salt, hex: what the roster carries."""
        return sha256_hex(canonical(self.to_json()))


@dataclass(frozen=True, slots=True)
class Person:
    """One person: pseudonymous id, commitment to the details, groups, keys (in order of their fingerprints)."""

    id: str
    details: str
    groups: tuple[str, ...]
    keys: tuple[Key, ...]

    def to_json(self) -> JsonObject:
        return {
            "details": self.details,
            "groups": list(self.groups),
            "id": self.id,
            "keys": [key.to_json() for key in self.keys],
        }

    @classmethod
    def from_json(cls, value: object) -> Person:
        members = Members(value, "person")
        person = cls(
            id=members.name("id"),
            details=members.sha256("details"),
            groups=members.names("groups", count_max=GROUPS_PER_PERSON_MAX),
            keys=members.items("keys", Key.from_json, count_max=KEYS_PER_PERSON_MAX),
        )
        members.done()
        ids = [key.id for key in person.keys]
        if ids != sorted(set(ids)):
            members.refuse("has keys unsorted or with repeats")
        return person


@dataclass(frozen=True, slots=True)
class Roster:
    """Everybody who may sign, in order of their ids. No key belongs to two people."""

    people: tuple[Person, ...]
    _by_key: dict[str, tuple[Person, Key]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        by_key: dict[str, tuple[Person, Key]] = {}
        for person in self.people:
            for key in person.keys:
                key_id = key.id
                if key_id in by_key:
                    raise Refusal(
                        Code.STATEMENT_MALFORMED, f"Key {key_id[:16]} belongs to two people."
                    )
                by_key[key_id] = person, key
        object.__setattr__(self, "_by_key", by_key)

    def owner(self, key_id: str) -> Person | None:
        """The person whose key this is, or None."""
        found = self._by_key.get(key_id)
        return None if found is None else found[0]

    def key(self, key_id: str) -> Key | None:
        """The key with this fingerprint, or None."""
        found = self._by_key.get(key_id)
        return None if found is None else found[1]

    def person(self, person_id: str) -> Person | None:
        """The person with this id, or None."""
        return next((person for person in self.people if person.id == person_id), None)

    def key_ids(self) -> Collection[str]:
        """The fingerprint of every key of everybody."""
        return self._by_key.keys()

    def all_keys(self) -> tuple[Key, ...]:
        """Every key of everybody."""
        return tuple(key for person in self.people for key in person.keys)

    def to_json(self) -> JsonObject:
        return {"people": [person.to_json() for person in self.people]}

    @classmethod
    def from_json(cls, value: object) -> Roster:
        members = Members(value, "roster")
        people = members.items("people", Person.from_json, count_max=PEOPLE_PER_ROSTER_MAX)
        members.done()
        ids = [person.id for person in people]
        if ids != sorted(set(ids)):
            members.refuse("has people unsorted or with repeats")
        return cls(people)
