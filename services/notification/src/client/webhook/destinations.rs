//! A circuit breaker for each destination: one that is down costs a probe now and then, and not a timeout for each webhook.
//!
//! A destination is an owner's host and port. Not the host's alone: a customer who lets paths of a shared host fail on purpose
//! would stop everybody's webhooks to it.
//!
//! There are at most [`MOST`]. When one more is needed, that which was used least recently makes room, one with a closed
//! breaker first: what is forgotten of it is that it works. The breakers are used again under the names that they have
//! (`webhooks 1`, `webhooks 2`, and so on), because a name is a label of metrics, and customers make up hosts without end.

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
use crate::{config::WebhookSettings, domain::webhook::Answer};

/// How many destinations are remembered.
const MOST: usize = 256;
/// Failures in a row, after which a destination is left alone.
const FAILURES: u32 = 5;
/// For how long at first; and at last.
const OPEN_FOR: Duration = Duration::from_secs(30);
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
    /// Counts uses: a clock for "least recently".
    uses: u64,
}

struct Destination {
    breaker: CircuitBreaker,
    used: u64,
}

impl Destinations {
    pub(super) fn new(settings: &WebhookSettings) -> Result<Self, InvalidConfig> {
        // It need not be left alone for longer than a webhook would wait anyway.
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
        // Checks the configuration, so that nothing can go wrong later.
        CircuitBreaker::new("webhooks 1", config)?;
        Ok(Self {
            config,
            kept: Mutex::default(),
        })
    }

    /// The breaker of an owner's destination.
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

    /// Nothing in here panics half way, so what a poisoned lock guards is whole.
    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    /// Takes a destination out if there are as many as there may be, and answers its breaker, closed.
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

/// What an answer says about the destination's health. Whoever answers 404 is alive.
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
    fn a_destination_is_an_owners_host_and_port() {
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
    fn there_are_never_more_than_most_and_the_closed_ones_go_first() {
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
        // Its breaker has gone to another host, as good as new.
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
    fn who_answers_is_alive() {
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
