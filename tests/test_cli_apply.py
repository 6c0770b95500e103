"""`presspass apply` and `export`: a file says what is in force, and one signature of each approver makes it so."""

from __future__ import annotations

import os
import re
import subprocess
import textwrap
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import core_values as values
from cli_rig import Rig, running
from core_values import law
from presspass.cli.apply import _statement as bundle_of
from presspass.cli.apply import _text as file_text
from presspass.cli.declared import Wanted, read_wanted
from presspass.cli.planning import InForce, exported, plan
from presspass.cli.press_room import Enrolled
from presspass.cli.yaml_file import dump, parse
from presspass.core.errors import Code, Refusal
from presspass.core.limits import APPLY_FILE_BYTES_MAX, MEMBERS_PER_BUNDLE_MAX
from presspass.core.policy import Policy
from presspass.core.publisher import PublisherBody
from presspass.core.roster import Details, Person, Roster
from presspass.core.statement import (
    BundleBody,
    ChainedBody,
    Intent,
    Kind,
    Member,
    RosterBody,
    Statement,
    UpstreamBody,
    subject,
)
from presspass.drill.packages import make_wheel
from presspass.drill.world.keys import SoftwarePasskey
from presspass.verify.chain import Chain

DOCS = Path(__file__).resolve().parent.parent / "docs"
SALT = "5" * 32


# --- any state, written and read back -----------------------------------------------------------------------------

details = st.builds(
    Details,
    name=values.texts,
    addresses=st.lists(values.texts, max_size=2).map(tuple),
    forge_ids=st.lists(values.texts, max_size=2).map(tuple),
    salt=values.nonces,
)


@st.composite
def installations(draw: st.DrawFn) -> InForce:
    """A state with people (some of one name, some forgotten), a policy, and many named things, in order of nothing."""
    opened: dict[str, Details] = {}
    people = []
    for person in draw(values.rosters()).people:
        known = draw(st.none() | details | st.sampled_from(list(opened.values()) or [None]))
        if known is not None:
            opened[known.commitment] = known
            person = replace(person, details=known.commitment)
        people.append(person)
    genesis = draw(values.statements(Kind.GENESIS))
    body = replace(genesis.body, roster=Roster(tuple(people)), policy=draw(values.policies))
    chain = Chain.begin(replace(genesis, body=body))
    named = st.one_of(values.upstream_bodies, values.publisher_bodies(), values.delegation_bodies())
    alike = draw(values.publisher_bodies())
    for number in range(draw(st.integers(0, 4))):
        project = f"project{number}"
        one = replace(
            alike, name=f"{project}-ci", projects=(project,), repository=f"a/{project}{{}}"
        )
        take(chain, one)
    for found in draw(st.lists(named, max_size=6, unique_by=subject)):
        take(chain, found)
    return InForce(chain, opened)


def take(chain: Chain, *bodies: ChainedBody) -> None:
    """Puts these in force, as a bundle would."""
    members = tuple(Member(body, chain.head(*subject(body))) for body in bodies)
    genesis = chain.genesis
    made = replace(
        genesis,
        genesis=genesis.digest,
        body=BundleBody(members),
        heads=chain.heads,
        intent=Intent.APPROVE,
    )
    chain.move_head(Statement.from_bytes(made.to_bytes()))


def wanted(text: str) -> Wanted:
    return read_wanted(text, "presspass.yaml")


@law
@given(installations())
def test_what_is_exported_and_applied_again_is_nothing_to_do(now: InForce) -> None:
    found = plan(wanted(exported(now)), now, lambda: SALT)
    assert found.bodies == () and found.nothing


