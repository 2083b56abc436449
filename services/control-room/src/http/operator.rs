//! The operator's part: parked messages, stuck orders, and the books. What is done is passed on to the service that it
//! is about, and recorded there.

use actix_web::{HttpRequest, HttpResponse, get, post, put, web};
use chassis::http::{JsonBody, Problem, deadline_of};
use futures_util::future::join_all;
use serde_json::{Map, Value};
use uuid::Uuid;

use super::{State, passed, visitor::Visitor};
use crate::{
    client::{Call, Verb, WITH_MESSAGES},
    error::Error,
};

/// The messages that wait for an operator, of all services.
#[utoipa::path(tag = "operator", responses((status = 200, description = "As the services list them, with `service`")))]
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
    // A service that is away has its messages later.
    let rows = join_all(asked).await.into_iter().filter_map(Result::ok);
    let rows: Vec<_> = rows.flatten().collect();
    Ok(HttpResponse::Ok().json(rows))
}

/// One of them, whole.
#[utoipa::path(tag = "operator", params(("service" = String, Path), ("id" = Uuid, Path)), responses(
    (status = 200, description = "As the service shows it"), (status = 404, body = Problem),
))]
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

/// Repairs one.
#[utoipa::path(tag = "operator", params(("service" = String, Path), ("id" = Uuid, Path)), responses(
    (status = 204, description = "Edited"), (status = 409, body = Problem), (status = 422, body = Problem),
))]
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

/// Sends one again (`requeue`), or ends it without (`drop`).
#[utoipa::path(
    tag = "operator",
    params(("service" = String, Path), ("id" = Uuid, Path), ("deed" = String, Path, description = "requeue or drop")),
    responses((status = 202, description = "Sent"), (status = 204, description = "Dropped"), (status = 409, body = Problem)),
)]
#[post("/room/parked/{service}/{id}/{deed:requeue|drop}")]
pub(super) async fn end_parked(
    visitor: Visitor,
    request: HttpRequest,
    state: web::Data<State>,
    path: web::Path<(String, Uuid, String)>,
    JsonBody(reason): JsonBody<Value>,
) -> Result<HttpResponse, Problem> {
    let (service, id, deed) = path.into_inner();
    let path = format!("/operator/parked/{id}/{deed}");
    let call = Call::new(Verb::Post, &path, &visitor.token).with(&reason);
    let answer = state.services.pass(&service, call, deadline_of(&request));
    let answer = answer.await?;
    state.room.attend();
    passed(answer)
}

/// The orders that wait for an operator.
#[utoipa::path(tag = "operator", responses((status = 200, description = "As the order service lists them")))]
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

/// Asks again for what one awaits (`resume`), writes it off (`settle`), or cancels it.
#[utoipa::path(
    tag = "operator",
    params(("id" = Uuid, Path), ("deed" = String, Path, description = "resume, settle or cancel")),
    responses((status = 202, description = "The order"), (status = 409, body = Problem), (status = 422, body = Problem)),
)]
#[post("/room/stuck/{id}/{deed:resume|settle|cancel}")]
pub(super) async fn end_stuck(
    visitor: Visitor,
    request: HttpRequest,
    state: web::Data<State>,
    path: web::Path<(Uuid, String)>,
    JsonBody(body): JsonBody<Value>,
) -> Result<HttpResponse, Problem> {
    let (id, deed) = path.into_inner();
    let path = format!("/operator/orders/{id}/{deed}");
    let call = Call::new(Verb::Post, &path, &visitor.token).with(&body);
    let answer = state.services.pass("order", call, deadline_of(&request));
    let answer = answer.await?;
    state.room.attend();
    passed(answer)
}

/// What the books say: each rule, and whether it holds, waits, or is broken.
#[utoipa::path(tag = "operator", responses(
    (status = 200, description = "{checked_at, checks}"), (status = 503, body = Problem),
))]
#[get("/room/invariants")]
pub(super) async fn invariants(
    _: Visitor,
    state: web::Data<State>,
) -> Result<HttpResponse, Problem> {
    Ok(HttpResponse::Ok().json(state.auditor.look().await?))
}
