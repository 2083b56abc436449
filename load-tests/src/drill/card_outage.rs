//! The card processor is down for minutes, under traffic.

use std::time::Duration;

use super::{
    Measured,
    orders::shown,
    stage::{CARDS, GOOD_CARDS, Stage},
};

/// Orders per second.
const RATE: f64 = 2.0;
/// The time for which traffic goes on before the outage, and after it.
const AROUND: Duration = Duration::from_secs(20);
const REST: Duration = Duration::from_secs(180);

pub(super) async fn run(
    stage: &Stage,
    outage: Duration,
) -> anyhow::Result<(Vec<&'static str>, Vec<Measured>)> {
    let mut measured = Vec::new();
    let mut all = Vec::new();
    let phases = [
        ("before", AROUND, GOOD_CARDS, 0.0),
        ("during", outage, [50, 100], 1.0),
        ("after", AROUND, GOOD_CARDS, 0.0),
    ];
    for (name, lasting, latency, fail) in phases {
        stage.say(&match name {
            "during" => format!(
                "--- the card processor is down, for {} s",
                lasting.as_secs()
            ),
            _ => format!("--- {name} the outage, for {} s", lasting.as_secs()),
        });
        stage.cards(latency, fail).await?;
        let calls = stage.calls(CARDS).await?;
        let processor = stage.processor();
        let placed = stage.place_watched(CARDS, RATE, lasting).await?;
        let calls = stage.calls(CARDS).await? - calls;
        let spent = stage.spent(&processor);
        stage.say(&format!(
            "{} orders were accepted, {} were not; {calls} calls to the card processor; payment used {spent} of a processor",
            placed.accepted.len(),
            placed.refused
        ));
        measured.push(Measured {
            name,
            cells: vec![
                placed.accepted.len().to_string(),
                placed.refused.to_string(),
                calls.to_string(),
                spent,
                shown(&placed.took, |took| took.p99_ms),
            ],
        });
        all.extend(placed.accepted);
    }
    let (rested, took) = stage.at_rest(&all, REST).await;
    let others = stage.not_confirmed(&all).await;
    stage.say(&format!(
        "{rested} of {} orders are at rest, {:.1} s later; {others} are not confirmed",
        all.len(),
        took.as_secs_f64()
    ));
    let columns = vec![
        "orders accepted",
        "not accepted",
        "calls to the card processor",
        "processor of payment",
        "p99 of placing",
    ];
    Ok((columns, measured))
}
