"""Tiny wheels and sdists for tests and the demo: right ones, and ones that are wrong in exactly one way.

Every builder is deterministic: the same arguments give the same bytes, whatever the day and the machine. Standard
library only, and nothing here is taken from the formats the product reads, so that a mistake cannot hide in both.
All content is inert: the "suspicious" files do nothing when they run.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import re
import tarfile
import warnings
import zipfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

FIXED_DATE = (2020, 1, 1, 0, 0, 0)
FIXED_EPOCH_S = 1_577_836_800
BOMB_MEMBER_BYTES = 24 * 1024 * 1024
INERT_PTH = b"import sys; sys.presspass_drill = 'inert: this line proves that a .pth file runs at start-up'\n"

Member = tuple[str, bytes]


def escaped(name: str) -> str:
    """The project name as wheels and sdists spell it in file names (binary distribution format, "escaping")."""
    return re.sub(r"[-_.]+", "_", name).lower()


def module_of(name: str, version: str) -> dict[str, bytes]:
    """The content of a package nobody described further: one module that knows its version."""
    return {f"{escaped(name)}/__init__.py": f'__version__ = "{version}"\n'.encode()}


def metadata_of(name: str, version: str, extra: str = "") -> bytes:
    """Core metadata 2.1; `extra` is further header lines, or headers, a blank line and a description."""
    head = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\nSummary: A tiny package for tests\n"
    return (head + extra + ("" if not extra or extra.endswith("\n") else "\n")).encode()


def record_of(members: Iterable[Member], record_name: str) -> bytes:
    """The RECORD of these members: path, urlsafe unpadded sha256, size; its own line has neither (PEP 376, 427)."""
    lines = []
    for path, body in members:
        digest = base64.urlsafe_b64encode(hashlib.sha256(body).digest()).rstrip(b"=").decode()
        lines.append(f"{path},sha256={digest},{len(body)}")
    return "\n".join([*lines, f"{record_name},,", ""]).encode()


def wheel_members(
    name: str,
    version: str,
    files: Mapping[str, bytes | str] | None = None,
    metadata_extra: str = "",
    *,
    metadata: bytes | None = None,
) -> list[Member]:
    """The members of a right wheel in their order in the archive, RECORD last.

    `metadata` replaces the whole METADATA file. Text in `files` is written as UTF-8.
    """
    content = module_of(name, version) if files is None else files
    info = f"{escaped(name)}-{version}.dist-info"
    wheel = b"Wheel-Version: 1.0\nGenerator: presspass-drill\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    members = [(path, _bytes(body)) for path, body in content.items()]
    members.append((f"{info}/METADATA", metadata or metadata_of(name, version, metadata_extra)))
    members.append((f"{info}/WHEEL", wheel))
    members.append((f"{info}/RECORD", record_of(members, f"{info}/RECORD")))
    return members


def zip_bytes(members: Iterable[Member]) -> bytes:
    """These members as a zip archive, in this order, duplicates included."""
    buffer = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(buffer, "w") as archive:
        warnings.simplefilter("ignore", UserWarning)  # a duplicate name is what some callers want
        for path, body in members:
            archive.writestr(_zip_info(path), body, compresslevel=6)
    return buffer.getvalue()


def wheel_filename(name: str, version: str) -> str:
    """The file name of the pure-Python wheel of this version."""
    return f"{escaped(name)}-{version}-py3-none-any.whl"


def make_wheel(
    folder: Path,
    name: str,
    version: str,
    files: Mapping[str, bytes | str] | None = None,
    metadata_extra: str = "",
) -> Path:
    """Writes a right wheel into `folder` and returns its path. `files` maps archive paths to content."""
    body = zip_bytes(wheel_members(name, version, files, metadata_extra))
    return _write(folder, wheel_filename(name, version), body)


def make_sdist(
    folder: Path,
    name: str,
    version: str,
    files: Mapping[str, bytes | str] | None = None,
    metadata_extra: str = "",
) -> Path:
    """Writes a right sdist into `folder` and returns its path. `files` are below the archive's one folder."""
    body = targz_bytes(sdist_members(name, version, files, metadata_extra))
    return _write(folder, sdist_filename(name, version), body)


def sdist_filename(name: str, version: str) -> str:
    """The file name of the sdist of this version (PEP 625)."""
    return f"{escaped(name)}-{version}.tar.gz"


