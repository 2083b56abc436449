//! The operator's part: parked messages, stuck orders, and the books. Each operator action is passed on to the service
//! that it concerns, which records it.

use actix_web::{HttpRequest, HttpResponse, get, post, put, web};
use chassis::http::{JsonBody, Note, Problem, deadline_of};
use contracts::order::Participant;
use futures_util::future::join_all;
use serde_json::{Map, Value};
use utoipa::ToSchema;
use uuid::Uuid;

use super::{
    State, passed,
    visitor::{Guarded, Visitor},
};
use crate::{
    client::{Call, Invariants, Verb, WITH_MESSAGES},
    error::Error,
};

/// An operator action that ends a parked message.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
#[allow(
    dead_code,
    reason = "it stands in the document alone: the route has the same words"
)]
enum ParkedAction {
    Requeue,
    Drop,
}

/// An operator action on a stuck order.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
#[allow(
    dead_code,
    reason = "it stands in the document alone: the route has the same words"
)]
enum OrderAction {
    Resume,
    Settle,
    Cancel,
}

/// The reason for an operator action. The service that it is passed on to checks it.
#[derive(ToSchema)]
#[allow(
    dead_code,
    reason = "it stands in the document alone: the room passes on what it is sent"
)]
pub(super) struct Reason {
    note: Note,
}

/// The reason for an operator action and, to settle, the participants to write off. The order service checks it.
#[derive(ToSchema)]
#[allow(
    dead_code,
    reason = "it stands in the document alone: the room passes on what it is sent"
)]
struct Decision {
    note: Note,
    /// The participants to write off: needed to settle, and only then.
    #[schema(min_items = 1, max_items = 2)]
    participants: Option<Vec<Participant>>,
}

/// A new type and payload. The service that it is passed on to checks it.
#[derive(ToSchema)]
#[allow(
    dead_code,
    reason = "it stands in the document alone: the room passes on what it is sent"
)]
struct Edit {
    note: Note,
    /// The new type. Without it the type stays.
    #[schema(rename = "type")]
    kind: Option<String>,
    /// The new payload. Ids and amounts must stay.
    #[schema(value_type = Object)]
    data: Value,
}

/// Returns the parked messages of all services that wait for an operator.
#[utoipa::path(tag = "operator", operation_id = "list_parked", responses(
    Guarded, (status = 200, description = "The messages, as the services list them, each with its `service`.", body = Vec<Object>),
))]
#[get("/room/parked")]
pub(super) async fn parked(
    visitor: Visitor,
    request: HttpRequest,
    state: web::Data<State>,
) -> Result<HttpResponse, Problem> {
    let deadline = deadline_of(&request);
    let token = visitor.token.as_str();
    let state = state.get_ref();
    let asked = WITH_MESSAGES.map(|service| async move {
        let path = "/operator/parked?state=parked&limit=200";
        let call = Call::new(Verb::Get, path, token);
        let rows: Result<Vec<Map<String, Value>>, Error> =
            state.services.ask(service, call, deadline).await;
        rows.map(|rows| {
            rows.into_iter().map(move |mut row| {
                row.insert("service".to_owned(), service.into());
                row
            })
        })
    });
    // A service that is unavailable is left out; its messages are listed once it is back.
    let rows = join_all(asked).await.into_iter().filter_map(Result::ok);
    let rows: Vec<_> = rows.flatten().collect();
    Ok(HttpResponse::Ok().json(rows))
}

/// Returns a parked message, with its payload and headers.
#[utoipa::path(
    tag = "operator",
    params(
        ("service" = String, Path, description = "The service's name."),
        ("id" = Uuid, Path, description = "The id of the parked message."),
    ),
    responses(Guarded, (status = 200, description = "The message, as the service shows it.", body = Object)),
)]
#[get("/room/parked/{service}/{id}")]
pub(super) async fn show_parked(
    visitor: Visitor,
    request: HttpRequest,
    state: web::Data<State>,
    path: web::Path<(String, Uuid)>,
) -> Result<HttpResponse, Problem> {
    let (service, id) = path.into_inner();
    let path = format!("/operator/parked/{id}");
    let call = Call::new(Verb::Get, &path, &visitor.token);
    passed(
        state
            .services
            .pass(&service, call, deadline_of(&request))
            .await?,
    )
}

