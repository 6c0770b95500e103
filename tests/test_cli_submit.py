"""Submitting: streamed, safe to repeat, and the set is closed once."""

from __future__ import annotations

import email
import email.policy
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

import packages
from cli_gate import as_json, problem
from presspass.cli import exits
from presspass.cli.main import run
from presspass.core.digests import sha256_hex
from presspass.drill.world.loopback import LoopbackServer, Request, Response


class UploadGate(LoopbackServer):
    """Takes uploads of one set as the contract has it; keeps what it got, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.files: dict[str, bytes] = {}
        self.uploads: list[str] = []
        self.forms: list[dict[str, str]] = []
        self.authorizations: set[str] = set()
        self.closes = 0
        self.state = "open"

    def answer(self, request: Request) -> Response | None:
        self.authorizations.add(request.headers.get("authorization", ""))
        if request.path == "/pypi/private/legacy/":
            return self._upload(request)
        if request.path == "/api/v1/releases/abc/close":
            self.closes += 1
            self.state = "staged"
            return as_json({})
        if request.path == "/api/v1/releases/abc":
            return as_json(self.release())
        return problem(404, "request.not-found", "no")

    def release(self) -> dict[str, object]:
        files = [
            {"name": n, "sha256": sha256_hex(b), "size": len(b)} for n, b in self.files.items()
        ]
        return {
            "id": "abc",
            "url": f"{self.url}/r/abc",
            "upstream": "private",
            "project": "greet",
            "version": "1.0",
            "state": self.state,
            "files": files,
        }

    def _upload(self, request: Request) -> Response:
        head = f"Content-Type: {request.headers['content-type']}\r\n\r\n".encode()
        message = email.message_from_bytes(head + request.body, policy=email.policy.HTTP)
        form = {}
        for part in message.iter_parts():
            name = part.get_param("name", header="content-disposition")
            body = part.get_payload(decode=True)
            if name == "content":
                filename = part.get_filename() or ""
                self.uploads.append(filename)
                if self.state != "open" and filename not in self.files:
                    return problem(
                        403, "release.set-closed", "The set is closed.", "Use a new version."
                    )
                self.files[filename] = body
            else:
                form[name] = body.decode()
        self.forms.append(form)
        return Response(202, b"{}", headers=(("Location", "/r/abc"),))


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[UploadGate]:
    monkeypatch.setenv("PRESSPASS_TOKEN", "ppu_secret")
    with UploadGate() as server:
        yield server


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    return [
        packages.make_wheel(tmp_path, "greet", "1.0"),
        packages.make_sdist(tmp_path, "greet", "1.0"),
    ]


def submit(gate: UploadGate, files: list[Path], *more: str) -> int:
    return run(["submit", *map(str, files), "--url", f"{gate.url}/pypi/private/", *more])


def test_every_file_arrives_whole_with_its_digests_and_the_set_is_closed(
    gate: UploadGate, files: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert submit(gate, files) == exits.DONE
    assert gate.files == {path.name: path.read_bytes() for path in files}
    assert {form["sha256_digest"] for form in gate.forms} == {
        sha256_hex(path.read_bytes()) for path in files
    }
    assert {form["filetype"] for form in gate.forms} == {"bdist_wheel", "sdist"}
    assert gate.closes == 1
    assert capsys.readouterr().out == f"{gate.url}/r/abc\n"


def test_running_it_again_sends_only_what_names_the_release_and_closes_nothing_twice(
    gate: UploadGate, files: list[Path]
) -> None:
    assert submit(gate, files) == submit(gate, files) == exits.DONE
    smallest = min(files, key=lambda path: path.stat().st_size).name
    assert gate.uploads[2:] == [smallest]
    assert gate.closes == 1


def test_files_that_another_client_uploaded_are_not_sent_again(
    gate: UploadGate, files: list[Path]
) -> None:
    large = max(files, key=lambda path: path.stat().st_size)
    gate.files[large.name] = large.read_bytes()
    assert submit(gate, files) == exits.DONE
    assert large.name not in gate.uploads


def test_a_new_file_for_a_closed_set_is_refused_with_the_gates_reason(
    gate: UploadGate, files: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert submit(gate, files[:1]) == exits.DONE
    assert submit(gate, files) == exits.REFUSED
    assert "release.set-closed" in capsys.readouterr().err


def test_the_token_is_never_taken_from_the_command_line_and_never_shown(
    gate: UploadGate, files: list[Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    token = tmp_path / "token"
    token.write_text("ppu_from_file\n")
    assert submit(gate, files, "--token-file", str(token)) == exits.DONE
    assert "Bearer ppu_from_file" in gate.authorizations
    shown = capfd.readouterr()
    assert "ppu_from_file" not in shown.out + shown.err


def test_files_of_two_releases_are_refused_before_anything_is_sent(
    gate: UploadGate, tmp_path: Path
) -> None:
    files = [
        packages.make_wheel(tmp_path, "greet", "1.0"),
        packages.make_wheel(tmp_path, "greet", "1.1"),
    ]
    assert submit(gate, files) == exits.REFUSED
    assert gate.uploads == []


def test_a_file_with_no_artifacts_name_is_refused_before_anything_is_sent(
    gate: UploadGate, tmp_path: Path
) -> None:
    (tmp_path / "notes.txt").write_text("x")
    assert submit(gate, [tmp_path / "notes.txt"]) == exits.REFUSED
    assert gate.uploads == []


@pytest.mark.parametrize("url", ["/", "/simple/", "/pypi/", "/pypi/a/b/"])
def test_an_address_that_is_no_upload_address_is_wrong_usage(
    gate: UploadGate, files: list[Path], url: str
) -> None:
    assert run(["submit", str(files[0]), "--url", gate.url + url]) == exits.CANNOT_SAY


@pytest.mark.parametrize("state", ["rejected", "expired", "withdrawn", "failed"])
def test_waiting_for_a_release_that_ends_otherwise_is_a_refusal(
    gate: UploadGate, files: list[Path], state: str
) -> None:
    submit(gate, files)
    gate.state = state
    codes = {"expired": exits.EXPIRED, "failed": exits.FAILED, "withdrawn": exits.OVERTAKEN}
    assert run(["wait", f"{gate.url}/r/abc"]) == codes.get(state, exits.REFUSED) != exits.DONE


def test_published_is_not_yet_verified(gate: UploadGate, files: list[Path]) -> None:
    submit(gate, files)
    gate.state = "published"
    assert run(["wait", f"{gate.url}/r/abc", "--timeout", "0s"]) == exits.TIMED_OUT
    gate.state = "verified"
    assert run(["wait", f"{gate.url}/r/abc", "--timeout", "0s"]) == exits.DONE


def test_a_script_reads_where_the_release_stands(
    gate: UploadGate, files: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert submit(gate, files, "--format", "json") == exits.DONE
    told = json.loads(capsys.readouterr().out)
    assert (told["state"], told["url"]) == ("staged", f"{gate.url}/r/abc")
    assert run(["status", f"{gate.url}/r/abc"]) == exits.DONE
    assert "greet 1.0 for" in capsys.readouterr().out


def test_an_interrupted_wait_says_that_it_goes_on_and_how_to_look_again(
    gate: UploadGate,
    files: list[Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def interrupted(_seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("presspass.cli.status.time.sleep", interrupted)
    assert submit(gate, files, "--wait") == exits.INTERRUPTED
    said = capsys.readouterr().err
    assert f"It goes on at the gate: presspass wait {gate.url}/r/abc" in said
    assert "nothing more was done" not in said


def test_only_a_release_is_withdrawn(gate: UploadGate) -> None:
    assert run(["withdraw", f"{gate.url}/q/{'0' * 64}"]) == exits.CANNOT_SAY
