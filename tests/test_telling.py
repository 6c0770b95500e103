"""What people are told, and how: once, in few messages, by mail and webhook, until it arrives or is given up."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from email import message_from_bytes
from email.message import Message as Mime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from aiosmtpd.controller import Controller
from hypothesis import given, settings
from hypothesis import strategies as st

from press_rig import TOKEN, Rig, rigs
from presspass.cli.doctor_notices import notices as doctor_notices
from presspass.core.errors import Refusal
from presspass.core.limits import (
    NOTICE_ATTEMPTS_MAX,
    NOTICE_ROUNDS_MAX,
    NOTICE_WINDOW_S,
    NOTICES_APART_MAX,
    NOTICES_LISTED_MAX,
)
from presspass.core.policy import Policy
from presspass.core.roster import Person
from presspass.core.statement import PolicyBody, Statement
from presspass.drill.world.clock import WorldClock
from presspass.drill.world.registry import Registry
from presspass.notify import Message
from presspass.notify.chat import Chat
from presspass.notify.mail import Mail
from presspass.notify.webhook import Webhook
from presspass.press.clock import Clock
from presspass.press.outbox import Outbox, merged
from presspass.services.config import (
    ChatSettings,
    Config,
    DigestSettings,
    ForgeSettings,
    parse_config,
    read_config,
)
from presspass.services.press import channels
from presspass.store import journal_tables as t
from presspass.store import journal_view as view
from presspass.store.database import Writer, open_engine
from presspass.store.migrate import bring_up

MINUTE_S, HOUR_S, DAY_S = 60, 3600, 86_400
POLICY = Policy(veto_window_s=0, software_keys=True, key_wait_s=None)
ADA = Person("p-ada", "0" * 64, (), ())
NOW_MS = 1_800_000_000_000


class Taking:
    """A channel that keeps what it is given, or does not work while `broken`."""

    def __init__(self) -> None:
        self.taken: list[Message] = []
        self.broken = False

    def accepts(self, address: str) -> bool:
        return address.startswith("mailto:")

    def deliver(self, message: Message, now_s: int) -> None:
        if self.broken:
            raise OSError("no way out")
        self.taken.append(message)


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[Writer]:
    engine = open_engine(tmp_path / "journal.db")
    bring_up(engine, "journal")
    writer = Writer(engine)
    yield writer
    writer.close()


def put(writer: Writer, *subjects: str, urgent: bool = False, at_ms: int = NOW_MS) -> None:
    """Notices to one address, as `notices.tell` writes them for somebody whose details are known."""
    for subject in subjects:
        row = {
            "id": hashlib.sha256(subject.encode()).hexdigest(),
            "address": "mailto:ada@team.invalid",
        }
        row |= {"subject": subject, "body": f"about {subject}", "about": "0" * 64, "person": ADA.id}
        times = {"next_ms": at_ms, "made_ms": at_ms, "urgent": int(urgent)}
        writer.run(
            lambda c, row={**row, **times}: c.execute(
                t.NOTICE.insert().values(attempts=0, error="", **row)
            )
        )


def several(count: int, start: int = 0) -> list[str]:
    return [f"notice {number}" for number in range(start, start + count)]


# --- the outbox ---------------------------------------------------------------------------------------------------


def test_a_few_notices_are_messages_of_their_own_and_a_burst_is_one_that_counts_them(
    writer: Writer,
) -> None:
    way = Taking()
    outbox = Outbox(writer, [way])
    put(writer, *several(NOTICES_APART_MAX))
    assert outbox.deliver_due(NOW_MS) == NOTICES_APART_MAX
    assert sorted(one.subject for one in way.taken) == several(NOTICES_APART_MAX)
    put(writer, *several(200, start=10))
    assert outbox.deliver_due(NOW_MS + 1) == 200
    [burst] = way.taken[NOTICES_APART_MAX:]
    assert burst.subject == "200 notices"
    assert f"and {200 - NOTICES_LISTED_MAX} more" in burst.body and "about notice 1" in burst.body
    assert outbox.deliver_due(NOW_MS + 2) == 0


def test_after_several_messages_what_is_not_urgent_waits_for_the_window_and_what_is_urgent_does_not(
    writer: Writer,
) -> None:
    way = Taking()
    outbox = Outbox(writer, [way])
    for number in range(NOTICE_ROUNDS_MAX):
        put(writer, f"round {number}")
        assert outbox.deliver_due(NOW_MS + number) == 1
    put(writer, "later", "later too")
    put(writer, "at once", urgent=True)
    assert outbox.deliver_due(NOW_MS + 100) == 1
    assert way.taken[-1].subject == "at once"
    end_ms = NOW_MS + NOTICE_WINDOW_S * 1000
    assert outbox.deliver_due(end_ms - 1) == 0
    assert outbox.deliver_due(end_ms + NOTICE_ROUNDS_MAX) == 2


def test_a_digest_brings_everything_at_its_time_and_urgent_notices_never_wait_for_it(
    writer: Writer,
) -> None:
    way = Taking()
    outbox = Outbox(writer, [way], {ADA.id: HOUR_S})
    put(writer, "a", "b")
    put(writer, "now", urgent=True)
    assert outbox.deliver_due(NOW_MS) == 1 and way.taken[0].subject == "now"
    boundary_ms = (NOW_MS // (HOUR_S * 1000) + 1) * HOUR_S * 1000
    assert outbox.deliver_due(boundary_ms - 1) == 0
    assert outbox.deliver_due(boundary_ms) == 2
    assert way.taken[1].subject == "2 notices" and len(way.taken) == 2


def test_what_cannot_be_delivered_is_tried_for_a_day_and_then_seen_to_be_dead(
    writer: Writer,
) -> None:
    way = Taking()
    way.broken = True
    outbox = Outbox(writer, [way])
    put(writer, "lost", urgent=True)
    now_ms, tried = NOW_MS, 0
    while True:
        with writer.read() as connection:
            row = connection.execute(sa.select(t.NOTICE)).one()
        if row.attempts >= NOTICE_ATTEMPTS_MAX:
            break
        now_ms, tried = row.next_ms, tried + 1
        assert outbox.deliver_due(now_ms - 1) == 0 and outbox.deliver_due(now_ms) == 0
    assert tried == NOTICE_ATTEMPTS_MAX and now_ms - NOW_MS >= DAY_S * 1000 * 0.9
    way.broken = False
    assert outbox.deliver_due(now_ms + DAY_S * 1000) == 0
    with writer.read() as connection:
        [dead] = view.undelivered(connection, 10)
    assert (dead.subject, dead.dead, dead.error) == ("lost", True, "OSError: no way out")


def test_a_burst_that_failed_is_sent_again_and_whoever_got_it_can_drop_the_repeat(
    writer: Writer,
) -> None:
    way = Taking()
    outbox = Outbox(writer, [way])
    put(writer, *several(10))
    way.broken = True
    assert outbox.deliver_due(NOW_MS) == 0
    way.broken = False
    assert outbox.deliver_due(NOW_MS + 2000) == 10
    [burst] = way.taken
    with writer.read() as connection:
        rows = connection.execute(sa.select(t.NOTICE)).all()
    assert merged("mailto:ada@team.invalid", rows[::-1]).id == burst.id


@settings(max_examples=25, deadline=None)
@given(
    marks=st.lists(st.tuples(st.booleans(), st.integers(0, 3 * HOUR_S)), min_size=1, max_size=30),
    every=st.sampled_from([0, 300, HOUR_S]),
)
def test_every_notice_arrives_exactly_once_whatever_the_limits(
    tmp_path_factory: pytest.TempPathFactory, marks: list[tuple[bool, int]], every: int
) -> None:
    engine = open_engine(tmp_path_factory.mktemp("law") / "journal.db")
    t.METADATA.create_all(engine)
    writer, way = Writer(engine), Taking()
    outbox = Outbox(writer, [way], {ADA.id: every} if every else {})
    for number, (urgent, at_s) in enumerate(marks):
        put(writer, f"number-{number}.", urgent=urgent, at_ms=NOW_MS + at_s * 1000)
    for step in range(0, 5 * HOUR_S, 300):
        now_ms = NOW_MS + step * 1000
        outbox.deliver_due(now_ms)
        with writer.read() as connection:
            rows = connection.execute(sa.select(t.NOTICE)).all()
        assert not [one for one in rows if one.urgent and one.made_ms <= now_ms and not one.sent_ms]
    assert all(one.sent_ms for one in rows)
    texts = "\n".join(one.body for one in way.taken)
    for number in range(len(marks)):
        assert (
            texts.count(f"about number-{number}.\n") + texts.endswith(f"about number-{number}.")
            == 1
        )
    writer.close()


# --- the channels -------------------------------------------------------------------------------------------------


class Mailbox:
    """An SMTP server's handler: keeps the mails, and says no to one recipient."""

    def __init__(self) -> None:
        self.mails: list[Mime] = []

    async def handle_RCPT(
        self, _server: Any, _session: Any, envelope: Any, address: str, _options: Any
    ) -> str:
        if address.startswith("gone@"):
            return "550 no such mailbox"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:
        self.mails.append(message_from_bytes(envelope.content))
        return "250 OK"


