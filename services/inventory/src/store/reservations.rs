//! Reservations: one permanent row per order.

use std::collections::BTreeMap;

use contracts::{
    inventory::RejectReason,
    value::{OrderId, OrderLine},
};
use sqlx::{PgConnection, PgExecutor, types::Json};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::domain::{Rejection, State};

/// The reservation of an order.
#[derive(Clone, Debug)]
pub(crate) struct Reservation {
    pub(crate) order_id: OrderId,
    pub(crate) state: State,
    /// The lines that are, or were, set aside.
    pub(crate) lines: Vec<OrderLine>,
    /// The newest version of the order that a message has named.
    pub(crate) order_version: u32,
    pub(crate) updated_at: OffsetDateTime,
}

struct Row {
    order_id: Uuid,
    state: String,
    lines: Option<Json<Vec<OrderLine>>>,
    reject_reason: Option<String>,
    reject_sku: Option<String>,
    restocked: Option<bool>,
    order_version: i32,
    updated_at: OffsetDateTime,
}

/// Locks these orders' reservations, in the order of their ids. A row that does not exist yet cannot be locked: see
/// [`insert`].
pub(crate) async fn lock(
    conn: &mut PgConnection,
    ids: &[OrderId],
) -> sqlx::Result<BTreeMap<OrderId, Reservation>> {
    let ids: Vec<Uuid> = ids.iter().map(|id| id.0).collect();
    let rows = sqlx::query_as!(
        Row,
        r#"select order_id, state, lines as "lines: Json<Vec<OrderLine>>", reject_reason, reject_sku, restocked,
                  order_version, updated_at
           from reservation where order_id = any($1) order by order_id for update"#,
        &ids,
    )
    .fetch_all(conn)
    .await?;
    rows.into_iter()
        .map(|row| Ok((OrderId(row.order_id), row.try_into()?)))
        .collect()
}

/// Returns the reservation of an order, without a lock.
pub(crate) async fn find(
    db: impl PgExecutor<'_>,
    id: OrderId,
) -> sqlx::Result<Option<Reservation>> {
    let row = sqlx::query_as!(
        Row,
        r#"select order_id, state, lines as "lines: Json<Vec<OrderLine>>", reject_reason, reject_sku, restocked,
                  order_version, updated_at
           from reservation where order_id = $1"#,
        id.0,
    )
    .fetch_optional(db)
    .await?;
    row.map(TryInto::try_into).transpose()
}

/// Inserts new reservations. Returns their number: if it is lower than that of the given ones, another transaction has
/// inserted one of them meanwhile, and the decisions of this one are void.
pub(crate) async fn insert(
    conn: &mut PgConnection,
    reservations: &[Reservation],
) -> sqlx::Result<usize> {
    let columns = Columns::from(reservations);
    let inserted = sqlx::query!(
        "insert into reservation (order_id, state, lines, reject_reason, reject_sku, restocked, order_version)
         select * from unnest($1::uuid[], $2::text[], $3::jsonb[], $4::text[], $5::text[], $6::bool[], $7::int4[])
         on conflict do nothing",
        &columns.order_ids,
        &columns.states,
        &columns.lines as &[Option<serde_json::Value>],
        &columns.reject_reasons as &[Option<String>],
        &columns.reject_skus as &[Option<String>],
        &columns.restocked as &[Option<bool>],
        &columns.order_versions,
    )
    .execute(conn)
    .await?;
    Ok(usize::try_from(inserted.rows_affected()).unwrap_or(usize::MAX))
}

/// Writes locked reservations back: one final row per order.
pub(crate) async fn update(
    conn: &mut PgConnection,
    reservations: &[Reservation],
) -> sqlx::Result<()> {
    let columns = Columns::from(reservations);
    sqlx::query!(
        "update reservation
         set state = new.state,
             reject_reason = new.reject_reason,
             reject_sku = new.reject_sku,
             restocked = new.restocked,
             order_version = new.order_version,
             updated_at = now()
         from unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::bool[], $6::int4[])
              as new (order_id, state, reject_reason, reject_sku, restocked, order_version)
         where reservation.order_id = new.order_id",
        &columns.order_ids,
        &columns.states,
        &columns.reject_reasons as &[Option<String>],
        &columns.reject_skus as &[Option<String>],
        &columns.restocked as &[Option<bool>],
        &columns.order_versions,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// A write-off by an operator.
pub(crate) struct Settlement<'a> {
    pub(crate) order_id: OrderId,
    pub(crate) lines: &'a [OrderLine],
    /// True if the units had been sold, false if they were set aside.
    pub(crate) was_sold: bool,
    pub(crate) operator: &'a str,
    pub(crate) note: &'a str,
}

