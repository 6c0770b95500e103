"""`login`, `logout`, `whoami`: signing in at a terminal by a browser (RFC 8628). It looks and asks, never approves."""

from __future__ import annotations

import getpass
import platform
import time
from typing import Any

import click

from presspass.cli.client import Gate
from presspass.cli.exits import TimedOutError
from presspass.cli.options import example, format_option
from presspass.cli.sessions import chosen_origin, gate_origin, keep_session, signed_in
from presspass.cli.show import emit_json, note, safe, say
from presspass.core.errors import Code, Fault, Refusal
from presspass.core.limits import NAME_CHARS_MAX
from presspass.core.statement import is_sound_address

_GRANT = "urn:ietf:params:oauth:grant-type:device_code"
_SLOWER_S = 5
_WAIT_S_MAX = 3600


@click.command(
    "login",
    short_help="Sign this terminal in, by a browser.",
    epilog=example("presspass login https://gate.example"),
)
@click.argument("url")
@format_option
def login_command(url: str, as_json: bool) -> None:
    """Sign this terminal in at the gate at URL. Prints an address and a code: open the one in a browser where you are
    signed in, compare the other, allow it.

    For twelve hours the terminal can then look and ask in your name. It can approve nothing: that takes your key.

    Exit codes: 0 signed in; 1 denied, expired or refused; 3 nobody answered; 4 the gate cannot be reached.
    """
    origin = gate_origin(url)
    client = f"presspass on {_host()}"[:NAME_CHARS_MAX]
    with Gate(origin) as gate:
        places = gate.get_json("/.well-known/oauth-authorization-server")
        begin = _endpoint(origin, places["device_authorization_endpoint"])
        asked = gate.post_form(begin, {"client_id": client}, oauth_errors=True)
        _tell(asked, as_json)
        token = _wait(gate, _endpoint(origin, places["token_endpoint"]), asked)
    keep_session(origin, token)
    with signed_in(origin) as gate:
        who = gate.get_json("/api/v1/session")
    if as_json:
        emit_json({"origin": origin, **who})
        return
    say(f"signed in at {safe(origin)} as {safe(who['name'] or who['person'])}")


def _host() -> str:
    """This machine and user, as the page shows them; both are this machine's own word."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # nobody has this number here
        user = "unknown user"
    found = f"{platform.node() or 'a terminal'} ({user})"
    return "".join(char if char.isprintable() else "?" for char in found)


def _tell(asked: dict[str, Any], as_json: bool) -> None:
    address, code = safe(asked["verification_uri_complete"]), safe(asked["user_code"])
    tell = note if as_json else say
    tell(f"open  {address}")
    tell(f"code  {code}")
    note("Allow it there only if the page shows this code. Waiting …")


def _endpoint(origin: str, address: object) -> str:
    """Where the gate says it answers (RFC 8414): where uploads have a host of their own, tokens are had there."""
    found = address if isinstance(address, str) else ""
    if not is_sound_address(found) or (origin.startswith("https:") and found.startswith("http:")):
        raise Fault(
            "gate.bad-answer", f"{origin} names an address that is not https.", retryable=False
        )
    return found


def _wait(gate: Gate, place: str, asked: dict[str, Any]) -> str:
    interval = float(asked["interval"])
    deadline = time.monotonic() + min(float(asked["expires_in"]), _WAIT_S_MAX)
    form = {"grant_type": _GRANT, "device_code": str(asked["device_code"])}
    while time.monotonic() < deadline:
        time.sleep(max(0.1, interval))
        answer = gate.post_form(place, form, oauth_errors=True)
        if "access_token" in answer:
            return str(answer["access_token"])
        error = answer.get("error")
        if error == "slow_down":
            interval += _SLOWER_S
        elif error == "access_denied":
            raise Refusal(Code.SESSION_MISSING, "It was denied in the browser.")
        elif error == "expired_token":
            break
        elif error != "authorization_pending":
            raise Fault("gate.bad-answer", f"The gate answered {error!r}.", retryable=False)
    raise TimedOutError("Nobody answered in the browser in time.")


@click.command(
    "logout",
    short_help="End this terminal's session.",
    epilog=example("presspass logout https://gate.example"),
)
@click.argument("url", required=False)
def logout_command(url: str | None) -> None:
    """End this terminal's session, at the gate and here. URL may be left out where there is only one.

    Exit codes: 0 ended; 1 was not signed in; 4 the gate cannot be reached: the token is then forgotten here alone.
    """
    origin = chosen_origin(url)
    with signed_in(origin) as gate:
        keep_session(origin, "")
        gate.post_json("/api/v1/session/end", {})
    say(f"signed out of {safe(origin)}")


@click.command(
    "whoami",
    short_help="Show who this terminal is signed in as.",
    epilog=example("presspass whoami"),
)
@click.argument("url", required=False)
@format_option
def whoami_command(url: str | None, as_json: bool) -> None:
    """Show the person and the roles behind this terminal's session.

    Exit codes: 0 shown; 1 not signed in, or the session has ended; 4 the gate cannot be reached.
    """
    origin = chosen_origin(url)
    with signed_in(origin) as gate:
        who = gate.get_json("/api/v1/session")
    if as_json:
        emit_json({"origin": origin, **who})
        return
    until = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(int(who["expires_at"])))
    say(f"{safe(who['name'] or who['person'])} ({', '.join(map(safe, who['roles']))})")
    note(f"at {safe(origin)} until {until}; this session approves nothing.")
