"""Every limit of the product, in one place, with its unit in its name. A limit is a promise: tests try each one."""

from __future__ import annotations

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB

# statements and approvals
STATEMENT_BYTES_MAX = 1 * MIB
APPROVAL_BYTES_MAX = 16 * KIB
FILES_PER_RELEASE_MAX = 64
MEMBERS_PER_BUNDLE_MAX = 1000
RELEASES_PER_PLAN_MAX = 300
PLANS_PER_RELEASE_MAX = 8  # alive ones that a release stands in; of more, no signature is looked at
PLANS_PER_LOOK_MAX = 64  # signed ones that the press reads at once
PEOPLE_PER_ROSTER_MAX = 1000
KEYS_PER_PERSON_MAX = 16
GROUPS_PER_PERSON_MAX = 32
APPROVAL_GROUPS_MAX = 16
APPROVALS_PER_STATEMENT_MAX = 64
NAME_CHARS_MAX = 128
FILENAME_CHARS_MAX = 255
URL_CHARS_MAX = 2048
CLOCK_SKEW_S_MAX = 60  # a statement may claim to be issued this far in the future, no further

# uploads (gateway)
FILE_BYTES_MAX = 2 * GIB
FORM_FIELD_BYTES_MAX = 1 * MIB
FORM_PARTS_MAX = 512
FORM_TEXT_BYTES_MAX = 4 * MIB
FORM_PART_HEADERS_MAX = 8
FORM_PART_HEADER_BYTES_MAX = 4 * KIB
UPLOAD_BLOCK_BYTES = 1 * MIB  # hashed and written in one go; at most three of them are in memory
UPLOAD_READ_BYTES = 512 * KIB  # taken from a connection before it must wait
UPLOAD_THREADS_MAX = 32
REQUEST_HEADER_BYTES_MAX = 64 * KIB
JSON_BODY_BYTES_MAX = 1 * MIB
LINGER_BYTES_MAX = (
    256 * MIB
)  # how much of a refused body is read on, so that the client sees the answer

CLIENT_IDLE_S_MAX = 60  # a client that owes us bytes and sends none for so long is cut off
CONNECTIONS_MAX = 1000
LINGER_S_MAX = 30  # how long the rest of a refused body is read
EVENTS_PER_MINUTE_MAX = 600
UPLOAD_TOKEN_S_MAX = 366 * 86_400

# workload identity
JWT_BYTES_MAX = 16 * KIB
JWT_LEEWAY_S = 30  # for clocks that differ: of `exp`, `nbf` and `iat`
KEY_SET_BYTES_MAX = 256 * KIB
KEY_SET_KEYS_MAX = 100
KEY_SET_FETCH_S_MAX = 5  # discovery document and key set together
KEY_SET_REFRESH_S = 600  # a good set is fetched anew on this schedule
KEY_SET_COOL_DOWN_S = (
    60  # after an attempt, whatever came of it, an unknown key id causes no other one
)
KEY_SET_AGE_S_MAX = 86_400  # a set that nobody could renew for so long is used no more
PASS_S = 900
PROJECTS_PER_PUBLISHER_MAX = 1000
PROJECTS_PER_STANDING_MAX = 1000
PUBLISHERS_PER_STANDING_MAX = 1000
REFS_PER_PUBLISHER_MAX = 16
REF_CHARS_MAX = 255
# addresses and TLS (gateway)
PROXIES_MAX = 64  # networks whose forwarding headers are believed
FORWARDED_HOPS_MAX = 16  # addresses in one X-Forwarded-For that are looked at
TLS_PEM_BYTES_MAX = 256 * KIB  # a file with a certificate and its chain, or with a key
TLS_LOOK_S = 10  # between two looks at whether the certificate's files have changed
TLS_WARN_S = 14 * 86_400  # a certificate that ends within this time is told of
TLS_TRIAL_S = 90 * 86_400  # life of a certificate of the private CA for trials

