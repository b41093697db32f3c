//! SQLite: keys, calls, turns, reports, idempotency, usage. One writer at a time, write-ahead log, runtime queries.
//!
//! Every wait is bounded: 5 s for a connection, 5 s for the write lock. Errors carry SQLite's word, never a value.

use std::path::Path;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde::de::DeserializeOwned;
use serde_json::Value;
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteRow, SqliteSynchronous,
};
use sqlx::{Row as _, Sqlite, SqlitePool, Transaction};

use crate::agent::Turn;
use crate::call::{CallReport, Lifecycle};
use crate::pii::Pii;

/// How long an `Idempotency-Key` is remembered.
pub(super) const IDEMPOTENCY_WINDOW: TimeDelta = TimeDelta::hours(24);

/// A call counts against the trial from this much talk on (s).
const COUNTED_FROM_SECONDS: u64 = 5;

const PATIENCE: Duration = Duration::from_secs(5);

/// Why the store could not do its part.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// SQLite, or the wait for it, failed.
    #[error("database: {0}")]
    Database(#[from] sqlx::Error),
    /// The schema could not be brought up to date.
    #[error("database migration: {0}")]
    Migration(#[from] sqlx::migrate::MigrateError),
    /// A row does not hold what we write.
    #[error("database: column `{column}` holds something else than was written there")]
    Corrupt {
        /// The column.
        column: &'static str,
    },
}

/// Everything that is kept of a call.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct CallRecord {
    pub(super) id: String,
    pub(super) key: i64,
    pub(super) to: Pii<String>,
    pub(super) from: String,
    pub(super) task: Pii<String>,
    pub(super) voice: String,
    pub(super) personality: Option<String>,
    pub(super) greeting: Option<String>,
    pub(super) language: Option<String>,
    pub(super) max_duration_seconds: u64,
    pub(super) metadata: Option<Value>,
    pub(super) lifecycle: Lifecycle,
    pub(super) queued_at: DateTime<Utc>,
    pub(super) dialing_at: Option<DateTime<Utc>>,
    pub(super) answered_at: Option<DateTime<Utc>>,
    pub(super) finalized_at: Option<DateTime<Utc>>,
    pub(super) turns: Vec<StampedTurn>,
    /// Without its transcript, which is `turns`.
    pub(super) report: Option<CallReport>,
    pub(super) has_recording: bool,
    pub(super) balance_seconds: Option<i64>,
}

#[cfg(test)]
impl CallRecord {
    /// A queued call for tests.
    pub(super) fn sample(id: &str) -> Self {
        Self {
            id: id.into(),
            key: 1,
            to: Pii::new("+14155550134".into()),
            from: "+12025550100".into(),
            task: Pii::new("t".into()),
            voice: "jessica".into(),
            personality: None,
            greeting: None,
            language: None,
            max_duration_seconds: 60,
            metadata: None,
            lifecycle: Lifecycle::Queued,
            queued_at: DateTime::from_timestamp_millis(1000).expect("a time"),
            dialing_at: None,
            answered_at: None,
            finalized_at: None,
            turns: Vec::new(),
            report: None,
            has_recording: false,
            balance_seconds: None,
        }
    }
}

/// A turn and when it was said by the wall clock.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct StampedTurn {
    pub(super) at: DateTime<Utc>,
    pub(super) turn: Turn,
}

/// A key as it is known by its hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Key {
    pub(super) id: i64,
    /// Given to a stranger by a call without a key.
    pub(super) anonymous: bool,
}

/// What a key has used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Usage {
    pub(super) calls: u32,
    pub(super) seconds: u64,
}

/// Whose a new call is.
#[derive(Debug, Clone, Copy)]
pub(super) enum Owner {
    /// A key that exists.
    Key(i64),
    /// A key with this hash, made with the call.
    NewAnonymous([u8; 32]),
}

/// What is remembered of a request with an `Idempotency-Key`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Remembered {
    pub(super) scope: String,
    pub(super) name: String,
    pub(super) body_hash: [u8; 32],
    pub(super) call: String,
    pub(super) nonce: [u8; 32],
}

