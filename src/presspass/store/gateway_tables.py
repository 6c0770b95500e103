"""The gateway's database. Written by the gateway alone; the press reads it and believes nothing of it.

Times are whole milliseconds since the epoch (`…_ms`). Digests are 64 hex digits.
"""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy import (
    BigInteger,
    Column,
    Index,
    Integer,
    LargeBinary,
    String,
    Table,
    UniqueConstraint,
)

METADATA = sa.MetaData()
_SERIAL = BigInteger().with_variant(Integer, "sqlite")

#: The per-package, expiring right to upload, kept as a hash. `person`: whose it is ("" for a machine).
UPLOAD_TOKEN = Table(
    "upload_token",
    METADATA,
    Column("hash", String(64), primary_key=True),
    Column("upstream", String(128), nullable=False),
    Column("project", String(128), nullable=False),
    Column("person", String(128), nullable=False),
    Column("created_ms", BigInteger, nullable=False),
    Column("expires_ms", BigInteger, nullable=False),
    Column("revoked_ms", BigInteger),
)

#: The just-in-time right of a workload: one set, one version, one run, minutes (law 4). `project` and `version` are ""
#: until their first use where the exchange could not know them; `release`: the set it has opened; `files`: names and
#: SHA-256 where the workload has bound them. `workload`: hash of the identity token it was given for; `publisher`: name
#: of the binding. An ended pass has `ended_ms` and why.
PASS = Table(
    "pass",
    METADATA,
    Column("hash", String(64), primary_key=True),
    Column("workload", String(64), sa.ForeignKey("workload_token.hash"), nullable=False),
    Column("publisher", String(128), nullable=False),
    Column("upstream", String(128), nullable=False),
    Column("project", String(214), nullable=False),
    Column("version", String(128), nullable=False),
    Column("person", String(128), nullable=False),
    Column("release", String(64)),
    Column("files", LargeBinary),
    Column("created_ms", BigInteger, nullable=False),
    Column("expires_ms", BigInteger, nullable=False),
    Column("ended_ms", BigInteger),
    Column("ended_why", String(64), nullable=False, default=""),
)
Index("pass_by_publisher", PASS.c.publisher)
Index("pass_by_workload", PASS.c.workload)

#: Identity tokens that were exchanged: the raw token for the press, which believes nothing else here. `workflow`:
#: SHA-256 of the workflow file, "" where the provider names none; `workflow_path`: the git objects that prove it;
#: `identity` and `run`: what revocations name; `stage_only`: the workflow is another than the bound one; `described`:
#: canonical JSON, for pages.
WORKLOAD_TOKEN = Table(
    "workload_token",
    METADATA,
    Column("serial", _SERIAL, primary_key=True, autoincrement=True),
    Column("hash", String(64), nullable=False, unique=True),
    Column("token", LargeBinary, nullable=False),
    Column("publisher", String(128), nullable=False),
    Column("publisher_statement", String(64), nullable=False),
    Column("delegation", String(64), nullable=False, default=""),
    Column("delegation_name", String(128), nullable=False, default=""),
    Column("identity", String(64), nullable=False),
    Column("run", String(64), nullable=False),
    Column("workflow", String(64), nullable=False, default=""),
    Column("workflow_path", LargeBinary),
    Column("stage_only", Integer, nullable=False, default=0),
    Column("set_digest", String(64), nullable=False, default=""),
    Column("described", LargeBinary, nullable=False),
    Column("received_ms", BigInteger, nullable=False),
)
Index("workload_token_by_run", WORKLOAD_TOKEN.c.run)

#: Tokens that were seen: each is exchanged once. Kept until the token has expired, and the leeway is over.
SEEN_TOKEN = Table(
    "seen_token",
    METADATA,
    Column("key", String(64), primary_key=True),
    Column("run", String(64), nullable=False, default=""),
    Column("until_ms", BigInteger, nullable=False),
)

#: Workflow files by their SHA-256, to show people what changed.
WORKFLOW = Table(
    "workflow",
    METADATA,
    Column("sha256", String(64), primary_key=True),
    Column("content", LargeBinary, nullable=False),
    Column("seen_ms", BigInteger, nullable=False),
)

