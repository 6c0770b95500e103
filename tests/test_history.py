"""Questions after the fact: what the journal's index answers is what the acts themselves say, page by page."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy.engine import Connection

import backends
from history_world import RAN, Past, past_of
from presspass.core.errors import Code, Refusal
from presspass.core.history import FACETS, Act, Question, facets_of
from presspass.core.statement import ReleaseBody
from presspass.services.config import Config
from presspass.services.places import places
from presspass.store import history, journal_view, migrate
from presspass.store import journal_tables as t
from presspass.store.database import open_engine
from presspass.verify.history import Teller, Words, moment

NAMES = {"p-ana": "Ana", "p-ben": "Ben", "p-cleo": "Cleo"}


@pytest.fixture(scope="module")
def past(tmp_path_factory: pytest.TempPathFactory, backend: str) -> Iterator[Past]:
    home = tmp_path_factory.mktemp("home")
    (home / "press" / "journal").mkdir(parents=True)
    config = Config("http://localhost:8460", database=backends.section())
    engine = open_engine(places(home, config, "press").journal)
    migrate.bring_up(engine, "journal")
    made = past_of(engine)
    yield made
    made.writer.close()


def answer(past: Past, question: Question) -> list[Act]:
    def ask(reading: object) -> list[Act]:
        with past.writer.read() as connection:
            found: list[Act] = reading(connection)  # type: ignore[operator]  # a reading of a connection
            return found

    return [act for page in history.every(ask, question) for act in page]


def asked(past: Past, **words: object) -> list[str]:
    """Titles of the acts that answer these words."""
    question = Words(**words).question(past.paper.chain, NAMES)  # type: ignore[arg-type]  # words by their names
    return [Teller.title(act.statement) for act in answer(past, question)]


def everything(past: Past) -> list[Act]:
    return answer(past, Question({"space": ("main",)}))


def in_force(past: Past, act: Act) -> str:
    """The policy in force when the press acted, from the chain itself."""
    return Teller.of([past.paper.genesis, *(one.statement for one in past.paper.links)]).in_force[
        act.after
    ]


def test_every_act_is_there_once_in_the_order_of_time_with_its_entries(past: Past) -> None:
    found = everything(past)
    with past.writer.read() as connection:
        kept = connection.execute(t.STATEMENT.select()).all()
    assert len(found) == len(kept) == len({act.statement.digest for act in found})
    assert [act.at_ms for act in found] == sorted(act.at_ms for act in found)
    for act in found:
        kinds = [json.loads(entry)["kind"] for _position, entry in act.entries]
        body = act.statement.body
        if isinstance(body, ReleaseBody):
            way = [one for one in kinds if one != "workload"]
            assert way in [["approved", "intent", *end] for end in (["verified"], ["failed"], [])]
            assert (kinds[0] == "workload") == (body.asked_by is not None)
            assert len(act.approvals) >= 2
        else:
            assert kinds == ["genesis" if act.after == 0 else "admitted"]
        with past.writer.read() as connection:
            for position, entry in act.entries:
                row = t.LEDGER_ENTRY.select().where(t.LEDGER_ENTRY.c.position == position)
                assert connection.execute(row).one().entry == entry


def test_what_is_not_finished_yet_is_told_as_such(past: Past) -> None:
    acts = answer(past, Words(project="late").question(past.paper.chain, {}))
    told = Teller.of([past.paper.genesis, *(one.statement for one in past.paper.links)])
    outcomes = {told.title(act.statement): told.to_json(act)["outcome"] for act in acts}
    assert outcomes == {"late 1.0": "verified", "late 2.0": "publishing"}


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(data=st.data())
def test_the_index_answers_what_the_acts_themselves_say(past: Past, data: st.DataObject) -> None:
    acts = everything(past)
    facets = [
        facets_of(act.statement, [one.key for one in act.approvals], in_force(past, act))
        for act in acts
    ]
    known: dict[str, set[str]] = {}
    for facet, value in (one for some in facets for one in some):
        known.setdefault(facet, {"f" * 64}).add(value)
    named = data.draw(st.sets(st.sampled_from(FACETS[:-1]), max_size=3))
    parts = {
        facet: tuple(sorted(data.draw(st.sets(st.sampled_from(sorted(known[facet])), max_size=3))))
        for facet in sorted(named)
    }
    seconds = st.none() | st.integers(past.now_s - 30, past.now_s + 1)
    question = Question({**parts, "space": ("main",)}, data.draw(seconds), data.draw(seconds))
    meant = [
        act.statement.digest
        for act, had in zip(acts, facets, strict=True)
        if question.is_answered_by(had, act.at_ms // 1000)
    ]
    count, mark, found = data.draw(st.integers(1, 9)), history.BEGINNING, list[str]()
    with past.writer.read() as connection:
        while page := history.acts(connection, question, mark, count):
            found += [act.statement.digest for act in page]
            mark = history.mark_of(page[-1])
    assert found == meant
    assert Question.from_json(json.loads(json.dumps(question.to_json()))) == question


def test_words_name_what_is_meant(past: Past) -> None:
    paper = past.paper
    keys = {name: paper.keys[name].key.id for name in paper.names}
    cleo = asked(past, key=keys["cleo"][:8])
    assert cleo and cleo == asked(past, key=keys["cleo"]) == asked(past, person="Cleo")
    assert cleo == asked(past, person="p-cleo")
    assert set(asked(past, person="Ana")) > set(cleo)
    assert asked(past, key=keys["cleo"], person="Ben") == []
    by_path = asked(past, workflow="ACME/greet/.github/workflows/release.yml")
    other = asked(past, workflow="acme/greet/ci/other.yml")
    nightly = asked(past, workflow="acme/greet/ci/nightly.yml")
    assert by_path and other and nightly
    assert sorted(by_path + other) == sorted(asked(past, publisher="ci"))
    assert sorted(by_path + other + nightly) == sorted(asked(past, workflow="acme/greet"))
    assert nightly == asked(past, workflow=RAN[1]) == asked(past, workflow=f"acme/greet@{RAN[1]}")
    assert asked(past, workflow=f"acme/greet/ci/nightly.yml@{RAN[0]}") == []
    assert set(asked(past, project="GREET", upstream="main", kinds=("release",))) == set(
        asked(past, project="greet")
    )
    assert asked(past, kinds=("policy", "roster")) == ["policy", "roster"]


def test_a_policy_has_a_number_and_counts_where_it_was_named_or_in_force(past: Past) -> None:
    paper = past.paper
    (second,) = [act for act in everything(past) if act.statement.kind.value == "policy"]
    assert asked(past, policy="2") == asked(past, policy=second.statement.digest[:10])
    assert "late 1.0" in asked(past, policy="1") and "late 1.0" in asked(past, policy="2")
    assert "policy" in asked(past, policy="1") and "policy" not in asked(past, policy="2")
    told = Teller.of([paper.genesis, *(one.statement for one in paper.links)])
    late = next(act for act in everything(past) if Teller.title(act.statement) == "late 1.0")
    assert told.to_json(late)["policies"] == [1, 2]
    assert told.to_json(second)["policies"] == [1]


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (
            {"key": "0" * 8},
            Code.REQUEST_NOT_FOUND,
            "no key of this roster or an earlier one that starts",
        ),
        ({"key": "abc"}, Code.REQUEST_MALFORMED, "names no key"),
        ({"key": "not hex!"}, Code.REQUEST_MALFORMED, "names no key"),
        ({"person": "Mallory"}, Code.REQUEST_NOT_FOUND, "Nobody of this roster or an earlier one"),
        ({"policy": "7"}, Code.REQUEST_NOT_FOUND, "never a policy 7"),
        ({"policy": "0"}, Code.REQUEST_NOT_FOUND, "never a policy 0"),
        ({"policy": "f" * 12}, Code.REQUEST_NOT_FOUND, "no policy of this installation"),
        ({"publisher": "cd"}, Code.REQUEST_NOT_FOUND, "No publisher was ever called"),
        ({"workflow": "acme/other"}, Code.REQUEST_NOT_FOUND, "No publisher was ever bound to"),
        ({"workflow": "acme/greet@12ab"}, Code.REQUEST_MALFORMED, "no SHA-256 of a workflow"),
        ({"upstream": "side"}, Code.REQUEST_NOT_FOUND, "No upstream was ever called"),
        ({"kinds": ("releases",)}, Code.REQUEST_NOT_FOUND, "No act is of the kind"),
        ({"project": "gre\0et"}, Code.REQUEST_MALFORMED, "no name of a project"),
        ({"project": "g" * 200}, Code.REQUEST_MALFORMED, "no name of a project"),
        ({"since": "yesterday"}, Code.REQUEST_MALFORMED, "is no time"),
    ],
)
def test_what_nobody_knows_is_said_as_such(
    past: Past, words: dict[str, str], code: Code, said: str
) -> None:
    with pytest.raises(Refusal, match=said) as caught:
        Words(**words).question(past.paper.chain, NAMES)  # type: ignore[arg-type]  # words by their names
    assert caught.value.code is code and caught.value.hint


def test_a_name_that_two_people_have_is_told_as_ambiguous(past: Past) -> None:
    with pytest.raises(Refusal, match="may mean several: p-ana, p-ben"):
        Words(person="Ana").question(past.paper.chain, {"p-ana": "Ana", "p-ben": "Ana"})


@given(st.text())
def test_no_text_but_a_time_is_a_time(typed: str) -> None:
    try:
        at = moment(typed)
    except Refusal:
        return
    assert (at is None) == (typed == "")


def test_times_are_utc_unless_they_say_otherwise() -> None:
    assert moment("1970-01-02") == 86_400
    assert moment("1970-01-01T01:00+01:00") == 0


def test_words_survive_an_address() -> None:
    words = Words(key="12ab", policy="7", kinds=("policy", "release"), since="2026-11-24")
    assert Words.of([*words.pairs(), ("after", "1"), ("page", "x")]) == words


def test_an_older_journal_gets_the_index_that_it_would_have_had(tmp_path: Path) -> None:
    engine = open_engine(tmp_path / "journal.db")
    migrate.upgrade(engine, "journal")
    past = past_of(engine, releases=6)

    def rows(connection: Connection) -> list[list[object]]:
        tables = (t.STATEMENT_FACET, t.LEDGER_MENTION)
        return [sorted(map(tuple, connection.execute(one.select()))) for one in tables]

    def back(connection: Connection) -> None:
        connection.exec_driver_sql("DROP INDEX ix_proof_sha256")
        connection.exec_driver_sql("DROP TABLE revocation_head")
        connection.exec_driver_sql("DROP TABLE rules")
        connection.exec_driver_sql("DROP TABLE standing_use")
        connection.exec_driver_sql("DROP TABLE release_seen")
        connection.exec_driver_sql("DROP TABLE inspected")
        connection.exec_driver_sql("DROP TABLE plan_release")
        connection.exec_driver_sql("DROP TABLE reminded")
        connection.exec_driver_sql("DROP INDEX notice_by_due")
        connection.exec_driver_sql("DROP INDEX notice_by_address")
        for column in ("person", "urgent", "made_ms"):
            connection.exec_driver_sql(f"ALTER TABLE notice DROP COLUMN {column}")
        connection.exec_driver_sql("DROP TABLE ruling")
        connection.exec_driver_sql("DROP TABLE statement_facet")
        connection.exec_driver_sql("DROP TABLE ledger_mention")
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '0004'")

    written = past.writer.run(rows)
    past.writer.run(back)
    migrate.upgrade(engine, "journal")
    assert all(written) and past.writer.run(rows) == written
    assert past.writer.run(journal_view.genesis) == past.paper.genesis
    past.writer.close()
