"""The exchange: a workload proves what it is and gets a pass for one set; everything else is refused for its reason."""

from __future__ import annotations

import hashlib
import hmac
import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from gateway_world import PROJECT, HttpAnswer, until
from presspass.cli.workflow_path import read_workflow_path
from presspass.core.digests import sha256_hex
from presspass.core.roster import b64u
from presspass.core.statement import PolicyBody, ReleaseFile, set_bytes
from presspass.drill.packages import make_sdist
from presspass.drill.world.issuer import Issuer
from presspass.rules.document import RuleDocument
from presspass.store import gateway_tables as g
from presspass.store import journal_tables as j
from workload_world import AUDIENCE, CHANGED, WORKFLOW, WorkloadWorld, real_time


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WorkloadWorld]:
    """One gate for all the tests that are refused: nothing of theirs stays."""
    with WorkloadWorld(tmp_path_factory.mktemp("shared")) as world:
        yield world


@pytest.fixture
def world(tmp_path: Path) -> Iterator[WorkloadWorld]:
    with WorkloadWorld(tmp_path) as world:
        yield world


def test_a_bound_workload_gets_a_pass_and_uploads_with_it(world: WorkloadWorld) -> None:
    assert world.world.ask("GET", "/_/oidc/audience").json == {"audience": AUDIENCE}
    answer = world.mint(world.token())
    assert answer.status == 200, answer.body
    assert answer.json["success"] is True and answer.json["token"].startswith("ppp_")
    placed = world.upload(answer.json["token"], "greet-1.0.tar.gz")
    assert placed.status == 202, placed.body
    row = world.world.rows(sa.select(g.PASS))[0]
    assert (row.project, row.version, row.release) == (PROJECT, "1.0", placed.json["id"])


def segment(value: dict[str, Any]) -> str:
    return b64u(json.dumps(value).encode())


# --- tokens that prove nothing ----------------------------------------------------------------------------------------


def refused(answer: HttpAnswer, code: str, status: int = 422) -> HttpAnswer:
    assert (answer.status, answer.code) == (status, code), answer.body
    return answer


def test_a_forged_token_is_refused(shared: WorkloadWorld) -> None:
    with Issuer(seed=99, clock=real_time()) as thief:
        forged = thief.mint({**shared.job.claims(), "aud": AUDIENCE, "iss": shared.issuer.url})
        own_key = thief.mint(
            {**shared.job.claims(), "aud": AUDIENCE, "iss": shared.issuer.url},
            header={"kid": shared.issuer.kid},
        )
    refused(shared.mint(forged), "identity.key-unknown")
    refused(shared.mint(own_key), "identity.invalid")


