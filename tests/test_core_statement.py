"""A statement has one spelling, one digest and one meaning; whatever is not exactly that is refused, and never
crashes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import core_values as values
from core_values import law
from presspass.core.approval import Approval
from presspass.core.digests import canonical, sha256_hex
from presspass.core.errors import Code, Refusal
from presspass.core.findings import parse_report
from presspass.core.limits import CLOCK_SKEW_S_MAX, STATEMENT_BYTES_MAX
from presspass.core.policy import Policy
from presspass.core.roster import Details, Key, Person, Roster, b64u, unb64u
from presspass.core.statement import APPROVAL_TAG, Intent, Kind, Statement, challenge
from presspass.verify.proof import Entry, Proof

Path = tuple[str | int, ...]


def places(value: Any, path: Path = ()) -> Iterator[Path]:
    """The path of every member and item, all levels."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield (*path, name)
            yield from places(inner, (*path, name))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield (*path, index)
            yield from places(inner, (*path, index))


def objects(value: Any) -> Iterator[dict[str, Any]]:
    """Every object, all levels."""
    if isinstance(value, dict):
        yield value
    for inner in (
        value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    ):
        yield from objects(inner)


def holder(value: Any, path: Path) -> Any:
    for step in path[:-1]:
        value = value[step]
    return value


def refused(read: Callable[[bytes], object], data: bytes) -> Code:
    with pytest.raises(Refusal) as refusal:
        read(data)
    return refusal.value.code


@law
@given(values.statements())
def test_what_is_written_is_read_back_the_same(statement: Statement) -> None:
    data = statement.to_bytes()
    again = Statement.from_bytes(data)
    assert again == statement
    assert again.to_bytes() == data
    assert again.digest == sha256_hex(data)


@law
@given(
    st.sampled_from(Kind).flatmap(lambda kind: st.tuples(st.just(kind), values.statements(kind)))
)
def test_the_kind_follows_from_the_body(kind_and_statement: tuple[Kind, Statement]) -> None:
    kind, statement = kind_and_statement
    assert statement.kind is kind
    assert json.loads(statement.to_bytes())["kind"] == kind.value


@law
@given(values.statements(), st.data())
def test_any_other_spelling_of_the_same_value_is_refused(
    statement: Statement, data: st.DataObject
) -> None:
    canonical_bytes = statement.to_bytes()
    value = json.loads(canonical_bytes)
    spellings = [
        json.dumps(value).encode(),
        json.dumps(value, separators=(",", ":"), sort_keys=False, ensure_ascii=True).encode()
        + b"\n",
        canonical_bytes + b" ",
        b"\xef\xbb\xbf" + canonical_bytes,
        canonical_bytes.replace(b'"intent":', b'"intent":"approve","intent":', 1),
        canonical_bytes.replace(b'"issued_at":', b'"issued_at":0', 1),
        canonical_bytes.replace(b'"kind":', b'"kin\\u0064":', 1),
        json.dumps(
            dict(reversed(value.items())), separators=(",", ":"), ensure_ascii=False
        ).encode(),
    ]
    spelling = data.draw(st.sampled_from(spellings))
    assert refused(Statement.from_bytes, spelling) is Code.STATEMENT_MALFORMED


@law
@given(values.statements(), st.data())
def test_a_changed_member_makes_another_digest_or_no_statement(
    statement: Statement, data: st.DataObject
) -> None:
    value = json.loads(statement.to_bytes())
    path = data.draw(st.sampled_from(list(places(value))))
    place = holder(value, path)
    new = data.draw(values.json_values.filter(lambda one: not same(one, place[path[-1]])))
    place[path[-1]] = new
    try:
        changed = Statement.from_bytes(canonical(value))
    except (
        Refusal,
        ValueError,
    ):  # ValueError: the new value has no canonical form at all (NaN, lone surrogate)
        return
    assert changed.digest != statement.digest


def same(one: object, other: object) -> bool:
    return type(one) is type(other) and one == other


@law
@given(values.statements(), st.data())
def test_an_unknown_member_is_refused_at_every_level(
    statement: Statement, data: st.DataObject
) -> None:
    value = json.loads(statement.to_bytes())
    data.draw(st.sampled_from(list(objects(value))))["zz_new"] = data.draw(values.texts)
    assert refused(Statement.from_bytes, canonical(value)) is Code.STATEMENT_MALFORMED


