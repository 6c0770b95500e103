"""presspass.toml: where an installation stands and how its processes behave. Written by `init`, read by everybody.

Strict in both directions: an unknown member is refused (a misspelt setting must not be silently the default), and what
`Config.to_toml` writes, `read_config` reads back as the same value. Only what came after version 0.1 may be absent, and
is then as in 0.1. It holds no secret. Reads and writes that one file.
"""

from __future__ import annotations

import ipaddress
import os
import tomllib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeVar
from urllib.parse import urlsplit

from presspass.core.errors import Code, Refusal
from presspass.core.ledger.note import COSIGNATURE, VerifierKey
from presspass.core.limits import (
    CHATS_MAX,
    CONFIG_BYTES_MAX,
    DIGEST_S_MAX,
    DIGEST_S_MIN,
    PEOPLE_PER_ROSTER_MAX,
    PROXIES_MAX,
    ROLE_CHARS_MAX,
    URL_CHARS_MAX,
    WITNESSES_MAX,
)
from presspass.core.policy import Policy
from presspass.core.statement import is_sound_address
from presspass.core.strict import Members
from presspass.store.address import Roles, check_url

CONFIG_NAME: Final = "presspass.toml"
DEFAULT_PORT: Final = 8460
_FORMAT: Final = 1
_LEASE_MS_MIN, _LEASE_MS_MAX = 200, 600_000
_UID_MAX = 2**31 - 1
_LOCAL_HOSTS = frozenset({"localhost"})
_PATH_CHARS_MAX = 4096
TLS_MODES: Final = ("off", "file", "acme", "private-ca")

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Listen:
    """Where the gateway listens. `port` 0 lets the system choose.

    `trusted_proxies`: addresses or networks (CIDR) whose X-Forwarded-* headers are believed; of anybody else they
    are dropped.
    """

    host: str = "127.0.0.1"
    port: int = DEFAULT_PORT
    trusted_proxies: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Tls:
    """Who speaks TLS, and where the certificate comes from.

    `mode`: `off` (a proxy in front speaks TLS), `file` (`certificate` and `key` are yours; relative paths start at
    the home), `acme` (RFC 8555), `private-ca` (for trials). The last two keep what they made in gateway/tls.
    `acme_ca`: certificates (PEM) to check the ACME server with, "" for those of the system. `acme_port`: where the
    challenge http-01 is answered, in plain HTTP; 80 as a public server asks it.
    """

    mode: str = "off"
    certificate: str = ""
    key: str = ""
    acme_directory: str = ""
    acme_contact: str = ""
    acme_ca: str = ""
    acme_port: int = 80


@dataclass(frozen=True, slots=True)
class Zones:
    """Whether `serve` gives each process a user of its own. The ids are numeric; no account needs to exist for them."""

    separate: bool = False
    gateway_uid: int = 64_501
    press_uid: int = 64_502
    group_gid: int = 64_500


@dataclass(frozen=True, slots=True)
class Mail:
    """How the press sends mail to approvers ("" for `host`: not at all). A password stands in press/keys, not here."""

    host: str = ""
    port: int = 25
    sender: str = ""
    starttls: bool = False
    username: str = ""


@dataclass(frozen=True, slots=True)
class PressSettings:
    """`lease_ms`: how long a claimed publication is the claimer's alone before another press may take it over."""

    lease_ms: int = 30_000


@dataclass(frozen=True, slots=True)
class Database:
    """Where the databases are: "" for `url`: SQLite files in the home, else schemas of a PostgreSQL database.

    `url` holds no user and no password. The roles' names; nothing runs as the owner.
    """

    url: str = ""
    owner_role: str = "presspass_owner"
    gateway_role: str = "presspass_gateway"
    press_role: str = "presspass_press"

    @property
    def roles(self) -> Roles:
        """The three names as the store takes them."""
        return Roles(self.owner_role, self.gateway_role, self.press_role)


@dataclass(frozen=True, slots=True)
class SignIn:
    """The OpenID Connect provider where people sign in; `client_id` "" for none. A secret stands in
    gateway/sign-in.secret, not here.
    """

    issuer: str = ""
    client_id: str = ""
    scopes: str = "openid"


