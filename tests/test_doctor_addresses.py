"""`doctor` at the gate's addresses: names, certificate, proxy, reachability, RP id, clock; each with its fix."""

from __future__ import annotations

import http.client
import http.server
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest

from cli_rig import running
from gateway_world import World
from presspass.cli import doctor_addresses
from presspass.cli.checks import Line
from presspass.core import limits
from presspass.drill.peers import free_port
from presspass.gateway.tls import trial
from presspass.gateway.tls.trial import make_trial
from presspass.services.config import Config, Listen, Tls


def grades(lines: Iterator[Line]) -> dict[str, str]:
    found = list(lines)
    assert all(line.fix for line in found if line.grade != "ok"), found
    return {line.what: line.grade for line in found}


def texts(lines: Iterator[Line], grade: str) -> str:
    return "\n".join(f"{line.found} | {line.fix}" for line in lines if line.grade == grade)


def test_a_running_gate_with_tls_is_well_and_said_to_be_a_trial(tmp_path: Path) -> None:
    with running(tmp_path, tls=True) as rig:
        rig.seal()
        lines = rig.ask("doctor")
        assert [line for line in lines if line["grade"] == "bad"] == []
        found = {(line["what"], line["grade"]) for line in lines}
        for what in ("console", "certificate", "name localhost", "RP id"):
            assert (what, "ok") in found, lines
        [warned] = [one for one in lines if (one["what"], one["grade"]) == ("certificate", "warn")]
        assert "for trials only" in warned["found"] and "docs/tls.md" in warned["fix"]


# certificate


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "home" / "gateway" / "tls").mkdir(parents=True)
    return tmp_path / "home"


def served(mode: str = "private-ca") -> Config:
    return Config("https://gate.example", upload_url="https://upload.example", tls=Tls(mode))


def test_a_certificate_that_lacks_one_of_the_hosts_is_bad(home: Path) -> None:
    make_trial(home / "gateway" / "tls", ["gate.example"])
    said = texts(doctor_addresses.certificate(home, served()), "bad")
    assert "not for upload.example" in said


def test_a_certificate_that_is_about_to_end_is_told_with_the_command_that_renews_it(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trial, "TLS_TRIAL_S", limits.TLS_WARN_S - 60)
    make_trial(home / "gateway" / "tls", served().hosts)
    said = texts(doctor_addresses.certificate(home, served()), "warn")
    assert "is about to end: for gate.example, upload.example, until" in said
    assert f"| presspass tls trial --home {home}" in said


def test_a_certificate_that_has_ended_is_bad(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "TLS_TRIAL_S", -1)
    make_trial(home / "gateway" / "tls", served().hosts)
    assert "ended at" in texts(doctor_addresses.certificate(home, served()), "bad")


def test_a_missing_certificate_by_acme_says_where_to_look(home: Path) -> None:
    said = texts(doctor_addresses.certificate(home, served("acme")), "bad")
    assert "acme.pem cannot be read" in said


def test_a_chain_in_the_wrong_order_is_bad(home: Path, tmp_path: Path) -> None:
    folder = home / "gateway" / "tls"
    make_trial(folder, served().hosts)
    (tmp_path / "other").mkdir()
    other = make_trial(tmp_path / "other", served().hosts)
    with (folder / "certificate.pem").open("ab") as file:
        file.write(other.read_bytes())
    said = texts(doctor_addresses.certificate(home, served()), "bad")
    assert "its chain is broken" in said and "the server's first" in said


# names and reachability


def test_a_name_that_does_not_resolve_is_bad(home: Path) -> None:
    config = Config("https://gate.invalid")
    assert "Add an A or AAAA record for gate.invalid" in texts(
        doctor_addresses.names(home, config), "bad"
    )
    assert grades(doctor_addresses.names(home, Config("http://localhost:1"))) == {
        "name localhost": "ok"
    }


def test_an_address_where_nothing_answers_is_told(home: Path) -> None:
    config = Config(f"http://localhost:{free_port()}")
    assert grades(doctor_addresses.reachability(home, config)) == {"console": "warn"}


def test_a_certificate_that_clients_do_not_trust_is_told_as_they_will_see_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    with World(tmp_path / "home", tls=True) as world:
        url = f"https://localhost:{world.gateway.port}"
        trusted = replace(world.config, origin=url)
        assert grades(doctor_addresses.reachability(world.home, trusted))["console"] == "ok"
        stranger = replace(trusted, tls=Tls("file", "c", "k"))
        said = texts(doctor_addresses.reachability(world.home, stranger), "bad")
        assert "put the whole chain into the certificate's file" in said
        plain = replace(trusted, origin=url.replace("https", "http"))
        assert grades(doctor_addresses.reachability(world.home, plain))["console"] == "bad"