@law
@given(installations(), st.data())
def test_an_export_applied_to_a_fresh_gate_gives_the_same(
    now: InForce, data: st.DataObject
) -> None:
    # Rules from before the wait of new keys cannot be made again: a file that names no wait keeps what is in force.
    assume(now.chain.policy.key_wait_s is not None)
    text = exported(now)
    genesis = now.chain.genesis
    body = replace(genesis.body, policy=data.draw(values.policies))
    fresh = InForce(Chain.begin(replace(genesis, body=body)), now.details)
    missing = {one.upstream for one in now.publishers()} - set(now.chain.upstreams)
    for name in sorted(missing):  # a publisher of a registry that there is not is not taken
        take(
            fresh.chain,
            UpstreamBody(name, "pypi", "https://h/", "https://h/", "", "custody", "0" * 64),
        )
        take(now.chain, fresh.chain.upstreams[name][1])
    names = {one.name for one in now.publishers()}
    ids = {one.id for one in now.chain.roster.people}
    for one in now.delegations():  # nor one of a publisher or person that there is not
        if one.publisher not in names or one.person not in ids:
            take(now.chain, replace(one, projects=()))
    text = exported(now)
    found = plan(wanted(text), fresh, lambda: SALT)
    if found.bodies:
        take(fresh.chain, *found.bodies)
    assert exported(fresh) == text
    assert plan(wanted(text), fresh, lambda: SALT).nothing


@law
@given(values.json_values.filter(lambda value: isinstance(value, str | dict | list)))
def test_what_is_written_as_yaml_is_read_back_as_its_texts(value: object) -> None:
    def as_text(one: object) -> object:
        if isinstance(one, dict):
            return {name: as_text(inner) for name, inner in one.items()}
        if isinstance(one, list):
            return [as_text(inner) for inner in one]
        return one

    def content(one: object) -> object:
        found = one.content  # type: ignore[attr-defined]  # a Value
        if isinstance(found, dict):
            return {name: content(inner) for name, inner in found.items()}
        return [content(inner) for inner in found] if isinstance(found, list) else found

    def texts_only(one: object) -> object:
        if isinstance(one, dict):
            return {name: texts_only(inner) for name, inner in one.items()}
        return [texts_only(inner) for inner in one] if isinstance(one, list) else str(one)

    strings = texts_only(as_text(value))
    assert content(parse(dump({"x": strings}), "f")) == {"x": strings}


# --- what is refused ----------------------------------------------------------------------------------------------

HEAD = """\
groups: [approvers]
people:
- name: Ada
  groups: [approvers]
"""
PUBLISHER = """\
publishers:
- project: greet
  upstream: main
  issuer: https://issuer.example
  provider: github
  ids: {repository_id: "1001", repository_owner_id: "501"}
  workflow: release.yml
  workflow_sha256: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa
  events: [push]
  refs: ["refs/tags/v*"]
"""


@pytest.mark.parametrize(
    ("text", "line", "says", "hint"),
    [
        ("peple: []\n", 1, "has no 'peple'", "'people'"),
        ("people:\n- name: Ada\n- nam: Ben\n", 3, "has no 'nam'", "'name'"),
        ("people: []\npeople: []\n", 2, "'people' stands here twice", ""),
        (HEAD + "  addreses: []\n", 5, "has no 'addreses'", "'addresses'"),
        (HEAD + "- name: Ben\n  groups: [aprovers]\n", 6, "no group 'aprovers'", "'approvers'"),
        ("people:\n- groups: []\n", 2, "neither a name nor an id", ""),
        ("people: Ada\n", 1, "is a list", ""),
        ("tiers:\n  default: {}\n  critical:\n    approvals: 3\n", 4, "no tier 'critical'", "default"),
        ("tiers:\n  default:\n    approvls: 2\n", 3, "has no 'approvls'", "'approvals'"),
        ("tiers:\n  default:\n    approvals: two\n", 3, "whole number", ""),
        ("tiers:\n  default:\n    approvals: 0\n", 3, "'approvals'", ""),
        ("tiers:\n  default:\n    veto_window: soon\n", 3, "no duration", ""),
        ("tiers:\n  default:\n    holidays: [2026-13-01 UTC]\n", 3, "a day that there is", ""),
        ("tiers:\n  default:\n    software_keys: yes\n", 3, "'yes'", "true"),
        ("presspass: 2\n", 1, "format of the file '2'", "1"),
        ("a: [\n", 2, "no YAML", ""),
        ("a: 1\n---\nb: 2\n", 2, "second document", ""),
        ("people: &all []\npublishers: *all\n", 1, "Anchors", "defaults"),
        ("people: !!python/object:os.system []\n", 1, "tag", ""),
        (PUBLISHER + "  self_hostd: true\n", 11, "has no 'self_hostd'", "'self_hosted'"),
        (PUBLISHER.replace("github", "githb"), 5, "no provider 'githb'", "'github'"),
        (PUBLISHER.replace("repository_id", "repo_id"), 2, "no id 'repo_id'", "'repository_id'"),
        (PUBLISHER.replace("[push]", "[pull_request]"), 2, "allows the event pull_request", ""),
        (PUBLISHER.replace("project: greet", "name: greet"), 2, "one `project`", ""),
        (PUBLISHER.replace("  issuer: https://issuer.example\n", ""), 2, "lacks 'issuer'", "defaults"),
        (PUBLISHER + PUBLISHER.partition("\n")[2], 11, "'greet' stands there twice", ""),
        (PUBLISHER.replace("project: greet", "projects: [a, b]"), 2, "several", ""),
        ("defaults:\n  publisher: {}\n", 2, "has no 'publisher'", "'publishers'"),
        ("upstreams:\n  main:\n    upload_url: ftp://x\n    index_url: https://x/\n", 3, "not https", ""),
        ("delegations:\n- name: bot\n", 2, "lacks", ""),
    ],
)  # fmt: skip
def test_a_file_that_is_wrong_is_refused_with_line_and_nearest_name(
    text: str, line: int, says: str, hint: str
) -> None:
    with pytest.raises(Refusal) as refused:
        wanted(text)
    assert refused.value.code is Code.REQUEST_MALFORMED
    assert f"presspass.yaml, line {line}: " in refused.value.message
    assert says in refused.value.message
    assert hint in refused.value.hint


