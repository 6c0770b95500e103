"""The rules: each module looks for one kind of fact and yields findings. `of_comparison` and `of_set` run them all."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from presspass.core.findings import Finding
from presspass.inspector.artifact import Artifact
from presspass.inspector.compare import Comparison
from presspass.inspector.rules import (
    consistency,
    difference,
    entry_points,
    identity,
    native,
    requires,
    startup,
    toplevel,
)

_RULES = (
    identity.names_itself_as_its_file,
    difference.is_fully_shown,
    startup.new_startup_file,
    toplevel.new_import_name,
    native.new_machine_code,
    entry_points.changed_entry_points,
    requires.changed_requirements,
)


def of_comparison(comparison: Comparison) -> Iterator[Finding]:
    """What one file of the set shows, by itself and beside its counterpart."""
    for rule in _RULES:
        for one in rule(comparison):
            yield replace(one, artifact=comparison.new.file.name)


def of_set(candidate: Sequence[Artifact], baseline: Sequence[Artifact]) -> Iterator[Finding]:
    """What shows only when the files of the set are seen together."""
    yield from consistency.files_agree(candidate)
    yield from consistency.kinds_left_out(candidate, baseline)
