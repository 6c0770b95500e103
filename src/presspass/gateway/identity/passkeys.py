"""Sign-in passkeys: made by somebody who is signed in or by a link of the operator, used to sign in, and nothing else.

1. A sign-in passkey is in no roster: a roster's key is refused here, at making and at each use, and a sign-in passkey
   is refused at enrolment. So what signs in can never approve, and what approves never signs in.
2. A challenge is made by the gateway, kept by it, good for SIGN_IN_CHALLENGE_S and taken back once.
3. The user handle differs from the one of the person's roster keys: an authenticator keeps one discoverable passkey
   per handle, and would put this one in the other's place (WebAuthn Level 3 section 6.3.2, step 7).

WebAuthn Level 3 sections 7.1 and 7.2 (py_webauthn); the user is verified, the origin exact, no frame around it.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import sqlalchemy as sa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from sqlalchemy.engine import Connection
from webauthn import (
    generate_authentication_options,
    generate_registration_options,
    options_to_json,
    verify_authentication_response,
    verify_registration_response,
)
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

from presspass.core.digests import JsonObject, sha256_hex
from presspass.core.errors import Code, Refusal
from presspass.core.limits import (
    ENROLMENT_LINK_S,
    NAME_CHARS_MAX,
    SIGN_IN_CHALLENGE_S,
    SIGN_IN_KEYS_PER_PERSON_MAX,
)
from presspass.core.roster import b64u, unb64u
from presspass.core.strict import Members
from presspass.formats.webauthn import parse_client_data
from presspass.gateway import people, tokens
from presspass.gateway.gate import Gate
from presspass.gateway.identity import sessions
from presspass.gateway.identity.roles import roles_of
from presspass.gateway.identity.signin import make_room, start_session
from presspass.gateway.problems import MissingSession
from presspass.store.gateway_tables import SIGN_IN_CHALLENGE, SIGN_IN_KEY, SIGN_IN_LINK

_ALGORITHMS: Final = [
    COSEAlgorithmIdentifier.ECDSA_SHA_256,
    COSEAlgorithmIdentifier.EDDSA,
    COSEAlgorithmIdentifier.RSASSA_PKCS1_v1_5_SHA_256,
]
_HANDLE = "sign-in:"
_AGAIN = "Begin again."

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class SignInKey:
    """One sign-in passkey, as its owner sees it. `credential`: base64url."""

    credential: str
    name: str
    created_ms: int
    used_ms: int | None


# --- links --------------------------------------------------------------------------------------------------------


def make_link(gate: Gate, who: str) -> tuple[str, str, int]:
    """(secret, person, until when in ms) of a link by which `who` (name or id) makes a sign-in passkey."""
    secret, now = tokens.new_secret(), gate.clock()
    expires = now + ENROLMENT_LINK_S * 1000
    gate.journal.refresh()

    def work(connection: Connection) -> str:
        person = people.person_id(gate, connection, who)
        require_enrolled(gate, person)
        row = {
            "hash": tokens.secret_hash(secret),
            "person": person,
            "created_ms": now,
            "expires_ms": expires,
        }
        connection.execute(sa.insert(SIGN_IN_LINK), row)
        return person

    return secret, gate.writer.run(work), expires


def require_enrolled(gate: Gate, person: str) -> None:
    """Refuses with `sign-in.unknown-person` whoever has no key in the roster in force."""
    if not roles_of(gate.journal.rules.roster, person):
        raise Refusal(
            Code.SIGN_IN_UNKNOWN,
            "This person has no key in the roster in force.",
            "First comes a key that approves: `presspass invite`.",
        )


def _link_person(connection: Connection, secret: str, now_ms: int) -> str:
    row = connection.execute(
        sa.select(SIGN_IN_LINK).where(SIGN_IN_LINK.c.hash == tokens.secret_hash(secret))
    ).first()
    if row is None or row.used_ms is not None or now_ms >= row.expires_ms:
        raise _link_over()
    return str(row.person)


def _link_over() -> Refusal:
    return Refusal(
        Code.SIGN_IN_LINK_INVALID,
        "This link is not known here, or was used, or has expired.",
        "Ask the operator of the gate for a new one.",
    )


# --- making -------------------------------------------------------------------------------------------------------


def begin_making(gate: Gate, session: sessions.Session | None, link: str) -> JsonObject:
    """What a browser needs to make a passkey for the person of the link, or else of the session."""
    challenge, now = secrets.token_bytes(32), gate.clock()
    gate.journal.refresh()

    def work(connection: Connection) -> tuple[str, str, str, list[bytes]]:
        person = _owner(gate, connection, session, link)
        require_enrolled(gate, person)
        known = people.known_people(gate, connection).get(person)
        own = [unb64u(one.credential) for one in keys_of(connection, person)]
        place = _keep_challenge(connection, person, challenge, now)
        return person, known.name if known else person, place, own

    person, name, place, own = gate.writer.run(work)
    origin, rp_id = gate.site
    options = generate_registration_options(
        rp_id=rp_id,
        rp_name=f"Presspass at {rp_id}: sign-in only",
        user_id=f"{_HANDLE}{person}".encode()[:64],
        user_name=f"{name} (sign-in only)",
        user_display_name=f"{name} (sign-in only)",
        challenge=challenge,
        attestation=AttestationConveyancePreference.NONE,
        authenticator_selection=AuthenticatorSelectionCriteria(
            resident_key=ResidentKeyRequirement.REQUIRED,
            user_verification=UserVerificationRequirement.REQUIRED,
        ),
        exclude_credentials=[PublicKeyCredentialDescriptor(id=one) for one in own],
        supported_pub_key_algs=_ALGORITHMS,
    )
    return {
        "id": place,
        "person": person,
        "origin": origin,
        "public_key": json.loads(options_to_json(options)),
    }


def _owner(gate: Gate, connection: Connection, session: sessions.Session | None, link: str) -> str:
    if link:
        return _link_person(connection, link, gate.clock())
    if session is None:
        raise MissingSession
    sessions.require_fresh(session, gate.clock())
    return session.person


def finish_making(gate: Gate, session: sessions.Session | None, value: JsonObject) -> JsonObject:
    """Takes the passkey: `{"id", "name", "credential", "link"?}`. Refuses with `sign-in.key-invalid` or
    `sign-in.roster-key`.
    """
    members = Members(value, "sign-in key")
    place, name = members.text("id"), members.text("name", chars_max=NAME_CHARS_MAX)
    credential = members.take("credential")
    link = members.text("link", empty=True) if "link" in value else ""
    members.done()
    person, challenge = _take_challenge(gate, place)
    if not person:
        raise _unusable("The challenge was for signing in.")
    verified = _checked(lambda: _verify_registration(gate, credential, challenge))
    key = _fingerprint(verified.credential_public_key)

    def work(connection: Connection) -> None:
        now = gate.clock()
        # Whose it is says the link, or the session, of now; the challenge must have been for the same person.
        if _owner(gate, connection, session, link) != person:
            raise _unusable("The challenge was for somebody else.")
        require_enrolled(gate, person)
        _refuse_roster_key(gate, verified.credential_id, key)
        _refuse_known(connection, verified.credential_id, key, person)
        if link:
            spend = sa.update(SIGN_IN_LINK).where(
                SIGN_IN_LINK.c.hash == tokens.secret_hash(link), SIGN_IN_LINK.c.used_ms.is_(None)
            )
            if connection.execute(spend.values(used_ms=now)).rowcount != 1:
                raise _link_over()
        row = {
            "credential": b64u(verified.credential_id),
            "person": person,
            "key": key,
            "cose": verified.credential_public_key,
            "name": name,
            "created_ms": now,
        }
        connection.execute(sa.insert(SIGN_IN_KEY), row)

    gate.journal.refresh()
    gate.writer.run(work)
    gate.events.happened("sign-in-key", f"{person} made {b64u(verified.credential_id)[:22]}")
    return {"person": person, "credential": b64u(verified.credential_id), "name": name}


def keys_of(connection: Connection, person: str) -> list[SignInKey]:
    """The sign-in passkeys of a person, oldest first."""
    k = SIGN_IN_KEY.c
    rows = connection.execute(
        sa.select(k.credential, k.name, k.created_ms, k.used_ms)
        .where(k.person == person)
        .order_by(k.created_ms)
    )
    return [SignInKey(*row) for row in rows]


def remove_key(connection: Connection, person: str, credential: str) -> None:
    """Removes an own sign-in passkey; refuses with `request.not-found`."""
    k = SIGN_IN_KEY.c
    gone = sa.delete(SIGN_IN_KEY).where(k.person == person, k.credential == credential)
    if connection.execute(gone).rowcount != 1:
        raise Refusal(Code.REQUEST_NOT_FOUND, "You have no such sign-in passkey.")


def remove_keys(connection: Connection, person: str) -> int:
    """Removes every sign-in passkey of a person who leaves; how many there were."""
    gone = sa.delete(SIGN_IN_KEY).where(SIGN_IN_KEY.c.person == person)
    return int(connection.execute(gone).rowcount)


def refuse_sign_in_key(connection: Connection, credential_id: bytes, key: str) -> None:
    """For enrolment: a passkey that signs in must not become a roster's key (`enrolment.invalid`)."""
    k = SIGN_IN_KEY.c
    mine = sa.select(k.key).where((k.credential == b64u(credential_id)) | (k.key == key))
    if connection.execute(mine).first() is not None:
        raise Refusal(
            Code.ENROLMENT_INVALID,
            "This passkey signs in here, so it can never approve.",
            "Make another passkey for approving.",
        )


