//! The card processor fails, with its circuit breaker and without.

use std::time::Duration;

use serde_json::json;

use super::{
    Measured,
    stage::{CARDS, GOOD_CARDS, Stage},
};

/// Orders per second.
const RATE: f64 = 6.0;
const OUTAGE: Duration = Duration::from_secs(20);
const REST: Duration = Duration::from_secs(120);

pub(super) async fn run(stage: &Stage) -> anyhow::Result<(Vec<&'static str>, Vec<Measured>)> {
    let mut measured = Vec::new();
    for (name, breaker) in [("breaker on", "automatic"), ("breaker off", "force_closed")] {
        stage.say(&format!("--- {name}"));
        stage.switch(CARDS, &json!({ "breaker": breaker })).await?;
        let before = stage.calls(CARDS).await?;
        stage.say("the card processor answers 503 to everything");
        stage.cards(GOOD_CARDS, 1.0).await?;
        let placed = stage.place_watched(CARDS, RATE, OUTAGE).await?;
        let calls = stage.calls(CARDS).await? - before;
        stage.say(&format!(
            "{} orders were accepted meanwhile, and the card processor got {calls} calls",
            placed.accepted.len()
        ));
        stage.say("the card processor works again");
        stage.cards(GOOD_CARDS, 0.0).await?;
        let (rested, took) = stage.at_rest(&placed.accepted, REST).await;
        let others = stage.not_confirmed(&placed.accepted).await;
        stage.say(&format!(
            "{rested} of {} are at rest after {:.1} s; {others} are not confirmed",
            placed.accepted.len(),
            took.as_secs_f64()
        ));
        measured.push(Measured {
            name,
            cells: vec![
                placed.accepted.len().to_string(),
                calls.to_string(),
                others.to_string(),
                format!("{:.1} s", took.as_secs_f64()),
            ],
        });
    }
    let columns = vec![
        "orders accepted",
        "calls during the outage",
        "not confirmed",
        "to rest, after it",
    ];
    Ok((columns, measured))
}
