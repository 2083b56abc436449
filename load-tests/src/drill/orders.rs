//! Orders at a rate, and their outcome.

use std::{convert::Infallible, sync::Arc, time::Duration};

use contracts::value::OrderId;
use serde_json::Value;
use tokio::{
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval},
};
use uuid::Uuid;

use super::{
    accounts::by_card,
    stage::{Dependency, Stage},
};
use crate::{
    api::{Api, ApiError},
    load::quantiles::{Latencies, Summary},
};

/// Orders per second to warm up.
const WARM_UP: f64 = 20.0;

/// The outcome of orders that were asked for.
#[derive(Debug, Default)]
pub(super) struct Placed {
    pub(super) accepted: Vec<OrderId>,
    /// Accepted orders with last known prices.
    pub(super) degraded: usize,
    /// Orders that got 503, or no response.
    pub(super) refused: usize,
    /// The latencies of all requests.
    pub(super) took: Latencies,
}

impl Placed {
    pub(super) fn asked(&self) -> usize {
        self.accepted.len() + self.refused
    }

    fn take(&mut self, (answer, took): (Result<Value, ApiError>, Duration)) {
        let id = |order: &Value| order["id"].as_str()?.parse::<Uuid>().ok().map(OrderId);
        self.took.add(took);
        match answer.as_ref().ok().and_then(id) {
            Some(id) => {
                self.accepted.push(id);
                if answer.is_ok_and(|order| !order["prices_as_of"].is_null()) {
                    self.degraded += 1;
                }
            }
            None => self.refused += 1,
        }
    }
}

/// Returns one statistic of some latencies, for a table.
pub(super) fn shown(took: &Latencies, which: impl Fn(Summary) -> f64) -> String {
    if took.is_empty() {
        return "-".to_owned();
    }
    format!("{:.0} ms", which(took.summary()))
}

impl Stage {
    /// Places orders by card at a rate for a while, whatever their latency. Each order is asked for once.
    pub(super) async fn place(&self, rate: f64, lasting: Duration) -> Placed {
        self.place_of(self.skus(), rate, lasting).await
    }

    /// Places orders as [`Stage::place`] does, for these products in turn.
    pub(super) async fn place_of(&self, skus: Vec<String>, rate: f64, lasting: Duration) -> Placed {
        let skus: Arc<[String]> = skus.into();
        let mut ticks = interval(Duration::from_secs_f64(1.0 / rate));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
        let begun = Instant::now();
        let mut asking = JoinSet::new();
        let mut placed = Placed::default();
        let mut number = 0_usize;
        while begun.elapsed() < lasting {
            tokio::select! {
                Some(Ok(asked)) = asking.join_next(), if !asking.is_empty() => placed.take(asked),
                _ = ticks.tick() => {
                    asking.spawn(ask(Arc::clone(&self.api), Arc::clone(&skus), number));
                    number += 1;
                }
            }
        }
        while let Some(Ok(asked)) = asking.join_next().await {
            placed.take(asked);
        }
        for id in &placed.accepted {
            self.accepted(*id);
        }
        placed
    }

    /// Places orders as [`Stage::place`] does, and meanwhile reports each change of state of the breaker before a
    /// dependency.
    pub(super) async fn place_watched(
        &self,
        dependency: Dependency,
        rate: f64,
        lasting: Duration,
    ) -> anyhow::Result<Placed> {
        tokio::select! {
            placed = self.place(rate, lasting) => Ok(placed),
            Err(error) = self.watch(dependency) => Err(error),
        }
    }

    async fn watch(&self, dependency: Dependency) -> anyhow::Result<Infallible> {
        let mut before = String::new();
        loop {
            let breaker = &self.look(dependency).await?["breaker"];
            let state = breaker["state"].as_str().unwrap_or_default().to_owned();
            if state != before {
                self.say(&format!("the breaker of {} is {state}", dependency.name));
                before = state;
            }
            holdfast::backoff::pause(Duration::from_millis(100)).await;
        }
    }

    /// Orders every product once, so that its price becomes known.
    pub(super) async fn warm_up(&self) -> Placed {
        self.say("orders to warm up: every price becomes known");
        #[expect(clippy::cast_precision_loss, reason = "a shop's shelf")]
        let seconds = (self.skus().len() + 1) as f64 / WARM_UP;
        self.place(WARM_UP, Duration::from_secs_f64(seconds)).await
    }

    /// Waits until these orders are at rest, but no longer than `within`. Returns how many are, and the time it took.
    pub(super) async fn at_rest(&self, ids: &[OrderId], within: Duration) -> (usize, Duration) {
        let begun = Instant::now();
        let mut rested = 0;
        for id in ids {
            loop {
                let order = self.api.order(*id).await;
                if order.is_ok_and(|order| order["at_rest"] == true) {
                    rested += 1;
                    break;
                }
                if begun.elapsed() > within {
                    break;
                }
                holdfast::backoff::pause(Duration::from_millis(100)).await;
            }
        }
        (rested, begun.elapsed())
    }

    /// Returns how many of these orders are not confirmed.
    pub(super) async fn not_confirmed(&self, ids: &[OrderId]) -> usize {
        let mut others = 0;
        for id in ids {
            let order = self.api.order(*id).await;
            if !order.is_ok_and(|order| order["state"] == "confirmed") {
                others += 1;
            }
        }
        others
    }
}

async fn ask(
    api: Arc<Api>,
    skus: Arc<[String]>,
    number: usize,
) -> (Result<Value, ApiError>, Duration) {
    let sku = &skus[number % skus.len()];
    let order = by_card(sku, number);
    let customer = format!("drill-{}", number % 50);
    let begun = Instant::now();
    let answer = api
        .place(&customer, &Uuid::now_v7().to_string(), &order)
        .await;
    (answer, begun.elapsed())
}
