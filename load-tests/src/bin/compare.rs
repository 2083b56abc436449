//! Compares the two ways to coordinate orders; `cargo xtask compare` runs it on a stack of its own.

use std::{path::PathBuf, sync::Arc};

use clap::Parser;
use load_tests::{
    api::{Api, ServiceUrls},
    compare::{Plan, compare},
    reconcile::Sources,
    traffic::seed,
};

/// The same orders by choreography and by orchestration, compared
#[derive(Parser)]
#[command(name = "compare")]
struct Arguments {
    #[command(flatten)]
    urls: ServiceUrls,
    #[command(flatten)]
    sources: Sources,
    /// Orders each way, per round
    #[arg(long, default_value_t = 300, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    orders: u32,
    /// Orders per second: below what the machine can take, or the machine is measured
    #[arg(long, default_value_t = 20.0)]
    rate: f64,
    /// Rounds; the ways take turns
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
}

#[expect(clippy::print_stdout, reason = "it is what its user sees")]
#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let Arguments {
        urls,
        sources,
        orders,
        rate,
        rounds,
    } = Arguments::parse();
    anyhow::ensure!(
        rate > 0.0 && rate <= 1000.0,
        "--rate must be more than 0, and at most 1000 orders per second"
    );
    let api = Arc::new(Api::new(urls)?);
    seed(&api).await?;
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..");
    let plan = Plan {
        orders,
        rate,
        rounds,
    };
    println!("{}", compare(api, &sources, &plan, &root).await?);
    Ok(())
}
