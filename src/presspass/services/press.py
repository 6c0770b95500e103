"""The press as a process: the only module that imports the room press. Composes it, runs its loop, and gives commands
on the press's own host what they may ask (`initialise`, `ask`, `mark_restored`)."""

from __future__ import annotations

import argparse
import base64
import contextlib
import errno
import fcntl
import json
import logging
import os
import select
import signal
import stat
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from sqlalchemy.engine import Connection

from presspass.confine.worker import Worker, inspector_command
from presspass.core.digests import JsonObject
from presspass.core.errors import Code, Fault, PresspassError, Refusal
from presspass.core.history import Question
from presspass.core.ledger.note import VerifierKey
from presspass.core.limits import FORGE_TOKEN_BYTES_MAX
from presspass.core.log import LogBody, log_origin
from presspass.core.roster import b64u, unb64u
from presspass.core.signer import ATTESTATION, SignerBody
from presspass.core.statement import GenesisBody, UpstreamBody, is_sound_address
from presspass.issuers import KeySets
from presspass.keystore.envelopes import KeyEncryptionKey, Vault, read_private, write_private
from presspass.notify import Channel
from presspass.notify.chat import Chat
from presspass.notify.forge import Forge
from presspass.notify.mail import Mail
from presspass.notify.posting import post
from presspass.notify.webhook import Webhook
from presspass.press import desk, gatekeeper, journal
from presspass.press.after_reviews import AfterReviews
from presspass.press.books import Books
from presspass.press.clock import Clock
from presspass.press.custody import Spool
from presspass.press.decisions import Decisions
from presspass.press.desk import Desk
from presspass.press.doors import Doors
from presspass.press.dropbox import DropBox
from presspass.press.evidence import make as make_evidence
from presspass.press.forges import Forges
from presspass.press.heads import Heads
from presspass.press.inspection import Inspection
from presspass.press.log import Log
from presspass.press.log_keys import NAME as LOG_KEY
from presspass.press.log_keys import LogKeys
from presspass.press.narrowings import Narrowings
from presspass.press.outbox import Outbox
from presspass.press.pending import Pending
from presspass.press.press import Press
from presspass.press.publication import Tools
from presspass.press.publications import Publications
from presspass.press.publishers import Publisher
from presspass.press.publishers.pypi import PyPIPublisher
from presspass.press.reminders import Reminders
from presspass.press.signing import PressKey, Signers, Token, read_signer, signer_of
from presspass.press.witnesses import Witness, Witnesses
from presspass.press.workloads import Workloads
from presspass.services.config import ChatSettings, Config, SignerSettings, read_config
from presspass.services.isolation import confine_press
from presspass.services.places import places
from presspass.store import journal_view as view
from presspass.store import migrate
from presspass.store.address import Place
from presspass.store.blobs import shelf
from presspass.store.database import ChangeSignal, Reader, Writer, exists, open_engine
from presspass.store.ledger_check import check
from presspass.verify.chain import Chain

_LOG = logging.getLogger("presspass.press")
_POLL_S = 0.02  # how soon an approval is seen
LISTEN_S = (
    0.1  # how soon a veto or freeze is heard, a token judged, a refusal of the gateway entered
)
_STOPS_END_S = 5.0
_TIMER_S = 0.2  # how soon a window, an order or a dropped narrowing is seen
_RECOVERY_PREFIX = "presspass-recovery-"
_RESTORED = "restored.json"
_SECRET_BYTES = 32


@dataclass(frozen=True, slots=True)
class PressIdentity:
    """What `initialise` made. `recovery_key`: the text to print once and to keep offline; it is stored nowhere."""

    log_key: str
    recovery_public: str
    recovery_key: str


def initialise(home: Path) -> PressIdentity:
    """Makes the press's folders, keys and empty journal in `home`; FileExistsError when there are some already."""
    press = home / "press"
    for name in ("", "journal", "keys", "keys/credentials", "spool", "inbox"):
        (press / name).mkdir(mode=0o700, exist_ok=True)
    (home / "drop").mkdir(mode=0o700, exist_ok=True)
    KeyEncryptionKey.create(press / "keys" / "kek")
    key = PressKey.create(press / "keys" / LOG_KEY)
    write_private(press / "keys" / "webhook.key", os.urandom(_SECRET_BYTES), exclusive=True)
    _begin_journal(places(home, read_config(home), "press").journal)
    seed = os.urandom(_SECRET_BYTES)
    recovery = Ed25519PrivateKey.from_private_bytes(seed).public_key()
    public = recovery.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    return PressIdentity(key.public.hex(), public.hex(), _RECOVERY_PREFIX + b64u(seed))


