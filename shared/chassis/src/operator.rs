//! The operator's routes of every service: to see and end messages that could not be handled.
//!
//! Every action on a parked message is recorded with the operator's name and a note.

use actix_web::{HttpResponse, get, post, put, web};
use holdfast::{
    messaging::parking::{self, Decoders, OperatorAction, Parked},
    outbox::{self, Quarantined, Waker},
};
use serde::{Deserialize, Serialize};
use sqlx::PgPool;
use time::OffsetDateTime;
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use crate::{
    database,
    http::{JsonBody, Note, PathId, Problem, QueryString, page_size, unknown_cursor},
    identity::Operator,
    openapi::Routes,
};

/// The state that the operator's routes work on.
#[derive(Clone)]
pub struct Desk {
    pool: PgPool,
    waker: Waker,
    decoders: Decoders,
}

impl Desk {
    /// Makes a desk for the parked messages and the outbox in `pool`; `decoders` check edited messages.
    pub fn new(pool: PgPool, waker: Waker, decoders: Decoders) -> Self {
        Self {
            pool,
            waker,
            decoders,
        }
    }
}

/// Adds the operator's routes.
pub(crate) fn routes(routes: &mut Routes) {
    routes
        .service(list_parked)
        .service(show_parked)
        .service(edit_parked)
        .service(requeue_parked)
        .service(drop_parked)
        .service(list_quarantined)
        .service(release_quarantined);
}

/// A message that could not be handled.
#[derive(Debug, Serialize, ToSchema)]
struct ParkedView {
    /// The id of this parked message, which the other calls take.
    id: Uuid,
    /// The queue that could not handle it.
    queue: String,
    /// The id under which it was sent.
    message_id: Uuid,
    /// Its type, if the envelope could be read.
    #[serde(rename = "type")]
    kind: Option<String>,
    /// The order that it is about, if the envelope could be read.
    subject: Option<String>,
    /// The cause, in one word: malformed, unknown_type, contract_violation, forged_source, rejected, exhausted,
    /// delivery_limit, dead_lettered.
    cause: String,
    /// The cause, explained.
    detail: String,
    /// parked, requeued or dropped.
    state: String,
    #[serde(with = "time::serde::rfc3339")]
    parked_at: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339::option")]
    resolved_at: Option<OffsetDateTime>,
    /// The id under which it was requeued.
    requeued_as: Option<Uuid>,
}

impl From<&Parked> for ParkedView {
    fn from(parked: &Parked) -> Self {
        Self {
            id: parked.id,
            queue: parked.queue.clone(),
            message_id: parked.message_id,
            kind: parked.kind.clone(),
            subject: parked.subject.clone(),
            cause: parked.cause.clone(),
            detail: parked.detail.clone(),
            state: parked.state.clone(),
            parked_at: parked.parked_at,
            resolved_at: parked.resolved_at,
            requeued_as: parked.requeued_as,
        }
    }
}

/// A parked message with all that is known of it.
#[derive(Debug, Serialize, ToSchema)]
struct ParkedDetail {
    #[serde(flatten)]
    parked: ParkedView,
    /// Its text headers.
    headers: std::collections::BTreeMap<String, String>,
    /// Its payload, if that is JSON.
    #[schema(value_type = Option<Object>)]
    data: Option<serde_json::Value>,
    /// Its payload as text, with invalid bytes replaced, if it is not JSON.
    text: Option<String>,
    /// The operator actions on it, oldest first.
    #[serde(rename = "deeds")]
    actions: Vec<OperatorActionView>,
}

/// An operator action on a parked message.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ParkedDeed)]
struct OperatorActionView {
    /// edited, requeued or dropped.
    action: String,
    operator: String,
    note: String,
    #[serde(with = "time::serde::rfc3339")]
    at: OffsetDateTime,
    /// The payload before an edit.
    before: Option<String>,
    /// The payload after an edit.
    after: Option<String>,
}

impl From<OperatorAction> for OperatorActionView {
    fn from(action: OperatorAction) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Self {
            action: action.action,
            operator: action.operator,
            note: action.note,
            at: action.at,
            before: action.before.map(text),
            after: action.after.map(text),
        }
    }
}

