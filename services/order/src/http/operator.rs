//! The operators' routes, for orders that do not come to rest by themselves. Every action is recorded with name and
//! note.

use actix_web::{HttpResponse, get, post, web};
use chassis::{
    database,
    http::{JsonBody, Note, PathId, Problem, QueryString},
    identity::Operator,
};
use contracts::{
    order::Participant,
    value::{CustomerId, OrderId},
};
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::{State, orders::page, view::OperatorView};
use crate::{
    commands::{self, ByOperator},
    store,
};

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct ListQuery {
    /// Only orders that wait for an operator.
    #[param(default = true)]
    stuck: Option<bool>,
    /// Only orders of this customer.
    #[param(inline)]
    customer: Option<CustomerId>,
    /// The `next` of the previous page.
    before: Option<Uuid>,
    /// The most orders to return (default 50).
    #[param(minimum = 1, maximum = 200, default = 50)]
    limit: Option<i64>,
}

/// The note on an operator action.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Reason {
    note: Note,
}

/// The parts of an order that are written off, and the note.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Settlement {
    /// The reason, and what was done instead.
    note: Note,
    /// The participants that write off their parts.
    #[schema(min_items = 1, max_items = 2)]
    participants: Vec<Participant>,
}

/// Lists orders that wait for an operator, newest first.
#[utoipa::path(tag = "operator", operation_id = "list_orders_as_operator", params(ListQuery), responses(
    (status = 200, body = super::view::OrderPage),
))]
#[get("/operator/orders")]
pub(super) async fn list(
    _: Operator,
    state: web::Data<State>,
    QueryString(query): QueryString<ListQuery>,
) -> Result<HttpResponse, Problem> {
    page(
        &state,
        query.customer,
        query.stuck.unwrap_or(true),
        query.before,
        query.limit,
    )
    .await
}

/// Returns an order, with what it awaits and the operator actions on it.
#[utoipa::path(tag = "operator", operation_id = "show_order_as_operator", params(("id" = Uuid, Path, description = "The order's id.")), responses(
    (status = 200, body = OperatorView),
))]
#[get("/operator/orders/{id}")]
pub(super) async fn show(
    _: Operator,
    state: web::Data<State>,
    PathId(id): PathId,
) -> Result<HttpResponse, Problem> {
    let stored = store::find(&state.pool, OrderId(id)).await?;
    let stored = stored.ok_or_else(|| Problem::not_found("there is no such order"))?;
    let actions = store::actions(&state.pool, OrderId(id)).await?;
    Ok(HttpResponse::Ok().json(OperatorView::new(&stored, actions)))
}

/// Cancels a pending order.
#[utoipa::path(
    tag = "operator", operation_id = "cancel_order_as_operator", params(("id" = Uuid, Path, description = "The order's id.")), request_body = Reason,
    responses((status = 202, body = OperatorView), (status = 409, description = "Not possible in the order's state.")),
)]
#[post("/operator/orders/{id}/cancel")]
pub(super) async fn cancel(
    Operator(operator): Operator,
    state: web::Data<State>,
    PathId(id): PathId,
    JsonBody(reason): JsonBody<Reason>,
) -> Result<HttpResponse, Problem> {
    let by = ByOperator {
        operator: operator.id.as_str(),
        note: reason.note.as_str(),
    };
    let mut tx = database::begin(&state.pool, "cancel order").await?;
    commands::cancel_by_operator(&mut tx, OrderId(id), &by, &state.waiting).await?;
    tx.commit().await?;
    done(&state, id).await
}

/// Resends the messages whose answers the order awaits, and starts its wait again.
#[utoipa::path(
    tag = "operator", operation_id = "resume_order", params(("id" = Uuid, Path, description = "The order's id.")), request_body = Reason,
    responses((status = 202, body = OperatorView), (status = 409, description = "Not possible in the order's state.")),
)]
#[post("/operator/orders/{id}/resume")]
pub(super) async fn resume(
    Operator(operator): Operator,
    state: web::Data<State>,
    PathId(id): PathId,
    JsonBody(reason): JsonBody<Reason>,
) -> Result<HttpResponse, Problem> {
    let by = ByOperator {
        operator: operator.id.as_str(),
        note: reason.note.as_str(),
    };
    let mut tx = database::begin(&state.pool, "resume order").await?;
    commands::resume(&mut tx, OrderId(id), &by, &state.waiting).await?;
    tx.commit().await?;
    done(&state, id).await
}

/// Has participants write off what they cannot undo. The order ends when they have.
///
/// For a stuck order. What is written off was, or will be, put right outside of this system: by a bank transfer, say. A
/// participant that has undone its part meanwhile answers so, and writes off nothing. The participants of an
/// orchestrated order answer to its saga: 409, settle it there.
#[utoipa::path(
    tag = "operator", operation_id = "settle_order", params(("id" = Uuid, Path, description = "The order's id.")), request_body = Settlement,
    responses(
        (status = 202, body = OperatorView),
        (status = 409, description = "The order is not stuck, or is settled at its saga."),
    ),
)]
#[post("/operator/orders/{id}/settle")]
pub(super) async fn settle(
    Operator(operator): Operator,
    state: web::Data<State>,
    PathId(id): PathId,
    JsonBody(settlement): JsonBody<Settlement>,
) -> Result<HttpResponse, Problem> {
    if !(1..=2).contains(&settlement.participants.len()) {
        return Err(Problem::invalid_field(
            "participants",
            "must name payment, inventory, or both",
        ));
    }
    let by = ByOperator {
        operator: operator.id.as_str(),
        note: settlement.note.as_str(),
    };
    let mut tx = database::begin(&state.pool, "settle order").await?;
    commands::settle(
        &mut tx,
        OrderId(id),
        &settlement.participants,
        &by,
        &state.waiting,
    )
    .await?;
    tx.commit().await?;
    done(&state, id).await
}

/// Responds with the order as it is after the action.
async fn done(state: &State, id: Uuid) -> Result<HttpResponse, Problem> {
    state.waker.wake();
    let stored = store::find(&state.pool, OrderId(id)).await?;
    let stored = stored.ok_or_else(|| Problem::not_found("there is no such order"))?;
    let actions = store::actions(&state.pool, OrderId(id)).await?;
    Ok(HttpResponse::Accepted().json(OperatorView::new(&stored, actions)))
}