def _begin_journal(place: Place) -> None:
    """An empty journal; refuses with `database.unusable` where there is one that has begun already."""
    engine = open_engine(place)
    try:
        migrate.bring_up(engine, "journal")
        with engine.connect() as connection:
            if view.genesis(connection) is not None:
                raise Refusal(
                    Code.DATABASE_UNUSABLE,
                    "This database has the journal of an installation that is sealed.",
                    "Name an empty database; another node of that installation gets a copy of its home.",
                )
    finally:
        engine.dispose()


def recovery_signer(text: str) -> Ed25519PrivateKey:
    """The offline recovery key from its printed form; refuses anything else."""
    seed = unb64u(text.strip().removeprefix(_RECOVERY_PREFIX), "recovery key")
    if len(seed) != _SECRET_BYTES:
        raise Refusal(
            Code.REQUEST_MALFORMED,
            "That is not a recovery key.",
            "It begins with presspass-recovery-.",
        )
    return Ed25519PrivateKey.from_private_bytes(seed)


def webhook_secret(home: Path) -> str:
    """The shared secret of webhook receivers, in Standard Webhooks' spelling: `presspass doctor --webhook-secret`."""
    return (
        "whsec_"
        + base64.b64encode(
            read_private(home / "press" / "keys" / "webhook.key", _SECRET_BYTES)
        ).decode()
    )


def credential_commitment(secret: str, salt: str) -> str:
    """What an upstream statement must say of its credential."""
    return desk.commitment(secret, salt)


def ask(home: Path, order: JsonObject, timeout_s: float) -> JsonObject:
    """Gives the press an order and returns its answer; runs the order here when no press is running."""
    inbox = home / "press" / "inbox"
    answer = desk.put_order(inbox, order)
    deadline = time.monotonic() + timeout_s
    while (found := desk.take_answer(answer)) is None:
        if time.monotonic() > deadline:
            answer.with_suffix(".json").unlink(missing_ok=True)
            raise Fault("press.silent", "The press did not answer.", retryable=True)
        with contextlib.suppress(BlockingIOError), writer_lock(home), composed(home) as press:
            press.desk.serve(press.clock.now_ms())
        time.sleep(_POLL_S)
    return found


def evidence(home: Path, question: Question) -> bytes:
    """The signed answer to a question after the fact, as the file that others check. It reads the journal beside the
    press that runs, and disturbs none of its turns."""
    keys = LogKeys(home / "press" / "keys")
    reader = Reader(places(home, read_config(home), "press").journal)
    try:
        return make_evidence(reader.run, question, keys.key, int(time.time()))
    finally:
        reader.close()


def mark_restored(home: Path) -> None:
    """Leaves word that this home comes from a backup: the press starts frozen, and nothing asked before counts."""
    (home / "press" / _RESTORED).write_text(json.dumps({"restored": True}))


@contextlib.contextmanager
def writer_lock(home: Path) -> Iterator[None]:
    """The press's lock on its home; BlockingIOError while another press holds it."""
    path = home / "press" / "writer.lock"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)


@dataclass(slots=True)
class _Gateway:
    """The gateway's database, opened when it is there."""

    place: Place
    _reader: Reader | None = field(default=None)

    def __call__(self) -> Reader | None:
        if self._reader is None and exists(self.place):
            self._reader = Reader(self.place)
        return self._reader

    def close(self) -> None:
        if self._reader is not None:
            self._reader.close()


