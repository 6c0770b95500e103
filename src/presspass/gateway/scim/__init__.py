"""SCIM 2.0 (RFC 7643, RFC 7644): an identity provider says who has left. It narrows, and nothing else.

1. A user is a row that maps a name at the provider to a person of the roster. Creating, changing or activating one
   enrols nobody, gives no role and no session, and takes back no stop.
2. `active: false`, a deletion, or the loss of the required group is "this person leaves" (`gateway.leaving`), in the
   transaction that changes the row.
3. Who is meant is said by the ids in the person's details, which the roster commits to and people have approved:
   `oidc:<issuer>#<externalId>`, `scim:<externalId>` or `scim:<userName>`.
"""
