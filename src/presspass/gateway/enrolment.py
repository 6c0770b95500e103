"""Enrolment: a single-use link says which person it is, the key proves itself, and other people approve the rest.

1. A link is a secret for one named person, good for fifteen minutes and for one key.
2. The challenge of a passkey is stored under its link and taken back in the transaction that stores the key.
3. A key is stored once; a key that anybody has enrolled before is refused.
4. Before genesis the key waits for the seal. Afterwards the same transaction puts a roster statement before people:
   the whole roster with this key added, or with it in place of others of the same person.
5. A link may be for the origin that the gate is about to move to. Its key is bound to that one, and waits there for
   the `origin` statement that brings all of them at once.

Registration follows WebAuthn Level 3 section 7.1 (py_webauthn), with user verification required, no attestation, and
ES256, EdDSA or RS256 keys, which are what `verify` can check.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

import sqlalchemy as sa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from sqlalchemy.engine import Connection
from webauthn import generate_registration_options, options_to_json, verify_registration_response
from webauthn.helpers import decode_credential_public_key, decoded_public_key_to_cryptography
from webauthn.helpers.cose import COSEAlgorithmIdentifier
from webauthn.helpers.exceptions import WebAuthnException
from webauthn.helpers.structs import (
    AttestationConveyancePreference,
    AuthenticatorSelectionCriteria,
    PublicKeyCredentialDescriptor,
    ResidentKeyRequirement,
    UserVerificationRequirement,
)

from presspass.core.digests import JsonObject, canonical, is_sha256, parse_canonical
from presspass.core.errors import Code, Refusal
from presspass.core.limits import (
    ENROLMENT_LINK_S,
    FINGERPRINT_PREFIX_CHARS_MIN,
    JSON_BODY_BYTES_MAX,
    KEYS_PER_PERSON_MAX,
)
from presspass.core.roster import Key, Person, Roster, unb64u
from presspass.core.statement import RosterBody
from presspass.core.strict import Members
from presspass.formats import sshsig
from presspass.formats.webauthn import parse_client_data
from presspass.gateway import people, requests
from presspass.gateway.gate import Gate
from presspass.gateway.identity.passkeys import refuse_sign_in_key
from presspass.gateway.people import Invitee
from presspass.store.gateway_tables import CEREMONY, ENROLMENT, ENROLMENT_LINK

_ALGORITHMS: Final = [
    COSEAlgorithmIdentifier.ECDSA_SHA_256,
    COSEAlgorithmIdentifier.EDDSA,
    COSEAlgorithmIdentifier.RSASSA_PKCS1_v1_5_SHA_256,
]
_CHALLENGE_BYTES = 32
_SSH_LINE_CHARS_MAX = 4096


@dataclass(frozen=True, slots=True)
class Enrolled:
    """A key that was taken. `request`: digest of the roster statement that asks for it, None before genesis."""

    person: str
    key: Key
    request: str | None

    def to_json(self) -> JsonObject:
        return {
            "person": self.person,
            "key": self.key.id,
            "kind": self.key.kind,
            "request": self.request,
        }


@dataclass(frozen=True, slots=True)
class _Offered:
    """A key that has proved itself. `challenge`: the one it answered; None for SSH keys, which answer none."""

    secret: str
    key: Key
    challenge: bytes | None
    replaced: tuple[str, ...]


def begin(gate: Gate, value: JsonObject) -> JsonObject:
    """What a browser needs to make a passkey for `{"link"}`: the creation options, and where they belong."""
    members = Members(value, "enrolment")
    secret = members.text("link")
    members.done()
    challenge = secrets.token_bytes(_CHALLENGE_BYTES)

    def work(connection: Connection) -> tuple[Invitee, str, list[bytes]]:
        who = people.invitee(connection, secret, gate.clock())
        _set_challenge(connection, who.link_hash, challenge, gate.clock() + ENROLMENT_LINK_S * 1000)
        details = people.open_details(gate, connection, who.details)
        return (
            who,
            details.name if details else who.person,
            _credentials(gate, connection, who.person),
        )

    who, name, credentials = gate.writer.run(work)
    origin, rp_id = _site_of(gate, who)
    return {
        "person": who.person,
        "origin": origin,
        "rp_id": rp_id,
        "public_key": _creation_options(rp_id, who.person, name, challenge, credentials),
        "sealed": gate.journal.now().sealed,
        "moving": _is_for_move(gate, who),
    }


def finish(gate: Gate, value: JsonObject) -> Enrolled:
    """Takes the key for a link: `{"link", "credential" | "ssh_public_key", "software"?, "replace"?}`.

    Refuses with `enrolment.invalid`, `.used` or `.expired`.
    """
    offered = _read_offer(gate, value)
    gate.journal.refresh()
    return gate.writer.run(lambda connection: _enrol(gate, connection, offered))


def with_key(roster: Roster, who: Invitee, key: Key, replaced: Iterable[str]) -> Roster:
    """The whole roster with `key` for the invitee, and without the keys in `replaced`, which must be the invitee's."""
    person = roster.person(who.person)
    keys = {one.id: one for one in (person.keys if person else ())}
    for fingerprint in replaced:
        meant = [one for one in keys if one.startswith(fingerprint)]
        if len(meant) != 1:
            why = "begins several of your keys" if meant else "is not one of yours"
            raise Refusal(
                Code.ENROLMENT_INVALID,
                f"Key {fingerprint[:16]} {why}.",
                "Replace own keys only, named by their fingerprints.",
            )
        del keys[meant[0]]
    keys[key.id] = key
    if len(keys) > KEYS_PER_PERSON_MAX:
        raise Refusal(
            Code.ENROLMENT_INVALID,
            f"A person has at most {KEYS_PER_PERSON_MAX} keys.",
            "Replace one.",
        )
    ordered = tuple(sorted(keys.values(), key=lambda one: one.id))
    changed = Person(who.person, who.details, who.groups, ordered)
    others = [one for one in roster.people if one.id != who.person]
    return Roster(tuple(sorted([*others, changed], key=lambda one: one.id)))


