//! The webhooks to an endpoint: their attempts, and their resending. Allowed to every caller who may see the endpoint.

use actix_web::{HttpResponse, get, post, web};
use chassis::{
    Routes, database,
    http::{JsonBody, Note, PathId, Problem, QueryString, page_size, unknown_cursor},
    identity::{Anyone, Principal, Role},
};
use metrics::counter;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::{
    State,
    view::{AttemptPage, WebhookPage, WebhookView, WebhookWithResends},
    visible,
};
use crate::webhooks::{
    commands,
    store::{self, By, Page, Webhook},
};

/// The number of resends that are shown with their webhook.
const RESENDS: i64 = 20;

pub(super) fn routes(routes: &mut Routes) {
    routes
        .service(messages)
        .service(show_message)
        .service(attempts)
        .service(resend)
        .service(recover);
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct MessagesQuery {
    /// True to return only webhooks that have failed.
    #[param(default = false)]
    failed: Option<bool>,
    /// The `next` of the previous page.
    before: Option<Uuid>,
    /// The most webhooks to return (default 50).
    #[param(minimum = 1, maximum = 200, default = 50)]
    limit: Option<i64>,
}

/// Returns the webhooks to an endpoint, newest first: all that are kept, or those that have failed.
#[utoipa::path(tag = "webhooks", operation_id = "list_webhook_messages", params(("id" = Uuid, Path, description = "The endpoint's id."), MessagesQuery), responses(
    (status = 200, body = WebhookPage),
    (status = 404, description = "There is no such endpoint, or it is not yours."),
))]
#[get("/webhooks/{id}/messages")]
async fn messages(
    Anyone(principal): Anyone,
    state: web::Data<State>,
    PathId(id): PathId,
    QueryString(query): QueryString<MessagesQuery>,
) -> Result<HttpResponse, Problem> {
    let limit = page_size(query.limit)?;
    visible(&state, id, &principal).await?;
    let page = Page {
        before: query.before,
        limit: limit + 1,
    };
    let found = if query.failed == Some(true) {
        store::list_failed(&state.pool, id, &page).await?
    } else {
        store::list(&state.pool, id, &page).await?
    };
    if let Some(before) = query.before
        && found.is_empty()
        && store::find(&state.pool, id, before).await?.is_none()
    {
        return Err(unknown_cursor("before"));
    }
    Ok(HttpResponse::Ok().json(WebhookPage::new(found, limit)))
}

async fn find(
    state: &State,
    (endpoint, message): (Uuid, Uuid),
    principal: &Principal,
) -> Result<Webhook, Problem> {
    visible(state, endpoint, principal).await?;
    store::find(&state.pool, endpoint, message)
        .await?
        .ok_or_else(|| Problem::not_found("there is no such webhook"))
}

/// Returns a webhook to an endpoint, and its 20 newest resends.
#[utoipa::path(tag = "webhooks", operation_id = "show_webhook_message", params(("id" = Uuid, Path, description = "The endpoint's id."), ("message" = Uuid, Path, description = "The webhook's webhook-id.")), responses(
    (status = 200, body = WebhookWithResends),
    (status = 404, description = "The webhook does not exist, has been pruned, or is not yours."),
))]
#[get("/webhooks/{id}/messages/{message}")]
async fn show_message(
    Anyone(principal): Anyone,
    state: web::Data<State>,
    path: web::Path<(Uuid, Uuid)>,
) -> Result<HttpResponse, Problem> {
    let webhook = find(&state, path.into_inner(), &principal).await?;
    let resends = store::resends(&state.pool, webhook.id, RESENDS).await?;
    Ok(HttpResponse::Ok().json(WebhookWithResends::new(webhook, resends)))
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct AttemptsQuery {
    /// The `next` of the previous page.
    before: Option<i32>,
    /// The most attempts to return (default 50).
    #[param(minimum = 1, maximum = 200, default = 50)]
    limit: Option<i64>,
}

/// Returns the attempts at a webhook, newest first.
#[utoipa::path(
    tag = "webhooks", operation_id = "list_webhook_attempts",
    params(("id" = Uuid, Path, description = "The endpoint's id."), ("message" = Uuid, Path, description = "The webhook's webhook-id."), AttemptsQuery),
    responses(
        (status = 200, body = AttemptPage),
        (status = 404, description = "The webhook does not exist, has been pruned, or is not yours."),
    ),
)]
#[get("/webhooks/{id}/messages/{message}/attempts")]
async fn attempts(
    Anyone(principal): Anyone,
    state: web::Data<State>,
    path: web::Path<(Uuid, Uuid)>,
    QueryString(query): QueryString<AttemptsQuery>,
) -> Result<HttpResponse, Problem> {
    let limit = page_size(query.limit)?;
    let webhook = find(&state, path.into_inner(), &principal).await?;
    let found = store::attempts(&state.pool, webhook.id, query.before, limit + 1).await?;
    Ok(HttpResponse::Ok().json(AttemptPage::new(found, limit)))
}

