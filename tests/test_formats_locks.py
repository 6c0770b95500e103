"""Lock files are read strictly: each hash with its line, each line without one, and nothing that an installer would
take for more than is checked. No bytes make a reader fail in another way than by a refusal.
"""

from __future__ import annotations

import base64
import contextlib
import json
from collections.abc import Callable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from core_values import json_values, law
from presspass.core.errors import Refusal
from presspass.formats.npm_lock import read_npm_lock
from presspass.formats.pins import Lock, Pin
from presspass.formats.python_lock import read_pylock, read_uv_lock
from presspass.formats.requirement_file import read_requirements

A, B = "a" * 64, "b" * 64
WIDE = "c" * 128
SRI = "sha512-" + base64.b64encode(bytes.fromhex(WIDE)).decode()


def requirements(*lines: str) -> Lock:
    return read_requirements("\n".join(lines).encode())


def whys(lock: Lock) -> list[tuple[int, str]]:
    return [(one.line, one.why) for one in lock.unpinned]


# requirement files


def test_a_file_as_uv_and_pip_tools_write_it() -> None:
    lock = requirements(
        "# made by a tool",
        "--index-url https://index.example/simple",
        "",
        "greet==1.0 \\",
        f"    --hash=sha256:{A} \\",
        f"    --hash=sha256:{B}",
        "    # via -r requirements.in",
        f"Other_Pkg[extra,more]==2.0 ; python_version < '3.13' --hash=sha512:{WIDE}",
        f"third @ https://files.example/third-1.tar.gz --hash sha256:{A}  # why",
    )
    assert whys(lock) == [] and lock.includes == ()
    assert lock.pins == (
        Pin(4, ("greet",), "1.0", (("sha256", A), ("sha256", B))),
        Pin(8, ("other-pkg",), "2.0", (("sha512", WIDE),)),
        Pin(9, ("third",), "", (("sha256", A),)),
    )


def test_windows_line_ends_and_a_byte_order_mark_are_read() -> None:
    data = b"\xef\xbb\xbfgreet==1.0 \\\r\n  --hash=sha256:" + A.encode() + b"\r\n"
    assert read_requirements(data).pins == (Pin(1, ("greet",), "1.0", (("sha256", A),)),)


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("greet==1.0", "no hash"),
        ("greet", "no hash"),
        (f"greet==1.0 --hash=md5:{'a' * 32}", "not sha256 or sha512"),
        (f"greet==1.0 --hash=sha256:{A.upper()}", "not sha256 or sha512"),
        (f"greet==1.0 --hash=sha256:{A}0", "not sha256 or sha512"),
        # pip takes any beginning of an option's name, and adds what it says to the hashes that will do
        (f"greet==1.0 --hash=sha256:{A} --has=sha256:{B}", "--has is not known"),
        (f"greet==1.0 --hash=sha256:{A} -r other.txt", "-r is not known"),
        (f"greet==1.0 --hash=sha256:{A} --global-option=x", "--global-option is not known"),
        (f"./greet-1.0.tar.gz --hash=sha256:{A}", "no requirement by name"),
        (f"https://files.example/greet.tar.gz --hash=sha256:{A}", "no requirement by name"),
        (f"${{NAME}}==1.0 --hash=sha256:{A}", "variable"),
        ("-r ${USER}", "variable"),
        ("--index-url https://${HOST}/simple", "variable"),
        # pip takes the hash of a fragment for one more that will do
        (f"greet @ file:///greet-1.0.whl#sha256={B} --hash=sha256:{A}", "fragment"),
        (f"greet @ file:///greet-1.0.whl#egg=greet --hash=sha256:{A}", "fragment"),
        # and the address and hashes of a constraint for those of the requirement
        ("-c bounds.txt", "constraint can replace"),
        ("--constraint=bounds.txt", "constraint can replace"),
        ("--pre --build-constraint bounds.txt", "constraint can replace"),
        (f"greet==1.0 --hash=sha256:{A} '", "quotation mark"),
        ("-e .", "folder or repository"),
        ("--editable=git+https://forge.example/x", "folder or repository"),
        ("--req other.txt", "--req is not known"),
        ("--pre --requ=other.txt", "--requ is not known"),
        ("-rother.txt", "-rother.txt is not known"),
        ("-r", "-r is not known"),
        ("--index-url", "--index-url is not known"),
        ("--pre=x", "--pre is not known"),
    ],
)
def test_a_line_that_pins_nothing_is_named(line: str, why: str) -> None:
    lock = requirements("# first", line)
    assert lock.pins == () and lock.includes == ()
    [(number, said)] = whys(lock)
    assert number == 2 and why in said, said


