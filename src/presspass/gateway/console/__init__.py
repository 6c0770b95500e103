"""The pages people see: what changes, approve, veto, enrol, revoke, what waits. Rendered here, no data of their own.

`routes(deps)` gives the pages; `error_page(...)` the page for browsers in place of a problem+json body.
Pages are public by their address (a capability) except the list and what can be revoked, which need a view token.
Nobody signs in: acting needs a signature, which goes to the API.
"""

from presspass.gateway.console.models import (
    ActFacts,
    AskerFacts,
    Ballot,
    Deps,
    Identities,
    Overview,
    ReleaseFacts,
    ReleaseLine,
    RequestFacts,
    RequestLine,
    Revocable,
    SignatureFacts,
    SignerFacts,
    Situation,
    StopLine,
    WorkflowFacts,
)
from presspass.gateway.console.views import error_page, routes, view_token, wants_page

__all__ = [
    "ActFacts",
    "AskerFacts",
    "Ballot",
    "Deps",
    "Identities",
    "Overview",
    "ReleaseFacts",
    "ReleaseLine",
    "RequestFacts",
    "RequestLine",
    "Revocable",
    "SignatureFacts",
    "SignerFacts",
    "Situation",
    "StopLine",
    "WorkflowFacts",
    "error_page",
    "routes",
    "view_token",
    "wants_page",
]