@pytest.mark.parametrize(
    "text", ["[" * 20_000, "{a: " * 20_000, "- " * 2_000_000, "\x00", "x: \ud800"]
)
def test_a_file_that_is_no_sensible_yaml_is_refused_and_crashes_nothing(text: str) -> None:
    with pytest.raises(Refusal) as refused:
        wanted(text.encode("utf-8", "replace").decode())
    assert refused.value.code is Code.REQUEST_MALFORMED


@pytest.mark.parametrize(
    ("data", "says"),
    [(b"people: \xff", "is not UTF-8"), (b"#" * (APPLY_FILE_BYTES_MAX + 1), "has more than")],
)
def test_a_file_of_other_bytes_or_of_too_many_is_refused(
    tmp_path: Path, data: bytes, says: str
) -> None:
    file = tmp_path / "presspass.yaml"
    file.write_bytes(data)
    with pytest.raises(Refusal) as refused:
        file_text(file)
    assert refused.value.code is Code.REQUEST_MALFORMED and says in refused.value.message


def test_more_than_one_statement_holds_is_refused_with_what_to_do() -> None:
    now = state("Ada", "Ben")
    body = UpstreamBody("main", "pypi", "https://h/", "https://h/", "", "custody", "0" * 64)
    take(now.chain, body)
    long = fleet(1000).replace("acme/{project}\n", f"{'acme/' * 200}{{project}}\n")
    bodies = plan(wanted(long), now, lambda: SALT).bodies
    assert len(bodies) == MEMBERS_PER_BUNDLE_MAX == 1000
    with pytest.raises(Refusal) as refused:
        bundle_of(now, bodies)
    assert "more than one statement holds" in refused.value.message
    assert "part of the file" in refused.value.hint
    assert bundle_of(now, plan(wanted(fleet(1000)), now, lambda: SALT).bodies).digest


def person(name: str, number: int) -> tuple[Person, Details]:
    known = Details(name, (f"mailto:{name.lower()}@team.example",), (), f"{number:032x}")
    key = SoftwarePasskey.generate(number).key
    return Person(f"p-{number}", known.commitment, ("approvers",), (key,)), known


def state(*names: str, policy: Policy | None = None) -> InForce:
    """A sealed gate with these people."""
    people = [person(name, number) for number, name in enumerate(names, 1)]
    roster = Roster(tuple(one for one, _known in people))
    genesis = _genesis(roster, policy or Policy())
    return InForce(Chain.begin(genesis), {known.commitment: known for _one, known in people})