@dataclass(frozen=True, slots=True)
class Dial:
    """Which TCP ports the gateway may connect to, for issuers' key sets and the repositories of workflows; the kernel
    keeps it to them. No port: the gateway dials nobody, and workloads cannot ask for anything.
    """

    ports: tuple[int, ...] = (443,)


@dataclass(frozen=True, slots=True)
class ForgeSettings:
    """One `[[forge]]`: where the press tells how a release stands. Its token stands in press/keys/forge-NAME.token.

    The members are those of `notify.forge.Forge`.
    """

    name: str
    provider: str
    issuer: str
    api_url: str
    repositories: tuple[str, ...] = ()
    follow_up: str = ""


@dataclass(frozen=True, slots=True)
class WitnessSettings:
    """One `[[witness]]`: whom the press asks to cosign the ledger's checkpoints. `url`: what stands before
    "/add-checkpoint"; `key`: its verifier key, as `presspass witness` prints it.
    """

    url: str
    key: str


@dataclass(frozen=True, slots=True)
class ChatSettings:
    """One `[[chat]]`: a room, `chat:NAME` in the roster. `member`: where its incoming webhook takes the text."""

    name: str
    member: str


@dataclass(frozen=True, slots=True)
class DigestSettings:
    """One `[[digest]]`: `person` (id in the roster) gets what is not urgent in one message every `every_s` seconds."""

    person: str
    every_s: int


@dataclass(frozen=True, slots=True)
class SignerSettings:
    """One `[[signer]]`: a key that the press may sign attestations with, once people have put it in force.

    `uri`: of securesystemslib (file2:, hsm:, awskms:, gcpkms:, azurekms:, hv:); `module`: path of the PKCS#11 library
    for hsm:; `pin_file`: of the token's PIN, in the home.
    """

    uri: str
    module: str = ""
    pin_file: str = ""


@dataclass(frozen=True, slots=True)
class Config:
    """One installation. `genesis` is what `init` was asked for; once sealed, the policy in the journal counts alone.

    `next_origin`: where the gate is about to move; people enrol keys there while the origin is still in force.
    """

    origin: str
    space: str = "main"
    listen: Listen = field(default_factory=Listen)
    genesis: Policy = field(default_factory=Policy)
    press: PressSettings = field(default_factory=PressSettings)
    mail: Mail = field(default_factory=Mail)
    zones: Zones = field(default_factory=Zones)
    database: Database = field(default_factory=Database)
    sign_in: SignIn = field(default_factory=SignIn)
    dial: Dial = field(default_factory=Dial)
    forges: tuple[ForgeSettings, ...] = ()
    witnesses: tuple[WitnessSettings, ...] = ()
    signers: tuple[SignerSettings, ...] = ()
    digests: tuple[DigestSettings, ...] = ()
    chats: tuple[ChatSettings, ...] = ()
    upload_url: str = ""
    tls: Tls = field(default_factory=Tls)
    next_origin: str = ""

    @property
    def upload_origin(self) -> str:
        """Where packages are uploaded: `upload_url`, or the origin where that is not set."""
        return self.upload_url or self.origin

    @property
    def hosts(self) -> tuple[str, ...]:
        """The host names under which clients know this gate, or are about to; its certificate is to name each."""
        coming = (_host(self.next_origin),) if self.next_origin else ()
        return tuple(dict.fromkeys((*self.hosts_in_use, *coming)))

    @property
    def hosts_in_use(self) -> tuple[str, ...]:
        """Those without which nothing works: a move that is only prepared must not stop the gate."""
        return tuple(dict.fromkeys((_host(self.origin), _host(self.upload_origin))))

    def tls_files(self, home: Path) -> tuple[Path, Path]:
        """The files of the certificate (with its chain) and of its key. Only for modes other than `off`."""
        folder = home / "gateway" / "tls"
        if self.tls.mode == "file":
            return home / self.tls.certificate, home / self.tls.key
        if self.tls.mode == "acme":
            return folder / "acme.pem", folder / "acme.pem"
        return folder / "certificate.pem", folder / "key.pem"

    @property
    def rp_id(self) -> str:
        """The WebAuthn relying party id: the origin's host."""
        return urlsplit(self.origin).hostname or ""

    def to_toml(self) -> str:
        """The file's text."""
        head = _lines(format=_FORMAT, origin=self.origin, next_origin=self.next_origin)
        parts = [_HEADER, head, _lines(upload_url=self.upload_url, space=self.space)]
        parts.append("\n[listen]\n" + _fields(self.listen))
        parts.append("\n[tls]\n" + _fields(self.tls))
        parts.append(_GENESIS_NOTE + "[genesis]\n" + _lines(**self.genesis.to_json()))
        parts.append("\n[press]\n" + _lines(lease_ms=self.press.lease_ms))
        parts.append("\n[dial]\n" + _fields(self.dial))
        parts.append("\n[mail]\n" + _fields(self.mail))
        parts.append("\n[zones]\n" + _fields(self.zones))
        parts.append("\n[database]\n" + _fields(self.database))
        parts.append("\n[sign_in]\n" + _fields(self.sign_in))
        parts += ["\n[[forge]]\n" + _fields(one) for one in self.forges]
        parts += ["\n[[witness]]\n" + _fields(one) for one in self.witnesses]
        parts += ["\n[[digest]]\n" + _fields(one) for one in self.digests]
        parts += ["\n[[chat]]\n" + _fields(one) for one in self.chats]
        parts += ["\n[[signer]]\n" + _fields(one) for one in self.signers]
        return "".join(parts)


