//! Inventory fails, and orders are placed at its last known prices, or are refused.

use std::time::Duration;

use serde_json::json;

use super::{
    Measured,
    orders::shown,
    stage::{PRICES, Stage},
};

/// Orders per second.
const RATE: f64 = 10.0;
const OUTAGE: Duration = Duration::from_secs(10);

pub(super) async fn run(stage: &Stage) -> anyhow::Result<(Vec<&'static str>, Vec<Measured>)> {
    stage.warm_up().await;
    let mut measured = Vec::new();
    for (name, fallback) in [
        ("last known prices on", "on"),
        ("last known prices off", "off"),
    ] {
        stage.say(&format!("--- {name}"));
        let switches = json!({ "breaker": "automatic", "fallback": fallback });
        stage.switch(PRICES, &switches).await?;
        stage.say("inventory answers 500 to everything");
        stage.faults("inventory", 0, true).await?;
        let placed = stage.place(RATE, OUTAGE).await;
        stage.faults("inventory", 0, false).await?;
        stage.say(&format!(
            "{} orders were accepted, {} of them say of when their prices are; {} were refused",
            placed.accepted.len(),
            placed.degraded,
            placed.refused
        ));
        measured.push(Measured {
            name,
            cells: vec![
                placed.accepted.len().to_string(),
                placed.degraded.to_string(),
                placed.refused.to_string(),
                shown(&placed.took, |took| took.p50_ms),
            ],
        });
    }
    let columns = vec![
        "accepted",
        "of them, at older prices",
        "refused",
        "p50 of placing",
    ];
    Ok((columns, measured))
}
