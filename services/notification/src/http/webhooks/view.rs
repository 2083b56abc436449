//! What is shown of endpoints and webhooks.

use chassis::http::page_of;
use serde::Serialize;
use time::OffsetDateTime;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::{
    domain::webhook::TYPES,
    store::{
        endpoints::Endpoint,
        webhooks::{Attempt, Resend, Webhook},
    },
};

/// An endpoint.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct EndpointView {
    id: Uuid,
    /// The customer whose orders it hears of; null: the operators', which hears of every order.
    owner: Option<String>,
    url: String,
    /// What it hears of.
    events: Vec<String>,
    /// enabled or disabled.
    state: String,
    /// Why it is disabled.
    reason: Option<String>,
    /// Since when nothing was delivered and something failed.
    #[serde(with = "time::serde::rfc3339::option")]
    failing_since: Option<OffsetDateTime>,
    /// Until then, webhooks are signed by the secret before the last rotation as well.
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

/// A new endpoint.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Registered {
    #[serde(flatten)]
    pub(super) endpoint: EndpointView,
    /// What signs its webhooks. Shown this once.
    #[schema(example = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")]
    pub(super) secret: String,
}

/// An endpoint, and its newest webhooks.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct EndpointWithWebhooks {
    #[serde(flatten)]
    endpoint: EndpointView,
    /// Newest first.
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

/// A webhook.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct WebhookView {
    /// The header webhook-id.
    id: Uuid,
    #[serde(rename = "type")]
    kind: String,
    order_id: Uuid,
    /// queued, held (the endpoint is disabled), delivered, or failed (given up).
    state: String,
    attempts: i32,
    /// What came of the last attempt.
    last_reply: Option<String>,
    /// When it is tried next.
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

/// Webhooks to an endpoint.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct WebhookPage {
    /// Newest first.
    webhooks: Vec<WebhookView>,
    /// What to send as `before` for the next page; absent on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<Uuid>,
}

impl WebhookPage {
    /// From one webhook more than the page has, which tells whether there is a next one.
    pub(super) fn new(found: Vec<Webhook>, limit: i64) -> Self {
        let (found, next) = page_of(found, limit, |last| last.message_id);
        Self {
            next,
            webhooks: found.into_iter().map(WebhookView::from).collect(),
        }
    }
}

/// A webhook, and who had it sent again.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct WebhookWithResends {
    #[serde(flatten)]
    webhook: WebhookView,
    /// Newest first.
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

/// That a webhook was sent again.
#[derive(Debug, Serialize, ToSchema)]
struct ResendView {
    /// The customer or operator who wanted it.
    by: String,
    /// Why.
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

/// Attempts at a webhook.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct AttemptPage {
    /// Newest first.
    attempts: Vec<AttemptView>,
    /// What to send as `before` for the next page; absent on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<i32>,
}

impl AttemptPage {
    /// From one attempt more than the page has, which tells whether there is a next one.
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
    /// Counted from 1, over all times that it was sent again.
    attempt: i32,
    /// delivered, retried (it was to go again), gone (410: the endpoint was disabled), or given_up.
    outcome: String,
    /// What was answered, or what there was instead of an answer.
    reply: String,
    took_ms: i32,
    /// When it was over.
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