def sdist_members(
    name: str,
    version: str,
    files: Mapping[str, bytes | str] | None = None,
    metadata_extra: str = "",
) -> list[tarfile.TarInfo | Member]:
    """The members of a right sdist: everything below NAME-VERSION/, PKG-INFO and pyproject.toml included."""
    top = f"{escaped(name)}-{version}"
    project = (
        f'[build-system]\nrequires = []\n\n[project]\nname = "{name}"\nversion = "{version}"\n'
    )
    content = dict(module_of(name, version) if files is None else files)
    content.setdefault("pyproject.toml", project)
    content["PKG-INFO"] = metadata_of(name, version, metadata_extra)
    return [(f"{top}/{path}", _bytes(body)) for path, body in content.items()]


def targz_bytes(members: Iterable[tarfile.TarInfo | Member]) -> bytes:
    """These members as .tar.gz; a TarInfo stands for itself, without content (links, devices)."""
    buffer = io.BytesIO()
    with (
        gzip.GzipFile(fileobj=buffer, mode="wb", mtime=FIXED_EPOCH_S, filename="") as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive,
    ):
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                archive.addfile(member)
            else:
                path, body = member
                archive.addfile(_tar_info(path, len(body)), io.BytesIO(body))
    return buffer.getvalue()


# --- wheels that are wrong in exactly one way ---------------------------------------------------------------------

NAME = "drillbit"
VERSION = "1.0"


def wheel_with_pth(folder: Path, name: str = NAME, version: str = VERSION) -> Path:
    """A well-formed wheel with a file that runs at every start of Python (inert). Only its content is suspicious."""
    files = {**module_of(name, version), f"{escaped(name)}_init.pth": INERT_PTH}
    return make_wheel(folder, name, version, files)


def wheel_with_duplicate_member(folder: Path, name: str = NAME, version: str = VERSION) -> Path:
    """Two members of one name: readers disagree about which one counts. RECORD describes the first."""
    members = wheel_members(name, version)
    members.insert(1, (members[0][0], b"second = 'the other body'\n"))
    return _write(folder, wheel_filename(name, version), zip_bytes(members))


def wheel_with_prefix_bytes(folder: Path, name: str = NAME, version: str = VERSION) -> Path:
    """Bytes before the first local header, as in a self-extracting archive; most readers do not mind."""
    body = zip_bytes(wheel_members(name, version))
    return _write(folder, wheel_filename(name, version), b"#!/bin/sh\nexit 0\n" + body)


def wheel_with_trailing_bytes(folder: Path, name: str = NAME, version: str = VERSION) -> Path:
    """Bytes after the end of the archive that no record covers."""
    body = zip_bytes(wheel_members(name, version))
    return _write(folder, wheel_filename(name, version), body + b"trailing bytes\n")


def wheel_with_two_archives(folder: Path, name: str = NAME, version: str = VERSION) -> Path:
    """Two whole archives glued together: the last one counts for most readers, the first one for some."""
    first = zip_bytes(wheel_members(name, version, {f"{escaped(name)}/__init__.py": "first = 1\n"}))
    return _write(
        folder, wheel_filename(name, version), first + zip_bytes(wheel_members(name, version))
    )


def wheel_with_wrong_record_hash(folder: Path, name: str = NAME, version: str = VERSION) -> Path:
    """RECORD carries the digest of other bytes for the first member; sizes agree."""
    members = wheel_members(name, version)
    path, body = members[0]
    members[0] = (path, body[:-2] + b"#\n")
    return _write(folder, wheel_filename(name, version), zip_bytes(members))


def wheel_with_unrecorded_member(folder: Path, name: str = NAME, version: str = VERSION) -> Path:
    """A member that RECORD does not name."""
    members = wheel_members(name, version)
    members.insert(1, (f"{escaped(name)}/extra.py", b"extra = 1\n"))
    return _write(folder, wheel_filename(name, version), zip_bytes(members))


def wheel_with_missing_member(folder: Path, name: str = NAME, version: str = VERSION) -> Path:
    """RECORD names a member that is not there."""
    return _write(
        folder, wheel_filename(name, version), zip_bytes(wheel_members(name, version)[1:])
    )


def wheel_without_record(folder: Path, name: str = NAME, version: str = VERSION) -> Path:
    """No RECORD at all."""
    return _write(
        folder, wheel_filename(name, version), zip_bytes(wheel_members(name, version)[:-1])
    )


