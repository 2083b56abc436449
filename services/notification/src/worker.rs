//! Sends queued mails.

use std::time::Duration;

use chassis::database;
use holdfast::{
    backoff::Backoff,
    deadline::Deadline,
    failpoint,
    leased_work::{LeasedWork, Try, insist},
    telemetry::{self, TraceContext},
};
use metrics::{counter, gauge};
use sqlx::PgPool;
use tracing::{Instrument, Span, field::Empty, info, info_span, warn};

use crate::{
    client::{NotAsked, Post, Reply},
    config::MailSettings,
    store::{self, Attempt, Claimed, Outcome},
};

/// The delay until a mail is due again that was not handed to the server, unless the breaker names one.
const NOT_ASKED: Duration = Duration::from_secs(1);

/// The worker that sends queued mails.
pub(crate) struct Postman {
    pool: PgPool,
    post: Post,
    backoff: Backoff,
    give_up: Duration,
    /// The length of a claim's lease: longer than sending can take.
    lease: Duration,
}

impl Postman {
    pub(crate) fn new(pool: PgPool, post: Post, settings: &MailSettings) -> anyhow::Result<Self> {
        Ok(Self {
            pool,
            post,
            backoff: Backoff::new(
                Duration::from_millis(500),
                Duration::from_millis(settings.mail_backoff_cap_ms.max(500)),
            )?,
            give_up: Duration::from_secs(settings.mail_give_up_hours * 3600),
            lease: Duration::from_millis(settings.smtp_timeout_ms) * 2 + Duration::from_secs(10),
        })
    }

    async fn send(&self, mail: &Claimed, lease: Deadline) {
        let Reply { outcome, text } = match self.post.send(mail).await {
            Ok(reply) => reply,
            Err(not_asked) => return self.put_back(mail, not_asked).await,
        };
        failpoint!("notification.after_smtp");
        let is_too_old = mail.age_seconds > self.give_up.as_secs_f64();
        let retry_in = match outcome {
            Outcome::Accepted | Outcome::Refused => None,
            Outcome::Deferred | Outcome::Unknown if is_too_old => None,
            Outcome::Deferred | Outcome::Unknown => Some(
                self.backoff
                    .delay(u32::try_from(mail.attempts - 1).unwrap_or(0)),
            ),
        };
        if outcome != Outcome::Accepted {
            let kind = format!("{outcome:?}").to_lowercase();
            telemetry::fail(&Span::current(), kind, &text);
            warn!(mail.id = %mail.id, attempt = mail.attempts, ?outcome, reply = text, ?retry_in, "the mail was not accepted");
        }
        let record = async |this| {
            let attempt = Attempt {
                outcome,
                reply: &text,
                retry_in,
                is_first_try: this == Try::First,
            };
            let mut tx = database::begin(&self.pool, "record delivery").await?;
            store::delivered(&mut tx, mail, &attempt).await?;
            tx.commit().await
        };
        if let Err(error) = insist(lease, record).await {
            warn!(mail.id = %mail.id, %error, "cannot record a delivery; its lease will end and the mail will be resent");
        } else {
            counter!("mails_total", "outcome" => format!("{outcome:?}").to_lowercase())
                .increment(1);
        }
    }
}

impl Postman {
    async fn put_back(&self, mail: &Claimed, NotAsked { why, retry_after }: NotAsked) {
        let delay = retry_after.unwrap_or(NOT_ASKED);
        info!(mail.id = %mail.id, why, ?delay, "not sent yet");
        if let Err(error) = store::put_back(&self.pool, mail, delay).await {
            warn!(mail.id = %mail.id, %error, "cannot put a mail back; its lease will end");
        }
    }
}

/// A claimed mail, and its lease by this process's clock.
pub(crate) struct InHand {
    mail: Claimed,
    lease: Deadline,
}

impl LeasedWork for Postman {
    type Claimed = InHand;

    async fn claim(&self, limit: i64) -> sqlx::Result<Vec<InHand>> {
        let limit = self.post.dependency().worth_asking(limit);
        if limit == 0 {
            return Ok(Vec::new());
        }
        let lease = Deadline::after(self.lease);
        let claimed = store::claim(&self.pool, limit, self.lease).await?;
        let in_hand = claimed.into_iter().map(|mail| InHand { mail, lease });
        Ok(in_hand.collect())
    }

    async fn work(&self, InHand { mail, lease }: InHand) {
        let span = info_span!("send mail", otel.kind = "client", order.id = %mail.order_id, trace_id = Empty);
        let trace = mail.traceparent.as_deref();
        let trace = trace.and_then(|parent| TraceContext::parse(parent, None));
        telemetry::adopt(&span, trace.as_ref());
        telemetry::attribute(&span, "server.address", self.post.server().to_owned());
        telemetry::attribute(&span, "holdfast.attempt", i64::from(mail.attempts));
        self.send(&mail, lease).instrument(span).await;
    }

    async fn sample(&self) {
        if let Ok(queued) = store::queued(&self.pool).await {
            #[expect(clippy::cast_precision_loss, reason = "a count of rows")]
            gauge!("mails_queued").set(queued.count as f64);
            gauge!("mails_oldest_seconds").set(queued.oldest_seconds);
        }
    }
}
