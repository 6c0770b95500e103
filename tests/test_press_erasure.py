"""Who is behind an id can be erased: no proof and no audit needs it, and no entry ever had it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import sqlalchemy as sa

import ledger_reading
from press_rig import TOKEN, Rig
from presspass.core.policy import Policy
from presspass.drill.packages import make_wheel
from presspass.drill.world.registry import Registry
from presspass.store import gateway_tables as g
from presspass.store import journal_tables as t
from presspass.store import journal_view as view
from presspass.verify.proof import Proof, check_proof


def test_a_proof_and_an_audit_verify_after_the_details_of_everybody_were_erased(
    tmp_path: Path,
) -> None:
    with Registry(seed=7, token=TOKEN) as registry:
        rig = Rig(
            tmp_path / "home",
            registry,
            Policy(veto_window_s=0, software_keys=True),
            forge_ids={"ana": ("github:7001",)},
        ).build()
        rig.seal()
        rig.put_details(*(rig.details(name) for name in rig.names))
        wheel = make_wheel(tmp_path, "demo", "1.0")
        with rig.press() as press:
            rig.upstream(press)
            statement = rig.stage(press, [wheel], "demo", "1.0")
            rig.sign(statement, "ana", "ben")
            rig.until(press, statement.digest, "verified")
            press.narrowings.look_gateway()

        def verify() -> tuple[bytes, list[object]]:
            data = rig.journal(lambda c: view.proof(c, statement.digest, wheel.name))
            valid = check_proof(
                Proof.from_bytes(data),
                filename=wheel.name,
                sha256=hashlib.sha256(wheel.read_bytes()).hexdigest(),
                size=wheel.stat().st_size,
                trust_root=rig.genesis.digest,
            )
            assert valid.approved_by == ("p-ben",)
            return data, rig.journal(ledger_reading.audited)

        with rig.press() as press:
            before = verify()
            press.books.writer.run(lambda c: c.execute(sa.delete(t.PERSON_DETAILS)))
            rig.rows.run(lambda c: c.execute(sa.delete(g.PERSON_DETAILS)))
            for name in rig.names:
                commitment = rig.details(name).commitment
                assert rig.journal(lambda c, one=commitment: view.person_details(c, one)) is None
            assert verify() == before
            press.tick()  # and the press goes on
        proof, entries = before
        whole = proof.decode() + json.dumps(entries)
        for private in ("team.invalid", "github:7001", '"Ana"', '"Ben"'):
            assert private not in whole, private
        assert '"p-ben"' in whole
        rig.rows.close()
