"""Whoever sends files shows a pass (of a workload) or an upload token (of the operator); here both become a `Right`."""

from __future__ import annotations

from collections.abc import Collection

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from presspass.core.delegation import check_use
from presspass.core.errors import Code, Refusal
from presspass.core.lifecycle import State
from presspass.gateway import passes, tokens
from presspass.gateway.tokens import Right
from presspass.store.database import Prepared
from presspass.store.gateway_tables import PASS, RELEASE, UPLOAD_TOKEN, WORKLOAD_TOKEN
from presspass.verify.chain import Chain

_KNOWN = tuple(
    Prepared(sa.select(table.c.hash).where(table.c.hash == sa.bindparam("hash")))
    for table in (PASS, UPLOAD_TOKEN)
)


def check_right(connection: Connection, secret: str, now_ms: int) -> Right:
    """The right that comes with a secret. Refuses with a `token.` or `pass.` code."""
    if secret.startswith(passes.PREFIX):
        if not tokens.is_checked(secret, passes.PREFIX):
            raise Refusal(
                Code.PASS_INVALID, "This is no pass: it is cut or mistyped.", "Copy it whole."
            )
        return passes.right_by_hash(connection, tokens.secret_hash(secret), now_ms)
    return tokens.check_right(connection, secret, now_ms)


def is_known(connection: Connection, secret_hash: str) -> bool:
    """Whether this is, or was, the hash of a right."""
    return any(known.rows(connection, hash=secret_hash) for known in _KNOWN)


def again(connection: Connection, right: Right, now_ms: int) -> Right:
    """The same right as it stands now, in the writer's transaction: it may have ended meanwhile."""
    ask = passes.right_by_hash if right.workload else tokens.right_by_hash
    return ask(connection, right.hash, now_ms)


def require_upstream(right: Right, upstream: str) -> None:
    """Refuses when the right is for another upstream."""
    if right.upstream != upstream:
        raise Refusal(
            Code.PASS_WRONG_PROJECT if right.workload else Code.TOKEN_WRONG_PROJECT,
            f"This {right.word} is for {right.project or 'packages'} at {right.upstream}, not at {upstream}.",
            "Check the repository URL, or ask for the right of this upstream.",
        )


def require_project(right: Right, project: str, version: str, allowed: tuple[str, ...]) -> None:
    """Refuses when the right is for another project or version. `allowed`: the publisher's projects, for a pass that
    is not bound to one of them yet.
    """
    if right.project not in ("", project) or (not right.project and project not in allowed):
        only = right.project or ", ".join(allowed[:5]) or "no project"
        raise Refusal(
            Code.PASS_WRONG_PROJECT if right.workload else Code.TOKEN_WRONG_PROJECT,
            f"This {right.word} is for {only}, and the file is of {project}.",
            f"Check the {right.word}, or ask for one of this project.",
        )
    if right.version not in ("", version):
        raise Refusal(
            Code.PASS_WRONG_VERSION,
            f"This pass is for {project} {right.version}, and the file is of {version}.",
            "A pass is for one version. Release another one by a run of its own.",
        )


def require_delegation(
    connection: Connection, right: Right, chain: Chain, version: str, published: Collection[str]
) -> None:
    """Refuses with a `delegation.` code what a bot may not ask for, when it opens a set. `right.project` is known."""
    publisher = chain.publishers.get(right.publisher)
    if right.release or publisher is None or not publisher[1].delegated_only:
        return
    w = WORKLOAD_TOKEN.c
    digest = connection.execute(sa.select(w.delegation).where(w.hash == right.workload)).scalar()
    found = next((one for known, one in chain.delegations.values() if known == digest), None)
    if found is None:
        raise Refusal(
            Code.DELEGATION_NONE,
            f"The delegation under which {right.publisher} asked is not in force any more.",
            "Ask for a delegation (an approved `delegation` statement).",
        )
    opened = (
        sa.select(sa.func.count())
        .select_from(RELEASE.join(WORKLOAD_TOKEN, RELEASE.c.workload == w.hash))
        .where(w.delegation == digest, RELEASE.c.state != State.WITHDRAWN.value)
    )
    used = int(connection.execute(opened).scalar_one())
    check_use(found, right.project, version, published, used)


def require_file(right: Right, filename: str, sha256: str) -> None:
    """Refuses a file that the workload has not bound, where it has bound any."""
    if right.files is not None and right.files.get(filename) != sha256:
        raise Refusal(
            Code.PASS_OTHER_FILE,
            f"{filename} is not one of the files that the workload has bound this pass to.",
            "Nothing was changed. If the build is right, submit it again by a run of its own.",
        )
