"""Signed-in terminals: where the token is kept, which gate is meant, and a gate that names another place."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from presspass.cli import login, sessions
from presspass.cli.main import run
from presspass.core.errors import Code, Fault, Refusal

ONE, OTHER = "https://gate.example", "http://localhost:8460"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    return tmp_path


def test_a_token_is_kept_for_its_owner_alone_and_forgotten_whole() -> None:
    sessions.keep_session(ONE, "pps_1")
    sessions.keep_session(OTHER, "pps_2")
    path = sessions.SESSIONS.path
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    sessions.keep_session(ONE, "")
    assert sessions.known_sessions() == {OTHER: "pps_2"}
    assert "pps_1" not in path.read_text()
    assert [one.name for one in path.parent.iterdir()] == [path.name]


def test_the_only_gate_is_meant_and_of_two_one_is_named() -> None:
    with pytest.raises(Refusal) as none:
        sessions.chosen_origin(None)
    assert none.value.code is Code.SESSION_MISSING
    sessions.keep_session(ONE, "pps_1")
    assert sessions.chosen_origin(None) == ONE
    sessions.keep_session(OTHER, "pps_2")
    with pytest.raises(Refusal, match="Which gate"):
        sessions.chosen_origin(None)
    assert sessions.chosen_origin("https://GATE.example/r/abc") == ONE


@pytest.mark.parametrize(
    "text", ["", "gate.example", "ftp://gate.example", "https://a@b", "https://"]
)
def test_what_is_no_address_of_a_gate_is_refused(text: str) -> None:
    with pytest.raises(Refusal) as refusal:
        sessions.gate_origin(text)
    assert refusal.value.code is Code.REQUEST_MALFORMED


@pytest.mark.parametrize("content", ["", "[]", "{", json.dumps({ONE: 1})])
def test_a_damaged_file_is_said_to_be_damaged(content: str) -> None:
    path = sessions.SESSIONS.path
    path.parent.mkdir(parents=True)
    path.write_text(content)
    with pytest.raises(Refusal) as refusal:
        sessions.known_sessions()
    assert refusal.value.code is Code.CONFIG_INVALID
    assert refusal.value.hint


def test_commands_of_a_terminal_that_is_not_signed_in_say_so(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for words in (["whoami"], ["logout"], ["status", "--gate", ONE]):
        assert run(words) == 1
        assert "session.missing" in capsys.readouterr().err


@pytest.mark.parametrize(
    "address", [None, 7, "http://gate.example/token", "http://127.0.0.1:1/token", "javascript:x"]
)
def test_a_gate_behind_tls_cannot_send_the_terminal_to_plain_http(address: object) -> None:
    with pytest.raises(Fault):
        login._endpoint(ONE, address)
    assert login._endpoint(ONE, "https://upload.example/token") == "https://upload.example/token"
    assert login._endpoint(OTHER, f"{OTHER}/token") == f"{OTHER}/token"
