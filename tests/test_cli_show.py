"""Nothing hostile acts on a terminal."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from presspass.cli import show


@given(st.text())
def test_shown_text_holds_nothing_that_acts_on_a_terminal_or_hides(text: str) -> None:
    shown = show.safe(text)
    assert all(unicodedata.category(char)[0] not in "CZM" or char == " " for char in shown), shown


@given(st.text(alphabet=st.characters(min_codepoint=32, max_codepoint=126)))
def test_plain_text_is_shown_as_it_is(text: str) -> None:
    assert show.safe(text) == text


@pytest.mark.parametrize(
    ("hostile", "shown"),
    [
        ("\x1b]0;owned\x07", r"\x1b]0;owned\x07"),
        ("\x9b2J", r"\x9b2J"),
        ("evil\r\ngood", r"evil\r\ngood"),
        ("exe\u202egnp.", r"exe\u202egnp."),
        ("zero\u200bwidth", r"zero\u200bwidth"),
        ("no\xa0break", r"no\xa0break"),
        ("\U000e0041tag", r"\U000e0041tag"),
        ("\ud800", r"\ud800"),
        ("Zürich 東京", "Zürich 東京"),
    ],
)
def test_known_tricks_become_visible(hostile: str, shown: str) -> None:
    assert show.safe(hostile) == shown


def test_a_table_escapes_each_cell(capsys: pytest.CaptureFixture[str]) -> None:
    show.table(("file", "size"), [("a\x1b[31m.py", 1), ("[bold]b[/bold]", 22)])
    assert capsys.readouterr().out.splitlines() == [
        "file            size",
        r"a\x1b[31m.py    1",
        "[bold]b[/bold]  22",
    ]


def test_json_for_scripts_is_plain_ascii(capsys: pytest.CaptureFixture[str]) -> None:
    show.emit_json({"name": "\x1b\u202e東"})
    assert capsys.readouterr().out == '{\n  "name": "\\u001b\\u202e\\u6771"\n}\n'


def test_a_fingerprint_is_grouped_for_reading_aloud() -> None:
    assert show.grouped("0123456789ab") == "0123 4567 89ab"
