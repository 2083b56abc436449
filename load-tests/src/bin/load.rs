//! Load on a running stack, and a report.

use std::{path::PathBuf, process::ExitCode, sync::Arc};

use anyhow::Context;
use clap::{Parser, ValueEnum};
use load_tests::{
    api::{Api, Places},
    load::{
        drive::{Plan, drive},
        profile::{PROFILES, Profile},
        schedule::Spread,
    },
    reconcile::Sources,
    traffic::Ways,
};

/// Puts load on a running stack, follows each order to its rest, reconciles, and writes a report; `cargo xtask load` runs it.
/// Exits 1 if something that must hold did not
#[derive(Parser)]
#[command(name = "load")]
struct Arguments {
    #[command(flatten)]
    places: Places,

    /// Where the books are; without them there are no figures of queues and outboxes, and nothing is reconciled
    #[command(flatten)]
    sources: Option<Sources>,

    /// What load: smoke, steady, step, spike or soak
    #[arg(default_value = "smoke")]
    profile: String,

    /// Orders per second, instead of what the profile says; of `step` the first rate, of `spike` the calm one
    #[arg(long)]
    rate: Option<f64>,

    /// How long, in seconds, instead of what the profile says; of `step` each step, of `spike` each calm stretch
    #[arg(long)]
    seconds: Option<f64>,

    /// How arrivals are spread
    #[arg(long, value_enum, default_value_t = Arrivals::Poisson)]
    arrivals: Arrivals,

    /// The seed of the schedule: the same one makes the same arrivals
    #[arg(long, default_value_t = 1)]
    seed: u64,

    /// Users of goose: how many requests can be under way at a time
    #[arg(long, default_value_t = 300)]
    users: usize,

    /// How the services agree on the orders' ends
    #[arg(long, value_enum, default_value_t = Ways::Choreography)]
    coordination: Ways,

    /// 99 of 100 orders must be at rest within so many milliseconds, instead of what the profile says
    #[arg(long)]
    p99: Option<f64>,

    /// The share of arrivals that may get no order, from 0 to 1, instead of what the profile says
    #[arg(long)]
    errors: Option<f64>,

    /// Orders per second that must be sustained, instead of what the profile says
    #[arg(long)]
    sustain: Option<f64>,

    /// The folder for the report and the journal of accepted orders; if not given, target/load/PROFILE-TIME
    #[arg(long)]
    out: Option<PathBuf>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Arrivals {
    /// By chance, as customers do who do not know each other
    Poisson,
    /// At equal distances
    Constant,
}

#[expect(clippy::print_stdout, reason = "it is what its user sees")]
#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    let Arguments {
        places,
        sources,
        profile,
        rate,
        seconds,
        arrivals,
        seed,
        users,
        coordination,
        p99,
        errors,
        sustain,
        out,
    } = Arguments::parse();
    anyhow::ensure!(
        rate.is_none_or(|rate| rate > 0.0 && rate <= 10_000.0),
        "--rate is from more than 0 to 10000"
    );
    anyhow::ensure!(
        seconds.is_none_or(|seconds| (4.0..=86_400.0).contains(&seconds)),
        "--seconds is from 4 to 86400"
    );
    anyhow::ensure!((20..=5000).contains(&users), "--users is from 20 to 5000");
    let mut profile = Profile::named(&profile, rate, seconds).with_context(|| {
        let all: Vec<String> = PROFILES
            .iter()
            .map(|(name, what)| format!("  {name:<8} {what}"))
            .collect();
        format!(
            "there is no profile {profile:?}; there are:\n{}",
            all.join("\n")
        )
    })?;
    let limits = &mut profile.limits;
    limits.p99_to_rest_ms = p99.unwrap_or(limits.p99_to_rest_ms);
    limits.errors = errors.unwrap_or(limits.errors);
    limits.sustained = sustain.unwrap_or(limits.sustained);
    let out = match out {
        Some(out) => out,
        None => folder(profile.name)?,
    };
    std::fs::create_dir_all(&out).with_context(|| out.display().to_string())?;

    let plan = Plan {
        profile,
        spread: match arrivals {
            Arrivals::Poisson => Spread::Poisson,
            Arrivals::Constant => Spread::Constant,
        },
        seed,
        users,
        ways: coordination,
        folder: out.clone(),
        sources,
    };
    let report = drive(Arc::new(Api::new(places)?), plan).await?;
    report.write(&out)?;
    println!("{}", report.summary());
    println!("{}", out.join("report.html").display());
    Ok(if report.passed() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// A folder that tells when it was made.
fn folder(profile: &str) -> anyhow::Result<PathBuf> {
    let time = time::format_description::parse_borrowed::<2>(
        "[year]-[month]-[day]T[hour]-[minute]-[second]Z",
    )?;
    let now = time::OffsetDateTime::now_utc().format(&time)?;
    Ok(format!("target/load/{profile}-{now}").into())
}