@pytest.mark.parametrize(
    ("claims", "code"),
    [
        ({"exp": 1_000_000_000, "iat": 999_999_900, "nbf": 999_999_900}, "identity.expired"),
        ({"nbf_in": 3600}, "identity.not-yet-valid"),
        ({"audience": "presspass:elsewhere.example"}, "identity.wrong-audience"),
        ({"aud": [AUDIENCE, "other"]}, "identity.wrong-audience"),
        ({"aud": None}, "identity.wrong-audience"),
        ({"exp": None}, "identity.claim-missing"),
        ({"iat": "yesterday"}, "identity.claim-missing"),
        ({"lifetime_s": 86_400}, "identity.lives-too-long"),
        ({"repository_id": None}, "identity.claim-missing"),
        ({"workflow_sha": None}, "identity.claim-missing"),
        ({"header": {"alg": "none"}}, "identity.algorithm"),
        ({"header": {"alg": "HS256"}}, "identity.algorithm"),
        ({"header": {"alg": "RS512"}}, "identity.algorithm"),
        ({"header": {"jku": "https://keys.example/"}}, "identity.algorithm"),
        ({"header": {"x5u": "https://keys.example/"}}, "identity.algorithm"),
        ({"header": {"jwk": {"kty": "RSA"}}}, "identity.algorithm"),
        ({"header": {"kid": "made-up"}}, "identity.key-unknown"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_token_that_proves_nothing_is_refused_for_its_reason(
    shared: WorkloadWorld, claims: dict[str, Any], code: str
) -> None:
    begins_in = claims.pop("nbf_in", None)
    if begins_in:
        now = int(time.time())
        claims |= {"nbf": now + begins_in, "iat": now + begins_in, "exp": now + begins_in + 300}
    refused(shared.mint(shared.token(**claims)), code)
    assert shared.world.count(g.PASS) == 0


def test_hs256_with_the_public_key_as_its_secret_is_refused(shared: WorkloadWorld) -> None:
    body = {**shared.job.claims(), "iss": shared.issuer.url, "aud": AUDIENCE}
    head = segment({"alg": "HS256", "kid": shared.issuer.kid}) + "." + segment(body)
    public = json.dumps(shared.issuer.jwks()["keys"][0]).encode()
    signature = hmac.new(public, head.encode(), hashlib.sha256).digest()
    refused(shared.mint(f"{head}.{b64u(signature)}"), "identity.algorithm")
    refused(shared.mint(f"{head}."), "identity.algorithm")


@pytest.mark.parametrize("text", ["", "a.b", "a.b.c", "é.é.é", "x" * 20_000, "..", "e30.e30.e30"])
def test_what_is_no_token_is_refused(shared: WorkloadWorld, text: str) -> None:
    answer = shared.mint(text)
    assert answer.status == 422 and answer.code.startswith("identity."), answer.body


def test_a_stranger_hears_nothing(shared: WorkloadWorld) -> None:
    with Issuer(seed=5, clock=real_time()) as other:
        unknown_issuer = other.mint({**shared.job.claims(), "aud": AUDIENCE})
    unknown_repository = shared.token(
        repository="evil/thing", repository_id="66", repository_owner_id="6"
    )
    for token in (unknown_issuer, unknown_repository):
        for answer in (shared.mint(token), shared.npm(token, PROJECT), shared.oauth(token)):
            assert answer.status == 404, answer.body
            assert "acme" not in answer.body.decode() and PROJECT not in answer.body.decode()


def test_unknown_key_ids_do_not_make_the_gate_ask_its_issuer_again_and_again(
    world: WorkloadWorld,
) -> None:
    world.pass_()
    before = len(world.issuer_requests)
    with ThreadPoolExecutor(8) as pool:
        tokens = [world.token(header={"kid": f"flood-{n}"}) for n in range(64)]
        codes = {answer.code for answer in pool.map(world.mint, tokens)}
    assert codes == {"identity.key-unknown"}
    assert len(world.issuer_requests) - before <= 2


def test_a_new_key_of_the_issuer_is_found(tmp_path: Path) -> None:
    with WorkloadWorld(tmp_path) as world:
        world.issuer.rotate()  # before the gate has asked for the first time
        world.pass_()


# --- runs that do not fit ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("claims", "code"),
    [
        ({"repository_id": "2002"}, "publisher.other-repository"),
        ({"repository_owner_id": "502"}, "publisher.other-repository"),
        ({"event_name": "pull_request_target"}, "publisher.wrong-event"),
        ({"event_name": "pull_request"}, "publisher.wrong-event"),
        ({"event_name": "workflow_run"}, "publisher.wrong-event"),
        ({"event_name": "schedule"}, "publisher.wrong-event"),
        ({"ref": "refs/heads/side"}, "publisher.wrong-ref"),
        ({"ref": "refs/tags/v1/evil"}, "publisher.wrong-ref"),
        ({"ref_protected": "false"}, "publisher.ref-unprotected"),
        ({"environment": None}, "publisher.wrong-environment"),
        ({"environment": "staging"}, "publisher.wrong-environment"),
        ({"runner_environment": "self-hosted"}, "publisher.self-hosted-runner"),
        (
            {"job_workflow_ref": "other/repo/.github/workflows/shared.yml@refs/heads/main"},
            "publisher.reusable-workflow",
        ),
        (
            {"workflow_ref": "acme/greet/.github/workflows/test.yml@refs/heads/main",
             "job_workflow_ref": "acme/greet/.github/workflows/test.yml@refs/heads/main"},
            "publisher.wrong-workflow",
        ),
        (
            {"workflow_ref": "evil/greet/.github/workflows/release.yml@refs/heads/main",
             "job_workflow_ref": "evil/greet/.github/workflows/release.yml@refs/heads/main"},
            "publisher.wrong-workflow",
        ),
    ],
    ids=lambda value: str(value)[:60],
)  # fmt: skip
def test_a_run_that_does_not_fit_is_told_which_step_and_what_to_do(
    shared: WorkloadWorld, claims: dict[str, Any], code: str
) -> None:
    answer = refused(shared.mint(shared.token(**claims)), code)
    assert answer.json["errors"][0]["description"].count(".") >= 2, "a sentence and what to do next"
    assert shared.world.count(g.PASS) == 0


def test_a_missing_repository_of_the_same_name_is_not_taken_for_the_bound_one(
    shared: WorkloadWorld,
) -> None:
    again = replace(shared.job, repository_id="3003", repository_owner_id="503")
    answer = refused(shared.mint(shared.token(job=again)), "publisher.other-repository")
    assert "made again" in answer.json["errors"][0]["description"]


def test_another_package_than_the_bound_ones_is_refused_at_every_door(world: WorkloadWorld) -> None:
    refused(world.npm(world.token("npm:localhost"), "other"), "publisher.wrong-project", 403)
    answer = world.oauth(world.token(), scope="publish:private:other")
    refused(answer, "publisher.wrong-project", 400)
    assert answer.json["error"] == "invalid_target"
    refused(world.upload(world.pass_(), "other-1.0.tar.gz"), "pass.wrong-project", 403)


# --- each token once --------------------------------------------------------------------------------------------------


def test_a_token_from_two_connections_at_once_makes_one_pass_and_ends_its_run(
    world: WorkloadWorld,
) -> None:
    token = world.token()
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(world.mint, [token] * 8))
    assert sorted(answer.status for answer in answers) == [200] + [422] * 7
    assert {one.code for one in answers if one.status == 422} <= {
        "identity.replayed",
        "identity.revoked",
    }
    [secret] = [one.json["token"] for one in answers if one.status == 200]
    refused(world.upload(secret), "pass.ended", 403)
    refused(world.mint(world.token()), "identity.revoked")
    other_run = replace(world.job, run_id="9002")
    assert world.mint(world.token(job=other_run)).status == 200


def test_a_token_without_jti_is_good_once_too(world: WorkloadWorld) -> None:
    token = world.token(jti=None)
    assert world.mint(token).status == 200
    refused(world.mint(token), "identity.replayed")


# --- passes -----------------------------------------------------------------------------------------------------------


def test_a_pass_fills_one_set_of_one_version(world: WorkloadWorld) -> None:
    secret = world.pass_(ref="refs/heads/main", event_name="workflow_dispatch")
    assert world.upload(secret, "greet-1.0.tar.gz").status == 202
    assert world.upload(secret, "greet-1.0-py3-none-any.whl").status == 202
    assert world.upload(secret, "greet-1.0.tar.gz").status == 202, "the same again"
    refused(world.upload(secret, "greet-1.1.tar.gz"), "pass.wrong-version", 403)
    refused(world.upload(secret, "greet-1.0.tar.gz", b"other"), "release.other-bytes", 400)


def test_a_tag_binds_the_version_at_the_exchange(world: WorkloadWorld) -> None:
    secret = world.pass_()
    refused(world.upload(secret, "greet-99.0.0.tar.gz"), "pass.wrong-version", 403)
    assert world.world.count(g.RELEASE) == 0
    assert world.upload(secret, "greet-1.0.tar.gz").status == 202


def test_a_pass_presented_twice_at_once_opens_one_set(world: WorkloadWorld) -> None:
    secret = world.pass_(ref="refs/heads/main", event_name="workflow_dispatch")
    names = [f"greet-{n}.0.tar.gz" for n in range(1, 9)]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda name: world.upload(secret, name), names))
    assert sorted(one.status for one in answers) == [202] + [403] * 7
    assert world.world.count(g.RELEASE) == 1