/// Edits a parked message.
#[utoipa::path(
    tag = "operator",
    params(
        ("service" = String, Path, description = "The service's name."),
        ("id" = Uuid, Path, description = "The id of the parked message."),
    ),
    request_body = Edit,
    responses(
        Guarded,
        (status = 204, description = "The message is edited."),
        (status = 409, description = "The message was requeued or dropped already."),
    ),
)]
#[put("/room/parked/{service}/{id}")]
pub(super) async fn edit_parked(
    visitor: Visitor,
    request: HttpRequest,
    state: web::Data<State>,
    path: web::Path<(String, Uuid)>,
    JsonBody(edit): JsonBody<Value>,
) -> Result<HttpResponse, Problem> {
    let (service, id) = path.into_inner();
    let path = format!("/operator/parked/{id}");
    let call = Call::new(Verb::Put, &path, &visitor.token).with(&edit);
    let answer = state.services.pass(&service, call, deadline_of(&request));
    passed(answer.await?)
}

/// Ends a parked message: publishes it again (`requeue`), or drops it (`drop`).
#[utoipa::path(
    tag = "operator",
    params(
        ("service" = String, Path, description = "The service's name."),
        ("id" = Uuid, Path, description = "The id of the parked message."),
        ("deed" = inline(ParkedAction), Path, description = "The operator action."),
    ),
    request_body = Reason,
    responses(
        Guarded,
        (status = 202, description = "The message is published again.", body = Object),
        (status = 204, description = "The message is dropped."),
        (status = 409, description = "The message was requeued or dropped already."),
    ),
)]
#[post("/room/parked/{service}/{id}/{deed:requeue|drop}")]
pub(super) async fn end_parked(
    visitor: Visitor,
    request: HttpRequest,
    state: web::Data<State>,
    path: web::Path<(String, Uuid, String)>,
    JsonBody(reason): JsonBody<Value>,
) -> Result<HttpResponse, Problem> {
    let (service, id, action) = path.into_inner();
    let path = format!("/operator/parked/{id}/{action}");
    let call = Call::new(Verb::Post, &path, &visitor.token).with(&reason);
    let answer = state.services.pass(&service, call, deadline_of(&request));
    let answer = answer.await?;
    state.room.attend();
    passed(answer)
}

/// Returns the orders that wait for an operator.
#[utoipa::path(tag = "operator", operation_id = "list_stuck_orders", responses(
    Guarded, (status = 200, description = "The orders, as the order service lists them.", body = Vec<Object>),
))]
#[get("/room/stuck")]
pub(super) async fn stuck(
    visitor: Visitor,
    request: HttpRequest,
    state: web::Data<State>,
) -> Result<HttpResponse, Problem> {
    let path = "/operator/orders?stuck=true&limit=200";
    let call = Call::new(Verb::Get, path, &visitor.token);
    let page: Value = state
        .services
        .ask("order", call, deadline_of(&request))
        .await?;
    Ok(HttpResponse::Ok().json(&page["orders"]))
}

/// Ends an order's wait: resends its messages (`resume`), writes parts off (`settle`), or cancels it (`cancel`).
#[utoipa::path(
    tag = "operator",
    params(
        ("id" = Uuid, Path, description = "The order's id."),
        ("deed" = inline(OrderAction), Path, description = "The operator action."),
    ),
    request_body = Decision,
    responses(
        Guarded,
        (status = 202, description = "The order, as the order service shows it to operators.", body = Object),
        (status = 409, description = "The order's state does not allow the action."),
    ),
)]
#[post("/room/stuck/{id}/{deed:resume|settle|cancel}")]
pub(super) async fn end_stuck(
    visitor: Visitor,
    request: HttpRequest,
    state: web::Data<State>,
    path: web::Path<(Uuid, String)>,
    JsonBody(body): JsonBody<Value>,
) -> Result<HttpResponse, Problem> {
    let (id, action) = path.into_inner();
    let path = format!("/operator/orders/{id}/{action}");
    let call = Call::new(Verb::Post, &path, &visitor.token).with(&body);
    let answer = state.services.pass("order", call, deadline_of(&request));
    let answer = answer.await?;
    state.room.attend();
    passed(answer)
}

/// Returns each rule of the books, with its verdict: holds, waits or broken.
#[utoipa::path(tag = "operator", operation_id = "show_invariants", responses(
    Guarded, (status = 200, body = Invariants), (status = 503, description = "The books cannot be read."),
))]
#[get("/room/invariants")]
pub(super) async fn invariants(
    _: Visitor,
    state: web::Data<State>,
) -> Result<HttpResponse, Problem> {
    Ok(HttpResponse::Ok().json(state.auditor.look().await?))
}