/// The database. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Store {
    pool: SqlitePool,
}

impl Store {
    /// Opens or creates the database at `path` and brings its schema up to date.
    pub(super) async fn open(path: &Path) -> Result<Self, StoreError> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Normal)
            .foreign_keys(true)
            .busy_timeout(PATIENCE);
        let pool = SqlitePoolOptions::new()
            .max_connections(4)
            .acquire_timeout(PATIENCE)
            .connect_with(options)
            .await?;
        sqlx::migrate!("./migrations").run(&pool).await?;
        Ok(Self { pool })
    }

    /// Closes every connection.
    pub(super) async fn close(&self) {
        self.pool.close().await;
    }

    async fn begin(&self) -> Result<Transaction<'_, Sqlite>, StoreError> {
        // A read that turns into a write inside a deferred transaction fails at once when another writer was faster.
        Ok(self.pool.begin_with("BEGIN IMMEDIATE").await?)
    }

    /// The key with this hash, unless it is revoked.
    pub(super) async fn key(&self, hash: &[u8; 32]) -> Result<Option<Key>, StoreError> {
        let row = sqlx::query("SELECT id, origin FROM keys WHERE hash = ? AND revoked_at IS NULL")
            .bind(hash.as_slice())
            .fetch_optional(&self.pool)
            .await?;
        row.map(|row| {
            Ok(Key { id: row.try_get("id")?, anonymous: row.try_get::<&str, _>("origin")? == "anonymous" })
        })
        .transpose()
    }

    /// Keeps a key that the operator issued.
    pub(super) async fn issue_key(&self, hash: &[u8; 32], now: DateTime<Utc>) -> Result<(), StoreError> {
        sqlx::query("INSERT INTO keys (hash, origin, created_at) VALUES (?, 'issued', ?)")
            .bind(hash.as_slice())
            .bind(now.timestamp_millis())
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    /// What the key has used of its trial.
    pub(super) async fn usage(&self, key: i64) -> Result<Usage, StoreError> {
        let row = sqlx::query("SELECT counted_calls, counted_seconds FROM keys WHERE id = ?")
            .bind(key)
            .fetch_one(&self.pool)
            .await?;
        usage(&row)
    }

    /// Keeps a new call, its key if that is new, and its idempotency, all or nothing. Gives the key.
    pub(super) async fn insert_call(
        &self,
        call: &CallRecord,
        client: &str,
        owner: Owner,
        remembered: Option<&Remembered>,
    ) -> Result<i64, StoreError> {
        let mut tx = self.begin().await?;
        let now = call.queued_at.timestamp_millis();
        let key = match owner {
            Owner::Key(id) => id,
            Owner::NewAnonymous(hash) => {
                sqlx::query("INSERT INTO keys (hash, origin, created_at) VALUES (?, 'anonymous', ?)")
                    .bind(hash.as_slice())
                    .bind(now)
                    .execute(&mut *tx)
                    .await?
                    .last_insert_rowid()
            }
        };
        sqlx::query(
            "INSERT INTO calls (id, key_id, client, to_number, from_number, task, voice, personality, greeting, \
             language, max_duration_seconds, metadata, lifecycle, queued_at) \
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        )
        .bind(&call.id)
        .bind(key)
        .bind(client)
        .bind(call.to.reveal())
        .bind(&call.from)
        .bind(call.task.reveal())
        .bind(&call.voice)
        .bind(&call.personality)
        .bind(&call.greeting)
        .bind(&call.language)
        .bind(integer(call.max_duration_seconds))
        .bind(call.metadata.as_ref().map(Value::to_string))
        .bind(lifecycle_name(call.lifecycle))
        .bind(now)
        .execute(&mut *tx)
        .await?;
        if let Some(remembered) = remembered {
            sqlx::query(
                "INSERT OR REPLACE INTO idempotency (scope, name, body_hash, call_id, nonce, created_at) \
                 VALUES (?, ?, ?, ?, ?, ?)",
            )
            .bind(&remembered.scope)
            .bind(&remembered.name)
            .bind(remembered.body_hash.as_slice())
            .bind(&remembered.call)
            .bind(remembered.nonce.as_slice())
            .bind(now)
            .execute(&mut *tx)
            .await?;
        }
        tx.commit().await?;
        Ok(key)
    }

    /// Forgets a call that could not be queued, and its key if that was made for it.
    pub(super) async fn remove_call(&self, id: &str, owner: Owner) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        sqlx::query("DELETE FROM calls WHERE id = ?").bind(id).execute(&mut *tx).await?;
        if let Owner::NewAnonymous(hash) = owner {
            sqlx::query("DELETE FROM keys WHERE hash = ?").bind(hash.as_slice()).execute(&mut *tx).await?;
        }
        tx.commit().await?;
        Ok(())
    }

    /// What is remembered under this name, if it is recent enough.
    pub(super) async fn remembered(
        &self,
        scope: &str,
        name: &str,
        now: DateTime<Utc>,
    ) -> Result<Option<Remembered>, StoreError> {
        let oldest = (now - IDEMPOTENCY_WINDOW).timestamp_millis();
        sqlx::query("DELETE FROM idempotency WHERE created_at <= ?").bind(oldest).execute(&self.pool).await?;
        let row =
            sqlx::query("SELECT body_hash, call_id, nonce FROM idempotency WHERE scope = ? AND name = ?")
                .bind(scope)
                .bind(name)
                .fetch_optional(&self.pool)
                .await?;
        let Some(row) = row else { return Ok(None) };
        let bits = |column: &'static str| -> Result<[u8; 32], StoreError> {
            row.try_get::<&[u8], _>(column)?.try_into().map_err(|_| StoreError::Corrupt { column })
        };
        Ok(Some(Remembered {
            scope: scope.to_owned(),
            name: name.to_owned(),
            body_hash: bits("body_hash")?,
            call: row.try_get("call_id")?,
            nonce: bits("nonce")?,
        }))
    }

    /// When the `limit`th newest call of anonymous keys from `client` was queued, if that was after `since`.
    pub(super) async fn nth_call_from(
        &self,
        client: &str,
        limit: u32,
        since: DateTime<Utc>,
    ) -> Result<Option<DateTime<Utc>>, StoreError> {
        let query = sqlx::query(
            "SELECT queued_at FROM calls JOIN keys ON keys.id = key_id WHERE client = ? AND origin = 'anonymous' \
             AND queued_at > ? ORDER BY queued_at DESC LIMIT 1 OFFSET ?",
        );
        self.nth(query.bind(client.to_owned()).bind(since.timestamp_millis()).bind(i64::from(limit) - 1))
            .await
    }

    /// When the `limit`th newest call to `number` was queued, if that was after `since`.
    pub(super) async fn nth_call_to(
        &self,
        number: &str,
        limit: u32,
        since: DateTime<Utc>,
    ) -> Result<Option<DateTime<Utc>>, StoreError> {
        let query = sqlx::query(
            "SELECT queued_at FROM calls WHERE to_number = ? AND queued_at > ? \
             ORDER BY queued_at DESC LIMIT 1 OFFSET ?",
        );
        self.nth(query.bind(number.to_owned()).bind(since.timestamp_millis()).bind(i64::from(limit) - 1))
            .await
    }

    async fn nth<'q>(
        &self,
        query: sqlx::query::Query<'q, Sqlite, sqlx::sqlite::SqliteArguments>,
    ) -> Result<Option<DateTime<Utc>>, StoreError> {
        let row = query.fetch_optional(&self.pool).await?;
        row.map(|row| time(&row, "queued_at")?.ok_or(StoreError::Corrupt { column: "queued_at" })).transpose()
    }

    /// Notes that the call entered `lifecycle` (never the last one: see [`Store::finalize`]).
    pub(super) async fn set_lifecycle(&self, call: &CallRecord) -> Result<(), StoreError> {
        sqlx::query(
            "UPDATE calls SET lifecycle = ?, dialing_at = ?, answered_at = ? \
             WHERE id = ? AND lifecycle <> 'finalized'",
        )
        .bind(lifecycle_name(call.lifecycle))
        .bind(call.dialing_at.map(|t| t.timestamp_millis()))
        .bind(call.answered_at.map(|t| t.timestamp_millis()))
        .bind(&call.id)
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// Keeps one turn.
    pub(super) async fn insert_turn(
        &self,
        call: &str,
        seq: usize,
        turn: &StampedTurn,
    ) -> Result<(), StoreError> {
        insert_turn(&self.pool, call, seq, turn).await
    }

    /// Keeps the end of a call: report, transcript and usage, all or nothing, and once only. Gives the balance of
    /// its key out of `allowance` seconds.
    pub(super) async fn finalize(&self, call: &CallRecord, allowance: u64) -> Result<i64, StoreError> {
        let mut tx = self.begin().await?;
        let report = call.report.as_ref();
        let talk = report.map_or(0, |r| talk_seconds(r.talk_samples));
        let counted = talk >= COUNTED_FROM_SECONDS;
        let open = sqlx::query("SELECT 1 FROM calls WHERE id = ? AND lifecycle <> 'finalized'")
            .bind(&call.id)
            .fetch_optional(&mut *tx)
            .await?
            .is_some();
        if open && counted {
            sqlx::query(
                "UPDATE keys SET counted_calls = counted_calls + 1, counted_seconds = counted_seconds + ? \
                 WHERE id = ?",
            )
            .bind(integer(talk))
            .bind(call.key)
            .execute(&mut *tx)
            .await?;
        }
        let row = sqlx::query("SELECT counted_calls, counted_seconds FROM keys WHERE id = ?")
            .bind(call.key)
            .fetch_one(&mut *tx)
            .await?;
        let balance = integer(allowance.saturating_sub(usage(&row)?.seconds));
        if open {
            sqlx::query("DELETE FROM turns WHERE call_id = ?").bind(&call.id).execute(&mut *tx).await?;
            for (seq, turn) in call.turns.iter().enumerate() {
                insert_turn(&mut *tx, &call.id, seq, turn).await?;
            }
            let report = report.map(serde_json::to_string).transpose();
            sqlx::query(
                "UPDATE calls SET lifecycle = 'finalized', dialing_at = ?, answered_at = ?, finalized_at = ?, \
                 report = ?, has_recording = ?, balance_seconds = ? WHERE id = ?",
            )
            .bind(call.dialing_at.map(|t| t.timestamp_millis()))
            .bind(call.answered_at.map(|t| t.timestamp_millis()))
            .bind(call.finalized_at.map(|t| t.timestamp_millis()))
            .bind(report.map_err(|_| StoreError::Corrupt { column: "report" })?)
            .bind(call.has_recording)
            .bind(balance)
            .bind(&call.id)
            .execute(&mut *tx)
            .await?;
        }
        tx.commit().await?;
        Ok(balance)
    }

    /// The call with this identifier, if it is the key's.
    pub(super) async fn call(&self, id: &str, key: i64) -> Result<Option<CallRecord>, StoreError> {
        let row = sqlx::query("SELECT * FROM calls WHERE id = ? AND key_id = ?")
            .bind(id)
            .bind(key)
            .fetch_optional(&self.pool)
            .await?;
        match row {
            Some(row) => Ok(Some(self.record(&row).await?)),
            None => Ok(None),
        }
    }

    /// Calls that a crash left open, oldest first.
    pub(super) async fn unfinished(&self) -> Result<Vec<CallRecord>, StoreError> {
        let rows = sqlx::query("SELECT * FROM calls WHERE lifecycle <> 'finalized' ORDER BY queued_at")
            .fetch_all(&self.pool)
            .await?;
        let mut calls = Vec::with_capacity(rows.len());
        for row in &rows {
            calls.push(self.record(row).await?);
        }
        Ok(calls)
    }

    async fn record(&self, row: &SqliteRow) -> Result<CallRecord, StoreError> {
        let id: String = row.try_get("id")?;
        let turns = sqlx::query("SELECT at, body FROM turns WHERE call_id = ? ORDER BY seq")
            .bind(&id)
            .fetch_all(&self.pool)
            .await?;
        let turns = turns.iter().map(|row| {
            let at = time(row, "at")?.ok_or(StoreError::Corrupt { column: "at" })?;
            Ok(StampedTurn { at, turn: json(row, "body")?.ok_or(StoreError::Corrupt { column: "body" })? })
        });
        Ok(CallRecord {
            id,
            key: row.try_get("key_id")?,
            to: Pii::new(row.try_get("to_number")?),
            from: row.try_get("from_number")?,
            task: Pii::new(row.try_get("task")?),
            voice: row.try_get("voice")?,
            personality: row.try_get("personality")?,
            greeting: row.try_get("greeting")?,
            language: row.try_get("language")?,
            max_duration_seconds: unsigned(row, "max_duration_seconds")?,
            metadata: json(row, "metadata")?,
            lifecycle: lifecycle(row.try_get("lifecycle")?)?,
            queued_at: time(row, "queued_at")?.ok_or(StoreError::Corrupt { column: "queued_at" })?,
            dialing_at: time(row, "dialing_at")?,
            answered_at: time(row, "answered_at")?,
            finalized_at: time(row, "finalized_at")?,
            turns: turns.collect::<Result<_, StoreError>>()?,
            report: json(row, "report")?,
            has_recording: row.try_get("has_recording")?,
            balance_seconds: row.try_get("balance_seconds")?,
        })
    }
}