/// A request to resend a webhook.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Resend {
    /// The reason, which operators have to give. It is shown with the webhook, and kept as long.
    #[serde(default)]
    note: Option<Note>,
}

/// A request to resend an endpoint's failed webhooks.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Recover {
    /// The earliest time at which a webhook to resend was first queued.
    #[serde(with = "time::serde::rfc3339")]
    since: OffsetDateTime,
    /// The reason, which operators have to give. It is shown with the webhooks, and kept as long.
    #[serde(default)]
    note: Option<Note>,
}

/// The result of a request to resend a webhook.
#[derive(Debug, Serialize, ToSchema)]
struct Resent {
    /// False if the webhook was queued already, and stays as it is.
    resent: bool,
    #[serde(flatten)]
    webhook: WebhookView,
}

/// The result of a request to resend an endpoint's failed webhooks.
#[derive(Debug, Serialize, ToSchema)]
struct Recovered {
    /// The number of webhooks that were queued again.
    resent: usize,
    /// True if failed webhooks are left: send the request again.
    more: bool,
}

/// Returns the caller and the reason of a resend. Operators have to give a reason, because the webhooks may be a
/// customer's.
fn by<'a>(principal: &'a Principal, note: Option<&'a Note>) -> Result<By<'a>, Problem> {
    if principal.role == Role::Operator && note.is_none() {
        return Err(Problem::invalid_field("note", "is required of an operator"));
    }
    Ok(By {
        asked_by: principal.id.as_str(),
        note: note.map(Note::as_str),
    })
}

/// Resends a webhook, also one that was delivered.
///
/// It has the same body and the same webhook-id, is signed anew, and is tried for as long as a new one.
#[utoipa::path(
    tag = "webhooks", operation_id = "resend_webhook_message",
    params(("id" = Uuid, Path, description = "The endpoint's id."), ("message" = Uuid, Path, description = "The webhook's webhook-id.")),
    request_body = Resend,
    responses(
        (status = 202, description = "The webhook is queued, now or already.", body = Resent),
        (status = 404, description = "The webhook does not exist, has been pruned, or is not yours."),
        (status = 409, description = "The endpoint is disabled."),
        (status = 422, description = "A field is not valid, or an operator gives no reason."),
    ),
)]
#[post("/webhooks/{id}/messages/{message}/resend")]
async fn resend(
    Anyone(principal): Anyone,
    state: web::Data<State>,
    path: web::Path<(Uuid, Uuid)>,
    JsonBody(Resend { note }): JsonBody<Resend>,
) -> Result<HttpResponse, Problem> {
    let (endpoint, message) = path.into_inner();
    let by = by(&principal, note.as_ref())?;
    visible(&state, endpoint, &principal).await?;
    let mut tx = database::begin(&state.pool, "resend webhook").await?;
    let resent = commands::resend::resend(&mut tx, endpoint, message, &by).await?;
    tx.commit().await?;
    if resent {
        counter!("webhooks_resent_total").increment(1);
        state.waker.wake();
        tracing::info!(webhook.id = %message, endpoint.id = %endpoint, by = by.asked_by, note = by.note, "queued a webhook again");
    }
    let webhook = find(&state, (endpoint, message), &principal).await?;
    Ok(HttpResponse::Accepted().json(Resent {
        resent,
        webhook: webhook.into(),
    }))
}

/// Resends an endpoint's failed webhooks.
///
/// Queues up to 500 webhooks that have failed and were first queued at `since` or later, the oldest first. Those that
/// are queued or were delivered stay as they are.
#[utoipa::path(tag = "webhooks", operation_id = "recover_webhook", params(("id" = Uuid, Path, description = "The endpoint's id.")), request_body = Recover, responses(
    (status = 202, description = "They are queued.", body = Recovered),
    (status = 404, description = "There is no such endpoint, or it is not yours."),
    (status = 409, description = "The endpoint is disabled."),
    (status = 422, description = "A field is not valid, or an operator gives no reason."),
))]
#[post("/webhooks/{id}/recover")]
async fn recover(
    Anyone(principal): Anyone,
    state: web::Data<State>,
    PathId(id): PathId,
    JsonBody(Recover { since, note }): JsonBody<Recover>,
) -> Result<HttpResponse, Problem> {
    let by = by(&principal, note.as_ref())?;
    visible(&state, id, &principal).await?;
    let mut tx = database::begin(&state.pool, "recover webhooks").await?;
    let commands::resend::Recovered { resent, more } =
        commands::resend::recover(&mut tx, id, since, &by).await?;
    tx.commit().await?;
    counter!("webhooks_resent_total").increment(u64::try_from(resent).unwrap_or(u64::MAX));
    state.waker.wake();
    tracing::info!(endpoint.id = %id, resent, more, by = by.asked_by, note = by.note, "queued failed webhooks again");
    Ok(HttpResponse::Accepted().json(Recovered { resent, more }))
}
