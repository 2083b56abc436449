//! A circuit breaker for each destination: one that is unavailable costs a probe now and then, and not a timeout for
//! each webhook.
//!
//! A destination is an owner's host and port. The host alone would not do: a customer who lets paths of a shared host
//! fail on purpose would stop all other customers' webhooks to it.
//!
//! There are at most [`MOST`]. One more takes the place of the least recently used one, preferably one with a closed
//! breaker, whose removal loses only that it works. Breakers are reused under their names (`webhooks 1`, `webhooks 2`,
//! and so on), because a name is a label of metrics, and customers can make up any number of hosts.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

pub(crate) use holdfast::circuit_breaker::Rejected;
use holdfast::circuit_breaker::{
    CircuitBreaker, Class, Config, Growth, HalfOpen, InvalidConfig, Policy, State,
};
use tracing::debug;

use super::target::Target;
use crate::webhooks::{config::WebhookSettings, domain::Answer};

/// The most destinations that are remembered.
const MOST: usize = 256;
/// The number of failures in a row that opens a destination's breaker.
const FAILURES: u32 = 5;
/// The time for which a breaker stays open at first.
const OPEN_FOR: Duration = Duration::from_secs(30);
/// The longest time for which a breaker stays open.
const OPEN_AT_MOST: Duration = Duration::from_secs(600);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    owner: Option<String>,
    host: String,
    port: u16,
}

/// The destinations that were used last.
pub(super) struct Destinations {
    config: Config,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    destinations: HashMap<Key, Destination>,
    /// The number of uses so far: the clock that says which was used least recently.
    uses: u64,
}

struct Destination {
    breaker: CircuitBreaker,
    used: u64,
}

impl Destinations {
    pub(super) fn new(settings: &WebhookSettings) -> Result<Self, InvalidConfig> {
        // A breaker need not stay open for longer than a webhook would wait anyway.
        let cap = Duration::from_millis(settings.webhook_backoff_cap_ms);
        let config = Config {
            policy: Policy::Consecutive { failures: FAILURES },
            open_for: OPEN_FOR.min(cap),
            growth: Some(Growth {
                multiplier: 2.0,
                maximum: OPEN_AT_MOST.min(cap),
            }),
            half_open: HalfOpen {
                permitted_calls: 1,
                successes_to_close: 1,
                maximum_wait: Duration::from_millis(settings.webhook_timeout_ms)
                    + Duration::from_secs(5),
            },
            ..Config::default()
        };
        // Checks the configuration, so that making a breaker cannot fail later.
        CircuitBreaker::new("webhooks 1", config)?;
        Ok(Self {
            config,
            kept: Mutex::default(),
        })
    }

    /// Returns the breaker of an owner's destination.
    pub(super) fn of(&self, owner: Option<&str>, target: &Target) -> CircuitBreaker {
        let key = Key {
            owner: owner.map(str::to_owned),
            host: target.host().to_owned(),
            port: target.port(),
        };
        let mut kept = self.lock();
        kept.uses += 1;
        let used = kept.uses;
        if let Some(known) = kept.destinations.get_mut(&key) {
            known.used = used;
            return known.breaker.clone();
        }
        let breaker = kept.make_room().unwrap_or_else(|| {
            let name = format!("webhooks {}", kept.destinations.len() + 1);
            CircuitBreaker::new(name, self.config).expect("the configuration was checked")
        });
        debug!(
            breaker = breaker.name(),
            server.address = key.host,
            server.port = key.port,
            "a destination"
        );
        let destination = Destination {
            breaker: breaker.clone(),
            used,
        };
        kept.destinations.insert(key, destination);
        breaker
    }

    /// Brings the breakers' metrics up to date.
    pub(super) fn publish(&self) {
        for destination in self.lock().destinations.values() {
            destination.breaker.publish();
        }
    }