def test_another_pass_adds_nothing_to_a_set(world: WorkloadWorld) -> None:
    first, second = world.pass_(), world.pass_()
    assert world.upload(first, "greet-1.0.tar.gz").status == 202
    assert world.upload(second, "greet-1.0.tar.gz").status == 202, (
        "the same file is the same answer"
    )
    refused(world.upload(second, "greet-1.0-py3-none-any.whl"), "release.set-closed", 403)


def test_burning_a_pass_completes_its_set_and_a_thief_adds_nothing_in_the_quiet_period(
    world: WorkloadWorld, tmp_path: Path
) -> None:
    secret, sdist = world.pass_(), make_sdist(tmp_path, PROJECT, "1.0")
    release = world.upload(secret, sdist.name, sdist.read_bytes()).json["id"]
    assert world.world.ask("POST", "/_/oidc/burn-token", {"token": secret}).status == 200
    refused(world.upload(secret, "greet-1.0-py3-none-any.whl"), "pass.ended", 403)
    world.world.until(release, "awaiting")
    refused(world.upload(world.pass_(), "greet-1.0-py3-none-any.whl"), "release.set-closed", 403)
    assert world.form("/revoke", {"token": secret}).status == 200, (
        "it has ended: RFC 7009 section 2.2"
    )


def test_a_workload_that_binds_its_files_gets_no_other_one_in(world: WorkloadWorld) -> None:
    data = b"x"
    listed = [ReleaseFile("greet-1.0.tar.gz", hashlib.sha256(data).hexdigest(), len(data))]
    digest = sha256_hex(set_bytes(tuple(listed)))
    details = json.dumps([{"type": "package_release", "files": [one.to_json() for one in listed]}])
    refused(
        world.oauth(world.token(), authorization_details=details), "identity.wrong-audience", 400
    )
    token = world.token(f"{AUDIENCE}:sha256:{digest}")
    answer = world.oauth(token, authorization_details=details, scope="publish:private:greet")
    assert answer.status == 200, answer.body
    secret = answer.json["access_token"]
    assert answer.json["upload_url"].endswith("/pypi/private/legacy/")
    refused(world.upload(secret, "greet-1.0-py3-none-any.whl"), "pass.other-file", 403)
    refused(world.upload(secret, "greet-1.0.tar.gz", b"y"), "pass.other-file", 403)
    assert world.upload(secret, "greet-1.0.tar.gz", data).status == 202


