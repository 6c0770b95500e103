"""The key that signs attestations, in a file or a PKCS#11 token (SoftHSM): let in by people, used while in force."""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

import peers
from packages import make_wheel
from press_rig import TOKEN, Rig
from presspass.core.digests import sha256_hex
from presspass.core.errors import Code, Fault, Refusal
from presspass.core.policy import Policy
from presspass.core.signer import ATTESTATION, ECDSA_P256, SignerBody
from presspass.core.statement import Statement
from presspass.drill.world.registry import Registry
from presspass.press.log_keys import LogKeys
from presspass.press.signing import PressKey, Signers, Token, read_signer
from presspass.services.config import SignerSettings, read_config, write_config
from presspass.services.press import configured_signer
from presspass.store import journal_view as view
from presspass.verify.attestation import open_envelope
from presspass.verify.proof import Proof, Valid, check_proof

MODULES = (
    Path("/usr/lib/softhsm/libsofthsm2.so"),
    Path("/usr/lib64/pkcs11/libsofthsm2.so"),
    Path("/usr/local/lib/softhsm/libsofthsm2.so"),
)
LABEL, PIN, URI = "presspass", "1234", "hsm:2?label=presspass"


def file_key(folder: Path) -> Token:
    """A P-256 key in a PEM file."""
    key = ec.generate_private_key(ec.SECP256R1())
    path = folder / "attestation.pem"
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return Token(f"file2:{path}")


