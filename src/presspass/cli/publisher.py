"""`publisher`: which workload may ask for which packages, bound by people; who does ask, and what stands against it."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from presspass.cli.asking import put_before_approvers, standing_of_home
from presspass.cli.bindings import (
    chain_of,
    passes_of,
    publisher_in,
    state_of,
    stops_by_name,
    stops_of,
    waiting,
    workflow_now,
)
from presspass.cli.choosing import warn
from presspass.cli.options import example, format_option, home_option
from presspass.cli.show import emit_json, note, safe, say, table
from presspass.core.digests import JsonObject, sha256_hex
from presspass.core.errors import Code, Refusal
from presspass.core.limits import LOCAL_GIT_S_MAX, WORKFLOW_BYTES_MAX
from presspass.core.publisher import IDENTITY_CLAIMS, WITH_REF, WITH_WORKFLOW, PublisherBody
from presspass.core.statement import Kind, is_sound_address
from presspass.core.workload import PROVIDERS, workload_key

if TYPE_CHECKING:
    from presspass.verify.chain import Chain

#: Where the providers that run as a service sign; whoever runs one at home names its address.
ISSUERS: Final = {
    "github": "https://token.actions.githubusercontent.com",
    "gitlab": "https://gitlab.com",
    "buildkite": "https://agent.buildkite.com",
    "google": "https://accounts.google.com",
}
#: Where the same two keep repositories, so that the gate can read a public one itself.
_FORGES: Final = {"github": "https://github.com", "gitlab": "https://gitlab.com"}
_CIRCLECI: Final = "https://oidc.circleci.com/org/"
#: What a release is nearly always made by, where a provider says so.
_REFS: Final = ("refs/tags/v*",)
_EVENTS: Final = ("push",)


@dataclass(frozen=True, slots=True)
class Content:
    """The file that is bound. `text`: None where the provider names no workflow."""

    text: str | None
    source: str = ""

    @property
    def sha256(self) -> str:
        return "" if self.text is None else sha256_hex(self.text.encode("utf-8"))


@click.group("publisher", short_help="Which workload may ask for which packages.")
def publisher_command() -> None:
    """Which workload may ask for which packages. Binding one, or binding it anew, takes the approval of two people."""


@publisher_command.command(
    "bind",
    epilog=example(
        "presspass publisher bind greet-ci --upstream private --project greet --provider github \\",
        "    --id repository_id=1001 --id repository_owner_id=501 --repository acme/greet \\",
        "    --workflow .github/workflows/release.yml --checkout . --environment release",
    ),
)
@click.argument("name")
@click.option("--upstream", required=True, help="The registry it releases to.")
@click.option(
    "--project", "projects", multiple=True, required=True, help="An exact package (repeatable)."
)
@click.option(
    "--provider", type=click.Choice(PROVIDERS), required=True, help="Whose identity tokens it has."
)
@click.option("--issuer", default="", help="The issuer's address; known for the hosted services.")
@click.option(
    "--id",
    "ids",
    multiple=True,
    metavar="CLAIM=VALUE",
    help="An immutable id from its token (repeatable); a missing one is named.",
)
@click.option("--repository", default="", help="OWNER/NAME, for people to read.")
@click.option(
    "--repository-url",
    help="Where the gate reads the workflow by git; '' lets the workload show it itself.",
)
@click.option("--workflow", default="", help="The path of the workflow in the repository.")
@click.option(
    "--checkout",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Bind the workflow's content as this git checkout has it.",
)
@click.option("--commit", default="HEAD", show_default=True, help="At this commit of --checkout.")
@click.option(
    "--workflow-file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Bind this file's content instead.",
)
@click.option(
    "--ref",
    "refs",
    multiple=True,
    help="A ref it may release from, refs/…, with at most one * that crosses no slash (repeatable) "
    f"[default: {_REFS[0]}].",
)
@click.option(
    "--event",
    "events",
    multiple=True,
    help=f"An event that may start it (repeatable) [default: {_EVENTS[0]}].",
)
@click.option("--environment", default="", help="The job's environment (default: it has none).")
@click.option("--self-hosted", is_flag=True, help="Also on runners of your own.")
@click.option(
    "--unprotected-refs", is_flag=True, help="Also from refs that everybody with push may change."
)
@click.option("--bot", is_flag=True, help="It may ask only for what a delegation covers.")
@home_option
@format_option
def bind_command(home: Path, as_json: bool, commit: str, **given: Any) -> None:
    """Bind the workload NAME: put before the approvers who may ask for which packages, from where, by which workflow.

    Ids are compared, names are not. The workflow's content is bound too: who edits it has another workflow, and people
    see the difference before it counts. Nothing is a wildcard: what is missing is an error. Binding NAME again replaces
    the binding when people have approved that.

    Exit codes: 0 asked for; 1 refused; 2 a part is missing; 4 the gate of this home is not running.
    """
    chain = chain_of(home)
    content = _content(given["provider"], given.pop("workflow_file"), given.pop("checkout"), commit,
                       given["workflow"])  # fmt: skip
    body = _body(given, content)
    if body.upstream not in chain.upstreams:
        known = ", ".join(sorted(chain.upstreams))
        raise Refusal(
            Code.UPSTREAM_MISSING,
            f"There is no upstream {body.upstream!r} in force.",
            f"There is: {known}." if known else "Ask for it first: presspass upstream add.",
        )
    _warn(body)
    answer = _ask(home, chain, body, content.text)
    if as_json:
        emit_json({**answer, "workflow_sha256": content.sha256})
        return
    say(safe(answer["url"]))
    if content.text is not None:
        note(f"bound: {safe(body.workflow)} from {safe(content.source)}, SHA-256 {content.sha256}")
    note(f"{safe(name_of(body))} may ask for a release when people have approved it there.")


def name_of(body: PublisherBody) -> str:
    """How people know it."""
    return f"{body.name} ({body.repository})" if body.repository else body.name


def _ask(home: Path, chain: Chain, body: PublisherBody, workflow: str | None) -> JsonObject:
    standing = standing_of_home(home)
    present = chain.publishers.get(body.name)
    statement = standing.statement(body, previous=present[0] if present else standing.genesis)
    return put_before_approvers(home, statement, workflow)


def _body(given: Mapping[str, Any], content: Content) -> PublisherBody:
    """The binding as asked for; wrong usage that names every part that is missing."""
    provider = given["provider"]
    ids = _ids(given["ids"])
    wanted = IDENTITY_CLAIMS[provider]
    issuer = given["issuer"] or _issuer(provider, ids)
    with_workflow = provider in WITH_WORKFLOW
    lacking = {
        "--issuer": not issuer,
        **{f"--id {claim}=…": claim not in ids for claim in wanted},
        "--workflow": with_workflow and not given["workflow"],
        "--checkout or --workflow-file": with_workflow and content.text is None,
        "--ref": provider in WITH_REF and not with_workflow and not given["refs"],
    }
    missing = [name for name, is_missing in lacking.items() if is_missing]
    if missing:
        raise click.UsageError(f"Missing for {provider}: {', '.join(missing)}.")
    unknown = sorted(set(ids) - set(wanted))
    if unknown:
        raise click.UsageError(
            f"{provider} is not bound by {', '.join(unknown)} but by exactly {', '.join(wanted)}."
        )
    if not is_sound_address(issuer):
        raise click.UsageError(f"The issuer {issuer!r} is not https, nor http on this machine.")
    body = PublisherBody(
        name=given["name"],
        upstream=given["upstream"],
        projects=tuple(sorted({normal_project(one) for one in given["projects"]})),
        issuer=issuer.rstrip("/"),
        provider=provider,
        ids=tuple((claim, ids[claim]) for claim in wanted),
        repository=given["repository"],
        repository_url=_repository_url(given, issuer),
        workflow=given["workflow"],
        workflow_sha256=content.sha256,
        refs=tuple(sorted(set(given["refs"]))) or (_REFS if with_workflow else ()),
        protected_refs_only=with_workflow and not given["unprotected_refs"],
        events=tuple(sorted(set(given["events"]))) or (_EVENTS if with_workflow else ()),
        environment=given["environment"],
        self_hosted=given["self_hosted"] or provider in ("kubernetes", "spiffe"),
        delegated_only=given["bot"],
    )
    return PublisherBody.from_json(body.to_json())


def normal_project(name: str) -> str:
    """A project's name in normal form (PEP 503); a name of npm's with its scope stays as it is."""
    from packaging.utils import canonicalize_name

    return name if name.startswith("@") else canonicalize_name(name)


def _ids(typed: tuple[str, ...]) -> dict[str, str]:
    found: dict[str, str] = {}
    for one in typed:
        claim, sign, value = one.partition("=")
        if not sign or not claim or not value or claim in found:
            raise click.UsageError(f"{one!r} is no CLAIM=VALUE, or names a claim a second time.")
        found[claim] = value
    return found


def _issuer(provider: str, ids: Mapping[str, str]) -> str:
    org = ids.get("oidc.circleci.com/org-id", "")
    if provider == "circleci" and org:
        return _CIRCLECI + org
    return ISSUERS.get(provider, "")


def _repository_url(given: Mapping[str, Any], issuer: str) -> str:
    """Where git reads the repository: as given, or as the hosted forges have it; "" where nobody knows."""
    if given["repository_url"] is not None:
        return str(given["repository_url"])
    hosted = issuer == ISSUERS.get(given["provider"]) and given["provider"] in _FORGES
    if not hosted or not given["repository"]:
        return ""
    return f"{_FORGES[given['provider']]}/{given['repository']}.git"


def _content(
    provider: str, file: Path | None, checkout: Path | None, commit: str, path: str
) -> Content:
    """What is bound. Refuses what the gate would never be able to prove."""
    if provider not in WITH_WORKFLOW:
        if file or checkout or path:
            raise click.UsageError(f"The tokens of {provider} name no workflow; none can be bound.")
        return Content(None)
    if file is not None and checkout is not None:
        raise click.UsageError("Give one of --checkout or --workflow-file.")
    if file is not None:
        return Content(_text(_read(file), str(file)), str(file))
    if checkout is not None and path:
        from presspass.cli.workflow_path import read_workflow_path
        from presspass.verify.workflow import prove

        whole = _commit(checkout, commit)
        data = prove(whole, path, read_workflow_path(checkout, whole, path).objects)
        return Content(_text(data, path), f"commit {whole[:12]}")
    return Content(None)


def _read(file: Path) -> bytes:
    with file.open("rb") as opened:
        data = opened.read(WORKFLOW_BYTES_MAX + 1)
    if len(data) > WORKFLOW_BYTES_MAX:
        raise Refusal(
            Code.WORKFLOW_TOO_LARGE,
            f"{file} has more bytes than the limit of {WORKFLOW_BYTES_MAX}.",
        )
    return data


def _text(data: bytes, where: str) -> str:
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        raise Refusal(
            Code.WORKFLOW_UNPROVEN,
            f"{where} is not UTF-8 text; people could not read what they bind.",
        )
    return text


def _commit(checkout: Path, commit: str) -> str:
    """The whole id of a commit; refuses what names none."""
    command = ["git", "-C", str(checkout), "rev-parse", "--verify", "--quiet", "--end-of-options",
               f"{commit}^{{commit}}"]  # fmt: skip
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=LOCAL_GIT_S_MAX, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Refusal(Code.WORKFLOW_UNAVAILABLE, f"git cannot be asked: {error}.") from None
    if done.returncode != 0:
        raise Refusal(
            Code.WORKFLOW_UNAVAILABLE,
            f"{checkout} is no git checkout that has the commit {commit!r:.100}.",
            "Name a checkout of the repository, or give --workflow-file.",
        )
    return done.stdout.strip()


def _warn(body: PublisherBody) -> None:
    """What people should think about before they are asked to sign it."""
    if not body.protected_refs_only and body.provider in WITH_WORKFLOW:
        warn("unprotected refs: everybody who may push may start a release")
    if body.provider not in WITH_WORKFLOW:
        warn(f"{body.provider} names no workflow: whoever changes what it runs changes the release")
    if body.issuer.startswith("http://"):
        warn("plain http: right for an issuer on this very machine only")


# looking


@publisher_command.command("list", epilog=example("presspass publisher list --home /srv/presspass"))
@home_option
@format_option
def list_command(home: Path, as_json: bool) -> None:
    """List the bindings in force, from the press's journal, and those that wait for signatures.

    Exit codes: 0 shown; 1 not sealed yet; 4 the journal cannot be read.
    """
    chain, stops = chain_of(home), stops_by_name(home)
    found = {
        name: {**body.to_json(), "statement": digest, "state": state_of(body, stops.get(name, ()))}
        for name, (digest, body) in sorted(chain.publishers.items())
    }
    if as_json:
        emit_json(found)
        return
    if not found:
        say("no publishers in force; `presspass publisher bind` asks for one")
    else:
        rows = [
            (name, one["upstream"], ", ".join(one["projects"]), one["repository"], one["workflow"],
             one["state"])
            for name, one in found.items()
        ]  # fmt: skip
        table(("name", "upstream", "projects", "repository", "workflow", "state"), rows)
    for name, digest in waiting(home, Kind.PUBLISHER):
        note(f"waits for signatures: {safe(name)}, request {digest}")


@publisher_command.command(
    "show", epilog=example("presspass publisher show greet-ci --home /srv/presspass")
)
@click.argument("name")
@home_option
@format_option
def show_command(name: str, home: Path, as_json: bool) -> None:
    """Show the binding NAME: its parts, the workflow that counts now, passes that are alive, and stops.

    The hashes are what `presspass revoke` takes.

    Exit codes: 0 shown; 1 there is none; 4 the journal or the gateway's database cannot be read.
    """
    chain = chain_of(home)
    digest, body = publisher_in(chain, name)
    value = {
        **body.to_json(),
        "statement": digest,
        "state": state_of(body, stops_by_name(home).get(name, ())),
        "workflow_now": workflow_now(home, digest, body),
        "workload": workload_key(body.issuer, body.provider, body.ids),
        "passes": passes_of(home, name),
        "stops": stops_of(home, name),
    }
    emit_json(value) if as_json else _show(value)


@publisher_command.command(
    "retire", epilog=example("presspass publisher retire greet-ci --home /srv/presspass")
)
@click.argument("name")
@home_option
@format_option
def retire_command(name: str, home: Path, as_json: bool) -> None:
    """Ask for the binding NAME to be one of no packages: it may ask for nothing when people have approved that.

    In a hurry, `presspass revoke publisher NAME` ends it at once, by one signature.

    Exit codes: 0 asked for; 1 there is none; 4 the gate of this home is not running.
    """
    chain = chain_of(home)
    _, body = publisher_in(chain, name)
    answer = _ask(home, chain, replace(body, projects=()), None)
    emit_json(answer) if as_json else say(safe(answer["url"]))


def _show(value: JsonObject) -> None:
    say(f"{safe(value['name'])}: {safe(value['state'])}")
    lines = {
        "asks for": f"{', '.join(value['projects']) or 'nothing'} at {value['upstream']}",
        "issuer": f"{value['issuer']} ({value['provider']})",
        "ids": ", ".join(f"{claim} {id}" for claim, id in value["ids"]),
        "repository": f"{value['repository']} {value['repository_url']}".strip(),
        "workflow": value["workflow"],
        "content": value["workflow_now"],
        "refs": ", ".join(value["refs"]) + (" (protected)" if value["protected_refs_only"] else ""),
        "events": ", ".join(value["events"]),
        "environment": value["environment"] or "none",
        "runners": "also your own" if value["self_hosted"] else "hosted ones only",
        "workload": value["workload"],
        "statement": value["statement"],
    }
    for label, text in lines.items():
        if text:
            say(f"  {label}: {safe(text)}")
    if value["workflow_now"] != value["workflow_sha256"]:
        say("  (this content was bound by approving a release that ran it)")
    if value["delegated_only"]:
        say("  a bot: it may ask only for what a delegation covers")
    say(f"Passes alive: {len(value['passes']) or 'none'}")
    if value["passes"]:
        columns = ("hash", "project", "version", "release", "run")
        table(columns, [[one[column] for column in columns] for one in value["passes"]])
    say(f"Stops: {len(value['stops']) or 'none'}")
    if value["stops"]:
        shown = ("what", "reason", "source", "id")
        table(shown, [[one[column] for column in shown] for one in value["stops"]])
