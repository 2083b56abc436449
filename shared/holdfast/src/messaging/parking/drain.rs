//! The consumer that moves a dead-letter queue into `parked_message`.

use std::{collections::BTreeMap, future::Future, pin::Pin};

use lapin::{Channel, message::Delivery, types::AMQPValue};
use sqlx::{PgConnection, PgPool, types::Json};
use tracing::{Instrument, info, warn};
use uuid::Uuid;

use crate::{
    backoff::Backoff,
    failpoint, inbox,
    messaging::{
        dead,
        event::{CAUSE, DETAIL, attribute, text_headers},
        headers::CUT,
        subscription::{Ended, Item, Process},
        trace,
    },
    transaction,
};

/// A consumer of the dead-letter queue of one queue.
pub(in crate::messaging) struct Drain {
    queue: String,
    pool: PgPool,
}

impl Drain {
    pub(in crate::messaging) fn new(queue: String, pool: PgPool) -> Self {
        Self { queue, pool }
    }

    async fn process(&self, channel: &Channel, batch: &[Item]) -> Result<(), Ended> {
        let mut away = Backoff::RECONNECT.delays();
        for item in batch {
            let headers = text_headers(&item.delivery);
            let span = trace::of_delivery(&dead(&self.queue), &item.delivery, &headers);
            // Only the database can fail here, so it is enough to wait for it.
            while let Err(error) = self.store(item, &headers).instrument(span.clone()).await {
                if away.failures() == 0 {
                    warn!(queue = self.queue, %error, "cannot park: the database is unavailable");
                }
                away.wait().await;
                if !channel.status().connected() {
                    return Err(Ended::Channel(self.queue.clone()));
                }
            }
            away.reset();
        }
        failpoint!("parking.before_ack");
        Ok(())
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
        let (cause, mut detail) = match (headers.get(CAUSE), headers.get(DETAIL)) {
            (Some(cause), detail) => (cause.clone(), detail.cloned().unwrap_or_default()),
            (None, _) => by_broker(&item.delivery),
        };
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