@contextlib.contextmanager
def composed(
    home: Path,
    zones: str = "not separated",
    clock: Clock | None = None,
    commit: Callable[[Connection], None] | None = None,
) -> Iterator[Press]:
    """A press put together for `home`, closed at the end. The caller holds `writer_lock`, or is the only one there is.

    `commit` stands in for the journal's own, where a test makes one fail (see `Writer`).
    """
    config = read_config(home)
    folder = home / "press"
    found = places(home, config, "press")
    engine = open_engine(found.journal)
    migrate.bring_up(engine, "journal")
    writer = Writer(engine, commit)
    keys = LogKeys(folder / "keys")
    vault = Vault(folder / "keys" / "credentials", KeyEncryptionKey.load(folder / "keys" / "kek"))
    inspector = Worker(inspector_command())
    clock = clock or Clock()
    blobs = home / "gateway" / "blobs" / "sha256"
    signers = Signers(keys.get, tokens(config, home))
    log = Log(_log_at_genesis(writer, config, keys), keys.sign_raw)
    writer.before_commit = log.grow
    # Each has a reader of its own: the loop's may hang where that of stops does not.
    stops, asks, judged, watched = (_Gateway(found.gateway) for _ in range(4))
    narrowings = Narrowings(
        writer=writer,
        log=log,
        clock=clock,
        dropbox=DropBox(home / "drop"),
        gateway=stops,
    )
    tools = Tools(
        writer=writer,
        log=log,
        signers=signers,
        vault=vault,
        spool=Spool(folder / "spool", lambda sha256: _open_blob(shelf(blobs, sha256) / sha256)),
        publisher=publisher_for,
        now_ms=clock.raw_ms,
        lease_ms=config.press.lease_ms,
        zones=zones,
        look_dropped=narrowings.look_dropped,
    )
    workloads = Workloads(
        writer=writer,
        log=log,
        clock=clock,
        gateway=judged,
        key_sets=KeySets(),
        urls=(config.origin, config.upload_origin),
    )
    books = Books(writer, log, asks)
    inspection = Inspection(books, tools.spool, inspector.call)
    told = forges(config, home)
    reports = Forges(writer, told, config.origin)
    press = Press(
        books=books,
        clock=clock,
        narrowings=narrowings,
        desk=Desk(folder / "inbox", vault, log, keys, writer.run),
        pending=Pending(books, clock),
        decisions=Decisions(books, clock, vault, signers, keys, inspection, reports),
        publications=Publications(books, clock, tools, inspection),
        workloads=workloads,
        doors=Doors(writer, log, clock, watched),
        heads=Heads(writer, log, clock),
        after_reviews=AfterReviews(books, narrowings),
        forges=reports,
        witnesses=Witnesses(writer, narrowings, witnesses(config), post),
        outbox=outbox(writer, config, home, told),
        reminders=Reminders(books, clock),
    )
    try:
        _check_chain(writer)
        with writer.read() as connection:
            keys.key(log.in_force(connection).key)
        _check_ledger(found.journal)
        press.witnesses.look_back()
        _take_restore(home, press)
        with writer.read() as connection:
            clock.floor_ms = int(view.fact(connection, journal.CLOCK_FLOOR) or 0)
        yield press
    finally:
        press.close()
        inspector.close()
        writer.close()
        for reader in (stops, asks, judged, watched):
            reader.close()


def _open_blob(path: Path) -> int:
    """A regular file of the gateway's, and nothing else: no link to elsewhere, no pipe that never answers."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise FileNotFoundError(errno.ENOENT, "not a regular file", str(path))
    return descriptor


def _check_chain(writer: Writer) -> None:
    """The journal's own chains, replayed with the signatures that carried them: a restored or edited journal is not
    believed for the rows it has. Fault("journal.damaged") names the first that its signatures do not carry."""
    with writer.read() as connection:
        statements = view.chained(connection)
        chain = Chain.of(statements[:1])
        for statement in statements[1:]:
            approvals = view.approvals_under(connection, statement.digest)
            try:
                if chain is not None:
                    chain.admit(statement, approvals)
            except Refusal as refusal:
                raise Fault(
                    "journal.damaged",
                    f"The journal holds a {statement.kind.value} statement {statement.digest[:16]} "
                    f"that its signatures do not carry: {refusal.message}",
                    retryable=False,
                ) from None


def _check_ledger(place: Place) -> None:
    """The whole tree from its entries, before anything else is done: a press does not extend a ledger that was edited
    or cut (`ledger.damaged`). One snapshot that only reads, so that another press on this journal goes on meanwhile.
    """
    reader = Reader(place)
    try:
        reader.run(check)
    finally:
        reader.close()


def publisher_for(upstream: UpstreamBody) -> Publisher:
    """The adapter for an upstream's protocol."""
    return PyPIPublisher(upstream.upload_url, upstream.index_url)


def tokens(config: Config, home: Path) -> tuple[Token, ...]:
    """The keys for attestations that this press is told of."""
    return tuple(_token(one, home) for one in config.signers)


def _token(settings: SignerSettings, home: Path) -> Token:
    pin = (home / settings.pin_file).read_text().strip() if settings.pin_file else ""
    return Token(settings.uri, settings.module, pin)


def configured_signer(home: Path, uri: str, public_pem: bytes | None) -> SignerBody:
    """The signer of attestations behind a `[[signer]]`. `public_pem`: its public half, None to read it from there."""
    token = next((one for one in tokens(read_config(home), home) if one.uri == uri), None)
    if token is None:
        raise Refusal(
            Code.SIGNER_MISSING,
            f"There is no [[signer]] with the uri {uri!r} in presspass.toml.",
            "Write it there first, and start the press again, so that it can sign with the key.",
        )
    if public_pem is None:
        return read_signer(ATTESTATION, token)
    try:
        return signer_of(ATTESTATION, load_pem_public_key(public_pem))
    except ValueError:
        raise Refusal(Code.SIGNER_UNUSABLE, "The file holds no public key (PEM).") from None