ACME_TIMEOUT_S = 30  # one answer of the ACME server
ACME_ORDER_S_MAX = 180  # from the order of a certificate to the certificate
ACME_RETRY_FIRST_S = 60  # after the first failure; doubled by each further one
ACME_RETRY_S_MAX = 6 * 3600
ACME_LOOK_S = 3600  # a clock that was set is noticed within this time

# people's links
VIEW_TOKEN_S = 12 * 3600
ENROLMENT_LINK_S = 15 * 60
RECOVERY_WAIT_S = 72 * 3600

# people's sign-in (gateway)
SESSION_S_MAX = 12 * 3600
SESSION_IDLE_S_MAX = 3600  # of a browser; a terminal's session has its end alone
SESSION_FRESH_S = 900  # how young a session must be to make another sign-in passkey
SIGN_IN_ATTEMPT_S = 600  # from leaving for the sign-in provider to coming back
SIGN_IN_CHALLENGE_S = 300
SIGN_IN_WAITING_MAX = (
    10_000  # attempts, challenges, device codes that wait at once; beyond, the oldest of them goes
)
SIGN_IN_KEYS_PER_PERSON_MAX = 16
PROVIDER_ANSWER_BYTES_MAX = 256 * KIB
PROVIDER_TIMEOUT_S = 10
PROVIDER_COOL_DOWN_S = 10  # the provider's description and key set are asked for no more often
PROVIDER_REFRESH_S = 3600
ID_TOKEN_AGE_S_MAX = 600
SECURITY_EVENT_AGE_S_MAX = 7 * 86_400  # providers send them again through an outage of the gate
DEVICE_CODE_S = 600
DEVICE_INTERVAL_S = 5

# SCIM (gateway)
SCIM_BODY_BYTES_MAX = 256 * KIB
SCIM_USERS_MAX = 5_000
SCIM_GROUPS_MAX = 1_000
SCIM_MEMBERS_MAX = 1_000  # of one group, as many as a roster has people
SCIM_PAGE_MAX = 200  # resources in one answer
SCIM_FILTER_CHARS_MAX = 512
SCIM_FILTER_TERMS_MAX = 8
SCIM_OPERATIONS_MAX = 100  # of one PATCH
SCIM_TEXT_CHARS_MAX = 255

# rules
RULES_BYTES_MAX = (
    8 * MIB
)  # a rule document; ten thousand packages with rules of their own have 3 MiB
RULE_PACKAGES_MAX = 100_000
RULE_SLICES_KEPT = 256  # packages whose own rules stay parsed
RULE_TRIALS_MAX = 20_000  # releases that are tried to see whether rules let anything out

# ledger
NOTE_BYTES_MAX = 64 * KIB
NOTE_SIGNATURES_MAX = 64  # the specification wants 16 at least
WITNESSES_MAX = 16  # that a gate asks, so that every verifier reads a checkpoint with all of them
WITNESS_ANSWER_BYTES_MAX = 16 * KIB
WITNESS_TIMEOUT_S = 10
WITNESS_RETRY_FIRST_S = 2  # after a failure; doubled by each further one
WITNESS_RETRY_S_MAX = 300
WITNESS_REQUEST_BYTES_MAX = NOTE_BYTES_MAX + 4 * KIB  # a checkpoint, and 63 lines of proof
REVOKED_FILES_MAX = 250_000  # in one revocation head; 16 MB of them
REVOCATION_HEAD_S_MAX = 60  # a running press signs another one within this time
AUDIT_FINDINGS_MAX = 1000  # kept word for word; beyond, they are counted

# questions after the fact
HISTORY_VALUES_MAX = (
    10_000  # of one part of a question: the keys of a person, the statements of a publisher
)
HISTORY_PAGE_MAX = 200  # acts that are read at once
EVIDENCE_ACTS_MAX = 10_000  # in one bundle
EVIDENCE_CHAIN_MAX = 100_000
EVIDENCE_BYTES_MAX = 64 * MIB
EVIDENCE_ENTRIES_PER_ACT_MAX = 64

