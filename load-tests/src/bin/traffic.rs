//! Traffic for a running stack.

use std::{path::PathBuf, process::ExitCode, time::Duration};

use clap::{Args, Parser, Subcommand};
use holdfast::backoff::Backoff;
use load_tests::{
    api::{Api, ServiceUrls},
    traffic::{Plan, Ways, once, run, seed},
};

/// Traffic for a running stack: `source target/stack/env` says where it is
#[derive(Parser)]
#[command(name = "traffic")]
struct Arguments {
    #[command(flatten)]
    urls: ServiceUrls,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Brings in the demo's products and wallets; safe to repeat
    Seed,
    /// Brings in products and wallets, then places orders of all endings until Ctrl-C; `docker compose up` runs it
    Demo {
        /// Orders per second; 0 places none
        #[arg(long, env = "TRAFFIC_RATE", default_value_t = 1.0)]
        rate: f64,
        #[command(flatten)]
        way: Way,
    },
    /// Places one order of each ending each way, waits for all, shows the table; exits 1 if one ended otherwise
    Once {
        #[command(flatten)]
        way: Way,
    },
    /// Places orders of all endings at a rate
    Run {
        /// Orders per second, whatever their latency
        #[arg(long, default_value_t = 1.0)]
        rate: f64,
        /// The duration in seconds; without it, until Ctrl-C
        #[arg(long)]
        seconds: Option<u64>,
        /// A file for the ids of accepted orders, one a line, for `reconcile --journal`
        #[arg(long)]
        journal: Option<PathBuf>,
        /// Do not follow each order to its rest
        #[arg(long)]
        no_watch: bool,
        /// Repeat the request of each order that was begun until it is accepted, also when it is time to stop
        #[arg(long)]
        insist: bool,
        #[command(flatten)]
        way: Way,
    },
}

#[derive(Args, Clone, Copy)]
struct Way {
    /// The way the orders are coordinated
    #[arg(long, env = "TRAFFIC_COORDINATION", value_enum, default_value_t = Ways::Both)]
    coordination: Ways,
}

#[expect(clippy::print_stdout, reason = "it is what its user sees")]
#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    let Arguments { urls, command } = Arguments::parse();
    let api = Api::new(urls)?;
    let good = match command {
        Command::Seed => {
            let (products, wallets) = seed(&api).await?;
            println!("seeded {products} products and {wallets} wallets");
            true
        }
        Command::Demo { rate, way } => demo(api, rate, way.coordination).await?,
        Command::Once { way } => {
            seed(&api).await?;
            once(&api, way.coordination).await?
        }
        Command::Run {
            rate,
            seconds,
            journal,
            no_watch,
            insist,
            way,
        } => {
            let duration = seconds.map(Duration::from_secs);
            let stop = chassis::on_signal()?;
            run(
                api,
                Plan {
                    rate,
                    ways: way.coordination,
                    duration,
                    journal,
                    watch: !no_watch,
                    insist,
                },
                stop,
            )
            .await?
        }
    };
    Ok(if good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Seeds, and places orders at a low rate until a signal. Waits for services that are not up yet.
#[expect(clippy::print_stdout, reason = "it is what its user sees")]
async fn demo(api: Api, rate: f64, ways: Ways) -> anyhow::Result<bool> {
    anyhow::ensure!(
        (0.0..=1000.0).contains(&rate),
        "--rate (TRAFFIC_RATE) must be from 0 to 1000 orders per second"
    );
    let stop = chassis::on_signal()?;
    let mut delays = Backoff::RECONNECT.delays();
    let (products, wallets) = loop {
        match seed(&api).await {
            Ok(seeded) => break seeded,
            Err(error) => {
                println!("cannot seed yet: {error}");
                if stop.run_until_cancelled(delays.wait()).await.is_none() {
                    return Ok(true);
                }
            }
        }
    };
    println!("seeded {products} products and {wallets} wallets");
    if rate == 0.0 {
        println!("no traffic but yours: TRAFFIC_RATE is 0");
        stop.cancelled().await;
        return Ok(true);
    }
    let plan = Plan {
        rate,
        ways,
        duration: None,
        journal: None,
        watch: true,
        insist: false,
    };
    run(api, plan, stop).await
}