class MailServer(Controller):
    """On a port that the system chooses, which the controller itself does not foresee."""

    def _trigger_server(self) -> None:
        self.port = self.server.sockets[0].getsockname()[1]
        super()._trigger_server()


def test_mail_goes_through_a_real_server_and_a_refused_mailbox_stops_no_other(
    writer: Writer,
) -> None:
    box = Mailbox()
    server = MailServer(box, hostname="127.0.0.1", port=0)
    server.start()
    try:
        outbox = Outbox(writer, [Mail("127.0.0.1", server.port, "gate@gate.invalid")])
        put(writer, "A release waits – für Ada")
        writer.run(lambda c: c.execute(t.NOTICE.insert().values(
            id="1" * 64, address="mailto:gone@team.invalid", subject="x", body="x", about="", attempts=0,
            error="", next_ms=NOW_MS)))  # fmt: skip
        assert outbox.deliver_due(NOW_MS) == 1
    finally:
        server.stop()
    [mail] = box.mails
    assert mail["To"] == "ada@team.invalid" and mail["From"] == "gate@gate.invalid"
    assert mail.get_payload(decode=True).decode().strip() == "about A release waits – für Ada"
    with writer.read() as connection:
        [failed] = view.undelivered(connection, 10)
    assert failed.address == "mailto:gone@team.invalid" and "no such mailbox" in failed.error


