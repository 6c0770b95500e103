"""`approve` and `veto` at a terminal: see with one's own machine, then sign with one's own key."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Final
from urllib.parse import quote

import click

from presspass.cli.approve_plan import review_plan
from presspass.cli.asker import fetch_asker, show_asker, show_note, show_workflow
from presspass.cli.choosing import confirm
from presspass.cli.client import Gate, PageUrl, parse_page_url
from presspass.cli.drop import drop_signed, drop_unsigned_veto
from presspass.cli.known_gates import check_installation, remember_installation
from presspass.cli.options import example, format_option, signing_options, yes_option
from presspass.cli.review import (
    Asked,
    check_alive,
    fetch_statement,
    fetch_upstream,
    read_statement_file,
    release_page,
    review_release,
)
from presspass.cli.show import emit_json, grouped, note, safe, say, show_lines, size_text, table
from presspass.cli.sign import Signer, make_signer
from presspass.core.changes import all_lines, changes_of, odd_about, value_text
from presspass.core.delegation import DelegationBody
from presspass.core.digests import JsonObject, is_sha256, parse_canonical, sha256_hex
from presspass.core.effects import effects
from presspass.core.errors import Code, Refusal
from presspass.core.findings import Change, Report, Severity
from presspass.core.lifecycle import SENT, SETTLED
from presspass.core.limits import RULES_BYTES_MAX
from presspass.core.log import LogBody
from presspass.core.plan import PlanBody
from presspass.core.publisher import PublisherBody
from presspass.core.roster import Details, Roster
from presspass.core.signer import SignerBody
from presspass.core.standing import StandingBody
from presspass.core.statement import (
    Body,
    BundleBody,
    FreezeBody,
    Intent,
    Kind,
    OriginBody,
    PolicyBody,
    ReleaseBody,
    RosterBody,
    Statement,
    UpstreamBody,
    subject,
)

#: States of a release or request in which a signature changes nothing any more.
_ENDED: Final = frozenset({"admitted", "stale", *(state.value for state in SETTLED | SENT)})
_ENDED_BADLY: Final = frozenset({"stale", *(state.value for state in SETTLED - SENT)})
_DIFF_LINES_SHOWN = 200
_COLOUR: Final = {Severity.CRITICAL: "red", Severity.HIGH: "red", Severity.MEDIUM: "yellow"}


@click.command(
    "approve",
    short_help="Look at a release or request, and sign it.",
    epilog=example("presspass approve https://gate.example/r/4x… --key ~/.ssh/id_ed25519_sk"),
)
@click.argument("url")
@signing_options
@click.option(
    "--trust",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="The installation's trust-root.json, if you have it; else the first one seen at a gate is remembered.",
)
@yes_option
@format_option
def approve_command(
    url: str, key: Path | None, software_passkey: Path | None, trust: Path | None,
    yes: bool, as_json: bool,
) -> None:  # fmt: skip
    """Approve the release or request at URL.

    Fetches the statement and every file itself, hashes them here, runs the same inspection here, and stops unless all
    of it is exactly what the statement names. Then shows what changes, asks,
    signs those bytes, and hands the signature in.

    The first time it shows the whole fingerprint of the installation behind the gate, and remembers it; when another
    one stands there later, nothing is signed.

    What went out under a standing approval and was chosen to be read afterwards is read by approving it, too.

    If you asked for the release yourself, your signature proves that and approves nothing; it saves one approver.

    Exit codes: 0 handed in and stored; 1 refused (by the checks here, by you, or by the gate), or ended already; 2
    cannot be checked here; 4 the gate cannot be reached.
    """
    page = parse_page_url(url)
    signer = make_signer(key, software_passkey, page.base)
    with Gate(page.base) as gate:
        asked = fetch_statement(gate, page)
        if not is_to_be_read(asked.answer):
            _check_open(asked.answer, _ENDED)
            check_alive(asked.statement)
        _show_statement(asked)
        _show_rules(gate, asked.statement)
        check_installation(page.base, asked.statement.genesis, trust)
        if isinstance(asked.statement.body, ReleaseBody):
            _show_upstream(fetch_upstream(gate, page, asked.statement))
            there = release_page(page, asked.statement)
            asker = fetch_asker(gate, there, asked.statement)
            if asker is not None:
                show_asker(asker, asked.answer)
                show_workflow(asker)
            _show_report(review_release(gate, there, asked.statement.body))
            show_note(asked.answer)
        elif isinstance(asked.statement.body, PlanBody):
            review_plan(gate, page, asked, _show_report, _show_upstream)
        if not yes and not confirm("Sign this?", "--yes"):
            raise click.Abort
        remember_installation(page.base, asked.statement.genesis)
        answer = _hand_in(gate, asked, asked.data, signer)
    _check_open(answer, _ENDED_BADLY)
    _tell_result("approved", answer, page, as_json)


@click.command(
    "veto",
    short_help="End a release or request by one signature.",
    epilog=example(
        "presspass veto https://gate.example/r/4x… --key ~/.ssh/id_ed25519",
        "presspass veto --statement request.json --key ~/.ssh/id_ed25519 --drop /mnt/presspass-drop",
    ),
)
@click.argument("url", required=False)
@click.option(
    "--statement",
    "statement_file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="The statement itself, where the gate cannot be reached (with --drop).",
)
@click.option(
    "--drop",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    help="Past the gate: into this drop box.",
)
@click.option(
    "--reason",
    default="",
    help="Why, for the others; the signature does not cover it.",
)
@signing_options
@yes_option
@format_option
def veto_command(
    url: str | None, statement_file: Path | None, drop: Path | None, reason: str,
    key: Path | None, software_passkey: Path | None, yes: bool, as_json: bool,
) -> None:  # fmt: skip
    """End the release or request at URL for good. One signature of an enrolled person is enough, at once.

    With --drop the veto does not pass the gateway: the press reads the drop box itself. There a veto of a request
    (/q/DIGEST) needs neither the gate nor a key: whoever may write to the drop box may stop things.
    A veto is final: the very same files are not taken again for this version; fixed ones are.

    Exit codes: 0 handed in; 1 refused; 4 the gate cannot be reached (then use --drop).
    """
    if drop is not None and key is None and software_passkey is None:
        _tell_dropped(drop_unsigned_veto(drop, _digest_in(url), reason), as_json)
        return
    if reason and drop is not None:
        raise click.UsageError(
            "A signed veto in the drop box carries no reason; leave out --reason."
        )
    page, asked, gate_base = _veto_target(url, statement_file, drop)
    signer = make_signer(key, software_passkey, gate_base)
    _show_statement(asked)
    if not yes and not confirm("Veto this, for good?", "--yes"):
        raise click.Abort
    against = asked.statement.with_intent(Intent.VETO).to_bytes()
    if drop is not None:
        _tell_dropped(drop_signed(drop, against, signer.sign(against)), as_json)
        return
    with Gate(gate_base) as gate:
        answer = _hand_in(gate, asked, against, signer, reason)
    _tell_result("vetoed", answer, page, as_json)


def _digest_in(url: str | None) -> str:
    page = parse_page_url(url) if url else None
    if page is None or page.kind != "q" or not is_sha256(page.id):
        raise click.UsageError(
            "Without a key, --drop takes the address of a request: https://GATE/q/DIGEST."
        )
    return page.id


def _tell_dropped(path: Path, as_json: bool) -> None:
    emit_json({"dropped": str(path)}) if as_json else say(f"dropped; the press will read {path}")


def _veto_target(
    url: str | None, statement_file: Path | None, drop: Path | None
) -> tuple[PageUrl | None, Asked, str]:
    """What is vetoed, and the base address that a software passkey answers for."""
    if statement_file is not None and drop is not None:
        asked = read_statement_file(statement_file)
        return None, asked, parse_page_url(url).base if url else "http://localhost"
    if url is None or statement_file is not None:
        raise click.UsageError("Give the URL, or --statement together with --drop.")
    page = parse_page_url(url)
    with Gate(page.base) as gate:
        return page, fetch_statement(gate, page), page.base


def _hand_in(
    gate: Gate, asked: Asked, statement: bytes, signer: Signer, reason: str = ""
) -> JsonObject:
    approval = signer.sign(statement)
    note = f"?note={quote(reason, safe='')}" if reason else ""
    path = f"/api/v1/requests/{asked.statement.digest}/approvals{note}"
    return gate.post_json(path, approval.to_bytes())


def _check_open(answer: JsonObject, ended: frozenset[str]) -> None:
    """Refuses, with the state, where no signature leads to anything any more."""
    state = str(answer.get("state") or "")
    if state in ended:
        why = str(answer.get("reason") or answer.get("message") or "").rstrip(".")
        raise Refusal(
            Code.RELEASE_WRONG_STATE,
            f"It has ended: {state}{f' ({safe(why)})' if why else ''}. Nothing is signed for it any more.",
            str(answer.get("hint") or ""),
        )


def _tell_result(done: str, answer: JsonObject, page: PageUrl | None, as_json: bool) -> None:
    if as_json:
        emit_json(answer)
        return
    if done == "approved" and isinstance(answer.get("releases"), list):
        releases = answer["releases"]
        enough = sum(one["counted"] >= one["needed"] for one in releases)
        say(f"approved; {enough} of {len(releases)} releases have what they need")
        if page is not None:
            note(f"presspass status {safe(page.url)}")
        return
    tally = answer.get("tally") or {}
    counted, needed = tally.get("counted"), tally.get("needed")
    given = len(counted) if isinstance(counted, list) else 0
    missing = max(0, needed - given) if isinstance(needed, int) else 0
    more = f"{missing} more must approve" if missing else "enough have approved"
    if done == "vetoed":
        say("vetoed; the press ends it when it sees that")
    elif answer.get("role") == "requester":
        say(f"you asked for this release: your signature proves that and approves nothing; {more}")
    else:
        say(f"approved; {given} given, {more}")
    if page is not None:
        note(f"presspass wait {safe(page.base)}/{page.kind}/{safe(page.id)}")


# what people see


def _show_statement(asked: Asked) -> None:
    statement, answer = asked.statement, asked.answer
    say(f"{statement.kind.value} request {statement.digest}", bold=True)
    expires = datetime.fromtimestamp(statement.expires_at, UTC).strftime("%Y-%m-%d %H:%M UTC")
    say(
        f"  installation {grouped(statement.genesis[:16])}…, space {safe(statement.space)}, expires {expires}"
    )
    _show_body(asked, statement.body)
    if answer.get("state"):
        remark = answer.get("message") or answer.get("reason") or ""
        say(f"  the gate says: {safe(answer['state'])} {safe(remark)}".rstrip())


def is_to_be_read(answer: JsonObject) -> bool:
    """Whether it went out and waits to be read. The gate's word: the press lets nothing out by such a signature."""
    standing = answer.get("standing")
    return isinstance(standing, dict) and standing.get("to_be_read") is True