/// The choice of parked messages to list.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct ParkedQuery {
    /// The state of the messages (default parked).
    #[param(inline)]
    state: Option<ParkedState>,
    /// The id of the last entry of the page before.
    after: Option<Uuid>,
    /// The number of entries (default 50).
    #[param(minimum = 1, maximum = 200, default = 50)]
    limit: Option<i64>,
}

#[derive(Clone, Copy, Debug, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum ParkedState {
    Parked,
    Requeued,
    Dropped,
}

/// The operator's reason for an action.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = ParkedReason)]
#[serde(deny_unknown_fields)]
struct Reason {
    note: Note,
}

/// A new type and payload.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = ParkedEdit)]
#[serde(deny_unknown_fields)]
struct Edit {
    note: Note,
    /// The type; unchanged if it is not given.
    #[serde(rename = "type")]
    kind: Option<String>,
    /// The payload. It must keep every id and amount.
    #[schema(value_type = Object)]
    data: serde_json::Value,
}

/// The id of the new message.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ParkedRequeued)]
struct Requeued {
    message_id: Uuid,
}

/// An outbox row that the broker refused too often.
#[derive(Debug, Serialize, ToSchema)]
struct QuarantinedView {
    message_id: Uuid,
    exchange: String,
    routing_key: String,
    attempts: i32,
    last_error: Option<String>,
    #[serde(with = "time::serde::rfc3339")]
    quarantined_at: OffsetDateTime,
}

impl From<Quarantined> for QuarantinedView {
    fn from(row: Quarantined) -> Self {
        Self {
            message_id: row.message_id,
            exchange: row.exchange,
            routing_key: row.routing_key,
            attempts: row.attempts,
            last_error: row.last_error,
            quarantined_at: row.quarantined_at,
        }
    }
}

impl From<parking::Error> for Problem {
    fn from(error: parking::Error) -> Self {
        match error {
            parking::Error::NotFound(_) => Self::not_found(error),
            parking::Error::NotParked(_) => Self::conflict(error),
            parking::Error::Edit(why) => Self::invalid_field("data", why),
            parking::Error::Database(error) => error.into(),
        }
    }
}

/// Lists the messages that this service could not handle, oldest first.
#[utoipa::path(tag = "operator", params(ParkedQuery), responses((status = 200, body = Vec<ParkedView>)))]
#[get("/operator/parked")]
async fn list_parked(
    _: Operator,
    desk: web::Data<Desk>,
    QueryString(query): QueryString<ParkedQuery>,
) -> Result<HttpResponse, Problem> {
    let limit = page_size(query.limit)?;
    let state = match query.state {
        None | Some(ParkedState::Parked) => "parked",
        Some(ParkedState::Requeued) => "requeued",
        Some(ParkedState::Dropped) => "dropped",
    };
    let parked = parking::list(&desk.pool, state, query.after, limit).await?;
    if let Some(after) = query.after
        && parked.is_empty()
        && let Err(parking::Error::NotFound(_)) = parking::get(&desk.pool, after).await
    {
        return Err(unknown_cursor("after"));
    }
    Ok(HttpResponse::Ok().json(parked.iter().map(ParkedView::from).collect::<Vec<_>>()))
}

/// Shows one parked message, with its payload and the operator actions on it.
#[utoipa::path(tag = "operator", params(("id" = Uuid, Path, description = "The id of the parked message.")), responses((status = 200, body = ParkedDetail)))]
#[get("/operator/parked/{id}")]
async fn show_parked(
    _: Operator,
    desk: web::Data<Desk>,
    PathId(id): PathId,
) -> Result<HttpResponse, Problem> {
    let parked = parking::get(&desk.pool, id).await?;
    let actions = parking::actions(&desk.pool, id).await?;
    let data: Option<serde_json::Value> = serde_json::from_slice(&parked.payload).ok();
    let text = data
        .is_none()
        .then(|| String::from_utf8_lossy(&parked.payload).into_owned());
    Ok(HttpResponse::Ok().json(ParkedDetail {
        parked: ParkedView::from(&parked),
        headers: parked.headers.0,
        data,
        text,
        actions: actions.into_iter().map(OperatorActionView::from).collect(),
    }))
}