def test_a_webhook_verifies_by_the_text_of_the_specification_over_every_retry(
    writer: Writer,
) -> None:
    """Standard Webhooks, "Signature scheme" and "Verifying": computed here from its text, not from our code."""
    secret, asked = bytes(range(32)), []

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            asked.append((dict(self.headers), body))
            self.send_response(503 if len(asked) == 1 else 204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Receiver) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}/hook"
        writer.run(lambda c: c.execute(t.NOTICE.insert().values(
            id="2" * 64, address=address, subject="s", body="b", about="", attempts=0, error="",
            next_ms=NOW_MS)))  # fmt: skip
        outbox = Outbox(writer, [Webhook(secret)])
        assert outbox.deliver_due(NOW_MS) == 0
        assert outbox.deliver_due(NOW_MS + 2000) == 1
        server.shutdown()
    assert len({headers["webhook-id"] for headers, _ in asked}) == 1
    for headers, body in asked:
        content = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.{body.decode()}"
        expected = hmac.new(secret, content.encode(), hashlib.sha256).digest()
        versions = [one.split(",", 1) for one in headers["webhook-signature"].split(" ")]
        assert ["v1", base64.b64encode(expected).decode()] in versions
        assert json.loads(body) == {"type": "presspass", "subject": "s", "text": "b"}
    assert int(asked[1][0]["webhook-timestamp"]) - int(asked[0][0]["webhook-timestamp"]) == 2


def test_a_chat_room_gets_text_without_links_or_mentions_and_its_address_stays_secret(
    writer: Writer,
) -> None:
    asked: list[tuple[str, Any]] = []

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            asked.append((self.path, json.loads(body)))
            self.send_response(302 if len(asked) == 1 else 200)
            self.send_header("location", "http://127.0.0.1:1/elsewhere")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Receiver) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        room = Chat("releases", f"http://127.0.0.1:{server.server_port}/secret-7f3a", "content")
        body = "freeze. <!channel> [look](https://gate.invalid) @everyone `x` " + "y" * 5000
        writer.run(lambda c: c.execute(t.NOTICE.insert().values(
            id="3" * 64, address="chat:releases", subject="s", body=body, about="", attempts=0, error="",
            next_ms=NOW_MS)))  # fmt: skip
        outbox = Outbox(writer, [room])
        assert outbox.deliver_due(NOW_MS) == 0
        assert outbox.deliver_due(NOW_MS + 2000) == 1
        server.shutdown()
    assert [path for path, _ in asked] == ["/secret-7f3a"] * 2
    [text] = asked[1][1].values()
    assert list(asked[1][1]) == ["content"] and len(text) < 2000
    assert not set("<>[]@`|") & set(text) and text.startswith("s\n\nfreeze. ‹!channel›")
    with pytest.raises(OSError, match="cannot be asked") as failed:  # the server is gone
        room.deliver(Message("4" * 64, "chat:releases", "s", "b"), 0)
    assert "secret-7f3a" not in str(failed.value)


def test_a_chat_room_without_its_private_file_is_refused_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "press" / "keys").mkdir(parents=True)
    (tmp_path / "press" / "keys" / "webhook.key").write_bytes(bytes(32))
    (tmp_path / "press" / "keys" / "webhook.key").chmod(0o600)
    path = tmp_path / "press" / "keys" / "chat-releases.url"
    config = Config("http://localhost:8460", chats=(ChatSettings("releases", "text"),))
    assert parse_config(config.to_toml()) == config
    for text, mode in (
        (None, 0),
        ("https://chat.invalid/x", 0o644),
        ("http://chat.invalid/x", 0o600),
    ):
        if text is not None:
            path.write_text(text)
            path.chmod(mode)
        with pytest.raises(Refusal, match="chat-releases.url"):
            channels(config, tmp_path)
    path.write_text("https://chat.invalid/x\n")
    assert [one.accepts("chat:releases") for one in channels(config, tmp_path)] == [False, True]


