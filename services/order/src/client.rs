//! Prices, from inventory. Asking twice does no harm, so it is retried, within the customer's deadline; and when it cannot be
//! asked, what it last said will do for a while.

mod cache;

use std::{collections::HashMap, sync::Arc, time::Duration};

use chassis::{
    client::{self, Client, TokenFile},
    dependencies,
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

/// Asks inventory for prices.
#[derive(Clone, Debug)]
pub(crate) struct Prices {
    client: Client,
    pipeline: Pipeline,
    timeout: Duration,
    cache: Arc<Cache>,
    /// The oldest price that will do when inventory cannot be asked; zero: none will.
    age: Duration,
}

/// Prices, and whether they are inventory's word of now.
#[derive(Debug)]
pub(crate) struct Priced {
    /// What is not in it does not exist.
    pub(crate) prices: HashMap<Sku, Money>,
    /// Inventory could not be asked: of when they are.
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
            pipeline: pipeline(settings)?,
            timeout: Duration::from_millis(settings.price_timeout_ms),
            cache: Arc::default(),
            age: Duration::from_secs(settings.price_max_age_seconds),
        })
    }

    /// How inventory is asked.
    pub(crate) fn pipeline(&self) -> &Pipeline {
        &self.pipeline
    }

    /// The prices of the products that there are.
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
        match self.pipeline.run(deadline.within(self.timeout), ask).await {
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

    /// The last word of inventory, if it is not too old.
    fn without_inventory(
        &self,
        skus: &[&Sku],
        error: GaveUp<Error<client::Error>>,
    ) -> Result<Priced, Problem> {
        // It answered that it will not: then what it said before does not count any more either.
        let refused = matches!(error.last, Error::Call(client::Error::Refused { .. }));
        let may = !refused && self.pipeline.may_fall_back();
        let known = may.then(|| self.cache.recall(skus, self.age)).flatten();
        let Some((prices, as_of)) = known else {
            warn!(%error, "no prices");
            let unavailable = Problem::unavailable(
                "the catalogue cannot be reached, so the order cannot be priced",
            );
            return Err(match when_again(&error.last) {
                Some(after) => unavailable.retry_after(after),
                None => unavailable,
            });
        };
        warn!(%error, %as_of, "inventory cannot be asked: the prices that it last named");
        counter!("orders_priced_from_cache_total").increment(1);
        Ok(Priced {
            prices,
            as_of: Some(as_of),
        })
    }
}

/// Returns when asking again has a chance: when the breaker lets a call through, or when inventory said.
fn when_again(error: &Error<client::Error>) -> Option<Duration> {
    match error {
        Error::Open(rejected) => rejected.retry_after,
        Error::Full(_) => None,
        Error::Call(error) => error.retry_after(),
    }
}

/// What stands between us and inventory.
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
        // So that a second try has time left.
        .attempt_timeout(Duration::from_millis(settings.price_timeout_ms / 2)))
}