/// Repairs a parked message. The result must fit its type, and must keep every id and amount.
#[utoipa::path(tag = "operator", params(("id" = Uuid, Path, description = "The id of the parked message.")), request_body = Edit, responses(
    (status = 204, description = "It is edited."),
    (status = 409, description = "It was requeued or dropped already."),
))]
#[put("/operator/parked/{id}")]
async fn edit_parked(
    Operator(operator): Operator,
    desk: web::Data<Desk>,
    PathId(id): PathId,
    JsonBody(edit): JsonBody<Edit>,
) -> Result<HttpResponse, Problem> {
    let mut tx = database::begin(&desk.pool, "edit parked_message").await?;
    let kind = match edit.kind {
        Some(kind) => kind,
        None => parking::get(&mut *tx, id).await?.kind.unwrap_or_default(),
    };
    let payload = serde_json::to_vec(&edit.data).map_err(Problem::internal)?;
    let (who, note) = (operator.id.as_str(), edit.note.as_str());
    parking::edit(&mut tx, &desk.decoders, id, who, note, &kind, &payload).await?;
    tx.commit().await?;
    Ok(HttpResponse::NoContent().finish())
}

/// Requeues a parked message to the queue that could not handle it.
#[utoipa::path(tag = "operator", params(("id" = Uuid, Path, description = "The id of the parked message.")), request_body = Reason, responses(
    (status = 202, body = Requeued),
    (status = 409, description = "It was requeued or dropped already."),
))]
#[post("/operator/parked/{id}/requeue")]
async fn requeue_parked(
    Operator(operator): Operator,
    desk: web::Data<Desk>,
    PathId(id): PathId,
    JsonBody(reason): JsonBody<Reason>,
) -> Result<HttpResponse, Problem> {
    let mut tx = database::begin(&desk.pool, "requeue parked_message").await?;
    let (who, note) = (operator.id.as_str(), reason.note.as_str());
    let message_id = parking::requeue(&mut tx, &desk.decoders, id, who, note).await?;
    tx.commit().await?;
    desk.waker.wake();
    Ok(HttpResponse::Accepted().json(Requeued { message_id }))
}

/// Drops a parked message without handling it. An order that depends on it becomes stuck.
#[utoipa::path(tag = "operator", params(("id" = Uuid, Path, description = "The id of the parked message.")), request_body = Reason, responses(
    (status = 204, description = "It is dropped."),
    (status = 409, description = "It was requeued or dropped already."),
))]
#[post("/operator/parked/{id}/drop")]
async fn drop_parked(
    Operator(operator): Operator,
    desk: web::Data<Desk>,
    PathId(id): PathId,
    JsonBody(reason): JsonBody<Reason>,
) -> Result<HttpResponse, Problem> {
    let mut tx = database::begin(&desk.pool, "drop parked_message").await?;
    parking::discard(&mut tx, id, operator.id.as_str(), reason.note.as_str()).await?;
    tx.commit().await?;
    Ok(HttpResponse::NoContent().finish())
}

/// Lists the outbox rows that the broker refused too often, at most 200.
#[utoipa::path(tag = "operator", responses((status = 200, body = Vec<QuarantinedView>)))]
#[get("/operator/outbox")]
async fn list_quarantined(_: Operator, desk: web::Data<Desk>) -> Result<HttpResponse, Problem> {
    let rows = outbox::quarantined(&desk.pool, 200).await?;
    Ok(HttpResponse::Ok().json(
        rows.into_iter()
            .map(QuarantinedView::from)
            .collect::<Vec<_>>(),
    ))
}

/// Releases an outbox row from quarantine: it is published again.
#[utoipa::path(tag = "operator", params(("message_id" = Uuid, Path, description = "The id of the message.")), responses((status = 202, description = "It is published again.")))]
#[post("/operator/outbox/{message_id}/release")]
async fn release_quarantined(
    Operator(operator): Operator,
    desk: web::Data<Desk>,
    PathId(id): PathId,
) -> Result<HttpResponse, Problem> {
    if !outbox::release(&desk.pool, id).await? {
        return Err(Problem::not_found(format!(
            "no outbox row with message id {id} is quarantined"
        )));
    }
    tracing::info!(message.id = %id, operator = %operator.id, "released an outbox row");
    desk.waker.wake();
    Ok(HttpResponse::Accepted().finish())
}