_HEADER = "# Written by `presspass init`; `presspass doctor` checks it.\n"
_GENESIS_NOTE = (
    "\n# Read once, when genesis is sealed; after that only an approved policy statement counts.\n"
)


def check_origin(text: str) -> str:
    """`text` as an exact origin, or a refusal: https://host[:port], or http://localhost[:port] for a trial.

    An IP address cannot be a WebAuthn relying party id (WebAuthn Level 3 section 5.1.2), so it is refused here already.
    """
    parts = urlsplit(text)
    host = parts.hostname or ""
    try:
        port = parts.port
    except ValueError:
        port = -1
    shown = port is not None and port != {"https": 443, "http": 80}.get(parts.scheme)
    canonical = f"{parts.scheme}://{host}" + (f":{port}" if shown else "")
    numeric = ":" in host or host.replace(".", "").isdigit()
    secure = parts.scheme == "https" or (parts.scheme == "http" and host in _LOCAL_HOSTS)
    if text != canonical or numeric or not secure or not host or len(text) > URL_CHARS_MAX:
        raise Refusal(
            Code.CONFIG_INVALID,
            f"{text!r} is not an origin that passkeys can be bound to.",
            "Use https://HOST or https://HOST:PORT in lower case, without a path; for a trial http://localhost:PORT.",
        )
    return text


def read_config(home: Path) -> Config:
    """The configuration of `home`. Refuses with `home.missing` or `config.invalid`."""
    path = home / CONFIG_NAME
    try:
        with path.open("rb") as file:
            data = file.read(CONFIG_BYTES_MAX + 1)
    except (FileNotFoundError, NotADirectoryError):
        raise Refusal(
            Code.HOME_MISSING,
            f"{home} is not a Presspass home: it has no {CONFIG_NAME}.",
            "Make one with `presspass init`, or name it with --home or PRESSPASS_HOME.",
        ) from None
    if len(data) > CONFIG_BYTES_MAX:
        raise _invalid(f"it is larger than {CONFIG_BYTES_MAX} bytes")
    return parse_config(data.decode("utf-8", "replace"))


