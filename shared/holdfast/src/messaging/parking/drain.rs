//! The consumer that moves a dead-letter queue into `parked_message`.

use std::{collections::BTreeMap, future::Future, pin::Pin};

use lapin::{Channel, message::Delivery, types::AMQPValue};
use sqlx::{PgConnection, PgPool, types::Json};
use tracing::{Instrument, error, info, warn};
use uuid::Uuid;

use crate::transaction::{Class, classify};
use crate::{
    backoff::Backoff,
    failpoint, inbox,
    messaging::{
        batch::{check_open, divert},
        dead,
        event::{CAUSE, DETAIL, REFUSED, attribute, text_headers},
        headers::CUT,
        meter,
        publisher::Publisher,
        retry_exchange,
        subscription::{Ended, Item, Process},
        trace,
    },
    outbox::Message,
    transaction,
};

/// A consumer of the dead-letter queue of one queue.
pub(in crate::messaging) struct Drain {
    queue: String,
    pool: PgPool,
    publisher: Publisher,
}

impl Drain {
    pub(in crate::messaging) fn new(queue: String, pool: PgPool, publisher: Publisher) -> Self {
        Self {
            queue,
            pool,
            publisher,
        }
    }

    async fn process(&self, channel: &Channel, batch: &[Item]) -> Result<(), Ended> {
        let mut refused = Vec::new();
        let mut fewest = u32::MAX;
        for item in batch {
            let headers = text_headers(&item.delivery);
            let span = trace::of_delivery(&dead(&self.queue), &item.delivery, &headers);
            let parked = self.park(channel, item, &headers).instrument(span);
            if let Err(error) = parked.await? {
                let times = times_refused(&headers);
                if times == 0 {
                    let id = item.parking_id();
                    error!(queue = self.queue, message.id = %id, %error, "cannot park: back to the end of the dead-letter queue");
                }
                fewest = fewest.min(times);
                refused.push(self.requeued(item, headers, times.saturating_add(1)));
            }
        }
        if !refused.is_empty() {
            // The wait is for a batch of nothing else, because others may be behind these.
            if refused.len() == batch.len() {
                Backoff::RECONNECT.wait(fewest).await;
                check_open(channel, &self.queue)?;
            }
            let count = refused.len();
            divert(&self.queue, &self.publisher, channel, refused).await?;
            meter::refused(&self.queue, count);
        }
        failpoint!("parking.before_ack");
        Ok(())
    }

    /// Stores a message. Waits for the database for as long as another try may help; returns the error if none can: a
    /// constraint, say, or a text that the database's encoding lacks.
    async fn park(
        &self,
        channel: &Channel,
        item: &Item,
        headers: &BTreeMap<String, String>,
    ) -> Result<sqlx::Result<()>, Ended> {
        let mut away = Backoff::RECONNECT.delays();
        loop {
            let error = match self.store(item, headers).await {
                Err(error) if classify(&error) != Class::Other => error,
                stored => return Ok(stored),
            };
            if away.failures() == 0 {
                warn!(queue = self.queue, %error, "cannot park: the database is unavailable");
            }
            away.wait().await;
            check_open(channel, &self.queue)?;
        }
    }

    /// Returns a message that was refused `times`, addressed to the end of its dead-letter queue. It keeps its cause,
    /// which the broker forgets.
    fn requeued(&self, item: &Item, mut headers: BTreeMap<String, String>, times: u32) -> Message {
        let (cause, detail) = cause(item, &headers);
        headers.insert(CAUSE.to_owned(), cause);
        headers.insert(DETAIL.to_owned(), detail);
        headers.insert(REFUSED.to_owned(), times.to_string());
        Message {
            id: item.parking_id(),
            exchange: retry_exchange(&self.queue),
            routing_key: dead(&self.queue),
            headers,
            payload: item.delivery.data.clone(),
        }
    }

