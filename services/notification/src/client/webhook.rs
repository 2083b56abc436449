//! Webhooks' receivers: whom we send to, what we sign, and what they answer.
//!
//! - `target`: what a URL may be; `address`: where nothing is ever sent; `names`: names to addresses that were checked;
//! - `signature`: Standard Webhooks; `destinations`: a circuit breaker for each.

mod address;
mod destinations;
mod names;
mod signature;
mod target;

use std::{error::Error as _, sync::Arc, time::Duration};

use holdfast::{deadline::Deadline, telemetry};
pub(crate) use names::System;
pub use names::{Lookup, Lookups};
use reqwest::{Response, header, redirect};
pub(crate) use signature::Secret;
use time::{OffsetDateTime, format_description::well_known::Rfc2822};
use tracing::{Span, debug};

pub(crate) use self::destinations::Rejected;
use self::{
    destinations::Destinations,
    names::{Checked, Forbidden},
    target::{Policy, Target},
};
use crate::{config::WebhookSettings, domain::webhook::Answer, store::webhooks::Claimed};

/// How much of an answer's body is read: a receiver that is cut off while it writes would note an error.
const READ_AT_MOST: usize = 4096;

/// Hands webhooks to their receivers.
pub(crate) struct Courier {
    http: reqwest::Client,
    policy: Policy,
    names: Checked,
    timeout: Duration,
    destinations: Destinations,
}

impl Courier {
    pub(crate) fn new(settings: &WebhookSettings, lookup: Arc<dyn Lookup>) -> anyhow::Result<Self> {
        let policy = Policy {
            allow_http: settings.webhook_allow_http,
            allow_private: settings.webhook_allow_private,
        };
        let names = Checked::new(lookup, policy);
        let timeout = Duration::from_millis(settings.webhook_timeout_ms);
        let http = reqwest::Client::builder()
            .connect_timeout(timeout)
            // The one way to an address: what this resolver lets through is what is connected to.
            .dns_resolver(names.clone())
            // A proxy would look names up again, and connect for us to what we refuse.
            .no_proxy()
            .redirect(redirect::Policy::none())
            // A new connection each time: its address was checked for this webhook.
            .pool_max_idle_per_host(0)
            .user_agent(concat!("Holdfast-Webhooks/", env!("CARGO_PKG_VERSION")))
            .build()?;
        Ok(Self {
            http,
            policy,
            names,
            timeout,
            destinations: Destinations::new(settings)?,
        })
    }

    /// Whether webhooks could go to this URL now; why not, in words for whoever gave it.
    pub(crate) async fn check(&self, url: &str, deadline: Deadline) -> Result<(), String> {
        let target = Target::parse(url, self.policy).map_err(|invalid| invalid.to_string())?;
        let looked_up = deadline.run(self.names.addresses(target.host())).await;
        match looked_up {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err(format!("{} cannot be looked up in time", target.host())),
        }
    }

    /// Sends a webhook, unless the circuit breaker of its destination is open. Dropping it leaves the outcome unknown.
    pub(crate) async fn send(&self, webhook: &Claimed) -> Result<Answer, Rejected> {
        let target = match Target::parse(&webhook.url, self.policy) {
            Ok(target) => target,
            Err(invalid) => return Ok(Answer::Forbidden(invalid.to_string())),
        };
        // The client asks its resolver for names alone: an address goes past it.
        if let Ok(address) = target.host().parse()
            && let Err(forbidden) = self.names.check(address)
        {
            return Ok(Answer::Forbidden(forbidden.to_string()));
        }
        let span = Span::current();
        telemetry::attribute(&span, "server.address", target.host().to_owned());
        telemetry::attribute(&span, "server.port", i64::from(target.port()));
        let destination = self.destinations.of(webhook.owner.as_deref(), &target);
        let permit = destination.try_acquire()?;
        let answer = self.attempt(webhook, &target).await;
        permit.record(destinations::class(&answer));
        if let Answer::Status { code, .. } = answer {
            telemetry::attribute(&span, "http.response.status_code", i64::from(code));
        }
        Ok(answer)
    }

    /// Says what the breakers counted, for the gauges.
    pub(crate) fn publish(&self) {
        self.destinations.publish();
    }

    async fn attempt(&self, webhook: &Claimed, target: &Target) -> Answer {
        let secrets = [Some(&webhook.secret), webhook.old_secret.as_ref()];
        let signature = signature::header(
            secrets.into_iter().flatten(),
            webhook.message_id,
            webhook.sent_at,
            &webhook.body,
        );
        let request = self
            .http
            .post(target.url().clone())
            .header(header::CONTENT_TYPE, "application/json")
            .header("webhook-id", webhook.message_id.to_string())
            .header("webhook-timestamp", webhook.sent_at.to_string())
            .header("webhook-signature", signature)
            .body(webhook.body.clone());
        let deadline = Deadline::after(self.timeout);
        match deadline.run(request.send()).await {
            Err(_) => Answer::Silent,
            Ok(Err(error)) if error.is_timeout() => Answer::Silent,
            Ok(Err(error)) => unreachable(&error),
            Ok(Ok(response)) => {
                let code = response.status().as_u16();
                let retry_after = retry_after(&response, webhook.sent_at);
                // The status is the answer: what becomes of the body changes nothing.
                if deadline.run(drain(response)).await.is_err() {
                    debug!("the answer's body did not end in time");
                }
                Answer::Status { code, retry_after }
            }
        }
    }
}

/// Reads the beginning of a body, and hangs up on the rest.
async fn drain(mut response: Response) {
    let mut read = 0;
    while let Ok(Some(chunk)) = response.chunk().await {
        read += chunk.len();
        if read >= READ_AT_MOST {
            return;
        }
    }
}

/// Why a request did not get through: not with its URL, whose path may be a secret of the receiver's.
fn unreachable(error: &reqwest::Error) -> Answer {
    let mut cause = error.source();
    let mut why = "the connection failed".to_owned();
    while let Some(error) = cause {
        if let Some(forbidden) = error.downcast_ref::<Forbidden>() {
            return Answer::Forbidden(forbidden.to_string());
        }
        why = error.to_string();
        cause = error.source();
    }
    Answer::Unreachable(why)
}

/// When a receiver wants to be asked again: seconds, or a date (RFC 9110, 10.2.3), which is taken by the database's clock.
fn retry_after(response: &Response, now: i64) -> Option<Duration> {
    let text = response.headers().get(header::RETRY_AFTER)?.to_str().ok()?;
    parse_retry_after(text.trim(), now)
}

fn parse_retry_after(text: &str, now: i64) -> Option<Duration> {
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = OffsetDateTime::parse(text, &Rfc2822).ok()?;
    let seconds = date.unix_timestamp().saturating_sub(now);
    Some(Duration::from_secs(seconds.try_into().unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_a_number_or_a_date() {
        let now = 1_445_412_480; // Wed, 21 Oct 2015 07:28:00 GMT
        let seconds = |seconds| Some(Duration::from_secs(seconds));
        for (text, wanted) in [
            ("120", seconds(120)),
            ("0", seconds(0)),
            ("Wed, 21 Oct 2015 07:28:30 GMT", seconds(30)),
            ("Wed, 21 Oct 2015 07:27:30 GMT", seconds(0)),
            ("soon", None),
            ("-1", None),
            ("", None),
        ] {
            assert_eq!(parse_retry_after(text, now), wanted, "{text:?}");
        }
    }
}
