"""`backup` and `restore`: a consistent copy of a home in one file, and a home made from it that starts frozen.

The file is an uncompressed tar: manifest.json (first member: SHA-256 and size of every other one), presspass.toml,
both databases as SQLite's online backup wrote them, the drop box; blobs and keys only when asked for.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import shutil
import sqlite3
import tarfile
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Final

import click

from presspass import __version__
from presspass.cli.choosing import warn
from presspass.cli.doctor import KEY_FILES
from presspass.cli.options import example, format_option, home_option
from presspass.cli.show import emit_json, note, quoted, say, size_text
from presspass.core.digests import JsonObject, is_sha256
from presspass.core.errors import Code, Fault, Refusal
from presspass.core.limits import BACKUP_MANIFEST_BYTES_MAX, BACKUP_MEMBERS_MAX
from presspass.core.strict import Members

#: How the id of the freeze begins with which a restored press starts.
RESTORED_PREFIX: Final = "restored-"
_FORMAT: Final = "presspass/backup/v1"
_MANIFEST: Final = "manifest.json"
_PLAIN: Final = ("presspass.toml", "press/identity.json", "trust-root.json")
_DATABASES: Final = ("gateway/gateway.db", "press/journal/journal.db")
_FOLDERS: Final = ("drop", "gateway/blobs", "press/keys")
_CHUNK_BYTES = 1 << 20


@click.command(
    "backup",
    short_help="Write a consistent copy of a home to a file.",
    epilog=example(
        "presspass backup --home /srv/presspass --to /backup/presspass.tar --with-blobs"
    ),
)
@home_option
@click.option(
    "--to",
    "target",
    type=click.Path(path_type=Path, dir_okay=False),
    required=True,
    help="The file to write.",
)
@click.option(
    "--with-blobs",
    is_flag=True,
    help="Also the uploaded files (needed to finish releases under way).",
)
@click.option(
    "--with-keys",
    is_flag=True,
    help="Also the press's keys and sealed credentials: whoever has the file is the press.",
)
@format_option
def backup_command(
    home: Path, target: Path, with_blobs: bool, with_keys: bool, as_json: bool
) -> None:
    """Copy configuration, both databases and the drop box of a home, running or not, into one tar file (mode 0600).

    The databases are copied consistently while the gate works. Without --with-keys a restored home needs the old
    press/keys folder to publish again. A home whose databases are on PostgreSQL is refused: pg_dump is their backup.

    Exit codes: 0 written; 1 refused (not a home, the file exists); 4 something cannot be read or written.
    """
    from presspass.services.config import read_config

    if read_config(home).database.url:
        raise Refusal(
            Code.REQUEST_UNSUPPORTED,
            "The databases of this home are on a PostgreSQL server, and are backed up there.",
            "Use pg_dump, and copy the home's folders; docs/postgresql.md has the order, and how to restore.",
        )
    if target.exists():
        raise Refusal(
            Code.HOME_EXISTS, f"{target} exists.", "Name a new file; a backup is never overwritten."
        )
    folders = [
        "drop",
        *(["gateway/blobs"] if with_blobs else []),
        *(["press/keys"] if with_keys else []),
    ]
    try:
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=".presspass-backup-") as work:
            sources = _gather(home, Path(work), folders)
            size = _write(target, sources)
    except (OSError, sqlite3.Error) as error:
        raise Fault(
            "backup.failed", f"The backup could not be written: {error}.", retryable=True
        ) from None
    if as_json:
        emit_json(
            {
                "file": str(target),
                "size": size,
                "members": len(sources),
                "keys": with_keys,
                "blobs": with_blobs,
            }
        )
        return
    say(f"wrote {target}: {len(sources)} files, {size_text(size)}")
    if with_keys:
        note("It holds the press's keys: keep it as you keep them.")


def _gather(home: Path, work: Path, folders: list[str]) -> dict[str, Path]:
    """Member name to the file its bytes come from; the press's database first: never ahead of the gateway's."""
    sources = {name: home / name for name in _PLAIN if (home / name).exists()}
    for name in reversed(_DATABASES):
        if (home / name).exists():
            sources[name] = work / name.replace("/", "-")
            _copy_database(home / name, sources[name])
    for folder in folders:
        for path in sorted((home / folder).rglob("*")):
            if path.is_file() and not path.is_symlink() and not path.name.startswith("."):
                sources[path.relative_to(home).as_posix()] = path
    return sources


def _copy_database(source: Path, target: Path) -> None:
    """SQLite's online backup: one consistent state, whatever the owner commits meanwhile."""
    with (
        contextlib.closing(
            sqlite3.connect(f"file:{source}?mode=ro", uri=True, timeout=10)
        ) as reader,
        contextlib.closing(sqlite3.connect(target)) as writer,
    ):
        reader.backup(writer)


