"""What `doctor` finds at the gate's addresses: names, certificate, proxy, reachability, RP id, and clocks elsewhere.

It asks the gate at its own addresses, as any client would, and says what the gate saw of that request: so a proxy in
between shows. Sends no credential and changes nothing.
"""

from __future__ import annotations

import email.utils
import json
import socket
import ssl
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from presspass.cli.checks import BAD, OK, WARN, Line
from presspass.cli.show import quoted
from presspass.core.errors import PresspassError, Refusal
from presspass.core.limits import CLOCK_SKEW_S_MAX, TLS_WARN_S
from presspass.gateway.problems import HEALTHY_PHRASE
from presspass.services.config import Config

if TYPE_CHECKING:
    import httpx2

_TIMEOUT_S = 10
_DAY_S: Final = 86_400
_LOOPBACK: Final = ("127.0.0.1", "::1", "localhost")


def origin(_home: Path, config: Config) -> Iterator[Line]:
    """The address that passkeys are bound to, and where the gateway listens."""
    if config.origin.startswith("http://"):
        yield Line(
            WARN,
            "origin",
            "http, which passkeys accept for localhost only",
            "Use an https origin for real work: a new `init`.",
        )
    if config.tls.mode == "off" and config.listen.host not in _LOOPBACK:
        yield Line(
            WARN,
            "listen",
            f"the gateway listens on {config.listen.host} without TLS",
            "Listen on 127.0.0.1 and let a proxy on this host speak TLS, or set [tls]; see docs/tls.md.",
        )


def rp_id(home: Path, config: Config) -> Iterator[Line]:
    """Whether passkeys made at this origin are for what genesis says."""
    from presspass.cli.asking import site_of_home

    try:
        site = site_of_home(home)
    except PresspassError:
        return  # what is wrong with the journal is told where it is looked at
    if site is None or site == (config.origin, config.rp_id):
        yield Line(OK, "RP id", f"{config.rp_id} fits the origin")
        return
    if site[0] == config.next_origin:
        found = f"this gate has moved to {site[0]}"
        yield Line(WARN, "RP id", found, f"presspass origin finish --home {quoted(home)}")
        return
    yield Line(
        BAD,
        "RP id",
        f"keys are enrolled at {site[0]} for {site[1]}, and presspass.toml says {config.origin}",
        f'Set origin = "{site[0]}" again: passkeys work at their own address only.',
    )


def names(_home: Path, config: Config) -> Iterator[Line]:
    """Whether the gate's host names lead anywhere."""
    for host in config.hosts:
        try:
            found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
        except OSError as error:
            yield Line(
                BAD,
                f"name {host}",
                f"does not resolve: {error.strerror or error}",
                f"Add an A or AAAA record for {host}, or correct origin and upload_url.",
            )
            continue
        addresses = sorted({str(one[4][0]) for one in found})
        yield Line(OK, f"name {host}", ", ".join(addresses))


def certificate(home: Path, config: Config) -> Iterator[Line]:
    """The certificate that the gateway serves itself."""
    if config.tls.mode == "off":
        return
    from presspass.gateway.tls.certificate import chain_gap, check, read_pair

    now = datetime.now(UTC)
    try:
        pair = read_pair(*config.tls_files(home))
        check(pair, config.hosts, now)
    except Refusal as refusal:
        yield Line(BAD, "certificate", refusal.message, refusal.hint or _renewal(home, config))
        return
    left = (pair.ends - now).total_seconds()
    text = f"for {', '.join(pair.names)}, until {pair.ends:%Y-%m-%d} ({left / _DAY_S:.0f} days)"
    gap = chain_gap(pair)
    if gap:
        fix = "Put the certificates in their order: the server's first, then who issued each."
        yield Line(BAD, "certificate", f"its chain is broken: {gap}", fix)
    if left < TLS_WARN_S:
        yield Line(WARN, "certificate", f"is about to end: {text}", _renewal(home, config))
    elif not gap:
        yield Line(OK, "certificate", text)
    if config.tls.mode == "private-ca":
        fix = 'A certificate from files or by ACME; see docs/tls.md. Set mode in [tls] to "file" or "acme".'
        yield Line(WARN, "certificate", "of a private CA, for trials only", fix)


def _renewal(home: Path, config: Config) -> str:
    match config.tls.mode:
        case "private-ca":
            return f"presspass tls trial --home {quoted(home)}"
        case "acme":
            return (
                "The lines of `acme` on the standard error of `serve` say why it was not renewed."
            )
        case _:
            return "Renew it and put the new files in their place; no restart is needed."


def reachability(home: Path, config: Config) -> Iterator[Line]:
    """Asks the gate at both its addresses, and looks at what it saw."""
    asked = {"console": config.origin}
    if config.upload_origin != config.origin:
        asked["uploads"] = config.upload_origin
    for what, url in asked.items():
        yield from _reach(home, config, what, url)


