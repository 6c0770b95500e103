"""File names: one reading or a refusal, never a guess."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from presspass.core.errors import Code, Refusal
from presspass.formats.filenames import ArtifactName, parse_filename


def test_a_wheel_name_is_taken_apart() -> None:
    assert parse_filename("Demo_Pkg-1.0.0rc1-2b-py2.py3-none-any.whl") == ArtifactName(
        "Demo_Pkg-1.0.0rc1-2b-py2.py3-none-any.whl",
        "wheel",
        "demo-pkg",
        "1.0.0rc1",
        "2b",
        ("py2-none-any", "py3-none-any"),
    )


def test_an_sdist_name_is_taken_apart() -> None:
    name = parse_filename("demo_pkg-1.0.tar.gz")
    assert (name.kind, name.project, name.version, name.tags) == ("sdist", "demo-pkg", "1.0", ())


@pytest.mark.parametrize(
    ("spelling", "version"), [("1.0-rc.1", None), ("1.0RC1", "1.0rc1"), ("v1.0", "1.0")]
)
def test_versions_come_in_normal_form(spelling: str, version: str | None) -> None:
    name = f"demo-{spelling}.tar.gz"
    if version is None:
        with pytest.raises(Refusal):
            parse_filename(name)
    else:
        assert parse_filename(name).version == version


BAD = [
    "",
    "demo",
    "demo.whl",
    "demo-1.0.zip",
    "demo-1.0.tar.bz2",
    "demo-1.0.egg",
    "demo-1.0.tar.gz.asc",
    "demo.tar.gz",
    "-1.0.tar.gz",
    "demo-.tar.gz",
    "demo-one.tar.gz",
    "demo!-1.0.tar.gz",
    "demo_-1.0.tar.gz",
    "demo-1.0-none-any.whl",
    "demo-1.0-x-py3-none-any.whl",
    "demo-one-py3-none-any.whl",
    "demo-1.0-py3--any.whl",
    "../demo-1.0.tar.gz",
    "a/demo-1.0.tar.gz",
    "a\\demo-1.0.tar.gz",
    "demo-1.0.tar.gz\n",
    "demo-1.0\0.tar.gz",
    " demo-1.0.tar.gz",
    "démo-1.0.tar.gz",
    "demo-1.0.TAR.GZ",
    "d" * 250 + "-1.0.tar.gz",
    f"demo-1.0-{'.'.join(f'p{n}' for n in range(12))}-{'.'.join('abcdefghij')}-{'.'.join('abcdefghij')}.whl",
]


@pytest.mark.parametrize("name", BAD)
def test_every_other_name_is_refused(name: str) -> None:
    with pytest.raises(Refusal) as caught:
        parse_filename(name)
    assert caught.value.code is Code.ARTIFACT_BAD_NAME


@given(
    st.one_of(
        st.text(max_size=40),
        st.from_regex(r"[a-z_.-]{1,9}-[0-9a-z.!+]{1,9}(-py3-none-any\.whl|\.tar\.gz)"),
    )
)
def test_no_name_raises_anything_but_a_refusal(name: str) -> None:
    try:
        parsed = parse_filename(name)
    except Refusal:
        return
    assert parsed.filename == name and not {"/", "\\", "\n", "\0"} & set(name)
