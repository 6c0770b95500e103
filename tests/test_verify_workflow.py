"""The content of a workflow is proved by git objects: what real git made proves, and any other byte is refused."""

from __future__ import annotations

import hashlib
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from presspass.core import limits
from presspass.core.errors import Code, Refusal
from presspass.drill.world.forge import (
    Content,
    Executable,
    Forge,
    ForgeRepository,
    Submodule,
    Symlink,
)
from presspass.formats import git_objects
from presspass.formats.git_objects import EntryKind, GitKind, raw_object
from presspass.verify.workflow import WorkflowPath, prove

PATH = ".github/workflows/release.yml"
WORKFLOW = b"on: push\njobs: {}\n"
FORMATS = pytest.mark.parametrize("object_format", ["sha1", "sha256"])


def refused(code: Code, commit: str, path: str, objects: tuple[bytes, ...]) -> str:
    with pytest.raises(Refusal) as caught:
        prove(commit, path, objects)
    assert caught.value.code is code, caught.value
    return caught.value.message


# objects of the real git


def read_raw(repository: ForgeRepository, object_id: str) -> bytes:
    """A raw object, read with the real git."""
    kind = repository.git("cat-file", "-t", object_id).strip()
    body = repository.git("cat-file", kind.decode(), object_id)
    return b"%s %d\0" % (kind, len(body)) + body


def git_path(repository: ForgeRepository, commit: str, path: str) -> tuple[bytes, ...]:
    """The objects from a commit to a path, found with the real git."""
    folders = path.split("/")
    steps = ["", *("/".join(folders[:count]) for count in range(1, len(folders) + 1))]
    ids = [repository.git("rev-parse", f"{commit}:{step}").decode().strip() for step in steps]
    return tuple(read_raw(repository, one) for one in [commit, *ids])


@FORMATS
@pytest.mark.parametrize(
    "path",
    [
        "release.yml",
        PATH,
        "a/b/c/d/e/f.yml",
        "é/ß.yml",
        "with space/'quo\"te.yml",
        "a\nb.yml",
        "-x/*.yml",
        "~/\\.yml",
        "a.b/x",
        "Z.yml",
    ],
)
def test_what_real_git_committed_is_proved_in_both_object_formats(
    forge: Forge, object_format: str, path: str
) -> None:
    repository = forge.repository("acme", "demo", object_format=object_format)
    around: dict[str | bytes, Content] = {"a": b"file beside folders", "a-b/c": b"x", "a.c": b"y"}
    if path.startswith("a/"):
        del around["a"]
    repository.commit(around)
    commit = repository.commit({path: WORKFLOW, "b": Executable(b"#!/bin/sh\n")})
    objects = git_path(repository, commit, path)
    assert len(commit) == (40 if object_format == "sha1" else 64)
    assert prove(commit, path, objects) == WORKFLOW


@FORMATS
def test_ids_are_those_of_git_hash_object_and_trees_those_of_git_mktree(
    forge: Forge, object_format: str
) -> None:
    repository = forge.repository("acme", "demo", object_format=object_format)
    blob = repository.git("hash-object", "-w", "--stdin", stdin=WORKFLOW).decode().strip()
    size = git_objects.id_bytes_of(blob)
    assert git_objects.object_id(raw_object(GitKind.BLOB, WORKFLOW), size) == blob
    listing = f"100644 blob {blob}\ta.b\n100755 blob {blob}\tab\n120000 blob {blob}\tlink\n"
    inner = repository.git("mktree", stdin=listing.encode()).decode().strip()
    absent = inner[::-1]
    outer = f"040000 tree {inner}\ta\n160000 commit {absent}\tsub\n{listing}"
    tree = repository.git("mktree", "--missing", stdin=outer.encode()).decode().strip()
    raw = read_raw(repository, tree)
    assert git_objects.object_id(raw, size) == tree
    found = git_objects.parse_tree(git_objects.split_object(raw)[1], size)
    assert [(entry.name, entry.kind) for entry in found] == [
        (b"a.b", EntryKind.FILE),
        (b"a", EntryKind.TREE),
        (b"ab", EntryKind.FILE),
        (b"link", EntryKind.SYMLINK),
        (b"sub", EntryKind.SUBMODULE),
    ]
    assert {entry.object_id for entry in found} == {blob, inner, absent}