def test_npm_gets_a_pass_by_both_spellings_of_its_audience(world: WorkloadWorld) -> None:
    for audience, run in (("npm:localhost", "1"), ("npm:localhost:8460", "2")):
        job = replace(world.job, run_id=run)
        answer = world.npm(world.token(audience, job=job), PROJECT)
        assert answer.status == 201 and answer.json["token"].startswith("ppp_"), answer.body


# --- the workflow -----------------------------------------------------------------------------------------------------


def test_a_changed_workflow_ends_the_passes_of_its_publisher_and_may_only_stage(
    world: WorkloadWorld,
) -> None:
    before = world.pass_()
    commit = world.repository.commit({WORKFLOW: CHANGED})
    job = replace(world.job, workflow_sha=commit, sha=commit, run_id="9002")
    answer = world.oauth(world.token(job=job))
    assert answer.status == 200 and answer.json["stage_only"] is True, answer.body
    refused(world.upload(before), "pass.ended", 403)
    assert world.upload(answer.json["access_token"]).status == 202


def test_a_workflow_that_nobody_can_show_is_refused(shared: WorkloadWorld) -> None:
    answer = shared.mint(shared.token(workflow_sha="b" * 40))
    assert answer.status == 422 and answer.code.startswith("identity.workflow-"), answer.body


def test_a_workload_shows_its_workflow_where_the_forge_is_closed(tmp_path: Path) -> None:
    with WorkloadWorld(tmp_path, repository_url="") as world:
        refused(world.mint(world.token()), "identity.workflow-missing")
        checkout = tmp_path / "checkout"
        world.repository.clone(checkout)
        path = read_workflow_path(checkout, world.commit, WORKFLOW)
        shown = world.world.ask(
            "POST", "/_/oidc/workflow", path.to_bytes(), Authorization=f"Bearer {world.token()}"
        )
        assert shown.status == 201, shown.body
        assert world.mint(world.token()).status == 200


# --- stops ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["publisher", "workload", "run", "pass"])
def test_a_revocation_is_effective_when_it_is_answered(world: WorkloadWorld, what: str) -> None:
    secret = world.pass_()
    row = world.world.rows(sa.select(g.WORKLOAD_TOKEN))[0]
    target = {
        "publisher": "greet-ci",
        "workload": row.identity,
        "run": row.run,
        "pass": sha256_hex(secret.encode()),
    }[what]
    assert world.revoke(what, target).status == 202
    refused(world.upload(secret), "pass.ended", 403)
    again = world.mint(world.token())
    assert again.code == "identity.revoked" if what != "pass" else again.status == 200, again.body


