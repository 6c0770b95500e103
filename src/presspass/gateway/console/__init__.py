"""The pages people see: what changes, approve, veto, enrol, what waits. Rendered here, no data of their own.

`routes(deps)` gives the pages; `error_page(...)` the page for browsers in place of a problem+json body.
Pages are public by their address (a capability) except the list, which needs a view token or somebody who is signed
in. Signing in lets people look and ask; acting needs a signature, which goes to the API.
"""

from presspass.gateway.console.models import (
    Ballot,
    Deps,
    Overview,
    ReleaseFacts,
    ReleaseLine,
    RequestFacts,
    RequestLine,
    SignatureFacts,
    Situation,
    Viewer,
)
from presspass.gateway.console.views import error_page, routes, wants_page

__all__ = [
    "Ballot",
    "Deps",
    "Overview",
    "ReleaseFacts",
    "ReleaseLine",
    "RequestFacts",
    "RequestLine",
    "SignatureFacts",
    "Situation",
    "Viewer",
    "error_page",
    "routes",
    "wants_page",
]
