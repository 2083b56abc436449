//! Compares choreography and orchestration by the same orders: messages, commits, processor time, time to rest, time to
//! recover, lines of code.

mod bench;
mod code;
mod measure;
mod recover;

use std::{collections::BTreeMap, path::Path, sync::Arc};

use bench::Bench;

use crate::{api::Api, reconcile::Sources, table, traffic::Coordination};

/// The size of a comparison.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Orders each way, per round.
    pub orders: u32,
    /// Orders per second.
    pub rate: f64,
    /// Rounds; the ways take turns.
    pub rounds: u32,
}

/// Both ways, in the order in which they take turns, and the services that are killed on each.
const WAYS: [(Coordination, &[&str]); 2] = [
    (
        Coordination::Choreography,
        &["order", "payment", "inventory"],
    ),
    (
        Coordination::Orchestration,
        &["order", "payment", "inventory", "orchestrator"],
    ),
];

/// Runs the comparison and returns its tables. `root` is the checkout, for the lines of code.
pub async fn compare(
    api: Arc<Api>,
    sources: &Sources,
    plan: &Plan,
    root: &Path,
) -> anyhow::Result<String> {
    let bench = Bench::new(api, sources)?;
    // A first round fills caches, connections and prepared statements, which are not compared.
    for (way, _) in WAYS {
        measure::round(&bench, way, plan.orders.min(60), plan.rate, 0).await?;
    }
    let mut figures: BTreeMap<&str, Vec<measure::Figures>> = BTreeMap::new();
    for round in 0..plan.rounds {
        for (way, _) in WAYS {
            let measured =
                measure::round(&bench, way, plan.orders, plan.rate, u64::from(round) + 1).await?;
            figures.entry(way.name()).or_default().push(measured);
        }
    }
    let mut rows = Vec::new();
    for (way, victims) in WAYS {
        for victim in victims {
            let recovered = recover::after_a_kill(&bench, way, victim).await?;
            rows.push(vec![
                way.name().to_owned(),
                (*victim).to_owned(),
                recovered.open.to_string(),
                format!("{} ms", recovered.took.as_millis()),
            ]);
        }
    }
    let Plan {
        orders,
        rate,
        rounds,
    } = plan;
    Ok([
        format!("{orders} orders each way at {rate}/s, {rounds} rounds in turns, the same orders in each; medians of the rounds"),
        measure::table(&figures),
        format!("kill -9 in the middle of {} orders; the process is started again at once", recover::ORDERS),
        table::render(&["way", "killed", "not at rest then", "all at rest after"], &rows),
        "lines of code to read, without comments, blank lines and tests".to_owned(),
        code::table(root)?,
    ]
    .join("\n\n"))
}