def test_a_cause_has_one_stop_at_a_time_and_a_new_one_once_a_quorum_has_cleared_it(
    tmp_path: Path,
) -> None:
    with WorkloadWorld(tmp_path, delegated_only=True) as world:
        for _ in range(4):
            world.oauth(world.token())
        (first,) = stops(world)
        cleared = {"id": first.id, "what": first.what, "target": first.target, "by": ""}
        cleared |= {"source": first.source, "seen_ms": 1, "cleared_by": "8" * 64}
        world.world.journal.write(sa.insert(j.NARROWING).values(cleared))
        until(lambda: world.oauth(world.token()).code == "delegation.none", "again")
        again = stops(world)
        assert [(one.what, one.target) for one in again] == [("publisher", "greet-ci")] * 2
        world.oauth(world.token())
        assert len(stops(world)) == 2
        world.admit(world.delegation())
        refused(world.oauth(world.token()), "identity.revoked", 400)


def test_a_run_astray_is_measured_by_the_workflow_that_a_release_bound_last(
    world: WorkloadWorld,
) -> None:
    rebound = {"release": "5" * 64, "publisher_statement": world.publisher_statement}
    rebound |= {"workflow": sha256_hex(CHANGED), "at_ms": 1}
    world.world.journal.write(sa.insert(j.REBOUND).values(rebound))
    commit = world.repository.commit({WORKFLOW: CHANGED})
    job = replace(world.job, workflow_sha=commit, sha=commit)
    refused(world.mint(world.token(job=job, ref="refs/heads/side")), "publisher.wrong-ref")
    assert stops(world) == []
    for side in ("refs/heads/one", "refs/heads/two"):
        refused(world.mint(world.token(ref=side)), "publisher.wrong-ref")
    assert [(one.what, one.target) for one in stops(world)] == [("limited", "greet-ci")]


def stops(world: WorkloadWorld) -> list[Any]:
    return world.world.rows(sa.select(g.STOP).order_by(g.STOP.c.serial))


def test_every_refusal_of_a_known_workload_at_the_exchange_is_an_event(
    world: WorkloadWorld,
) -> None:
    """Whoever proves nothing, or is bound nowhere, is a stranger: of those anybody can make as many as they like."""
    head, claims, _ = world.token().split(".")
    world.mint("a.b.c")
    world.mint(f"{head}.{claims}.{'A' * 342}")
    other = {"repository_id": "9", "repository_owner_id": "9", "repository": "else/where"}
    world.mint(world.token("presspass:elsewhere", **other))
    known = [world.token(event_name="pull_request"), world.token("presspass:elsewhere")]
    for token in known:
        world.mint(token)
    events = until(
        lambda: len(found := world.world.rows(sa.select(g.EVENT))) >= 2 and found, "two events"
    )
    assert [(row.code, row.detail[:16]) for row in events] == [
        ("publisher.wrong-event", sha256_hex(known[0].encode())[:16]),
        ("identity.wrong-audience", sha256_hex(known[1].encode())[:16]),
    ]


def test_discovery_names_the_doors(shared: WorkloadWorld) -> None:
    found = shared.world.ask("GET", "/.well-known/pytp?discover=%2Fpypi%2Fprivate%2Flegacy%2F")
    assert found.json["token-mint-endpoint"].endswith("/_/oidc/mint-token")
    assert shared.world.ask("GET", "/.well-known/pytp").status == 400
    metadata = shared.world.ask("GET", "/.well-known/oauth-authorization-server").json
    assert metadata["token_endpoint"].endswith("/token")
    assert metadata["revocation_endpoint"].endswith("/revoke")


@pytest.mark.parametrize(
    ("form", "error"),
    [
        ({"grant_type": "password"}, "unsupported_grant_type"),
        ({"subject_token_type": "urn:ietf:params:oauth:token-type:saml2"}, "invalid_request"),
        ({"requested_token_type": "urn:ietf:params:oauth:token-type:jwt"}, "invalid_request"),
        ({"scope": "everything"}, "invalid_scope"),
        ({"authorization_details": "{}"}, "invalid_authorization_details"),
        ({"authorization_details": "no"}, "invalid_authorization_details"),
    ],
    ids=str,
)
def test_the_token_endpoint_speaks_the_errors_of_its_rfcs(
    shared: WorkloadWorld, form: dict[str, str], error: str
) -> None:
    answer = shared.oauth(shared.token(), **form)
    assert (answer.status, answer.json["error"]) == (400, error), answer.body