def test_every_hash_of_a_line_counts_and_repeats_do_not() -> None:
    lock = requirements(f"greet==1.0 --hash=sha256:{A} --hash=sha256:{B} --hash=sha256:{A}")
    assert lock.pins[0].hashes == (("sha256", A), ("sha256", B))


def test_includes_are_told_of_in_every_spelling() -> None:
    lock = requirements("-r base.txt", "--requirement=more.txt", "--pre --requirement last.txt")
    assert lock.includes == ((1, "base.txt"), (2, "more.txt"), (3, "last.txt"))
    assert whys(lock) == []


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("-c bounds.txt", "constraint"),
        ("--constraint=bounds.txt", "constraint"),
        ("--build-constraint bounds.txt", "constraint"),
        ("-r ${USER}", "variable"),
        ("--index-url https://${NAME}/", "variable"),
        (f"greet @ file:///x/greet-1.0-py3-none-any.whl#sha256={B} --hash=sha256:{A}", "fragment"),
        (f"greet @ https://h.example/g.zip#egg=greet --hash=sha256:{A}", "fragment"),
    ],
)
def test_what_lets_an_installer_take_other_bytes_than_the_line_says_is_named(
    line: str, why: str
) -> None:
    lock = requirements(line)
    assert (lock.pins, lock.includes) == ((), ())
    [(_, told)] = whys(lock)
    assert why in told


def test_a_comment_within_a_continued_line_is_read_in_no_way() -> None:
    lock = requirements("greet==1.0 \\", "# a remark", f"    --hash=sha256:{A}")
    assert lock.pins == ()
    assert {number for number, _ in whys(lock)} >= {2}
    assert any("comment" in why for _, why in whys(lock))


@pytest.mark.parametrize(
    "data",
    [
        b"# -*- coding: utf-7 -*-\ngreet==1.0\n",
        b"\n# vim: set fileencoding=latin-1 :\n",
        b"\xff\xfeg\x00",
        b"greet==1.0\x0bevil==1.0\n",
        b"greet==1.0\x00\n",
        "greet==1.0\u2028evil==1.0".encode(),
        b"greet==1.0\revil==1.0\n",
        "greet==1.0\x85evil==1.0".encode(),
    ],
)
def test_a_file_that_others_could_read_differently_says_nothing(data: bytes) -> None:
    with pytest.raises(Refusal):
        read_requirements(data)


# npm


def npm_lock(version: object = 3, **more: object) -> bytes:
    return json.dumps({"name": "app", "lockfileVersion": version, **more}, indent=2).encode()


def test_a_file_of_npm_pins_every_package_and_not_the_projects_own_folders() -> None:
    packages = {
        "": {"name": "app", "dependencies": {"greet": "1.0.0"}},
        "packages/own": {"name": "own", "version": "1.0.0"},
        "node_modules/own": {"resolved": "packages/own", "link": True},
        "node_modules/greet": {"version": "1.0.0", "integrity": SRI},
        "node_modules/@acme/x/node_modules/@acme/inner": {"version": "2.0.0", "integrity": SRI},
        "node_modules/alias": {"name": "real", "version": "3.0.0", "integrity": f"{SRI} {SRI}"},
    }
    lock = read_npm_lock(npm_lock(packages=packages))
    hashes = (("sha512", WIDE),)
    assert [(one.names, one.own) for one in lock.unpinned] == [(("own",), True)]
    assert [(one.names, one.version, one.hashes) for one in lock.pins] == [
        (("greet",), "1.0.0", hashes),
        (("@acme/inner",), "2.0.0", hashes),
        (("real", "alias"), "3.0.0", hashes),
    ]
    assert lock.pins[0].line == 19