def test_a_merge_and_a_signed_commit_are_commits(forge: Forge) -> None:
    repository = forge.repository("acme", "demo")
    first = repository.commit({PATH: WORKFLOW})
    tree = repository.git("rev-parse", f"{first}^{{tree}}").decode().strip()
    who = "world <w@world.invalid> 1800000000 +0000"
    signature = "gpgsig -----BEGIN SSH SIGNATURE-----\n tree line\n \n -----END SSH SIGNATURE-----"
    body = (
        f"tree {tree}\nparent {first}\nparent {first}\nauthor {who}\ncommitter {who}\n"
        f"{signature}\n\nmerge\n\ntree {tree}\n"
    )
    commit = (
        repository.git("hash-object", "-t", "commit", "-w", "--stdin", stdin=body.encode())
        .decode()
        .strip()
    )
    assert prove(commit, PATH, git_path(repository, commit, PATH)) == WORKFLOW


def test_an_executable_workflow_is_a_file_and_links_and_submodules_are_not(forge: Forge) -> None:
    repository = forge.repository("acme", "demo")
    base = repository.commit({PATH: Executable(WORKFLOW)})
    assert prove(base, PATH, git_path(repository, base, PATH)) == WORKFLOW
    link = repository.commit({"link.yml": Symlink(PATH), "dir": Symlink(".github")})
    objects = git_path(repository, link, "link.yml")
    assert "symbolic link" in refused(Code.WORKFLOW_NOT_A_FILE, link, "link.yml", objects)
    through = refused(Code.WORKFLOW_NOT_A_FILE, link, "dir/workflows/release.yml", objects)
    assert "symbolic link" in through
    sub = repository.commit({"sub": Submodule(base)})
    objects = git_path(repository, sub, PATH)
    for path in ("sub", "sub/release.yml"):
        assert "submodule" in refused(Code.WORKFLOW_NOT_A_FILE, sub, path, objects[:2])
    folder = ".github/workflows"
    assert "folder" in refused(Code.WORKFLOW_NOT_A_FILE, sub, folder, objects)
    beyond = refused(Code.WORKFLOW_NOT_A_FILE, sub, f"{PATH}/x", objects)
    assert "regular file" in beyond


def test_a_path_that_the_commit_does_not_have_is_missing_not_unproven(forge: Forge) -> None:
    repository = forge.repository("acme", "demo")
    commit = repository.commit({PATH: WORKFLOW})
    objects = git_path(repository, commit, PATH)
    for path in ("other.yml", ".github/workflows/Release.yml", ".github/x/release.yml"):
        assert path in refused(Code.WORKFLOW_MISSING, commit, path, objects)


@pytest.mark.parametrize(
    "path",
    ["", "/a", "a/", "a//b", "./a", "a/../b", ".git/config", "a\0b", "\ud800"]
    + ["x" * (limits.WORKFLOW_PATH_CHARS_MAX + 1), "a/" * limits.WORKFLOW_PATH_PARTS_MAX + "a"],
)
def test_a_path_that_git_cannot_have_is_missing(path: str) -> None:
    refused(Code.WORKFLOW_MISSING, "0" * 40, path, ())


# objects of this test's own making: every way to be wrong


def entry(mode: bytes, name: bytes, raw: bytes, size: int = 20) -> bytes:
    return b"%s %s\0" % (mode, name) + bytes.fromhex(git_objects.object_id(raw, size))


def chain(
    parts: list[bytes], content: bytes, size: int, beside: bytes = b""
) -> tuple[str, str, tuple[bytes, ...]]:
    """Commit id, path and objects for a file in folders, `beside` the file an entry that sorts before it."""
    objects = [raw_object(GitKind.BLOB, content)]
    for mode, name in zip([b"100644"] + [b"40000"] * len(parts), reversed(parts), strict=False):
        rest = beside if len(objects) == 1 else b""
        objects.insert(0, raw_object(GitKind.TREE, rest + entry(mode, name, objects[0], size)))
    tree = git_objects.object_id(objects[0], size)
    body = f"tree {tree}\nauthor a <a> 1 +0000\ncommitter a <a> 1 +0000\n\nwords\n"
    objects.insert(0, raw_object(GitKind.COMMIT, body.encode()))
    commit = git_objects.object_id(objects[0], size)
    return commit, b"/".join(parts).decode(), tuple(objects)


names = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="/\0"), min_size=1, max_size=8
).filter(lambda name: name not in (".", "..", ".git"))
paths = st.lists(names.map(str.encode), min_size=1, max_size=5)
contents = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")).map(
    str.encode
)
sizes = st.sampled_from([20, 32])


