//! The table of orders.

use std::{collections::BTreeMap, time::Duration};

use contracts::value::{CustomerId, OrderId, PaymentMethod, PricedLine};
use sqlx::{PgConnection, PgExecutor, types::Json};
use uuid::Uuid;

use super::row::{Flat, NewOrder, Row, StoredOrder, coordination_name};
use crate::domain::{Coordination, Order, State};

/// A change of an order that is to be written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Saved {
    pub(crate) id: OrderId,
    pub(crate) order: Order,
    /// False for a choreographed order.
    pub(crate) was_confirmed: bool,
    /// False for an orchestrated order.
    pub(crate) start_deadline: bool,
}

/// Runs a query that selects whole orders; `$rest` follows `from orders`.
macro_rules! select_orders {
    ($rest:literal $(, $argument:expr)* $(,)?) => {
        sqlx::query_as!(
            Row,
            r#"select id, customer_id, email, coordination, lines as "lines: Json<Vec<PricedLine>>",
                      payment as "payment: Json<PaymentMethod>", amount_minor, currency, prices_as_of, state, version, committed,
                      was_confirmed, reason, payment_answer, inventory_answer, created_at, updated_at, deadline_at,
                      stuck_since, sweeps
               from orders "# + $rest
            $(, $argument)*
        )
    };
}

/// Writes a new order. A choreographed order is swept after `sweep_after` unless its own event has come back by then;
/// an orchestrated order, unless it has moved on.
pub(crate) async fn insert(
    conn: &mut PgConnection,
    order: &NewOrder,
    coordination: Coordination,
    sweep_after: Duration,
) -> sqlx::Result<StoredOrder> {
    let times = sqlx::query!(
        "insert into orders (id, customer_id, email, coordination, lines, payment, amount_minor, currency, prices_as_of,
                             state, version, sweep_at)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $10, 'pending', 1, now() + make_interval(secs => $9))
         returning created_at, updated_at",
        order.id.0,
        order.customer.id.as_str(),
        order.customer.email.as_ref().map(contracts::value::Email::as_str),
        coordination_name(coordination),
        Json(&order.lines) as _,
        Json(&order.payment) as _,
        order.amount.amount_minor,
        order.amount.currency.as_str(),
        sweep_after.as_secs_f64(),
        order.prices_as_of,
    )
    .fetch_one(conn)
    .await?;
    Ok(StoredOrder {
        new: order.clone(),
        coordination,
        order: Order::NEW,
        was_confirmed: false,
        created_at: times.created_at,
        updated_at: times.updated_at,
        deadline_at: None,
        stuck_since: None,
        sweeps: 0,
    })
}

/// Locks these orders, in the order of their ids, and returns those that exist.
pub(crate) async fn lock(
    conn: &mut PgConnection,
    ids: &[OrderId],
) -> sqlx::Result<BTreeMap<OrderId, StoredOrder>> {
    let ids: Vec<Uuid> = ids.iter().map(|id| id.0).collect();
    let rows = select_orders!("where id = any($1) order by id for update", &ids)
        .fetch_all(conn)
        .await?;
    rows.into_iter()
        .map(|row| Ok((OrderId(row.id), row.try_into()?)))
        .collect()
}

/// Locks one order; `None` if it does not exist.
pub(crate) async fn lock_one(
    conn: &mut PgConnection,
    id: OrderId,
) -> sqlx::Result<Option<StoredOrder>> {
    Ok(lock(conn, &[id]).await?.remove(&id))
}

/// Reads one order, without a lock.
pub(crate) async fn find(
    db: impl PgExecutor<'_>,
    id: OrderId,
) -> sqlx::Result<Option<StoredOrder>> {
    select_orders!("where id = $1", id.0)
        .fetch_optional(db)
        .await?
        .map(TryInto::try_into)
        .transpose()
}

/// The selection of orders for a list.
#[derive(Clone, Debug, Default)]
pub(crate) struct Filter {
    pub(crate) customer: Option<CustomerId>,
    pub(crate) stuck: bool,
    /// The last order of the previous page.
    pub(crate) before: Option<OrderId>,
    pub(crate) limit: i64,
}

/// Lists orders, newest first.
pub(crate) async fn list(
    db: impl PgExecutor<'_>,
    filter: &Filter,
) -> sqlx::Result<Vec<StoredOrder>> {
    let rows = select_orders!(
        "where ($1::text is null or customer_id = $1)
           and ($2::uuid is null or id < $2)
           and (not $3 or stuck_since is not null)
         order by id desc
         limit $4",
        filter.customer.as_ref().map(CustomerId::as_str),
        filter.before.map(|id| id.0),
        filter.stuck,
        filter.limit,
    )
    .fetch_all(db)
    .await?;
    rows.into_iter().map(TryInto::try_into).collect()
}

/// Locks up to `limit` pending orders whose deadline has passed. Skips orders that another transaction has locked.
pub(crate) async fn overdue(conn: &mut PgConnection, limit: i64) -> sqlx::Result<Vec<StoredOrder>> {
    let rows = select_orders!(
        "where state = 'pending' and deadline_at < now() order by deadline_at limit $1 for update skip locked",
        limit
    )
    .fetch_all(conn)
    .await?;
    rows.into_iter().map(TryInto::try_into).collect()
}

