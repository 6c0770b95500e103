"""Options and values that several commands share: the home, output format, times, people, keys."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from presspass.cli.exits import CannotSayError

F = TypeVar("F", bound=Callable[..., Any])

#: By which `verify` knows an evidence bundle.
EVIDENCE_SUFFIX: Final = ".evidence.json"

_UNITS_S: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_DURATION = re.compile(r"([0-9]{1,9})([smhd]?)")
_SCHEMES = ("mailto:", "https://", "http://", "chat:")
#: Ids by which a person is known elsewhere, so that nobody approves a run of their own.
_ID_SCHEMES = ("github:", "gitlab:", "oidc:")


class Duration(click.ParamType[int]):
    """ "90", "90s", "15m", "1h", "7d" as whole seconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        found = _DURATION.fullmatch(str(value))
        if found is None:
            self.fail(f"{value!r} is no duration; write 90s, 15m, 1h or 7d.", param, ctx)
        return int(found[1]) * _UNITS_S[found[2] or "s"]


@dataclass(frozen=True, slots=True)
class NamedPerson:
    """A person as typed at `init` or `invite`: a name, the addresses that notices go to, and ids at forges."""

    name: str
    addresses: tuple[str, ...]
    forge_ids: tuple[str, ...] = ()


class PersonParam(click.ParamType[NamedPerson]):
    """ "Ada", "Ada:mailto:ada@host" or "Ada:mailto:ada@host,https://hook,github:1234"."""

    name = "person"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> NamedPerson:
        if isinstance(value, NamedPerson):
            return value
        name, _, rest = str(value).partition(":")
        parts = tuple(part.strip() for part in rest.split(",") if part.strip())
        ids = tuple(part for part in parts if part.startswith(_ID_SCHEMES) and part.isprintable())
        addresses = tuple(part for part in parts if part not in ids)
        if not name.strip() or not name.isprintable():
            self.fail(f"{value!r} begins with no name.", param, ctx)
        for address in addresses:
            if not address.startswith(_SCHEMES) or not address.isprintable():
                self.fail(
                    f"{address!r} is no address; write mailto:NAME@HOST, https://HOOK, chat:ROOM, "
                    "or an id as github:1234.",
                    param,
                    ctx,
                )
        return NamedPerson(name.strip(), addresses, ids)


def drop_option(function: F) -> F:
    """--drop FOLDER of a command that only stops something."""
    return click.option(
        "--drop",
        type=click.Path(path_type=Path, file_okay=False, exists=True),
        help="Past the gate: into this drop box; there no key is needed.",
    )(function)


def home_option(function: F) -> F:
    """--home DIR, or PRESSPASS_HOME, or ./presspass."""
    return click.option(
        "--home",
        type=click.Path(path_type=Path, file_okay=False),
        envvar="PRESSPASS_HOME",
        default=Path("presspass"),
        show_default=True,
        show_envvar=True,
        help="The home of the installation.",
    )(function)


def format_option(function: F) -> F:
    """--format text|json, as `as_json`."""
    return click.option(
        "--format",
        "as_json",
        type=click.Choice(["text", "json"]),
        default="text",
        show_default=True,
        callback=lambda _ctx, _param, value: value == "json",
        help="json: one JSON document on stdout, for scripts.",
    )(function)


def signing_options(function: F) -> F:
    """--key and --software-passkey: with what a person signs."""
    function = click.option(
        "--software-passkey",
        type=click.Path(path_type=Path, dir_okay=False, exists=True),
        help="Sign with this software passkey (a file: for trials and tests; never counts as user-verified).",
    )(function)
    return click.option(
        "--key",
        type=click.Path(path_type=Path, dir_okay=False, exists=True),
        help="Sign with this SSH key (ssh-keygen -Y sign; a .pub file uses the agent or the security key).",
    )(function)


def trust_option(function: F) -> F:
    """--trust: the pinned trust root; None where none was named (`need_trust`)."""
    return click.option(
        "--trust",
        type=click.Path(path_type=Path, dir_okay=False),
        envvar="PRESSPASS_TRUST",
        show_envvar=True,
        help="The trust root you pinned, trust-root.json: the installation's genesis statement. Needed.",
    )(function)


def need_trust(trust: Path | None, elsewhere: str) -> Path:
    """The trust root that was named, or that nothing can be said. `elsewhere`: where it is not to come from."""
    if trust is None:
        raise CannotSayError(
            "No trust root was named, so nothing can be said.",
            f"Get the installation's trust-root.json from a place that you trust on its own, not from {elsewhere}, "
            "and name it with --trust or PRESSPASS_TRUST.",
        )
    return trust


def witness_option(what: str) -> Callable[[F], F]:
    """--witness, repeatable, as `witnesses`: keys of those who must have cosigned. `what`: that carries it."""
    return click.option(
        "--witness",
        "witnesses",
        multiple=True,
        envvar="PRESSPASS_WITNESS",
        show_envvar=True,
        help=f"Verifier key of a witness whose cosignature the {what} must carry. Repeatable.",
    )


def revocation_options(function: F) -> F:
    """--revocations, --log-keys (paths) and --max-age (seconds), None where not given."""
    function = click.option(
        "--log-keys",
        type=click.Path(path_type=Path, dir_okay=False),
        help="What leads to the key that signs the head, https://GATE/log/keys, where it was replaced since the proof.",
    )(function)
    function = click.option(
        "--max-age",
        type=Duration(),
        help="How old the revocation head may be (15m, 24h, 7d); without one so young, nothing is said.",
    )(function)
    return click.option(
        "--revocations",
        type=click.Path(path_type=Path, dir_okay=False),
        help="A revocation head of the gate, https://GATE/log/revocations: what it lists is refused.",
    )(function)


def yes_option(function: F) -> F:
    """--yes: answer the question beforehand."""
    return click.option("--yes", is_flag=True, help="Do not ask; for scripts.")(function)


def example(*lines: str) -> str:
    """An epilog with an example that a stranger can copy."""
    return "\b\nExample:\n" + "\n".join(f"  {line}" for line in lines)
