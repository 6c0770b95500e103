"""A plan: many releases that people sign at once.

Each is named by the digest of its own statement, so that every file is bound, and each is decided by itself: a
signature under the plan counts for a release exactly when it would have counted under that release's own statement.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from presspass.core.digests import JsonObject, is_sha256
from presspass.core.errors import Code, Refusal
from presspass.core.limits import RELEASES_PER_PLAN_MAX
from presspass.core.strict import Members

#: In which order its releases go out. `any`: each as soon as it may; `given`: as they stand in the plan, none while one
#: before it is on its way; `held`: as they stand, none before each of those before it has been published.
ORDERS: Final = ("any", "given", "held")


@dataclass(frozen=True, slots=True)
class PlanBody:
    """`releases`: digests of release statements, no two alike; `order`: of ORDERS. Where the order is any, they are
    sorted, so that the same plan is written in one way.
    """

    releases: tuple[str, ...]
    order: str = "any"

    def to_json(self) -> JsonObject:
        return {"order": self.order, "releases": list(self.releases)}

    @classmethod
    def from_json(cls, value: object) -> PlanBody:
        members = Members(value, "plan")
        body = cls(
            members.items("releases", _digest, count_max=RELEASES_PER_PLAN_MAX),
            members.choice("order", ORDERS),
        )
        members.done()
        if not body.releases:
            members.refuse("names no releases")
        if len(set(body.releases)) != len(body.releases):
            members.refuse("names a release twice")
        if body.order == "any" and list(body.releases) != sorted(body.releases):
            members.refuse("has releases in another order than that of their digests")
        return body


def _digest(value: object) -> str:
    if not is_sha256(value):
        raise Refusal(Code.STATEMENT_MALFORMED, "A plan names releases by SHA-256 digests alone.")
    return str(value)