def _genesis(roster: Roster, policy: Policy) -> Statement:
    from docs_examples import genesis

    made = genesis()
    return replace(made, body=replace(made.body, roster=roster, policy=policy))  # type: ignore[type-var]  # genesis


def refused(text: str, now: InForce) -> Refusal:
    with pytest.raises(Refusal) as found:
        plan(wanted(text), now, lambda: SALT)
    return found.value


def test_what_does_not_fit_what_is_in_force_is_refused() -> None:
    now = state("Ada", "Ada", "Ben")
    assert "Several people are called 'Ada'" in refused(HEAD, now).message
    known = state("Ada", "Ben")
    assert "stands there twice; see line 3" in refused(HEAD + "- name: Ada\n", known).message
    away = refused(PUBLISHER, known)
    assert "an upstream 'main' that there is not" in away.message
    take(
        known.chain,
        UpstreamBody("main", "pypi", "https://h/", "https://h/", "", "custody", "0" * 64),
    )
    assert len(plan(wanted(PUBLISHER), known, lambda: SALT).bodies) == 1
    assert "cannot be taken away" in refused("upstreams: {}\n", known).message
    bot = """\
        delegations:
        - {name: bot, publisher: gret, person: Bn, projects: [greet], version_kinds: [patch], count: 3,
           from: 2026-01-01T00:00:00Z, until: 2027-01-01T00:00:00Z}
        """
    nobody = refused(PUBLISHER + textwrap.dedent(bot), known)
    assert "Nobody in the roster is called 'Bn'" in nobody.message and "'Ben'" in nobody.hint
    nothing = refused(PUBLISHER + textwrap.dedent(bot).replace("Bn", "Ben"), known)
    assert "names a publisher that there is not" in nothing.message and "'greet'" in nothing.hint
    many = "\n".join(f"- project: p{n}" for n in range(MEMBERS_PER_BUNDLE_MAX + 1))
    defaults = PUBLISHER.replace(
        "publishers:\n- project: greet\n", "defaults:\n publishers:\n"
    ).replace("\n  ", "\n   ")
    assert (
        "more than one bundle holds" in refused(f"{defaults}publishers:\n{many}\n", known).message
    )


def test_a_section_that_is_missing_stays_and_one_that_is_there_is_whole() -> None:
    now = state("Ada", "Ben")
    take(
        now.chain, UpstreamBody("main", "pypi", "https://h/", "https://h/", "", "custody", "0" * 64)
    )
    take(now.chain, *plan(wanted(PUBLISHER), now, lambda: SALT).bodies)
    assert plan(wanted(""), now, lambda: SALT).nothing
    assert plan(wanted("tiers:\n  default: {}\n"), now, lambda: SALT).nothing
    [gone] = plan(wanted("publishers: []\n"), now, lambda: SALT).bodies
    assert isinstance(gone, PublisherBody) and (gone.name, gone.projects) == ("greet", ())
    assert replace(gone, projects=("greet",)) == now.chain.publishers["greet"][1]
    take(now.chain, gone)
    assert plan(wanted("publishers: []\n"), now, lambda: SALT).nothing
    assert "publishers: []" in exported(now)


def test_people_come_and_go_by_name_and_bring_no_keys() -> None:
    now = state("Ada", "Ben")
    text = """\
        groups: [release]
        people:
        - name: Ada
          addresses: [mailto:ada@team.example]
          forge_ids: [github:7]
          groups: [release]
        - name: Cleo
        """
    found = plan(wanted(textwrap.dedent(text)), now, lambda: SALT)
    [body] = found.bodies
    assert isinstance(body, RosterBody)
    [ada] = body.roster.people
    new = Details("Ada", ("mailto:ada@team.example",), ("github:7",), SALT)
    assert (ada.id, ada.groups, ada.details) == ("p-1", ("release",), new.commitment)
    assert ada.keys == now.chain.roster.people[0].keys
    assert found.details == (new,)
    assert [one.name for one in found.invited] == ["Cleo"]
    key = SoftwarePasskey.generate(9).key
    enrolled = Enrolled("p-9", "e" * 64, (), key, "Cleo")
    later = plan(wanted(textwrap.dedent(text)), replace(now, waiting=(enrolled,)), lambda: SALT)
    [body] = later.bodies
    assert isinstance(body, RosterBody) and later.invited == ()
    assert [(one.id, one.keys) for one in body.roster.people][1] == ("p-9", (key,))


