"""The gateway's rules without a process: where a file belongs, how states move, how a refusal is said."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from presspass.core.errors import Code, Refusal
from presspass.core.lifecycle import SETTLED, TRANSITIONS, State, may_move
from presspass.gateway import problems, tokens
from presspass.gateway.sets import Elsewhere, FileSet, Offer, decide
from presspass.gateway.tokens import Right
from presspass.gateway.upkeep import way

PAGE = "https://gate.example/r/"
RIGHT = Right("0" * 64, "private", "greet", "ada")
PASSES = [
    Right(digit * 64, "private", "greet", "ada", publisher="ci", workload=digit * 64)
    for digit in "12"
]
RIGHTS = [RIGHT, *PASSES]
#: Person, right and workload of a set: another person's token may have made it, but a pass has one person.
MADE_BY = [
    *((one.person, one.hash, one.workload) for one in RIGHTS),
    ("grace", "3" * 64, ""),
    ("grace", RIGHT.hash, ""),
]
WENT_OUT = (State.PUBLISHED, State.VERIFIED, State.REVOKED)

digests = st.sampled_from(["a" * 64, "b" * 64, "c" * 64])
names = st.sampled_from(["greet-1.0.tar.gz", "greet-1.0-py3-none-any.whl"])
offers = st.builds(
    Offer,
    st.sampled_from(RIGHTS),
    st.just("greet"),
    st.just("1.0"),
    names,
    digests,
    st.integers(1, 9),
)


@st.composite
def histories(draw: st.DrawFn) -> list[FileSet]:
    """Sets of one version, newest first: at most one alive, and it is the newest."""
    states = draw(st.lists(st.sampled_from(sorted(SETTLED)), max_size=3))
    if draw(st.booleans()):
        states.insert(0, draw(st.sampled_from(sorted(set(State) - SETTLED))))
    return [
        FileSet(
            f"set{number}", state, state not in SETTLED, *draw(st.sampled_from(MADE_BY)), "", "because",
            draw(st.dictionaries(names, digests, min_size=1)),
        )
        for number, state in enumerate(states)
    ]  # fmt: skip


def verdict(
    sets: list[FileSet], published: dict[str, str], offer: Offer
) -> FileSet | Elsewhere | Code:
    try:
        return decide(sets, published, offer, PAGE)
    except Refusal as refusal:
        return refusal.code


@given(histories(), st.dictionaries(names, digests), offers)
def test_only_an_open_set_of_the_same_person_ever_takes_a_new_file(
    sets: list[FileSet], published: dict[str, str], offer: Offer
) -> None:
    found = verdict(sets, published, offer)
    if isinstance(found, FileSet) and offer.filename not in found.files:
        assert (found.state, found.live, found.person) == (State.OPEN, True, offer.right.person)


@given(histories(), offers)
def test_a_set_is_filled_by_one_pass_alone(sets: list[FileSet], offer: Offer) -> None:
    found = verdict(sets, {}, offer)
    if isinstance(found, FileSet) and offer.filename not in found.files:
        by_pass = bool(found.workload or offer.right.workload)
        assert not by_pass or found.right == offer.right.hash


@given(histories(), st.dictionaries(names, digests), offers)
def test_a_name_never_gets_other_bytes(
    sets: list[FileSet], published: dict[str, str], offer: Offer
) -> None:
    found = verdict(sets, published, offer)
    if isinstance(found, FileSet):
        assert found.files.get(offer.filename, offer.sha256) == offer.sha256
    living = next((one for one in sets if one.live), None)
    if living and living.files.get(offer.filename, offer.sha256) != offer.sha256:
        assert found is Code.RELEASE_OTHER_BYTES


@given(histories(), offers)
def test_the_same_file_again_is_the_same_answer_in_every_living_state(
    sets: list[FileSet], offer: Offer
) -> None:
    living = next((one for one in sets if one.live), None)
    if living and living.files.get(offer.filename) == offer.sha256:
        assert verdict(sets, {}, offer) is living


@given(histories(), offers)
def test_rejected_bytes_stay_rejected(sets: list[FileSet], offer: Offer) -> None:
    rejected = any(
        one.state is State.REJECTED and one.files.get(offer.filename) == offer.sha256
        for one in sets
    )
    found = verdict(sets, {}, offer)
    if rejected and not any(one.live or one.state in WENT_OUT for one in sets):
        assert found is Code.RELEASE_REJECTED


@given(histories(), st.dictionaries(names, digests, min_size=1), offers)
def test_nothing_is_added_to_what_went_out(
    sets: list[FileSet], published: dict[str, str], offer: Offer
) -> None:
    if any(one.live for one in sets) or (sets and sets[0].state is State.FAILED):
        return
    found = verdict(sets, published, offer)
    assert found is not Elsewhere.NEW
    assert found in (Elsewhere.PUBLISHED, Code.RELEASE_ALREADY_PUBLISHED) or isinstance(
        found, FileSet
    )


@given(histories(), offers)
def test_a_version_of_which_nothing_is_left_may_begin_anew(
    sets: list[FileSet], offer: Offer
) -> None:
    over = (State.EXPIRED, State.WITHDRAWN, State.FAILED)
    if all(one.state in over for one in sets):
        assert verdict(sets, {}, offer) is Elsewhere.NEW


def test_a_release_that_failed_half_way_can_be_completed_but_not_changed() -> None:
    files = {"greet-1.0.tar.gz": "a" * 64, "greet-1.0-py3-none-any.whl": "b" * 64}
    failed = FileSet("x", State.FAILED, False, "ada", RIGHT.hash, "", "", "", files)
    sent = {"greet-1.0.tar.gz": "a" * 64}

    def of(name: str, sha256: str) -> object:
        return verdict([failed], sent, Offer(RIGHT, "greet", "1.0", name, sha256, 1))

    assert of("greet-1.0.tar.gz", "a" * 64) is Elsewhere.NEW
    assert of("greet-1.0-py3-none-any.whl", "c" * 64) is Elsewhere.NEW
    assert of("greet-1.0.tar.gz", "c" * 64) is Code.RELEASE_ALREADY_PUBLISHED


@given(st.sampled_from(State), st.sampled_from(State))
def test_the_way_between_two_states_follows_the_table(old: State, new: State) -> None:
    steps = [old, *way(old, new)]
    assert all(may_move(one, other) for one, other in zip(steps, steps[1:], strict=False))
    assert steps[-1] is new or steps == [old]
    if new in TRANSITIONS[old] and new is not old:
        assert steps == [old, new]


# --- how a refusal is said ----------------------------------------------------------------------------------------


@given(st.text(max_size=2000), st.text(max_size=500))
def test_any_refusal_has_a_reason_phrase_that_is_one_line_of_latin_1(
    message: str, hint: str
) -> None:
    answer = problems.refusal_answer(Refusal(Code.RELEASE_REJECTED, message, hint), one_text=True)
    encoded = answer.reason.encode("latin-1")
    assert len(encoded) <= 400
    assert not set(encoded) & ({*range(32), *range(127, 160)})


@pytest.mark.parametrize("code", list(Code))
def test_no_refusal_has_a_status_that_makes_clients_skip_wait_or_send_again(code: Code) -> None:
    assert problems.status_of(Refusal(code, "x")) in {400, 403, 404, 410, 413}


def test_no_sentence_of_the_gateway_has_words_that_clients_take_for_already_there() -> None:
    words = re.compile(
        r"already exist|overwrite artifact|updating asset|already been taken", re.IGNORECASE
    )
    folder = Path(problems.__file__).parent
    sources = [
        *folder.rglob("*.py"),
        folder.parent / "store" / "blobs.py",
        folder.parent / "formats" / "upload_form.py",
    ]
    assert [path.name for path in sources if words.search(path.read_text())] == []


def test_a_full_disk_is_not_sent_again_at_once() -> None:
    answer = problems.refusal_answer(Refusal(Code.STORAGE_FULL, "full"))
    assert (answer.status, answer.headers) == (413, (("retry-after", "300"),))


# --- tokens -------------------------------------------------------------------------------------------------------


@given(st.integers(0, 52), st.characters(codec="ascii", categories=("L", "N")))
def test_a_mistyped_token_is_told_by_its_checksum(position: int, char: str) -> None:
    token = tokens.new_upload_token()
    assert len(token) == 53
    wrong = token[:position] + char + token[position + 1 :]
    assert tokens.is_checked(wrong, tokens.PREFIX) == (wrong == token)


def test_tokens_differ() -> None:
    assert len({tokens.new_upload_token() for _ in range(100)}) == 100


@pytest.mark.parametrize(
    "value", ["Basic", "Basic !!!", "Basic " + "YQ==", "Digest a:b", "Basic YTpi extra"]
)
def test_an_authorization_header_of_another_form_is_refused(value: str) -> None:
    with pytest.raises(Refusal) as caught:
        tokens.from_authorization(value)
    assert caught.value.code is Code.TOKEN_INVALID