def _write(target: Path, sources: dict[str, Path]) -> int:
    """Writes the tar durably under a temporary name, then links it; returns its size in bytes."""
    temporary = target.with_name(f".{target.name}.part")
    descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as archive:
                _add(archive, _MANIFEST, io.BytesIO(_manifest(sources)))
                for name, path in sources.items():
                    with path.open("rb") as content:
                        _add(archive, name, content)
            file.flush()
            os.fsync(file.fileno())
            size = file.tell()
        os.link(temporary, target)
        return size
    finally:
        temporary.unlink(missing_ok=True)


def _add(archive: tarfile.TarFile, name: str, content: IO[bytes]) -> None:
    member = tarfile.TarInfo(name)
    content.seek(0, os.SEEK_END)
    member.size, member.mode, member.mtime = content.tell(), 0o600, int(time.time())
    content.seek(0)
    archive.addfile(member, content)


def _manifest(sources: dict[str, Path]) -> bytes:
    value = {
        "format": _FORMAT,
        "made_at": int(time.time()),
        "version": __version__,
        "members": [{"name": n, **_digest(p)} for n, p in sources.items()],
    }
    return json.dumps(value, indent=1, sort_keys=True).encode()


def _digest(path: Path) -> JsonObject:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return {"sha256": digest, "size": file.seek(0, os.SEEK_END)}


# restore


@dataclass(frozen=True, slots=True)
class Listed:
    """A member as the manifest lists it; `size` in bytes."""

    name: str
    sha256: str
    size: int


@click.command(
    "restore",
    short_help="Make a home from a backup; it starts frozen.",
    epilog=example(
        "presspass restore /backup/presspass.tar --home /srv/presspass-new --old-home /srv/presspass"
    ),
)
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@home_option
@click.option(
    "--old-home",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="What is left of the old home: its drop box is carried over, and its press/keys where the backup has none.",
)
@format_option
def restore_command(file: Path, home: Path, old_home: Path | None, as_json: bool) -> None:
    """Make a new home at --home from a backup FILE.

    A backup is old: what was decided or published after it is not in it. So the press of a restored home starts frozen,
    and refuses every request made before the restore; a quorum clears the freeze (`presspass freeze --clear`). Nothing
    that the backup knows as approved can therefore go out a second time.

    Exit codes: 0 restored; 1 refused (the home exists; the backup is damaged); 4 something cannot be read or written.
    """
    if home.exists():
        raise Refusal(
            Code.HOME_EXISTS,
            f"{home} exists.",
            "Restore into a new folder, look at it, then move it.",
        )
    work = home.absolute().with_name(f".{home.absolute().name}.restoring")
    if work.exists():
        shutil.rmtree(work)
    try:
        names = _unpack(file, work)
        if old_home is not None:
            _carry_over(
                old_home, work, keys="press/keys" not in {n.rpartition("/")[0] for n in names}
            )
        _mark_restored(work)
        work.rename(home)
    except OSError as error:
        raise Fault(
            "restore.failed", f"The home could not be made: {error}.", retryable=True
        ) from None
    finally:
        shutil.rmtree(work, ignore_errors=True)
    keys = home / "press" / "keys"
    missing = [name for name in KEY_FILES if not (keys / name).is_file()]
    if as_json:
        emit_json({"home": str(home), "members": len(names), "keys": not missing, "frozen": True})
        return
    say(f"restored {len(names)} files to {home}; its press starts frozen")
    at = quoted(home)
    if missing:
        warn(
            f"press/keys is missing ({', '.join(missing)}): the press cannot start. Copy the old press/keys folder to "
            f"{quoted(keys)} (folders 0700, files 0600)."
        )
    note(f"Next: presspass doctor --home {at}; presspass serve --home {at}")
    note("When you have looked, ask two people to end the freeze that it starts with:")
    note(f"  presspass freeze --clear {RESTORED_PREFIX} --home {at}")