@given(paths, contents, sizes)
def test_every_path_of_objects_proves_its_content(
    parts: list[bytes], content: bytes, size: int
) -> None:
    assert prove(*chain(parts, content, size)) == content


@given(paths, contents, sizes, st.data())
def test_any_other_byte_anywhere_is_refused(
    parts: list[bytes], content: bytes, size: int, data: st.DataObject
) -> None:
    commit, path, objects = chain(parts, content, size)
    which = data.draw(st.integers(0, len(objects) - 1))
    raw = bytearray(objects[which])
    where = data.draw(st.integers(0, len(raw) - 1))
    raw[where] ^= data.draw(st.integers(1, 255))
    changed = (*objects[:which], bytes(raw), *objects[which + 1 :])
    refused(Code.WORKFLOW_UNPROVEN, commit, path, changed)


@given(paths, contents, sizes, st.data())
def test_an_object_more_fewer_or_elsewhere_is_refused(
    parts: list[bytes], content: bytes, size: int, data: st.DataObject
) -> None:
    commit, path, objects = chain(parts, content, size)
    which = data.draw(st.integers(0, len(objects) - 1))
    fewer = objects[:which] + objects[which + 1 :]
    refused(Code.WORKFLOW_UNPROVEN, commit, path, fewer)
    refused(Code.WORKFLOW_UNPROVEN, commit, path, (*objects, objects[which]))
    refused(Code.WORKFLOW_UNPROVEN, commit, path, tuple(reversed(objects)))
    other = data.draw(st.integers(0, 8 * size - 1))
    flipped = f"{int(commit, 16) ^ (1 << other):0{2 * size}x}"
    refused(Code.WORKFLOW_UNPROVEN, flipped, path, objects)


def test_only_a_blob_is_taken_for_a_file_and_only_a_tree_for_a_folder() -> None:
    """Modes are the tree's word; a commit is text too, and would be read as a workflow."""
    for mode, kind in [(b"100644", GitKind.COMMIT), (b"100644", GitKind.TREE)]:
        target = raw_object(kind, b"on: push\n")
        tree = raw_object(GitKind.TREE, entry(mode, b"a", target))
        body = f"tree {git_objects.object_id(tree, 20)}\n{PEOPLE}\nwords\n"
        commit = raw_object(GitKind.COMMIT, body.encode())
        objects = (commit, tree, target)
        message = refused(Code.WORKFLOW_UNPROVEN, git_objects.object_id(commit, 20), "a", objects)
        assert f"A {kind.value} was handed over where a blob belongs" in message
    empty = raw_object(GitKind.BLOB, b"")
    body = f"tree {git_objects.object_id(empty, 20)}\n{PEOPLE}\n"
    commit = raw_object(GitKind.COMMIT, body.encode())
    name = git_objects.object_id(commit, 20)
    assert "where a tree belongs" in refused(Code.WORKFLOW_UNPROVEN, name, "a", (commit, empty))
    assert "where a commit belongs" in refused(
        Code.WORKFLOW_UNPROVEN, git_objects.object_id(empty, 20), "a", (empty,)
    )


def test_a_commit_id_is_lower_case_hex_of_a_known_length() -> None:
    commit, path, objects = chain([b"a"], WORKFLOW, 20)
    for wrong in ("", commit.upper(), commit[:12], commit + "0", "refs/heads/main", "g" * 40):
        refused(Code.WORKFLOW_UNPROVEN, wrong, path, objects)


@pytest.mark.parametrize("size", [20, 32])
def test_an_id_of_the_other_hash_proves_nothing(size: int) -> None:
    commit, path, objects = chain([b"a"], WORKFLOW, size)
    other = git_objects.object_id(objects[0], 52 - size)
    refused(Code.WORKFLOW_UNPROVEN, other, path, objects)
    assert prove(commit, path, objects) == WORKFLOW


def test_what_is_too_large_is_refused_before_it_is_shown_to_anybody() -> None:
    largest = b"x" * limits.WORKFLOW_BYTES_MAX
    assert prove(*chain([b"a"], largest, 20)) == largest
    refused(Code.WORKFLOW_TOO_LARGE, *chain([b"a"], largest + b"x", 20))
    commit, path, objects = chain([b"a"], WORKFLOW, 20)
    padding = b"\0" * limits.WORKFLOW_OBJECTS_BYTES_MAX
    refused(Code.WORKFLOW_TOO_LARGE, commit, path, (*objects, padding))


