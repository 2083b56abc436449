//! Orders at a rate, until a signal or for a time.

use std::{
    collections::BTreeMap,
    future::Future,
    io::Write,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::Context;
use contracts::value::OrderId;
use holdfast::backoff::{Backoff, pause};
use tokio::{
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{
    Coordination, Ways,
    ending::{Cancel, Ending},
    once::text,
};
use crate::api::{Api, ApiError};

/// The traffic that is to be made.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Orders per second, whatever their latency.
    pub rate: f64,
    /// The ways that orders take.
    pub ways: Ways,
    /// The duration; `None` is without an end.
    pub duration: Option<Duration>,
    /// The file to which the ids of accepted orders are written, one a line.
    pub journal: Option<PathBuf>,
    /// True if each order is watched until it is at rest, and shown then.
    pub watch: bool,
    /// True if each order that was begun is asked for until it is accepted, also when it is time to stop. Otherwise the
    /// requests that are not accepted by then are abandoned.
    pub insist: bool,
}

/// The counts of a run.
#[derive(Debug, Default)]
struct Tally {
    asked: u64,
    accepted: u64,
    /// Responses of 503, each followed by another attempt.
    later: u64,
    /// Attempts without a response, each followed by another one.
    unreachable: u64,
    refused: u64,
    at_rest: BTreeMap<String, u64>,
    errors: Vec<String>,
}

struct Shared {
    api: Api,
    plan: Plan,
    tally: Mutex<Tally>,
    journal: Option<Mutex<std::fs::File>>,
    stop: CancellationToken,
}

/// Places orders until `stop`, or for the planned duration. Returns false if one was refused.
#[expect(clippy::print_stdout, reason = "it is what its user sees")]
pub async fn run(api: Api, plan: Plan, stop: CancellationToken) -> anyhow::Result<bool> {
    anyhow::ensure!(
        plan.rate > 0.0 && plan.rate <= 1000.0,
        "a rate is from more than 0 to 1000 orders per second"
    );
    let journal = plan.journal.as_ref().map(|path| {
        std::fs::File::create(path)
            .map(Mutex::new)
            .with_context(|| path.display().to_string())
    });
    let shared = Arc::new(Shared {
        api,
        tally: Mutex::default(),
        journal: journal.transpose()?,
        stop: stop.clone(),
        plan: plan.clone(),
    });
    let mut ticks = interval(Duration::from_secs_f64(1.0 / plan.rate));
    // An open loop: slow responses do not lower the rate.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let begun = Instant::now();
    let mut orders = JoinSet::new();
    while plan
        .duration
        .is_none_or(|duration| begun.elapsed() < duration)
    {
        tokio::select! {
            () = stop.cancelled() => break,
            Some(ended) = orders.join_next(), if !orders.is_empty() => { ended?; }
            _ = ticks.tick() => { orders.spawn(Arc::clone(&shared).order(Ending::random(), plan.ways.draw())); }
        }
    }
    // Orders that are not accepted yet, because a service was unavailable, are asked for until they are.
    while let Some(ended) = orders.join_next().await {
        ended?;
    }
    let tally = shared.tally.lock().unwrap_or_else(PoisonError::into_inner);
    let ends: Vec<String> = tally
        .at_rest
        .iter()
        .map(|(end, count)| format!("{count} {end}"))
        .collect();
    println!(
        "traffic: {} orders in {:.0} s, {} accepted, {} refused; 503 {} times, no answer {} times{}{}",
        tally.asked,
        begun.elapsed().as_secs_f64(),
        tally.accepted,
        tally.refused,
        tally.later,
        tally.unreachable,
        if ends.is_empty() { "" } else { "; at rest: " },
        ends.join(", "),
    );
    for error in tally.errors.iter().take(10) {
        println!("traffic: {error}");
    }
    Ok(tally.refused == 0)
}

impl Shared {
    fn count(&self, count: impl FnOnce(&mut Tally)) {
        count(&mut self.tally.lock().unwrap_or_else(PoisonError::into_inner));
    }

    async fn order(self: Arc<Self>, ending: Ending, way: Coordination) {
        self.count(|tally| tally.asked += 1);
        let begun = Instant::now();
        let customer = ending.customer();
        let (order, key) = (ending.order(way), Uuid::now_v7().to_string());
        // One key is one order, however often it is asked for.
        let Some(placed) = self
            .persist(|| self.api.place(customer, &key, &order))
            .await
        else {
            return;
        };
        let Ok(id) = text(&placed, "id").parse::<OrderId>() else {
            return;
        };
        self.count(|tally| tally.accepted += 1);
        if let Some(journal) = &self.journal {
            let mut journal = journal.lock().unwrap_or_else(PoisonError::into_inner);
            if let Err(error) = writeln!(journal, "{id}") {
                self.count(|tally| tally.errors.push(format!("the journal: {error}")));
            }
        }
        if ending.cancel() == Cancel::AtOnce {
            self.persist(|| self.api.cancel(customer, id)).await;
        }
        if self.plan.watch {
            self.watch(ending, customer, id, begun).await;
        } else if ending.cancel() == Cancel::WhenConfirmed {
            pause(Duration::from_secs(1)).await;
            self.persist(|| self.api.cancel(customer, id)).await;
        }
    }

    /// Calls until the response is neither 503 nor missing. Returns `None` if it is a refusal, or if it is time to
    /// stop.
    async fn persist<T, F: Future<Output = Result<T, ApiError>>>(
        &self,
        mut call: impl FnMut() -> F,
    ) -> Option<T> {
        let mut delays = Backoff::RECONNECT.delays();
        loop {
            let wait = match call().await {
                Ok(answer) => return Some(answer),
                Err(ApiError::Later(after)) => {
                    self.count(|tally| tally.later += 1);
                    // Spread out, as every client was given the same delay.
                    after.mul_f64(1.0 + fastrand::f64())
                }
                Err(ApiError::Unreachable(_)) => {
                    self.count(|tally| tally.unreachable += 1);
                    Duration::ZERO
                }
                Err(error) => {
                    self.count(|tally| {
                        tally.refused += 1;
                        tally.errors.push(error.to_string());
                    });
                    return None;
                }
            };
            let waited = async {
                if wait.is_zero() {
                    delays.wait().await;
                } else {
                    pause(wait).await;
                }
            };
            if self.plan.insist {
                waited.await;
            } else {
                self.stop.run_until_cancelled(waited).await?;
            }
        }
    }

    /// Follows an order until it is at rest, and shows it.
    #[expect(clippy::print_stdout, reason = "it is what its user sees")]
    async fn watch(&self, ending: Ending, customer: &str, id: OrderId, begun: Instant) {
        let mut cancels = ending.cancel() == Cancel::WhenConfirmed;
        let mut look = Duration::from_millis(30);
        loop {
            let Some(()) = self.stop.run_until_cancelled(pause(look)).await else {
                return;
            };
            look = (look * 3 / 2).min(Duration::from_secs(2));
            let Ok(order) = self.api.order(id).await else {
                continue;
            };
            let state = text(&order, "state");
            if cancels && state == "confirmed" {
                cancels = false;
                self.persist(|| self.api.cancel(customer, id)).await;
                look = Duration::from_millis(30);
                continue;
            }
            if order["at_rest"] == true {
                let end = match order["reason"].as_str() {
                    Some(reason) => format!("{state}: {reason}"),
                    None => state.clone(),
                };
                let amount = order["amount"]["amount_minor"].as_i64().unwrap_or(0);
                #[expect(clippy::cast_precision_loss, reason = "for a person to read")]
                let amount = amount as f64 / 100.0;
                println!(
                    "{id}  {:<13}  {customer:<6} {amount:>8.2} {}  {end:<27} {:>6} ms",
                    text(&order, "coordination"),
                    order["amount"]["currency"].as_str().unwrap_or_default(),
                    begun.elapsed().as_millis()
                );
                self.count(|tally| *tally.at_rest.entry(state).or_default() += 1);
                return;
            }
        }
    }
}
