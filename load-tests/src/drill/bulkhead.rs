//! Inventory is slow, and customers want to read their orders: with the bulkhead before inventory and without.

use std::{sync::Arc, time::Duration};

use contracts::value::OrderId;
use serde_json::json;
use tokio::{
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval},
};

use super::{
    Measured,
    orders::shown,
    stage::{PRICES, Stage},
};
use crate::{api::Api, load::quantiles::Latencies};

/// Orders per second: so many that without a bulkhead the requests that wait for a price take all places of the order
/// service.
const RATE: f64 = 320.0;
/// A product whose price has never been asked for, so that there is no last known price to fall back to.
const UNKNOWN: &str = "DRILL-UNHEARD-OF";
/// Reads per second.
const READS: f64 = 20.0;
const OUTAGE: Duration = Duration::from_secs(8);

/// The outcome of the reads.
#[derive(Default)]
struct Read {
    answered: Latencies,
    refused: usize,
}

pub(super) async fn run(stage: &Stage) -> anyhow::Result<(Vec<&'static str>, Vec<Measured>)> {
    let known = stage.warm_up().await;
    let known = *known
        .accepted
        .first()
        .ok_or_else(|| anyhow::anyhow!("no order was accepted"))?;
    let mut measured = Vec::new();
    for (name, bulkhead) in [("bulkhead on", "on"), ("bulkhead off", "off")] {
        stage.say(&format!(
            "--- {name}; the circuit breaker is kept closed, so that the wait shows"
        ));
        let switches = json!({ "breaker": "force_closed", "bulkhead": bulkhead });
        stage.switch(PRICES, &switches).await?;
        stage.say("inventory takes 5 s for everything");
        stage.faults("inventory", 5000, false).await?;
        let api = Arc::clone(&stage.api);
        let (placed, read) = tokio::join!(
            stage.place_of(vec![UNKNOWN.to_owned()], RATE, OUTAGE),
            reading(api, known)
        );
        stage.faults("inventory", 0, false).await?;
        let asked = read.answered.len() + read.refused;
        stage.say(&format!(
            "{} orders were asked for at {RATE} a second; of {asked} reads of an order {} were refused, the others took {} (p99)",
            placed.asked(),
            read.refused,
            shown(&read.answered, |took| took.p99_ms)
        ));
        measured.push(Measured {
            name,
            cells: vec![
                asked.to_string(),
                read.refused.to_string(),
                shown(&read.answered, |took| took.p50_ms),
                shown(&read.answered, |took| took.p99_ms),
                shown(&placed.took, |took| took.p50_ms),
            ],
        });
    }
    let columns = vec![
        "reads",
        "refused",
        "p50 of reading",
        "p99 of reading",
        "p50 of placing",
    ];
    Ok((columns, measured))
}

/// Reads one order at [`READS`] per second, for [`OUTAGE`].
async fn reading(api: Arc<Api>, id: OrderId) -> Read {
    let mut ticks = interval(Duration::from_secs_f64(1.0 / READS));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let begun = Instant::now();
    let mut asking = JoinSet::new();
    while begun.elapsed() < OUTAGE {
        ticks.tick().await;
        let api = Arc::clone(&api);
        asking.spawn(async move {
            let begun = Instant::now();
            api.order(id).await.map(|_| begun.elapsed())
        });
    }
    let mut read = Read::default();
    while let Some(Ok(answer)) = asking.join_next().await {
        match answer {
            Ok(took) => read.answered.add(took),
            Err(_) => read.refused += 1,
        }
    }
    read
}