/// Records a write-off.
pub(crate) async fn settle(
    conn: &mut PgConnection,
    settlement: &Settlement<'_>,
) -> sqlx::Result<()> {
    sqlx::query!(
        "insert into settlement (order_id, lines, was, operator, note) values ($1, $2, $3, $4, $5)",
        settlement.order_id.0,
        Json(settlement.lines) as _,
        if settlement.was_sold {
            "sold"
        } else {
            "reserved"
        },
        settlement.operator,
        settlement.note,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Reservations, column by column.
struct Columns {
    order_ids: Vec<Uuid>,
    states: Vec<String>,
    lines: Vec<Option<serde_json::Value>>,
    reject_reasons: Vec<Option<String>>,
    reject_skus: Vec<Option<String>>,
    restocked: Vec<Option<bool>>,
    order_versions: Vec<i32>,
}

impl From<&[Reservation]> for Columns {
    fn from(reservations: &[Reservation]) -> Self {
        let states = || reservations.iter().map(|reservation| &reservation.state);
        let rejection = |state: &State| match state {
            State::Rejected(rejection) => Some(rejection.clone()),
            _ => None,
        };
        Self {
            order_ids: reservations
                .iter()
                .map(|reservation| reservation.order_id.0)
                .collect(),
            states: states().map(|state| state_name(state).to_owned()).collect(),
            lines: reservations
                .iter()
                .map(|reservation| match reservation.state {
                    State::Rejected(_) | State::Void => None,
                    _ => serde_json::to_value(&reservation.lines).ok(),
                })
                .collect(),
            reject_reasons: states()
                .map(|state| {
                    rejection(state).map(|rejection| reason_name(rejection.reason).to_owned())
                })
                .collect(),
            reject_skus: states()
                .map(|state| rejection(state)?.sku.map(String::from))
                .collect(),
            restocked: states()
                .map(|state| match state {
                    State::Released { restocked } => Some(*restocked),
                    _ => None,
                })
                .collect(),
            order_versions: reservations
                .iter()
                .map(|reservation| i32::try_from(reservation.order_version).unwrap_or(i32::MAX))
                .collect(),
        }
    }
}

impl TryFrom<Row> for Reservation {
    type Error = sqlx::Error;

    fn try_from(row: Row) -> Result<Self, sqlx::Error> {
        let state = match row.state.as_str() {
            "reserved" => State::Reserved,
            "rejected" => State::Rejected(Rejection {
                reason: row
                    .reject_reason
                    .as_deref()
                    .and_then(reason_named)
                    .ok_or_else(|| damaged("reject_reason"))?,
                sku: row
                    .reject_sku
                    .map(|sku| sku.parse().map_err(|_| damaged("reject_sku")))
                    .transpose()?,
            }),
            "sold" => State::Sold,
            "released" => State::Released {
                restocked: row.restocked.ok_or_else(|| damaged("restocked"))?,
            },
            "void" => State::Void,
            "settled" => State::Settled,
            _ => return Err(damaged("state")),
        };
        Ok(Self {
            order_id: OrderId(row.order_id),
            state,
            lines: row.lines.map(|lines| lines.0).unwrap_or_default(),
            order_version: row
                .order_version
                .try_into()
                .map_err(|_| damaged("order_version"))?,
            updated_at: row.updated_at,
        })
    }
}

/// Returns the error for a value that the table's checks should have refused.
fn damaged(column: &'static str) -> sqlx::Error {
    sqlx::Error::Decode(
        format!("reservation.{column} holds a value that this version does not know").into(),
    )
}

pub(crate) fn state_name(state: &State) -> &'static str {
    match state {
        State::Reserved => "reserved",
        State::Rejected(_) => "rejected",
        State::Sold => "sold",
        State::Released { .. } => "released",
        State::Void => "void",
        State::Settled => "settled",
    }
}

fn reason_name(reason: RejectReason) -> &'static str {
    match reason {
        RejectReason::OutOfStock => "out_of_stock",
        RejectReason::UnknownSku => "unknown_sku",
        RejectReason::OrderCancelled => "order_cancelled",
    }
}

fn reason_named(name: &str) -> Option<RejectReason> {
    [
        RejectReason::OutOfStock,
        RejectReason::UnknownSku,
        RejectReason::OrderCancelled,
    ]
    .into_iter()
    .find(|reason| reason_name(*reason) == name)
}