def _show_body(asked: Asked, body: Body) -> None:
    match body:
        case ReleaseBody():
            _show_release(body)
        case UpstreamBody():
            _show_upstream(body)
        case RosterBody():
            _show_roster(asked, body)
        case PolicyBody():
            _show_policy(body)
        case FreezeBody():
            _show_freeze(body)
        case OriginBody():
            _show_origin(asked, body)
        case PublisherBody() | DelegationBody() | StandingBody():
            _show_named(body)
        case LogBody():
            _show_log(body)
        case PlanBody():
            say(
                f"  {len(body.releases)} releases at once, each decided by itself; order: {body.order}"
            )
        case SignerBody():
            say("  attestations are signed by this key from then on:")
            say(f"    signs by     {body.scheme}")
            say(f"    fingerprint  {grouped(sha256_hex(body.public_key))}")
            say("    LOOK TWICE: compare it with whoever keeps the key", fg="yellow")
        case BundleBody():
            say(f"  {len(body.members)} changes at once; one signature is for all of them:")
            _show_publishers(asked)
            for member in body.members:
                if not isinstance(member.body, PublisherBody):
                    _show_body(asked, member.body)
        case _:
            raise Refusal(Code.REQUEST_UNSUPPORTED, "This kind of statement cannot be shown here.")