def token_key(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Token:
    """A P-256 key that was made in a SoftHSM token of this test and cannot be read out of it."""
    module = next((one for one in MODULES if one.exists()), None)
    if module is None:
        peers.missing("SoftHSM")
    import pkcs11
    from pkcs11.util.ec import encode_named_curve_parameters

    (folder / "tokens").mkdir()
    config = folder / "softhsm2.conf"
    config.write_text(f"directories.tokendir = {folder / 'tokens'}\n")
    monkeypatch.setenv("SOFTHSM2_CONF", str(config))
    words = ["--init-token", "--free", "--label", LABEL, "--pin", PIN, "--so-pin", PIN]
    subprocess.run(["softhsm2-util", *words], check=True, capture_output=True, env=os.environ)
    library = pkcs11.lib(str(module))
    library.reinitialize()
    with library.get_token(token_label=LABEL).open(rw=True, user_pin=PIN) as session:
        parameters = session.create_domain_parameters(
            pkcs11.KeyType.EC,
            {pkcs11.Attribute.EC_PARAMS: encode_named_curve_parameters("secp256r1")},
            local=True,
        )
        parameters.generate_keypair(
            mechanism=pkcs11.Mechanism.EC_KEY_PAIR_GEN, store=True, id=b"\x02", label="attestation"
        )
    return Token(URI, str(module), PIN)


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    with Registry(seed=7, token=TOKEN) as registry:
        built = Rig(
            tmp_path / "home", registry, Policy(software_keys=True, veto_window_s=0)
        ).build()
        built.seal()
        yield built
        built.rows.close()


@pytest.fixture(params=["file", "token"])
def token(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Token:
    return file_key(tmp_path) if request.param == "file" else token_key(tmp_path, monkeypatch)


def configure(rig: Rig, token: Token) -> None:
    """As an operator writes it: the PIN stands in a file of the home."""
    pin_file = "press/keys/token.pin" if token.pin else ""
    if pin_file:
        (rig.home / pin_file).write_text(f"{token.pin}\n")
    settings = SignerSettings(token.uri, token.module, pin_file)
    write_config(rig.home, replace(read_config(rig.home), signers=(settings,)))


def checked(rig: Rig, statement: Statement, wheel: Path) -> Valid:
    data = rig.journal(lambda c: view.proof(c, statement.digest, wheel.name))
    return check_proof(
        Proof.from_bytes(data),
        filename=wheel.name,
        sha256=sha256_hex(wheel.read_bytes()),
        size=wheel.stat().st_size,
        trust_root=rig.genesis.digest,
    )


def test_the_key_that_people_let_in_attests_what_is_claimed_after_that(
    rig: Rig, token: Token, tmp_path: Path
) -> None:
    configure(rig, token)
    body = configured_signer(rig.home, token.uri, None)
    assert body.scheme == ECDSA_P256
    first, second = (make_wheel(tmp_path, "demo", version) for version in ("1.0", "2.0"))
    with rig.press() as press:
        rig.upstream(press)
        before = rig.stage(press, [first], "demo", "1.0")
        rig.sign(before, "ben")
        rig.until(press, before.digest, "verified")
        let_in = rig.statement(body, previous=rig.genesis.digest)
        rig.request(let_in)
        rig.sign(let_in, "ana", "ben")
        rig.until(press, let_in.digest, "admitted")
        after = rig.stage(press, [second], "demo", "2.0")
        rig.sign(after, "ben")
        rig.until(press, after.digest, "verified")
    assert checked(rig, before, first).attested_by[0] == "ed25519", "the log key"
    found = checked(rig, after, second)
    assert found.attested_by == (ECDSA_P256, sha256_hex(body.public_key))
    assert found.sha512 == hashlib.sha512(second.read_bytes()).hexdigest()


def test_a_key_that_the_press_cannot_open_is_not_let_in(rig: Rig, tmp_path: Path) -> None:
    body = read_signer(ATTESTATION, file_key(tmp_path))
    with rig.press() as press:
        statement = rig.statement(body, previous=rig.genesis.digest)
        rig.request(statement)
        rig.sign(statement, "ana", "ben")
        decision = rig.stays(press, statement.digest, "seen")
    assert decision.code == Code.SIGNER_MISSING.value


def test_while_the_key_is_away_the_proof_waits_and_nothing_is_sent_twice(
    rig: Rig, tmp_path: Path
) -> None:
    token = file_key(tmp_path)
    configure(rig, token)
    wheel = make_wheel(tmp_path, "demo", "1.0")
    with rig.press() as press:
        rig.upstream(press)
        statement = rig.statement(
            configured_signer(rig.home, token.uri, None), previous=rig.genesis.digest
        )
        rig.request(statement)
        rig.sign(statement, "ana", "ben")
        rig.until(press, statement.digest, "admitted")
        path = Path(token.uri.removeprefix("file2:"))
        path.rename(tmp_path / "away.pem")
        release = rig.stage(press, [wheel], "demo", "1.0")
        rig.sign(release, "ben")
        rig.until(press, release.digest, "published")
        rig.stays(press, release.digest, "published")
        (tmp_path / "away.pem").rename(path)
        rig.until(press, release.digest, "verified")
    assert rig.registry.accepted(wheel.name) == 1
    assert checked(rig, release, wheel).attested_by[0] == ECDSA_P256


def test_a_wrong_pin_another_key_and_no_key_at_all_are_told_apart_from_success(
    token: Token, tmp_path: Path
) -> None:
    right = read_signer(ATTESTATION, token)
    PressKey.create(tmp_path / "log.key")
    log_key = LogKeys(tmp_path).get
    signed = Signers(log_key, [token]).attest(right, [{"a": 1}])
    assert open_envelope(signed[0], right) == b'{"a":1}'
    other_key = ec.generate_private_key(ec.SECP256R1()).public_key()
    spelt = other_key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    for signers, wanted in (
        (Signers(log_key, [token]), SignerBody(ATTESTATION, ECDSA_P256, spelt)),
        (Signers(log_key), right),
        *([(Signers(log_key, [replace(token, pin="0000")]), right)] if token.pin else []),
    ):
        with pytest.raises(Fault) as fault:
            signers.attest(wanted, [{"a": 1}])
        assert fault.value.code == "signer.unavailable" and fault.value.retryable


def test_while_an_old_token_is_kept_beside_the_new_one_the_right_one_signs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside, file = token_key(tmp_path, monkeypatch), file_key(tmp_path)
    PressKey.create(tmp_path / "log.key")
    log_key = LogKeys(tmp_path).get
    for tokens in ([inside, file], [file, inside]):
        for one in tokens:
            wanted = read_signer(ATTESTATION, one)
            (signed,) = Signers(log_key, tokens).attest(wanted, [{"a": 1}])
            assert open_envelope(signed, wanted) == b'{"a":1}'


def test_a_wrong_pin_is_tried_once_and_no_key_is_let_in_by_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = token_key(tmp_path, monkeypatch)
    wanted = read_signer(ATTESTATION, token)
    PressKey.create(tmp_path / "log.key")
    signers = Signers(LogKeys(tmp_path).get, [replace(token, pin="0000")])
    told = []
    for _ in range(3):
        with pytest.raises(Refusal) as refused:
            signers.require(wanted)
        assert refused.value.code is Code.SIGNER_MISSING
        told.append("its PIN was wrong" in refused.value.message)
    assert told == [False, True, True], "tokens lock themselves after a few wrong ones"


@pytest.mark.parametrize(
    "uri", ["", "nonsense", "file2:/nowhere/key.pem", "gnupg:", "awskms:key", "http://x/", "hsm:"]
)
def test_a_uri_of_no_key_is_refused_with_what_to_look_at(uri: str) -> None:
    with pytest.raises(Refusal) as refused:
        read_signer(ATTESTATION, Token(uri, "/nowhere/module.so"))
    assert refused.value.code is Code.SIGNER_UNUSABLE and refused.value.hint
