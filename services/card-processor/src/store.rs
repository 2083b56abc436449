//! All SQL of this service.

use std::time::Duration;

use contracts::{
    payment::DeclineReason,
    value::{CardToken, Money},
};
use sqlx::{PgConnection, PgExecutor, migrate::Migrator};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::domain::{Knobs, Status};

/// Returns the migrations of the service's own schema.
pub(crate) fn migrator() -> Migrator {
    sqlx::migrate!()
}

/// Returns the migrations that show the auditor the books. They run after all others, whose tables they read.
pub(crate) fn audit() -> Migrator {
    let mut migrator = sqlx::migrate!("./audit");
    migrator.dangerous_set_table_name("_audit_migrations");
    migrator
}

/// A charge, as it is stored.
pub(crate) struct Charge {
    pub(crate) id: Uuid,
    pub(crate) idempotency_key: String,
    pub(crate) request_hash: Vec<u8>,
    pub(crate) reference: String,
    pub(crate) token: CardToken,
    pub(crate) amount: Money,
    pub(crate) status: Status,
    /// True if the lease of an undecided charge has ended: the next request takes it over.
    pub(crate) is_abandoned: bool,
}

struct Row {
    id: Uuid,
    idempotency_key: String,
    request_hash: Vec<u8>,
    reference: String,
    token: String,
    amount_minor: i64,
    currency: String,
    status: String,
    decline_reason: Option<String>,
    is_abandoned: bool,
}

/// Inserts a charge, which belongs to the caller for `lease`. Returns false if the key was used before.
pub(crate) async fn begin(
    conn: &mut PgConnection,
    charge: &Charge,
    lease: Duration,
) -> sqlx::Result<bool> {
    let inserted = sqlx::query!(
        "insert into charge (id, idempotency_key, request_hash, reference, token, amount_minor, currency, status,
                             processing_until)
         values ($1, $2, $3, $4, $5, $6, $7, 'processing', now() + make_interval(secs => $8))
         on conflict (idempotency_key) do nothing",
        charge.id,
        charge.idempotency_key,
        charge.request_hash,
        charge.reference,
        charge.token.as_str(),
        charge.amount.amount_minor,
        charge.amount.currency.as_str(),
        lease.as_secs_f64(),
    )
    .execute(conn)
    .await?;
    Ok(inserted.rows_affected() == 1)
}

/// Locks and returns the charge under a key, if there is one.
pub(crate) async fn lock_by_key(
    conn: &mut PgConnection,
    key: &str,
) -> sqlx::Result<Option<Charge>> {
    let row = sqlx::query_as!(
        Row,
        r#"select id, idempotency_key, request_hash, reference, token, amount_minor, currency, status, decline_reason,
                  coalesce(processing_until < now(), false) as "is_abandoned!"
           from charge where idempotency_key = $1 for update"#,
        key,
    )
    .fetch_optional(conn)
    .await?;
    row.map(TryInto::try_into).transpose()
}

/// Locks and returns a charge, if it exists.
pub(crate) async fn lock(conn: &mut PgConnection, id: Uuid) -> sqlx::Result<Option<Charge>> {
    let row = sqlx::query_as!(
        Row,
        r#"select id, idempotency_key, request_hash, reference, token, amount_minor, currency, status, decline_reason,
                  coalesce(processing_until < now(), false) as "is_abandoned!"
           from charge where id = $1 for update"#,
        id,
    )
    .fetch_optional(conn)
    .await?;
    row.map(TryInto::try_into).transpose()
}

