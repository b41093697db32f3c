-- Times are milliseconds since 1970 (UTC). A key is stored as the SHA-256 of its text, never itself.
CREATE TABLE keys (
    id              INTEGER PRIMARY KEY,
    hash            BLOB    NOT NULL UNIQUE,
    origin          TEXT    NOT NULL CHECK (origin IN ('anonymous', 'issued')),
    created_at      INTEGER NOT NULL,
    revoked_at      INTEGER,
    counted_calls   INTEGER NOT NULL DEFAULT 0,
    counted_seconds INTEGER NOT NULL DEFAULT 0
);

-- `client` is a keyed hash of the caller's network (IPv4 address or IPv6 /64), for counting only.
CREATE TABLE calls (
    id                   TEXT    PRIMARY KEY,
    key_id               INTEGER NOT NULL REFERENCES keys (id),
    client               TEXT    NOT NULL,
    to_number            TEXT    NOT NULL,
    from_number          TEXT    NOT NULL,
    task                 TEXT    NOT NULL,
    voice                TEXT    NOT NULL,
    personality          TEXT,
    greeting             TEXT,
    language             TEXT,
    max_duration_seconds INTEGER NOT NULL,
    metadata             TEXT,
    lifecycle            TEXT    NOT NULL,
    queued_at            INTEGER NOT NULL,
    dialing_at           INTEGER,
    answered_at          INTEGER,
    finalized_at         INTEGER,
    report               TEXT,
    has_recording        INTEGER NOT NULL DEFAULT 0,
    balance_seconds      INTEGER
);
CREATE INDEX calls_by_client ON calls (client, queued_at);
CREATE INDEX calls_by_number ON calls (to_number, queued_at);
CREATE INDEX calls_unfinished ON calls (lifecycle) WHERE lifecycle <> 'finalized';

CREATE TABLE turns (
    call_id TEXT    NOT NULL REFERENCES calls (id) ON DELETE CASCADE,
    seq     INTEGER NOT NULL,
    at      INTEGER NOT NULL,
    body    TEXT    NOT NULL,
    PRIMARY KEY (call_id, seq)
) WITHOUT ROWID;

-- `scope` is the key, or for a request without one the client's network.
CREATE TABLE idempotency (
    scope      TEXT    NOT NULL,
    name       TEXT    NOT NULL,
    body_hash  BLOB    NOT NULL,
    call_id    TEXT    NOT NULL REFERENCES calls (id) ON DELETE CASCADE,
    nonce      BLOB    NOT NULL,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (scope, name)
) WITHOUT ROWID;
