//! The saga's SQL, on the caller's transaction.

use std::time::Duration;

use sqlx::{PgConnection, PgExecutor};
use time::OffsetDateTime;
use uuid::Uuid;

use super::state::By;

/// A row as stored. Each row is decoded by itself, so that a damaged one does not affect the others.
#[derive(Clone, Debug, sqlx::FromRow)]
pub(super) struct Row {
    pub(super) id: Uuid,
    pub(super) definition: String,
    pub(super) definition_version: i32,
    pub(super) subject: String,
    pub(super) data: serde_json::Value,
    pub(super) state: serde_json::Value,
    pub(super) phase: String,
    pub(super) step: Option<String>,
    pub(super) direction: Option<String>,
    pub(super) attempt: i32,
    pub(super) entries: i32,
    pub(super) error: Option<String>,
    pub(super) traceparent: Option<String>,
    pub(super) tracestate: Option<String>,
    pub(super) due_at: Option<OffsetDateTime>,
    pub(super) stuck_since: Option<OffsetDateTime>,
    pub(super) created_at: OffsetDateTime,
    pub(super) updated_at: OffsetDateTime,
}

/// A saga to be started.
#[derive(Clone, Debug)]
pub(super) struct NewRow {
    pub(super) id: Uuid,
    pub(super) definition: &'static str,
    pub(super) definition_version: i32,
    pub(super) subject: String,
    pub(super) data: serde_json::Value,
    pub(super) state: serde_json::Value,
    pub(super) traceparent: Option<String>,
    pub(super) tracestate: Option<String>,
}

/// Inserts new sagas in the order of their ids, and returns the ids that did not exist before.
pub(super) async fn insert(conn: &mut PgConnection, rows: &[NewRow]) -> sqlx::Result<Vec<Uuid>> {
    let column = |of: fn(&NewRow) -> String| rows.iter().map(of).collect::<Vec<_>>();
    sqlx::query_scalar(
        "insert into saga (id, definition, definition_version, subject, data, state, traceparent, tracestate, phase)
         select id, definition, version, subject, data, state, traceparent, tracestate, 'running'
         from unnest($1::uuid[], $2::text[], $3::int4[], $4::text[], $5::jsonb[], $6::jsonb[], $7::text[], $8::text[])
              as new (id, definition, version, subject, data, state, traceparent, tracestate)
         order by id
         on conflict (id) do nothing
         returning id",
    )
    .bind(rows.iter().map(|row| row.id).collect::<Vec<_>>())
    .bind(column(|row| row.definition.to_owned()))
    .bind(rows.iter().map(|row| row.definition_version).collect::<Vec<_>>())
    .bind(column(|row| row.subject.clone()))
    .bind(rows.iter().map(|row| row.data.clone()).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.state.clone()).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.traceparent.clone()).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.tracestate.clone()).collect::<Vec<_>>())
    .fetch_all(conn)
    .await
}

const COLUMNS: &str = "id, definition, definition_version, subject, data, state, phase, step, direction, attempt, entries,
                       error, traceparent, tracestate, due_at, stuck_since, created_at, updated_at";

/// Locks these sagas in the order of their ids.
pub(super) async fn lock(conn: &mut PgConnection, ids: &[Uuid]) -> sqlx::Result<Vec<Row>> {
    sqlx::query_as(sqlx::AssertSqlSafe(format!(
        "select {COLUMNS} from saga where id = any($1) order by id for update"
    )))
    .bind(ids)
    .fetch_all(conn)
    .await
}

/// Locks up to `limit` sagas whose reply is overdue, without those that another transaction has locked. A saga whose
/// wait was longer than `heard_for` is left out: its reply may not have had the chance to arrive.
pub(super) async fn overdue(
    conn: &mut PgConnection,
    limit: i64,
    heard_for: Duration,
) -> sqlx::Result<Vec<Row>> {
    sqlx::query_as(sqlx::AssertSqlSafe(format!(
        "select {COLUMNS} from saga where due_at <= now() and wait_seconds <= $2
         order by due_at limit $1 for update skip locked"
    )))
    .bind(limit)
    .bind(heard_for.as_secs_f64())
    .fetch_all(conn)
    .await
}

