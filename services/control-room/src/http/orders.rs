//! Orders: to look at one, and, in demo mode, to place and cancel some.

use actix_web::{HttpRequest, HttpResponse, get, post, web};
use chassis::http::{JsonBody, PathId, Problem, deadline_of};
use contracts::value::CustomerId;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use super::{State, passed, visitor::Visitor};
use crate::client::{Call, Verb};

/// An order, and for whom. The rest is the order service's: `lines`, `payment`, `coordination`.
#[derive(Debug, Deserialize, ToSchema)]
pub(super) struct PlaceOrder {
    customer: CustomerId,
    /// 1 to 128 visible ASCII characters, new for each order.
    idempotency_key: String,
    #[serde(flatten)]
    #[schema(value_type = Object)]
    order: Map<String, Value>,
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct OfCustomer {
    customer: CustomerId,
}

/// An order and its timeline, as operators see them.
#[utoipa::path(tag = "room", params(("id" = Uuid, Path)), responses(
    (status = 200, description = "{order, timeline}"), (status = 404, body = Problem),
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
    let timeline: Value = state.services.ask("order", call, deadline).await?;
    Ok(HttpResponse::Ok().json(json!({ "order": order, "timeline": timeline })))
}

/// Places an order for a customer, under a token that the room signs. Answers what the order service answers.
#[utoipa::path(tag = "demo", request_body = PlaceOrder, responses(
    (status = 202, description = "The order"), (status = 422, body = Problem), (status = 503, body = Problem),
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
    let is_key = (1..=128).contains(&idempotency_key.len())
        && idempotency_key.bytes().all(|b| b.is_ascii_graphic());
    if !is_key {
        return Err(Problem::invalid_field(
            "idempotency_key",
            "has 1 to 128 visible ASCII characters, new for each order",
        ));
    }
    let token = state.services.customer_token(customer)?;
    let order = Value::Object(order);
    let call = Call {
        idempotency_key: Some(&idempotency_key),
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
#[utoipa::path(tag = "demo", params(("id" = Uuid, Path)), request_body = OfCustomer, responses(
    (status = 202, description = "The order"), (status = 404, body = Problem),
))]
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
