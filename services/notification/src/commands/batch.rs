//! Many orders' news at once: their rows in `told` are locked in one order, and each row is written once.

use std::collections::{BTreeMap, HashSet};

use chassis::trace::OrderFacts;
use contracts::{notification::NotificationQueued, value::OrderId};
use holdfast::{failpoint, messaging::Received, outbox, telemetry};
use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use super::{Command, PUBLISHING};
use crate::{
    domain::is_news,
    error::Error,
    store::{self, NewMail},
    template::Templates,
    webhooks::commands::NewWebhooks,
};

/// Handles a batch of news: queues one mail to the customer, and one webhook to each endpoint that wants it, for each
/// message that is news. Every command is answered: after the commit its customer will get a mail, has got newer news,
/// or has left no address.
pub(crate) async fn tell(
    conn: &mut PgConnection,
    templates: &Templates,
    messages: &[&Received<Command>],
) -> Result<(), Error> {
    let mut batch = Batch::lock(conn, messages).await?;
    for message in messages {
        batch.apply(message, templates)?;
    }
    batch.write(conn).await
}

/// The orders of a batch, with what is to be written at its end.
#[derive(Default)]
struct Batch {
    /// The version of the last news about each order.
    versions: BTreeMap<OrderId, u32>,
    /// The orders that have a row.
    known: HashSet<OrderId>,
    changed: BTreeMap<OrderId, u32>,
    mails: Vec<NewMail>,
    webhooks: NewWebhooks,
    answers: Vec<outbox::Message>,
}

impl Batch {
    /// Locks the rows of the orders, in the order of their ids.
    async fn lock(conn: &mut PgConnection, messages: &[&Received<Command>]) -> Result<Self, Error> {
        let mut ids: Vec<OrderId> = messages
            .iter()
            .map(|message| message.command.news.order_id)
            .collect();
        ids.sort_unstable();
        ids.dedup();
        let versions = store::lock_told(conn, &ids).await?;
        Ok(Self {
            known: versions.keys().copied().collect(),
            versions,
            ..Self::default()
        })
    }

    /// Applies one message, in memory.
    fn apply(&mut self, message: &Received<Command>, templates: &Templates) -> Result<(), Error> {
        let Received {
            event,
            command: Command { news, reply_key },
            span,
        } = message;
        OrderFacts::of(news.order_id)
            .amount(news.amount)
            .describe(span);
        if let Some(key) = reply_key {
            let queued = NotificationQueued {
                order_id: news.order_id,
                order_version: news.order_version,
            };
            let publishing = PUBLISHING.because_of(event);
            self.answers
                .push(span.in_scope(|| publishing.reply(&queued, key)));
        }
        let told = self.versions.get(&news.order_id).copied();
        if !is_news(told, news.order_version) {
            return Ok(());
        }
        self.versions.insert(news.order_id, news.order_version);
        self.changed.insert(news.order_id, news.order_version);
        let text = templates.render(news)?;
        self.mails.push(NewMail {
            id: Uuid::now_v7(),
            order_id: news.order_id,
            kind: news.what.kind(),
            recipient: news.customer.email.clone(),
            subject: text.subject,
            body: text.body,
            traceparent: span.in_scope(telemetry::traceparent),
        });
        // The time is for people, as in all messages: no decision depends on it.
        let at = event.time.unwrap_or_else(OffsetDateTime::now_utc);
        let traceparent = span.in_scope(telemetry::traceparent);
        self.webhooks.add(news, at, traceparent)?;
        Ok(())
    }

    /// Writes each changed row once, the mails, the webhooks and the answers.
    async fn write(self, conn: &mut PgConnection) -> Result<(), Error> {
        let (again, first): (Vec<_>, Vec<_>) = self
            .changed
            .into_iter()
            .partition(|(id, _)| self.known.contains(id));
        if store::tell_first(conn, &first).await? < first.len() {
            return Err(Error::Raced);
        }
        store::tell_again(conn, &again).await?;
        failpoint!("notification.mid_batch");
        store::queue(conn, &self.mails).await?;
        self.webhooks.queue(conn).await?;
        outbox::enqueue(conn, &self.answers).await?;
        Ok(())
    }
}