/// Reads a saga's row without locking it.
pub(super) async fn find(db: impl PgExecutor<'_>, id: Uuid) -> sqlx::Result<Option<Row>> {
    sqlx::query_as(sqlx::AssertSqlSafe(format!(
        "select {COLUMNS} from saga where id = $1"
    )))
    .bind(id)
    .fetch_optional(db)
    .await
}

/// Returns sagas, newest first: those in these phases and about this subject, or all.
pub(super) async fn list(
    db: impl PgExecutor<'_>,
    phases: Option<&[String]>,
    subject: Option<&str>,
    before: Option<Uuid>,
    limit: i64,
) -> sqlx::Result<Vec<Row>> {
    // Ids are hashes and have no order in time: rows are ordered by their start, and the id only breaks ties.
    sqlx::query_as(sqlx::AssertSqlSafe(format!(
        "select {COLUMNS} from saga
         where ($1::text[] is null or phase = any($1))
           and ($2::text is null or subject = $2)
           and ($3::uuid is null or (created_at, id) < (select created_at, id from saga where id = $3))
         order by created_at desc, id desc
         limit $4"
    )))
    .bind(phases)
    .bind(subject)
    .bind(before)
    .bind(limit)
    .fetch_all(db)
    .await
}

/// The columns of a saga that change.
#[derive(Clone, Debug)]
pub(super) struct Update {
    pub(super) id: Uuid,
    pub(super) state: serde_json::Value,
    pub(super) phase: &'static str,
    pub(super) step: Option<&'static str>,
    pub(super) direction: Option<&'static str>,
    pub(super) attempt: i32,
    /// The wait for a reply; `None` if no reply is awaited.
    pub(super) wait: Option<Duration>,
    pub(super) error: Option<String>,
    pub(super) entries: i32,
}

/// Writes locked sagas back, each row once.
pub(super) async fn update(conn: &mut PgConnection, updates: &[Update]) -> sqlx::Result<()> {
    if updates.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "update saga
         set state = new.state, phase = new.phase, step = new.step, direction = new.direction, attempt = new.attempt,
             due_at = now() + make_interval(secs => new.wait),
             wait_seconds = coalesce(new.wait, 0),
             error = new.error,
             stuck_since = case when new.phase in ('stuck', 'broken') then coalesce(stuck_since, now()) end,
             entries = new.entries,
             updated_at = now()
         from unnest($1::uuid[], $2::jsonb[], $3::text[], $4::text[], $5::text[], $6::int4[], $7::float8[], $8::text[],
                     $9::int4[])
              as new (id, state, phase, step, direction, attempt, wait, error, entries)
         where saga.id = new.id",
    )
    .bind(updates.iter().map(|update| update.id).collect::<Vec<_>>())
    .bind(updates.iter().map(|update| update.state.clone()).collect::<Vec<_>>())
    .bind(updates.iter().map(|update| update.phase).collect::<Vec<_>>())
    .bind(updates.iter().map(|update| update.step).collect::<Vec<_>>())
    .bind(updates.iter().map(|update| update.direction).collect::<Vec<_>>())
    .bind(updates.iter().map(|update| update.attempt).collect::<Vec<_>>())
    .bind(updates.iter().map(|update| update.wait.map(|wait| wait.as_secs_f64())).collect::<Vec<_>>())
    .bind(updates.iter().map(|update| update.error.clone()).collect::<Vec<_>>())
    .bind(updates.iter().map(|update| update.entries).collect::<Vec<_>>())
    .execute(conn)
    .await?;
    Ok(())
}

/// Marks a saga that cannot be read as broken, with the reason. All else in its row stays.
pub(super) async fn set_aside(conn: &mut PgConnection, id: Uuid, error: &str) -> sqlx::Result<()> {
    sqlx::query(
        "update saga set phase = 'broken', error = $2, due_at = null, stuck_since = coalesce(stuck_since, now()),
                         updated_at = now()
         where id = $1",
    )
    .bind(id)
    .bind(error)
    .execute(conn)
    .await?;
    Ok(())
}

