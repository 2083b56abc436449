//! Inventory fails, and every call for a price is retried: with a retry budget, and without.

use std::time::Duration;

use serde_json::json;

use super::{
    Measured,
    orders::shown,
    stage::{PRICES, Stage},
};

/// Orders per second.
const RATE: f64 = 20.0;
const OUTAGE: Duration = Duration::from_secs(10);

pub(super) async fn run(stage: &Stage) -> anyhow::Result<(Vec<&'static str>, Vec<Measured>)> {
    stage.warm_up().await;
    let mut measured = Vec::new();
    for (name, budget) in [("budget on", "on"), ("budget off", "off")] {
        stage.say(&format!(
            "--- {name}; the circuit breaker is kept closed, so that retries show"
        ));
        let switches = json!({ "breaker": "force_closed", "retry_budget": budget });
        stage.switch(PRICES, &switches).await?;
        let before = stage.calls(PRICES).await?;
        stage.say("inventory answers 500 to everything");
        stage.faults("inventory", 0, true).await?;
        let placed = stage.place(RATE, OUTAGE).await;
        stage.faults("inventory", 0, false).await?;
        let calls = stage.calls(PRICES).await? - before;
        #[expect(clippy::cast_precision_loss, reason = "a few hundred")]
        let each = calls as f64 / placed.asked().max(1) as f64;
        stage.say(&format!(
            "{} orders were asked for, and inventory got {calls} calls: {each:.2} for each",
            placed.asked()
        ));
        measured.push(Measured {
            name,
            cells: vec![
                placed.asked().to_string(),
                calls.to_string(),
                format!("{each:.2}"),
                shown(&placed.took, |took| took.p50_ms),
            ],
        });
    }
    let columns = vec![
        "orders",
        "calls to inventory",
        "calls per order",
        "p50 of placing",
    ];
    Ok((columns, measured))
}
