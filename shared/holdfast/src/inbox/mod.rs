//! Inbox: a message that arrives twice takes effect once.
//!
//! # Problem
//!
//! Payment debits a wallet, commits, and dies before it acknowledges the message. The broker, rightly, delivers it
//! again. The customer pays twice, and no log shows an error.
//!
//! # Guarantee
//!
//! [`admit`] records the ids of a batch in the transaction of their effect, and returns the new ones. Effect and record
//! commit together or not at all, so a redelivery, in this process or another, now or later, is told apart from a first
//! delivery. Two transactions that admit the same id at once wait for each other: the second sees the first's outcome.
//!
//! # Not guaranteed
//!
//! Anything about a message that is *sent* twice under two ids, as a sweep or a saga does when it resends: that needs
//! an idempotency key on the effect itself. Anything after [`prune`]: keep ids for longer than the broker can hold a
//! message.
//!
//! # States
//!
//! Absent, present. An id stays present until it is pruned.
//!
//! # Failure modes
//!
//! Ids that two transactions admit in different orders could deadlock, so they are sorted here. A commit whose reply is
//! lost is resolved by running the batch again: ids that did commit are not new any more. A caller that may be dropped
//! begins its transaction with the pattern `transaction`, not with sqlx.
//!
//! ```no_run
//! # async fn example(pool: sqlx::PgPool, batch: Vec<uuid::Uuid>) -> sqlx::Result<()> {
//! let mut tx = pool.begin().await?;
//! let new = holdfast::inbox::admit(&mut tx, "payment.choreography", &batch).await?;
//! for id in new { /* the effect of message `id`, on `tx` */ }
//! tx.commit().await?; // only now acknowledge the whole batch
//! # Ok(()) }
//! ```
//!
//! # Copying this
//!
//! This folder, and the crates `sqlx` (PostgreSQL) and `uuid`. Run [`migrator`] on the service's own database. Here
//! `messaging/batch.rs` calls [`admit`] for every batch (`transact`) and handles only the messages that are new.
//!
//! Sources: Gregor Hohpe and Bobby Woolf, "Enterprise Integration Patterns", "Idempotent Receiver"; Chris Richardson,
//! "Microservices Patterns", 3.3.6.

use std::{collections::HashSet, time::Duration};

use sqlx::{PgConnection, migrate::Migrator};
use uuid::Uuid;

/// Creates the table `inbox`. Keeps its own record (`_inbox_migrations`), apart from the service's migrations.
pub fn migrator() -> Migrator {
    let mut migrator = sqlx::migrate!("src/inbox/migrations");
    migrator.dangerous_set_table_name("_inbox_migrations");
    migrator
}

/// Records the ids of a batch, and returns those that were not recorded before.
///
/// Call it on the caller's transaction, before the effects. After an error, or if it is dropped, roll the transaction
/// back: that undoes it.
pub async fn admit(
    conn: &mut PgConnection,
    queue: &str,
    ids: &[Uuid],
) -> sqlx::Result<HashSet<Uuid>> {
    // In one order for all callers, so that two batches with common messages wait for each other instead of
    // deadlocking.
    let mut sorted = ids.to_vec();
    sorted.sort_unstable();
    sorted.dedup();
    let new: Vec<Uuid> = sqlx::query_scalar(
        "insert into inbox (queue, message_id)
         select $1, id from unnest($2::uuid[]) with ordinality as batch (id, position) order by position
         on conflict do nothing
         returning message_id",
    )
    .bind(queue)
    .bind(&sorted)
    .fetch_all(conn)
    .await?;
    Ok(new.into_iter().collect())
}

/// Returns true if the message `id` of `queue` is recorded. Cancel safe: it only reads.
pub async fn contains(conn: &mut PgConnection, queue: &str, id: Uuid) -> sqlx::Result<bool> {
    sqlx::query_scalar("select exists (select from inbox where queue = $1 and message_id = $2)")
        .bind(queue)
        .bind(id)
        .fetch_one(conn)
        .await
}

/// Deletes up to `limit` ids that are older than `retention`; returns how many. Call it until it returns fewer than
/// `limit`.
///
/// Any number of processes may prune at once: each skips the rows that another one has locked. If it is dropped, the
/// rows may be deleted or not; calling it again is safe.
pub async fn prune(conn: &mut PgConnection, retention: Duration, limit: i64) -> sqlx::Result<u64> {
    let pruned = sqlx::query(
        "delete from inbox where (queue, message_id) in (
             select queue, message_id from inbox
             where received_at < now() - make_interval(secs => $1)
             order by received_at
             limit $2
             for update skip locked
         )",
    )
    .bind(retention.as_secs_f64())
    .bind(limit)
    .execute(conn)
    .await?;
    Ok(pruned.rows_affected())
}