/// A log entry to be written.
#[derive(Clone, Debug)]
pub(super) struct NewEntry {
    pub(super) saga_id: Uuid,
    pub(super) seq: i32,
    pub(super) input: serde_json::Value,
    pub(super) effect: Option<String>,
}

/// Appends entries to the logs.
pub(super) async fn append(conn: &mut PgConnection, entries: &[NewEntry]) -> sqlx::Result<()> {
    if entries.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "insert into saga_log (saga_id, seq, input, effect)
         select * from unnest($1::uuid[], $2::int4[], $3::jsonb[], $4::text[])",
    )
    .bind(
        entries
            .iter()
            .map(|entry| entry.saga_id)
            .collect::<Vec<_>>(),
    )
    .bind(entries.iter().map(|entry| entry.seq).collect::<Vec<_>>())
    .bind(
        entries
            .iter()
            .map(|entry| entry.input.clone())
            .collect::<Vec<_>>(),
    )
    .bind(
        entries
            .iter()
            .map(|entry| entry.effect.clone())
            .collect::<Vec<_>>(),
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// An entry of a log.
#[derive(Clone, Debug, sqlx::FromRow)]
pub(super) struct EntryRow {
    pub(super) seq: i32,
    pub(super) input: serde_json::Value,
    pub(super) effect: Option<String>,
    pub(super) at: OffsetDateTime,
}

/// Returns a saga's log, in order.
pub(super) async fn log(db: impl PgExecutor<'_>, id: Uuid) -> sqlx::Result<Vec<EntryRow>> {
    sqlx::query_as("select seq, input, effect, at from saga_log where saga_id = $1 order by seq")
        .bind(id)
        .fetch_all(db)
        .await
}

/// An operator's action on a saga.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct OperatorAction {
    /// resume, skip or abandon.
    pub action: String,
    /// The step that was current then.
    pub step: Option<String>,
    /// The operator's id.
    pub operator: String,
    /// The operator's reason.
    pub note: String,
    /// The time of the action, on the database's clock.
    pub at: OffsetDateTime,
}

/// Records an operator's action in the audit trail.
pub(super) async fn record_action(
    conn: &mut PgConnection,
    id: Uuid,
    action: &str,
    step: Option<&str>,
    by: &By,
) -> sqlx::Result<()> {
    sqlx::query(
        "insert into saga_deed (saga_id, action, step, operator, note) values ($1, $2, $3, $4, $5)",
    )
    .bind(id)
    .bind(action)
    .bind(step)
    .bind(&by.operator)
    .bind(&by.note)
    .execute(conn)
    .await?;
    Ok(())
}

/// Returns the operators' actions on a saga, in order.
pub(super) async fn actions(
    db: impl PgExecutor<'_>,
    id: Uuid,
) -> sqlx::Result<Vec<OperatorAction>> {
    sqlx::query_as(
        "select action, step, operator, note, at from saga_deed where saga_id = $1 order by id",
    )
    .bind(id)
    .fetch_all(db)
    .await
}

/// The number of sagas that have not ended, by phase, and their greatest age.
#[derive(Clone, Copy, Debug, Default, PartialEq, sqlx::FromRow)]
pub struct Counts {
    /// Sagas that go forward.
    pub running: i64,
    /// Sagas that undo their steps.
    pub compensating: i64,
    /// Sagas that wait for an operator.
    pub stuck: i64,
    /// Sagas that cannot be read.
    pub broken: i64,
    /// The age of the oldest of these sagas in seconds; 0 if there are none.
    pub oldest_seconds: f64,
}

/// Counts the sagas that have not ended. Cancel safe: it only reads.
pub async fn counts(db: impl PgExecutor<'_>) -> sqlx::Result<Counts> {
    sqlx::query_as(
        "select count(*) filter (where phase = 'running') as running,
                count(*) filter (where phase = 'compensating') as compensating,
                count(*) filter (where phase = 'stuck') as stuck,
                count(*) filter (where phase = 'broken') as broken,
                coalesce(extract(epoch from now() - min(created_at)), 0)::float8 as oldest_seconds
         from saga where phase in ('running', 'compensating', 'stuck', 'broken')",
    )
    .fetch_one(db)
    .await
}
