"""`presspass publisher` and `delegation`: people bind a workload and its workflow, and see what they have bound."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

import peers
from ci_rig import PROJECT, CiRig
from presspass.cli import exits
from presspass.cli.databases import ask_gateway
from presspass.core.digests import sha256_hex
from presspass.drill.peers import PypiServer
from presspass.store import gateway_tables as g
from workload_world import CHANGED, HONEST, WORKFLOW


@pytest.fixture(scope="module")
def ci(tmp_path_factory: pytest.TempPathFactory, ssh_keygen: Path) -> Iterator[CiRig]:
    peers.require_peer("pypi-server")
    folder = tmp_path_factory.mktemp("ci")
    with (
        PypiServer(folder / "registry", "__token__", "upstream-secret") as registry,
        CiRig(folder, registry) as ci,
    ):
        ci.start()
        yield ci


def test_a_binding_is_asked_for_with_the_workflow_that_people_see_and_counts_when_they_have_signed(
    ci: CiRig,
) -> None:
    asked = ci.rig.ask(*ci.arguments("first"))
    assert asked["workflow_sha256"] == sha256_hex(HONEST)
    rows = ask_gateway(ci.rig.home, lambda c: c.execute(sa.select(g.WORKFLOW)).all())
    assert {row.sha256: row.content for row in rows}[sha256_hex(HONEST)] == HONEST
    assert "first" not in ci.rig.ask("publisher", "list")
    ci.rig.approve(asked["url"], "ada", "grace")
    ci.rig.run("wait", asked["url"], "--timeout", "30s")
    found = ci.rig.ask("publisher", "show", "first")
    assert found["state"] == "in force" and found["projects"] == [PROJECT]
    assert (found["workflow"], found["workflow_now"]) == (WORKFLOW, sha256_hex(HONEST))
    assert (found["refs"], found["events"]) == (["refs/tags/v*"], ["push"])
    assert found["protected_refs_only"] is True and found["self_hosted"] is False
    text = ci.rig.run("publisher", "show", "first")
    assert found["workload"] in text and "Passes alive: none" in text


def test_binding_again_follows_the_binding_in_force_and_replaces_it(
    ci: CiRig, tmp_path: Path
) -> None:
    ci.bind("second")
    before = ci.rig.ask("publisher", "show", "second")
    (tmp_path / "release.yml").write_bytes(CHANGED)
    ci.bind("second", checkout=None, workflow_file=tmp_path / "release.yml", ref="refs/heads/main")
    after = ci.rig.ask("publisher", "show", "second")
    assert after["statement"] != before["statement"]
    assert after["workflow_sha256"] == sha256_hex(CHANGED)
    assert after["refs"] == ["refs/heads/main"]
    assert before["workload"] == after["workload"]


def test_a_retired_publisher_may_ask_for_nothing(ci: CiRig) -> None:
    ci.bind("third")
    url = ci.rig.ask("publisher", "retire", "third")["url"]
    ci.rig.approve(url, "ada", "grace")
    ci.rig.run("wait", url, "--timeout", "30s")
    assert ci.rig.ask("publisher", "list")["third"]["state"] == "retired"


@pytest.mark.parametrize(
    ("left_out", "named"),
    [
        ({"id": "repository_id=1001"}, "--id repository_owner_id=…"),
        ({"workflow": None}, "--workflow"),
        ({"checkout": None}, "--checkout or --workflow-file"),
        (
            {"provider": "kubernetes", "workflow": None, "checkout": None, "issuer": None},
            "--issuer",
        ),
        ({"project": None}, "--project"),
        ({"upstream": None}, "--upstream"),
    ],
)
def test_a_missing_part_is_an_error_that_names_it(
    ci: CiRig, left_out: dict[str, object], named: str, capfd: pytest.CaptureFixture[str]
) -> None:
    from presspass.cli.main import run

    words = [*map(str, ci.arguments("gap", **left_out)), "--home", str(ci.rig.home)]
    assert run(words) == exits.CANNOT_SAY
    assert named in capfd.readouterr().err


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"event": "pull_request_target"}, "statement.malformed"),
        ({"ref": "refs/tags/v*/*"}, "statement.malformed"),
        ({"upstream": "elsewhere"}, "upstream.missing"),
        ({"workflow": ".github/workflows/other.yml"}, "identity.workflow-missing"),
        ({"commit": "no-such-commit"}, "identity.workflow-unavailable"),
    ],
)
def test_what_could_never_be_approved_is_refused_before_anybody_is_asked(
    ci: CiRig, changes: dict[str, object], code: str
) -> None:
    said = ci.rig.run(*ci.arguments("bad", **changes), "--format", "json", code=exits.REFUSED)
    assert json.loads(said)["error"]["code"] == code
    assert "bad" not in ci.rig.run("publisher", "list")


def test_a_workflow_that_is_not_the_bound_one_is_not_taken_along(ci: CiRig) -> None:
    from presspass.cli.asking import put_before_approvers, standing_of_home
    from presspass.cli.bindings import chain_of
    from presspass.core.errors import Code, Refusal

    ci.bind("fourth")
    digest, body = chain_of(ci.rig.home).publishers["fourth"]
    statement = standing_of_home(ci.rig.home).statement(body, previous=digest)
    with pytest.raises(Refusal) as refused:
        put_before_approvers(ci.rig.home, statement, CHANGED.decode())
    assert refused.value.code is Code.REQUEST_MALFORMED
    rows = ask_gateway(
        ci.rig.home, lambda c: c.execute(sa.select(g.REQUEST.c.digest)).scalars().all()
    )
    assert statement.digest not in rows


def test_the_issuer_of_a_hosted_provider_is_known_and_no_other_is_guessed() -> None:
    from presspass.cli.publisher import Content, _body

    given = {
        "name": "x", "upstream": "private", "projects": ("Greet_It",), "provider": "github",
        "ids": ("repository_id=1", "repository_owner_id=2"), "issuer": "", "repository": "acme/greet",
        "repository_url": None, "workflow": "w.yml", "refs": (), "events": (), "environment": "",
        "unprotected_refs": False, "self_hosted": False, "bot": False,
    }  # fmt: skip
    body = _body(given, Content("on: push\n"))
    assert body.issuer == "https://token.actions.githubusercontent.com"
    assert body.repository_url == "https://github.com/acme/greet.git"
    assert body.projects == ("greet-it",)
    own = _body({**given, "issuer": "https://ghe.example/_services/token"}, Content("on: push\n"))
    assert own.repository_url == "", "where a server of one's own keeps repositories is not guessed"


def test_a_delegation_is_asked_for_within_what_its_bot_is_bound_to(ci: CiRig) -> None:
    ci.bind("bot", bot=True)
    limits = (
        "--publisher",
        "bot",
        "--person",
        "Ada",
        "--kind",
        "patch",
        "--count",
        "2",
        "--for",
        "1h",
    )
    said = ci.rig.run(
        "delegation", "add", "patches", *limits, "--project", "other", "--format", "json",
        code=exits.REFUSED,
    )  # fmt: skip
    assert json.loads(said)["error"]["code"] == "delegation.wrong-project"
    url = ci.rig.ask("delegation", "add", "patches", *limits, "--project", PROJECT)["url"]
    ci.rig.approve(url, "ada", "grace")
    ci.rig.run("wait", url, "--timeout", "30s")
    found = ci.rig.ask("delegation", "list")["patches"]
    assert (found["publisher"], found["version_kinds"], found["count"]) == ("bot", ["patch"], 2)
    assert found["not_after"] - found["not_before"] == 3600
