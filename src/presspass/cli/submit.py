"""`submit`: upload what is not there yet, then close the set. Safe to run again: the gate answers the same.

With an upload token, or in CI with nothing but the gate's address: then the job proves what it is, and gets a pass.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, unquote

import click

from presspass.cli.client import Gate, PageUrl, parse_page_url
from presspass.cli.exits import DONE
from presspass.cli.options import Duration, example, format_option
from presspass.cli.show import emit_json, note, progress, safe, say, size_text
from presspass.core.digests import JsonObject
from presspass.core.errors import Code, Fault, Refusal
from presspass.core.lifecycle import State
from presspass.core.limits import READ_CHUNK_BYTES
from presspass.core.statement import ReleaseFile
from presspass.formats.filenames import ArtifactName, parse_filename

TOKEN_VARIABLE = "PRESSPASS_TOKEN"
URL_VARIABLE = "PRESSPASS_URL"
#: Names that are taken from a folder; others beside them are left where they are.
_ARTIFACTS = ("*.whl", "*.tar.gz")
_HANDLE = re.compile(r"[A-Za-z0-9_-]{1,128}")


@dataclass(frozen=True, slots=True)
class LocalFile:
    """A file to send: where it lies, what its name says, what it hashes to. `size` in bytes."""

    path: Path
    name: ArtifactName
    sha256: str
    blake2_256: str
    size: int


_token_option = click.option(
    "--token-file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help=f"A file with the upload token (default: the variable {TOKEN_VARIABLE}).",
)


@click.command(
    "submit",
    short_help="Upload files and close the set.",
    epilog=example(
        "export PRESSPASS_TOKEN=ppu_…",
        "presspass submit dist/* --url https://gate.example/pypi/private/ --wait",
        "presspass submit dist --url https://gate.example        (in a bound CI job)",
    ),
)
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True))
@click.option(
    "--url",
    envvar=URL_VARIABLE,
    show_envvar=True,
    required=True,
    help="The gate's upload address, https://GATE/pypi/UPSTREAM/; for a bound CI job https://GATE is enough.",
)
@_token_option
@click.option(
    "--env-file",
    type=click.Path(path_type=Path, dir_okay=False, writable=True),
    help="Write PRESSPASS_RELEASE and PRESSPASS_RELEASE_URL here too, for later jobs (GitLab's dotenv reports).",
)
@click.option(
    "--wait", "wait_for_it", is_flag=True, help="Wait until it is published, like `presspass wait`."
)
@click.option(
    "--timeout", type=Duration(), default="1h", show_default=True, help="How long --wait waits."
)
@format_option
def submit_command(
    files: tuple[Path, ...],
    url: str,
    token_file: Path | None,
    env_file: Path | None,
    wait_for_it: bool,
    timeout: int,
    as_json: bool,
) -> int:
    """Upload FILES (wheels and one sdist of one version, or folders with them) to the gate and close the set.

    A closed set never changes again: an inspection and a request for approval follow. Running the same command again
    sends nothing that the gate already has. Prints the address of the release. Files that twine or uv have uploaded
    before count: then `submit` only closes the set (or the gate closes it after its quiet period).

    In CI no token is needed: a job that people have bound (`presspass publisher bind`) proves what it is and gets a
    pass for these very files, good for minutes. The job ends when the files are staged; `presspass wait` with the
    release's id follows it from anywhere. In GitHub Actions the outputs `release` and `url` are set.

    Exit codes: 0 staged (with --wait: as `presspass wait`); 1 refused; 3 timed out; 4 the gate cannot be reached.
    """
    local = _read_files(_expanded(files))
    token = _token_at_hand(token_file)
    base, upstream = _upload_address(url, need_upstream=bool(token))
    page, release = (
        _send_with_token(base, upstream, local, token)
        if token
        else _send_as_job(base, upstream, local)
    )
    _hand_on(page, env_file)
    _tell(page, release, as_json and not wait_for_it)
    if not wait_for_it:
        return DONE
    from presspass.cli.status import wait_for

    return wait_for(page, timeout, as_json=as_json)


@click.command(
    "withdraw",
    short_help="Take a release back before it goes out.",
    epilog=example("export PRESSPASS_TOKEN=ppu_…", "presspass withdraw https://gate.example/r/4x…"),
)
@click.argument("url")
@_token_option
@format_option
def withdraw_command(url: str, token_file: Path | None, as_json: bool) -> None:
    """Take the release at URL back: with the upload token of the person who asked for it, before it begins to go out.

    The press ends it when it sees that; nobody is asked any more. The same files, or corrected ones, may be uploaded
    again for this version. Somebody else's release is ended by a veto.

    Exit codes: 0 withdrawn; 1 refused (another's token, or it goes out already); 4 the gate cannot be reached.
    """
    page = parse_page_url(url)
    if page.kind != "r":
        raise click.UsageError(
            "Only a release (https://GATE/r/…) is withdrawn; a request is vetoed."
        )
    with Gate(page.base, token=_read_token(token_file)) as gate:
        answer = gate.post_json(f"{page.api}/withdraw")
    if as_json:
        emit_json(answer)
        return
    say(f"{safe(answer['project'])} {safe(answer['version'])}: {safe(answer['state'])}")


def _token_at_hand(token_file: Path | None) -> str:
    """The upload token, or "" where there is none."""
    return (
        token_file.read_text().strip() if token_file else os.environ.get(TOKEN_VARIABLE, "").strip()
    )


def _read_token(token_file: Path | None) -> str:
    token = _token_at_hand(token_file)
    if not token:
        raise click.UsageError(_NO_TOKEN)
    return token


_NO_TOKEN = f"No upload token: set {TOKEN_VARIABLE} or give --token-file. `presspass token create` makes one."


def _upload_address(url: str, *, need_upstream: bool) -> tuple[str, str]:
    """(base, name of the upstream). Takes …/pypi/NAME, …/pypi/NAME/ and …/pypi/NAME/legacy/; and where the upstream is
    not needed, the gate's own address ("" then)."""
    before, mark, rest = url.rstrip("/").removesuffix("/legacy").partition("/pypi/")
    sound = bool(rest) and "/" not in rest if mark else not need_upstream
    if not sound or not before.startswith(("https://", "http://")):
        raise click.UsageError(
            f"{url!r} is no upload address; it looks like https://GATE/pypi/UPSTREAM/."
        )
    return before, unquote(rest)


def _send_with_token(
    base: str, upstream: str, files: Sequence[LocalFile], token: str
) -> tuple[PageUrl, JsonObject]:
    with Gate(base, token=token) as gate:
        page = _send_all(gate, f"/pypi/{quote(upstream, safe='')}/legacy/", files, token)
        return page, _close(gate, page)


def _send_as_job(
    base: str, upstream: str, files: Sequence[LocalFile]
) -> tuple[PageUrl, JsonObject]:
    """By the identity of the CI job that this runs in; wrong usage where it runs in none."""
    from presspass.cli.ci_identity import find_identity
    from presspass.cli.exchange import end, exchange

    identity = find_identity(os.environ)
    if identity is None:
        raise click.UsageError(
            f"{_NO_TOKEN} Nor does this run in a CI system that is known here; any other one hands its identity token "
            "over in PRESSPASS_ID_TOKEN or PRESSPASS_ID_TOKEN_FILE."
        )
    listed = [ReleaseFile(one.path.name, one.sha256, one.size) for one in files]
    with Gate(base) as gate:
        got = exchange(gate, identity, upstream, files[0].name.project, listed)
    if not got.bound:
        note(
            f"{safe(identity.system)}: the token was made before the files were, so it does not name them. A standing "
            "approval does not apply; people compare what the gate has received."
        )
    if got.stage_only:
        note("The workflow is another than the bound one: whoever approves this release binds it.")
    with Gate(base, token=got.secret) as gate:
        page = _send_all(gate, got.path, files, got.secret)
        release = _close(gate, page)
        end(gate, got.secret)
    return page, release


def _hand_on(page: PageUrl, env_file: Path | None) -> None:
    """Tells later steps and jobs which release it is: its id is the read-only handle that outlives the pass."""
    output = os.environ.get("GITHUB_OUTPUT")
    if output is None and env_file is None:
        return
    if not _HANDLE.fullmatch(page.id) or not page.url.isprintable():
        # Another line in these files would be another output.
        raise Fault(
            "gate.bad-answer", "The gate names a release that cannot be one.", retryable=False
        )
    try:
        if output:
            with Path(output).open("a", encoding="utf-8") as file:
                file.write(f"release={page.id}\nurl={page.url}\n")
        if env_file is not None:
            env_file.write_text(f"PRESSPASS_RELEASE={page.id}\nPRESSPASS_RELEASE_URL={page.url}\n")
    except OSError as error:
        raise Fault(
            "output.unwritable",
            f"{error.filename} cannot be written: {error.strerror}.",
            retryable=False,
        ) from None


def _expanded(given: Sequence[Path]) -> list[Path]:
    """Files as given, and of each folder its wheels and sdists."""
    found: list[Path] = []
    for path in given:
        if path.is_dir():
            found += sorted(one for shape in _ARTIFACTS for one in path.glob(shape))
        else:
            found.append(path)
    if not found:
        raise click.UsageError("There is no wheel and no sdist in there.")
    return found


def _read_files(files: Sequence[Path]) -> list[LocalFile]:
    found = [_read_file(path) for path in files]
    if len({file.path.name for file in found}) != len(found):
        raise click.UsageError("The same file name is given twice.")
    versions = {(file.name.project, file.name.version) for file in found}
    if len(versions) != 1:
        shown = ", ".join(sorted(f"{project} {version}" for project, version in versions))
        raise Refusal(
            Code.REQUEST_MALFORMED,
            f"These files are of several releases: {shown}.",
            "Submit one version at a time.",
        )
    # The smallest first: its answer names the release, which says what is there already.
    return sorted(found, key=lambda file: (file.size, file.path.name))


def _read_file(path: Path) -> LocalFile:
    sha256, blake2, size = hashlib.sha256(), hashlib.blake2b(digest_size=32), 0
    with path.open("rb") as file:
        while piece := file.read(READ_CHUNK_BYTES):
            sha256.update(piece)
            blake2.update(piece)
            size += len(piece)
    return LocalFile(path, parse_filename(path.name), sha256.hexdigest(), blake2.hexdigest(), size)


def _send_all(gate: Gate, path: str, files: Sequence[LocalFile], token: str) -> PageUrl:
    page: PageUrl | None = None
    there: dict[str, str] = {}
    total = sum(file.size for file in files)
    with progress(f"uploading {size_text(total)}", total) as moved:
        for file in files:
            if there.get(file.path.name) == file.sha256:
                moved(file.size)
                continue
            location = _send(gate, path, file, token, moved)
            if page is None:
                page = parse_page_url(location)
                there = {one["name"]: one["sha256"] for one in gate.get_json(page.api)["files"]}
    if page is None:
        raise Fault("gate.bad-answer", "The gate did not name the release.", retryable=False)
    return page


def _send(gate: Gate, path: str, file: LocalFile, token: str, moved: Callable[[int], None]) -> str:
    boundary = secrets.token_hex(16)
    head, tail = _form(file, boundary)
    headers = {
        "Content-Type": f"multipart/form-data; boundary={boundary}",
        "Content-Length": str(len(head) + file.size + len(tail)),
    }
    status, location = gate.upload(
        path, _body(head, file, tail, moved), headers=headers, password=token
    )
    if not location:
        raise Fault(
            "gate.bad-answer",
            f"The gate took {file.path.name} (status {status}) and named no release. Is the address that of a gate?",
            retryable=False,
        )
    return location


def _form(file: LocalFile, boundary: str) -> tuple[bytes, bytes]:
    """What stands before and after the file's bytes in the upload form (RFC 7578)."""
    wheel = file.name.kind == "wheel"
    fields = {
        ":action": "file_upload",
        "protocol_version": "1",
        "metadata_version": "2.1",  # the gate reads metadata from the file; PyPI's form wants the field to be there
        "name": file.name.project,
        "version": file.name.version,
        "filetype": "bdist_wheel" if wheel else "sdist",
        "pyversion": file.path.name.split("-")[-3] if wheel else "source",
        "sha256_digest": file.sha256,
        "blake2_256_digest": file.blake2_256,
    }
    parts = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in fields.items()
    ]
    parts.append(
        f'--{boundary}\r\nContent-Disposition: form-data; name="content"; filename="{file.path.name}"\r\n'
        "Content-Type: application/octet-stream\r\n\r\n"
    )
    return "".join(parts).encode("utf-8"), f"\r\n--{boundary}--\r\n".encode()


def _body(
    head: bytes, file: LocalFile, tail: bytes, moved: Callable[[int], None]
) -> Iterator[bytes]:
    yield head
    with file.path.open("rb") as content:
        while piece := content.read(READ_CHUNK_BYTES):
            yield piece
            moved(len(piece))
    yield tail


def _close(gate: Gate, page: PageUrl) -> JsonObject:
    """Closes the set; a set that was closed before is what was wanted."""
    if gate.get_json(page.api)["state"] == State.OPEN.value:
        gate.post_json(f"{page.api}/close")
    return gate.get_json(page.api)


def _tell(page: PageUrl, release: JsonObject, as_json: bool) -> None:
    if as_json:
        emit_json(
            {
                "url": release["url"],
                "state": release["state"],
                "id": page.id,
                "files": release["files"],
            }
        )
        return
    say(safe(release["url"]))
    what = f"{safe(release['project'])} {safe(release['version'])}"
    note(f"{what}: {safe(release['state'])}, {len(release['files'])} files.")