# --- bots -------------------------------------------------------------------------------------------------------------


def test_S13_a_bot_outside_its_grant_is_refused_by_the_grant_it_lacks_and_frozen_after_three(
    tmp_path: Path,
) -> None:
    with WorkloadWorld(tmp_path, delegated_only=True, projects=("greet", "other")) as world:
        refused(world.oauth(world.token()), "delegation.none", 400)
        world.admit(world.delegation())
        answer = world.oauth(world.token(), scope="publish:private:other")
        refused(answer, "delegation.wrong-project", 400)
        nested = world.oauth(world.token(act={"sub": "second-bot"}))
        refused(nested, "delegation.no-sub-delegation", 400)
        assert world.world.count(g.RELEASE) == world.world.count(g.REQUEST) == 0
        refused(world.oauth(world.token()), "identity.revoked", 400)


def test_S13_a_bot_within_its_grant_asks_and_no_further(tmp_path: Path) -> None:
    with WorkloadWorld(tmp_path, delegated_only=True) as world:
        world.world.journal.publish("1.0.0", {"greet-1.0.0.tar.gz": b"old"})
        world.admit(world.delegation(version_kinds=("patch",)))
        job = replace(world.job, ref="refs/tags/v1.1.0")
        minor = world.oauth(world.token(job=job), scope="publish:private:greet")
        secret = minor.json["access_token"]
        refused(world.upload(secret, "greet-1.1.0.tar.gz"), "delegation.version-kind", 403)
        job = replace(world.job, ref="refs/tags/v1.0.1")
        patch = world.oauth(world.token(job=job), scope="publish:private:greet")
        assert world.upload(patch.json["access_token"], "greet-1.0.1.tar.gz").status == 202
        over = world.delegation(not_before=1, not_after=2)
        statement = world.world.journal.statement(over, world.delegated)
        world.world.journal._admit(statement, "delegation:bot")
        refused(
            world.oauth(world.token(job=replace(job, run_id="77"))),
            "delegation.outside-window",
            400,
        )


def put_rules(world: WorkloadWorld, text: str, **packages: str) -> None:
    """Puts a policy with these rules into the press's journal as admitted."""
    document, journal = RuleDocument(text, packages), world.world.journal
    body = PolicyBody(replace(journal.policy, rules=document.digest))
    data = document.to_bytes()
    journal.write(sa.insert(j.RULES).values(digest=document.digest, document=data))
    journal._admit(journal.statement(body, journal.heads().policy), "policy")


def test_rules_refuse_a_pass_and_files_at_the_door_and_say_which(world: WorkloadWorld) -> None:
    """A courtesy: whatever the doors let in, the press asks itself."""
    asking = '@id("asking") permit (principal, action in [Action::"exchange", Action::"stage"], resource);'
    put_rules(world, asking, greet=(
        '@id("bound-workflow") @message("not from a changed workflow")'
        ' forbid (principal, action == Action::"exchange", resource) unless { context.workflow_unchanged };'
        '@id("no-major") forbid (principal, action == Action::"stage", resource)'
        ' when { context.version_kind == "first" || context.version_kind == "major" };'
    ))  # fmt: skip
    person = world.world.token()
    refused(world.upload(person, "greet-1.0.tar.gz"), "policy.denied", 403)
    secret = world.pass_(ref="refs/heads/main", event_name="workflow_dispatch")
    answer = world.upload(secret, "greet-1.0.tar.gz")
    refused(answer, "policy.denied", 403)
    assert b"no-major" in answer.body and world.world.count(g.RELEASE) == 0
    assert world.upload(secret, "greet-1.0rc1.tar.gz").status == 202
    commit = world.repository.commit({WORKFLOW: CHANGED})
    changed = replace(world.job, workflow_sha=commit, sha=commit)
    answer = world.mint(world.token(job=changed))
    refused(answer, "policy.denied")
    assert b"bound-workflow" in answer.body
    put_rules(world, "")
    refused(world.mint(world.token()), "policy.denied")