    /// Stores a message, in one transaction. Leaves out one that is stored already, or that was handled meanwhile.
    async fn store(&self, item: &Item, headers: &BTreeMap<String, String>) -> sqlx::Result<()> {
        let message_id = item.parking_id();
        let mut tx = transaction::begin(&self.pool).await?;
        // A copy of it may have been handled after this one was dead-lettered: then nothing is left to do.
        if inbox::contains(&mut tx, &self.queue, message_id).await? {
            info!(queue = self.queue, message.id = %message_id, "not parked: it was handled meanwhile");
            return Ok(());
        }
        let (cause, mut detail) = cause(item, headers);
        if let Some(cut) = headers.get(CUT) {
            detail = format!("{detail} (too large to be kept whole; left out: {cut})");
        }
        let parked = New {
            queue: &self.queue,
            headers,
            payload: &item.delivery.data,
            cause: &cause,
        };
        let is_new = parked.insert(&mut tx, message_id, &detail).await?;
        if !is_new && !parked.is_there(&mut tx, message_id).await? {
            // The publisher gave two messages one id. The second is no repetition.
            warn!(queue = self.queue, message.id = %message_id, "another message was parked under this id");
            let detail =
                format!("{detail} (another message was parked under its id, {message_id})");
            parked.insert(&mut tx, item.other_id(), &detail).await?;
        }
        tx.commit().await
    }
}

/// A message that is to be parked.
struct New<'a> {
    queue: &'a str,
    headers: &'a BTreeMap<String, String>,
    payload: &'a [u8],
    cause: &'a str,
}

impl New<'_> {
    /// Inserts the message; returns `false` if one is parked under this id already.
    async fn insert(
        &self,
        conn: &mut PgConnection,
        message_id: Uuid,
        detail: &str,
    ) -> sqlx::Result<bool> {
        let inserted = sqlx::query(
            "insert into parked_message (id, queue, message_id, kind, subject, headers, payload, cause, detail)
             values ($1, $2, $3, $4, $5, $6, $7, $8, $9)
             on conflict (queue, message_id) do nothing",
        )
        .bind(Uuid::now_v7())
        .bind(self.queue)
        .bind(message_id)
        .bind(attribute(self.headers, "type"))
        .bind(attribute(self.headers, "subject"))
        .bind(Json(self.headers))
        .bind(self.payload)
        .bind(self.cause)
        .bind(detail)
        .execute(conn)
        .await?;
        Ok(inserted.rows_affected() == 1)
    }

    /// Returns whether the message that is parked under this id has the same payload, or had it before an operator's
    /// edit.
    async fn is_there(&self, conn: &mut PgConnection, message_id: Uuid) -> sqlx::Result<bool> {
        sqlx::query_scalar(
            "select exists (
                 select from parked_message p
                 where p.queue = $1 and p.message_id = $2
                   and (p.payload = $3
                        or exists (select from parked_message_audit a where a.parked_id = p.id and a.before = $3))
             )",
        )
        .bind(self.queue)
        .bind(message_id)
        .bind(self.payload)
        .fetch_one(conn)
        .await
    }
}

/// Returns how often a message was refused before.
fn times_refused(headers: &BTreeMap<String, String>) -> u32 {
    let times = headers.get(REFUSED).and_then(|times| times.parse().ok());
    times.unwrap_or(0)
}

/// Returns the cause and the detail of a message: its consumer's, or else the broker's.
fn cause(item: &Item, headers: &BTreeMap<String, String>) -> (String, String) {
    match (headers.get(CAUSE), headers.get(DETAIL)) {
        (Some(cause), detail) => (cause.clone(), detail.cloned().unwrap_or_default()),
        (None, _) => by_broker(&item.delivery),
    }
}

/// Returns the cause and the detail of a message that the broker itself dead-lettered, from its `x-death` header.
fn by_broker(delivery: &Delivery) -> (String, String) {
    let reason = (|| {
        let deaths = delivery
            .properties
            .headers()
            .as_ref()?
            .inner()
            .get("x-death")?
            .as_array()?;
        let death = deaths
            .as_slice()
            .first()?
            .as_field_table()?
            .inner()
            .get("reason")
            .cloned()?;
        match death {
            AMQPValue::LongString(reason) => {
                str::from_utf8(reason.as_bytes()).ok().map(str::to_owned)
            }
            _ => None,
        }
    })();
    match reason.as_deref() {
        Some("delivery_limit") => (
            "delivery_limit".to_owned(),
            "its consumers died, or lost the broker, at each of its deliveries".to_owned(),
        ),
        reason => (
            "dead_lettered".to_owned(),
            format!("by the broker, reason: {}", reason.unwrap_or("not given")),
        ),
    }
}

impl Process for Drain {
    fn process<'a>(
        &'a self,
        channel: &'a Channel,
        batch: &'a [Item],
    ) -> Pin<Box<dyn Future<Output = Result<(), Ended>> + Send + 'a>> {
        Box::pin(self.process(channel, batch))
    }
}