def channels(config: Config, home: Path) -> tuple[Channel, ...]:
    """How this press tells people."""
    found: list[Channel] = [
        Webhook(read_private(home / "press" / "keys" / "webhook.key", _SECRET_BYTES))
    ]
    mail = config.mail
    if mail.host:
        password_file = home / "press" / "keys" / "mail.password"
        password = password_file.read_text().strip() if mail.username else ""
        found.append(
            Mail(mail.host, mail.port, mail.sender, mail.starttls, mail.username, password)
        )
    found += [_chat(one, home) for one in config.chats]
    return tuple(found)


def _chat(settings: ChatSettings, home: Path) -> Chat:
    """A room, with the address of its webhook from press/keys; refuses with `config.invalid`."""
    path = home / "press" / "keys" / f"chat-{settings.name}.url"
    url = _private_text(path, "the address of the room's incoming webhook")
    if not is_sound_address(url):
        text = f"{path.name} holds no address that is https, or http on this machine."
        raise Refusal(Code.CONFIG_INVALID, text, "Copy the whole address from the chat server.")
    return Chat(settings.name, url, settings.member)


def outbox(writer: Writer, config: Config, home: Path, told: Sequence[Channel]) -> Outbox:
    """Where notices wait, with every way out. `told`: the forges."""
    digests = {one.person: one.every_s for one in config.digests}
    return Outbox(writer, (*channels(config, home), *told), digests)


def forges(config: Config, home: Path) -> tuple[Forge, ...]:
    """The forges that are told about releases, with their tokens from press/keys."""
    keys = home / "press" / "keys"
    return tuple(
        Forge(
            name=one.name,
            provider=one.provider,
            issuer=one.issuer,
            api_url=one.api_url,
            token=_private_text(keys / f"forge-{one.name}.token", "the token"),
            repositories=one.repositories,
            follow_up=one.follow_up,
            trigger_token=_private_text(keys / f"forge-{one.name}.trigger", "the token")
            if one.follow_up and one.provider == "gitlab"
            else "",
        )
        for one in config.forges
    )


def witnesses(config: Config) -> tuple[Witness, ...]:
    """Whom this press asks to cosign its checkpoints."""
    return tuple(Witness(one.url, VerifierKey.from_text(one.key)) for one in config.witnesses)


def _private_text(path: Path, what: str) -> str:
    """A secret that nobody else on this host can read; refuses with `config.invalid`."""
    hint = f"Put {what} into press/keys/{path.name}, mode 0600, owned by the press's user."
    try:
        if path.stat().st_mode & 0o077:
            raise Refusal(Code.CONFIG_INVALID, f"{path.name} can be read by others.", hint)
        with path.open(encoding="ascii", errors="replace") as file:
            text = file.read(FORGE_TOKEN_BYTES_MAX + 1).strip()
    except OSError as error:
        raise Refusal(
            Code.CONFIG_INVALID, f"{path.name} cannot be read: {error.strerror}.", hint
        ) from None
    if not text or len(text) > FORGE_TOKEN_BYTES_MAX or not text.isprintable() or " " in text:
        raise Refusal(Code.CONFIG_INVALID, f"{path.name} does not hold {what}.", hint)
    return text


def _log_at_genesis(writer: Writer, config: Config, keys: LogKeys) -> LogBody:
    """The log's name and key by genesis. Before genesis it is what genesis will say."""
    with writer.read() as connection:
        genesis = view.genesis(connection)
    if genesis is not None:
        return genesis.body_as(GenesisBody).log
    return LogBody(log_origin(config.origin), keys.present)


def _take_restore(home: Path, press: Press) -> None:
    """A restored journal may have forgotten publications and stops: freeze everything, void every older request."""
    mark = home / "press" / _RESTORED
    if not mark.exists():
        return
    now_ms = press.clock.raw_ms()
    stop = {
        "id": f"restored-{now_ms}",
        "what": "freeze",
        "target": "",
        "by": "",
        "source": "restore",
    }

    def work(connection: Connection) -> None:
        journal.set_fact(connection, gatekeeper.RESTORED_AT, str(now_ms))
        journal.latch(
            connection,
            reason="restored from a backup: what happened after it is not known here",
            now_ms=now_ms,
            **stop,
        )
        entry = {"kind": "narrowing", **stop}
        journal.log_entry(connection, press.books.log, now_ms, entry)

    press.books.writer.run(work)
    mark.unlink()


