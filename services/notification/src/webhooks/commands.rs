//! Queues the webhooks about news, in the transaction that handles the news; in `resend`, resends webhooks.

pub(crate) mod resend;

use sqlx::PgConnection;
use time::OffsetDateTime;

use crate::{
    domain::News,
    webhooks::{
        domain::{Payload, message_id},
        store::{self, NewWebhook},
    },
};

/// The webhooks about a batch of news, which are queued together.
#[derive(Default)]
pub(crate) struct NewWebhooks(Vec<NewWebhook>);

impl NewWebhooks {
    /// Adds the webhook about the end of an order. `at` is the time of its event; `traceparent` is the trace that its
    /// sending belongs to.
    pub(crate) fn add(
        &mut self,
        news: &News,
        at: OffsetDateTime,
        traceparent: Option<String>,
    ) -> serde_json::Result<()> {
        let kind = news.what.kind();
        self.0.push(NewWebhook {
            message_id: message_id(news.order_id, kind),
            order_id: news.order_id,
            customer: news.customer.id.clone(),
            kind,
            body: serde_json::to_string(&Payload::new(news, at))?,
            traceparent,
        });
        Ok(())
    }

    /// Queues each webhook for every endpoint that is enabled and wants it.
    pub(crate) async fn queue(&self, conn: &mut PgConnection) -> sqlx::Result<()> {
        store::queue(conn, &self.0).await
    }
}
