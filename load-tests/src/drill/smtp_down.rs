//! The mail server is away: mails wait, orders do not; and whether somebody hammers at it meanwhile.

use std::time::Duration;

use serde_json::json;

use super::{
    Measured,
    stage::{MAILS, Stage},
};

/// Orders per second.
const RATE: f64 = 4.0;
const OUTAGE: Duration = Duration::from_secs(25);
const REST: Duration = Duration::from_secs(60);

pub(super) async fn run(stage: &Stage) -> anyhow::Result<(Vec<&'static str>, Vec<Measured>)> {
    let mut measured = Vec::new();
    for (name, breaker) in [("breaker on", "automatic"), ("breaker off", "force_closed")] {
        stage.say(&format!("--- {name}"));
        stage.say("notification is cut off from the mail server: every try fails at once");
        let switches = json!({ "breaker": breaker, "cut_off": "on" });
        stage.switch(MAILS, &switches).await?;
        let before = stage.calls(MAILS).await?;
        let placed = stage.place_watched(MAILS, RATE, OUTAGE).await?;
        let (rested, took) = stage.at_rest(&placed.accepted, REST).await;
        let calls = stage.calls(MAILS).await? - before;
        stage.say(&format!(
            "{rested} of {} orders are at rest, {:.1} s after the last one; {calls} calls to the mail server were in vain",
            placed.accepted.len(),
            took.as_secs_f64()
        ));
        stage.switch(MAILS, &json!({ "cut_off": "off" })).await?;
        stage.say("the mail server answers again");
        measured.push(Measured {
            name,
            cells: vec![
                placed.accepted.len().to_string(),
                rested.to_string(),
                calls.to_string(),
            ],
        });
    }
    let columns = vec![
        "orders accepted",
        "at rest during the outage",
        "calls in vain",
    ];
    Ok((columns, measured))
}