@pytest.mark.parametrize(
    ("entry", "why"),
    [
        ({"version": "1.0.0"}, "no integrity"),
        ({"version": "1.0.0", "inBundle": True}, "no integrity"),
        ({"version": "1.0.0", "integrity": ""}, "no integrity"),
        ({"version": "1.0.0", "integrity": "sha1-2jmj7l5rSw0yVb/vlWAYkK/YBwk="}, "not SHA-512"),
        ({"version": "1.0.0", "integrity": "sha256-AAAA"}, "not SHA-512"),
        ({"version": "1.0.0", "integrity": "sha512-AAAA"}, "not SHA-512"),
        ({"version": "1.0.0", "integrity": SRI + "?x"}, "not SHA-512"),
        ({"version": "1.0.0", "integrity": f"sha1-AA {SRI}"}, "not SHA-512"),
        ({"version": "1.0.0", "integrity": f"{SRI} sha1-x\ufeff{SRI}"}, "not SHA-512"),
        ({"version": "1.0.0", "integrity": f"x\x1f{SRI}"}, "not SHA-512"),
        ({"version": "1.0.0", "integrity": f"x\x85{SRI}"}, "not SHA-512"),
        ({"version": "1.0.0", "integrity": f" {SRI}"}, "not SHA-512"),
        ({"version": "1.0.0", "integrity": f"{SRI}\n{SRI}"}, "not SHA-512"),
        ({"version": "1.0.0", "integrity": f"{SRI} sha512-AAAA"}, "not SHA-512"),
        ({"version": "1.0.0", "integrity": SRI[:-3] + "x=="}, "cannot be read"),
        # what npm divides in another way than others, and then drops
        ({"version": "1.0.0", "integrity": f"{SRI}  {SRI}"}, "not SHA-512"),
        ({"version": "1.0.0", "integrity": f"{SRI}\n"}, "not SHA-512"),
        ({"resolved": "git+ssh://git@forge.example/x.git#abc"}, "no integrity"),
        (
            {"resolved": "git+ssh://git@forge.example/x.git#abc", "integrity": SRI},
            "not the address",
        ),
        ({"link": True, "resolved": "greet.tgz"}, "not to a folder"),
        ({"link": True, "resolved": "https://files.example/greet.tgz"}, "not to a folder"),
        ({"link": True, "resolved": "node_modules/greet"}, "not to a folder"),
        ({"link": 1, "resolved": "x"}, "no integrity"),
    ],
)
def test_a_package_of_npm_without_a_strong_hash_is_named(entry: object, why: str) -> None:
    lock = read_npm_lock(npm_lock(packages={"": {}, "node_modules/greet": entry}))
    assert lock.pins == ()
    [one] = lock.unpinned
    assert one.names == ("greet",) and why in one.why


def test_what_older_npms_read_is_held_to_it_too() -> None:
    older = {
        "greet": {"version": "1.0.0", "integrity": SRI, "dependencies": {"deep": {"version": "2"}}},
        "own": {"version": "file:packages/own"},
        "tarball": {"version": "file:tarball-1.0.0.tgz"},
    }
    lock = read_npm_lock(npm_lock(2, packages={"": {}, "packages/own": {}}, dependencies=older))
    assert [one.names for one in lock.pins] == [("greet",)]
    assert [(one.names, one.own) for one in lock.unpinned] == [
        (("deep",), False),
        (("own",), True),
        (("tarball",), False),
    ]


def test_a_folder_of_the_project_with_an_address_is_none() -> None:
    target = {"version": "1.0.0", "resolved": "https://files.example/greet.tgz"}
    link = {"resolved": "vendor/greet", "link": True}
    packages = {"": {}, "node_modules/greet": link, "vendor/greet": target}
    lock = read_npm_lock(npm_lock(packages=packages))
    assert [(one.names, one.own) for one in lock.unpinned] == [(("greet",), False), ((), False)]


@pytest.mark.parametrize(
    "data",
    [
        npm_lock(1, dependencies={}), npm_lock(True, packages={}), npm_lock("3", packages={}), npm_lock(3), b"", b"[]",
        npm_lock(packages={"node_modules/./x": {}}), npm_lock(packages={"./node_modules//x": {}}),
        npm_lock(packages={"node_modules\\x": {}}), npm_lock(packages={"node_modules/y/../x": {}}),
        npm_lock(packages=[]), npm_lock(packages={"node_modules/x": 1}), npm_lock(packages={}, dependencies={"x": 1}),
        npm_lock(packages={}, dependencies={"x": {"dependencies": 1}}), b"[" * 100_000,
        b'{"lockfileVersion": 3, "packages": {}, "packages": {}}', b"\xff",
    ],
)  # fmt: skip
def test_what_is_no_lock_file_of_npm_is_refused(data: bytes) -> None:
    with pytest.raises(Refusal):
        read_npm_lock(data)


# Python in TOML


