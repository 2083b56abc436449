//! A client for the prices of products, which inventory decides (`prices` in `services/inventory/src/http.rs`).
//! `domain/pricing.rs` computes an order's amount from them.
//!
//! The request has no effect, so it is retried within the customer's deadline. While inventory is unavailable, the
//! prices that it last returned are used for a while.

mod cache;

use std::{collections::HashMap, sync::Arc, time::Duration};

use chassis::{
    client::{self, Client, TokenFile},
    dependencies::{self, Dependency},
    http::Problem,
};
use contracts::value::{Money, Sku};
use holdfast::{
    backoff::Backoff,
    bulkhead::{Bulkhead, Limits},
    circuit_breaker::{CircuitBreaker, Policy, Window},
    deadline::Deadline,
    pipeline::{Attempt, Error, Pipeline},
    retry::{Budget, GaveUp, Retry},
};
use metrics::counter;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use tokio::time::Instant;
use tracing::warn;

use self::cache::Cache;
use crate::config::PriceSettings;

/// A client for inventory's prices.
#[derive(Clone, Debug)]
pub(crate) struct Prices {
    client: Client,
    inventory: Dependency,
    timeout: Duration,
    cache: Arc<Cache>,
    /// The greatest age of the prices that are used while inventory is unavailable; zero: none are used.
    age: Duration,
}

/// Prices, and their time if inventory did not return them just now.
#[derive(Debug)]
pub(crate) struct Priced {
    /// The prices by product. A product that is missing here does not exist.
    pub(crate) prices: HashMap<Sku, Money>,
    /// The time of the oldest price, if inventory was unavailable.
    pub(crate) as_of: Option<OffsetDateTime>,
}

#[derive(Serialize)]
struct Request<'a> {
    skus: Vec<&'a Sku>,
}

#[derive(Deserialize)]
struct Response {
    prices: Vec<Price>,
}

#[derive(Deserialize)]
struct Price {
    sku: Sku,
    unit_price: Money,
}

impl Prices {
    pub(crate) fn new(settings: &PriceSettings) -> anyhow::Result<Self> {
        let client = Client::new(
            "inventory",
            &settings.inventory_url,
            TokenFile::new(&settings.service_token_file),
        )?;
        Ok(Self {
            client,
            inventory: Dependency::new(pipeline(settings)?),
            timeout: Duration::from_millis(settings.price_timeout_ms),
            cache: Arc::default(),
            age: Duration::from_secs(settings.price_max_age_seconds),
        })
    }

    /// Returns the dependency that every call goes to.
    pub(crate) fn inventory(&self) -> &Dependency {
        &self.inventory
    }

    /// Returns the prices of those of `skus` that exist. While inventory is unavailable, returns the prices that it
    /// last returned, or, if those are unknown or too old, the problem 503. Cancel safe.
    pub(crate) async fn of(&self, skus: &[&Sku], deadline: Deadline) -> Result<Priced, Problem> {
        let asked = Instant::now();
        let ask = |attempt: Attempt| async move {
            let request = self.client.post("/prices").json(&Request {
                skus: skus.to_vec(),
            });
            self.client
                .send::<Response>(request, attempt.deadline)
                .await
        };
        match self.inventory.run(deadline.within(self.timeout), ask).await {
            Ok(Response { prices }) => {
                let prices = prices.into_iter();
                let prices = prices.map(|price| (price.sku, price.unit_price)).collect();
                self.cache.remember(&prices, asked);
                Ok(Priced {
                    prices,
                    as_of: None,
                })
            }
            Err(error) => self.without_inventory(skus, error),
        }
    }

    /// Returns the prices that inventory last returned, if none of them is too old.
    fn without_inventory(
        &self,
        skus: &[&Sku],
        error: GaveUp<Error<client::Error>>,
    ) -> Result<Priced, Problem> {
        // Inventory refused the request. Then the prices that it returned before are not valid any more, either.
        let refused = matches!(error.last, Error::Call(client::Error::Refused { .. }));
        let may = !refused && self.inventory.may_fall_back();
        let known = may.then(|| self.cache.recall(skus, self.age)).flatten();
        let Some((prices, as_of)) = known else {
            warn!(%error, "inventory named no prices, and no known prices may be used");
            let unavailable = Problem::unavailable(
                "the catalogue cannot be reached, so the order cannot be priced",
            );
            return Err(match when_again(&error.last) {
                Some(after) => unavailable.retry_after(after),
                None => unavailable,
            });
        };
        warn!(%error, %as_of, "inventory is unavailable: using the prices that it last named");
        counter!("orders_priced_from_cache_total").increment(1);
        Ok(Priced {
            prices,
            as_of: Some(as_of),
        })
    }
}

/// Returns the wait after which another attempt may succeed, if the breaker or inventory names one.
fn when_again(error: &Error<client::Error>) -> Option<Duration> {
    match error {
        Error::Open(rejected) => rejected.retry_after,
        Error::Full(_) => None,
        Error::Call(error) => error.retry_after(),
    }
}

/// Returns the pipeline of calls to inventory.
fn pipeline(settings: &PriceSettings) -> anyhow::Result<Pipeline> {
    const NAME: &str = "inventory";
    let backoff = Backoff::new(Duration::from_millis(50), Duration::from_millis(500))?;
    // One in five calls may be a retry, and ten in a row.
    let retry = Retry::new(3, backoff).with_budget(Budget::new(0.2, 10)?.into());
    let policy = Policy::Rate {
        window: Window::Time(Duration::from_secs(10)),
        minimum_calls: 10,
        failure_rate: 0.5,
        slow_call_rate: None,
    };
    let open_for = Duration::from_millis(settings.price_breaker_open_ms);
    let breaker = dependencies::breaker(policy, open_for);
    let limits = Limits {
        max_concurrent: settings.price_max_concurrent,
        max_waiting: settings.price_max_concurrent * 2,
        max_wait: Duration::from_millis(settings.price_timeout_ms / 4),
    };
    Ok(Pipeline::new(NAME)
        .retry(retry)
        .breaker(CircuitBreaker::new(NAME, breaker)?)
        .bulkhead(Bulkhead::new(NAME, limits)?)
        // A second attempt needs time, too.
        .attempt_timeout(Duration::from_millis(settings.price_timeout_ms / 2)))
}