def _show_log(body: LogBody) -> None:
    say(f"  the log {safe(body.origin)} is signed by this key from then on:")
    say(f"    key          {grouped(body.key)}")
    for name, value in body.recovery.to_json().items() if body.recovery else ():
        say(f"    {name:12} {safe(value)}")
    for odd in odd_about(None, body):
        say(f"    LOOK TWICE: {odd}", fg="yellow")


def _show_publishers(asked: Asked) -> None:
    """The publishers of a bundle, whole, those that are bound alike together; what is unusual first."""
    moves = [one for one in effects(asked.statement) if one.kind is Kind.PUBLISHER]
    for line in all_lines(changes_of(lambda _kind, _name: None, moves)):
        unusual = line.lstrip().startswith("LOOK TWICE")
        say(safe(line), fg="yellow" if unusual else None)


def _show_named(body: PublisherBody | DelegationBody | StandingBody) -> None:
    """A publisher, delegation or standing approval, whole: what the gate says of the one in force is not asked."""
    kind, name = subject(body)
    gone = "" if body.projects else "  (retired: it may ask for nothing any more)"
    say(f"  {kind.value} {safe(name)}{gone}")
    for odd in odd_about(None, body):
        say(f"    LOOK TWICE: {odd}", fg="yellow")
    for member, value in body.to_json().items():
        if value not in ("", [], False, name):
            say(f"    {member:19} {safe(value_text(value))}")


