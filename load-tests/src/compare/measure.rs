//! A round of orders of one way, and its cost.

use std::{collections::BTreeMap, time::Duration};

use futures_util::{StreamExt, stream::FuturesUnordered};
use holdfast::backoff::pause;
use tokio::time::interval;

use super::bench::Bench;
use crate::{
    table,
    traffic::{Coordination, Ending},
};

/// The figures of a round. Counts are per order, less what the stack does while it is idle.
#[derive(Clone, Copy, Debug)]
pub(super) struct Figures {
    /// Messages published and confirmed.
    messages: f64,
    /// Transactions committed in all databases.
    commits: f64,
    /// Processor time of services, broker and database, in milliseconds.
    cpu_ms: f64,
    /// The time from acceptance to rest, in milliseconds, by the database's clock.
    p50_ms: f64,
    p95_ms: f64,
    p99_ms: f64,
}

/// The time for which the idle stack is measured: relays, sweeps and statistics have a cost, too.
const IDLE: Duration = Duration::from_secs(5);

/// Returns one of the endings that do not depend on timing, in the shares of light traffic.
fn ending(random: &mut fastrand::Rng) -> Ending {
    match random.u8(..90) {
        0..50 => Ending::ConfirmedWallet,
        50..70 => Ending::ConfirmedCard,
        70..77 => Ending::DeclinedCard,
        77..81 => Ending::DeclinedWallet,
        _ => Ending::OutOfStock,
    }
}

/// Places orders of one way at a rate, and waits until nothing moves. Rounds with the same seed have the same endings.
pub(super) async fn round(
    bench: &Bench,
    way: Coordination,
    orders: u32,
    rate: f64,
    seed: u64,
) -> anyhow::Result<Figures> {
    bench.quiet().await?;
    let idle = bench.read().await?;
    pause(IDLE).await;
    let before = bench.read().await?;
    let idle = idle.until(&before);
    let began: time::OffsetDateTime = sqlx::query_scalar("select now()")
        .fetch_one(&bench.orders)
        .await?;

    let mut random = fastrand::Rng::with_seed(seed);
    let mut ticks = interval(Duration::from_secs_f64(1.0 / rate));
    let mut placing = FuturesUnordered::new();
    let mut left = orders;
    while left > 0 || !placing.is_empty() {
        tokio::select! {
            _ = ticks.tick(), if left > 0 => {
                left -= 1;
                placing.push(bench.place(ending(&mut random), way));
            }
            Some(placed) = placing.next(), if !placing.is_empty() => { placed?; }
        }
    }
    bench.quiet().await?;
    let done = before.until(&bench.read().await?);

    let (p50_ms, p95_ms, p99_ms): (f64, f64, f64) = sqlx::query_as(
        "select percentile_cont(0.5) within group (order by ms), percentile_cont(0.95) within group (order by ms),
                percentile_cont(0.99) within group (order by ms)
         from (select extract(epoch from updated_at - created_at)::float8 * 1000 as ms
               from orders where created_at >= $1) as took",
    )
    .bind(began)
    .fetch_one(&bench.orders)
    .await?;
    let per_order = |total: f64, while_idle: f64| {
        (total - while_idle * done.seconds / idle.seconds) / f64::from(orders)
    };
    Ok(Figures {
        messages: per_order(done.messages, idle.messages),
        commits: per_order(done.commits, idle.commits),
        cpu_ms: per_order(done.cpu_ms, idle.cpu_ms),
        p50_ms,
        p95_ms,
        p99_ms,
    })
}

/// Returns a table of the rounds' medians and ranges.
pub(super) fn table(figures: &BTreeMap<&str, Vec<Figures>>) -> String {
    type Column = (&'static str, fn(&Figures) -> f64);
    let columns: [Column; 6] = [
        ("messages per order", |figures| figures.messages),
        ("commits per order", |figures| figures.commits),
        ("processor ms per order", |figures| figures.cpu_ms),
        ("p50 ms to rest", |figures| figures.p50_ms),
        ("p95 ms", |figures| figures.p95_ms),
        ("p99 ms", |figures| figures.p99_ms),
    ];
    let rows: Vec<Vec<String>> = figures
        .iter()
        .map(|(way, rounds)| {
            let cells = columns.iter().map(|(_, of)| {
                let mut values: Vec<f64> = rounds.iter().map(of).collect();
                values.sort_unstable_by(f64::total_cmp);
                let (low, high) = (values[0], values[values.len() - 1]);
                format!("{:.1} ({low:.1} to {high:.1})", values[values.len() / 2])
            });
            std::iter::once((*way).to_owned()).chain(cells).collect()
        })
        .collect();
    let head: Vec<&str> = std::iter::once("way")
        .chain(columns.iter().map(|(name, _)| *name))
        .collect();
    table::render(&head, &rows)
}
