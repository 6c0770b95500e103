"""A home: made once, checked by `doctor`, copied by `backup`, and frozen when it comes back from one."""

from __future__ import annotations

import io
import json
import os
import shutil
import sqlite3
import stat
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from presspass.cli import exits
from presspass.cli.main import run
from presspass.core.errors import Refusal
from presspass.core.ledger.note import COSIGNATURE, VerifierKey
from presspass.core.roster import Roster
from presspass.core.statement import GenesisBody, Statement
from presspass.drill.world.keys import SoftwarePasskey
from presspass.services.config import (
    Config,
    Listen,
    Mail,
    PressSettings,
    WitnessSettings,
    Zones,
    check_origin,
    parse_config,
    read_config,
    write_config,
)
from presspass.services.layout import FOLDERS


def init(home: Path, *more: str) -> int:
    people = ["--person", "Ada:mailto:ada@team.example", "--person", "Grace"]
    return run(["init", "--url", "http://localhost:8460", *people, "--home", str(home), *more])


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("template") / "home"
    assert init(home, "--software-keys") == exits.DONE
    return home


@pytest.fixture
def home(template: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(template, tmp_path / "home"))


def doctor(home: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, list[dict[str, str]]]:
    capsys.readouterr()
    code = run(["doctor", "--home", str(home), "--format", "json"])
    return code, json.loads(capsys.readouterr().out)


# init


def test_a_new_home_is_closed_to_others_and_its_parts_are_there(home: Path) -> None:
    for name in ("", *FOLDERS):
        assert stat.S_IMODE((home / name).stat().st_mode) == 0o700, name
    for key in (home / "press" / "keys").iterdir():
        assert key.is_dir() or stat.S_IMODE(key.stat().st_mode) == 0o600


def test_a_home_is_never_made_twice(home: Path) -> None:
    before = (home / "press" / "keys" / "log.key").read_bytes()
    assert init(home) == exits.REFUSED
    assert (home / "press" / "keys" / "log.key").read_bytes() == before


