"""A real witness: `presspass witness` as a process of its own, over a folder that outlives it."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Self

from presspass.core.ledger.note import VerifierKey
from presspass.core.ledger.witness import Submission

NAME = "witness.example/w1"


class Running:
    """`presspass witness` over a folder."""

    def __init__(self, home: Path, *logs: VerifierKey) -> None:
        self.home, self.logs = home, logs

    def __enter__(self) -> Self:
        command = [sys.executable, "-m", "presspass.cli.main", "witness", "--home", str(self.home)]
        command += ["--name", NAME, "--port", "0", "--format", "json"]
        command += [word for log in self.logs for word in ("--log", log.to_text())]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE)
        assert self.process.stdout is not None
        said = json.loads(self.process.stdout.readline())
        self.port, self.key = said["port"], VerifierKey.from_text(said["key"])
        return self

    def __exit__(self, *_exception: object) -> None:
        if self.process.poll() is None:
            assert self.end(signal.SIGTERM) == 0

    def end(self, number: int) -> int:
        os.kill(self.process.pid, number)
        code = self.process.wait(20)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return code

    def ask(self, method: str, path: str, body: bytes | None = None) -> tuple[int, str, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        connection.request(method, path, body)
        answer = connection.getresponse()
        data = answer.read()
        connection.close()
        return answer.status, answer.headers["content-type"], data

    def submit(self, submission: Submission) -> tuple[int, str, bytes]:
        return self.ask("POST", "/add-checkpoint", submission.to_bytes())