def parse_config(text: str) -> Config:
    """The configuration in `text`; refuses with `config.invalid`, naming the member at fault."""
    try:
        return _config(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise _invalid(f"it is not TOML: {error}") from None
    except Refusal as refusal:
        if refusal.code is Code.CONFIG_INVALID:
            raise
        raise Refusal(Code.CONFIG_INVALID, refusal.message, _FIX) from None


def write_config(home: Path, config: Config) -> None:
    """Writes the file durably and whole: a crash leaves the old one or the new one."""
    target, temporary = home / CONFIG_NAME, home / f".{CONFIG_NAME}.new"
    with temporary.open("w", encoding="utf-8") as file:
        file.write(config.to_toml())
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(target)


def _config(value: object) -> Config:
    members = Members(value, CONFIG_NAME)
    members.integer("format", low=_FORMAT, high=_FORMAT)
    config = Config(
        origin=check_origin(members.text("origin", chars_max=URL_CHARS_MAX)),
        space=members.name("space"),
        listen=_section(members, "listen", _read_listen),
        genesis=Policy.from_json(members.take("genesis")),
        press=_section(members, "press", _read_press),
        mail=_section(members, "mail", _read_mail),
        zones=_section(members, "zones", _read_zones),
        # These came later than the others: a file without them is one from before.
        database=_section(members, "database", _read_database)
        if members.has("database")
        else Database(),
        sign_in=_section(members, "sign_in", _read_sign_in) if members.has("sign_in") else SignIn(),
        dial=_section(members, "dial", _read_dial) if members.has("dial") else Dial(),
        upload_url=_read_address(members, "upload_url"),
        next_origin=_read_address(members, "next_origin"),
        tls=_section(members, "tls", _read_tls) if members.has("tls") else Tls(),
        forges=members.optional("forge", _read_forges) or (),
        witnesses=members.optional("witness", _read_witnesses) or (),
        signers=members.optional("signer", _read_signers) or (),
        digests=members.optional("digest", _read_digests) or (),
        chats=members.optional("chat", _read_chats) or (),
    )
    members.done()
    _check_addresses(config)
    return config


def _read_address(members: Members, name: str) -> str:
    """An origin, or "" where it is empty or absent."""
    if not members.has(name):
        return ""
    url = members.text(name, chars_max=URL_CHARS_MAX, empty=True)
    return check_origin(url) if url else ""


def _check_addresses(config: Config) -> None:
    """What must fit together: uploads and pages are told apart by host, and TLS makes no http addresses."""
    urls = (config.origin, config.upload_origin, config.next_origin or config.origin)
    upload_host, hosts = _host(config.upload_url), {_host(config.origin), _host(config.next_origin)}
    if config.upload_url not in ("", config.origin) and upload_host in hosts:
        raise _invalid("upload_url has the host of the origin and is not the origin")
    if config.tls.mode != "off" and not all(url.startswith("https://") for url in urls):
        raise _invalid(f'[tls] has mode = "{config.tls.mode}", and an address is not https')


def _host(url: str) -> str:
    return urlsplit(url).hostname or ""


def _section(members: Members, name: str, read: Callable[[Members], T]) -> T:
    section = Members(members.take(name), f"section [{name}] of {CONFIG_NAME}")
    found = read(section)
    section.done()
    return found


def _read_listen(section: Members) -> Listen:
    host, port = section.text("host", chars_max=253), section.integer("port", high=65_535)
    proxies: tuple[str, ...] = ()
    if section.has("trusted_proxies"):
        proxies = section.items("trusted_proxies", _read_network, count_max=PROXIES_MAX)
    return Listen(host, port, proxies)


def _read_network(item: object) -> str:
    try:
        ipaddress.ip_network(item if isinstance(item, str) else "")
    except ValueError as error:
        raise _invalid(
            f"listen.trusted_proxies has no address or network: {item!r} ({error})"
        ) from None
    return str(item)


def _read_tls(section: Members) -> Tls:
    tls = Tls(
        mode=section.choice("mode", TLS_MODES),
        certificate=section.text("certificate", chars_max=_PATH_CHARS_MAX, empty=True),
        key=section.text("key", chars_max=_PATH_CHARS_MAX, empty=True),
        acme_directory=section.text("acme_directory", chars_max=URL_CHARS_MAX, empty=True),
        acme_contact=section.text("acme_contact", chars_max=320, empty=True),
        acme_ca=section.text("acme_ca", chars_max=_PATH_CHARS_MAX, empty=True),
        acme_port=section.integer("acme_port", high=65_535),
    )
    if tls.mode == "file" and not (tls.certificate and tls.key):
        raise _invalid('[tls] has mode = "file" and lacks certificate or key')
    if tls.mode == "acme" and not _is_https(tls.acme_directory):
        raise _invalid('[tls] has mode = "acme" and no https address in acme_directory')
    return tls


def _is_https(url: str) -> bool:
    parts = urlsplit(url)
    return parts.scheme == "https" and bool(parts.hostname)


def _read_press(section: Members) -> PressSettings:
    return PressSettings(section.integer("lease_ms", low=_LEASE_MS_MIN, high=_LEASE_MS_MAX))


def _read_dial(section: Members) -> Dial:
    def port(item: object) -> int:
        return Members({"port": item}, "section [dial]").integer("port", low=1, high=65_535)

    return Dial(section.items("ports", port, count_max=64))


def _read_forges(value: object) -> tuple[ForgeSettings, ...]:
    found = Members({"forge": value}, CONFIG_NAME).items("forge", _read_forge, count_max=64)
    if len({one.name for one in found}) != len(found):
        raise _invalid("two [[forge]] sections have the same name")
    return found


def _read_forge(value: object) -> ForgeSettings:
    section = Members(value, f"section [[forge]] of {CONFIG_NAME}")
    url = section.text("api_url", chars_max=URL_CHARS_MAX)
    if not is_sound_address(url):
        section.refuse(f"has an api_url that is not https, nor http on this machine: {url}")

    def repository(item: object) -> str:
        return Members({"repositories": item}, section.what).text("repositories")

    found = ForgeSettings(
        name=section.name("name"),
        provider=section.choice("provider", ("github", "gitlab")),
        issuer=section.text("issuer", chars_max=URL_CHARS_MAX),
        api_url=url,
        repositories=section.items("repositories", repository, count_max=1000),
        follow_up=section.text("follow_up", empty=True),
    )
    section.done()
    return found


def _read_signers(value: object) -> tuple[SignerSettings, ...]:
    found = Members({"signer": value}, CONFIG_NAME).items("signer", _read_signer, count_max=8)
    if len({one.uri for one in found}) != len(found):
        raise _invalid("two [[signer]] sections have the same uri")
    return found


def _read_signer(value: object) -> SignerSettings:
    section = Members(value, f"section [[signer]] of {CONFIG_NAME}")
    found = SignerSettings(
        uri=section.text("uri", chars_max=URL_CHARS_MAX),
        module=section.text("module", chars_max=URL_CHARS_MAX, empty=True)
        if section.has("module")
        else "",
        pin_file=section.text("pin_file", chars_max=URL_CHARS_MAX, empty=True)
        if section.has("pin_file")
        else "",
    )
    section.done()
    if found.uri.startswith("hsm:") and not found.module:
        section.refuse("has an hsm: key and no module, the path of the PKCS#11 library")
    return found


def _read_witnesses(value: object) -> tuple[WitnessSettings, ...]:
    found = Members({"witness": value}, CONFIG_NAME).items(
        "witness", _read_witness, count_max=WITNESSES_MAX
    )
    if len({VerifierKey.from_text(one.key).name for one in found}) != len(found):
        raise _invalid("two [[witness]] sections have the same name in their key")
    return found


def _read_witness(value: object) -> WitnessSettings:
    section = Members(value, f"section [[witness]] of {CONFIG_NAME}")
    url = section.text("url", chars_max=URL_CHARS_MAX)
    if not is_sound_address(url):
        section.refuse(f"has a url that is not https, nor http on this machine: {url}")
    found = WitnessSettings(url=url.rstrip("/"), key=section.text("key", chars_max=1024))
    section.done()
    try:
        key = VerifierKey.from_text(found.key)
    except Refusal as refusal:
        section.refuse(f"has no key of a witness: {refusal.message}")
    if key.type != COSIGNATURE:
        section.refuse("has the key of a log, not of a witness")
    return found


def _read_chats(value: object) -> tuple[ChatSettings, ...]:
    found = Members({"chat": value}, CONFIG_NAME).items("chat", _read_chat, count_max=CHATS_MAX)
    if len({one.name for one in found}) != len(found):
        raise _invalid("two [[chat]] sections have the same name")
    return found


def _read_chat(value: object) -> ChatSettings:
    section = Members(value, f"section [[chat]] of {CONFIG_NAME}")
    found = ChatSettings(section.name("name"), section.choice("member", ("text", "content")))
    section.done()
    return found


def _read_digests(value: object) -> tuple[DigestSettings, ...]:
    found = Members({"digest": value}, CONFIG_NAME).items(
        "digest", _read_digest, count_max=PEOPLE_PER_ROSTER_MAX
    )
    if len({one.person for one in found}) != len(found):
        raise _invalid("two [[digest]] sections name the same person")
    return found


def _read_digest(value: object) -> DigestSettings:
    section = Members(value, f"section [[digest]] of {CONFIG_NAME}")
    found = DigestSettings(
        person=section.name("person"),
        every_s=section.integer("every_s", low=DIGEST_S_MIN, high=DIGEST_S_MAX),
    )
    section.done()
    return found


def _read_mail(section: Members) -> Mail:
    return Mail(
        host=section.text("host", chars_max=253, empty=True),
        port=section.integer("port", low=1, high=65_535),
        sender=section.text("sender", chars_max=320, empty=True),
        starttls=section.boolean("starttls"),
        username=section.text("username", empty=True),
    )


def _read_zones(section: Members) -> Zones:
    return Zones(
        separate=section.boolean("separate"),
        gateway_uid=section.integer("gateway_uid", low=1, high=_UID_MAX),
        press_uid=section.integer("press_uid", low=1, high=_UID_MAX),
        group_gid=section.integer("group_gid", low=1, high=_UID_MAX),
    )


def _read_database(section: Members) -> Database:
    database = Database(
        url=section.text("url", chars_max=URL_CHARS_MAX, empty=True),
        owner_role=section.name("owner_role"),
        gateway_role=section.name("gateway_role"),
        press_role=section.name("press_role"),
    )
    names = {database.owner_role, database.gateway_role, database.press_role}
    if len(names) != 3 or max(map(len, names)) > ROLE_CHARS_MAX:
        raise _invalid(
            f"the roles in [database] are not three names of at most {ROLE_CHARS_MAX} characters"
        )
    if database.url:
        check_url(database.url)
    return database


def _read_sign_in(section: Members) -> SignIn:
    found = SignIn(
        issuer=section.text("issuer", chars_max=URL_CHARS_MAX, empty=True),
        client_id=section.text("client_id", chars_max=URL_CHARS_MAX, empty=True),
        scopes=section.text("scopes"),
    )
    if found.client_id and not is_sound_address(found.issuer):
        section.refuse("has an issuer that is not https, nor http on this machine")
    if "openid" not in found.scopes.split():
        section.refuse("has scopes without openid")
    return found


_Value = str | int | bool | tuple[str | int, ...]
_Section = (
    Listen
    | Tls
    | Mail
    | Zones
    | Database
    | SignIn
    | Dial
    | ForgeSettings
    | WitnessSettings
    | DigestSettings
    | ChatSettings
    | SignerSettings
)


def _fields(value: _Section) -> str:
    return _lines(**{name: getattr(value, name) for name in value.__slots__})


def _lines(**members: _Value) -> str:
    return "".join(f"{name} = {_toml(value)}\n" for name, value in members.items())


def _toml(value: _Value) -> str:
    """A TOML value (toml.io v1.0.0: boolean, integer, basic string, array of them)."""
    if isinstance(value, tuple):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


_FIX = f"Correct {CONFIG_NAME}; `presspass doctor` checks it."


def _invalid(why: str) -> Refusal:
    return Refusal(Code.CONFIG_INVALID, f"{CONFIG_NAME} cannot be used: {why}.", _FIX)