def _show_release(body: ReleaseBody) -> None:
    say(f"  publish {safe(body.project)} {safe(body.version)}")
    say(f"  asked by {safe(body.requester) or 'nobody that could be resolved to a person'}")
    table(
        ("file", "size", "sha256"),
        [(one.name, size_text(one.size), one.sha256) for one in body.files],
    )


def _show_upstream(body: UpstreamBody) -> None:
    say(f"  upstream {safe(body.name)} ({body.protocol}, {body.mode})")
    say(f"  upload to    {safe(body.upload_url)}")
    say(f"  read back at {safe(body.index_url)}")
    say(f"  as user      {safe(body.username) or '(none)'}")


def _show_roster(asked: Asked, body: RosterBody) -> None:
    _show_roster_changes(asked, body.roster)
    say(
        "  the whole roster after the change"
        + (", asked for with the recovery key:" if body.recovery else ":")
    )
    _show_whole_roster(asked, body.roster)


def _show_origin(asked: Asked, body: OriginBody) -> None:
    say(f"  THIS GATE MOVES to {safe(body.origin)} (keys for {safe(body.rp_id)})", bold=True)
    say("  Passkeys work at one address only: whoever has no key there cannot sign any more.")
    _show_roster_changes(asked, body.roster)
    say("  the whole roster at the new address:")
    _show_whole_roster(asked, body.roster)


def _show_whole_roster(asked: Asked, roster: Roster) -> None:
    names = _names(asked.answer)
    for person in roster.people:
        name = names.get(
            person.details, "(name not told, or not the one that the roster commits to)"
        )
        say(f"  {safe(person.id)}  {safe(name)}  {', '.join(map(safe, person.groups))}".rstrip())
        for key in person.keys:
            say(f"    {key.kind:17} {grouped(key.id)}")