def test_each_person_gets_one_link_and_the_recovery_key_is_shown_once_and_stored_nowhere(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert init(tmp_path / "home", "--format", "json") == exits.DONE
    told: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert [link["name"] for link in told["links"]] == ["Ada", "Grace"]
    secrets = [
        told["recovery_key"].removeprefix("presspass-recovery-"),
        *(x["url"].split("#")[1] for x in told["links"]),
    ]
    stored = b"".join(
        path.read_bytes() for path in (tmp_path / "home").rglob("*") if path.is_file()
    )
    for secret in secrets:
        assert len(secret) >= 43
        assert secret.encode() not in stored


def test_solo_is_one_person_with_two_links(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["init", "--url", "http://localhost:8460", "--profile", "solo", "--person", "Ada"]
    assert run([*arguments, "--home", str(tmp_path / "home"), "--format", "json"]) == exits.DONE
    assert [link["name"] for link in json.loads(capsys.readouterr().out)["links"]] == ["Ada", "Ada"]
    rows = sqlite3.connect(tmp_path / "home" / "gateway" / "gateway.db").execute(
        "SELECT person FROM enrolment_link"
    )
    assert len({person for (person,) in rows}) == 1


@pytest.mark.parametrize(
    "people",
    [["Ada"], ["Ada", "Ada"], ["Ada", "Grace", "--profile", "solo"]],
    ids=["alone", "same name", "two in solo"],
)
def test_too_few_or_unclear_people_make_no_home(tmp_path: Path, people: list[str]) -> None:
    named = [
        part
        for person in people
        for part in ([person] if person in ("--profile", "solo") else ["--person", person])
    ]
    assert run(
        ["init", "--url", "http://localhost:8460", *named, "--home", str(tmp_path / "home")]
    ) in (
        exits.REFUSED,
        exits.CANNOT_SAY,
    )
    assert not (tmp_path / "home").exists()


@pytest.mark.parametrize(
    ("url", "more", "port"),
    [
        ("http://localhost:9123", (), 9123),
        ("http://localhost:9123", ("--port", "9200"), 9200),
        ("https://gate.example:9123", (), 8460),
    ],
)
def test_the_port_is_that_of_a_local_address(
    tmp_path: Path, url: str, more: tuple[str, ...], port: int
) -> None:
    people = ["--person", "Ada", "--person", "Grace"]
    home = tmp_path / "home"
    assert run(["init", "--url", url, *people, *more, "--home", str(home)]) == exits.DONE
    assert read_config(home).listen.port == port


def test_more_approvals_than_people_could_give_make_no_home(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert init(tmp_path / "home", "--approvals", "2") == exits.REFUSED
    assert "at most 1 can approve" in capsys.readouterr().err
    assert not (tmp_path / "home").exists()
    third = ("--person", "Edsger", "--approvals", "2")
    assert init(tmp_path / "home", *third) == exits.DONE


def test_an_empty_folder_becomes_a_home_and_a_full_one_is_kept_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    empty, full = tmp_path / "empty", tmp_path / "full"
    empty.mkdir()
    full.mkdir()
    (full / "mine").write_text("kept")
    assert init(empty) == exits.DONE
    assert (empty / "presspass.toml").exists()
    assert init(full) == exits.REFUSED
    assert "empty folder" in capsys.readouterr().err
    assert [path.name for path in full.iterdir()] == ["mine"]
    assert init(empty) == exits.REFUSED
    assert "init --seal" in capsys.readouterr().err


def test_a_home_that_cannot_be_made_says_what_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    assert init(tmp_path / "file" / "home") == exits.FAULT
    assert "name another place with --home" in capsys.readouterr().err


def test_printed_commands_quote_a_path_with_a_space(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home = tmp_path / "my gate"
    assert init(home) == exits.DONE
    assert f"presspass serve --home '{home}'" in capsys.readouterr().err


# seal


def enrolled(home: Path, *names: str, software: bool = True) -> list[str]:
    """Enrols one key of each of these people as the gateway would; their fingerprints."""
    from presspass.gateway import enrolment, people
    from presspass.services import gateway

    found = []
    with gateway.composed(gateway.Options(home), read_config(home)) as gate:
        for name in names:
            asked = {"person": "", "name": name, "addresses": [], "groups": [], "forge_ids": []}
            link, _ = people.invite(gate, asked)
            key = SoftwarePasskey.generate()
            begun = enrolment.begin(gate, {"link": link})
            credential = key.registration(begun["public_key"], begun["origin"])
            offer = {"link": link, "credential": credential, "software": software}
            found.append(enrolment.finish(gate, offer).key.id)
    return found


def sealed_keys(home: Path) -> list[str]:
    genesis = Statement.from_bytes((home / "trust-root.json").read_bytes())
    return [key.id for key in genesis.body_as(GenesisBody).roster.all_keys()]


def test_a_key_that_is_not_confirmed_is_left_out_while_enough_remain(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second, stranger = enrolled(home, "Ada", "Grace", "Mallory")
    confirm = ("--confirm", " ".join([first[:32], first[32:]]), "--confirm", second)
    assert run(["init", "--seal", "--home", str(home), *confirm]) == exits.DONE
    said = capsys.readouterr().err
    assert "origin http://localhost:8460" in said
    assert "not confirmed: left out" in said
    assert sorted(sealed_keys(home)) == sorted([first, second])
    assert stranger not in sealed_keys(home)


def test_too_few_confirmed_keys_seal_nothing(home: Path) -> None:
    first, _second = enrolled(home, "Ada", "Grace")
    assert run(["init", "--seal", "--home", str(home), "--confirm", first]) == exits.REFUSED
    assert not (home / "trust-root.json").exists()


def test_where_nobody_can_be_asked_it_is_said_how_to_answer_beforehand(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    enrolled(home, "Ada", "Grace")
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    assert run(["init", "--seal", "--home", str(home)]) == exits.CANNOT_SAY
    assert "--confirm FINGERPRINT" in capsys.readouterr().err
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    assert run(["freeze", "--drop", str(home / "drop")]) == exits.CANNOT_SAY
    assert "--yes" in capsys.readouterr().err


def test_a_sealed_home_says_so_before_anybody_compares_anything(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    enrolled(home, "Ada", "Grace")
    seal = ["init", "--seal", "--home", str(home), "--yes-all-fingerprints-compared"]
    assert run(seal) == exits.DONE
    capsys.readouterr()
    assert run(seal) == exits.REFUSED
    said = capsys.readouterr().err
    assert "genesis.sealed" in said
    assert "aloud" not in said


def test_software_keys_that_do_not_count_are_named_at_the_seal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home = tmp_path / "home"
    assert init(home) == exits.DONE
    enrolled(home, "Ada", "Grace", software=False)
    enrolled(home, "Ada")
    seal = ["init", "--seal", "--home", str(home), "--yes-all-fingerprints-compared"]
    assert run(seal) == exits.DONE
    assert "a software key: it may veto" in capsys.readouterr().err


def test_what_cannot_be_an_upstream_is_refused_before_a_credential_is_asked_for(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    enrolled(home, "Ada", "Grace")
    run(["init", "--seal", "--home", str(home), "--yes-all-fingerprints-compared"])
    url = ["--upload-url", "https://r.example/", "--index-url", "https://r.example/"]
    add = ["upstream", "add", "--home", str(home), *url]
    capsys.readouterr()
    assert run([*add, "no:name"]) == exits.CANNOT_SAY
    assert "/pypi/NAME/legacy/" in capsys.readouterr().err
    assert run([*add, "main", "--index-url", "ftp://r.example/"]) == exits.REFUSED
    assert run([*add, "main"]) == exits.FAULT  # no gate runs


def test_doctor_computes_the_ledger_again_and_says_who_has_cosigned_it(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    enrolled(home, "Ada", "Grace")
    run(["init", "--seal", "--home", str(home), "--yes-all-fingerprints-compared"])
    witness = VerifierKey("witness.example/w1", COSIGNATURE, bytes(32)).to_text()
    config = read_config(home)
    _code, lines = doctor(home, capsys)
    found = {line["what"]: line for line in lines}
    assert [found[what]["grade"] for what in ("ledger", "log key", "witnesses")] == [
        "ok",
        "ok",
        "warn",
    ]
    settings = WitnessSettings("http://127.0.0.1:1", witness)
    write_config(home, replace(config, witnesses=(settings,)))
    _code, lines = doctor(home, capsys)
    found = {line["what"]: line for line in lines}
    assert "has cosigned 0 of 1" in found["witness witness.example/w1"]["found"]
    assert "witnesses" not in found
    with sqlite3.connect(home / "press" / "journal" / "journal.db") as journal:
        journal.execute("UPDATE ledger_entry SET entry = ?", (b"{}",))
    journal.close()
    code, lines = doctor(home, capsys)
    [ledger] = [line for line in lines if line["what"] == "ledger"]
    assert (code, ledger["grade"]) == (exits.REFUSED, "bad")


def test_doctor_calls_a_lock_that_nobody_can_open_bad(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = enrolled(home, "Ada", "Grace")
    run(["init", "--seal", "--home", str(home), "--yes-all-fingerprints-compared"])
    code, lines = doctor(home, capsys)
    [people] = [line for line in lines if line["what"] == "people"]
    assert (code, people["grade"]) == (exits.DONE, "warn")
    with sqlite3.connect(home / "press" / "journal" / "journal.db") as journal:
        [data] = journal.execute("SELECT statement FROM statement").fetchone()
        genesis = Statement.from_bytes(data)
        body = genesis.body_as(GenesisBody)
        one = replace(body, roster=Roster(body.roster.people[:1]))
        journal.execute(
            "UPDATE statement SET statement = ?", (replace(genesis, body=one).to_bytes(),)
        )
    journal.close()
    code, lines = doctor(home, capsys)
    [people] = [line for line in lines if line["what"] == "people"]
    assert (code, people["grade"]) == (exits.REFUSED, "bad")
    assert "recover" in people["fix"]


def test_nothing_is_sealed_while_keys_are_missing(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert (
        run(["init", "--seal", "--home", str(home), "--yes-all-fingerprints-compared"])
        == exits.REFUSED
    )
    assert "genesis.incomplete" in capsys.readouterr().err


# configuration


@pytest.mark.parametrize(
    "config",
    [
        Config("https://gate.example"),
        Config(
            "https://gate.example:8443",
            "other",
            Listen("::1", 0),
            press=PressSettings(lease_ms=200),
            mail=Mail("mail.example", 587, 'Gate "x" \\ <gate@example>', True, "gate"),
            zones=Zones(separate=True),
        ),
    ],
)
def test_what_is_written_is_read_back_as_the_same(config: Config) -> None:
    assert parse_config(config.to_toml()) == config


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("port = 8460", "port = 70000"),
        ("port = 8460", 'port = "8460"'),
        ("port = 8460", "port = 8460\nprot = 1"),
        ("[listen]", "[listne]"),
        ("separate = false", "separate = 0"),
        ("lease_ms = 30000", "lease_ms = 199"),
        ("format = 1", "format = 2"),
        ("approvals = 1", "approvals = 0"),
        ('origin = "', 'origin = "ftp'),
    ],
)
def test_a_setting_that_is_not_understood_is_refused_and_named(old: str, new: str) -> None:
    text = Config("https://gate.example").to_toml()
    assert old in text
    with pytest.raises(Refusal) as caught:
        parse_config(text.replace(old, new))
    assert caught.value.code.value == "config.invalid"


@pytest.mark.parametrize(
    "origin", ["https://gate.example", "https://gate.example:8443", "http://localhost:1"]
)
def test_origins_that_passkeys_can_be_bound_to(origin: str) -> None:
    assert check_origin(origin) == origin


@pytest.mark.parametrize(
    "origin",
    [
        "http://gate.example", "https://10.0.0.1", "https://[::1]", "https://gate.example/", "https://gate.example:443",
        "https://Gate.example", "https://a@gate.example", "gate.example", "https://", "https://g:x", "https://g:99999",
        "http://127.0.0.1:8460",
    ],
)  # fmt: skip
def test_origins_that_no_passkey_works_for_are_refused_at_the_start(origin: str) -> None:
    with pytest.raises(Refusal):
        check_origin(origin)


# doctor


def test_a_fresh_home_has_warnings_and_nothing_bad(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, lines = doctor(home, capsys)
    assert code == exits.DONE
    assert [line for line in lines if line["grade"] == "bad"] == []
    assert all(line["fix"] for line in lines if line["grade"] == "warn")


SPOILED = {
    "configuration": lambda home: (home / "presspass.toml").write_text("nonsense = ["),
    "folder press": lambda home: (home / "press").chmod(0o755),
    "folder gateway/tmp": lambda home: (home / "gateway" / "tmp").rmdir(),
    "keys": lambda home: (home / "press" / "keys" / "kek").chmod(0o644),
    "journal database": lambda home: (home / "press" / "journal" / "journal.db").write_bytes(
        b"not a database at all, sorry" * 99
    ),
    "gateway database": lambda home: _set_schema(home / "gateway" / "gateway.db", "9999"),
    "clock": lambda home: os.utime(home / "press" / "journal" / "journal.db", (4e9, 4e9)),
}


def _set_schema(path: Path, revision: str) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE alembic_version SET version_num = ?", (revision,))
    connection.close()


@pytest.mark.parametrize("what", SPOILED)
def test_doctor_finds_what_is_wrong_and_says_how_to_put_it_right(
    home: Path, what: str, capsys: pytest.CaptureFixture[str]
) -> None:
    SPOILED[what](home)
    code, lines = doctor(home, capsys)
    assert code == exits.REFUSED
    [bad] = [line for line in lines if line["grade"] == "bad" and line["what"] == what]
    assert bad["fix"]


def test_doctor_changes_nothing(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def files() -> set[str]:
        shown = {str(path.relative_to(home)) for path in home.rglob("*")}
        return {
            name for name in shown if not name.endswith(("-shm", "-wal"))
        }  # SQLite's own, made by any reader

    before = files()
    doctor(home, capsys)
    assert files() == before


# backup and restore


def backup(home: Path, target: Path, *more: str) -> int:
    return run(["backup", "--home", str(home), "--to", str(target), *more])


def members(path: Path) -> set[str]:
    with tarfile.open(path) as archive:
        return set(archive.getnames())


def test_a_backup_holds_no_key_unless_asked_and_nobody_else_can_read_it(
    home: Path, tmp_path: Path
) -> None:
    assert backup(home, tmp_path / "b.tar") == exits.DONE
    assert members(tmp_path / "b.tar") == {
        "manifest.json",
        "presspass.toml",
        "gateway/gateway.db",
        "press/journal/journal.db",
        "press/identity.json",
    }
    assert stat.S_IMODE((tmp_path / "b.tar").stat().st_mode) == 0o600
    assert backup(home, tmp_path / "k.tar", "--with-keys") == exits.DONE
    assert {"press/keys/kek", "press/keys/log.key"} <= members(tmp_path / "k.tar")


def test_a_backup_is_never_overwritten(home: Path, tmp_path: Path) -> None:
    assert backup(home, tmp_path / "b.tar") == exits.DONE
    before = (tmp_path / "b.tar").read_bytes()
    assert backup(home, tmp_path / "b.tar") == exits.REFUSED
    assert (tmp_path / "b.tar").read_bytes() == before


def test_a_backup_taken_while_somebody_writes_is_consistent(home: Path, tmp_path: Path) -> None:
    journal = home / "press" / "journal" / "journal.db"
    writer = sqlite3.connect(journal)
    writer.execute("PRAGMA journal_mode=WAL")
    with writer:
        writer.execute("INSERT INTO fact VALUES ('a', '1'), ('b', '1')")
    writer.execute("BEGIN IMMEDIATE")
    writer.execute(
        "UPDATE fact SET value = '2' WHERE name = 'a'"
    )  # half of a change that is not committed
    assert backup(home, tmp_path / "b.tar") == exits.DONE
    writer.execute("ROLLBACK")
    writer.close()
    with tarfile.open(tmp_path / "b.tar") as archive:
        archive.extract("press/journal/journal.db", tmp_path / "out", filter="data")
    copy = sqlite3.connect(tmp_path / "out" / "press" / "journal" / "journal.db")
    assert copy.execute("SELECT value FROM fact WHERE name IN ('a', 'b')").fetchall() == [
        ("1",),
        ("1",),
    ]
    copy.close()


def test_a_restored_home_is_the_old_one_and_is_marked_to_start_frozen(
    home: Path, tmp_path: Path
) -> None:
    backup(home, tmp_path / "b.tar", "--with-keys")
    assert run(["restore", str(tmp_path / "b.tar"), "--home", str(tmp_path / "new")]) == exits.DONE
    new = tmp_path / "new"
    assert read_config(new) == read_config(home)
    assert (new / "press" / "keys" / "log.key").read_bytes() == (
        home / "press" / "keys" / "log.key"
    ).read_bytes()
    assert (new / "press" / "restored.json").exists()
    assert not list(tmp_path.glob(".*restoring*"))


def test_a_restored_home_without_keys_says_so_and_prints_the_next_commands(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    backup(home, tmp_path / "b.tar")
    new = tmp_path / "new home"
    assert run(["restore", str(tmp_path / "b.tar"), "--home", str(new)]) == exits.DONE
    said = capsys.readouterr().err
    assert "press/keys is missing" in said
    assert f"presspass freeze --clear restored- --home '{new}'" in said
    code, lines = doctor(new, capsys)
    assert code == exits.REFUSED
    assert "lacks kek" in next(line["found"] for line in lines if line["what"] == "keys")


def test_narrowings_dropped_at_the_old_home_are_carried_over(home: Path, tmp_path: Path) -> None:
    backup(home, tmp_path / "b.tar")
    assert run(["freeze", "--drop", str(home / "drop"), "--yes"]) == exits.DONE
    new = tmp_path / "new"
    assert (
        run(["restore", str(tmp_path / "b.tar"), "--home", str(new), "--old-home", str(home)])
        == exits.DONE
    )
    assert [path.name for path in (new / "drop").iterdir()] == [
        path.name for path in (home / "drop").iterdir()
    ]
    assert (new / "press" / "keys" / "kek").read_bytes() == (
        home / "press" / "keys" / "kek"
    ).read_bytes()


def test_a_home_is_never_restored_over_another(home: Path, tmp_path: Path) -> None:
    backup(home, tmp_path / "b.tar")
    assert run(["restore", str(tmp_path / "b.tar"), "--home", str(home)]) == exits.REFUSED


def _rewrite(
    source: Path, target: Path, change: dict[str, bytes], extra: dict[str, bytes] | None = None
) -> None:
    with tarfile.open(source) as old, tarfile.open(target, "w") as new:
        for member in old.getmembers():
            content = old.extractfile(member)
            assert content is not None
            data = change.get(member.name, content.read())
            member.size = len(data)
            new.addfile(member, io.BytesIO(data))
        for name, data in (extra or {}).items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            new.addfile(member, io.BytesIO(data))


def _manifest_with(path: Path, name: str) -> bytes:
    with tarfile.open(path) as archive:
        content = archive.extractfile("manifest.json")
        assert content is not None
        value = json.load(content)
    value["members"].append({"name": name, "sha256": "0" * 64, "size": 0})
    return json.dumps(value).encode()


@pytest.mark.parametrize("damage", ["changed", "extra", "climbs", "foreign", "truncated", "no tar"])
def test_a_damaged_backup_restores_nothing(
    home: Path, tmp_path: Path, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    good, bad = tmp_path / "good.tar", tmp_path / "bad.tar"
    backup(home, good)
    if damage == "changed":
        _rewrite(
            good,
            bad,
            {"presspass.toml": (home / "presspass.toml").read_bytes().replace(b"main", b"mine")},
        )
    elif damage == "extra":
        _rewrite(good, bad, {}, {"press/keys/kek": b"x"})
    elif damage in ("climbs", "foreign"):
        name = "drop/../../evil" if damage == "climbs" else "press/writer.lock"
        _rewrite(good, bad, {"manifest.json": _manifest_with(good, name)}, {name: b""})
    elif damage == "truncated":
        bad.write_bytes(good.read_bytes()[:20_000])
    else:
        bad.write_bytes(b"nonsense" * 1000)
    assert run(["restore", str(bad), "--home", str(tmp_path / "new")]) == exits.REFUSED
    assert "backup.invalid" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()
    assert not (tmp_path / "evil").exists()