def wheel_with_path_traversal(folder: Path, name: str = NAME, version: str = VERSION) -> Path:
    """A member that would land outside the folder it is unpacked into."""
    files = {**module_of(name, version), "../../outside.py": b"outside = 1\n"}
    return make_wheel(folder, name, version, files)


def wheel_with_absolute_path(folder: Path, name: str = NAME, version: str = VERSION) -> Path:
    """A member with an absolute path."""
    return make_wheel(
        folder, name, version, {**module_of(name, version), "/outside.py": b"outside = 1\n"}
    )


def wheel_with_symlink(folder: Path, name: str = NAME, version: str = VERSION) -> Path:
    """A member that is a symbolic link by its Unix mode. RECORD is right about its body, the target."""
    link = f"{escaped(name)}/link"
    members = wheel_members(name, version, {**module_of(name, version), link: b"../../outside"})
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for path, body in members:
            info = _zip_info(path)
            if path == link:
                info.external_attr = 0o120777 << 16
            archive.writestr(info, body, compresslevel=6)
    return _write(folder, wheel_filename(name, version), buffer.getvalue())


def wheel_with_foreign_name(folder: Path, name: str = NAME, version: str = VERSION) -> Path:
    """METADATA names another project than the file name does."""
    members = wheel_members(name, version, metadata=metadata_of("somebody-else", version))
    return _write(folder, wheel_filename(name, version), zip_bytes(members))


def wheel_with_foreign_version(folder: Path, name: str = NAME, version: str = VERSION) -> Path:
    """METADATA names another version than the file name does."""
    members = wheel_members(name, version, metadata=metadata_of(name, version + "9"))
    return _write(folder, wheel_filename(name, version), zip_bytes(members))


def wheel_with_contradicting_local_header(
    folder: Path, name: str = NAME, version: str = VERSION
) -> Path:
    """The local header of the first member gives it another name than the central directory does."""
    body = zip_bytes(wheel_members(name, version))
    path = f"{escaped(name)}/__init__.py".encode()
    other = (
        path[:-3] + b".sh"
    )  # the first place is the local header, since the directory comes last
    return _write(folder, wheel_filename(name, version), body.replace(path, other, 1))


def wheel_bomb(folder: Path, name: str = NAME, version: str = VERSION, members: int = 8) -> Path:
    """`members` times 24 MiB of zeros; a few hundred kilobytes packed. RECORD is right."""
    zeros = bytes(BOMB_MEMBER_BYTES)
    files = {
        **module_of(name, version),
        **{f"{escaped(name)}/zeros{n}.bin": zeros for n in range(members)},
    }
    return make_wheel(folder, name, version, files)


