//! Recovery from a process that is killed in the middle of its work.

use std::{path::Path, time::Duration};

use anyhow::Context;
use futures_util::future::try_join_all;
use holdfast::backoff::pause;
use rustix::process::{Pid, Signal, kill_process};
use tokio::time::Instant;

use super::bench::Bench;
use crate::{
    load::processes::of_stack,
    traffic::{Coordination, Ending},
};

/// The number of orders, placed at once.
pub(super) const ORDERS: usize = 200;

/// The outcome of a kill.
pub(super) struct Recovered {
    /// Orders that were not at rest when the process was killed.
    pub(super) open: i64,
    /// The time from the kill until all orders were at rest.
    pub(super) took: Duration,
}

/// Places [`ORDERS`] orders at once, kills the process of `victim` when half of them are placed and some are not at
/// rest, and waits until all are. The process that runs the stack starts it again.
pub(super) async fn after_a_kill(
    bench: &Bench,
    way: Coordination,
    victim: &str,
) -> anyhow::Result<Recovered> {
    bench.quiet().await?;
    let placing = try_join_all((0..ORDERS).map(|_| bench.place(Ending::ConfirmedWallet, way)));
    let killing = async {
        let half = i64::try_from(ORDERS / 2)?;
        let total = "select count(*) from orders";
        let before: i64 = sqlx::query_scalar(total).fetch_one(&bench.orders).await?;
        loop {
            let placed: i64 = sqlx::query_scalar(total).fetch_one(&bench.orders).await?;
            let open = bench.open().await?;
            if placed - before >= half && open > 0 {
                kill(victim)?;
                return anyhow::Ok((open, Instant::now()));
            }
            pause(Duration::from_millis(5)).await;
        }
    };
    let (_, (open, killed)) = tokio::try_join!(placing, killing)?;
    while bench.open().await? > 0 {
        anyhow::ensure!(
            killed.elapsed() < Duration::from_secs(180),
            "orders are not at rest 3 minutes after {victim} was killed"
        );
        pause(Duration::from_millis(10)).await;
    }
    Ok(Recovered {
        open,
        took: killed.elapsed(),
    })
}

/// Kills the process of this stack that runs this program, by SIGKILL.
fn kill(program: &str) -> anyhow::Result<()> {
    let stack =
        std::env::var("HOLDFAST_STACK").context("HOLDFAST_STACK says which stack this is")?;
    let pid = of_stack(Path::new(&stack), program)
        .into_iter()
        .find_map(|pid| Pid::from_raw(pid.try_into().ok()?))
        .with_context(|| format!("{program} does not run in {stack}"))?;
    kill_process(pid, Signal::KILL).with_context(|| format!("cannot kill {program}"))
}