def test_another_gate_at_the_address_is_bad(tmp_path: Path) -> None:
    with World(tmp_path / "one") as one, World(tmp_path / "two") as two:
        config = replace(one.config, origin=f"http://localhost:{two.gateway.port}")
        said = texts(doctor_addresses.reachability(one.home, config), "bad")
        assert "another gate answers" in said


# the proxy


class Proxy:
    """A small TLS proxy on this machine that passes GET on, well or badly."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.ca = make_trial(folder, ["localhost"])
        self.target = 0
        self.headers: dict[str, str] = {}
        self.host = ""
        self.own_phrases = False
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(folder / "certificate.pem", folder / "key.pem")
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.url = f"https://localhost:{self.server.server_address[1]}"

    def _handler(self) -> type[http.server.BaseHTTPRequestHandler]:
        proxy = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                onward = http.client.HTTPConnection("127.0.0.1", proxy.target, timeout=10)
                host = proxy.host or self.headers["Host"]
                onward.request("GET", self.path, headers={"Host": host, **proxy.headers})
                answer = onward.getresponse()
                body = answer.read()
                phrase = "OK" if proxy.own_phrases else answer.reason
                self.send_response_only(answer.status, phrase)
                for name, value in answer.getheaders():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)
                onward.close()

            def log_message(self, *_words: object) -> None:
                """Nobody reads it."""

        return Handler


@contextmanager
def proxied(tmp_path: Path) -> Iterator[tuple[World, Proxy]]:
    proxy = Proxy(tmp_path / "proxy")
    thread = threading.Thread(target=proxy.server.serve_forever, args=(0.05,))
    thread.start()
    listen = Listen(port=0, trusted_proxies=("127.0.0.1",))
    try:
        with World(tmp_path / "home", config=Config(proxy.url, listen=listen)) as world:
            proxy.target = world.gateway.port
            yield world, proxy
    finally:
        proxy.server.shutdown()
        thread.join()
        proxy.server.server_close()


def test_what_a_proxy_does_to_requests_is_seen_from_outside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with proxied(tmp_path) as (world, proxy):
        monkeypatch.setenv("SSL_CERT_FILE", str(proxy.ca))
        told = {"X-Forwarded-Proto": "https", "X-Forwarded-For": "203.0.113.9"}

        def asked() -> dict[str, str]:
            return grades(doctor_addresses.reachability(world.home, world.config))

        assert asked() == {"console": "ok", "proxy (console)": "warn"}
        said = texts(doctor_addresses.reachability(world.home, world.config), "warn")
        assert "listen.trusted_proxies" in said
        proxy.headers = told
        assert asked() == {"console": "ok", "proxy (console)": "ok"}
        proxy.own_phrases = True
        said = texts(doctor_addresses.reachability(world.home, world.config), "warn")
        assert "twine, hatch and flit then show no reason" in said
        proxy.own_phrases, proxy.host = False, "backend.internal"
        assert asked()["proxy (console)"] == "bad"


# RP id and clock


def test_an_origin_that_is_not_the_one_of_genesis_is_bad(tmp_path: Path) -> None:
    world = World(tmp_path / "home")
    assert grades(doctor_addresses.rp_id(world.home, world.config)) == {"RP id": "ok"}
    moved = replace(world.config, origin="https://elsewhere.example")
    said = texts(doctor_addresses.rp_id(world.home, moved), "bad")
    assert 'Set origin = "http://localhost:8460" again' in said


@pytest.mark.parametrize(("hours", "words"), [(1, "behind"), (-1, "ahead of")])
def test_a_clock_that_is_not_that_of_others_is_bad(hours: int, words: str) -> None:
    date = format_datetime(datetime.now(UTC) + timedelta(hours=hours), usegmt=True)
    [line] = doctor_addresses.clock_of("upstream main", date)
    assert line.grade == "bad" and f"s {words} what upstream main says" in line.found and line.fix


@pytest.mark.parametrize("date", ["", "yesterday", "Thu, 99 Foo"])
def test_an_answer_without_a_date_says_nothing_about_the_clock(date: str) -> None:
    assert list(doctor_addresses.clock_of("x", date)) == []
    now = format_datetime(datetime.fromtimestamp(time.time(), UTC), usegmt=True)
    assert list(doctor_addresses.clock_of("x", now)) == []
