"""The difference of two whole files: what changed is seen, even where it is only the line feed at the end."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from presspass.core import limits
from presspass.formats.textdiff import difference

texts = st.lists(st.sampled_from(["on: push", "jobs: {}", "\r", ""])).map("\n".join).map(str.encode)


def test_the_changed_line_is_seen_with_its_neighbours() -> None:
    old, new = b"a\nb\nc\n", b"a\nB\nc\n"
    assert difference(old, new) == (("@@ -1,3 +1,3 @@", " a", "-b", "+B", " c"), False)
    assert difference(b"", b"a\n") == (("@@ -0,0 +1,1 @@", "+a"), False)


def test_a_line_feed_at_the_end_is_a_difference() -> None:
    assert difference(b"a\n", b"a") == (("\\ No newline at end of the new file",), False)
    assert difference(b"a", b"a\n") == (("\\ No newline at end of the old file",), False)


@given(texts, texts)
def test_only_the_same_bytes_have_no_difference(old: bytes, new: bytes) -> None:
    found = difference(old, new)
    assert found is not None and bool(found[0]) == (old != new)


def test_what_is_no_text_has_no_difference_to_show() -> None:
    assert difference(b"a", b"\xff") is None and difference(b"\0", b"a") is None


def test_the_largest_workflows_are_compared_within_the_limits() -> None:
    old = b"on: push\n" * (limits.WORKFLOW_BYTES_MAX // 9)
    found = difference(old, old[::-1])
    assert found is not None and found[1] and len(found[0]) == limits.DIFF_LINES_MAX + 1
