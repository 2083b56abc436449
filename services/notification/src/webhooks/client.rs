//! The client of webhooks' receivers: checks the host, signs, sends, and reads the answer.
//!
//! - `target`: the URLs that are allowed; `address`: the addresses that are not; `names`: resolves names to checked
//!   addresses;
//! - `signature`: Standard Webhooks; `vault`: its secrets at rest; `destinations`: a circuit breaker for each.

mod address;
mod destinations;
mod names;
mod signature;
mod target;
mod vault;

use std::{error::Error as _, sync::Arc, time::Duration};

use holdfast::{deadline::Deadline, telemetry};
pub(crate) use names::System;
pub use names::{Lookup, Lookups};
use reqwest::{Response, header, redirect};
pub(crate) use signature::{NoRandomness, Secret};
use time::{OffsetDateTime, format_description::well_known::Rfc2822};
use tracing::{Span, debug};

use self::destinations::Rejected;
use self::{
    destinations::Destinations,
    names::{Checked, Error, Forbidden, Places, REFUSED},
    target::Target,
};
pub(crate) use self::{
    target::Policy,
    vault::{Unopened, Vault},
};
use crate::webhooks::{
    config::WebhookSettings,
    domain::Answer,
    store::{Claimed, endpoints::Secrets},
};

/// The most bytes of an answer's body that are read. Without reading, a receiver would log an error for being cut off.
const READ_AT_MOST: usize = 4096;

/// The most hosts that are looked up at a time for webhooks to send.
const LOOK_UPS: usize = 64;
/// The most hosts that are looked up at a time for endpoints to register. The places are apart, so that no registration
/// keeps a webhook waiting.
const REGISTRATIONS: usize = 16;
/// The most hosts that are looked up at a time for one owner's registrations.
const REGISTRATIONS_OF_ONE: usize = 2;

/// The client that sends webhooks to their receivers.
pub(crate) struct Courier {
    http: reqwest::Client,
    policy: Policy,
    /// The resolver for webhooks to send.
    names: Checked,
    /// The resolver for endpoints to register.
    registered: Checked,
    vault: Arc<Vault>,
    timeout: Duration,
    destinations: Destinations,
}

/// The reason for which a webhook was not tried. Nothing was sent.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotTried {
    /// The circuit breaker of its destination is open. Try again after the wait that the breaker names.
    #[error(transparent)]
    Rejected(#[from] Rejected),
    /// No secret opens, so the webhook cannot be signed. Try again later: an operator has to repair the keys, and the
    /// log names the key.
    #[error("it could not be signed")]
    Unsigned(#[from] Unopened),
}

impl NotTried {
    /// Returns the wait before the next try, if it is known.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Rejected(rejected) => rejected.retry_after,
            Self::Unsigned(_) => None,
        }
    }
}

/// The reason for which an endpoint cannot be registered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Objection {
    /// The URL is refused, with a reason that may be shown to its owner.
    Url(String),
    /// Too many hosts are being looked up. Try again later.
    Busy,
}