def test_three_hundred_publishers_are_a_line_or_three_each() -> None:
    now = state("Ada", "Ben")
    take(
        now.chain, UpstreamBody("main", "pypi", "https://h/", "https://h/", "", "custody", "0" * 64)
    )
    take(now.chain, *plan(wanted(fleet(300)), now, lambda: SALT).bodies)
    text = exported(now)
    assert len(now.publishers()) == 300
    assert len(text.splitlines()) < 300 * 4 + 60
    assert text.count("workflow: ") == 1 and text.count("self_hosted: true") == 1
    assert plan(wanted(text), now, lambda: SALT).nothing


def fleet(count: int, upstream: str = "main") -> str:
    """So many publishers, one of which is odd."""
    lines = [
        "defaults:",
        "  publishers:",
        f"    upstream: {upstream}",
        "    name: '{project}-ci'",
        "    issuer: https://issuer.example",
        "    provider: github",
        "    repository: acme/{project}",
        "    repository_url: https://forge.example/acme/{project}.git",
        "    workflow: .github/workflows/release.yml",
        f"    workflow_sha256: {'a' * 64}",
        "    refs: [refs/tags/v*]",
        "    events: [push]",
        "    environment: release",
        "    ids: {repository_owner_id: 501}",
        "publishers:",
    ]
    for number in range(count):
        lines += [f"- project: project-{number:03}", f"  ids: {{repository_id: {1000 + number}}}"]
    lines.append("  self_hosted: true")
    return "\n".join(lines) + "\n"


# --- at a real gate -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def gate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """A sealed gate of Ada and Grace."""
    with running(tmp_path_factory.mktemp("apply")) as rig:
        rig.seal()
        (rig.folder / "token").write_text("pypi-secret\n")
        yield rig


def example() -> str:
    page = (DOCS / "apply.md").read_text()
    return re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)[0]


def apply(rig: Rig, text: str, *more: object, code: int = 0) -> str:
    file = rig.folder / "presspass.yaml"
    file.write_text(text)
    return rig.run("apply", file, *more, code=code)


def test_the_example_of_the_page_is_applied_by_one_touch_of_each_approver(gate: Rig) -> None:
    text = example()
    shown = apply(gate, text, "--dry-run", code=2)
    assert "upstream main" in shown and "Carol has no key yet" in shown
    file = gate.folder / "presspass.yaml"
    secret = f"main={gate.folder / 'token'}"
    asked = gate.ask("apply", file, "--yes", "--secret-file", secret)
    assert [one["name"] for one in asked["links"]] == ["Carol"]
    gate.approve(asked["url"], "ada", "grace")
    gate.run("wait", asked["url"], "--timeout", "30s")
    assert list(gate.ask("upstream", "list")) == ["main"]
    carol = gate.folder / "carol.json"
    gate.run("enrol", asked["links"][0]["url"], "--software-passkey", carol)
    joined = gate.ask("apply", file, "--yes")
    assert [one["what"] for one in joined["changes"]] == ["person", "key"]
    gate.approve(joined["url"], "ada", "grace")
    gate.run("wait", joined["url"], "--timeout", "30s")
    assert "Nothing to do" in apply(gate, text)
    written = gate.run("export")
    assert "Nothing to do" in apply(gate, written, "--dry-run")
    assert "name: Carol" in written and "credential" not in written


def test_a_release_to_a_registry_out_of_a_bundle_is_approved_at_a_terminal(
    gate: Rig, tmp_path: Path
) -> None:
    assert "main" in gate.ask("upstream", "list"), "the example of the page was applied before"
    where = ("--project", "greet", "--upstream", "main", "--person", "Ada")
    token = gate.ask("token", "create", *where)["token"]
    wheel = make_wheel(tmp_path, "greet", "1.0")
    url = f"{gate.origin}/pypi/main/"
    page = gate.run("submit", wheel, "--url", url, PRESSPASS_TOKEN=token).strip()
    shown = gate.run("approve", page, *gate.key("grace"), "--yes")
    assert "upload to    https://index.example/legacy/" in shown
    gate.run("veto", page, *gate.key("ada"), "--yes")


