"""`invite` and `enrol`: how a person's key gets in. The link says who; people compare the key."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import click

from presspass.cli.choosing import compact, warn
from presspass.cli.client import Gate, control
from presspass.cli.options import NamedPerson, PersonParam, example, format_option, home_option
from presspass.cli.sessions import gate_origin, signed_in
from presspass.cli.show import emit_json, grouped, note, quoted, safe, say, table
from presspass.core.digests import JsonObject
from presspass.core.errors import Code, Refusal
from presspass.core.roster import SOFTWARE_KINDS
from presspass.formats import sshsig


@click.command(
    "invite",
    short_help="Make an enrolment link for a person.",
    epilog=example(
        'presspass invite "Ada:mailto:ada@company.example" "Grace:mailto:grace@company.example"'
    ),
)
@click.argument("people", nargs=-1, required=True, type=PersonParam())
@click.option("--group", "groups", multiple=True, help="A group for them (repeatable).")
@click.option(
    "--forge-id",
    "forge_ids",
    multiple=True,
    help="The person's id at a forge, e.g. github:12345 (repeatable).",
)
@click.option(
    "--next-origin",
    "at_next",
    is_flag=True,
    help="For the address to which this gate is about to move (presspass origin prepare).",
)
@home_option
@format_option
def invite_command(
    people: tuple[NamedPerson, ...],
    groups: tuple[str, ...],
    forge_ids: tuple[str, ...],
    at_next: bool,
    home: Path,
    as_json: bool,
) -> None:
    """Make a single-use link, good for 15 minutes, by which each of PEOPLE enrols one key.

    PEOPLE are written NAME or NAME:ADDRESS[,ADDRESS]; an address is mailto:… or https://…, and notices go there.
    A name that is enrolled already gets a link for one more key of that person. After genesis the new key counts only
    when the others have approved it.

    Exit codes: 0 made; 1 refused; 4 the gate of this home is not running.
    """
    links = []
    with control(home) as gate:
        for person in people:
            asked = {
                "person": "",
                "name": person.name,
                "addresses": list(person.addresses),
                "groups": list(groups),
                "forge_ids": [*person.forge_ids, *forge_ids],
                "at_next": at_next,
            }
            links.append({"name": person.name, **gate.post_json("/links", asked)})
    show_links(links, as_json)


def show_links(links: list[dict[str, Any]], as_json: bool) -> None:
    """Each link once. `links`: name and url."""
    if as_json:
        emit_json({"links": links})
        return
    for link in links:
        say(f"{safe(link['name'])}:  {safe(link['url'])}")
    note(
        "Each link works once, for 15 minutes. Hand it to that person alone, over a channel you trust."
    )


@click.command(
    "enrol",
    short_help="Enrol a key of yours by a link.",
    epilog=example(
        "presspass enrol 'https://gate.example/enrol#…' --ssh-key ~/.ssh/id_ed25519_sk.pub"
    ),
)
@click.argument("link")
@click.option(
    "--ssh-key",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Enrol this SSH public key (a .pub file). A security key (sk-) verifies you; a plain key does not.",
)
@click.option(
    "--software-passkey",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Enrol a software passkey kept in this file, made if it is missing. For trials and tests only.",
)
@click.option(
    "--replace",
    "replaced",
    multiple=True,
    help="Ask for this key of yours (fingerprint, or its first 8 digits or more) to be taken out in the same change "
    "(repeatable).",
)
@format_option
def enrol_command(
    link: str,
    ssh_key: Path | None,
    software_passkey: Path | None,
    replaced: tuple[str, ...],
    as_json: bool,
) -> None:
    """Enrol one key by LINK, at a terminal. In a browser, open the link instead: that is where real passkeys are.

    Prints the key's fingerprint. Read it aloud when genesis is sealed or when the others are asked to approve your key.

    Exit codes: 0 enrolled; 1 refused (link used, expired or unknown; key not allowed); 4 the gate cannot be reached.
    """
    if (ssh_key is None) == (software_passkey is None):
        raise click.UsageError("Give one of --ssh-key or --software-passkey.")
    base, secret = parse_link(link)
    more: JsonObject = {"replace": [compact(one) for one in replaced]} if replaced else {}
    with Gate(base) as gate:
        if ssh_key is not None:
            answer = _enrol_ssh(gate, secret, ssh_key, more)
        else:
            answer = _enrol_software(gate, secret, Path(str(software_passkey)), more)
    if as_json:
        emit_json(answer)
        return
    say(f"enrolled a {safe(answer['kind'])} key for {safe(answer['person'])}")
    say(f"fingerprint  {grouped(safe(answer['key']))}")
    if answer["kind"] in SOFTWARE_KINDS and answer.get("counts") is not True:
        known = "counts no software keys" if answer.get("counts") is False else "may not count it"
        warn(
            f"A software key verifies nobody, and the policy of this gate {known} (`presspass init --software-keys`): "
            "then it can veto, and approves nothing. Enrol a passkey in the browser, or a security key."
        )
    if answer.get("request"):
        note(
            f"It counts when the others have approved it: {safe(base)}/q/{safe(answer['request'])}"
        )


def parse_link(link: str) -> tuple[str, str]:
    """(base, secret) of an enrolment link: the secret stands in the fragment or in ?link=."""
    parts = urlsplit(link)
    secret = parts.fragment or parse_qs(parts.query).get("link", [""])[0]
    secret = secret.removeprefix("link=")
    base_path = parts.path.rstrip("/").removesuffix("/enrol")
    if parts.scheme not in ("https", "http") or not parts.netloc or not secret:
        raise Refusal(
            Code.ENROLMENT_INVALID,
            "This is no enrolment link.",
            "Copy the whole line, and put it in quotes for the shell.",
        )
    return f"{parts.scheme}://{parts.netloc}{base_path}", secret


def _enrol_ssh(gate: Gate, secret: str, path: Path, more: JsonObject) -> JsonObject:
    line = path.read_text(encoding="utf-8", errors="replace").strip()
    if "PRIVATE KEY" in line:
        raise Refusal(
            Code.ENROLMENT_INVALID,
            f"{path} is a private key.",
            "Give the public key, the .pub file.",
        )
    sshsig.parse_public_key_line(line)
    return gate.post_json("/api/v1/enrolments", {"link": secret, "ssh_public_key": line, **more})


def _enrol_software(gate: Gate, secret: str, path: Path, more: JsonObject) -> JsonObject:
    from presspass.drill.world.keys import SoftwarePasskey

    passkey = SoftwarePasskey.load(path) if path.exists() else SoftwarePasskey.generate()
    begun = gate.post_json("/api/v1/enrolments/begin", {"link": secret})
    credential = passkey.registration(begun["public_key"], begun["origin"])
    if not path.exists():
        passkey.save(path)
    note(
        f"{path} is a software passkey: whoever has the file can sign. It never counts as user-verified."
    )
    return gate.post_json(
        "/api/v1/enrolments", {"link": secret, "credential": credential, "software": True, **more}
    )


@click.group("people", short_help="Who people are: addresses, ids, groups, sign-in.")
def people_command() -> None:
    """Who people are: their addresses, ids at forges and at the sign-in provider, groups and roles, sign-in links."""


@people_command.command(
    "change",
    epilog=example(
        "presspass people change Ada --forge-id oidc:https://id.example#ada-7f3a",
        "presspass people change Ada --group approvers --group role:admin",
    ),
)
@click.argument("who")
@click.option("--name", help="Another name.")
@click.option(
    "--address", "addresses", multiple=True, help="Told at this address from then on (repeatable)."
)
@click.option(
    "--forge-id",
    "forge_ids",
    multiple=True,
    help="An id at a forge (github:12345) or the sign-in provider (oidc:ISSUER#SUBJECT) (repeatable).",
)
@click.option(
    "--group",
    "groups",
    multiple=True,
    help="In this group from then on; role:requester, role:approver, role:admin and role:auditor are roles "
    "(repeatable).",
)
@click.option("--no-groups", is_flag=True, help="In no group from then on.")
@click.option("--gate", "url", help="Ask this gate, where you are signed in as an admin.")
@home_option
@format_option
def change_command(
    who: str,
    name: str | None,
    addresses: tuple[str, ...],
    forge_ids: tuple[str, ...],
    groups: tuple[str, ...],
    no_groups: bool,
    url: str | None,
    home: Path,
    as_json: bool,
) -> None:
    """Ask for another name, addresses, ids or groups of WHO (a name or an id). What is given takes the place of all
    that was there of its kind; what is not stays.

    It counts when the others have approved it. Old and new addresses are told.

    Exit codes: 0 asked for; 1 refused; 4 the gate cannot be reached.
    """
    asked: JsonObject = {"person": who}
    if name:
        asked["name"] = name
    for what, given in (("addresses", addresses), ("forge_ids", forge_ids), ("groups", groups)):
        if given or (what == "groups" and no_groups):
            asked[what] = list(given)
    if len(asked) == 1:
        raise click.UsageError("Say what changes: --name, --address, --forge-id or --group.")
    if url:
        with signed_in(gate_origin(url)) as gate:
            answer = gate.post_json("/api/v1/people/changes", asked)
    else:
        with control(home) as gate:
            answer = gate.post_json("/people/changes", asked)
    if as_json:
        emit_json(answer)
        return
    say(safe(str(answer["url"])))
    note("It counts when the others have approved it there.")


@people_command.command(
    "sign-in-link", epilog=example("presspass people sign-in-link Ada --home /srv/presspass")
)
@click.argument("who")
@home_option
@format_option
def sign_in_link_command(who: str, home: Path, as_json: bool) -> None:
    """Make a single-use link, good for 15 minutes, by which WHO (a name or an id) makes a passkey that signs in.

    It signs in and nothing else: it never approves, and a key of the roster never signs in.

    Exit codes: 0 made; 1 refused; 4 the gate of this home is not running.
    """
    with control(home) as gate:
        answer = gate.post_json("/sign-in-links", {"person": who})
    if as_json:
        emit_json(answer)
        return
    say(safe(str(answer["url"])))
    note("It works once, for 15 minutes. Hand it to that person alone, over a channel you trust.")


@people_command.command(
    "remove", epilog=example('presspass people remove Ben --reason "has left the company"')
)
@click.argument("who")
@click.option("--reason", default="", help="Why; the others and the ledger are told.")
@home_option
@format_option
def remove_command(who: str, reason: str, home: Path, as_json: bool) -> None:
    """WHO (a name or an id) leaves: sessions, passes, upload tokens, delegations, sign-in passkeys and approvals on
    whatever is unfinished end at once, and nothing that the person signs counts any more.

    Prints what ended, which packages too few approvers are left for, and where the others sign to take the keys out of
    the roster for good. Nothing lowers the number of approvers. A quorum can clear the stop: then the keys count
    again if they are still in the roster, and what ended stays ended.

    Exit codes: 0 removed, or removed before; 1 refused; 4 the gate of this home is not running.
    """
    with control(home) as gate:
        answer = gate.post_json("/people/remove", {"person": who, "reason": reason})
    emit_json(answer) if as_json else _show_left(answer, home)


_ENDED = (
    ("sessions", "sessions"),
    ("passes", "passes"),
    ("upload_tokens", "upload tokens"),
    ("sign_in_keys", "sign-in passkeys"),
    ("links", "links"),
    ("approvals", "approvals on unfinished requests"),
)


def _show_left(answer: JsonObject, home: Path) -> None:
    counts = [f"{answer[name]} {words}" for name, words in _ENDED if answer[name]]
    say(f"{safe(answer['person'])} counts for nothing{'' if answer['new'] else ', as before'}")
    say(f"ended: {', '.join(counts) or 'nothing that was not over'}")
    for name in answer["delegations"]:
        say(f"ended delegation: {safe(name)}")
    for url in answer["releases"]:
        say(f"withdrawn: {safe(url)}")
    show_frozen_packages(answer["frozen_packages"])
    if answer["url"]:
        say(f"to take the keys out for good, the others sign: {safe(answer['url'])}")
    else:
        note(
            "There is no request to sign: the keys are out, or too few people would be left to change anything."
        )
    note(
        f"To undo it, a quorum clears it: presspass freeze --clear {safe(answer['stop'])} --home {quoted(home)}"
    )


def show_frozen_packages(rows: list[dict[str, Any]]) -> None:
    """Packages that too few approvers are left for; nothing where there are none."""
    if not rows:
        return
    warn(
        "FROZEN for want of approvers. The number is not lowered: enrol people (presspass invite), or clear a stop."
    )
    table(
        ("package", "upstream", "needed", "could"),
        [(r["project"], r["upstream"], r["needed"], r["eligible"]) for r in rows],
    )


def show_people(rows: list[dict[str, Any]]) -> None:
    """Enrolled keys as a table."""
    table(
        ("name", "person", "kind", "fingerprint"),
        [(r["name"], r["person"], r["kind"], grouped(r["key"])) for r in rows],
    )