def read_key(data: bytes) -> Key:
    """The key in an ENROLMENT row."""
    return Key.from_json(parse_canonical(data, bytes_max=JSON_BODY_BYTES_MAX, what="key"))


def _site_of(gate: Gate, who: Invitee) -> tuple[str, str]:
    """The origin that a key of this link is bound to, and its RP id."""
    if not _is_for_move(gate, who):
        return gate.site
    if who.origin != gate.next_origin:
        raise Refusal(
            Code.ENROLMENT_EXPIRED,
            "This link is for a move of the gate that is no longer planned.",
            "Ask the operator of the gate for a new link.",
        )
    return who.origin, urlsplit(who.origin).hostname or ""


def _is_for_move(gate: Gate, who: Invitee) -> bool:
    return bool(who.origin) and who.origin != gate.site[0]


# --- beginning ----------------------------------------------------------------------------------------------------


def _creation_options(
    rp_id: str, person: str, name: str, challenge: bytes, credentials: Sequence[bytes]
) -> JsonObject:
    options = generate_registration_options(
        rp_id=rp_id,
        rp_name=f"Presspass at {rp_id}",
        user_id=person.encode(),
        user_name=name,
        user_display_name=name,
        challenge=challenge,
        attestation=AttestationConveyancePreference.NONE,
        authenticator_selection=AuthenticatorSelectionCriteria(
            resident_key=ResidentKeyRequirement.PREFERRED,
            user_verification=UserVerificationRequirement.REQUIRED,
        ),
        exclude_credentials=[PublicKeyCredentialDescriptor(id=one) for one in credentials],
        supported_pub_key_algs=_ALGORITHMS,
    )
    found: JsonObject = json.loads(options_to_json(options))
    return found


def _credentials(gate: Gate, connection: Connection, person: str) -> list[bytes]:
    """Passkeys of this person that are enrolled or waiting: the same authenticator need not make another."""
    enrolled = gate.journal.rules.roster.person(person)
    keys = list(enrolled.keys) if enrolled else []
    rows = connection.execute(sa.select(ENROLMENT.c.key_json).where(ENROLMENT.c.person == person))
    keys += [read_key(row.key_json) for row in rows]
    return sorted({key.credential_id for key in keys if key.credential_id})


def _set_challenge(
    connection: Connection, link_hash: str, challenge: bytes, expires_ms: int
) -> None:
    connection.execute(sa.delete(CEREMONY).where(CEREMONY.c.link == link_hash))
    row = {"link": link_hash, "challenge": challenge, "expires_ms": expires_ms}
    connection.execute(sa.insert(CEREMONY), row)


def _challenge(connection: Connection, link_hash: str, now_ms: int) -> bytes | None:
    query = sa.select(CEREMONY.c.challenge)
    found: bytes | None = connection.execute(
        query.where(CEREMONY.c.link == link_hash, CEREMONY.c.expires_ms > now_ms)
    ).scalar()
    return found


# --- finishing ----------------------------------------------------------------------------------------------------


def _read_offer(gate: Gate, value: JsonObject) -> _Offered:
    members = Members(value, "enrolment")
    secret = members.text("link")
    replaced: tuple[str, ...] = ()
    if "replace" in value:
        replaced = members.items("replace", _fingerprint, count_max=KEYS_PER_PERSON_MAX)
    software = members.boolean("software") if "software" in value else False
    challenge = None
    if "ssh_public_key" in value:
        key = _ssh_key(members.text("ssh_public_key", chars_max=_SSH_LINE_CHARS_MAX))
    else:
        challenge, site = _asked(gate, secret)
        key = _passkey(site, members.take("credential"), challenge, software=software)
    members.done()
    return _Offered(secret, key, challenge, replaced)


def _fingerprint(item: object) -> str:
    text = item if isinstance(item, str) else ""
    digits = text.ljust(64, "0") if len(text) >= FINGERPRINT_PREFIX_CHARS_MIN else ""
    if not is_sha256(digits):
        raise Refusal(
            Code.ENROLMENT_INVALID,
            f"A key to replace is named by its fingerprint, or its first {FINGERPRINT_PREFIX_CHARS_MIN} hex digits "
            "or more.",
        )
    return text


