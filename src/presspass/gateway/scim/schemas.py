"""The resources that this gate serves by SCIM: less than RFC 7643 has, because nothing else would have an effect.

Attributes that are not here are dropped when they arrive and kept nowhere: names, addresses and departments of people
are not this gate's business.
"""

from __future__ import annotations

from typing import Annotated, Any, Final

from pydantic import Field
from scim2_models import (
    URN,
    AuthenticationScheme,
    CaseExact,
    ChangePassword,
    ComplexAttribute,
    ETag,
    Extension,
    Filter,
    Mutability,
    Patch,
    Reference,
    Required,
    Resource,
    ResourceType,
    ScimPolicy,
    ScimProvider,
    ServiceProviderConfig,
    Sort,
    Uniqueness,
)
from scim2_models import Bulk as BulkSupport

from presspass.core.limits import SCIM_PAGE_MAX, SCIM_TEXT_CHARS_MAX

ROOT: Final = "/scim/v2"
_USER: Final = "urn:ietf:params:scim:schemas:core:2.0:User"
_GROUP: Final = "urn:ietf:params:scim:schemas:core:2.0:Group"
STANDING: Final = "urn:presspass:scim:schemas:1.0:Standing"
NOTE: Final = "Stopped. Activating or creating the user here restores nothing: a quorum clears the stop, or it stays."
_Text = Annotated[str, Field(max_length=SCIM_TEXT_CHARS_MAX)]


class GroupMembership(ComplexAttribute):
    """A group of a user, as the groups say it."""

    value: Annotated[str | None, Mutability.read_only, CaseExact.true] = None
    display: Annotated[str | None, Mutability.read_only] = None


class User(Resource[Any]):
    """Whom the provider knows. `active`: false is "has left"; true gives nothing."""

    __schema__ = URN(_USER)

    user_name: Annotated[_Text | None, Required.true, Uniqueness.server] = None
    display_name: _Text | None = None
    active: bool | None = None
    groups: Annotated[list[GroupMembership] | None, Mutability.read_only] = None


class Standing(Extension):
    """What holds at the gate for the person behind a user, whatever `active` says. The provider cannot write it."""

    __schema__ = URN(STANDING)

    person: Annotated[str | None, Mutability.read_only, CaseExact.true] = None
    stopped: Annotated[bool | None, Mutability.read_only] = None
    stop: Annotated[str | None, Mutability.read_only, CaseExact.true] = None
    note: Annotated[str | None, Mutability.read_only] = None


class GroupMember(ComplexAttribute):
    """A user in a group. Groups in groups are refused."""

    value: Annotated[_Text | None, Mutability.immutable, CaseExact.true] = None
    ref: Annotated[Reference[User] | None, Mutability.immutable] = Field(
        None, serialization_alias="$ref", validation_alias="$ref"
    )
    type: Annotated[str | None, Mutability.immutable] = Field(None, examples=["User"])


class Group(Resource[Any]):
    """A group at the provider. One may be required: whoever loses it leaves."""

    __schema__ = URN(_GROUP)

    display_name: Annotated[_Text | None, Required.true] = None
    members: list[GroupMember] | None = None


Account: Any = User.__class_getitem__(Standing)
#: What providers are known to send beyond the letter of the RFC, none of which can be mistaken for something else.
POLICY: Final = ScimPolicy(
    unknown=ScimPolicy.Unknown.ignore,
    remove_value_as_filter=ScimPolicy.RemoveValue.apply,
)


def provider(origin: str) -> ScimProvider:
    """The service as it describes itself at `origin`."""
    config = ServiceProviderConfig(
        documentation_uri=None,
        patch=Patch(supported=True),
        bulk=BulkSupport(supported=False, max_operations=0, max_payload_size=0),
        filter=Filter(supported=True, max_results=SCIM_PAGE_MAX),
        change_password=ChangePassword(supported=False),
        sort=Sort(supported=True),
        etag=ETag(supported=False),
        authentication_schemes=[
            AuthenticationScheme(
                type=AuthenticationScheme.Type.oauthbearertoken,
                name="Bearer token",
                description="Made by the operator: presspass scim token.",
                primary=True,
            )
        ],
    )
    types = [ResourceType.from_resource(Account), ResourceType.from_resource(Group)]
    return ScimProvider([User, Standing, Group], types, config, POLICY)