# --- signing in ---------------------------------------------------------------------------------------------------


def begin_signing_in(gate: Gate) -> JsonObject:
    """What a browser needs to sign in with whatever sign-in passkey it holds."""
    challenge = secrets.token_bytes(32)
    place = gate.writer.run(lambda c: _keep_challenge(c, "", challenge, gate.clock()))
    origin, rp_id = gate.site
    options = generate_authentication_options(
        rp_id=rp_id,
        challenge=challenge,
        timeout=SIGN_IN_CHALLENGE_S * 1000,
        user_verification=UserVerificationRequirement.REQUIRED,
    )
    return {"id": place, "origin": origin, "public_key": json.loads(options_to_json(options))}


def sign_in(gate: Gate, value: JsonObject, before: str) -> tuple[str, str]:
    """(person, secret of the new session) for `{"id", "credential"}`; `before`: the session the browser had.

    Refuses with `sign-in.key-invalid`, `sign-in.roster-key` or `sign-in.unknown-person`.
    """
    members = Members(value, "sign-in")
    place, credential = members.text("id"), members.take("credential")
    members.done()
    wanted, challenge = _take_challenge(gate, place)
    if wanted:
        raise _unusable("The challenge was for making a passkey.")
    credential_id = _checked(lambda: unb64u(credential["rawId"]))
    gate.journal.refresh()
    _refuse_roster_key(gate, credential_id, "")
    k = SIGN_IN_KEY.c
    with gate.writer.read() as connection:
        row = connection.execute(
            sa.select(SIGN_IN_KEY).where(k.credential == b64u(credential_id))
        ).first()
    if row is None:
        raise _unusable("It is not known here.")
    _refuse_roster_key(gate, credential_id, row.key)
    _checked(lambda: _verify_assertion(gate, credential, challenge, row.cose))
    require_enrolled(gate, row.person)
    gate.writer.run(
        lambda c: c.execute(
            sa.update(SIGN_IN_KEY).where(k.key == row.key).values(used_ms=gate.clock())
        )
    )
    return row.person, start_session(gate, row.person, sessions.PASSKEY, before)