#: A release that a person uploaded names no workload; policies and freezes from before lack what came later.
MAY_BE_ABSENT = (
    *("asked_by", "key_wait_s", "synced_passkeys", "rules", "freeze_windows", "holidays"),
    *("escalate_after_s", "escalate_to", "burst_cap", "approving", "deny_open"),
)


@law
@given(values.statements(), st.data())
def test_a_missing_member_is_refused_at_every_level(
    statement: Statement, data: st.DataObject
) -> None:
    value = json.loads(statement.to_bytes())
    named = [one for one in places(value) if isinstance(one[-1], str)]
    optional = set(MAY_BE_ABSENT)
    if statement.kind is Kind.LOG:
        optional.add("recovery")  # of a log that lost nothing
    path = data.draw(st.sampled_from([one for one in named if not optional & set(one)]))
    del holder(value, path)[path[-1]]
    assert refused(Statement.from_bytes, canonical(value)) is Code.STATEMENT_MALFORMED


@law
@given(values.statements(), values.statements())
def test_no_body_passes_for_another_kind(one: Statement, other: Statement) -> None:
    value, stranger = json.loads(one.to_bytes()), json.loads(other.to_bytes())
    value["body"] = stranger["body"]
    if one.kind is other.kind:
        return
    assert refused(Statement.from_bytes, canonical(value)) is Code.STATEMENT_MALFORMED


@law
@given(values.statements())
def test_the_veto_twin_differs_in_intent_alone_and_in_digest(statement: Statement) -> None:
    approve, veto = (statement.with_intent(intent) for intent in Intent)
    assert approve.digest != veto.digest
    assert challenge(approve.to_bytes()) != challenge(veto.to_bytes())
    assert veto.with_intent(Intent.APPROVE) == approve
    one, other = json.loads(approve.to_bytes()), json.loads(veto.to_bytes())
    assert {name for name in one if one[name] != other[name]} == {"intent"}


@law
@given(values.statements())
def test_the_challenge_is_the_hash_of_the_tag_and_the_bytes(statement: Statement) -> None:
    data = statement.to_bytes()
    assert challenge(data) == bytes.fromhex(sha256_hex(b"presspass/approval/v1\n" + data))
    assert APPROVAL_TAG.endswith(b"\n")


@law
@given(values.statements(), st.integers(-(2**31), 2**31))
def test_a_statement_lives_from_its_issue_to_its_expiry(statement: Statement, shift: int) -> None:
    now = max(0, statement.issued_at + shift)
    alive = statement.issued_at - CLOCK_SKEW_S_MAX <= now < statement.expires_at
    try:
        statement.check_alive(now)
    except Refusal as refusal:
        assert not alive
        assert refusal.code in (Code.STATEMENT_EXPIRED, Code.CLOCK_UNTRUSTED)
    else:
        assert alive


@pytest.mark.parametrize("kind", list(Kind))
@law
@given(data=st.data())
def test_chained_kinds_name_a_predecessor_and_no_others_do(kind: Kind, data: st.DataObject) -> None:
    value = json.loads(data.draw(values.statements(kind)).to_bytes())
    value["previous"] = None if kind in Statement.CHAINED else "ab" * 32
    assert refused(Statement.from_bytes, canonical(value)) is Code.STATEMENT_MALFORMED


@law
@given(
    values.statements(),
    st.sampled_from(["issued_at", "expires_at"]),
    st.sampled_from([True, 1.5, -1, 2**53]),
)
def test_times_are_whole_seconds(statement: Statement, name: str, wrong: object) -> None:
    value = json.loads(statement.to_bytes()) | {name: wrong}
    try:
        data = canonical(value)
    except ValueError:
        data = json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
    assert refused(Statement.from_bytes, data) is Code.STATEMENT_MALFORMED


def test_a_statement_over_the_limit_is_refused_by_its_size() -> None:
    assert (
        refused(Statement.from_bytes, b"{" + b" " * STATEMENT_BYTES_MAX) is Code.STATEMENT_MALFORMED
    )


@pytest.mark.parametrize(
    "url", ["ftp://host/", "https://user:secret@host/", "http://x@host", "//host/", ""]
)
@law
@given(data=st.data())
def test_an_upstream_address_is_http_without_a_credential_in_it(
    url: str, data: st.DataObject
) -> None:
    value = json.loads(data.draw(values.statements(Kind.UPSTREAM)).to_bytes())
    value["body"]["upload_url"] = url
    assert refused(Statement.from_bytes, canonical(value)) is Code.STATEMENT_MALFORMED