def test_a_lock_file_of_uv_pins_every_file_and_not_the_projects_own_folders() -> None:
    lock = read_uv_lock(
        f"""version = 1
[[package]]
name = "greet"
version = "1.0"
source = {{ registry = "https://index.example/simple" }}
sdist = {{ url = "https://x.example/greet-1.0.tar.gz", hash = "sha256:{A}", size = 9 }}
wheels = [
    {{ url = "https://x.example/greet-1.0-py3-none-any.whl", hash = "sha256:{B}" }},
]
[[package]]
name = "app"
source = {{ editable = "." }}
[[package]]
name = "by-git"
version = "1"
source = {{ git = "https://forge.example/x?rev=1#abc" }}
wheels = [{{ hash = "sha256:{B}" }}]
[[package]]
name = "both"
source = {{ registry = "https://index.example/simple", editable = "." }}
[[package]]
name = "half"
source = {{ registry = "https://index.example/simple" }}
sdist = {{ url = "https://x.example/half-1.0.tar.gz" }}
wheels = [{{ hash = "sha256:{B}" }}]
""".encode()
    )
    assert lock.pins == (Pin(8, ("greet",), "1.0", (("sha256", B), ("sha256", A))),)
    assert [one.names for one in lock.unpinned] == [("by-git",), ("both",), ("half",)]
    assert lock.unpinned[0].line == 14


def test_a_pylock_pins_by_every_hash_of_every_file() -> None:
    lock = read_pylock(
        f"""lock-version = "1.0"
[[packages]]
name = "greet"
version = "1.0"
[[packages.wheels]]
name = "greet-1.0-py3-none-any.whl"
hashes = {{ sha256 = "{A}", sha512 = "{WIDE}" }}
[packages.sdist]
name = "greet-1.0.tar.gz"
hashes = {{ sha256 = "{B}" }}
[[packages]]
name = "weak"
archive = {{ url = "https://x.example/weak.zip", hashes = {{ sha256 = "{A}", md5 = "x" }} }}
[[packages]]
name = "by-git"
vcs = {{ type = "git", url = "https://forge.example/x" }}
[[packages]]
name = "own"
directory = {{ path = "." }}
""".encode()
    )
    assert lock.pins == (
        Pin(7, ("greet",), "1.0", (("sha256", A), ("sha512", WIDE), ("sha256", B))),
    )
    assert [one.names for one in lock.unpinned] == [("weak",), ("by-git",)]


@pytest.mark.parametrize("read", [read_uv_lock, read_pylock])
@pytest.mark.parametrize(
    "data",
    [
        b"", b"version = 2", b"lock-version = '2.0'", b"= 1", b"\xff", b"x = " + b"[" * 50_000,
        b"version = 1\nlock-version = '1.0'\npackage = 1\npackages = 1",
        b"version = 1\nlock-version = '1.0'\n[[package]]\nname = 'x'\n[[packages]]\nversion = 1",
        b"version = 1\nlock-version = '1.0'\n[[package]]\nsource = {registry = 'x'}\nsdist = 1\n[[packages]]\nsdist=1",
    ],
)  # fmt: skip
def test_what_is_no_lock_file_of_python_is_refused(
    read: Callable[[bytes], Lock], data: bytes
) -> None:
    with pytest.raises(Refusal):
        read(data)


# anything

READERS = (read_requirements, read_npm_lock, read_uv_lock, read_pylock)
words = st.sampled_from(
    ["greet", "==1.0", " ", "\\\n", "\n", "#", " --hash=", f"sha256:{A}", "-r ", "x.txt", "${A}", "'", "-", "="]
    + [";", "[", "]", "@", "\r", "\u2028", "--pre", "{", "}", '"', "[[package]]", "name = ", "version = 1", "1", ","]
)  # fmt: skip


@law
@given(st.binary(max_size=200) | st.lists(words, max_size=30).map(lambda s: "".join(s).encode()))
@example(b"\\")
@example(b"\\\n\\\n#\n")
def test_no_bytes_make_a_reader_fail(data: bytes) -> None:
    for read in READERS:
        try:
            lock = read(data)
        except Refusal:
            continue
        last = data.count(b"\n") + 1
        assert all(1 <= one.line <= last for one in (*lock.pins, *lock.unpinned))


@law
@given(st.dictionaries(st.sampled_from(["", "node_modules/a", "b"]), json_values), json_values)
def test_no_values_make_the_reader_of_npm_fail(packages: dict[str, object], older: object) -> None:
    with contextlib.suppress(Refusal):
        read_npm_lock(npm_lock(2, packages=packages, dependencies=older))


@law
@given(st.lists(words, max_size=12), st.lists(words, max_size=12))
def test_a_requirement_is_pinned_or_named_whatever_stands_around_it(
    before: list[str], after: list[str]
) -> None:
    """No words on other lines hide it, but for a line that goes on into its own."""
    lines = ["".join(before).replace("\\\n", ""), "evil==6.6.6", "".join(after)]
    try:
        lock = requirements(*lines)
    except Refusal:
        return
    at = lines[0].count("\n") + 2
    assert at in {one.line for one in lock.unpinned}
