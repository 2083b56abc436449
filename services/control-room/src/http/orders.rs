//! Orders: reading one and, in demo mode, placing and cancelling them.

use actix_web::{HttpRequest, HttpResponse, get, post, web};
use chassis::http::{IdempotencyKey, JsonBody, PathId, Problem, deadline_of};
use contracts::value::CustomerId;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::{
    State, passed,
    visitor::{Guarded, Visitor},
};
use crate::client::{Call, Verb};

/// An order to place, and its customer. The order service checks the rest: `lines`, `payment`, `coordination`.
#[derive(Debug, Deserialize, ToSchema)]
pub(super) struct PlaceOrder {
    customer: CustomerId,
    /// A key that is new for each order.
    idempotency_key: IdempotencyKey,
    #[serde(flatten)]
    #[schema(value_type = Object)]
    order: Map<String, Value>,
}

/// The customer whose order it is.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct OfCustomer {
    customer: CustomerId,
}

/// An order and its timeline, as the order service shows them to operators.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct OrderWithTimeline {
    #[schema(value_type = Object)]
    order: Value,
    #[schema(value_type = Vec<Object>)]
    timeline: Vec<Value>,
}

/// Returns an order and its timeline, as operators see them.
#[utoipa::path(tag = "room", operation_id = "show_order", params(("id" = Uuid, Path, description = "The order's id.")), responses(
    Guarded, (status = 200, body = OrderWithTimeline),
))]
#[get("/room/orders/{id}")]
pub(super) async fn show(
    visitor: Visitor,
    request: HttpRequest,
    state: web::Data<State>,
    PathId(id): PathId,
) -> Result<HttpResponse, Problem> {
    let deadline = deadline_of(&request);
    let path = format!("/operator/orders/{id}");
    let call = Call::new(Verb::Get, &path, &visitor.token);
    let order = state.services.pass("order", call, deadline).await?;
    if order.status != 200 {
        return passed(order);
    }
    let order: Value = serde_json::from_slice(&order.body).map_err(Problem::internal)?;
    let path = format!("/orders/{id}/timeline");
    let call = Call::new(Verb::Get, &path, &visitor.token);
    let timeline = state.services.ask("order", call, deadline).await?;
    Ok(HttpResponse::Ok().json(OrderWithTimeline { order, timeline }))
}

/// Places an order for a customer, under a token that the room signs. Passes the order service's response on.
#[utoipa::path(tag = "demo", operation_id = "place_order", request_body = PlaceOrder, responses(
    Guarded, (status = 202, description = "The order service's response: the order.", body = Object),
))]
#[post("/room/orders")]
pub(super) async fn place(
    _: Visitor,
    request: HttpRequest,
    state: web::Data<State>,
    JsonBody(order): JsonBody<PlaceOrder>,
) -> Result<HttpResponse, Problem> {
    let PlaceOrder {
        customer,
        idempotency_key,
        order,
    } = order;
    let token = state.services.customer_token(customer)?;
    let order = Value::Object(order);
    let call = Call {
        idempotency_key: Some(idempotency_key.as_str()),
        ..Call::new(Verb::Post, "/orders", &token).with(&order)
    };
    passed(
        state
            .services
            .pass("order", call, deadline_of(&request))
            .await?,
    )
}

/// Cancels a customer's order.
#[utoipa::path(
    tag = "demo",
    operation_id = "cancel_order",
    params(("id" = Uuid, Path, description = "The order's id.")),
    request_body = OfCustomer,
    responses(
        Guarded,
        (status = 202, description = "The order service's response: the order.", body = Object),
        (status = 409, description = "The order cannot be cancelled any more."),
    ),
)]
#[post("/room/orders/{id}/cancel")]
pub(super) async fn cancel(
    _: Visitor,
    request: HttpRequest,
    state: web::Data<State>,
    PathId(id): PathId,
    JsonBody(OfCustomer { customer }): JsonBody<OfCustomer>,
) -> Result<HttpResponse, Problem> {
    let token = state.services.customer_token(customer)?;
    let path = format!("/orders/{id}/cancel");
    let call = Call::new(Verb::Post, &path, &token);
    passed(
        state
            .services
            .pass("order", call, deadline_of(&request))
            .await?,
    )
}