# notices
NOTICE_ATTEMPTS_MAX = 35  # with the pauses between them a little more than a day
NOTICE_PAUSE_S_MAX = 3600  # doubled by each failure from two seconds on
NOTICES_APART_MAX = 3  # due for one address at once; more are one message
NOTICE_ROUNDS_MAX = 5  # in one window; then what is not urgent waits for the next
NOTICE_WINDOW_S = 600
NOTICES_LISTED_MAX = 50  # in one message, with their texts; the others are counted
CHATS_MAX = 64
DIGEST_S_MIN = 300
DIGEST_S_MAX = 7 * 86_400
REMINDER_S_MAX = 86_400  # before a request expires
ESCALATE_S_MIN = 60

# press
REPORT_BYTES_MAX = 32 * MIB
UPSTREAM_ANSWER_BYTES_MAX = 16 * MIB
UPSTREAM_TIMEOUT_S = 60
UPSTREAM_ANSWER_S_MAX = 900  # one page or file, however slowly it comes
CLOCK_DRIFT_S_MAX = 2.0

# workflows, proved by git objects
WORKFLOW_BYTES_MAX = 512 * KIB
WORKFLOW_PATH_CHARS_MAX = 512
WORKFLOW_PATH_PARTS_MAX = 16
WORKFLOW_OBJECTS_BYTES_MAX = 4 * MIB  # commit, trees and blob of one path
WORKFLOW_OBJECTS_JSON_BYTES_MAX = 6 * MIB  # the same in base64

# forges, from which git objects are fetched
FORGE_ANSWERS_BYTES_MAX = 32 * MIB  # all answers of one fetch, as they come
FORGE_ADVERTISEMENT_BYTES_MAX = 1 * MIB  # what a server says that it can do
FORGE_UNPACKED_BYTES_MAX = 64 * MIB  # all objects of one pack, and what its deltas make
FORGE_PACK_OBJECTS_MAX = 100_000
FORGE_FETCH_S_MAX = 10.0  # one path, all its requests
FORGE_FETCHES_MAX = 4  # under way at once at one server
LOCAL_GIT_S_MAX = 30  # one object of a checkout
FORGE_TOKEN_BYTES_MAX = 4 * KIB
FORGE_CACHE_MEMORY_BYTES_MAX = 16 * MIB
FORGE_CACHE_DISK_BYTES_MAX = 128 * MIB

# inspector: archives
ARCHIVE_MEMBERS_MAX = 50_000
ARCHIVE_INDEX_BYTES_MAX = 32 * MIB  # a zip's central directory
ARCHIVE_HEADER_BYTES_MAX = 1 * MIB  # one pax or GNU long-name header of a tar
MEMBER_PATH_BYTES_MAX = 1024
UNPACKED_BYTES_MAX = 4 * GIB
UNPACKED_RATIO_MAX = (
    200  # unpacked bytes for each byte of the archive, once past the allowance below
)
UNPACKED_ALLOWANCE_BYTES = 64 * MIB
READ_CHUNK_BYTES = 256 * KIB
MEMBER_TEXT_BYTES_MAX = 1 * MIB  # a member kept in memory, to parse it or to show its difference
RECORD_BYTES_MAX = 16 * MIB
HELD_TEXT_BYTES_MAX = 64 * MIB  # all members of one artifact kept in memory at once
REQUIREMENTS_MAX = 2000
ENTRY_POINTS_MAX = 2000
WHEEL_TAGS_MAX = 1000  # what the compressed tags of one file name stand for

# inspector: report
METADATA_FIELD_CHARS_MAX = 512 * KIB  # one value, such as the description
METADATA_VALUES_MAX = 1000  # of one field
METADATA_FIELDS_MAX = 100
FINDINGS_PER_RULE_MAX = 100
FINDINGS_MAX = 10_000
EVIDENCE_CHARS_MAX = 500
DIFF_LINES_MAX = 1000
DIFF_LINE_CHARS_MAX = 500
DIFF_INPUT_LINES_MAX = 4000  # of one side, after the common beginning and end are taken off
DIFF_PAIRS_MAX = 500_000  # equal line pairs that the comparison may have to weigh
DIFF_REPORT_BYTES_MAX = 8 * MIB