def wheel_truncated(folder: Path, name: str = NAME, version: str = VERSION) -> Path:
    """A wheel whose end, with the central directory, is missing."""
    body = zip_bytes(wheel_members(name, version))
    return _write(folder, wheel_filename(name, version), body[: len(body) // 2])


# --- sdists that are wrong in exactly one way ---------------------------------------------------------------------


def sdist_with_path_traversal(folder: Path, name: str = NAME, version: str = VERSION) -> Path:
    """A member that would land outside the folder it is unpacked into."""
    members = [
        *sdist_members(name, version),
        (f"{escaped(name)}-{version}/../../outside.py", b"x = 1\n"),
    ]
    return _write(folder, sdist_filename(name, version), targz_bytes(members))


def sdist_with_duplicate_member(folder: Path, name: str = NAME, version: str = VERSION) -> Path:
    """Two members of one name; the later one wins when unpacked."""
    members = sdist_members(name, version)
    path = f"{escaped(name)}-{version}/{escaped(name)}/__init__.py"
    return _write(
        folder, sdist_filename(name, version), targz_bytes([*members, (path, b"second = 1\n")])
    )


def sdist_with_symlink(folder: Path, name: str = NAME, version: str = VERSION) -> Path:
    """A symbolic link that points out of the archive."""
    return _sdist_with_special(folder, name, version, tarfile.SYMTYPE, "../../outside")


def sdist_with_hard_link(folder: Path, name: str = NAME, version: str = VERSION) -> Path:
    """A hard link to a path outside the archive."""
    return _sdist_with_special(folder, name, version, tarfile.LNKTYPE, "../../outside")


def sdist_with_device(folder: Path, name: str = NAME, version: str = VERSION) -> Path:
    """A character device."""
    return _sdist_with_special(folder, name, version, tarfile.CHRTYPE, "")


def sdist_with_second_top_folder(folder: Path, name: str = NAME, version: str = VERSION) -> Path:
    """A member beside the one folder that PEP 625 allows."""
    members = [*sdist_members(name, version), ("elsewhere/setup.py", b"x = 1\n")]
    return _write(folder, sdist_filename(name, version), targz_bytes(members))


def sdist_with_foreign_name(folder: Path, name: str = NAME, version: str = VERSION) -> Path:
    """PKG-INFO names another project than the file name does."""
    return _sdist_with_metadata(folder, name, version, metadata_of("somebody-else", version))


def sdist_with_foreign_version(folder: Path, name: str = NAME, version: str = VERSION) -> Path:
    """PKG-INFO names another version than the file name does."""
    return _sdist_with_metadata(folder, name, version, metadata_of(name, version + "9"))


def sdist_with_trailing_bytes(folder: Path, name: str = NAME, version: str = VERSION) -> Path:
    """Bytes after the end of the gzip stream."""
    body = targz_bytes(sdist_members(name, version))
    return _write(folder, sdist_filename(name, version), body + b"trailing bytes\n")


def sdist_bomb(folder: Path, name: str = NAME, version: str = VERSION, members: int = 8) -> Path:
    """`members` times 24 MiB of zeros; a few hundred kilobytes packed."""
    zeros = bytes(BOMB_MEMBER_BYTES)
    files = {**module_of(name, version), **{f"zeros{n}.bin": zeros for n in range(members)}}
    return make_sdist(folder, name, version, files)


def sdist_truncated(folder: Path, name: str = NAME, version: str = VERSION) -> Path:
    """A gzip stream that ends in the middle."""
    body = targz_bytes(sdist_members(name, version))
    return _write(folder, sdist_filename(name, version), body[: len(body) // 2])


Builder = Callable[[Path], Path]

MALFORMED: dict[str, Builder] = {
    builder.__name__: builder
    for builder in (
        wheel_with_duplicate_member,
        wheel_with_prefix_bytes,
        wheel_with_trailing_bytes,
        wheel_with_two_archives,
        wheel_with_wrong_record_hash,
        wheel_with_unrecorded_member,
        wheel_with_missing_member,
        wheel_without_record,
        wheel_with_path_traversal,
        wheel_with_absolute_path,
        wheel_with_symlink,
        wheel_with_foreign_name,
        wheel_with_foreign_version,
        wheel_with_contradicting_local_header,
        wheel_bomb,
        wheel_truncated,
        sdist_with_path_traversal,
        sdist_with_duplicate_member,
        sdist_with_symlink,
        sdist_with_hard_link,
        sdist_with_device,
        sdist_with_second_top_folder,
        sdist_with_foreign_name,
        sdist_with_foreign_version,
        sdist_with_trailing_bytes,
        sdist_bomb,
        sdist_truncated,
    )
}
"""Everything that must not pass, by name: each is a right archive with one thing wrong."""


def _sdist_with_special(folder: Path, name: str, version: str, kind: bytes, target: str) -> Path:
    info = _tar_info(f"{escaped(name)}-{version}/special", 0)
    info.type = kind
    info.linkname = target
    members = [*sdist_members(name, version), info]
    return _write(folder, sdist_filename(name, version), targz_bytes(members))


def _sdist_with_metadata(folder: Path, name: str, version: str, metadata: bytes) -> Path:
    members = sdist_members(name, version)[:-1]  # PKG-INFO is the last one
    members.append((f"{escaped(name)}-{version}/PKG-INFO", metadata))
    return _write(folder, sdist_filename(name, version), targz_bytes(members))


def _zip_info(path: str) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(path, FIXED_DATE)
    info.external_attr = 0o100644 << 16
    info.create_system = 3
    info.compress_type = zipfile.ZIP_DEFLATED
    return info


def _tar_info(path: str, size: int) -> tarfile.TarInfo:
    info = tarfile.TarInfo(path)
    info.size = size
    info.mode = 0o644
    info.mtime = FIXED_EPOCH_S
    return info


def _bytes(body: bytes | str) -> bytes:
    return body.encode() if isinstance(body, str) else body


def _write(folder: Path, filename: str, body: bytes) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / filename
    path.write_bytes(body)
    return path
