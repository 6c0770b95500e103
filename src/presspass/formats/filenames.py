"""File names of wheels and sdists, read strictly, without opening anything.

Wheel names: "Binary distribution format", section "File name convention" (PEP 427). Sdist names: PEP 625, which
leaves one form, `{name}-{version}.tar.gz`. Names and versions compare in their normal form (PEP 503, PEP 440).
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Literal

from packaging.utils import (
    InvalidSdistFilename,
    InvalidWheelFilename,
    is_normalized_name,
    parse_sdist_filename,
    parse_wheel_filename,
)

from presspass.core.errors import Code, Refusal
from presspass.core.limits import FILENAME_CHARS_MAX, WHEEL_TAGS_MAX

Kind = Literal["sdist", "wheel"]

# What the two specifications leave over: ASCII letters, digits, and the marks that versions and tags use.
_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+!-]*")


@dataclass(frozen=True, slots=True)
class ArtifactName:
    """A file name taken apart: `project` and `version` in normal form; `build` and `tags` are empty for an sdist."""

    filename: str
    kind: Kind
    project: str
    version: str
    build: str = ""
    tags: tuple[str, ...] = ()


def parse_filename(filename: str) -> ArtifactName:
    """Reads `filename`; raises Refusal `artifact.bad-filename` when it is not exactly a wheel's or an sdist's name."""
    if len(filename) > FILENAME_CHARS_MAX:
        raise _refusal(f"The file name is longer than {FILENAME_CHARS_MAX} characters.")
    if not _PLAIN.fullmatch(filename) or ".." in filename:
        raise _refusal("The file name has characters that no wheel or sdist has in its name.")
    try:
        name = _wheel(filename) if filename.endswith(".whl") else _sdist(filename)
    except (InvalidWheelFilename, InvalidSdistFilename) as error:
        raise _refusal(f"{error}.") from None
    if not is_normalized_name(name.project):
        raise _refusal(f"{filename!r} does not begin with the name of a project.")
    return name


def _wheel(filename: str) -> ArtifactName:
    tag_count = math.prod(part.count(".") + 1 for part in filename[:-4].split("-")[-3:])
    if tag_count > WHEEL_TAGS_MAX:
        raise _refusal(f"The file name stands for more than {WHEEL_TAGS_MAX} tags.")
    project, version, build, tags = parse_wheel_filename(filename)
    build_tag = "".join(str(part) for part in build)
    return ArtifactName(
        filename, "wheel", project, str(version), build_tag, tuple(sorted(map(str, tags)))
    )


def _sdist(filename: str) -> ArtifactName:
    if not filename.endswith(".tar.gz"):
        raise _refusal(f"{filename!r} is neither a wheel (.whl) nor an sdist (.tar.gz).")
    project, version = parse_sdist_filename(filename)
    return ArtifactName(filename, "sdist", project, str(version))


def _refusal(message: str) -> Refusal:
    hint = "Build the file again with a current build backend and do not rename it."
    return Refusal(Code.ARTIFACT_BAD_NAME, message, hint)