def _show_roster_changes(asked: Asked, after: Roster) -> None:
    """Who comes and goes, against the roster that the gate says is in force. The whole roster follows; that counts."""
    told = asked.answer.get("roster_now")
    if not isinstance(told, dict):
        return
    before, names = Roster.from_json(told), _names(asked.answer)
    changes = [("+", after, key) for key in after.all_keys() if before.key(key.id) is None]
    changes += [("-", before, key) for key in before.all_keys() if after.key(key.id) is None]
    say("  compared with the roster in force, as the gate tells it:")
    for sign, roster, key in changes:
        person = roster.owner(key.id)
        name = names.get(person.details, "") if person else ""
        colour = "green" if sign == "+" else "red"
        say(
            f"    {sign} {key.kind:17} {grouped(key.id)}  {safe(person.id if person else '')} {safe(name)}".rstrip(),
            fg=colour,
        )
    if not changes:
        say("    no key comes or goes")


def _names(answer: JsonObject) -> dict[str, str]:
    """Names by commitment, as far as the gate told them and they are the ones that were committed to."""
    found = {}
    for value in (answer.get("details") or {}).values():
        details = Details.from_json(value)
        found[details.commitment] = details.name
    return found


def _show_policy(body: PolicyBody) -> None:
    say("  the whole policy after the change:")
    for name, value in body.policy.to_json().items():
        say(f"    {name} = {value}")


def _show_rules(gate: Gate, statement: Statement) -> None:
    """The rules that come into force with the statement, by their digest; refuses where the gate sends others."""
    policies = [one.body.policy for one in effects(statement) if isinstance(one.body, PolicyBody)]
    for digest in (policy.rules for policy in policies if policy.rules is not None):
        data = gate.get_bytes(f"/api/v1/rules/{digest}", bytes_max=RULES_BYTES_MAX)
        if sha256_hex(data) != digest:
            text = "The gate sent other rules than the statement names."
            raise Refusal(Code.POLICY_RULES_MISSING, text, "Do not sign what you have not read.")
        value = parse_canonical(data, bytes_max=RULES_BYTES_MAX, what="rule document")
        say("  the rules, which are asked beyond the quorum:")
        show_lines(str(value.get("base")).splitlines(), _DIFF_LINES_SHOWN, "    ")
        for name, what in (("packages", "rules of their own"), ("tiers", "a tier")):
            named = ", ".join(sorted(value.get(name) or {})) or "none"
            say(f"    packages with {what}: {safe(named)}")
        say(f"    all of it: {gate.base}/api/v1/rules/{digest}")


def _show_freeze(body: FreezeBody) -> None:
    if body.action == "set":
        say(f"  publish nothing of {safe(body.project) or 'any project'}: {safe(body.reason)}")
    else:
        say(
            f"  END these narrowings, so that publishing goes on: {', '.join(map(safe, body.narrowings))}"
        )
        say(f"  {safe(body.reason)}")


def _show_report(report: Report) -> None:
    say()
    compared = (
        f"against {safe(report.baseline_version)}"
        if report.baseline_version
        else "a first release, nothing to compare"
    )
    say(f"inspected here: {compared}; the report is the one in the request", bold=True)
    for one in report.findings:
        evidence = f"  [{safe(one.evidence)}]" if one.evidence else ""
        say(
            f"  {one.severity.value.upper():8} {one.rule}: {safe(one.message)} {safe(one.path)}{evidence}",
            fg=_COLOUR.get(one.severity),
        )
    if not report.findings:
        say("  no findings")
    left = _DIFF_LINES_SHOWN
    for artifact in report.artifacts:
        say(
            f"  {safe(artifact.name)}: {len(artifact.entries)} files, {len(artifact.changes)} changes"
        )
        for change in artifact.changes:
            left = _show_change(change, left)


def _show_change(change: Change, lines_left: int) -> int:
    size = f" ({size_text(change.new.size)})" if change.new else ""
    say(f"    {change.kind.value:8} {safe(change.path)}{size}")
    if change.diff is None:
        return lines_left
    shown = show_lines(change.diff, lines_left, indent="      ")
    cut = len(change.diff) - shown
    if cut or change.diff_cut:
        say(f"      … {cut or 'more'} lines not shown here; the page of the release shows them")
    return lines_left - shown
