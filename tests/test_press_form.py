"""A release that goes out through the press tells the registry what it would have told it directly."""

from __future__ import annotations

from pathlib import Path

from press_rig import TOKEN, Rig
from presspass.drill.packages import make_sdist, make_wheel
from presspass.drill.peers import run_twine
from presspass.drill.world.registry import Registry
from test_press import POLICY

METADATA = """Description-Content-Type: text/markdown
Keywords: gate,publish
Author-email: Maintainers <team@team.invalid>
License: Apache-2.0
Classifier: Programming Language :: Python :: 3
Classifier: Topic :: Security
Project-URL: Source, https://source.invalid/demo
Project-URL: Changes, https://source.invalid/demo/changes
Requires-Python: >=3.11
Requires-Dist: click>=8
Requires-Dist: rich; extra == "color"
Provides-Extra: color

# A description

with *two* lines.
"""
OWN = {
    "sha256_digest",
    "blake2_256_digest",
    "md5_digest",
    "comment",
    "gpg_signature",
    "protocol_version",
}


def test_the_registry_learns_the_same_metadata_as_from_twine(tmp_path: Path) -> None:
    files = [
        make_wheel(tmp_path, "demo", "1.0", {"demo.py": ""}, METADATA),
        make_sdist(tmp_path, "demo", "1.0", {"demo.py": ""}, METADATA),
    ]
    with Registry(seed=7, token=TOKEN) as direct, Registry(seed=8, token=TOKEN) as behind:
        answer = run_twine(direct.upload_url, "__token__", TOKEN, files)
        assert answer.exit_code == 0, answer.text
        rig = Rig(tmp_path / "home", behind, POLICY).build()
        rig.seal()
        with rig.press() as press:
            rig.upstream(press)
            statement = rig.stage(press, files, "demo", "1.0")
            rig.sign(statement, "ben")
            rig.until(press, statement.digest, "verified")
        rig.rows.close()
        by_twine = {one.filename: dict(one.fields) for one in direct.uploads}
        by_press = {one.filename: dict(one.fields) for one in behind.uploads}
    assert set(by_twine) == set(by_press) == {file.name for file in files}
    for name, fields in by_twine.items():
        wanted = {key: value for key, value in fields.items() if key not in OWN}
        assert {key: by_press[name].get(key) for key in wanted} == wanted
