//! Sagas: those of an order, those that wait for an operator, and the operator actions on them. The room passes all of
//! it on to the orchestrator.

use actix_web::{HttpRequest, HttpResponse, get, post, web};
use chassis::http::{JsonBody, PathId, Problem, deadline_of};
use futures_util::future::try_join_all;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;
use uuid::Uuid;

use super::{
    State,
    operator::Reason,
    passed,
    visitor::{Guarded, Visitor},
};
use crate::client::{Call, STUCK_SAGAS, Verb};

const SERVICE: &str = "orchestrator";

/// An operator action on a stuck saga.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
#[allow(
    dead_code,
    reason = "it stands in the document alone: the route has the same words"
)]
enum SagaAction {
    Resume,
    Skip,
    Abandon,
}

/// The sagas of an order, each as the orchestrator shows it.
#[derive(Debug, Serialize, ToSchema)]
struct Sagas {
    #[schema(value_type = Vec<Object>)]
    sagas: Vec<Value>,
}

/// Returns the sagas that wait for an operator.
#[utoipa::path(tag = "operator", responses(
    Guarded, (status = 200, description = "Stuck and broken sagas, as the orchestrator lists them.", body = Vec<Object>),
))]
#[get("/room/sagas")]
pub(super) async fn stuck_sagas(
    visitor: Visitor,
    request: HttpRequest,
    state: web::Data<State>,
) -> Result<HttpResponse, Problem> {
    let call = Call::new(Verb::Get, STUCK_SAGAS, &visitor.token);
    let page: Value = state
        .services
        .ask(SERVICE, call, deadline_of(&request))
        .await?;
    Ok(HttpResponse::Ok().json(&page["sagas"]))
}

/// Returns a saga, with its steps and its log.
#[utoipa::path(tag = "operator", params(("id" = Uuid, Path, description = "The saga's id.")), responses(
    Guarded, (status = 200, description = "The saga, as the orchestrator shows it.", body = Object),
))]
#[get("/room/sagas/{id}")]
pub(super) async fn show_saga(
    visitor: Visitor,
    request: HttpRequest,
    state: web::Data<State>,
    PathId(id): PathId,
) -> Result<HttpResponse, Problem> {
    let path = format!("/operator/sagas/{id}");
    let call = Call::new(Verb::Get, &path, &visitor.token);
    let answer = state.services.pass(SERVICE, call, deadline_of(&request));
    passed(answer.await?)
}

/// Ends a saga's wait: resends its step (`resume`), writes it off (`skip`), or writes off all that remains (`abandon`).
#[utoipa::path(
    tag = "operator",
    params(
        ("id" = Uuid, Path, description = "The saga's id."),
        ("deed" = inline(SagaAction), Path, description = "The operator action."),
    ),
    request_body = Reason,
    responses(
        Guarded,
        (status = 202, description = "The saga, as the orchestrator shows it.", body = Object),
        (status = 409, description = "The saga is not stuck, or cannot be read."),
    ),
)]
#[post("/room/sagas/{id}/{deed:resume|skip|abandon}")]
pub(super) async fn end_saga(
    visitor: Visitor,
    request: HttpRequest,
    state: web::Data<State>,
    path: web::Path<(Uuid, String)>,
    JsonBody(reason): JsonBody<Value>,
) -> Result<HttpResponse, Problem> {
    let (id, action) = path.into_inner();
    let path = format!("/operator/sagas/{id}/{action}");
    let call = Call::new(Verb::Post, &path, &visitor.token).with(&reason);
    let answer = state.services.pass(SERVICE, call, deadline_of(&request));
    let answer = answer.await?;
    state.room.attend();
    passed(answer)
}

/// Returns the sagas of an order, with their steps and logs, newest first.
///
/// The list is empty for a choreographed order, and until the orchestrator has handled the first message about it.
#[utoipa::path(
    tag = "room",
    operation_id = "list_sagas_of_order",
    params(("id" = Uuid, Path, description = "The order's id.")),
    responses(Guarded, (status = 200, body = Sagas)),
)]
#[get("/room/orders/{id}/sagas")]
pub(super) async fn of_order(
    visitor: Visitor,
    request: HttpRequest,
    state: web::Data<State>,
    PathId(id): PathId,
) -> Result<HttpResponse, Problem> {
    let (services, token) = (&state.services, visitor.token.as_str());
    let deadline = deadline_of(&request);
    let path = format!("/operator/orders/{id}/sagas");
    let call = Call::new(Verb::Get, &path, token);
    let listed = services.pass(SERVICE, call, deadline).await?;
    let page: Value = match listed.status {
        200 => serde_json::from_slice(&listed.body).map_err(Problem::internal)?,
        404 => Value::Null,
        _ => return passed(listed),
    };
    let ids = page["sagas"].as_array().into_iter().flatten();
    let ids = ids.filter_map(|saga| saga["id"].as_str());
    let whole = ids.map(|id| async move {
        let path = format!("/operator/sagas/{id}");
        let call = Call::new(Verb::Get, &path, token);
        services.ask::<Value>(SERVICE, call, deadline).await
    });
    let sagas = try_join_all(whole).await?;
    Ok(HttpResponse::Ok().json(Sagas { sagas }))
}
