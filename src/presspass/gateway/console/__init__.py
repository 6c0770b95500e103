"""The pages people see: what changes, approve, veto, enrol, revoke, what waits. Rendered here, no data of their own.

`routes(deps)` gives the pages; `error_page(...)` the page for browsers in place of a problem+json body.
Pages are public by their address (a capability) except the list and what can be revoked, which need a view token or
somebody who is signed in. Signing in lets people look and ask; acting needs a signature, which goes to the API.
"""

from presspass.gateway.console.models import (
    ActFacts,
    Activity,
    ActLine,
    AskerFacts,
    Ballot,
    Day,
    Deps,
    History,
    Identities,
    InForce,
    Overview,
    PackageLine,
    Packages,
    PolicyStep,
    ReleaseFacts,
    ReleaseLine,
    RequestFacts,
    RequestLine,
    Revocable,
    SignatureFacts,
    SignerFacts,
    Situation,
    StopLine,
    Viewer,
    WorkflowFacts,
)
from presspass.gateway.console.views import error_page, routes, situation_of, view_token, wants_page

__all__ = [
    "ActFacts",
    "ActLine",
    "Activity",
    "AskerFacts",
    "Ballot",
    "Day",
    "Deps",
    "History",
    "Identities",
    "InForce",
    "Overview",
    "PackageLine",
    "Packages",
    "PolicyStep",
    "ReleaseFacts",
    "ReleaseLine",
    "RequestFacts",
    "RequestLine",
    "Revocable",
    "SignatureFacts",
    "SignerFacts",
    "Situation",
    "Viewer",
    "StopLine",
    "WorkflowFacts",
    "error_page",
    "routes",
    "situation_of",
    "view_token",
    "wants_page",
]