def _mark_restored(home: Path) -> None:
    from presspass.services import press

    press.mark_restored(home)


def _carry_over(old_home: Path, home: Path, *, keys: bool) -> None:
    for path in sorted((old_home / "drop").glob("*.json")):
        if path.is_file() and not (home / "drop" / path.name).exists():
            shutil.copy2(path, home / "drop" / path.name)
    if keys and (old_home / "press" / "keys").is_dir():
        shutil.copytree(old_home / "press" / "keys", home / "press" / "keys", dirs_exist_ok=True)


def _unpack(file: Path, work: Path) -> list[str]:
    """Unpacks exactly what the manifest lists, checking every digest; refuses with `backup.invalid`."""
    from presspass.services.layout import make_folders

    make_folders(work)
    with _opened(file) as archive:
        listed = _read_manifest(archive)
        for one in listed:
            _unpack_member(archive, one, work)
        if archive.next() is not None:
            raise _damaged("it holds more than its manifest lists")
    return [one.name for one in listed]


@contextlib.contextmanager
def _opened(file: Path) -> Iterator[tarfile.TarFile]:
    try:
        with tarfile.open(file, mode="r:") as archive:
            yield archive
    except tarfile.TarError as error:
        raise _damaged(f"it is no tar file ({error})") from None


def _read_manifest(archive: tarfile.TarFile) -> tuple[Listed, ...]:
    content = _next_file(archive, _MANIFEST)
    try:
        value = json.loads(content.read(BACKUP_MANIFEST_BYTES_MAX + 1))
    except ValueError:
        raise _damaged("its manifest cannot be read") from None
    members = Members(value, "backup's manifest")
    members.choice("format", (_FORMAT,))
    members.integer("made_at")
    members.text("version")
    listed = members.items("members", _read_listed, count_max=BACKUP_MEMBERS_MAX)
    members.done()
    return listed


def _read_listed(value: object) -> Listed:
    members = Members(value, "backup's member")
    one = Listed(
        members.text("name", chars_max=512), members.sha256("sha256"), members.integer("size")
    )
    members.done()
    path = PurePosixPath(one.name)
    known = one.name in (*_PLAIN, *_DATABASES) or any(
        one.name.startswith(f"{f}/") for f in _FOLDERS
    )
    if not known or path.is_absolute() or ".." in path.parts or path.as_posix() != one.name:
        raise _damaged(f"it holds a file that belongs to no home: {one.name!r}")
    return one


def _unpack_member(archive: tarfile.TarFile, one: Listed, work: Path) -> None:
    content = _next_file(archive, one.name)
    target = work / one.name
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    digest, size = hashlib.sha256(), 0
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        while piece := content.read(_CHUNK_BYTES):
            digest.update(piece)
            size += len(piece)
            file.write(piece)
        file.flush()
        os.fsync(file.fileno())
    if (digest.hexdigest(), size) != (one.sha256, one.size) or not is_sha256(one.sha256):
        raise _damaged(f"{one.name} is not what the manifest says")


def _next_file(archive: tarfile.TarFile, name: str) -> IO[bytes]:
    member = archive.next()
    content = (
        archive.extractfile(member)
        if member is not None and member.isreg() and member.name == name
        else None
    )
    if content is None:
        raise _damaged(f"{name} is missing")
    return content


def _damaged(why: str) -> Refusal:
    return Refusal(
        Code.BACKUP_INVALID, f"The backup cannot be used: {why}.", "Take another backup."
    )
