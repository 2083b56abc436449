//! The HTTP API: mails for operators, and the routes of webhooks.

use actix_web::{HttpResponse, get, post, web};
use chassis::{
    Routes,
    http::{PathId, Problem, QueryString, page_size},
    identity::Operator,
};
use contracts::value::OrderId;
use holdfast::outbox::Waker;
use serde::{Deserialize, Serialize};
use sqlx::PgPool;
use time::OffsetDateTime;
use utoipa::{IntoParams, OpenApi, ToSchema};
use uuid::Uuid;

use crate::{
    store::{self, Mail},
    webhooks::http as webhooks,
};

/// The state that the handlers of mails share.
pub(crate) struct State {
    pub(crate) pool: PgPool,
    /// The waker of the worker that sends mails.
    pub(crate) post: Waker,
}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Holdfast: notification",
        description = "Mails to customers, webhooks to programs, and how they were delivered.",
        version = "1",
    ),
    tags((name = "webhooks", description = "Endpoints, and the webhooks to them: customers manage their own, operators manage all.")),
)]
pub(crate) struct Api;

pub(crate) fn routes(routes: &mut Routes) {
    routes.service(list).service(requeue);
    webhooks::routes(routes);
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct ListQuery {
    /// The order that the mails are about; without it, all orders.
    order: Option<Uuid>,
    /// The state that the mails are in; without it, all states.
    #[param(inline)]
    state: Option<MailState>,
    /// The most mails to return (default 50).
    #[param(minimum = 1, maximum = 200, default = 50)]
    limit: Option<i64>,
}

#[derive(Clone, Copy, Debug, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum MailState {
    Queued,
    Sent,
    Failed,
    Skipped,
}

/// A mail to a customer.
#[derive(Debug, Serialize, ToSchema)]
struct MailView {
    id: Uuid,
    order_id: Uuid,
    /// The kind: order.confirmed or order.cancelled.
    kind: String,
    recipient: Option<String>,
    subject: String,
    /// The state: queued, sent, failed or skipped (there was no address).
    state: String,
    attempts: i32,
    /// The mail server's last reply.
    last_reply: Option<String>,
    #[serde(with = "time::serde::rfc3339")]
    created_at: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339")]
    updated_at: OffsetDateTime,
}

impl From<Mail> for MailView {
    fn from(mail: Mail) -> Self {
        Self {
            id: mail.id,
            order_id: mail.order_id,
            kind: mail.kind,
            recipient: mail.recipient,
            subject: mail.subject,
            state: mail.state,
            attempts: mail.attempts,
            last_reply: mail.last_reply,
            created_at: mail.created_at,
            updated_at: mail.updated_at,
        }
    }
}

/// Returns mails, newest first.
#[utoipa::path(tag = "operator", operation_id = "list_mails", params(ListQuery), responses((status = 200, body = Vec<MailView>)))]
#[get("/operator/mails")]
async fn list(
    _: Operator,
    state: web::Data<State>,
    QueryString(query): QueryString<ListQuery>,
) -> Result<HttpResponse, Problem> {
    let limit = page_size(query.limit)?;
    let wanted = query.state.map(|state| match state {
        MailState::Queued => "queued",
        MailState::Sent => "sent",
        MailState::Failed => "failed",
        MailState::Skipped => "skipped",
    });
    let mails = store::list(&state.pool, query.order.map(OrderId), wanted, limit).await?;
    Ok(HttpResponse::Ok().json(mails.into_iter().map(MailView::from).collect::<Vec<_>>()))
}

/// Queues a failed mail again.
#[utoipa::path(tag = "operator", operation_id = "requeue_mail", params(("id" = Uuid, Path, description = "The mail's id.")), responses(
    (status = 202, description = "It is queued."),
    (status = 404, description = "No mail of this id has failed."),
))]
#[post("/operator/mails/{id}/requeue")]
async fn requeue(
    Operator(operator): Operator,
    state: web::Data<State>,
    PathId(id): PathId,
) -> Result<HttpResponse, Problem> {
    if !store::requeue(&state.pool, id).await? {
        return Err(Problem::not_found("no mail with this id has failed"));
    }
    tracing::info!(mail.id = %id, operator = %operator.id, "queued a mail again");
    state.post.wake();
    Ok(HttpResponse::Accepted().finish())
}