#: What ended an identity at this gate: signed revocations, and narrowings that automation made (replay, leaving). In
#: force until the press's journal says that a quorum cleared it. `id` as the press latches it.
STOP = Table(
    "stop",
    METADATA,
    Column("serial", _SERIAL, primary_key=True, autoincrement=True),
    Column("id", String(64), nullable=False, unique=True),
    Column("what", String(16), nullable=False),
    Column("target", String(128), nullable=False),
    Column("reason", String, nullable=False, default=""),
    Column("source", String(16), nullable=False),
    Column("statement", LargeBinary),
    Column("approval", LargeBinary),
    Column("made_ms", BigInteger, nullable=False),
)
Index("stop_by_target", STOP.c.what, STOP.c.target)

#: One set of files of one version. `live` is 1 until the set is settled, then null: at most one live set per version.
#: `note`: what whoever asked says beside it, unproved.
RELEASE = Table(
    "release",
    METADATA,
    Column("id", String(64), primary_key=True),
    Column("upstream", String(128), nullable=False),
    Column("project", String(128), nullable=False),
    Column("version", String(128), nullable=False),
    Column("requester", String(128), nullable=False),
    Column("token_hash", String(64), nullable=False),
    Column("state", String(16), nullable=False),
    Column("live", Integer),
    Column("code", String(64), nullable=False, default=""),
    Column("reason", String, nullable=False, default=""),
    Column("opened_ms", BigInteger, nullable=False),
    Column("touched_ms", BigInteger, nullable=False),
    Column("closed_ms", BigInteger),
    Column("statement", String(64)),
    Column("review", String(64)),
    Column("workload", String(64), nullable=False, default="", server_default=""),
    Column("note", String, nullable=False, default="", server_default=""),
    Column("updated_ms", BigInteger, nullable=False),
    UniqueConstraint("upstream", "project", "version", "live", name="one_live_set_per_version"),
)
Index("release_by_state", RELEASE.c.state)

