"""What registries list of a project, against what the ledger says was published."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from presspass.formats.simple_index import Listed
from presspass.verify.ledger import Finding


def compare(
    published: Mapping[str, Sequence[str]], listed: Iterable[Listed], began_at: int
) -> tuple[list[Finding], list[str]]:
    """Findings and remarks about one registry's page. `published`: name to SHA-256s, of the whole ledger; `began_at`:
    Unix seconds of genesis, for what the registry says is older.
    """
    findings, notes = [], []
    for file in listed:
        known = published.get(file.filename)
        if known is None and file.uploaded_at is not None and file.uploaded_at < began_at:
            notes.append(f"{file.filename} is older than the ledger, by the registry's word")
        elif known is None:
            text = f"{file.filename} is there, and nothing in the ledger explains it."
            findings.append(Finding("registry.unexplained", text))
        elif not file.sha256:
            notes.append(f"{file.filename} is listed without a SHA-256, so it was not compared")
        elif file.sha256 not in known:
            text = f"{file.filename} is there with the SHA-256 {file.sha256}, which was never published."
            findings.append(Finding("registry.other-bytes", text))
    return findings, notes


def missing(names: Iterable[str], listed: Iterable[Listed]) -> Iterator[str]:
    """Remarks on published files that no registry lists."""
    there = {file.filename for file in listed}
    for name in names:
        if name not in there:
            yield f"{name} was published, and no registry that was asked lists it (deleted, or elsewhere)"