/// Takes over an abandoned charge: it belongs to the caller for `lease`.
pub(crate) async fn take_over(
    conn: &mut PgConnection,
    id: Uuid,
    lease: Duration,
) -> sqlx::Result<()> {
    sqlx::query!(
        "update charge set processing_until = now() + make_interval(secs => $2) where id = $1",
        id,
        lease.as_secs_f64(),
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Stores the decision of a locked charge, and books the capture if there is one.
pub(crate) async fn decide(
    conn: &mut PgConnection,
    charge: &Charge,
    status: Status,
) -> sqlx::Result<()> {
    let (name, reason) = match status {
        Status::Processing => ("processing", None),
        Status::Captured => ("captured", None),
        Status::Declined(reason) => ("declined", Some(reason_name(reason))),
    };
    sqlx::query!(
        "update charge set status = $2, decline_reason = $3, processing_until = null where id = $1",
        charge.id,
        name,
        reason,
    )
    .execute(&mut *conn)
    .await?;
    if status == Status::Captured {
        book(conn, charge, "capture", &charge.idempotency_key).await?;
    }
    Ok(())
}

/// Books the refund of a locked charge, once.
pub(crate) async fn refund(
    conn: &mut PgConnection,
    charge: &Charge,
    key: &str,
) -> sqlx::Result<()> {
    book(conn, charge, "refund", key).await
}

async fn book(conn: &mut PgConnection, charge: &Charge, kind: &str, key: &str) -> sqlx::Result<()> {
    sqlx::query!(
        "insert into ledger (charge_id, kind, idempotency_key, amount_minor, currency) values ($1, $2, $3, $4, $5)
         on conflict (charge_id, kind) do nothing",
        charge.id,
        kind,
        key,
        charge.amount.amount_minor,
        charge.amount.currency.as_str(),
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// An entry of the ledger: money that moved.
pub(crate) struct Entry {
    pub(crate) seq: i64,
    pub(crate) charge_id: Uuid,
    pub(crate) reference: String,
    pub(crate) kind: String,
    pub(crate) amount_minor: i64,
    pub(crate) currency: String,
    pub(crate) at: OffsetDateTime,
}

/// Returns at most `limit` entries of the ledger, oldest first, that come after the entry `after`.
pub(crate) async fn ledger(
    db: impl PgExecutor<'_>,
    after: i64,
    limit: i64,
) -> sqlx::Result<Vec<Entry>> {
    sqlx::query_as!(
        Entry,
        "select seq, charge_id, reference, kind, ledger.amount_minor, ledger.currency, at
         from ledger join charge on charge.id = charge_id
         where seq > $1 order by seq limit $2",
        after,
        limit,
    )
    .fetch_all(db)
    .await
}

/// Returns the knobs.
pub(crate) async fn knobs(db: impl PgExecutor<'_>) -> sqlx::Result<Knobs> {
    let row = sqlx::query!(
        "select latency_min_ms, latency_max_ms, fail_before, fail_after, decline from knobs"
    )
    .fetch_one(db)
    .await?;
    let millis = |millis: i64| Duration::from_millis(u64::try_from(millis).unwrap_or(0));
    Ok(Knobs {
        latency_min: millis(row.latency_min_ms),
        latency_max: millis(row.latency_max_ms),
        fail_before: row.fail_before,
        fail_after: row.fail_after,
        decline: row.decline,
    })
}

/// Stores the knobs.
pub(crate) async fn turn(db: impl PgExecutor<'_>, knobs: &Knobs) -> sqlx::Result<()> {
    let millis = |duration: Duration| i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
    sqlx::query!(
        "update knobs set latency_min_ms = $1, latency_max_ms = $2, fail_before = $3, fail_after = $4, decline = $5",
        millis(knobs.latency_min),
        millis(knobs.latency_max),
        knobs.fail_before,
        knobs.fail_after,
        knobs.decline,
    )
    .execute(db)
    .await?;
    Ok(())
}

impl TryFrom<Row> for Charge {
    type Error = sqlx::Error;

    fn try_from(row: Row) -> Result<Self, sqlx::Error> {
        let damaged = |column: &str| {
            sqlx::Error::Decode(format!("charge.{column} holds an unknown value").into())
        };
        let status = match row.status.as_str() {
            "processing" => Status::Processing,
            "captured" => Status::Captured,
            "declined" => Status::Declined(
                row.decline_reason
                    .as_deref()
                    .and_then(reason_named)
                    .ok_or_else(|| damaged("decline_reason"))?,
            ),
            _ => return Err(damaged("status")),
        };
        Ok(Self {
            id: row.id,
            idempotency_key: row.idempotency_key,
            request_hash: row.request_hash,
            reference: row.reference,
            token: row.token.parse().map_err(|_| damaged("token"))?,
            amount: Money::new(
                row.amount_minor,
                row.currency.parse().map_err(|_| damaged("currency"))?,
            ),
            status,
            is_abandoned: row.is_abandoned,
        })
    }
}

const REASONS: [(DeclineReason, &str); 4] = [
    (DeclineReason::InsufficientFunds, "insufficient_funds"),
    (DeclineReason::CardDeclined, "card_declined"),
    (DeclineReason::CardExpired, "card_expired"),
    (DeclineReason::InvalidCard, "invalid_card"),
];

fn reason_name(reason: DeclineReason) -> &'static str {
    REASONS
        .iter()
        .find(|(known, _)| *known == reason)
        .map_or("card_declined", |(_, name)| name)
}

fn reason_named(name: &str) -> Option<DeclineReason> {
    REASONS
        .iter()
        .find(|(_, known)| *known == name)
        .map(|(reason, _)| *reason)
}
