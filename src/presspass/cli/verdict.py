"""What `verify` says of a proof that holds. It loads little: most runs of `verify` end here (`cli.start`)."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

from presspass.cli.times import when
from presspass.core.limits import READ_CHUNK_BYTES
from presspass.core.text import safe
from presspass.verify.proof import Valid, verdict_json

if TYPE_CHECKING:
    from pathlib import Path

    from presspass.core.ledger.revocations import RevocationHead
    from presspass.verify.standing import Passed


def verdict(valid: Valid, head: RevocationHead | None = None, *, as_json: bool) -> str:
    """All of stdout, the last newline included; JSON in ASCII only, as every command writes it. `head`: that which the
    file was looked for in, and not found.
    """
    if as_json:
        return json.dumps(json.loads(verdict_json(valid, head)), indent=2, sort_keys=True) + "\n"
    return "".join(f"{line}\n" for line in lines(valid, head))


def lines(valid: Valid, head: RevocationHead | None) -> list[str]:
    """For people, one by one. What is not ours is made safe here."""
    said: list[str] = []
    say = said.append
    entry = valid.entry
    at = when(entry.verified_at)
    say(f"VALID  {safe(valid.file.name)}")
    say(f"  sha256       {valid.file.sha256}")
    say(
        f"  release      {safe(valid.release.project)} {safe(valid.release.version)} at {safe(valid.upstream)}, {at}"
    )
    say(f"  asked by     {_requester(valid)}")
    if valid.standing is None:
        say(f"  approved by  {', '.join(map(safe, valid.approved_by))}")
    else:
        said += _standing(valid.standing)
    for number in valid.planned:
        say(f"  plan         approved in a plan of {number} releases, each decided by itself")
    for key, kind in valid.keys:
        copied = ", synced: copied to other devices or a cloud" if key in valid.synced else ""
        say(f"               {kind} {key[:16]}…{copied}")
    if not valid.synced_accepted:
        say("               the policy refuses synced passkeys")
    if valid.profile == "solo":
        say("  profile      solo: one person with two keys. Nobody else has looked at it")
    say(f"  mode         {entry.mode}; zones {entry.zones}")
    say(
        f"  log          {safe(valid.checkpoint.origin)}, entry {valid.position} of {valid.checkpoint.size}"
    )
    scheme, signer = valid.attested_by
    say(f"  attested by  {scheme} key {signer[:16]}…")
    for name, time_s in valid.witnesses:
        say(f"  witness      {safe(name)}, who saw that log at {when(time_s)}")
    if not valid.witnesses:
        say("  witness      none was named: the log may have been shown to others differently")
    say(f"  installation {safe(valid.origin)} (genesis {valid.genesis[:16]}…)")
    if head is None:
        say("Valid as of this checkpoint; what was revoked later does not stand in it.")
    else:
        say(f"  revocations  not among them at {when(head.time_s)}, entry {head.size}")
        say("Valid; what was revoked after that time is not known here.")
    return said


def _standing(passed: Passed) -> list[str]:
    """Under what it passed, who signed that, and within which bounds; numbers, findings and version are the press's
    word.
    """
    body, by = passed.body, ", ".join(map(safe, passed.approved_by))
    return [
        f"  approved by  nobody for this release alone: it passed under the standing approval {safe(body.name)}",
        f"               signed by {by}, asked for on {when(passed.asked_at)}, until {when(body.not_after)}",
        f"  bounds       {', '.join(body.version_kinds)}; findings up to {body.worst_finding}; "
        f"{body.daily_per_project} a day of a package, {body.daily} in all",
        f"               publishers {', '.join(map(safe, body.publishers))}",
    ]


def _requester(valid: Valid) -> str:
    if not valid.release.requester:
        return "(not resolved to a person)"
    name = safe(valid.release.requester)
    if valid.entry.workload:
        return f"{name}, by a CI run whose identity the press has verified"
    return f"{name}, who signed that" if valid.requester_signed else f"{name} (the gateway's word)"


def hash_of(path: str | Path) -> tuple[str, int]:
    """SHA-256 (hex) and size in bytes of a file."""
    digest, size = hashlib.sha256(), 0
    with open(path, "rb") as file:
        while piece := file.read(READ_CHUNK_BYTES):
            digest.update(piece)
            size += len(piece)
    return digest.hexdigest(), size
