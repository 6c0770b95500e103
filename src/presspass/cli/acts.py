"""Acts of the press as `history` and `verify` tell them on a terminal."""

from __future__ import annotations

from presspass.cli.show import safe, say
from presspass.cli.times import when
from presspass.core.digests import JsonObject


def acts_text(count: int) -> str:
    """ "1 act", "2 acts"."""
    return f"{count} act{'' if count == 1 else 's'}"


def show_act(act: JsonObject, names: dict[str, str]) -> None:
    """One act in words. `names`: people's, by id, as far as they are known."""
    where = f" to {act['upstream']}" if act.get("upstream") else ""
    say(
        f"{when(act['at'])}  {safe(act['outcome']):<10} {safe(act['kind'])}: {safe(act['title'])}{safe(where)}"
    )
    for one in act["signed_by"]:
        name = names.get(one["person"], "")
        who = f"{name} ({one['person']})" if name else one["person"] or "the recovery key"
        say(f"    signed by  {safe(who)}, {safe(one['kind'])} {safe(one['key'])[:16]}…")
    if act.get("publisher"):
        ran = f" @ {act['workflow_sha256'][:16]}…" if act["workflow_sha256"] else ""
        say(f"    asked by   {safe(act['publisher'])}: {safe(act['workflow'])}{safe(ran)}")
    policies = " and ".join(str(number) for number in act["policies"])
    positions = ", ".join(str(one["position"]) for one in act["entries"])
    say(
        f"    policy {safe(policies)}; entries {safe(positions)}; statement {safe(act['digest'])[:16]}…"
    )
