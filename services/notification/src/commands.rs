//! The use cases, each on the caller's transaction: telling customers, and in `resend`, resending webhooks.

pub(crate) mod resend;

use std::collections::{BTreeMap, HashSet};

use chassis::{events::Publishing, trace::OrderFacts};
use contracts::{notification::NotificationQueued, value::OrderId};
use holdfast::{failpoint, messaging::Incoming, outbox, telemetry};
use sqlx::PgConnection;
use time::OffsetDateTime;
use tracing::Span;
use uuid::Uuid;

use crate::{
    domain::{
        News, is_news,
        webhook::{Payload, message_id},
    },
    error::Error,
    store::{
        self, NewMail,
        webhooks::{self, NewWebhook},
    },
    template::Templates,
};

const PUBLISHING: Publishing<'static> = Publishing {
    service: "notification",
    cause: None,
};

/// One message about an order.
pub(crate) struct Told<'a> {
    pub(crate) news: &'a News,
    pub(crate) event: &'a Incoming,
    /// The idempotency key of the command, under which it is answered; `None` for an event, which gets no answer.
    pub(crate) reply_key: Option<&'a str>,
    /// The span of the message's handling; the mails and webhooks that are sent because of it continue its trace.
    pub(crate) span: &'a Span,
}

/// Handles a batch of news: queues one mail to the customer, and one webhook to each endpoint that wants it, for each
/// message that is news. Every command is answered: after the commit its customer will be told, or was told something
/// newer, or has left no address.
pub(crate) async fn tell(
    conn: &mut PgConnection,
    templates: &Templates,
    batch: &[Told<'_>],
) -> Result<(), Error> {
    let mut ids: Vec<OrderId> = batch.iter().map(|told| told.news.order_id).collect();
    ids.sort_unstable();
    ids.dedup();
    let mut versions = store::lock_told(conn, &ids).await?;
    let known: HashSet<OrderId> = versions.keys().copied().collect();

    let mut changed = BTreeMap::new();
    let mut mails = Vec::new();
    let mut hooks = Vec::new();
    let mut answers = Vec::new();
    for Told {
        news,
        event,
        reply_key,
        span,
    } in batch
    {
        OrderFacts::of(news.order_id)
            .amount(news.amount)
            .describe(span);
        if let Some(key) = reply_key {
            let queued = NotificationQueued {
                order_id: news.order_id,
                order_version: news.order_version,
            };
            let publishing = PUBLISHING.because_of(event);
            answers.push(span.in_scope(|| publishing.reply(&queued, key)));
        }
        if !is_news(versions.get(&news.order_id).copied(), news.order_version) {
            continue;
        }
        versions.insert(news.order_id, news.order_version);
        changed.insert(news.order_id, news.order_version);
        let text = templates.render(news)?;
        mails.push(NewMail {
            id: Uuid::now_v7(),
            order_id: news.order_id,
            kind: news.what.kind(),
            recipient: news.customer.email.clone(),
            subject: text.subject,
            body: text.body,
            traceparent: span.in_scope(telemetry::traceparent),
        });
        // The time is for people, as in all messages: nothing is decided by it.
        let at = event.time.unwrap_or_else(OffsetDateTime::now_utc);
        hooks.push(NewWebhook {
            message_id: message_id(news.order_id, news.what.kind()),
            order_id: news.order_id,
            customer: news.customer.id.clone(),
            kind: news.what.kind(),
            body: serde_json::to_string(&Payload::new(news, at))?,
            traceparent: span.in_scope(telemetry::traceparent),
        });
    }

    let (again, first): (Vec<_>, Vec<_>) =
        changed.into_iter().partition(|(id, _)| known.contains(id));
    if store::tell_first(conn, &first).await? < first.len() {
        return Err(Error::Raced);
    }
    store::tell_again(conn, &again).await?;
    failpoint!("notification.mid_batch");
    store::queue(conn, &mails).await?;
    webhooks::queue(conn, &hooks).await?;
    outbox::enqueue(conn, &answers).await?;
    Ok(())
}
