//! Traffic for a running stack.

use std::{path::PathBuf, process::ExitCode, time::Duration};

use clap::{Args, Parser, Subcommand};
use holdfast::backoff::Backoff;
use load_tests::{
    api::{Api, Places},
    traffic::{Plan, Ways, once, run, seed},
};

/// Traffic for a running stack: `source target/stack/env` says where it is
#[derive(Parser)]
#[command(name = "traffic")]
struct Arguments {
    #[command(flatten)]
    places: Places,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Brings in the demo's products and wallets; safe to repeat
    Seed,
    /// What `docker compose up` runs: brings in products and wallets, then places orders of all endings until Ctrl-C
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
        /// Orders per second, however fast they are served
        #[arg(long, default_value_t = 1.0)]
        rate: f64,
        /// For how long, in seconds; until Ctrl-C, if not given
        #[arg(long)]
        seconds: Option<u64>,
        /// A file for the ids of accepted orders, one a line: `reconcile --journal` checks that each exists and is at rest
        #[arg(long)]
        journal: Option<PathBuf>,
        /// Do not follow each order to its rest
        #[arg(long)]
        no_watch: bool,
        /// Get every order in that was begun, also after it is time to stop
        #[arg(long)]
        insist: bool,
        #[command(flatten)]
        way: Way,
    },
}

/// By which way.
#[derive(Args, Clone, Copy)]
struct Way {
    /// How the services agree on an order's end
    #[arg(long, env = "TRAFFIC_COORDINATION", value_enum, default_value_t = Ways::Both)]
    coordination: Ways,
}

#[expect(clippy::print_stdout, reason = "it is what its user sees")]
#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    let Arguments { places, command } = Arguments::parse();
    let api = Api::new(places)?;
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

/// Seeds, and sends light traffic until it is told to stop. Services that are not there yet are waited for.
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