@law
@given(values.rosters().filter(lambda roster: any(person.keys for person in roster.people)))
def test_no_key_belongs_to_two_people(roster: Roster) -> None:
    twice = next(person.keys for person in roster.people if person.keys)
    value = Roster((*roster.people, Person("q", "ab" * 32, (), ()))).to_json()
    value["people"][-1]["keys"] = [key.to_json() for key in twice]
    with pytest.raises(Refusal, match="two people"):
        Roster.from_json(value)


@law
@given(values.rosters(), values.policies)
def test_rosters_and_policies_are_read_back_the_same(roster: Roster, policy: Policy) -> None:
    assert Roster.from_json(roster.to_json()) == roster
    assert Policy.from_json(policy.to_json()) == policy


@law
@given(st.binary(max_size=40))
def test_base64url_has_one_spelling(data: bytes) -> None:
    text = b64u(data)
    assert unb64u(text) == data
    for other in (
        text + "=",
        text + "\n",
        " " + text,
        text + "A" * (4 - len(text) % 4) if len(text) % 4 else "!",
    ):
        if other != text:
            try:
                assert unb64u(other) != data
            except Refusal as refusal:
                assert refusal.code is Code.STATEMENT_MALFORMED


@pytest.mark.parametrize("text", ["\ud800", "a\x00", "tab\t", "\x7f", "line\n"])
def test_texts_hold_whole_printable_characters_only(text: str) -> None:
    with pytest.raises(Refusal):
        Details.from_json({"name": text, "addresses": [], "forge_ids": [], "salt": "s"})


READERS: list[Callable[[bytes], object]] = [
    Statement.from_bytes,
    Approval.from_bytes,
    Proof.from_bytes,
    Entry.from_bytes,
    parse_report,
]
JSON_READERS: list[Callable[[object], object]] = [
    Approval.from_json,
    Roster.from_json,
    Policy.from_json,
    Person.from_json,
    Key.from_json,
    Details.from_json,
]


@law
@given(values.json_values, st.sampled_from(READERS), st.sampled_from(JSON_READERS))
def test_reading_any_json_ends_in_a_value_or_a_refusal(
    value: object, read: Callable[[bytes], object], read_json: Callable[[object], object]
) -> None:
    for attempt in (
        lambda: read(json.dumps(value).encode("utf-8", "surrogatepass")),
        lambda: read_json(value),
    ):
        with pytest.raises(Refusal):
            attempt()


@law
@given(st.binary(max_size=200), st.sampled_from(READERS))
def test_reading_any_bytes_ends_in_a_refusal(data: bytes, read: Callable[[bytes], object]) -> None:
    with pytest.raises(Refusal):
        read(data)


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize(
    "data",
    [
        b"[" * 100_000,
        b'{"a":' * 50_000,
        b'{"a":' + b"9" * 5000 + b"}",
        b'{"a":NaN}',
        b'{"a":1e999}',
        b'{"\\ud800":1}',
    ],
    ids=["deep-list", "deep-object", "long-number", "nan", "infinite", "half-character"],
)
def test_hostile_json_is_refused(read: Callable[[bytes], object], data: bytes) -> None:
    with pytest.raises(Refusal):
        read(data)


@law
@given(values.statements(), st.data())
def test_a_statement_with_any_member_of_another_type_is_refused_or_read(
    statement: Statement, data: st.DataObject
) -> None:
    value = json.loads(statement.to_bytes())
    path = data.draw(st.sampled_from(list(places(value))))
    holder(value, path)[path[-1]] = data.draw(values.json_values)
    try:
        text = canonical(value)
    except ValueError:
        return
    try:
        Statement.from_bytes(text)
    except Refusal as refusal:
        assert refusal.code is Code.STATEMENT_MALFORMED


@law
@given(
    st.builds(
        Approval,
        values.digests,
        values.digests,
        st.just("webauthn"),
        st.binary(),
        st.binary(),
        st.binary(),
    )
)
def test_an_approval_is_read_back_the_same(approval: Approval) -> None:
    assert Approval.from_bytes(approval.to_bytes()) == approval
