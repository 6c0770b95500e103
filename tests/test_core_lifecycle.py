"""A release moves along the table and nowhere else; what is settled stays; what is closed never reopens."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core_values import law
from presspass.core.errors import Code, Refusal
from presspass.core.lifecycle import SENT, SETTLED, TRANSITIONS, State, may_move, move

states = st.sampled_from(State)


@law
@given(states, states)
def test_a_release_moves_only_as_the_table_says(old: State, new: State) -> None:
    if new in TRANSITIONS[old]:
        assert move(old, new) is new
        assert may_move(old, new)
    else:
        with pytest.raises(Refusal) as refusal:
            move(old, new)
        assert refusal.value.code is Code.RELEASE_WRONG_STATE


def reachable(start: State) -> set[State]:
    found, todo = set(), [start]
    while todo:
        for state in TRANSITIONS[todo.pop()] - found:
            found.add(state)
            todo.append(state)
    return found


def test_a_closed_set_never_reopens() -> None:
    assert not any(State.OPEN in reachable(state) for state in State)


def test_what_may_have_been_sent_never_goes_back_before_it() -> None:
    before = set(State) - SENT - SETTLED
    for state in SENT:
        assert not reachable(state) & before


def test_settled_states_end() -> None:
    for state in SETTLED - {State.VERIFIED}:
        assert not TRANSITIONS[state]
    assert TRANSITIONS[State.VERIFIED] == {State.REVOKED}
    assert {state for state in State if not TRANSITIONS[state]} <= SETTLED


def test_every_state_has_its_row_and_can_be_reached_and_ends() -> None:
    assert set(TRANSITIONS) == set(State)
    assert reachable(State.OPEN) == set(State) - {State.OPEN}
    for state in set(State) - SETTLED:
        assert reachable(state) & SETTLED


def test_nothing_is_verified_that_was_not_approved() -> None:
    cut = {state: after - {State.APPROVED} for state, after in TRANSITIONS.items()}
    found, todo = set(), [State.OPEN]
    while todo:
        for state in cut[todo.pop()] - found:
            found.add(state)
            todo.append(state)
    assert not found & SENT