def _reach(home: Path, config: Config, what: str, url: str) -> Iterator[Line]:
    answer, running = _asked(home, config, url), False
    if isinstance(answer, Exception) and (running := _runs(home)):
        answer = _asked(home, config, url)  # it may just have been started
    if isinstance(answer, Exception):
        grade, fix = BAD if running else WARN, _unreached(url, str(answer))
        yield Line(grade, what, f"{url} cannot be reached: {answer}", fix)
        return
    health = _json(answer.content)
    if "seen" not in health:
        found = f"{url} answers {answer.status_code}, and not as this gate"
        fix = "Let the proxy pass Host on as it came, and name and port lead to this gate."
        yield Line(BAD, what, found, fix)
        return
    own = _genesis(home)
    if own and health.get("genesis") != own:
        found = (
            f"another gate answers at {url}: its genesis is {health.get('genesis') or 'not sealed'}"
        )
        yield Line(BAD, what, found, "Correct the DNS record or the proxy: it leads elsewhere.")
        return
    yield Line(OK, what, f"{url} answers")
    yield from _proxy(config, what, url, health["seen"], answer.reason_phrase)
    yield from clock_of(what, answer.headers.get("date", ""))


def _asked(home: Path, config: Config, url: str) -> httpx2.Response | Exception:
    """What `GET /healthz` at this address answers, or why it could not be asked."""
    import httpx2

    try:
        return httpx2.get(f"{url}/healthz", timeout=_TIMEOUT_S, verify=_trust(home, config))
    except (httpx2.HTTPError, OSError) as error:
        return error


def _proxy(
    config: Config, what: str, url: str, seen: dict[str, Any], phrase: str
) -> Iterator[Line]:
    """What lies between a client and the gate, by what the gate saw of our request."""
    parts = urlsplit(url)
    problems = []
    if seen.get("scheme") != parts.scheme:
        found = f"the gate takes {url} for {seen.get('scheme')}: it does not hear the proxy's X-Forwarded-Proto"
        problems.append(
            Line(
                WARN,
                f"proxy ({what})",
                found,
                "Name the proxy's address in listen.trusted_proxies, and let it send X-Forwarded-Proto and -For.",
            )
        )
    if urlsplit(f"//{seen.get('host')}").hostname != parts.hostname:
        found = f"the gate is asked for {seen.get('host')!r} instead of {parts.hostname}"
        fix = "Let the proxy pass Host on as it came (nginx: proxy_set_header Host $host;)."
        problems.append(Line(BAD, f"proxy ({what})", found, fix))
    if phrase != HEALTHY_PHRASE:
        found = "reason phrases are replaced on the way: twine, hatch and flit then show no reason"
        fix = "Use a proxy that passes them on over HTTP/1.1, such as nginx, or TLS by the gate itself."
        problems.append(Line(WARN, f"proxy ({what})", found, fix))
    yield from problems
    if not problems and config.tls.mode == "off" and parts.scheme == "https":
        yield Line(OK, f"proxy ({what})", "passes scheme, host and reason phrases on")


def clock_of(what: str, date: str) -> Iterator[Line]:
    """Compares the clock here with the Date of an answer (RFC 9110 section 6.6.1); nothing where there is none."""
    try:
        there = email.utils.parsedate_to_datetime(date).timestamp()
    except (TypeError, ValueError):
        return
    apart = time.time() - there
    if abs(apart) > CLOCK_SKEW_S_MAX:
        ahead = "ahead of" if apart > 0 else "behind"
        found = f"this machine is {abs(apart):.0f} s {ahead} what {what} says"
        yield Line(BAD, "clock", found, "Set the time on the machine that is wrong; enable NTP.")


def _trust(home: Path, config: Config) -> ssl.SSLContext:
    """As clients check: by the system's certificates or SSL_CERT_FILE; for a trial, by the private CA."""
    if config.tls.mode == "private-ca":
        return ssl.create_default_context(cafile=home / "gateway" / "tls" / "ca.pem")
    return ssl.create_default_context()


def _unreached(url: str, error: str) -> str:
    if "CERTIFICATE_VERIFY_FAILED" in error:
        return (
            "Clients will not trust it either: put the whole chain into the certificate's file, "
            "or set SSL_CERT_FILE to who issued it."
        )
    if "SSL" in error:
        return f"Something else than TLS listens there; `[tls]` and the proxy must agree on who speaks it for {url}."
    return "Start the gate; else look at DNS, firewall and proxy: the address must be reachable from here, too."


def _runs(home: Path) -> bool:
    from presspass.cli.client import control

    try:
        with control(home) as gate:
            gate.get_json("/status")
    except PresspassError:
        return False
    return True


def _genesis(home: Path) -> str:
    from presspass.cli.asking import standing_of_home

    try:
        return standing_of_home(home).genesis
    except PresspassError:
        return ""


def _json(data: bytes) -> dict[str, Any]:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}
