//! Runs a drill on a running stack, with a pattern and without it; started by `cargo xtask drill`.

use std::{process::ExitCode, sync::Arc, time::Duration};

use clap::Parser;
use load_tests::{
    api::{Api, ServiceUrls},
    drill::{self, Drill, LockServer, Stage, Verdict},
    reconcile::Sources,
};
use tokio::signal::unix::{SignalKind, signal};

/// Drills on a running stack, which must have one replica of each service and DEMO_MODE
#[derive(Parser)]
#[command(name = "drill")]
struct Arguments {
    #[command(flatten)]
    urls: ServiceUrls,
    #[command(flatten)]
    books: Sources,
    #[command(flatten)]
    locks: LockServer,
    /// The drill to run
    drill: Drill,
    /// Minutes for which the card processor is down, in card-outage
    #[arg(long, default_value_t = 10.0, value_parser = minutes)]
    minutes: f64,
}

fn minutes(text: &str) -> Result<f64, String> {
    let minutes: f64 = text.parse().map_err(|error| format!("{error}"))?;
    if (0.1..=600.0).contains(&minutes) {
        Ok(minutes)
    } else {
        Err("must be from 0.1 to 600".to_owned())
    }
}

#[expect(clippy::print_stdout, reason = "it is what its user sees")]
#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    let Arguments {
        urls,
        books,
        locks,
        drill,
        minutes,
    } = Arguments::parse();
    let api = Arc::new(Api::new(urls)?);
    let stage = Stage::new(api, books, locks, Arc::new(|line| println!("{line}")));
    let outage = Duration::from_secs_f64(minutes * 60.0);
    let verdict = tokio::select! {
        verdict = drill::run(drill, &stage, outage) => verdict?,
        () = told_to_end() => {
            println!("interrupted: mending what the drill broke");
            stage.mend().await?;
            return Ok(ExitCode::FAILURE);
        }
    };
    Ok(match verdict {
        Verdict::Passed => ExitCode::SUCCESS,
        Verdict::BooksDisagree | Verdict::LimitExceeded => ExitCode::FAILURE,
    })
}

/// Waits for Ctrl-C, for SIGTERM, or for the terminal to close.
async fn told_to_end() {
    let mut signals = [
        SignalKind::interrupt(),
        SignalKind::terminate(),
        SignalKind::hangup(),
    ]
    .map(|kind| signal(kind).expect("a handler can be installed"));
    let [interrupt, terminate, hangup] = &mut signals;
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
        _ = hangup.recv() => {}
    }
}
