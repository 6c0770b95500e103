"""The press tells the forge how a release stands: a status at the commit that the verified workload named, an event at
the end. The forge's API is a stand-in (`drill.world.forge_api`); everything else is real."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

import docs_examples
import peers
from ci_rig import NO_CI, CiRig, until
from presspass.cli.databases import ask_journal
from presspass.core.errors import Code, Refusal
from presspass.core.publisher import PublisherBody
from presspass.core.statement import AskedBy, ReleaseBody
from presspass.drill.peers import PypiServer, wait_until
from presspass.drill.world.forge_api import ForgeApi
from presspass.drill.world.loopback import Request, Response
from presspass.notify import Message
from presspass.notify.forge import FOLLOW_UP, STATUS, Call, Forge
from presspass.press.forges import Forges
from presspass.services import press as press_service
from presspass.services.config import Config, ForgeSettings, parse_config
from presspass.store import journal_tables as t
from presspass.store import migrate
from presspass.store.database import Writer, open_engine

TOKEN, TRIGGER = "forge-token-1", "trigger-token-1"
SHA = "5" * 40
CALL = Call(
    repository="acme/greet", project_id="", commit=SHA, state="pending", description="greet 1.0 waits",
    url="https://gate.example/r/x", release="x", project="greet", version="1.0",
)  # fmt: skip


def forge(api: ForgeApi, provider: str = "github", **changes: Any) -> Forge:
    url = api.url if provider == "github" else f"{api.url}/api/v4"
    value = Forge("main", provider, "https://issuer.example", url, TOKEN, follow_up="presspass")
    return replace(value, trigger_token=TRIGGER if provider == "gitlab" else "", **changes)


def send(to: Forge, call: Call, subject: str = "") -> None:
    subject = subject or f"{STATUS} {call.state}"
    to.deliver(Message("id", to.address, subject, call.to_text()), 0)


@pytest.fixture
def api() -> Iterator[ForgeApi]:
    with ForgeApi(TOKEN, TRIGGER) as api:
        yield api


def test_github_is_told_as_it_documents(api: ForgeApi) -> None:
    send(forge(api), CALL)
    send(forge(api), replace(CALL, state="failure", description="x" * 500))
    [first, second] = api.told.statuses
    assert first == (
        "acme/greet",
        SHA,
        {
            "state": "pending",
            "target_url": "https://gate.example/r/x",
            "description": "greet 1.0 waits",
            "context": "presspass",
        },
    )
    assert second[2]["state"] == "failure" and len(second[2]["description"]) == 140
    send(forge(api), replace(CALL, state="success"), FOLLOW_UP)
    [(where, event)] = api.told.events
    assert (where, event["event_type"]) == ("acme/greet", "presspass")
    assert event["client_payload"] == {
        "release": "x", "url": "https://gate.example/r/x", "project": "greet", "version": "1.0",
        "state": "published", "sha": SHA,
    }  # fmt: skip


def test_gitlab_is_told_as_it_documents_and_a_status_that_is_there_is_no_failure(
    api: ForgeApi,
) -> None:
    call = replace(CALL, project_id="4001")
    gitlab = forge(api, "gitlab", follow_up="main")
    for _ in range(2):
        send(gitlab, call)
    send(gitlab, replace(call, state="failure"))
    assert api.states() == ["pending", "failed"]
    assert api.told.statuses[0][:2] == ("4001", SHA)
    assert api.told.statuses[0][2]["name"] == "presspass"
    send(gitlab, replace(call, state="failure"), FOLLOW_UP)
    [(project, form)] = api.told.events
    assert (project, form["ref"]) == ("4001", "main")
    assert form["variables[PRESSPASS_STATE]"] == "rejected"
    assert form["variables[PRESSPASS_RELEASE]"] == "x"
    assert form["variables[PRESSPASS_RELEASE_URL]"] == call.url
    assert "variables[PRESSPASS_URL]" not in form, "that is the gate's address to our commands"


@pytest.mark.parametrize(
    ("call", "provider"),
    [
        (replace(CALL, commit="main"), "github"),
        (replace(CALL, commit=f"{SHA}/../x"), "github"),
        (replace(CALL, repository="acme"), "github"),
        (replace(CALL, repository="../user"), "github"),
        (replace(CALL, repository="a/b/c"), "github"),
        (replace(CALL, project_id="1/../2"), "gitlab"),
        (replace(CALL, project_id=""), "gitlab"),
    ],
)
def test_a_claim_that_is_no_plain_name_leads_to_no_call(
    api: ForgeApi, call: Call, provider: str
) -> None:
    with pytest.raises(OSError):
        send(forge(api, provider), call)
    assert api.asked == 0


def test_a_forge_that_refuses_is_an_error_and_its_redirects_are_not_followed(api: ForgeApi) -> None:
    with pytest.raises(OSError, match="401"):
        send(forge(api, token="another"), CALL)

    class Redirects(ForgeApi):
        def answer(self, request: Request) -> Response:
            return Response(307, headers=(("Location", api.url + request.path),))

    before = api.asked
    with Redirects(TOKEN) as elsewhere, pytest.raises(OSError, match="307"):
        send(forge(elsewhere), CALL)
    assert api.asked == before, "the token goes nowhere else"


def test_a_forge_is_told_about_its_own_issuer_and_repositories_alone(api: ForgeApi) -> None:
    own = forge(api, repositories=("acme/greet",))
    assert own.serves("https://issuer.example", "acme/greet")
    assert not own.serves("https://issuer.example", "acme/other")
    assert not own.serves("https://other.example", "acme/greet")
    assert own.accepts("forge:main") and not own.accepts("forge:other")
    assert not own.accepts("mailto:forge:main@x")


# what the press journals of it, on both databases


@pytest.fixture(params=["sqlite", "postgresql"])
def writer(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Writer]:
    """An empty journal."""
    if request.param == "sqlite":
        engine = open_engine(tmp_path / "journal.db")
    else:
        made = request.getfixturevalue("databases")
        url = made.url(made.empty(), admin=True).replace("postgresql://", "postgresql+psycopg://")
        engine = sa.create_engine(url, isolation_level="AUTOCOMMIT")
    migrate.upgrade(engine, "journal")
    writer = Writer(engine)
    yield writer
    writer.close()
    engine.dispose()


class Desk:
    """One release of a workload in a journal, as far as `Forges` looks at it."""

    def __init__(self, writer: Writer, api: ForgeApi, **changes: Any) -> None:
        self.writer = writer
        body = PublisherBody(
            "greet-ci", "main", ("greet",), "https://issuer.example", "github",
            (("repository_id", "1"), ("repository_owner_id", "2")), "acme/greet", "", "w.yml", "a" * 64,
            ("refs/tags/v*",), True, ("push",), "", False,
        )  # fmt: skip
        publisher = docs_examples.after_genesis(31, body, chained=True)
        self.forges = Forges(writer, (forge(api, **changes),), "https://gate.example")
        release = docs_examples.statements()["release"].body_as(ReleaseBody)
        asked = replace(release, asked_by=AskedBy(publisher.digest, "b" * 64, "a" * 64, ""))
        self.statement = docs_examples.after_genesis(32, asked)
        self.run(
            t.STATEMENT.insert().values(
                digest=publisher.digest, kind="publisher", statement=publisher.to_bytes(), height=1,
                admitted_ms=1,
            ),
            t.WORKLOAD.insert().values(
                token="b" * 64, state="seen", first_seen_ms=1, publisher="greet-ci",
                publisher_statement=publisher.digest, repository="acme/greet", commit_id=SHA,
            ),
            t.DECISION.insert().values(
                statement=self.statement.digest, kind="release", state="seen", first_seen_ms=1, updated_ms=1,
            ),
        )  # fmt: skip
        writer.run(lambda c: self.forges.note(c, self.statement))

    def run(self, *changes: sa.Executable) -> None:
        self.writer.run(lambda c: [c.execute(change) for change in changes])

    def workload(self, state: str) -> None:
        self.run(t.WORKLOAD.update().values(state=state))

    def decided(self, state: str) -> None:
        self.run(t.DECISION.update().values(state=state, message="because", updated_ms=2))

    def to_send(self) -> list[str]:
        """Subjects of what is to be sent, after one look."""
        self.forges.look(5)
        n = t.NOTICE.c
        query = sa.select(n.subject).where(n.sent_ms.is_(None)).order_by(n.subject)
        with self.writer.read() as connection:
            return list(connection.execute(query).scalars())


def test_a_forge_is_told_once_the_press_has_verified_the_workload_and_each_state_once(
    writer: Writer, api: ForgeApi
) -> None:
    desk = Desk(writer, api)
    assert desk.to_send() == [], "nothing is said of a workload that the press has not judged"
    desk.workload("verified")
    for _ in range(2):
        assert desk.to_send() == [f"{STATUS} pending"]
    desk.decided("approved")
    assert desk.to_send() == [f"{STATUS} pending"]
    desk.decided("verified")
    for _ in range(2):
        assert desk.to_send() == [FOLLOW_UP, f"{STATUS} success"], (
            "the older state is not sent any more"
        )


def test_a_refused_workload_and_one_of_another_issuer_are_told_to_nobody(
    writer: Writer, api: ForgeApi
) -> None:
    desk = Desk(writer, api, issuer="https://elsewhere.example")
    desk.workload("verified")
    assert desk.to_send() == []
    desk.forges = Forges(writer, (forge(api),), "https://gate.example")  # configured only now
    desk.decided("verified")
    assert desk.to_send() == [], "what was nobody's business stays so"


def test_a_release_that_is_asked_for_anew_is_no_failure(writer: Writer, api: ForgeApi) -> None:
    desk = Desk(writer, api)
    desk.workload("verified")
    desk.decided("stale")
    assert desk.to_send() == []


def test_a_refused_token_says_nothing_to_the_forge_that_it_names(
    writer: Writer, api: ForgeApi
) -> None:
    desk = Desk(writer, api)
    desk.workload("refused")
    desk.decided("rejected")
    assert desk.to_send() == []


# configuration

SETTINGS = ForgeSettings(
    "hosted", "github", "https://issuer.example", "https://api.forge.example", ("acme/greet",), "presspass"
)  # fmt: skip


def test_what_is_written_of_forges_is_read_back_as_the_same() -> None:
    config = Config("https://gate.example", forges=(SETTINGS, replace(SETTINGS, name="other")))
    assert parse_config(config.to_toml()) == config
    assert parse_config(Config("https://gate.example").to_toml()).forges == ()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('provider = "github"', 'provider = "somewhere"'),
        ("https://api.forge.example", "http://api.forge.example"),
        ('follow_up = "presspass"', 'follow_up = "presspass"\ntoken = "secret"'),
        ('name = "hosted"', 'name = "../kek"'),
    ],
)
def test_a_forge_section_that_says_something_else_is_refused(old: str, new: str) -> None:
    text = Config("https://gate.example", forges=(SETTINGS,)).to_toml()
    assert old in text
    with pytest.raises(Refusal) as refused:
        parse_config(text.replace(old, new))
    assert refused.value.code is Code.CONFIG_INVALID


def test_two_forges_of_one_name_are_refused() -> None:
    with pytest.raises(Refusal, match="same name"):
        parse_config(Config("https://gate.example", forges=(SETTINGS, SETTINGS)).to_toml())


@pytest.mark.parametrize(("mode", "text"), [(0o644, "token"), (0o600, ""), (0o600, "two words")])
def test_a_token_that_others_can_read_or_that_is_none_stops_the_press(
    tmp_path: Path, mode: int, text: str
) -> None:
    keys = tmp_path / "press" / "keys"
    keys.mkdir(parents=True)
    (keys / "forge-hosted.token").write_text(text)
    (keys / "forge-hosted.token").chmod(mode)
    with pytest.raises(Refusal) as refused:
        press_service.forges(Config("https://gate.example", forges=(SETTINGS,)), tmp_path)
    assert refused.value.code is Code.CONFIG_INVALID and "forge-hosted.token" in refused.value.hint


# the whole way


@pytest.fixture(scope="module")
def told(
    tmp_path_factory: pytest.TempPathFactory, ssh_keygen: Path
) -> Iterator[tuple[CiRig, ForgeApi]]:
    peers.require_peer("pypi-server")
    folder = tmp_path_factory.mktemp("ci")
    with (
        PypiServer(folder / "registry", "__token__", "upstream-secret") as registry,
        ForgeApi(TOKEN) as api,
        CiRig(folder, registry) as ci,
    ):
        settings = ForgeSettings(
            "hosted", "github", ci.issuer.url, api.url, (), "presspass-release"
        )
        ci.rig.init()
        token = ci.rig.home / "press" / "keys" / "forge-hosted.token"
        token.write_text(TOKEN + "\n")
        token.chmod(0o600)
        ci.start(forges=(settings,))
        yield ci, api


def staged(ci: CiRig, name: str, number: int) -> str:
    """The URL of a release that a job of its own repository has asked for, and that awaits signatures."""
    job = replace(ci.bind_job(name, number), repository=f"acme/{name}", sha=f"{number:040x}")
    with ci.runner(job) as runner:
        words = ("submit", *ci.files("1.0", name), "--url", ci.rig.origin)
        url = ci.rig.run(*words, **{**NO_CI, **runner.environment()}).strip()
    until(ci, url, "awaiting")
    return url


def states_of(api: ForgeApi, number: int) -> list[str]:
    return [str(body["state"]) for _, sha, body in api.told.statuses if sha == f"{number:040x}"]


def test_a_release_is_pending_at_its_commit_and_a_success_when_it_is_published(
    told: tuple[CiRig, ForgeApi],
) -> None:
    ci, api = told
    url = staged(ci, "shown", 5001)
    wait_until(lambda: states_of(api, 5001) == ["pending"], "pending", 10.0)
    assert api.told.events == []
    ci.rig.approve(url, "ada", "grace")
    ci.rig.run("wait", url, "--timeout", "60s")
    wait_until(lambda: states_of(api, 5001) == ["pending", "success"], "success", 10.0)
    where, _, body = api.told.statuses[-1]
    assert (where, body["target_url"]) == ("acme/shown", url)
    wait_until(lambda: len(api.told.events) == 1, "the event", 10.0)
    [(where, event)] = api.told.events
    assert where == "acme/shown" and event["event_type"] == "presspass-release"
    payload = event["client_payload"]
    assert (payload["state"], payload["version"]) == ("published", "1.0")
    assert payload["release"] == url.rpartition("/")[2]
    api.told.events.clear()


def test_a_rejected_release_is_a_failure_and_the_event_says_so(
    told: tuple[CiRig, ForgeApi],
) -> None:
    ci, api = told
    url = staged(ci, "vetoed", 5002)
    ci.rig.run("veto", url, *ci.rig.key("grace"), "--reason", "not this one", "--yes")
    wait_until(lambda: states_of(api, 5002)[-1:] == ["failure"], "failure", 10.0)
    wait_until(lambda: len(api.told.events) == 1, "the event", 10.0)
    assert api.told.events[0][1]["client_payload"]["state"] == "rejected"
    api.told.events.clear()


def test_a_forge_that_is_down_is_tried_again_and_never_hears_pending_after_the_end(
    told: tuple[CiRig, ForgeApi],
) -> None:
    ci, api = told
    api.failing = 1_000_000
    url = staged(ci, "patient", 5003)
    wait_until(lambda: undelivered(ci) >= {"status pending"}, "it was tried in vain", 10.0)
    ci.rig.run("veto", url, *ci.rig.key("ada"), "--yes")
    wait_until(lambda: "status failure" in undelivered(ci), "the end was tried in vain", 10.0)
    api.failing = 0
    wait_until(lambda: states_of(api, 5003) == ["failure"], "told in the end", 30.0)
    assert "status pending" not in undelivered(ci)


def undelivered(ci: CiRig) -> set[str]:
    """Subjects of notices to the forge that were tried and are still to be delivered."""
    n = t.NOTICE.c
    query = sa.select(n.subject).where(
        n.address == "forge:hosted", n.sent_ms.is_(None), n.attempts > 0
    )
    return set(ask_journal(ci.rig.home, lambda c: c.execute(query).scalars().all()))


def test_an_upload_by_a_person_is_told_to_no_forge(told: tuple[CiRig, ForgeApi]) -> None:
    ci, api = told
    before = len(api.told.statuses)
    url = ci.rig.submit(ci.rig.token("by-hand"), *ci.files("1.0", "by_hand"))
    until(ci, url, "awaiting")
    ci.rig.run("veto", url, *ci.rig.key("ada"), "--yes")
    until(ci, url, "rejected")
    rows = ask_journal(
        ci.rig.home, lambda c: c.execute(sa.select(t.FORGE_REPORT.c.project)).scalars().all()
    )
    assert "by-hand" not in rows and len(api.told.statuses) == before
    assert TOKEN not in json.dumps(ci.rig.log())