@pytest.mark.parametrize("content", [b"\xff", b"a\0b", b"\xed\xa0\x80", b"\xc0\x80"])
def test_a_workflow_that_is_no_text_is_refused(content: bytes) -> None:
    assert "text" in refused(Code.WORKFLOW_UNPROVEN, *chain([b"a"], content, 32))


def test_sha1_leaves_no_room_for_the_published_collisions() -> None:
    """Their blocks are free in nearly every bit: in names of a folder or words of a commit they would not be UTF-8."""
    block = (
        hashlib.sha512(b"like a collision block").digest().replace(b"/", b"").replace(b"\0", b"")
    )
    for size in (20, 32):
        beside = entry(b"100644", b"!" + block, b"", size)
        found = chain([b".github", b"x.yml"], WORKFLOW, size, beside=b"")
        assert prove(*found) == WORKFLOW
        with_block = chain([b"x.yml"], WORKFLOW, size, beside=beside)
        if size == 20:
            assert "UTF-8" in refused(Code.WORKFLOW_UNPROVEN, *with_block)
        else:
            assert prove(*with_block) == WORKFLOW
    _, path, objects = chain([b"x.yml"], WORKFLOW, 20)
    body = git_objects.split_object(objects[0])[1] + block
    commit = raw_object(GitKind.COMMIT, body)
    whole = (commit, *objects[1:])
    assert "UTF-8" in refused(
        Code.WORKFLOW_UNPROVEN, git_objects.object_id(commit, 20), path, whole
    )


BLOB = raw_object(GitKind.BLOB, WORKFLOW)
A, B = entry(b"100644", b"a", BLOB), entry(b"100644", b"b", BLOB)


@pytest.mark.parametrize(
    "body",
    [
        A + A,
        B + A,
        A
        + entry(
            b"40000", b"a", BLOB
        ),  # a file and a folder of one name are not neighbours in git's order
        A + entry(b"100644", b"a.b", BLOB) + entry(b"40000", b"a", BLOB),
        entry(b"40000", b"a", BLOB) + entry(b"100644", b"a.b", BLOB),
        entry(b"100644", b".", BLOB),
        entry(b"100644", b"..", BLOB),
        entry(b"40000", b".git", BLOB),
        entry(b"100644", b"a/b", BLOB),
        entry(b"100644", b"", BLOB),
        entry(b"040000", b"a", BLOB),
        entry(b"0100644", b"a", BLOB),
        entry(b"100600", b"a", BLOB),
        entry(b"100648", b"a", BLOB),
        entry(b"", b"a", BLOB),
        A[:-1],
        A + b"\0",
        A + b"100644 b",
        b"100644 a",
        b" ",
    ],
)
def test_a_tree_that_git_fsck_would_refuse_is_refused(body: bytes) -> None:
    with pytest.raises(Refusal) as caught:
        git_objects.parse_tree(body, 20)
    assert caught.value.code is Code.WORKFLOW_UNPROVEN


TREE = "1" * 40
PEOPLE = "author a <a> 1 +0000\ncommitter a <a> 1 +0000\n"


@pytest.mark.parametrize(
    "body",
    [
        "",
        f"{PEOPLE}\nx",
        f"tree {TREE}\n\n{PEOPLE}",
        f"tree {TREE}\ntree {TREE}\n{PEOPLE}\nx",
        f"tree {TREE}\n{PEOPLE}tree {TREE}\n\nx",
        f"tree {TREE}\n{PEOPLE}parent {TREE}\n\nx",
        f"tree {TREE[1:]}\n{PEOPLE}\nx",
        f"tree {TREE}0\n{PEOPLE}\nx",
        f"tree {TREE.replace('1', 'A')}\n{PEOPLE}\nx",
        f"tree  {TREE}\n{PEOPLE}\nx",
        f"tree {TREE}\nparent {TREE[1:]}\n{PEOPLE}\nx",
        f"tree {TREE}\nparent \n{PEOPLE}\nx",
        f"tree {TREE}\nauthor a <a> 1 +0000\n\nx",
        f"tree {TREE}\ncommitter a <a> 1 +0000\nauthor a <a> 1 +0000\n\nx",
        f"tree {TREE}\n{PEOPLE}\0: x\n\nx",
        f"tree {TREE}\n{PEOPLE}"[:-1],
        f"parent {TREE}\ntree {TREE}\n{PEOPLE}\nx",
    ],
)
def test_a_commit_that_git_fsck_would_refuse_is_refused(body: str) -> None:
    with pytest.raises(Refusal) as caught:
        git_objects.commit_tree(body.encode(), 20)
    assert caught.value.code is Code.WORKFLOW_UNPROVEN