impl Courier {
    pub(crate) fn new(
        settings: &WebhookSettings,
        policy: Policy,
        vault: Arc<Vault>,
        lookup: Arc<dyn Lookup>,
    ) -> anyhow::Result<Self> {
        let places = |all, of_one| Places::new(all, of_one);
        let names = Checked::new(Arc::clone(&lookup), policy, places(LOOK_UPS, LOOK_UPS));
        let registered = places(REGISTRATIONS, REGISTRATIONS_OF_ONE);
        let registered = Checked::new(lookup, policy, registered);
        let timeout = Duration::from_millis(settings.webhook_timeout_ms);
        let http = reqwest::Client::builder()
            .connect_timeout(timeout)
            // The client connects only to addresses that this resolver has checked.
            .dns_resolver(names.clone())
            // A proxy would look names up again, and connect to addresses that are refused here.
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
            registered,
            vault,
            timeout,
            destinations: Destinations::new(settings)?,
        })
    }

    /// Checks a URL for an endpoint of `owner`. Fails if webhooks cannot go to it now, or its host is not looked up by
    /// the deadline.
    pub(crate) async fn check(
        &self,
        url: &str,
        owner: Option<&str>,
        deadline: Deadline,
    ) -> Result<(), Objection> {
        let target = Target::parse(url, self.policy)
            .map_err(|invalid| Objection::Url(invalid.to_string()))?;
        let looked_up = deadline.run(self.registered.addresses(target.host(), owner));
        match looked_up.await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(Error::Busy)) => Err(Objection::Busy),
            // A timeout gets the same words: how long a look-up takes would tell that the name is known here.
            Ok(Err(Error::Forbidden(_))) | Err(_) => Err(Objection::Url(REFUSED.to_owned())),
        }
    }

    /// Sends a webhook, unless the circuit breaker of its destination is open. Not cancel safe: if it is dropped, the
    /// outcome is unknown.
    pub(crate) async fn send(&self, webhook: &Claimed) -> Result<Answer, NotTried> {
        let target = match Target::parse(&webhook.url, self.policy) {
            Ok(target) => target,
            Err(invalid) => return Ok(Answer::Forbidden(invalid.to_string())),
        };
        // The HTTP client resolves names only: an address in the URL bypasses its resolver, and is checked here.
        if let Ok(address) = target.host().parse()
            && let Err(forbidden) = self.names.check(address)
        {
            return Ok(Answer::Forbidden(forbidden.to_string()));
        }
        let span = Span::current();
        telemetry::attribute(&span, "server.address", target.host().to_owned());
        telemetry::attribute(&span, "server.port", i64::from(target.port()));
        let destination = self.destinations.of(webhook.owner.as_deref(), &target);
        let secrets = self.secrets(webhook)?;
        let permit = destination.try_acquire()?;
        let answer = self.attempt(webhook, &target, &secrets).await;
        permit.record(destinations::class(&answer));
        if let Answer::Status { code, .. } = answer {
            telemetry::attribute(&span, "http.response.status_code", i64::from(code));
        }
        Ok(answer)
    }

    /// Publishes the breakers' metrics.
    pub(crate) fn publish(&self) {
        self.destinations.publish();
    }

    /// Returns the secrets that sign a webhook: the present one, and the one before while it is valid. One that does
    /// not open is left out, because a receiver needs no more than one signature. Fails if none opens.
    fn secrets(&self, webhook: &Claimed) -> Result<Vec<Vec<u8>>, Unopened> {
        let Secrets {
            endpoint_id,
            secret,
            old,
        } = webhook.secrets();
        let present = self.vault.reveal(endpoint_id, &secret);
        let before = old.map(|old| self.vault.reveal(endpoint_id, &old));
        match (present, before) {
            (Err(unopened), None | Some(Err(_))) => Err(unopened),
            (present, before) => {
                let opened = [present.ok(), before.and_then(Result::ok)];
                Ok(opened.into_iter().flatten().collect())
            }
        }
    }

    async fn attempt(&self, webhook: &Claimed, target: &Target, secrets: &[Vec<u8>]) -> Answer {
        let signature = signature::header(
            secrets.iter(),
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
                // The status alone is the answer, even if the body never ends.
                if deadline.run(drain(response)).await.is_err() {
                    debug!("the answer's body did not end in time");
                }
                Answer::Status { code, retry_after }
            }
        }
    }
}

/// Reads the beginning of a body, and drops the connection with the rest.
async fn drain(mut response: Response) {
    let mut read = 0;
    while let Ok(Some(chunk)) = response.chunk().await {
        read += chunk.len();
        if read >= READ_AT_MOST {
            return;
        }
    }
}

/// Returns the reason for which a request failed, without its URL: the path may be a secret of the receiver's.
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

/// Returns the wait that a receiver asks for: seconds, or a date (RFC 9110, 10.2.3), which is compared with `now`, the
/// database's clock in seconds since 1970.
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
