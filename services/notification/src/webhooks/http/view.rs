//! Endpoints and webhooks as the API shows them.

use chassis::http::page_of;
use serde::Serialize;
use time::OffsetDateTime;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::webhooks::{
    domain::TYPES,
    store::{Attempt, Resend, Webhook, endpoints::Endpoint},
};

/// A webhook endpoint.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct EndpointView {
    id: Uuid,
    /// The customer whose orders its webhooks are about; null for the operators', whose webhooks are about every order.
    owner: Option<String>,
    url: String,
    /// The types of webhooks that are sent to it.
    events: Vec<String>,
    /// The state: enabled or disabled.
    state: String,
    /// The reason for which it is disabled.
    reason: Option<String>,
    /// The time of the first failure after the last delivery.
    #[serde(with = "time::serde::rfc3339::option")]
    failing_since: Option<OffsetDateTime>,
    /// The time until which webhooks are signed by the secret before the last rotation as well.
    #[serde(with = "time::serde::rfc3339::option")]
    old_secret_until: Option<OffsetDateTime>,
    #[serde(with = "time::serde::rfc3339")]
    created_at: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339")]
    updated_at: OffsetDateTime,
}

impl From<Endpoint> for EndpointView {
    fn from(endpoint: Endpoint) -> Self {
        let all = || TYPES.map(str::to_owned).to_vec();
        Self {
            id: endpoint.id,
            owner: endpoint.owner,
            url: endpoint.url,
            events: endpoint.events.unwrap_or_else(all),
            state: endpoint.state,
            reason: endpoint.reason,
            failing_since: endpoint.failing_since,
            old_secret_until: endpoint.old_secret_until,
            created_at: endpoint.created_at,
            updated_at: endpoint.updated_at,
        }
    }
}

/// A new endpoint, with its secret.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Registered {
    #[serde(flatten)]
    pub(super) endpoint: EndpointView,
    /// The secret that signs its webhooks, which is shown only in this response.
    #[schema(example = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")]
    pub(super) secret: String,
}

/// An endpoint, and its newest webhooks.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct EndpointWithWebhooks {
    #[serde(flatten)]
    endpoint: EndpointView,
    /// The webhooks, newest first.
    webhooks: Vec<WebhookView>,
}

impl EndpointWithWebhooks {
    pub(super) fn new(endpoint: Endpoint, webhooks: Vec<Webhook>) -> Self {
        Self {
            endpoint: endpoint.into(),
            webhooks: webhooks.into_iter().map(WebhookView::from).collect(),
        }
    }
}

/// A webhook to an endpoint.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct WebhookView {
    /// The value of the header webhook-id.
    id: Uuid,
    #[serde(rename = "type")]
    kind: String,
    order_id: Uuid,
    /// The state: queued, held (the endpoint is disabled), delivered, or failed (given up).
    state: String,
    attempts: i32,
    /// The answer to the last attempt, or the reason for which there was none.
    last_reply: Option<String>,
    /// The time of the next attempt; null if the webhook is over or held.
    #[serde(with = "time::serde::rfc3339::option")]
    next_attempt_at: Option<OffsetDateTime>,
    #[serde(with = "time::serde::rfc3339")]
    created_at: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339")]
    updated_at: OffsetDateTime,
}

impl From<Webhook> for WebhookView {
    fn from(webhook: Webhook) -> Self {
        Self {
            id: webhook.message_id,
            kind: webhook.kind,
            order_id: webhook.order_id,
            state: webhook.state,
            attempts: webhook.attempts,
            last_reply: webhook.last_reply,
            next_attempt_at: webhook.due_at,
            created_at: webhook.created_at,
            updated_at: webhook.updated_at,
        }
    }
}

/// A page of the webhooks to an endpoint.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct WebhookPage {
    /// The webhooks, newest first.
    webhooks: Vec<WebhookView>,
    /// The `before` of the next page; absent on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<Uuid>,
}

impl WebhookPage {
    /// Makes a page of `limit` webhooks from those found: one more than `limit` means that there is a next page.
    pub(super) fn new(found: Vec<Webhook>, limit: i64) -> Self {
        let (found, next) = page_of(found, limit, |last| last.message_id);
        Self {
            next,
            webhooks: found.into_iter().map(WebhookView::from).collect(),
        }
    }
}

/// A webhook, with its resends.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct WebhookWithResends {
    #[serde(flatten)]
    webhook: WebhookView,
    /// The resends, newest first.
    resends: Vec<ResendView>,
}

impl WebhookWithResends {
    pub(super) fn new(webhook: Webhook, resends: Vec<Resend>) -> Self {
        Self {
            webhook: webhook.into(),
            resends: resends.into_iter().map(ResendView::from).collect(),
        }
    }
}

/// A resend of a webhook on request.
#[derive(Debug, Serialize, ToSchema)]
struct ResendView {
    /// The customer or operator who requested it.
    by: String,
    /// The reason, if one was given.
    note: Option<String>,
    #[serde(with = "time::serde::rfc3339")]
    at: OffsetDateTime,
}

impl From<Resend> for ResendView {
    fn from(resend: Resend) -> Self {
        Self {
            by: resend.asked_by,
            note: resend.note,
            at: resend.at,
        }
    }
}

/// A page of the attempts at a webhook.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct AttemptPage {
    /// The attempts, newest first.
    attempts: Vec<AttemptView>,
    /// The `before` of the next page; absent on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<i32>,
}

impl AttemptPage {
    /// Makes a page of `limit` attempts from those found: one more than `limit` means that there is a next page.
    pub(super) fn new(found: Vec<Attempt>, limit: i64) -> Self {
        let (found, next) = page_of(found, limit, |last| last.attempt);
        Self {
            next,
            attempts: found.into_iter().map(AttemptView::from).collect(),
        }
    }
}

/// An attempt at a webhook.
#[derive(Debug, Serialize, ToSchema)]
struct AttemptView {
    /// The attempt's number, counted from 1 over all resends.
    attempt: i32,
    /// The outcome: delivered, retried (to be tried again), gone (410: the endpoint was disabled), or given_up.
    outcome: String,
    /// The answer, or the reason for which there was none.
    reply: String,
    took_ms: i32,
    /// The end of the attempt.
    #[serde(with = "time::serde::rfc3339")]
    at: OffsetDateTime,
}

impl From<Attempt> for AttemptView {
    fn from(attempt: Attempt) -> Self {
        Self {
            attempt: attempt.attempt,
            outcome: attempt.outcome,
            reply: attempt.reply,
            took_ms: attempt.took_ms,
            at: attempt.at,
        }
    }
}