/// Locks up to `limit` orders that have waited for an answer long enough. Skips orders that another transaction has
/// locked.
///
/// Returns only orders whose wait was no longer than `heard_for`, the time for which answers could arrive. The wait is
/// `first` before the first and the second sweep, then twice as long each time, up to `longest`.
pub(crate) async fn due_for_sweep(
    conn: &mut PgConnection,
    limit: i64,
    heard_for: Duration,
    first: Duration,
    longest: Duration,
) -> sqlx::Result<Vec<StoredOrder>> {
    let rows = select_orders!(
        "where sweep_at < now()
           and least($2::float8 * power(2::float8, greatest(sweeps - 1, 0)), $3::float8) <= $4::float8
         order by sweep_at limit $1 for update skip locked",
        limit,
        first.as_secs_f64(),
        longest.as_secs_f64(),
        heard_for.as_secs_f64(),
    )
    .fetch_all(conn)
    .await?;
    rows.into_iter().map(TryInto::try_into).collect()
}

/// Writes the new states of locked orders: one final row per order.
///
/// Each starts a new wait for its next answer, of `sweep_after`. An order that awaits nothing, or whose wait is ended
/// by the deadline, has none.
pub(crate) async fn save(
    conn: &mut PgConnection,
    orders: &[Saved],
    deadline: Duration,
    sweep_after: Duration,
) -> sqlx::Result<()> {
    let ids: Vec<Uuid> = orders.iter().map(|saved| saved.id.0).collect();
    let flat: Vec<Flat> = orders.iter().map(|saved| Flat::from(saved.order)).collect();
    let states: Vec<String> = flat.iter().map(|flat| flat.state.to_owned()).collect();
    let versions: Vec<i32> = flat.iter().map(|flat| flat.version).collect();
    let committed: Vec<bool> = flat.iter().map(|flat| flat.committed).collect();
    let reasons: Vec<Option<String>> = flat
        .iter()
        .map(|flat| flat.reason.map(str::to_owned))
        .collect();
    let payment: Vec<Option<String>> = flat
        .iter()
        .map(|flat| flat.payment_answer.map(str::to_owned))
        .collect();
    let inventory: Vec<Option<String>> = flat
        .iter()
        .map(|flat| flat.inventory_answer.map(str::to_owned))
        .collect();
    let was_confirmed: Vec<bool> = orders.iter().map(|saved| saved.was_confirmed).collect();
    let start_deadline: Vec<bool> = orders.iter().map(|saved| saved.start_deadline).collect();
    let awaits: Vec<bool> = orders
        .iter()
        .map(|saved| !saved.order.is_at_rest() && saved.order.state != State::Pending)
        .collect();
    sqlx::query!(
        "update orders
         set state = new.state,
             version = new.version,
             committed = new.committed,
             was_confirmed = new.was_confirmed,
             reason = new.reason,
             payment_answer = new.payment_answer,
             inventory_answer = new.inventory_answer,
             deadline_at = case when new.start_deadline
                                then coalesce(deadline_at, now() + make_interval(secs => $11))
                                else deadline_at end,
             sweep_at = case when new.awaits then now() + make_interval(secs => $12) end,
             sweeps = 0,
             stuck_since = null,
             updated_at = now()
         from unnest($1::uuid[], $2::text[], $3::int4[], $4::bool[], $5::bool[], $6::text[], $7::text[], $8::text[],
                     $9::bool[], $10::bool[])
              as new (id, state, version, committed, was_confirmed, reason, payment_answer, inventory_answer,
                      start_deadline, awaits)
         where orders.id = new.id",
        &ids,
        &states,
        &versions,
        &committed,
        &was_confirmed,
        &reasons as &[Option<String>],
        &payment as &[Option<String>],
        &inventory as &[Option<String>],
        &start_deadline,
        &awaits,
        deadline.as_secs_f64(),
        sweep_after.as_secs_f64(),
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Records that a sweep has resent an order's messages. The next sweep is `next` from now.
pub(crate) async fn asked_again(
    conn: &mut PgConnection,
    id: OrderId,
    next: Duration,
) -> sqlx::Result<()> {
    sqlx::query!(
        "update orders set sweeps = sweeps + 1, sweep_at = now() + make_interval(secs => $2) where id = $1",
        id.0,
        next.as_secs_f64(),
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Marks an order as stuck: it waits for an operator, and no sweep finds it.
pub(crate) async fn mark_stuck(conn: &mut PgConnection, id: OrderId) -> sqlx::Result<()> {
    sqlx::query!(
        "update orders set sweep_at = null, stuck_since = coalesce(stuck_since, now()) where id = $1",
        id.0,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Starts the wait for an answer again, for an operator.
pub(crate) async fn unstick(
    conn: &mut PgConnection,
    id: OrderId,
    sweep_after: Duration,
) -> sqlx::Result<()> {
    sqlx::query!(
        // A pending order that was heard waits for its deadline. An orchestrated order has no deadline.
        "update orders
         set sweeps = 0,
             stuck_since = null,
             sweep_at = case when state <> 'pending' or deadline_at is null then now() + make_interval(secs => $2) end
         where id = $1",
        id.0,
        sweep_after.as_secs_f64(),
    )
    .execute(conn)
    .await?;
    Ok(())
}