# inspector: the confined child
INSPECTION_FDS_MAX = 64 * 2  # candidate and baseline files of one request
INSPECTION_REQUEST_BYTES_MAX = 256 * KIB
INSPECTION_MEMORY_BYTES_MAX = 1 * GIB
INSPECTION_CPU_S_MAX = 60
INSPECTION_WALL_S_MAX = 120
INSPECTION_ANSWER_GRACE_S = (
    5  # how long the client waits beyond the wall limit before it ends the zygote
)

# command line and supervisor
CONFIG_BYTES_MAX = 64 * KIB
APPLY_FILE_BYTES_MAX = 4 * MIB  # presspass.yaml; a thousand publishers without defaults have 1 MiB
CLIENT_ANSWER_BYTES_MAX = (
    64 * MIB
)  # a JSON answer of the gate; files are streamed and limited by their own size
CLIENT_TIMEOUT_S = 60
CHILD_READY_S_MAX = 30
CHILD_LINE_BYTES_MAX = 64 * KIB
ACME_DRAIN_S_MAX = 5
GATEWAY_DRAIN_S_MAX = 30
PRESS_DRAIN_S_MAX = (
    90  # longer than one answer of an upstream, so that a publication under way can end
)
RESTART_DELAY_S_MAX = 30
INBOX_WAIT_S_MAX = 60
BACKUP_MANIFEST_BYTES_MAX = 16 * MIB
BACKUP_MEMBERS_MAX = 100_000
DISK_FREE_BYTES_MIN = 4 * GIB  # below this, `doctor` warns: two copies of the largest file
CHAINS_KEPT_BYTES_MAX = 16 * MIB  # that one verifier keeps, as their statements stand in proofs
KEYS_LOADED_MAX = 256  # public keys that one process keeps ready, of each kind
PROOF_BYTES_MAX = 16 * MIB
LOCK_FILE_BYTES_MAX = 64 * MIB  # of pip, uv or npm

# console pages
CONSOLE_CHANGES_MAX = 500
CONSOLE_DIFF_LINES_MAX = 8000
CONSOLE_ODD_FIRST_MAX = 3
CONSOLE_PACKAGES_MAX = 200
CONSOLE_VERSIONS_MAX = 200
CONSOLE_ACTIVITY_DAYS = 30
CONSOLE_ACTIVITY_ROWS_MAX = 50_000
CONSOLE_CARDS_MAX = 500
CONSOLE_PLAN_DIFFERENCES_MAX = 12  # of a plan's groups whose difference is on its page
VETO_NOTE_CHARS_MAX = 500
ASKER_NOTE_CHARS_MAX = 2000  # what whoever asks for a release may say beside it
IDENTITIES_PER_KIND_MAX = 500  # rows of one kind on the page of what can be revoked

# databases
READ_S_MAX = 10  # one snapshot of another process's database
DATABASE_CONNECT_S_MAX = 3
DATABASE_SILENT_S_MAX = (
    10  # a PostgreSQL server that acknowledges nothing for so long counts as gone
)
DATABASE_TURN_S_MAX = 15  # waiting for the other writers of a schema
DATABASE_IDLE_TRANSACTION_S_MAX = 30  # then the server ends a writer that hangs in its turn
DATABASE_PASSWORD_BYTES_MAX = 1 * KIB
ROLE_CHARS_MAX = 63  # of a name in PostgreSQL

# what people type
FINGERPRINT_PREFIX_CHARS_MIN = 8  # fewer digits of a fingerprint name nothing
REASON_CHARS_MAX = 300  # of a reason that came from elsewhere, where it is shown