RELEASE_FILE = Table(
    "release_file",
    METADATA,
    Column("release", String(64), sa.ForeignKey("release.id"), primary_key=True),
    Column("filename", String(255), primary_key=True),
    Column("sha256", String(64), nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("uploaded_ms", BigInteger, nullable=False),
)

#: The inspector's reports, canonical JSON; `digest` is their SHA-256.
REVIEW = Table(
    "review",
    METADATA,
    Column("digest", String(64), primary_key=True),
    Column("report", LargeBinary, nullable=False),
    Column("made_ms", BigInteger, nullable=False),
)

#: The requests that a plan names, in its order. `plan`: digest of the plan's statement.
PLAN_MEMBER = Table(
    "plan_member",
    METADATA,
    Column("plan", String(64), primary_key=True),
    Column("position", Integer, primary_key=True, autoincrement=False),
    Column("request", String(64), nullable=False),
)
Index("plan_member_by_request", PLAN_MEMBER.c.request)

#: Statements that people are asked to sign. `statement` holds the canonical bytes with intent "approve".
REQUEST = Table(
    "request",
    METADATA,
    Column("digest", String(64), primary_key=True),
    Column("veto_digest", String(64), nullable=False, unique=True),
    Column("kind", String(16), nullable=False),
    Column("release", String(64), sa.ForeignKey("release.id")),
    Column("statement", LargeBinary, nullable=False),
    Column("created_ms", BigInteger, nullable=False),
)

#: Signatures as received, canonical JSON. `statement`: the digest that was signed (approve or veto). `note`:
#: unsigned words.
APPROVAL = Table(
    "approval",
    METADATA,
    Column("id", _SERIAL, primary_key=True, autoincrement=True),
    Column("request", String(64), sa.ForeignKey("request.digest"), nullable=False),
    Column("statement", String(64), nullable=False),
    Column("key", String(64), nullable=False),
    Column("approval", LargeBinary, nullable=False),
    Column("note", String, nullable=False, default=""),
    Column("received_ms", BigInteger, nullable=False),
    UniqueConstraint("statement", "key", name="one_signature_per_key"),
)

#: Narrowings signed outside a request (freeze). The press latches each one it sees.
NARROWING = Table(
    "narrowing",
    METADATA,
    Column("id", _SERIAL, primary_key=True, autoincrement=True),
    Column("statement", LargeBinary, nullable=False),
    Column("approval", LargeBinary, nullable=False),
    Column("received_ms", BigInteger, nullable=False),
)

#: Single-use links by which one named person enrols one key. Only the hash of the link is kept. `origin`: where the key
#: is enrolled for a move of the gate, "" for the origin in force.
ENROLMENT_LINK = Table(
    "enrolment_link",
    METADATA,
    Column("hash", String(64), primary_key=True),
    Column("person", String(128), nullable=False),
    Column("details", String(64), nullable=False),
    Column("groups", String, nullable=False),
    Column("created_ms", BigInteger, nullable=False),
    Column("expires_ms", BigInteger, nullable=False),
    Column("used_ms", BigInteger),
    Column("origin", String(2048), nullable=False, default="", server_default=""),
)

#: Keys as enrolled, waiting for genesis or for an approved roster statement.
ENROLMENT = Table(
    "enrolment",
    METADATA,
    Column("key", String(64), primary_key=True),
    Column("person", String(128), nullable=False),
    Column("details", String(64), nullable=False),
    Column("groups", String, nullable=False),
    Column("key_json", LargeBinary, nullable=False),
    Column("link", String(64), nullable=False),
    Column("enrolled_ms", BigInteger, nullable=False),
)

#: What the roster only commits to: names, addresses, forge ids. Erasable.
PERSON_DETAILS = Table(
    "person_details",
    METADATA,
    Column("commitment", String(64), primary_key=True),
    Column("details", LargeBinary, nullable=False),
)

#: Rule documents that a policy asked for names by their digest: canonical bytes.
RULES = Table(
    "rules",
    METADATA,
    Column("digest", String(64), primary_key=True),
    Column("document", LargeBinary, nullable=False),
    Column("received_ms", BigInteger, nullable=False),
)

#: WebAuthn challenges handed out for enrolment, single use.
CEREMONY = Table(
    "ceremony",
    METADATA,
    Column("link", String(64), primary_key=True),
    Column("challenge", LargeBinary, nullable=False),
    Column("expires_ms", BigInteger, nullable=False),
)

#: Who may look at the list of releases (never: sign). Only hashes.
VIEW_TOKEN = Table(
    "view_token",
    METADATA,
    Column("hash", String(64), primary_key=True),
    Column("created_ms", BigInteger, nullable=False),
    Column("expires_ms", BigInteger, nullable=False),
)

#: Who is signed in, and by what. `hash`: of the secret in the cookie or the terminal's file; `how`: oidc, passkey;
#: `place`: browser or terminal; `provider_session`: the provider's `sid`, "" where it gave none. A session lets its
#: holder look and ask, never approve.
SESSION = Table(
    "session",
    METADATA,
    Column("hash", String(64), primary_key=True),
    Column("person", String(128), nullable=False),
    Column("how", String(16), nullable=False),
    Column("place", String(16), nullable=False),
    Column("created_ms", BigInteger, nullable=False),
    Column("seen_ms", BigInteger, nullable=False),
    Column("expires_ms", BigInteger, nullable=False),
    Column("ended_ms", BigInteger),
    Column("provider_session", String(255), nullable=False, default="", server_default=""),
)
Index("session_by_person", SESSION.c.person)

#: Somebody who has been sent to the sign-in provider and may come back once. `hash`: of the secret in the browser that
#: left; `verifier`: of PKCE (RFC 7636).
SIGN_IN_ATTEMPT = Table(
    "sign_in_attempt",
    METADATA,
    Column("hash", String(64), primary_key=True),
    Column("state", String(128), nullable=False),
    Column("nonce", String(128), nullable=False),
    Column("verifier", String(128), nullable=False),
    Column("back_to", String(2048), nullable=False),
    Column("expires_ms", BigInteger, nullable=False),
)

#: Passkeys that sign in and do nothing else; none of them is in any roster. `credential`: base64url; `key`: SHA-256 of
#: the public key as a roster names keys; `cose`: the public key as the authenticator gave it.
SIGN_IN_KEY = Table(
    "sign_in_key",
    METADATA,
    Column("credential", String(1400), primary_key=True),
    Column("person", String(128), nullable=False),
    Column("key", String(64), nullable=False, unique=True),
    Column("cose", LargeBinary, nullable=False),
    Column("name", String(128), nullable=False),
    Column("created_ms", BigInteger, nullable=False),
    Column("used_ms", BigInteger),
)

#: Challenges handed out for making (`person` set) or using ("") a sign-in passkey; each is taken back once.
SIGN_IN_CHALLENGE = Table(
    "sign_in_challenge",
    METADATA,
    Column("id", String(64), primary_key=True),
    Column("person", String(128), nullable=False),
    Column("challenge", LargeBinary, nullable=False),
    Column("expires_ms", BigInteger, nullable=False),
)

#: Single-use links of the operator by which one named person makes a first sign-in passkey.
SIGN_IN_LINK = Table(
    "sign_in_link",
    METADATA,
    Column("hash", String(64), primary_key=True),
    Column("person", String(128), nullable=False),
    Column("created_ms", BigInteger, nullable=False),
    Column("expires_ms", BigInteger, nullable=False),
    Column("used_ms", BigInteger),
)

#: Terminals that wait for a signed-in person (RFC 8628). `state`: waiting, allowed, denied. A row goes when its token
#: is given out. `client` and `address` are what the terminal said and where it came from, for the person to see.
DEVICE_GRANT = Table(
    "device_grant",
    METADATA,
    Column("hash", String(64), primary_key=True),
    Column("user_code", String(16), nullable=False, unique=True),
    Column("client", String(128), nullable=False),
    Column("address", String(64), nullable=False),
    Column("state", String(16), nullable=False),
    Column("person", String(128), nullable=False, default=""),
    Column("how", String(16), nullable=False, default=""),
    Column("created_ms", BigInteger, nullable=False),
    Column("expires_ms", BigInteger, nullable=False),
    Column("interval_s", Integer, nullable=False),
    Column("polled_ms", BigInteger),
)

#: Somebody whom an identity provider has provisioned (SCIM 2.0). A row gives nothing; it says whom a deactivation
#: means. `user_key`: the user name as it is compared; `active`: 1, 0, or null where nothing was said.
SCIM_USER = Table(
    "scim_user",
    METADATA,
    Column("id", String(64), primary_key=True),
    Column("user_key", String(255), nullable=False, unique=True),
    Column("user_name", String(255), nullable=False),
    Column("external_id", String(255)),
    Column("display_name", String(255)),
    Column("active", Integer),
    Column("created_ms", BigInteger, nullable=False),
    Column("updated_ms", BigInteger, nullable=False),
)

SCIM_GROUP = Table(
    "scim_group",
    METADATA,
    Column("id", String(64), primary_key=True),
    Column("external_id", String(255)),
    Column("display_name", String(255), nullable=False),
    Column("created_ms", BigInteger, nullable=False),
    Column("updated_ms", BigInteger, nullable=False),
)

SCIM_MEMBER = Table(
    "scim_member",
    METADATA,
    Column("group_id", String(64), primary_key=True),
    Column("user_id", String(64), primary_key=True),
)
Index("scim_member_by_user", SCIM_MEMBER.c.user_id)

#: What an identity provider says who it is by; one holds at a time. `required_group`: the name of the group whose
#: members alone stay ("" for none).
SCIM_TOKEN = Table(
    "scim_token",
    METADATA,
    Column("hash", String(64), primary_key=True),
    Column("required_group", String(255), nullable=False, default=""),
    Column("created_ms", BigInteger, nullable=False),
    Column("ended_ms", BigInteger),
)

#: Refusals and other events at the doors, for the audit path. Of these kinds `detail` is a number: refusals within a
#: minute that have no row of their own, of strangers or beyond the bound.
STRANGERS, LEFT_OUT = "strangers", "left-out"
EVENT = Table(
    "event",
    METADATA,
    Column("id", _SERIAL, primary_key=True, autoincrement=True),
    Column("at_ms", BigInteger, nullable=False),
    Column("kind", String(64), nullable=False),
    Column("release", String(64), nullable=False, default=""),
    Column("code", String(64), nullable=False, default=""),
    Column("detail", String, nullable=False, default=""),
)
