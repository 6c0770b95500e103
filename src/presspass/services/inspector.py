"""The inspector process: `python -m presspass.services.inspector --fd N`, with N a Unix stream socket.

Warms itself up, gives up its own rights, then forks a confined child for each request (presspass.confine.zygote).
Ends when the other side of its socket closes.
"""

from __future__ import annotations

import argparse
import gc
import io
import os
import socket
import tarfile
import zipfile

from presspass.confine import self_confine, zygote
from presspass.core.digests import JsonObject, sha256_hex
from presspass.inspector.engine import inspect

_METADATA = b"Metadata-Version: 2.4\nName: warm\nVersion: %s\nRequires-Dist: other>=1; extra == 'x'\n\n\xc3\xa9\n"


def work(request: JsonObject, fds: list[int]) -> bytes:
    """What a child does: one inspection, its report as canonical bytes."""
    return inspect(request, fds).to_bytes()


def warm_up() -> None:
    """One small inspection of our own making: all modules and codecs are loaded before files are out of reach."""
    files = {version: (_wheel(version), _sdist(version)) for version in ("1.0", "1.1")}
    fds = []
    listed: dict[str, list[JsonObject]] = {version: [] for version in files}
    for version in ("1.1", "1.0"):
        suffixes = ("-py3-none-any.whl", ".tar.gz")
        for content, suffix in zip(files[version], suffixes, strict=True):
            fds.append(os.memfd_create("warm"))
            os.write(fds[-1], content)
            listed[version].append(
                {
                    "name": f"warm-{version}{suffix}",
                    "sha256": sha256_hex(content),
                    "size": len(content),
                }
            )
    baseline = {"version": "1.0", "files": listed["1.0"]}
    work(
        {"project": "warm", "version": "1.1", "candidate": listed["1.1"], "baseline": baseline}, fds
    )
    for fd in fds:
        os.close(fd)


def _wheel(version: str) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("warm/é.py", f"version = {version}\n")
        archive.writestr(f"warm-{version}.dist-info/METADATA", _METADATA % version.encode())
        archive.writestr(
            f"warm-{version}.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n"
        )
        archive.writestr(f"warm-{version}.dist-info/entry_points.txt", f"[a]\nb = c:d{version}\n")
        archive.writestr(f"warm-{version}.dist-info/RECORD", "warm/other.py,sha256=AAAA,1\n")
    return target.getvalue()


def _sdist(version: str) -> bytes:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w:gz", format=tarfile.PAX_FORMAT) as archive:
        member = tarfile.TarInfo(f"warm-{version}/PKG-INFO")
        content = _METADATA % version.encode()
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))
    return target.getvalue()


def main() -> None:
    """Serves until the socket closes."""
    parser = argparse.ArgumentParser(
        description="The inspector process; started by the gateway and by the press."
    )
    parser.add_argument(
        "--fd", type=int, required=True, help="number of the inherited Unix stream socket"
    )
    link = socket.socket(fileno=parser.parse_args().fd)
    null = os.open(os.devnull, os.O_RDWR)
    warm_up()
    gc.freeze()  # the children share these pages as long as the collector does not touch them
    self_confine()
    with link:
        zygote.serve(link, work, null)


if __name__ == "__main__":
    main()