def run(home: Path, supervisor: int | None, zones: str) -> int:
    """The loop, until the supervisor is gone or asks to end. Returns the exit code."""
    stop = _Stop(supervisor)
    config = read_config(home)
    for line in confine_press(home, config.database.url):
        _LOG.warning("not confined: %s", line)
    with writer_lock(home), composed(home, zones) as press:
        _check_origin(home, press)
        _check_zones(press, zones)
        with listening(looks(press)):
            print(json.dumps({"ready": True}), flush=True)
            _loop(press, stop, ChangeSignal(places(home, config, "press").gateway))
    return 0


def _check_zones(press: Press, zones: str) -> None:
    """`high-assurance` rests on zones that the operating system keeps apart; without them nothing is published."""
    if press.books.read(view.policy).profile == "high-assurance" and zones != "separated":
        raise Refusal(
            Code.CONFIG_INVALID,
            "The policy in force is high-assurance, and gateway and press are not separated here.",
            "Start `presspass serve` as root with separate = true in [zones], or as two system users.",
        )


def _loop(press: Press, stop: _Stop, gateway: ChangeSignal) -> None:
    next_timer = 0.0
    while not stop.asked(_pause_s(press, gateway), gateway.fileno()):
        now = time.monotonic()
        timer = now >= next_timer
        if timer:
            next_timer = now + _TIMER_S
        if gateway.changed() or timer or press.busy:
            press.tick()


def _pause_s(press: Press, gateway: ChangeSignal) -> float:
    """Until the next look: a moment, or until the next timer where the gateway's commits are told of."""
    return _POLL_S if press.busy or gateway.fileno() is None else _TIMER_S


def looks(press: Press) -> tuple[Callable[[], None], ...]:
    """What is looked at beside the loop, each by itself: a folder or an issuer may hang, the others do not."""
    narrowings = press.narrowings
    return (
        *(narrowings.look_dropped, narrowings.look_gateway),
        *(press.workloads.look, press.doors.look, press.heads.look),
    )


@contextlib.contextmanager
def listening(looks: Sequence[Callable[[], None]]) -> Iterator[None]:
    """Each of these in a thread of its own, again and again, whatever the loop is busy with."""
    ended = threading.Event()

    def listen(look: Callable[[], None]) -> None:
        while not ended.wait(LISTEN_S):
            try:
                look()
            except Exception:
                _LOG.exception("a look failed; the next one follows")

    threads = [threading.Thread(target=listen, args=(look,), daemon=True) for look in looks]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        ended.set()
        for thread in threads:
            thread.join(_STOPS_END_S)


def _check_origin(home: Path, press: Press) -> None:
    """The configured address must be the one in force, or the one that a move has just put in force."""
    config = read_config(home)
    with press.books.writer.read() as connection:
        site = view.site(connection)
    if site is not None and site[0] not in (config.origin, config.next_origin):
        raise Refusal(
            Code.GENESIS_SEALED,
            f"presspass.toml names {config.origin}, and keys are enrolled at {site[0]}.",
            f'Set origin = "{site[0]}": it is part of every signature. `presspass origin` changes it for all.',
        )


class _Stop:
    """Whether to end: SIGTERM, SIGINT, or the supervisor's end of the pipe is closed."""

    def __init__(self, supervisor: int | None) -> None:
        self._wake, write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._watched = [self._wake] if supervisor is None else [self._wake, supervisor]
        self._asked = False
        signal.set_wakeup_fd(write, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: None)

    def asked(self, wait_s: float, news: int | None = None) -> bool:
        """Waits a moment, or until the descriptor `news` can be read; True once the process should end."""
        also = [] if news is None else [news]
        ready, _, _ = select.select([*self._watched, *also], [], [], wait_s)
        self._asked = self._asked or any(one != news for one in ready)
        return self._asked


def main() -> int:
    """`python -m presspass.services.press --home DIR [--fd-supervisor N] [--zones TEXT]`."""
    parser = argparse.ArgumentParser(prog="presspass press")
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--fd-supervisor", type=int)
    parser.add_argument("--zones", default="not separated", choices=("separated", "not separated"))
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="press: %(message)s", stream=sys.stderr)
    logging.getLogger("httpx2").setLevel(logging.WARNING)
    try:
        return run(options.home, options.fd_supervisor, options.zones)
    except BlockingIOError:
        print("press: another press is running on this home", file=sys.stderr)
    except PresspassError as error:
        print(f"press: {error}", file=sys.stderr)
    return 4


if __name__ == "__main__":
    sys.exit(main())
