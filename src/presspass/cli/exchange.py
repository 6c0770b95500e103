"""From the job's identity to a pass: the client's side of RFC 8693, the files bound to the token where that can be.

The audience is made here of the address that the caller typed, never taken from the gate: a gate that is not the
caller's cannot have a token made for somebody else.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

from presspass.cli.ci_identity import CiIdentity
from presspass.cli.client import Gate
from presspass.cli.workflow_path import read_workflow_path
from presspass.core.audience import audience
from presspass.core.digests import JsonObject, sha256_hex
from presspass.core.errors import Code, PresspassError, Refusal
from presspass.core.statement import ReleaseFile, set_bytes
from presspass.core.workload import Workload
from presspass.formats.ci_claims import read_workload
from presspass.formats.jwt import parse_jwt

_EXCHANGE: Final = "urn:ietf:params:oauth:grant-type:token-exchange"
_JWT: Final = "urn:ietf:params:oauth:token-type:jwt"
_SHOW: Final = frozenset({Code.WORKFLOW_MISSING, Code.WORKFLOW_UNAVAILABLE})
#: By which claim a token's provider is known, where it names a workflow at all.
_TELLING: Final = {"job_workflow_ref": "github", "ci_config_sha": "gitlab"}


@dataclass(frozen=True, slots=True)
class Exchanged:
    """A pass and what it is for. `path`: of the upload door; `stage_only`: people look at the workflow too."""

    secret: str
    path: str
    stage_only: bool
    bound: bool


def exchange(
    gate: Gate, identity: CiIdentity, upstream: str, project: str, files: Sequence[ReleaseFile]
) -> Exchanged:
    """A pass for these files. `upstream`: "" lets the gate choose among the bindings of this workload."""
    wanted = audience(gate.base)
    details = {"type": "package_release", "files": [one.to_json() for one in files]}
    form = {
        "grant_type": _EXCHANGE,
        "subject_token_type": _JWT,
        "scope": f"publish:{upstream}:{project}",
    }
    if identity.chooses:
        wanted += f":sha256:{sha256_hex(set_bytes(tuple(files)))}"
        form["authorization_details"] = json.dumps([details])
    token = identity.ask(wanted)
    form["subject_token"] = token
    answer = _post(gate, identity, form, token)
    return Exchanged(
        secret=str(answer["access_token"]),
        path=f"/pypi/{quote(str(answer['upstream']), safe='')}/legacy/",
        stage_only=answer["stage_only"] is True,
        bound=identity.chooses,
    )


def end(gate: Gate, secret: str) -> None:
    """Ends a pass that is needed no more (RFC 7009). It would end by itself in minutes, so failing is no failure."""
    with contextlib.suppress(PresspassError):
        gate.post_form("/revoke", {"token": secret})


def _post(gate: Gate, identity: CiIdentity, form: dict[str, str], token: str) -> JsonObject:
    """Asks; where the gate does not have the workflow, shows it and asks once more: the token is not used up yet."""
    try:
        return gate.post_form("/token", form)
    except Refusal as refusal:
        if refusal.code not in _SHOW:
            raise
        workload = workload_of(token)
        if workload is None:
            raise
    show_workflow(gate, identity, token, workload)
    return gate.post_form("/token", form)


def show_workflow(gate: Gate, identity: CiIdentity, token: str, workload: Workload) -> None:
    """Shows the gate what stands in the workflow that runs, from the job's checkout. The token is not used up."""
    shown = read_workflow_path(identity.checkout, workload.workflow_commit, workload.workflow_path)
    with Gate(gate.base, token=token) as speaking:
        speaking.post_json("/_/oidc/workflow", shown.to_bytes())


def workload_of(token: str) -> Workload | None:
    """What one's own token says of the workflow; None where its provider names none."""
    claims = parse_jwt(token).claims
    provider = next((one for claim, one in _TELLING.items() if claim in claims), None)
    return None if provider is None else read_workload(provider, claims)