def _asked(gate: Gate, secret: str) -> tuple[bytes, tuple[str, str]]:
    """The challenge given out for this link, and its origin and RP id. In the writer's turn: link and challenge are
    spent together."""

    def work(connection: Connection) -> tuple[bytes | None, Invitee]:
        now = gate.clock()
        who = people.invitee(connection, secret, now)
        return _challenge(connection, who.link_hash, now), who

    found, who = gate.writer.run(work)
    if found is None:
        raise Refusal(
            Code.ENROLMENT_INVALID, "No passkey was asked for by this link.", "Open the link again."
        )
    return found, _site_of(gate, who)


def _enrol(gate: Gate, connection: Connection, offered: _Offered) -> Enrolled:
    """One transaction: the link is spent, its challenge taken back, the key stored, the request made."""
    now, key = gate.clock(), offered.key
    who = people.invitee(connection, offered.secret, now)
    if (
        offered.challenge is not None
        and _challenge(connection, who.link_hash, now) != offered.challenge
    ):
        raise Refusal(
            Code.ENROLMENT_INVALID,
            "The passkey answered an older question.",
            "Open the link again.",
        )
    connection.execute(sa.delete(CEREMONY).where(CEREMONY.c.link == who.link_hash))
    spend = sa.update(ENROLMENT_LINK).where(ENROLMENT_LINK.c.hash == who.link_hash)
    connection.execute(spend.values(used_ms=now))
    _refuse_known(gate, connection, key)
    refuse_sign_in_key(connection, key.credential_id, key.id)
    row = {
        "key": key.id,
        "person": who.person,
        "details": who.details,
        "groups": json.dumps(list(who.groups)),
        "key_json": canonical(key.to_json()),
        "link": who.link_hash,
        "enrolled_ms": now,
    }
    connection.execute(sa.insert(ENROLMENT), row)
    return Enrolled(who.person, key, _ask_for(gate, connection, who, offered, now))


def _ask_for(
    gate: Gate, connection: Connection, who: Invitee, offered: _Offered, now_ms: int
) -> str | None:
    """The request for a roster with the key; None where keys wait: before genesis for the seal, and for a move for
    the one statement that brings them all."""
    rules = gate.journal.rules
    if rules.sealed and _is_for_move(gate, who):
        if offered.replaced:
            raise Refusal(
                Code.ENROLMENT_INVALID,
                "A key for the new address replaces your passkeys of the old one anyway.",
                "Enrol it without --replace.",
            )
        _site_of(gate, who)
        return None
    if not rules.sealed:
        if offered.replaced:
            raise Refusal(Code.ENROLMENT_INVALID, "Nothing is enrolled yet that could be replaced.")
        return None
    roster = with_key(rules.roster, who, offered.key, offered.replaced)
    statement = requests.make_statement(gate, RosterBody(roster))
    return requests.put(connection, statement, None, now_ms)


def _refuse_known(gate: Gate, connection: Connection, key: Key) -> None:
    waiting = connection.execute(
        sa.select(ENROLMENT.c.key).where(ENROLMENT.c.key == key.id)
    ).first()
    if waiting is not None or gate.journal.rules.roster.key(key.id) is not None:
        raise Refusal(Code.ENROLMENT_INVALID, "This key was enrolled before.", "Enrol another key.")


# --- keys ---------------------------------------------------------------------------------------------------------


def _passkey(site: tuple[str, str], credential: Any, challenge: bytes, *, software: bool) -> Key:
    origin, rp_id = site
    try:
        verified = verify_registration_response(
            credential=credential,
            expected_challenge=challenge,
            expected_rp_id=rp_id,
            expected_origin=origin,
            require_user_verification=True,
            supported_pub_key_algs=_ALGORITHMS,
        )
        client = parse_client_data(unb64u(credential["response"]["clientDataJSON"], "client data"))
        public = decoded_public_key_to_cryptography(
            decode_credential_public_key(verified.credential_public_key)
        )
    except (WebAuthnException, ValueError, KeyError, TypeError) as error:
        raise Refusal(
            Code.ENROLMENT_INVALID,
            f"The passkey was not made as asked: {error}",
            "Use a passkey that verifies you by PIN or biometric, on the page of the link.",
        ) from None
    if client.cross_origin:
        raise Refusal(
            Code.ENROLMENT_INVALID,
            "The passkey was made inside another page.",
            "Open the link itself.",
        )
    der = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    kind = "software-passkey" if software else "passkey"
    return Key(kind, der, verified.credential_id, verified.credential_backed_up)


def _ssh_key(line: str) -> Key:
    try:
        blob = sshsig.parse_public_key_line(line)
        public = sshsig.parse_public_key(blob)
    except Refusal as refusal:
        hint = "Give the one line of the .pub file of an Ed25519 or P-256 key."
        raise Refusal(Code.ENROLMENT_INVALID, refusal.message, hint) from None
    return Key("security-key-ssh" if public.is_security_key else "ssh", blob)
