//! Orders at a rate, until somebody has seen enough.

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

/// What traffic there is to be.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Orders per second, however fast they are served.
    pub rate: f64,
    /// Which ways they take.
    pub ways: Ways,
    /// How long; for ever, if not given.
    pub duration: Option<Duration>,
    /// Where the ids of accepted orders are written, one a line.
    pub journal: Option<PathBuf>,
    /// Whether each order is watched to its rest, and shown then.
    pub watch: bool,
    /// Whether every order that was begun is got in, also after it is time to stop; otherwise what is not accepted by then
    /// is given up.
    pub insist: bool,
}

/// What became of it.
#[derive(Debug, Default)]
struct Tally {
    asked: u64,
    accepted: u64,
    /// Answers of 503, after which the same order was asked for again.
    later: u64,
    /// No answer at all, after which the same order was asked for again.
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

/// Places orders until `stop`, or as long as planned; false if one was refused.
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
    // An open loop: what is slow is not asked for less.
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
    // What was asked for and not accepted yet, because somebody was away, is asked for until it is.
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
        // Under one key it is one order, however often it is asked for.
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

    /// Asks again while somebody is away; `None` if the answer is no, or if it is time to stop.
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
                    // Spread out: everybody was told the same.
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

    /// Follows an order to its rest, and shows it.
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
