//! Moves a dead-letter queue into `parked_message`.

use std::{collections::BTreeMap, future::Future, pin::Pin};

use lapin::{Channel, message::Delivery, types::AMQPValue};
use sqlx::{PgPool, types::Json};
use tracing::{Instrument, info, warn};
use uuid::Uuid;

use crate::{
    backoff::Backoff,
    failpoint, inbox,
    messaging::{
        batch::id_from_content,
        dead,
        event::{CAUSE, DETAIL, attribute, text_headers},
        subscription::{Ended, Item, Process},
        trace,
    },
};

/// Consumes the dead-letter queue of one queue.
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
            // Only the database can fail here, so waiting for it is all there is to do.
            while let Err(error) = self
                .store(&item.delivery, &headers)
                .instrument(span.clone())
                .await
            {
                if away.failures() == 0 {
                    warn!(queue = self.queue, %error, "cannot park: the database is away");
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

    async fn store(
        &self,
        delivery: &Delivery,
        headers: &BTreeMap<String, String>,
    ) -> sqlx::Result<()> {
        let message_id = delivery
            .properties
            .message_id()
            .as_ref()
            .and_then(|id| id.as_str().parse().ok());
        let message_id = message_id.unwrap_or_else(|| id_from_content(delivery));
        let mut conn = self.pool.acquire().await?;
        // A copy of it may have been handled after this one was put aside: then there is nothing left to do.
        if inbox::contains(&mut conn, &self.queue, message_id).await? {
            info!(queue = self.queue, message.id = %message_id, "not parked: it was handled meanwhile");
            return Ok(());
        }
        let (cause, detail) = match (headers.get(CAUSE), headers.get(DETAIL)) {
            (Some(cause), detail) => (cause.clone(), detail.cloned().unwrap_or_default()),
            (None, _) => by_broker(delivery),
        };
        sqlx::query(
            "insert into parked_message (id, queue, message_id, kind, subject, headers, payload, cause, detail)
             values ($1, $2, $3, $4, $5, $6, $7, $8, $9)
             on conflict (queue, message_id) do nothing",
        )
        .bind(Uuid::now_v7())
        .bind(&self.queue)
        .bind(message_id)
        .bind(attribute(headers, "type"))
        .bind(attribute(headers, "subject"))
        .bind(Json(headers))
        .bind(&delivery.data)
        .bind(cause)
        .bind(detail)
        .execute(&mut *conn)
        .await?;
        Ok(())
    }
}

/// The cause of a message that the broker itself dead-lettered, from its `x-death` header.
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
