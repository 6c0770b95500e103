"""The press's journal: what it has seen, decided and done. Written by the press alone; the gateway reads it.

Times are whole milliseconds since the epoch (`…_ms`). Digests are 64 hex digits. No secret is in here.
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

#: Single facts by name: the genesis digest, the highest wall clock seen, the restore mark.
FACT = Table(
    "fact",
    METADATA,
    Column("name", String(64), primary_key=True),
    Column("value", String, nullable=False),
)

#: Statements that were admitted to a chain, and releases that were published: canonical bytes. `height` counts the
#: admitted ones from 0 (genesis): the order in which the chains grew.
STATEMENT = Table(
    "statement",
    METADATA,
    Column("digest", String(64), primary_key=True),
    Column("kind", String(16), nullable=False),
    Column("statement", LargeBinary, nullable=False),
    Column("height", BigInteger, nullable=False, default=0),
    Column("admitted_ms", BigInteger, nullable=False),
)

#: The head of each chain: `roster`, `policy`, `revocation`, `upstream:<name>`, `publisher:<name>`, `delegation:<name>`,
#: `standing:<name>`, ….
#: `digest`: of its newest statement, or of the member of a bundle (`core.effects`). `height` only goes up.
HEAD = Table(
    "head",
    METADATA,
    Column("chain", String(160), primary_key=True),
    Column("digest", String(64), nullable=False),
    Column("height", BigInteger, nullable=False),
)

#: Signatures that the press has verified under admitted statements: canonical JSON.
APPROVAL = Table(
    "approval",
    METADATA,
    Column("statement", String(64), primary_key=True),
    Column("key", String(64), primary_key=True),
    Column("approval", LargeBinary, nullable=False),
    Column("seen_ms", BigInteger, nullable=False),
)

#: What the press thinks of each statement it has seen. `first_seen_ms` starts every delay. The gateway shows this.
DECISION = Table(
    "decision",
    METADATA,
    Column("statement", String(64), primary_key=True),
    Column("kind", String(16), nullable=False),
    Column("release", String(64), nullable=False, default=""),
    Column("state", String(16), nullable=False),
    Column("code", String(64), nullable=False, default=""),
    Column("message", String, nullable=False, default=""),
    Column("first_seen_ms", BigInteger, nullable=False),
    Column("reached_ms", BigInteger),
    Column("updated_ms", BigInteger, nullable=False),
)
Index("decision_by_release", DECISION.c.release)

#: The releases of each plan that the press has seen, in the plan's order: a veto of the plan stops each of them.
PLAN_RELEASE = Table(
    "plan_release",
    METADATA,
    Column("plan", String(64), primary_key=True),
    Column("position", Integer, primary_key=True, autoincrement=False),
    Column("release", String(64), nullable=False),
)
Index("plan_release_by_release", PLAN_RELEASE.c.release)

#: The intent to publish, journalled before the first byte goes out; single use. `height`: of the newest admitted
#: statement when it was claimed. The holder of the lease is the one with the highest `fence`.
INTENT = Table(
    "intent",
    METADATA,
    Column("statement", String(64), primary_key=True),
    Column("height", BigInteger, nullable=False),
    Column("claimed_ms", BigInteger, nullable=False),
    Column("nonce", String(32), nullable=False, unique=True),
    Column("owner", String(64), nullable=False, default=""),
    Column("lease_until_ms", BigInteger, nullable=False, default=0),
    Column("fence", BigInteger, nullable=False, default=0),
    Column("attempts", Integer, nullable=False, default=0),
    Column("next_ms", BigInteger, nullable=False, default=0),
    Column("finished_ms", BigInteger),
)

#: Workloads as the press has verified them, by the hash of their token. `state`: "seen", "verified", or "refused" with
#: `code`. `person`: id or ""; `release`: the set it was used for, once, and whether it `counted` as an identity then.
#: `repository`, `commit_id` and `ref`: what its forge is told about, never what anything is decided by.
WORKLOAD = Table(
    "workload",
    METADATA,
    Column("token", String(64), primary_key=True),
    Column("state", String(16), nullable=False),
    Column("code", String(64), nullable=False, default=""),
    Column("message", String, nullable=False, default=""),
    Column("publisher", String(128), nullable=False, default=""),
    Column("publisher_statement", String(64), nullable=False, default=""),
    Column("delegation", String(64), nullable=False, default=""),
    Column("identity", String(64), nullable=False, default=""),
    Column("run", String(64), nullable=False, default=""),
    Column("workflow", String(64), nullable=False, default=""),
    Column("person", String(128), nullable=False, default=""),
    Column("set_digest", String(64), nullable=False, default=""),
    Column("version", String(128), nullable=False, default=""),
    Column("repository", String, nullable=False, default=""),
    Column("commit_id", String, nullable=False, default=""),
    Column("ref", String, nullable=False, default=""),
    Column("replay_key", String(64), unique=True),
    Column("first_seen_ms", BigInteger, nullable=False),
    Column("release", String(64), unique=True),
    Column("counted", Integer, nullable=False, default=0),
)

#: Releases that passed under a standing approval, by the digest of their statement: `standing` is that of the approval.
#: Every one counts, whatever became of it. `chosen`: to be read afterwards, until `due_ms`; `read_by`: a person's id.
STANDING_USE = Table(
    "standing_use",
    METADATA,
    Column("statement", String(64), primary_key=True),
    Column("standing", String(64), nullable=False),
    Column("name", String(128), nullable=False),
    Column("project", String(128), nullable=False),
    Column("version", String(128), nullable=False),
    Column("at_ms", BigInteger, nullable=False),
    Column("chosen", Integer, nullable=False, default=0),
    Column("due_ms", BigInteger),
    Column("read_ms", BigInteger),
    Column("read_by", String(128), nullable=False, default=""),
)
Index("standing_use_by_name", STANDING_USE.c.name, STANDING_USE.c.at_ms)

#: Releases that a forge is told about. `told`: the last state that was journalled for it ("" for none yet); a row whose
#: `told` is final is done.
FORGE_REPORT = Table(
    "forge_report",
    METADATA,
    Column("statement", String(64), primary_key=True),
    Column("token", String(64), nullable=False),
    Column("release", String(64), nullable=False),
    Column("project", String(128), nullable=False),
    Column("version", String(128), nullable=False),
    Column("told", String(16), nullable=False, default=""),
)
Index("forge_report_by_told", FORGE_REPORT.c.told)

#: Workflow contents that people bound by approving a release that ran them: the newest row of a publisher counts, while
#: the publisher's own statement is the one named.
REBOUND = Table(
    "rebound",
    METADATA,
    Column("release", String(64), primary_key=True),
    Column("publisher_statement", String(64), nullable=False),
    Column("workflow", String(64), nullable=False),
    Column("at_ms", BigInteger, nullable=False),
)
Index("rebound_by_publisher", REBOUND.c.publisher_statement)

#: Rule documents of policies that a quorum has signed: canonical bytes by their SHA-256.
RULES = Table(
    "rules",
    METADATA,
    Column("digest", String(64), primary_key=True),
    Column("document", LargeBinary, nullable=False),
)

#: What the rules were asked about each release last, also where the policy has none: the question (canonical JSON of
#: `rules.question`, with the findings of the press's own inspection), under which document ("" for none), the answer.
#: `rules`: ids of those that decided, joined by spaces.
RULING = Table(
    "ruling",
    METADATA,
    Column("statement", String(64), primary_key=True),
    Column("question", LargeBinary, nullable=False),
    Column("document", String(64), nullable=False, default=""),
    Column("allowed", Integer, nullable=False),
    Column("rules", String, nullable=False, default=""),
    Column("at_ms", BigInteger, nullable=False),
)
Index("ruling_by_time", RULING.c.at_ms)

#: Releases that were asked for, by the press's own first sight: what is counted to tell a burst. `release`: SHA-256 of
#: project, version and set, so that one that is asked for again counts once; `statement`: the newest request for it.
RELEASE_SEEN = Table(
    "release_seen",
    METADATA,
    Column("release", String(64), primary_key=True),
    Column("statement", String(64), nullable=False),
    Column("project", String(128), nullable=False),
    Column("seen_ms", BigInteger, nullable=False),
)
Index("release_seen_by_time", RELEASE_SEEN.c.seen_ms)
Index("release_seen_by_project", RELEASE_SEEN.c.project, RELEASE_SEEN.c.seen_ms)

#: Files that the press has sent and read back. One name per upstream has one content, for ever.
PUBLISHED_FILE = Table(
    "published_file",
    METADATA,
    Column("upstream", String(128), primary_key=True),
    Column("filename", String(255), primary_key=True),
    Column("project", String(128), nullable=False),
    Column("version", String(128), nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("statement", String(64), nullable=False),
    Column("verified_ms", BigInteger, nullable=False),
)
Index("published_by_project", PUBLISHED_FILE.c.upstream, PUBLISHED_FILE.c.project)

#: Latched narrowings. `target`: a statement digest (veto), a project or "" for everything (freeze).
NARROWING = Table(
    "narrowing",
    METADATA,
    Column("id", String(64), primary_key=True),
    Column("what", String(16), nullable=False),
    Column("target", String(128), nullable=False),
    Column("by", String(128), nullable=False, default=""),
    Column("reason", String, nullable=False, default=""),
    Column("source", String(16), nullable=False),
    Column("seen_ms", BigInteger, nullable=False),
    Column("cleared_by", String(64)),
)

#: The opened commitments of admitted people: name, addresses, forge ids. Erasable.
PERSON_DETAILS = Table(
    "person_details",
    METADATA,
    Column("commitment", String(64), primary_key=True),
    Column("details", LargeBinary, nullable=False),
)

#: The ledger: entries in order, complete subtrees, signed checkpoints.
#: On SQLite the position is the row's own number, which costs nothing beside it.
LEDGER_ENTRY = Table(
    "ledger_entry",
    METADATA,
    Column(
        "position",
        BigInteger().with_variant(Integer, "sqlite"),
        primary_key=True,
        autoincrement=False,
    ),
    Column("entry", LargeBinary, nullable=False),
)
#: Hashes of the tree as they are served: up to 256 of 32 bytes each, the last of a level growing (C2SP tlog-tiles).
#: From level 1 on; those of level 0 are the hashes of the entries, which stand beside them.
LEDGER_TILE = Table(
    "ledger_tile",
    METADATA,
    Column("level", Integer, primary_key=True),
    Column("position", BigInteger, primary_key=True, autoincrement=False),
    Column("hashes", LargeBinary, nullable=False),
)
#: One row, of the tree as it is. `edge`: hashes of its largest complete subtrees, left to right; `note`: checkpoint.
LEDGER_HEAD = Table(
    "ledger_head",
    METADATA,
    Column("size", BigInteger, primary_key=True, autoincrement=False),
    Column("edge", LargeBinary, nullable=False),
    Column("note", LargeBinary, nullable=False),
)

#: One row: the newest revocation head (`core.ledger.revocations`), its size and time (Unix seconds).
REVOCATION_HEAD = Table(
    "revocation_head",
    METADATA,
    Column("size", BigInteger, primary_key=True, autoincrement=False),
    Column("time_s", BigInteger, nullable=False),
    Column("note", LargeBinary, nullable=False),
)

#: Entries that are made once, however often the press comes to the same thing: SHA-256 of each without its time.
LEDGER_ONCE = Table(
    "ledger_once",
    METADATA,
    Column("entry", String(64), primary_key=True),
)

#: The newest checkpoint that a witness has cosigned: the log's note with that witness's line.
LEDGER_WITNESS = Table(
    "ledger_witness",
    METADATA,
    Column("name", String(255), primary_key=True),
    Column("size", BigInteger, nullable=False),
    Column("note", LargeBinary, nullable=False),
)

#: Which entries are about a statement or a token: `tag` is the beginning of its digest (`store.history`), so that a
#: million of them take little; whoever reads the entry sees whether it is meant.
LEDGER_MENTION = Table(
    "ledger_mention",
    METADATA,
    Column("tag", BigInteger, primary_key=True, autoincrement=False),
    Column("position", BigInteger, primary_key=True, autoincrement=False),
    sqlite_with_rowid=False,
)

#: The highest severity that the press's own inspection has found, by the digest of its report.
INSPECTED = Table(
    "inspected",
    METADATA,
    Column("review", String(64), primary_key=True),
    Column("worst", String(16), nullable=False),
)

#: By what an admitted or claimed statement is asked for after the fact (`core.history`): an index, in order of time.
STATEMENT_FACET = Table(
    "statement_facet",
    METADATA,
    Column("facet", String(16), primary_key=True),
    Column("value", String(128), primary_key=True),
    Column("at_ms", BigInteger, primary_key=True, autoincrement=False),
    Column("statement", String(64), primary_key=True),
    sqlite_with_rowid=False,
)

#: Proof files, one per published file. `cosignatures`: how many its checkpoint has.
PROOF = Table(
    "proof",
    METADATA,
    Column("statement", String(64), primary_key=True),
    Column("filename", String(255), primary_key=True),
    Column("sha256", String(64), nullable=False, index=True),
    Column("proof", LargeBinary, nullable=False),
    Column("made_ms", BigInteger, nullable=False),
    Column("cosignatures", Integer, nullable=False, server_default="0"),
)

#: Messages to people, sent until they are delivered or hopeless. The constraint makes each one once. `person`: id, ""
#: for a forge. `urgent`: 1 where it waits for no digest and no limit; `made_ms`: since when it is to be told.
NOTICE = Table(
    "notice",
    METADATA,
    Column("id", String(64), primary_key=True),
    Column("address", String, nullable=False),
    Column("subject", String, nullable=False),
    Column("body", String, nullable=False),
    Column("about", String(64), nullable=False),
    Column("attempts", Integer, nullable=False, default=0),
    Column("next_ms", BigInteger, nullable=False),
    Column("sent_ms", BigInteger),
    Column("error", String, nullable=False, default=""),
    Column("person", String(128), nullable=False, server_default=""),
    Column("urgent", Integer, nullable=False, server_default="1"),
    Column("made_ms", BigInteger, nullable=False, server_default="0"),
    UniqueConstraint("about", "address", "subject", name="each_notice_once"),
)
Index("notice_by_due", NOTICE.c.sent_ms, NOTICE.c.next_ms)
Index("notice_by_address", NOTICE.c.address, NOTICE.c.sent_ms)

#: What people were told of a request that nobody has decided, once each: "expires", "escalated".
REMINDED = Table(
    "reminded",
    METADATA,
    Column("statement", String(64), primary_key=True),
    Column("what", String(16), primary_key=True),
    Column("at_ms", BigInteger, nullable=False),
)
