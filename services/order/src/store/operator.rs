//! Operator actions, and the orders that wait for operators.

use contracts::value::OrderId;
use sqlx::{PgConnection, PgExecutor};
use time::OffsetDateTime;

/// An operator action on an order.
pub(crate) struct OperatorAction {
    pub(crate) action: String,
    pub(crate) operator: String,
    pub(crate) note: String,
    pub(crate) at: OffsetDateTime,
}

/// Records an operator action, in the transaction that carries it out.
pub(crate) async fn record_action(
    conn: &mut PgConnection,
    order: OrderId,
    action: &str,
    operator: &str,
    note: &str,
) -> sqlx::Result<()> {
    sqlx::query!(
        "insert into operator_deed (order_id, action, operator, note) values ($1, $2, $3, $4)",
        order.0,
        action,
        operator,
        note,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Returns the operator actions on an order, in their sequence.
pub(crate) async fn actions(
    db: impl PgExecutor<'_>,
    order: OrderId,
) -> sqlx::Result<Vec<OperatorAction>> {
    sqlx::query_as!(
        OperatorAction,
        "select action, operator, note, at from operator_deed where order_id = $1 order by id",
        order.0,
    )
    .fetch_all(db)
    .await
}

/// The numbers of orders that are not at rest, for the gauges.
pub(crate) struct Counts {
    pub(crate) stuck: i64,
    pub(crate) awaiting: i64,
    /// The longest time since one of them last changed its state.
    pub(crate) oldest_seconds: f64,
}

/// Counts the orders that are stuck, and those that await an answer.
pub(crate) async fn counts(db: impl PgExecutor<'_>) -> sqlx::Result<Counts> {
    sqlx::query_as!(
        Counts,
        r#"select (select count(*) from orders where stuck_since is not null) as "stuck!",
                  (select count(*) from orders where sweep_at is not null)
                      + (select count(*) from orders where state = 'pending' and deadline_at is not null and sweep_at is null) as "awaiting!",
                  coalesce(extract(epoch from now() - least(
                      (select min(updated_at) from orders where sweep_at is not null),
                      (select min(updated_at) from orders where stuck_since is not null),
                      (select min(updated_at) from orders where state = 'pending' and deadline_at is not null)
                  )), 0)::float8 as "oldest_seconds!""#,
    )
    .fetch_one(db)
    .await
}