/// Whole seconds of talk, rounded.
pub(super) fn talk_seconds(samples: u64) -> u64 {
    samples.saturating_add(4000) / 8000
}

/// The contract's name of a phase.
pub(super) fn lifecycle_name(lifecycle: Lifecycle) -> &'static str {
    match lifecycle {
        Lifecycle::Queued => "queued",
        Lifecycle::Dialing => "dialing",
        Lifecycle::Answered => "answered",
        Lifecycle::Finalized => "finalized",
    }
}

fn lifecycle(name: &str) -> Result<Lifecycle, StoreError> {
    [Lifecycle::Queued, Lifecycle::Dialing, Lifecycle::Answered, Lifecycle::Finalized]
        .into_iter()
        .find(|&l| lifecycle_name(l) == name)
        .ok_or(StoreError::Corrupt { column: "lifecycle" })
}

async fn insert_turn<'e>(
    executor: impl sqlx::Executor<'e, Database = Sqlite>,
    call: &str,
    seq: usize,
    turn: &StampedTurn,
) -> Result<(), StoreError> {
    let body = serde_json::to_string(&turn.turn).map_err(|_| StoreError::Corrupt { column: "body" })?;
    // A write that was given up may still arrive; a finalized call must not change.
    sqlx::query(
        "INSERT OR REPLACE INTO turns (call_id, seq, at, body) \
         SELECT id, ?, ?, ? FROM calls WHERE id = ? AND lifecycle <> 'finalized'",
    )
    .bind(integer(seq as u64))
    .bind(turn.at.timestamp_millis())
    .bind(body)
    .bind(call)
    .execute(executor)
    .await?;
    Ok(())
}

fn usage(row: &SqliteRow) -> Result<Usage, StoreError> {
    let calls = u32::try_from(unsigned(row, "counted_calls")?).unwrap_or(u32::MAX);
    Ok(Usage { calls, seconds: unsigned(row, "counted_seconds")? })
}

/// SQLite's integers are signed; ours that go there are far from the edge.
fn integer(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn unsigned(row: &SqliteRow, column: &'static str) -> Result<u64, StoreError> {
    u64::try_from(row.try_get::<i64, _>(column)?).map_err(|_| StoreError::Corrupt { column })
}

fn time(row: &SqliteRow, column: &'static str) -> Result<Option<DateTime<Utc>>, StoreError> {
    row.try_get::<Option<i64>, _>(column)?
        .map(|ms| DateTime::from_timestamp_millis(ms).ok_or(StoreError::Corrupt { column }))
        .transpose()
}

fn json<T: DeserializeOwned>(row: &SqliteRow, column: &'static str) -> Result<Option<T>, StoreError> {
    row.try_get::<Option<&str>, _>(column)?
        .map(|text| serde_json::from_str(text).map_err(|_| StoreError::Corrupt { column }))
        .transpose()
}