# --- checks -------------------------------------------------------------------------------------------------------


def _refuse_roster_key(gate: Gate, credential_id: bytes, key: str) -> None:
    for one in gate.journal.rules.roster.all_keys():
        if one.id == key or (one.credential_id and one.credential_id == credential_id):
            raise Refusal(
                Code.SIGN_IN_ROSTER_KEY,
                "This is a key that approves. It never signs in, and nothing was signed with it here.",
                "Use a sign-in passkey; without one, sign in at the provider, or ask the operator for a link.",
            )


def _refuse_known(connection: Connection, credential_id: bytes, key: str, person: str) -> None:
    k = SIGN_IN_KEY.c
    same = (k.credential == b64u(credential_id)) | (k.key == key)
    if connection.execute(sa.select(k.key).where(same)).first() is not None:
        raise _unusable("It is registered already.")
    if len(keys_of(connection, person)) >= SIGN_IN_KEYS_PER_PERSON_MAX:
        raise _unusable(f"A person has at most {SIGN_IN_KEYS_PER_PERSON_MAX}; remove one first.")


def _verify_registration(gate: Gate, credential: Any, challenge: bytes) -> Any:
    origin, rp_id = gate.site
    verified = verify_registration_response(
        credential=credential,
        expected_challenge=challenge,
        expected_rp_id=rp_id,
        expected_origin=origin,
        require_user_verification=True,
        supported_pub_key_algs=_ALGORITHMS,
    )
    _refuse_frame(credential)
    return verified


