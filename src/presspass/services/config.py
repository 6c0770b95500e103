"""presspass.toml: where an installation stands and how its processes behave. Written by `init`, read by everybody.

Strict in both directions: an unknown member is refused (a misspelt setting must not be silently the default), and what
`Config.to_toml` writes, `read_config` reads back as the same value. It holds no secret. Reads and writes that one file.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeVar
from urllib.parse import urlsplit

from presspass.core.errors import Code, Refusal
from presspass.core.limits import CONFIG_BYTES_MAX, URL_CHARS_MAX
from presspass.core.policy import Policy
from presspass.core.statement import is_sound_address
from presspass.core.strict import Members

CONFIG_NAME: Final = "presspass.toml"
DEFAULT_PORT: Final = 8460
_FORMAT: Final = 1
_LEASE_MS_MIN, _LEASE_MS_MAX = 200, 600_000
_UID_MAX = 2**31 - 1
_LOCAL_HOSTS = frozenset({"localhost"})

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Listen:
    """Where the gateway listens. `port` 0 lets the system choose. TLS is the business of a proxy in front."""

    host: str = "127.0.0.1"
    port: int = DEFAULT_PORT


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
class Config:
    """One installation. `genesis` is what `init` was asked for; once sealed, the policy in the journal counts alone."""

    origin: str
    space: str = "main"
    listen: Listen = field(default_factory=Listen)
    genesis: Policy = field(default_factory=Policy)
    press: PressSettings = field(default_factory=PressSettings)
    mail: Mail = field(default_factory=Mail)
    zones: Zones = field(default_factory=Zones)
    sign_in: SignIn = field(default_factory=SignIn)
    dial: Dial = field(default_factory=Dial)

    @property
    def rp_id(self) -> str:
        """The WebAuthn relying party id: the origin's host."""
        return urlsplit(self.origin).hostname or ""

    def to_toml(self) -> str:
        """The file's text."""
        parts = [_HEADER, _lines(format=_FORMAT, origin=self.origin, space=self.space)]
        parts.append("\n[listen]\n" + _lines(host=self.listen.host, port=self.listen.port))
        parts.append(_GENESIS_NOTE + "[genesis]\n" + _lines(**self.genesis.to_json()))
        parts.append("\n[press]\n" + _lines(lease_ms=self.press.lease_ms))
        parts.append("\n[dial]\n" + _lines(ports=list(self.dial.ports)))
        parts.append("\n[mail]\n" + _fields(self.mail))
        parts.append("\n[zones]\n" + _fields(self.zones))
        parts.append("\n[sign_in]\n" + _fields(self.sign_in))
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
        dial=_section(members, "dial", _read_dial),
        # It came later than the others: a file without it is one from before, and nobody signs in.
        sign_in=_section(members, "sign_in", _read_sign_in) if members.has("sign_in") else SignIn(),
    )
    members.done()
    return config


def _section(members: Members, name: str, read: Callable[[Members], T]) -> T:
    section = Members(members.take(name), f"section [{name}] of {CONFIG_NAME}")
    found = read(section)
    section.done()
    return found


def _read_listen(section: Members) -> Listen:
    return Listen(section.text("host", chars_max=253), section.integer("port", high=65_535))


def _read_press(section: Members) -> PressSettings:
    return PressSettings(section.integer("lease_ms", low=_LEASE_MS_MIN, high=_LEASE_MS_MAX))


def _read_dial(section: Members) -> Dial:
    def port(item: object) -> int:
        return Members({"port": item}, "section [dial]").integer("port", low=1, high=65_535)

    return Dial(section.items("ports", port, count_max=64))


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


def _fields(value: Mail | Zones | SignIn) -> str:
    return _lines(**{name: getattr(value, name) for name in value.__slots__})


def _lines(**members: str | int | bool | list[int]) -> str:
    return "".join(f"{name} = {_toml(value)}\n" for name, value in members.items())


def _toml(value: str | int | bool | list[int]) -> str:
    """A TOML value (toml.io v1.0.0: boolean, integer, basic string, array)."""
    if isinstance(value, list):
        return f"[{', '.join(map(str, value))}]"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


_FIX = f"Correct {CONFIG_NAME}; `presspass doctor` checks it."


def _invalid(why: str) -> Refusal:
    return Refusal(Code.CONFIG_INVALID, f"{CONFIG_NAME} cannot be used: {why}.", _FIX)
