//! A batch: its messages are decoded and handled in one transaction, and those that cannot be handled are sent
//! elsewhere.

use std::{
    any::Any,
    collections::BTreeMap,
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures_util::FutureExt;
use lapin::Channel;
use metrics::counter;
use sqlx::PgPool;
use tokio::time::{Instant, timeout};
use tracing::{Instrument, Span, error, info, warn};
use uuid::Uuid;

use super::{
    Publisher, Subscription,
    event::{ATTEMPT, CAUSE, DETAIL, Incoming, PUT_OFF, text_headers},
    handler::{Error, Handler, Received, Undecodable},
    headers,
    meter::{self, Paused},
    subscription::{Ended, Item, Process},
    trace,
};
use crate::{
    backoff::Backoff,
    failpoint, inbox,
    outbox::{Message, Outcome, Publisher as _},
    telemetry, transaction,
};

/// The number of timeouts in a row, each while the database answers others, after which a batch is taken apart, and a
/// single message goes on the retry schedule.
const MAX_TIMEOUTS: u32 = 3;
/// The time within which a slow database must answer `select 1` to count as available.
const SIGN_OF_LIFE: Duration = Duration::from_secs(5);
/// The number of lost races in a row after which a batch is taken apart, and a single message is put off.
const MAX_CONFLICTS: u32 = 12;
/// The same bound as a duration: each try at a held lock costs a whole `lock_timeout`.
const LOCKED_OUT: Duration = Duration::from_secs(10);
/// The number of messages in a row, each locked out alone, after which a whole table counts as locked, not a single
/// row.
const LOCKED_IN_A_ROW: u32 = 3;

/// The consumer of a queue with a [`Handler`].
pub(super) struct Processor<H: Handler> {
    queue: String,
    retries: u32,
    /// The time limit of a batch's transaction.
    transaction: Duration,
    handler: Arc<H>,
    pool: PgPool,
    publisher: Publisher,
    /// The effect of the last run of the handler, with the ids of its messages, until that run is known to have
    /// committed. It outlives the run and the channel: the reply to a COMMIT may be lost with both, and when its
    /// messages are delivered again none of them is new. A std lock: held for a moment, never across an await.
    effect: Mutex<Option<(Vec<Uuid>, H::Effect)>>,
}

impl<H: Handler> Processor<H> {
    pub(super) fn new(
        subscription: &Subscription,
        handler: Arc<H>,
        pool: PgPool,
        publisher: Publisher,
    ) -> Self {
        meter::begin(&subscription.queue);
        Self {
            queue: subscription.queue.clone(),
            retries: subscription.retries,
            transaction: subscription.transaction,
            handler,
            pool,
            publisher,
            effect: Mutex::new(None),
        }
    }

    async fn process(&self, channel: &Channel, batch: &[Item]) -> Result<(), Ended> {
        let begun = Instant::now();
        let mut received = Vec::with_capacity(batch.len());
        let mut diverted = Vec::new();
        for item in batch {
            match self.decode(item) {
                Ok(message) => received.push(message),
                Err(message) => diverted.push(message),
            }
        }
        let batch: Vec<&Received<H::Command>> = received.iter().collect();
        diverted.extend(self.apply(channel, &batch).await?);
        if !diverted.is_empty() {
            let counts = meter::Diverted::of(&self.queue, &diverted);
            divert(&self.queue, &self.publisher, channel, diverted).await?;
            failpoint!("consumer.after_divert");
            counts.count(&self.queue);
        }
        meter::batch(&self.queue, batch.len(), begun.elapsed());
        Ok(())
    }

    /// Reads envelope and payload. A delivery that cannot be read is returned as a message for the parking lot.
    fn decode(&self, item: &Item) -> Result<Received<H::Command>, Message> {
        let delivery = &item.delivery;
        let headers = text_headers(delivery);
        let span = trace::of_delivery(&self.queue, delivery, &headers);
        let event = Incoming::read(delivery, headers).map_err(|(malformed, headers)| {
            let (id, data) = (item.parking_id(), delivery.data.clone());
            let why = malformed.to_string();
            self.park(&span, id, headers, data, "malformed", &why)
        })?;
        match decode(&*self.handler, &event) {
            Ok(command) => Ok(Received {
                event,
                command,
                span,
            }),
            Err(undecodable) => Err(self.park(
                &span,
                event.id,
                event.headers,
                event.data,
                undecodable.cause(),
                &undecodable.to_string(),
            )),
        }
    }

    /// Handles the batch to its end: all of it is committed, except the returned messages, which go elsewhere.
    async fn apply(
        &self,
        channel: &Channel,
        batch: &[&Received<H::Command>],
    ) -> Result<Vec<Message>, Ended> {
        let mut diverted = Vec::new();
        let mut rest = batch;
        while !rest.is_empty() {
            let spans: Vec<&Span> = rest.iter().map(|received| &received.span).collect();
            let together = trace::of_receiving(&self.queue, &spans);
            let attempt = self.attempt(channel, rest).instrument(together.clone());
            let Err(error) = attempt.await? else {
                break;
            };
            if let [alone] = rest {
                diverted.push(self.give_up(alone, &error));
                break;
            }
            // One message failed the batch. Each runs alone, so that only that one pays for it.
            telemetry::fail(&together, "taken_apart", &error);
            info!(queue = self.queue, messages = rest.len(), %error, "taking the batch apart");
            let mut locked_out = 0;
            while let Some((alone, others)) = rest.split_first() {
                rest = others;
                let attempt = self.attempt(channel, std::slice::from_ref(alone));
                let Err(error) = attempt.instrument(alone.span.clone()).await? else {
                    locked_out = 0;
                    continue;
                };
                diverted.push(self.give_up(alone, &error));
                if !matches!(error, Error::Conflict(_)) {
                    locked_out = 0;
                    continue;
                }
                locked_out += 1;
                if locked_out == LOCKED_IN_A_ROW {
                    // A whole table is locked: the rest waits for it as one batch.
                    break;
                }
            }
        }
        Ok(diverted)
    }

    /// Runs the transaction until it commits or fails by an error of its own. Waits while the database is unavailable.
    async fn attempt(
        &self,
        channel: &Channel,
        batch: &[&Received<H::Command>],
    ) -> Result<Result<(), Error>, Ended> {
        let mut away = Backoff::RECONNECT.delays();
        let mut conflicts = Backoff::CONFLICT.delays();
        let mut first_conflict = None;
        let mut timeouts = 0;
        let mut paused = None;
        loop {
            let mut outcome = self.transact_in_time(batch).await;
            if let Err(Error::TooSlow(error)) = outcome {
                outcome = if !self.database_answers().await {
                    timeouts = 0;
                    Err(Error::Unavailable(error))
                } else if timeouts + 1 < MAX_TIMEOUTS {
                    timeouts += 1;
                    warn!(queue = self.queue, messages = batch.len(), %error, "too slow; running it again");
                    away.wait().await;
                    check_open(channel, &self.queue)?;
                    continue;
                } else {
                    Err(Error::TooSlow(error))
                };
            }
            match outcome {
                Err(Error::Unavailable(error)) => {
                    if paused.is_none() {
                        warn!(queue = self.queue, %error, "paused: a dependency is unavailable");
                        paused = Some(Paused::now(&self.queue));
                    }
                    away.wait().await;
                }
                Err(Error::Conflict(error))
                    if conflicts.failures() < MAX_CONFLICTS
                        && first_conflict.get_or_insert_with(Instant::now).elapsed()
                            < LOCKED_OUT =>
                {
                    counter!("message_conflicts_total", "queue" => self.queue.clone()).increment(1);
                    info!(queue = self.queue, %error, "running the batch again");
                    conflicts.wait().await;
                }
                outcome => {
                    if paused.is_some() {
                        info!(queue = self.queue, "going on");
                    }
                    return Ok(outcome);
                }
            }
            check_open(channel, &self.queue)?;
        }
    }

    /// Returns whether the database answers a statement that costs it nothing. If it does, the batch itself was too
    /// slow.
    async fn database_answers(&self) -> bool {
        let answer = timeout(SIGN_OF_LIFE, sqlx::query("select 1").execute(&self.pool));
        matches!(answer.await, Ok(Ok(_)))
    }

    /// Runs the transaction once, within its time limit.
    async fn transact_in_time(&self, batch: &[&Received<H::Command>]) -> Result<(), Error> {
        let span = telemetry::sql("TRANSACTION", &self.queue);
        let outcome = timeout(
            self.transaction,
            self.transact(batch).instrument(span.clone()),
        )
        .await;
        let outcome = outcome.unwrap_or_else(|late| Err(Error::TooSlow(Box::new(late))));
        if let Err(error) = &outcome {
            telemetry::fail(&span, error.kind(), error);
        }
        outcome
    }

    /// Writes inbox and effects in one transaction.
    async fn transact(&self, batch: &[&Received<H::Command>]) -> Result<(), Error> {
        let mut tx = transaction::begin(&self.pool).await?;
        let ids: Vec<Uuid> = batch.iter().map(|received| received.event.id).collect();
        let mut new = inbox::admit(&mut tx, &self.queue, &ids).await?;
        // `remove`: an id that is in the batch twice is new once.
        let fresh: Vec<_> = batch
            .iter()
            .copied()
            .filter(|received| new.remove(&received.event.id))
            .collect();
        if !fresh.is_empty() {
            self.keep(None);
            // Half-done work is rolled back with the transaction, so nobody sees broken state afterwards.
            let handled = AssertUnwindSafe(self.handler.handle(&mut tx, &fresh))
                .catch_unwind()
                .await
                .unwrap_or_else(|panic| Err(Error::Failed(panicked(&*panic).into())))?;
            let ids = fresh.iter().map(|received| received.event.id).collect();
            self.keep(Some((ids, handled)));
        }
        failpoint!("consumer.before_commit");
        tx.commit().await?;
        failpoint!("consumer.after_commit");

        self.handler.committed(self.take_effect(&ids));
        let repeated = batch.len() - fresh.len();
        meter::committed(&self.queue, fresh.iter().map(|new| &new.event), repeated);
        Ok(())
    }

    fn keep(&self, effect: Option<(Vec<Uuid>, H::Effect)>) {
        *self.effect.lock().unwrap_or_else(PoisonError::into_inner) = effect;
    }

    /// Takes the effect of the run that handled one of these messages.
    fn take_effect(&self, ids: &[Uuid]) -> Option<H::Effect> {
        let mut kept = self.effect.lock().unwrap_or_else(PoisonError::into_inner);
        let (_, effect) = kept.take_if(|(of, _)| of.iter().any(|id| ids.contains(id)))?;
        Some(effect)
    }

    /// Returns a message that failed alone, addressed to its next delay or to the parking lot.
    ///
    /// A message that was locked out is put off: it takes the delays one by one, then the last again and again, and no
    /// attempts are counted.
    fn give_up(&self, received: &Received<H::Command>, error: &Error) -> Message {
        let Incoming {
            id,
            headers,
            data,
            attempt,
            ..
        } = received.event.clone();
        let span = &received.span;
        if let Error::Rejected(why) = error {
            return self.park(span, id, headers, data, "rejected", why);
        }
        let is_locked_out = matches!(error, Error::Conflict(_)) && self.retries > 0;
        if attempt > self.retries && !is_locked_out {
            return self.park(
                span,
                id,
                headers,
                data,
                "exhausted",
                &format!("attempt {attempt} failed: {error}"),
            );
        }
        warn!(queue = self.queue, message.id = %id, kind = received.event.kind, attempt, %error, "will be tried again");
        telemetry::fail(span, "retried", error);
        let mut headers = headers;
        below(span, &mut headers);
        let delay = if is_locked_out {
            let before = headers.get(PUT_OFF).and_then(|times| times.parse().ok());
            let times = before.unwrap_or(0_u32).saturating_add(1);
            headers.insert(PUT_OFF.to_owned(), times.to_string());
            times.min(self.retries)
        } else {
            headers.insert(ATTEMPT.to_owned(), (attempt + 1).to_string());
            attempt
        };
        Message {
            id,
            exchange: super::retry_exchange(&self.queue),
            routing_key: super::retry(&self.queue, delay),
            headers,
            payload: data,
        }
    }

    fn park(
        &self,
        span: &Span,
        id: Uuid,
        mut headers: BTreeMap<String, String>,
        payload: Vec<u8>,
        cause: &str,
        detail: &str,
    ) -> Message {
        error!(queue = self.queue, message.id = %id, cause, detail, "parked");
        telemetry::fail(span, cause, detail);
        below(span, &mut headers);
        headers.insert(CAUSE.to_owned(), cause.to_owned());
        headers.insert(DETAIL.to_owned(), detail.chars().take(500).collect());
        Message {
            id,
            exchange: super::retry_exchange(&self.queue),
            routing_key: super::dead(&self.queue),
            headers,
            payload,
        }
    }
}

/// Publishes the messages that go elsewhere, and returns only when the broker has all of them: after that their
/// originals are acknowledged.
pub(super) async fn divert(
    queue: &str,
    publisher: &Publisher,
    channel: &Channel,
    mut messages: Vec<Message>,
) -> Result<(), Ended> {
    let mut delays = Backoff::RECONNECT.delays();
    let mut paused = None;
    loop {
        // A received message may be too large to be sent once it carries its cause, and the publisher would refuse
        // it for ever.
        for message in &mut messages {
            headers::cut(&mut message.headers, publisher.room());
        }
        let outcomes = publisher.publish(&messages).await;
        let mut outcomes = outcomes.into_iter();
        messages.retain(|message| match outcomes.next() {
            Some(Outcome::Confirmed) => false,
            Some(Outcome::Refused(error)) => {
                error!(routing_key = message.routing_key, %error, "the topology lacks a queue: cannot move a message");
                paused.get_or_insert_with(|| Paused::now(queue));
                true
            }
            Some(Outcome::Unknown | Outcome::Nacked) | None => true,
        });
        if messages.is_empty() {
            return Ok(());
        }
        delays.wait().await;
        check_open(channel, queue)?;
    }
}

/// Ends a wait whose channel is gone: its batch is delivered again.
pub(super) fn check_open(channel: &Channel, queue: &str) -> Result<(), Ended> {
    if channel.status().connected() {
        Ok(())
    } else {
        Err(Ended::Channel(queue.to_owned()))
    }
}

impl<H: Handler> Process for Processor<H> {
    fn process<'a>(
        &'a self,
        channel: &'a Channel,
        batch: &'a [Item],
    ) -> Pin<Box<dyn Future<Output = Result<(), Ended>> + Send + 'a>> {
        Box::pin(self.process(channel, batch))
    }
}

/// Decodes a message with a handler. A panic makes it a message that cannot be decoded.
pub(super) fn decode<H: Handler>(handler: &H, event: &Incoming) -> Result<H::Command, Undecodable> {
    catch_unwind(AssertUnwindSafe(|| handler.decode(event)))
        .unwrap_or_else(|panic| Err(Undecodable::Malformed(panicked(&*panic))))
}

/// Describes a panic. The message that brings out a handler's bug fails, instead of taking its process down again and
/// again, with everything else that the process does.
fn panicked(panic: &(dyn Any + Send)) -> String {
    let text = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    format!("its handler panicked: {}", text.unwrap_or("no message"))
}

/// Puts the span's context into the headers, so that the handling of the message continues its trace.
fn below(span: &Span, headers: &mut BTreeMap<String, String>) {
    if let Some(context) = telemetry::trace_context_of(span) {
        context.put_into(headers);
    }
}