def _verify_assertion(gate: Gate, credential: Any, challenge: bytes, cose: bytes) -> None:
    origin, rp_id = gate.site
    verify_authentication_response(
        credential=credential,
        expected_challenge=challenge,
        expected_rp_id=rp_id,
        expected_origin=origin,
        credential_public_key=cose,
        credential_current_sign_count=0,  # counters are not used (ADR 0013)
        require_user_verification=True,
    )
    _refuse_frame(credential)


def _refuse_frame(credential: Any) -> None:
    client = parse_client_data(unb64u(credential["response"]["clientDataJSON"], "client data"))
    if client.cross_origin:
        raise _unusable("It was used inside another page.")


def _checked(work: Callable[[], T]) -> T:
    """`work`, with what py_webauthn and malformed members raise turned into a refusal."""
    try:
        return work()
    except Refusal as refusal:
        if refusal.code is Code.SIGN_IN_KEY_INVALID:
            raise
        raise _unusable(refusal.message) from None
    except (WebAuthnException, ValueError, KeyError, TypeError) as error:
        raise _unusable(f"{error}.") from None


def _fingerprint(cose: bytes) -> str:
    """SHA-256 of the SubjectPublicKeyInfo: how a roster would name this key."""
    public = decoded_public_key_to_cryptography(decode_credential_public_key(cose))
    return sha256_hex(public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))


def _unusable(why: str) -> Refusal:
    return Refusal(Code.SIGN_IN_KEY_INVALID, f"The passkey cannot be used here. {why}", _AGAIN)


# --- challenges ---------------------------------------------------------------------------------------------------


def _keep_challenge(connection: Connection, person: str, challenge: bytes, now_ms: int) -> str:
    make_room(connection, SIGN_IN_CHALLENGE, SIGN_IN_CHALLENGE.c.id, now_ms)
    place = tokens.new_secret()
    row = {
        "id": tokens.secret_hash(place),
        "person": person,
        "challenge": challenge,
        "expires_ms": now_ms + SIGN_IN_CHALLENGE_S * 1000,
    }
    connection.execute(sa.insert(SIGN_IN_CHALLENGE), row)
    return place


def _take_challenge(gate: Gate, place: str) -> tuple[str, bytes]:
    """(person, challenge), taken back for good in the writer's turn, whatever comes of it."""

    def work(connection: Connection) -> tuple[str, bytes] | None:
        # One statement: of two gateways that are asked at once, one gets the row.
        mine = SIGN_IN_CHALLENGE.c.id == tokens.secret_hash(place)
        taken = sa.delete(SIGN_IN_CHALLENGE).where(mine).returning(SIGN_IN_CHALLENGE)
        row = connection.execute(taken).first()
        if row is None or gate.clock() >= row.expires_ms:
            return None
        return row.person, row.challenge

    found = gate.writer.run(work)
    if found is None:
        raise _unusable("Its challenge was used before, or has expired.")
    return found