@pytest.mark.parametrize("message", ["\nx", "\n", "", "gpgsig x\n y\n \n z\n\nx\n\ntree x\n"])
def test_a_commit_with_any_message_or_signature_names_its_tree(message: str) -> None:
    body = f"tree {TREE}\nparent {'2' * 40}\nparent {'3' * 40}\n{PEOPLE}{message}"
    assert git_objects.commit_tree(body.encode(), 20) == TREE


@pytest.mark.parametrize(
    "raw",
    [b"", b"blob 1\0", b"blob 1\0ab", b"blob 01\0a", b"blob +1\0a", b"blob  1\0a", b"blob 1 \0a"]
    + [b"tag 1\0a", b"BLOB 1\0a", b" blob 1\0a", b"blob -0\0", b"blob \0", b"blob 1", b"blob 1\na"],
)
def test_a_header_has_one_spelling(raw: bytes) -> None:
    with pytest.raises(Refusal) as caught:
        git_objects.split_object(raw)
    assert caught.value.code is Code.WORKFLOW_UNPROVEN


@given(st.binary(max_size=200))
def test_hostile_bytes_are_read_or_refused_and_nothing_else(data: bytes) -> None:
    for read in (
        git_objects.split_object,
        lambda body: git_objects.commit_tree(body, 20),
        lambda body: git_objects.parse_tree(body, 32),
    ):
        try:
            read(data)
        except Refusal as refusal:
            assert refusal.code is Code.WORKFLOW_UNPROVEN


@given(st.lists(st.tuples(st.sampled_from([b"100644", b"40000"]), names.map(str.encode))), sizes)
def test_entries_are_read_back_as_they_stand(wanted: list[tuple[bytes, bytes]], size: int) -> None:
    by_name = {name: mode for mode, name in wanted}
    order = sorted(by_name, key=lambda name: name + (b"/" if by_name[name] == b"40000" else b"\0"))
    body = b"".join(entry(by_name[name], name, BLOB, size) for name in order)
    found = git_objects.parse_tree(body, size)
    assert [one.name for one in found] == order
    assert all(one.object_id == git_objects.object_id(BLOB, size) for one in found)


# the form in which it travels


@given(paths, contents, sizes)
def test_a_workflow_path_is_read_back_as_it_was_written(
    parts: list[bytes], content: bytes, size: int
) -> None:
    commit, path, objects = chain([b"x" + struct.pack("B", 97 + len(parts))], content, size)
    whole = WorkflowPath(commit, path, objects)
    assert WorkflowPath.from_bytes(whole.to_bytes()) == whole


def test_the_travelling_form_has_one_spelling_and_no_unknown_members() -> None:
    whole = WorkflowPath(*chain([b"a"], WORKFLOW, 20)).to_bytes()
    for wrong in (
        whole.replace(b'"type":', b'"type": '),
        whole.replace(b"{", b'{"a":1,', 1),
        whole.replace(b"workflow-path/v1", b"workflow-path/v2"),
        whole.replace(b'=="', b'"', 1),
        whole.replace(b'["', b'["*', 1),
        WorkflowPath("0" * 40, "a", (b"a",)).to_bytes().replace(b"YQ==", b"YR=="),
        whole.replace(b'["', b'[1,"', 1),
        whole.replace(b'"path":"a",', b""),
        whole[:-1],
        b"[]",
        b"\xff",
        b"[" * 100_000,
    ):
        assert wrong != whole
        with pytest.raises(Refusal) as caught:
            WorkflowPath.from_bytes(wrong)
        assert caught.value.code is Code.WORKFLOW_UNPROVEN, wrong[:80]
    with pytest.raises(Refusal) as caught:
        WorkflowPath.from_bytes(b" " * (limits.WORKFLOW_OBJECTS_JSON_BYTES_MAX + 1))
    assert caught.value.code is Code.WORKFLOW_TOO_LARGE


def test_the_largest_objects_fit_into_the_travelling_form() -> None:
    objects = tuple(
        b"\0" * (limits.WORKFLOW_OBJECTS_BYTES_MAX // (limits.WORKFLOW_PATH_PARTS_MAX + 2))
        for _ in range(limits.WORKFLOW_PATH_PARTS_MAX + 2)
    )
    whole = WorkflowPath("0" * 64, "é" * limits.WORKFLOW_PATH_CHARS_MAX, objects)
    assert WorkflowPath.from_bytes(whole.to_bytes()) == whole