# --- reminders and escalation -------------------------------------------------------------------------------------


@pytest.fixture
def make_rig(tmp_path: Path) -> Iterator[Callable[..., Rig]]:
    with Registry(seed=11, token=TOKEN) as registry, rigs(tmp_path, registry, POLICY) as make:
        yield make


def asked_for(rig: Rig, life_s: int) -> Statement:
    policy = replace(rig.policy, quiet_period_s=7)
    statement = rig.statement(PolicyBody(policy), rig.journal(view.heads).policy, life_s=life_s)
    rig.request(statement)
    return statement


def told(rig: Rig, subject: str) -> list[str]:
    """Who was told something with this beginning."""
    n = t.NOTICE.c
    query = sa.select(n.person).where(n.subject.startswith(subject)).order_by(n.person)
    found: list[str] = rig.journal(lambda c: c.execute(query).scalars().all())
    return found


def test_people_are_reminded_once_before_a_request_expires_also_over_a_restart(
    make_rig: Callable[..., Rig],
) -> None:
    rig = make_rig()
    world = WorldClock(wall_s=float(int(time.time())))
    clock = Clock(world.wall, world.monotonic, settle_s=1)
    with rig.press(clock) as press:
        change = asked_for(rig, life_s=8 * HOUR_S)
        rig.stays(press, change.digest, "seen")
        world.advance(5 * HOUR_S)
        rig.stays(press, change.digest, "seen")
        assert told(rig, "Expires soon") == []
        world.advance(1.5 * HOUR_S)
        rig.stays(press, change.digest, "seen")
    with rig.press(clock) as press:
        rig.stays(press, change.digest, "seen")
        assert told(rig, "Expires soon: a change of policy") == ["p-ana", "p-ben", "p-cleo"]
        rig.sign(change, "ana", "ben")
        rig.until(press, change.digest, "admitted")


def test_without_a_decision_the_named_group_is_told_after_its_time_and_nobody_who_has_decided(
    make_rig: Callable[..., Rig],
) -> None:
    rig = make_rig(
        replace(POLICY, escalate_after_s=30 * MINUTE_S, escalate_to="reserve"),
        groups={"cleo": ("approvers", "reserve")},
    )
    world = WorldClock(wall_s=float(int(time.time())))
    clock = Clock(world.wall, world.monotonic, settle_s=1)
    with rig.press(clock) as press:
        decided, open_one = asked_for(rig, DAY_S), asked_for(rig, DAY_S)
        rig.veto(decided, "ana")
        rig.until(press, decided.digest, "rejected")
        rig.stays(press, open_one.digest, "seen")
        world.advance(29 * MINUTE_S)
        rig.stays(press, open_one.digest, "seen")
        assert told(rig, "Nobody has decided") == []
        world.advance(2 * MINUTE_S)
        rig.stays(press, open_one.digest, "seen")
        assert told(rig, "Nobody has decided") == ["p-cleo"]


def test_a_group_that_has_nobody_is_no_reason_to_tell_nobody(make_rig: Callable[..., Rig]) -> None:
    rig = make_rig(replace(POLICY, escalate_after_s=MINUTE_S, escalate_to="reserve"))
    world = WorldClock(wall_s=float(int(time.time())))
    with rig.press(Clock(world.wall, world.monotonic, settle_s=1)) as press:
        change = asked_for(rig, DAY_S)
        rig.stays(press, change.digest, "seen")
        world.advance(2 * MINUTE_S)
        rig.stays(press, change.digest, "seen")
        assert told(rig, "Nobody has decided") == ["p-ana", "p-ben", "p-cleo"]


# --- doctor -------------------------------------------------------------------------------------------------------


def test_doctor_warns_of_whoever_is_told_by_nothing_or_by_the_forge_alone(
    make_rig: Callable[..., Rig],
) -> None:
    addresses = {
        "ana": ("https://forge.invalid/hooks/1",),
        "ben": (),
        "cleo": ("https://forge.invalid/hooks/2", "https://chat.invalid/hook"),
    }
    rig = make_rig(addresses=addresses)
    forge = ForgeSettings(
        "hosted", "gitlab", "https://forge.invalid", "https://forge.invalid/api/v4"
    )
    config = replace(
        read_config(rig.home), forges=(forge,), digests=(DigestSettings("p-nobody", HOUR_S),)
    )
    found = [one.found for one in doctor_notices(rig.home, config)]
    assert [one.split(":")[0] for one in found[:2]] == [
        "p-ana is told through the forge alone",
        "p-ben has no address",
    ]
    assert "p-nobody" in found[2] and len(found) == 3