    /// Locks the destinations. No holder of the lock panics half way, so a poisoned lock still guards a whole value.
    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    /// Removes a destination if there are [`MOST`], and returns its breaker, closed.
    fn make_room(&mut self) -> Option<CircuitBreaker> {
        if self.destinations.len() < MOST {
            return None;
        }
        let oldest = self.destinations.iter().min_by_key(|(_, destination)| {
            let is_closed = destination.breaker.state() == State::Closed;
            (!is_closed, destination.used)
        });
        let key = oldest.map(|(key, _)| key.clone())?;
        let destination = self.destinations.remove(&key)?;
        destination.breaker.reset();
        Some(destination.breaker)
    }
}

/// Classifies an answer by the destination's health. A 404 is a success: the receiver is alive.
pub(super) fn class(answer: &Answer) -> Class {
    match answer {
        Answer::Status {
            code: 429 | 500.., ..
        }
        | Answer::Silent
        | Answer::Unreachable(_) => Class::Failure,
        Answer::Status { .. } => Class::Success,
        Answer::Forbidden(_) => Class::Ignored,
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::{super::target::Policy as UrlPolicy, *};

    #[derive(Parser)]
    struct Settings {
        #[command(flatten)]
        webhook: WebhookSettings,
    }

    fn destinations() -> Destinations {
        let settings = Settings::parse_from(["test"]);
        Destinations::new(&settings.webhook).expect("the defaults are valid")
    }

    fn target(url: &str) -> Target {
        let strict = UrlPolicy {
            allow_http: false,
            allow_private: false,
        };
        Target::parse(url, strict).expect("a URL")
    }

    fn fail(breaker: &CircuitBreaker) {
        for _ in 0..FAILURES {
            breaker.try_acquire().expect("it is closed").failure();
        }
        assert_eq!(breaker.state(), State::Open);
    }

    #[test]
    fn destination_is_an_owners_host_and_port() {
        let all = destinations();
        let one = all.of(Some("alice"), &target("https://hooks.example/a"));
        let same = all.of(Some("alice"), &target("https://hooks.example:443/b"));
        fail(&one);
        assert_eq!(same.state(), State::Open);
        for (owner, url) in [
            (Some("bob"), "https://hooks.example/a"),
            (None, "https://hooks.example/a"),
            (Some("alice"), "https://hooks.example:8443/a"),
            (Some("alice"), "https://other.example/a"),
        ] {
            let other = all.of(owner, &target(url));
            assert_eq!(other.state(), State::Closed, "{owner:?} {url}");
        }
    }

    #[test]
    fn destinations_are_bounded_and_closed_ones_make_room_first() {
        let all = destinations();
        let url = |n: usize| target(&format!("https://host{n}.example/"));
        let broken = all.of(None, &url(0));
        fail(&broken);
        for n in 1..MOST * 2 {
            all.of(None, &url(n));
        }
        let kept = all.lock().destinations.len();
        assert_eq!(kept, MOST);
        assert_eq!(all.of(None, &url(0)).state(), State::Open);
        // The breaker of this host went to another host, and the new one is closed.
        assert_eq!(all.of(None, &url(1)).state(), State::Closed);
        let names: std::collections::HashSet<String> = all
            .lock()
            .destinations
            .values()
            .map(|destination| destination.breaker.name().to_owned())
            .collect();
        assert_eq!(names.len(), MOST);
    }

    #[test]
    fn any_answer_but_429_and_5xx_is_a_success() {
        let status = |code| Answer::Status {
            code,
            retry_after: None,
        };
        for (answer, wanted) in [
            (status(200), Class::Success),
            (status(302), Class::Success),
            (status(404), Class::Success),
            (status(429), Class::Failure),
            (status(503), Class::Failure),
            (Answer::Silent, Class::Failure),
            (Answer::Unreachable(String::new()), Class::Failure),
            (Answer::Forbidden(String::new()), Class::Ignored),
        ] {
            assert_eq!(class(&answer), wanted, "{answer}");
        }
    }
}
