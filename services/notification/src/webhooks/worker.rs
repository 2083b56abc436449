//! Sends queued webhooks. It is a worker apart from that of mails, with places of its own, so no receiver delays a
//! mail.

mod places;
mod secrets;

use std::{sync::Arc, time::Duration};

use chassis::database;
use holdfast::{
    backoff::{Backoff, pause},
    deadline::Deadline,
    failpoint,
    leased_work::{LeasedWork, Try, insist},
    outbox::Waker,
    telemetry::{self, TraceContext},
};
use metrics::{counter, gauge, histogram};
use sqlx::PgPool;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, Span, error, field::Empty, info_span, warn};

use self::places::{Place, Places};
pub(crate) use self::secrets::settle_secrets;
use crate::webhooks::{
    client::{Courier, NotTried},
    config::WebhookSettings,
    domain::{Answer, Verdict, judge},
    store::{self, Claimed, NewAttempt, Wanted, endpoints},
};

/// The delay of a webhook that is put off and whose breaker names none.
const LEFT_ALONE: Duration = Duration::from_secs(60);
/// The random part of the delay of webhooks that are put off together, so that they do not come due at once.
const SPREAD: Duration = Duration::from_secs(30);
/// The most webhooks that are put off together.
const PUT_OFF_AT_MOST: i64 = 1000;
/// The most webhooks that one statement prunes: one that was given up takes a hundred attempts with it.
const CHUNK: i64 = 200;

/// The worker that sends queued webhooks.
pub(crate) struct Messenger {
    pool: PgPool,
    courier: Arc<Courier>,
    places: Places,
    /// The waker of this worker.
    waker: Waker,
    backoff: Backoff,
    give_up: Duration,
    disable_after: Duration,
    /// The length of a claim's lease: longer than sending can take.
    lease: Duration,
}

/// A claimed webhook, and its place among those of its endpoint.
pub(crate) struct InHand {
    webhook: Claimed,
    place: Place,
    /// The lease by this process's clock.
    lease: Deadline,
}

impl Messenger {
    pub(crate) fn new(
        pool: PgPool,
        courier: Arc<Courier>,
        waker: Waker,
        settings: &WebhookSettings,
    ) -> anyhow::Result<Self> {
        let cap = Duration::from_millis(settings.webhook_backoff_cap_ms);
        Ok(Self {
            pool,
            courier,
            // Half of all places, so that an endpoint that hangs leaves the other half free.
            places: Places::new(usize::from(settings.webhook_concurrency).div_ceil(2)),
            waker,
            backoff: Backoff::new(Duration::from_secs(5).min(cap), cap)?,
            give_up: Duration::from_secs(settings.webhook_give_up_hours * 3600),
            disable_after: Duration::from_secs(settings.webhook_disable_after_hours * 3600),
            lease: Duration::from_millis(settings.webhook_timeout_ms) + Duration::from_secs(10),
        })
    }

    async fn send(&self, webhook: &Claimed, lease: Deadline) {
        if !webhook.is_enabled {
            if let Err(error) = store::hold(&self.pool, webhook).await {
                warn!(webhook.id = %webhook.message_id, %error, "cannot hold a webhook; its lease will end");
            }
            return;
        }
        let begun = Instant::now();
        match self.courier.send(webhook).await {
            Ok(answer) => {
                failpoint!("notification.after_webhook");
                self.record(webhook, &answer, begun.elapsed(), lease).await;
            }
            Err(not_tried) => self.put_off(webhook, &not_tried).await,
        }
    }

    /// Stores the result of an attempt.
    async fn record(&self, webhook: &Claimed, answer: &Answer, took: Duration, lease: Deadline) {
        let backoff = self
            .backoff
            .delay(u32::try_from(webhook.attempts_since).unwrap_or(0));
        let verdict = judge(answer, backoff, age(webhook), self.give_up);
        let reply = answer.in_words();
        if verdict != Verdict::Delivered {
            telemetry::fail(&Span::current(), kind(answer), &reply);
            warn!(
                webhook.id = %webhook.message_id, endpoint.id = %webhook.endpoint_id, attempt = webhook.attempts + 1,
                reply, ?verdict, "the webhook was not delivered"
            );
        }
        let record = async |this| {
            let attempt = NewAttempt {
                verdict,
                reply: &reply,
                took,
                is_first_try: this == Try::First,
            };
            let mut tx = database::begin(&self.pool, "record webhook").await?;
            store::attempted(&mut tx, webhook, &attempt).await?;
            if verdict == Verdict::Delivered {
                endpoints::succeeded(&mut *tx, webhook.endpoint_id).await?;
            } else {
                let failing = endpoints::failed(&mut tx, webhook.endpoint_id).await?;
                if let Some(reason) = self.why_disable(verdict, failing, &reply)
                    && endpoints::disable(&mut *tx, webhook.endpoint_id, &reason).await?
                {
                    warn!(endpoint.id = %webhook.endpoint_id, reason, "disabled a webhook endpoint");
                }
            }
            tx.commit().await
        };
        let outcome = verdict.name();
        histogram!("webhook_duration_seconds", "outcome" => outcome).record(took);
        match insist(lease, record).await {
            Ok(()) => counter!("webhooks_total", "outcome" => outcome).increment(1),
            Err(error) => {
                warn!(webhook.id = %webhook.message_id, %error, "cannot record a webhook; its lease will end and it will be resent");
            }
        }
        // A receiver's `Retry-After` holds for all webhooks to its endpoint.
        if let (Some(after), Verdict::Retry(_)) = (answer.retry_after(), verdict) {
            let put_off = self.put_off_others(webhook, after);
            if let Err(error) = put_off.await {
                warn!(endpoint.id = %webhook.endpoint_id, %error, "cannot put webhooks off");
            }
        }
    }

