"""`demo`: hands over to the demo's own module."""

from __future__ import annotations

import click

from presspass.cli.options import example


@click.command(
    "demo",
    short_help="See the gate at work, in five scenes.",
    epilog=example("presspass demo --keep"),
)
@click.option(
    "--keep",
    is_flag=True,
    help="Leave everything running at the end, and print the console's address.",
)
def demo_command(keep: bool) -> None:
    """Run the whole gate on this machine, live: an attack without it, the same one at the gate, a release that goes
    out, attacks on the gate, and a proof checked offline.

    Needs the test peers (`make demo` prepares them). Leaves the published files, proofs and trust root in .demo/out/.

    Exit codes: 0 only if all of it happened as told; 1 otherwise.
    """
    from presspass.drill import demo

    raise SystemExit(demo.run(keep=keep))
