"""Replayed incidents in which somebody has got hold of an identity: S03, S05, S06, S13, S14, against the real gate.

Gate, press, registry and git are real processes; issuer, forge and runner are the world's. Each scenario says what must
happen and within what time; nothing of any of them may reach the registry or put a request before people.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2
import pytest
import sqlalchemy as sa

import peers
from ci_rig import CiRig
from ledger_reading import until_entered
from presspass.core.digests import sha256_hex
from presspass.drill.peers import PypiServer, run_twine, wait_until
from presspass.drill.world.runner import GithubJob
from presspass.store import gateway_tables as g
from presspass.store import journal_tables as t
from workload_world import CHANGED, WORKFLOW

AT_ONCE_S = 2.0  # one answer of a gate on a busy machine
NOTICE_S = 60.0
AUDIENCE = "presspass:localhost"


@pytest.fixture(scope="module")
def ci(tmp_path_factory: pytest.TempPathFactory, ssh_keygen: Path) -> Iterator[CiRig]:
    peers.require_peer("pypi-server")
    folder = tmp_path_factory.mktemp("scenarios")
    with (
        PypiServer(folder / "registry", "__token__", "upstream-secret") as registry,
        CiRig(folder, registry) as ci,
    ):
        ci.start()
        yield ci
        assert not registry.files(), "nothing of any scenario may reach the registry"


def rows(ci: CiRig, database: str, query: sa.Select[Any]) -> list[sa.Row[Any]]:
    place = {"gateway": "gateway/gateway.db", "journal": "press/journal/journal.db"}[database]
    engine = sa.create_engine(f"sqlite:///file:{ci.rig.home / place}?mode=ro&uri=true")
    try:
        with engine.connect() as connection:
            return list(connection.execute(query).all())
    finally:
        engine.dispose()


def until_refused(ci: CiRig, *codes: str, door: str = "exchange", times: int = 1) -> None:
    """These refusals stand in the public log, each as an entry of somebody known at this door."""
    for code in codes:
        until_entered(ci.rig.ledger, "refused-at-gateway", times, door=door, code=code)


def until_told(ci: CiRig, words: str) -> None:
    """Ada is told at the address in the roster: a channel that is not the forge."""
    query = sa.select(t.NOTICE.c.address, t.NOTICE.c.subject, t.NOTICE.c.body)
    wait_until(
        lambda: any(
            row.address.startswith("mailto:ada@") and words in f"{row.subject} {row.body}"
            for row in rows(ci, "journal", query)
        ),
        f"somebody is told of {words}",
        NOTICE_S,
    )


def mint(ci: CiRig, token: str) -> httpx2.Response:
    return httpx2.post(f"{ci.rig.origin}/_/oidc/mint-token", json={"token": token}, trust_env=False)


def token(ci: CiRig, job: GithubJob, **claims: Any) -> str:
    return ci.issuer.mint({**job.claims(), "aud": AUDIENCE, **claims})


def requests(ci: CiRig) -> int:
    return len(
        rows(ci, "gateway", sa.select(g.REQUEST.c.digest).where(g.REQUEST.c.kind == "release"))
    )


def upload(ci: CiRig, secret: str, file: Path) -> str:
    answer = run_twine(f"{ci.rig.origin}/pypi/private/legacy/", "__token__", secret, [file])
    return "" if answer.exit_code == 0 else answer.text


def test_S03_a_stolen_identity_token_and_its_pass_are_worthless_and_its_run_is_stopped(
    ci: CiRig,
) -> None:
    job = ci.bind_job("s03", 3003)
    [wheel, sdist] = sorted(ci.files(project="s03"), key=lambda file: file.suffix != ".whl")
    stolen = token(ci, job)
    first = mint(ci, stolen)
    secret = first.json()["token"]
    assert upload(ci, secret, wheel) == ""

    began = time.monotonic()
    again = mint(ci, stolen)  # 1: presented again, from somewhere else
    assert (again.status_code, again.json()["code"]) == (422, "identity.replayed")
    assert "pass has ended" in upload(ci, secret, sdist)  # 4: the pass, after the run was stopped
    assert time.monotonic() - began < 2 * AT_ONCE_S + 5  # twine itself takes seconds to start
    over = token(ci, job, exp=1000, iat=900, nbf=900)  # 2: after its end
    assert mint(ci, over).json()["code"] == "identity.expired"
    npm = f"{ci.rig.origin}/-/npm/v1/oidc/token/exchange/package/other"
    other = token(ci, job, aud="npm:localhost")  # 3: for another package
    refused = httpx2.post(npm, headers={"Authorization": f"Bearer {other}"}, trust_env=False)
    assert (refused.status_code, refused.json()["code"]) == (403, "publisher.wrong-project")
    assert mint(ci, token(ci, job)).json()["code"] == "identity.revoked", "the run is frozen"

    w, about = g.WORKLOAD_TOKEN.c, sha256_hex(stolen.encode())
    [run] = rows(ci, "gateway", sa.select(w.run).where(w.hash == about))
    until_entered(ci.rig.ledger, "narrowing", what="run", target=run.run)  # the audit path names it
    until_entered(ci.rig.ledger, "exchange", token=about)
    until_entered(
        ci.rig.ledger,
        "refused-at-gateway",
        door="exchange",
        code="identity.replayed",
        about=about[:16],
    )
    until_refused(ci, "identity.expired", "publisher.wrong-project", "identity.revoked")
    until_refused(ci, "pass.ended", door="upload")


def test_S05_a_changed_workflow_on_a_side_branch_gets_nothing_and_its_publisher_is_limited(
    ci: CiRig,
) -> None:
    job = ci.bind_job("s05", 3005)
    evil = ci.repository.commit({WORKFLOW: CHANGED}, branch="side")
    side = replace(
        job, ref="refs/heads/side", ref_protected="false", sha=evil, workflow_sha=evil, actor="bot",
        event_name="workflow_dispatch",
    )  # fmt: skip
    before = requests(ci)
    began = time.monotonic()
    refused = ci.exchange(side)
    assert time.monotonic() - began < AT_ONCE_S
    assert refused.status_code == 422 and refused.json()["code"].startswith("publisher.wrong-")
    until_refused(ci, refused.json()["code"])
    pushed = replace(side, event_name="push", run_id="31")
    assert ci.exchange(pushed).json()["code"] == "publisher.wrong-ref"
    until_told(ci, "s05")
    until_refused(ci, "publisher.wrong-ref")
    limited = sa.select(t.NARROWING.c.what, t.NARROWING.c.target)
    wait_until(
        lambda: ("limited", "s05") in {tuple(row) for row in rows(ci, "journal", limited)},
        "the publisher is limited",
        NOTICE_S,
    )
    until_entered(ci.rig.ledger, "narrowing", what="limited", target="s05")
    assert requests(ci) == before
    honest = ci.exchange(replace(job, run_id="32"))
    assert honest.status_code == 200, "other allowed refs stay open"


def test_S05_an_orphan_commit_outside_every_branch_gets_nothing(ci: CiRig) -> None:
    job = ci.bind_job("orphaned", 3015)
    orphan = replace(job, ref="refs/heads/gone", sha="c" * 40, workflow_sha="c" * 40, run_id="33")
    assert ci.exchange(orphan).json()["code"] == "publisher.wrong-ref"
    on_tag = replace(job, sha="c" * 40, workflow_sha="c" * 40, run_id="34")
    code = ci.exchange(on_tag).json()["code"]
    assert code.startswith("identity.workflow-"), "nobody can show what stands in its workflow"
    until_refused(ci, code, "publisher.wrong-ref")


def test_S06_a_release_that_somebody_has_injected_is_refused_by_how_it_was_started(
    ci: CiRig,
) -> None:
    job = ci.bind_job("s06", 3006)
    before = requests(ci)
    by_comment = replace(job, event_name="issue_comment", actor="github-actions[bot]", run_id="41")
    by_dispatch = replace(job, event_name="workflow_dispatch", run_id="42")
    tag_like = replace(job, ref="refs/tags/v0.23.3/qzxvkw", run_id="43")
    began = time.monotonic()
    codes = [ci.exchange(one).json()["code"] for one in (by_comment, by_dispatch, tag_like)]
    assert time.monotonic() - began < 3 * AT_ONCE_S
    assert codes == ["publisher.wrong-event", "publisher.wrong-event", "publisher.wrong-ref"]
    until_refused(ci, *codes)
    assert requests(ci) == before


def test_S06_where_dispatch_is_bound_it_waits_for_people_and_for_one_more_of_them(
    ci: CiRig,
) -> None:
    """A bot started it: nobody knows the person behind it, so one approver more is needed, and it is told."""
    ids = ["repository_id=3016", "repository_owner_id=501"]
    ci.bind("dispatched", id=ids, project="dispatched", event=["push", "workflow_dispatch"])
    job = replace(
        ci.job, repository_id="3016", run_id="44", event_name="workflow_dispatch", actor_id="41898282",
        ref="refs/tags/v1.0",
    )  # fmt: skip
    with ci.runner(job) as runner:
        files = ci.files(project="dispatched")
        staged = ci.rig.ask("submit", *files, "--url", ci.rig.origin, **runner.environment())
    shown: dict[str, Any] = {}

    def verified() -> bool:
        shown.update(ci.rig.ask("status", staged["url"]))
        asked = shown.get("asked_by") or {"press": {"state": ""}}
        return bool(shown["state"] == "awaiting" and asked["press"]["state"] == "verified")

    wait_until(verified, "the press has looked at who asked", 30)
    assert shown["tally"]["needed"] == 2 and not shown["requester"]
    assert not ci.registry.files()
    ci.rig.run(
        "veto", staged["url"], *ci.rig.key("ada"), "--yes", "--reason", "nobody asked for it"
    )
    [statement] = rows(
        ci, "gateway", sa.select(g.RELEASE.c.statement).where(g.RELEASE.c.project == "dispatched")
    )
    until_entered(ci.rig.ledger, "narrowing", what="veto", target=statement.statement)
    until_entered(ci.rig.ledger, "refused", code="narrowing.vetoed", statement=statement.statement)


def test_S13_a_bot_asks_within_its_grant_alone_and_is_stopped_after_three_refusals(
    ci: CiRig,
) -> None:
    ids = ["repository_id=3013", "repository_owner_id=501"]
    ci.bind("s13", id=ids, project=["s13", "s13-other"], bot=True)
    bot = replace(ci.job, repository_id="3013", run_id="51")
    before = requests(ci)
    triage = ci.exchange(bot)
    assert triage.json()["code"] == "delegation.none"
    granted = ci.rig.ask(
        "delegation", "add", "s13-patches", "--publisher", "s13", "--person", "Ada", "--project", "s13",
        "--kind", "patch", "--count", "1", "--for", "10m",
    )  # fmt: skip
    ci.rig.approve(granted["url"], "ada", "grace")
    ci.rig.run("wait", granted["url"], "--timeout", "30s")
    other = ask_for(ci, bot, "publish:private:s13-other")
    assert other.json()["code"] == "delegation.wrong-project"
    handed_on = ask_for(ci, bot, "publish:private:s13", act={"sub": "another bot"})
    assert handed_on.json()["code"] == "delegation.no-sub-delegation"
    frozen = ask_for(ci, bot, "publish:private:s13")
    assert frozen.json()["code"] == "identity.revoked", "three refusals end it"
    assert requests(ci) == before, "no prompt is made by an identity without a grant"
    until_refused(ci, "delegation.none", "delegation.wrong-project", "delegation.no-sub-delegation")
    until_refused(ci, "identity.revoked")
    until_entered(ci.rig.ledger, "narrowing", what="publisher", target="s13")
    until_told(ci, "s13")


def test_S14_a_worm_in_a_pull_requests_run_publishes_no_package_of_many(ci: CiRig) -> None:
    packages = [f"worm-{number}" for number in range(22)]
    ids = ["repository_id=3014", "repository_owner_id=501"]
    ci.bind("s14", id=ids, project=packages)
    job = replace(
        ci.job, repository_id="3014", event_name="pull_request", ref="refs/pull/1/merge",
        ref_protected="false", workflow="test.yml",
    )  # fmt: skip
    before = requests(ci)
    began, codes = time.monotonic(), set()
    for number, package in enumerate(packages):
        for scope in (f"publish:private:{package}",):
            codes.add(ask_for(ci, replace(job, run_id=str(6000 + number)), scope).json()["code"])
    assert time.monotonic() - began < len(packages) * AT_ONCE_S
    assert codes == {"publisher.wrong-event"}
    assert requests(ci) == before
    until_refused(ci, "publisher.wrong-event", times=len(packages))


def ask_for(ci: CiRig, job: GithubJob, scope: str, **claims: Any) -> httpx2.Response:
    """RFC 8693, as a tool of one's own asks."""
    form = {
        "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
        "subject_token": token(ci, job, **claims),
        "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
        "scope": scope,
    }
    return httpx2.post(f"{ci.rig.origin}/token", data=form, trust_env=False)
