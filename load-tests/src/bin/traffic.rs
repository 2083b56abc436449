//! Traffic for a running stack.

use std::{path::PathBuf, process::ExitCode, time::Duration};

use clap::{Parser, Subcommand};
use load_tests::{
    api::{Api, Places},
    traffic::{Plan, once, run, seed},
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
    /// Places one order of each ending, waits for all, shows the table; exits 1 if one ended otherwise
    Once,
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
    },
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
        Command::Once => {
            seed(&api).await?;
            once(&api).await?
        }
        Command::Run {
            rate,
            seconds,
            journal,
            no_watch,
            insist,
        } => {
            let duration = seconds.map(Duration::from_secs);
            let stop = chassis::on_signal()?;
            run(
                api,
                Plan {
                    rate,
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
