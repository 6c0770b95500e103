"""The files of one set belong to one release: they must tell the same story."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from packaging.version import InvalidVersion, Version

from presspass.core.findings import Finding, Severity, finding
from presspass.formats.distribution import same_version
from presspass.inspector.artifact import Artifact

_DYNAMIC_SINCE = Version("2.2")  # before it, an sdist's PKG-INFO was allowed to leave fields out


def files_agree(candidate: Sequence[Artifact]) -> Iterator[Finding]:
    """Each wheel's name, version and requirements against the set's sdist."""
    sdist = next((one for one in candidate if one.kind == "sdist"), None)
    if sdist is None:
        return
    said = sdist.distribution.metadata
    for wheel in (one for one in candidate if one.kind == "wheel"):
        built = wheel.distribution.metadata
        if built.project != said.project or not same_version(built.version, said.version):
            yield _differs("identity", Severity.CRITICAL, wheel, f"{built.project} {built.version}")
        for field in ("requires_dist", "requires_python"):
            dashed = field.replace("_", "-")
            binding = _is_binding(said.metadata_version) and dashed not in said.dynamic
            if binding and getattr(built, field) != getattr(said, field):
                yield _differs(dashed, Severity.MEDIUM, wheel, str(getattr(built, field)))


def kinds_left_out(
    candidate: Sequence[Artifact], baseline: Sequence[Artifact]
) -> Iterator[Finding]:
    """An sdist, or all wheels, that the last release had and this one has not."""
    for kind in sorted({one.kind for one in baseline} - {one.kind for one in candidate}):
        message = f"The last release had a file of the kind {kind}; this set has none."
        yield finding("release.kind-left-out", Severity.LOW, "", message)


def _is_binding(metadata_version: str) -> bool:
    try:
        return Version(metadata_version) >= _DYNAMIC_SINCE
    except InvalidVersion:
        return False


def _differs(what: str, severity: Severity, wheel: Artifact, evidence: str) -> Finding:
    message = f"The wheel and the sdist of this set differ in {what}."
    return finding(f"consistency.{what}", severity, wheel.file.name, message, evidence)
