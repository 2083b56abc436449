//! What is shown of endpoints and webhooks.

use serde::Serialize;
use time::OffsetDateTime;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::{
    domain::webhook::TYPES,
    store::{endpoints::Endpoint, webhooks::Webhook},
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
struct WebhookView {
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
