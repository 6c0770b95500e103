"""Roles, sessions and waiting rows by themselves: laws over any roster, and what ends when somebody leaves."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

import core_values as values
from core_values import law
from presspass.core.errors import Code, Refusal
from presspass.core.limits import SESSION_S_MAX
from presspass.core.roster import Key, Person, Roster
from presspass.gateway.identity import passkeys, sessions, signin
from presspass.gateway.identity.roles import GROUP_PREFIX, Role, require_role, roles_of
from presspass.store import gateway_tables as g
from presspass.store import migrate
from presspass.store.database import Writer, open_engine

groups = st.sets(st.sampled_from([GROUP_PREFIX + one for one in Role]) | values.names, max_size=4)


@law
@given(values.rosters(), groups)
def test_roles_come_from_the_roster_alone_and_only_with_a_key(
    roster: Roster, some: set[str]
) -> None:
    people = tuple(replace(one, groups=tuple(sorted(some))) for one in roster.people)
    named = {one.removeprefix(GROUP_PREFIX) for one in some if one.startswith(GROUP_PREFIX)}
    named &= set(Role)
    for person in people:
        roles = roles_of(Roster(people), person.id)
        if not person.keys:
            assert not roles
        else:
            assert roles == (named or {Role.APPROVER, Role.REQUESTER})
    assert not roles_of(Roster(people), "nobody")


@law
@given(groups)
def test_nobody_is_admin_or_auditor_without_the_group(some: set[str]) -> None:
    person = Person("p", "ab" * 32, tuple(sorted(some)), (Key("passkey", b"k"),))
    roles = roles_of(Roster((person,)), "p")
    for role in (Role.ADMIN, Role.AUDITOR):
        assert (role in roles) == (GROUP_PREFIX + role in some)
        if role not in roles:
            with pytest.raises(Refusal) as refusal:
                require_role(roles, role)
            assert refusal.value.code is Code.ROLE_MISSING


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Any]:
    """The parts of a gate that sessions need, over a real database; `now` is its clock, `roster` who is in force."""
    engine = open_engine(tmp_path / "gateway.db")
    migrate.upgrade(engine, "gateway")
    writer = Writer(engine)
    people = tuple(
        Person(one, "ab" * 32, (), (Key("passkey", one.encode()),)) for one in ("a", "b")
    )
    found = SimpleNamespace(writer=writer, now=1_000_000_000_000, roster=Roster(people))
    found.clock = lambda: found.now
    found.journal = SimpleNamespace(now=lambda: SimpleNamespace(roster=found.roster))
    yield found
    writer.close()


def begin(gate: Any, person: str, place: str = sessions.BROWSER) -> str:
    return str(gate.writer.run(lambda c: sessions.begin(c, person, sessions.OIDC, place, gate.now)))


def test_leaving_ends_every_session_of_a_person_at_once_and_nobody_elses(gate: Any) -> None:
    mine = [begin(gate, "a"), begin(gate, "a", sessions.TERMINAL)]
    others = begin(gate, "b")
    assert all(sessions.find(gate, one) for one in mine)
    assert gate.writer.run(lambda c: sessions.end_sessions(c, "a", gate.now)) == 2
    assert not any(sessions.find(gate, one) for one in mine)
    assert sessions.find(gate, others)
    assert gate.writer.run(lambda c: sessions.end_sessions(c, "a", gate.now)) == 0


def test_who_is_out_of_the_roster_has_no_session_and_coming_back_is_no_new_one(gate: Any) -> None:
    secret, everybody = begin(gate, "a"), gate.roster
    gate.roster = Roster(everybody.people[1:])
    assert sessions.find(gate, secret) is None
    gate.writer.run(lambda c: sessions.end_sessions(c, "a", gate.now))
    gate.roster = everybody
    assert sessions.find(gate, secret) is None


def test_a_terminals_session_has_its_end_alone(gate: Any) -> None:
    browser, terminal = begin(gate, "a"), begin(gate, "a", sessions.TERMINAL)
    gate.now += (SESSION_S_MAX - 1) * 1000
    assert sessions.find(gate, browser) is None
    assert sessions.find(gate, terminal)
    gate.now += 1000
    assert sessions.find(gate, terminal) is None


@pytest.mark.parametrize(
    "change", [lambda s: s[:-1], lambda s: s + "x", lambda s: "ppu_" + s[4:], lambda _: ""]
)
def test_a_mistyped_secret_finds_nothing(gate: Any, change: Any) -> None:
    assert sessions.find(gate, change(begin(gate, "a"))) is None


def test_strangers_fill_no_table_and_keep_nobody_out(
    gate: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(signin, "SIGN_IN_WAITING_MAX", 5)

    def keep(number: int) -> str:
        challenge = bytes([number]) * 32
        return str(
            gate.writer.run(lambda c: passkeys._keep_challenge(c, "", challenge, gate.now + number))
        )

    places = [keep(number) for number in range(8)]
    assert (
        gate.writer.run(
            lambda c: c.execute(
                sa.select(sa.func.count()).select_from(g.SIGN_IN_CHALLENGE)
            ).scalar()
        )
        == 5
    )
    assert passkeys._take_challenge(gate, places[-1]) == ("", bytes([7]) * 32)
    with pytest.raises(Refusal) as refusal:
        passkeys._take_challenge(gate, places[0])
    assert refusal.value.code is Code.SIGN_IN_KEY_INVALID


@given(st.text(max_size=40))
def test_after_signing_in_one_stays_at_this_gate(text: str) -> None:
    path = signin.local_path(text)
    assert path.startswith("/") and path[1:2] not in ("/", "\\")
    assert path == "/c" or path == text