def test_a_fleet_is_applied_retired_and_applied_again(gate: Rig) -> None:
    begun = time.monotonic()
    asked = gate.ask("apply", _file(gate, fleet(300, "main")), "--yes", code=0)
    took = time.monotonic() - begun
    assert len(asked["changes"]) >= 300
    again = gate.ask("apply", _file(gate, fleet(300, "main")), "--yes")
    assert again["url"] == asked["url"], "the same is asked for once"
    shown = gate.run("approve", asked["url"], *gate.key("ada"), "--yes")
    assert shown.index("LOOK TWICE") < shown.index("299 publishers, alike in:")
    assert all(f"project-{number:03}-ci" in shown for number in range(300))
    gate.approve(asked["url"], "grace")
    gate.run("wait", asked["url"], "--timeout", "60s")
    print(
        f"apply with 300 publishers: {took:.1f} s, in force after {time.monotonic() - begun:.1f} s"
    )
    assert took < 60
    assert "Nothing to do" in apply(gate, fleet(300, "main"))
    gone = gate.ask("apply", _file(gate, fleet(10, "main")), "--yes")
    removed = [one for one in gone["changes"] if one["sign"] == "removed"]
    assert len(removed) == 290
    gate.run("veto", gone["url"], *gate.key("grace"), "--yes")
    gate.run("wait", gone["url"], "--timeout", "30s", code=1)
    assert "Nothing to do" in apply(gate, fleet(300, "main"))


def _file(rig: Rig, text: str) -> Path:
    file = rig.folder / "fleet.yaml"
    file.write_text(text)
    return file


def test_nobody_is_asked_where_too_few_would_be_left_or_nobody_is_there_to_answer(
    gate: Rig,
) -> None:
    text = "people:\n- name: Ada\n"
    assert "NOTHING CAN BE APPROVED" in _stderr(gate, text, 1)
    assert "no terminal" in _stderr(gate, "tiers:\n  default:\n    approvals: 2\n", 2, yes=False)


def _stderr(rig: Rig, text: str, code: int, *, yes: bool = True) -> str:
    command = [*rig.command, "apply", str(_file(rig, text)), *(("--yes",) if yes else ())]
    environment = {**os.environ, **rig.environment, "PRESSPASS_HOME": str(rig.home)}
    done = subprocess.run(
        command, env=environment, input="", text=True, capture_output=True, check=False
    )
    assert done.returncode == code, done.stderr
    return done.stderr


def test_rules_beside_the_file_are_checked_read_by_who_signs_and_come_into_force(gate: Rig) -> None:
    text = "tiers:\n  default:\n    rules: own-rules\n"
    folder = gate.folder / "own-rules"
    (folder / "packages").mkdir(parents=True)
    quorum = gate.run("policy", "show", "--profile", "team")
    (folder / "base.cedar").write_text(quorum)
    for wrong, code in (("context.aprovals > 1", "policy.invalid"), ("true", "policy.locks-out")):
        rule = f'\n@id("x") forbid (principal, action == Action::"publish", resource) when {{ {wrong} }};'
        (folder / "base.cedar").write_text(quorum + rule)
        assert code in _stderr(gate, text, 1)
    (folder / "base.cedar").write_text(quorum)
    (folder / "packages" / "greet.cedar").write_text(
        '@id("greet-is-read-twice") forbid (principal, action == Action::"publish", resource)\n'
        "unless { context.approvals >= 2 };\n"
    )
    asked = gate.ask("apply", _file(gate, text), "--yes")
    shown = gate.run("approve", asked["url"], *gate.key("ada"), "--yes")
    assert '@id("high-findings")' in shown and "rules of their own: greet" in shown
    gate.approve(asked["url"], "grace")
    gate.run("wait", asked["url"], "--timeout", "30s")
    assert "greet-is-read-twice" in gate.run("policy", "show", "--package", "Greet")
    assert "Nothing to do" in apply(gate, gate.run("export"))
    digest = gate.ask("policy", "check", folder)["digest"]
    assert f"rules: {digest}" in gate.run("export")