    /// Returns the reason to disable an endpoint, if there is one.
    fn why_disable(&self, verdict: Verdict, failing_seconds: f64, reply: &str) -> Option<String> {
        if verdict == Verdict::Gone {
            return Some("it answered 410 Gone".to_owned());
        }
        (failing_seconds >= self.disable_after.as_secs_f64()).then(|| {
            let hours = self.disable_after.as_secs() / 3600;
            format!("nothing has been delivered for {hours} hours; the last attempt: {reply}")
        })
    }

    /// Puts off a webhook that was not sent, because its destination's breaker is open or it cannot be signed. No
    /// attempt is counted, but its age is: a webhook that is too old is given up.
    async fn put_off(&self, webhook: &Claimed, not_tried: &NotTried) {
        if let NotTried::Unsigned(unopened) = not_tried {
            error!(endpoint.id = %webhook.endpoint_id, error = %unopened, "cannot open a webhook secret");
        }
        let longest = self.backoff.ceiling(u32::MAX);
        let after = not_tried.retry_after().unwrap_or(LEFT_ALONE.min(longest));
        let is_over = age(webhook) >= self.give_up;
        let recorded = if is_over {
            store::give_up(&self.pool, webhook, &not_tried.to_string()).await
        } else {
            match self.put_off_others(webhook, after).await {
                Ok(()) => store::put_off(&self.pool, webhook, after, SPREAD.min(after)).await,
                failed => failed,
            }
        };
        let outcome = if is_over { "given_up" } else { "put_off" };
        match recorded {
            Ok(()) => counter!("webhooks_total", "outcome" => outcome).increment(1),
            Err(error) => {
                warn!(webhook.id = %webhook.message_id, %error, "cannot put a webhook off; its lease will end");
            }
        }
    }

    /// Puts off the other webhooks that are due at a webhook's endpoint.
    async fn put_off_others(&self, webhook: &Claimed, after: Duration) -> sqlx::Result<()> {
        let (endpoint, spread) = (webhook.endpoint_id, SPREAD.min(after));
        store::put_off_others(&self.pool, endpoint, after, spread, PUT_OFF_AT_MOST).await
    }
}

impl LeasedWork for Messenger {
    type Claimed = InHand;

    async fn claim(&self, limit: i64) -> sqlx::Result<Vec<InHand>> {
        let wanted = Wanted {
            limit,
            of_one_endpoint: self.places.of_one_endpoint(),
            under_way: &self.places.taken(),
        };
        let lease = Deadline::after(self.lease);
        let claimed = store::claim(&self.pool, &wanted, self.lease).await?;
        let in_hand = claimed.into_iter().map(|webhook| InHand {
            place: self.places.take(webhook.endpoint_id),
            webhook,
            lease,
        });
        Ok(in_hand.collect())
    }

    async fn work(
        &self,
        InHand {
            webhook,
            place,
            lease,
        }: InHand,
    ) {
        let span = info_span!("send webhook", otel.kind = "client", order.id = %webhook.order_id, trace_id = Empty);
        let trace = webhook.traceparent.as_deref();
        let trace = trace.and_then(|parent| TraceContext::parse(parent, None));
        telemetry::adopt(&span, trace.as_ref());
        telemetry::attribute(&span, "http.request.method", "POST");
        telemetry::attribute(&span, "webhook.id", webhook.message_id.to_string());
        telemetry::attribute(&span, "webhook.endpoint", webhook.endpoint_id.to_string());
        telemetry::attribute(
            &span,
            "holdfast.attempt",
            i64::from(webhook.attempts.saturating_add(1)),
        );
        self.send(&webhook, lease).instrument(span).await;
        if place.leave() {
            // The claim passed over this endpoint while it was full, so more of its webhooks may be due.
            self.waker.wake();
        }
    }

    async fn sample(&self) {
        self.courier.publish();
        if let Ok(queued) = store::queued(&self.pool).await {
            #[expect(clippy::cast_precision_loss, reason = "a count of rows")]
            gauge!("webhooks_queued").set(queued.count as f64);
            gauge!("webhooks_oldest_seconds").set(queued.oldest_seconds);
        }
    }
}

fn age(webhook: &Claimed) -> Duration {
    Duration::try_from_secs_f64(webhook.age_seconds).unwrap_or_default()
}

/// Returns the kind of error for traces: the status, or the reason for which there is none.
fn kind(answer: &Answer) -> String {
    match answer {
        Answer::Status { code, .. } => code.to_string(),
        Answer::Silent => "timeout".to_owned(),
        Answer::Unreachable(_) => "unreachable".to_owned(),
        Answer::Forbidden(_) => "forbidden".to_owned(),
    }
}

/// Deletes, every ten minutes until `shutdown`, the webhooks that have been over or held for `retention`, and the
/// deleted endpoints that have none left.
pub(crate) async fn prune(pool: PgPool, retention: Duration, shutdown: CancellationToken) {
    loop {
        let pruned: sqlx::Result<()> = async {
            while store::prune(&pool, retention, CHUNK).await? == CHUNK.unsigned_abs() {}
            while endpoints::prune(&pool, CHUNK).await? == CHUNK.unsigned_abs() {}
            Ok(())
        }
        .await;
        let wait = match pruned {
            Ok(()) => Duration::from_secs(600),
            Err(error) => {
                warn!(%error, "cannot prune webhooks");
                Duration::from_secs(30)
            }
        };
        if shutdown.run_until_cancelled(pause(wait)).await.is_none() {
            return;
        }
    }
}
