//! Load on a running stack, and a report.

use std::{path::PathBuf, process::ExitCode, sync::Arc};

use anyhow::Context;
use clap::{Parser, ValueEnum};
use load_tests::{
    api::{Api, ServiceUrls},
    load::{
        drive::{Plan, drive},
        profile::{PROFILES, Profile},
        schedule::Spread,
    },
    reconcile::Sources,
    traffic::Ways,
};

/// Puts load on a running stack, follows each order to its rest, reconciles, and writes a report; exits 1 if a limit
/// was missed. `cargo xtask load` runs it
#[derive(Parser)]
#[command(name = "load")]
struct Arguments {
    #[command(flatten)]
    urls: ServiceUrls,

    /// The books; without them queues and outboxes are not measured, and nothing is reconciled
    #[command(flatten)]
    sources: Option<Sources>,

    /// The profile: smoke, steady, step, spike or soak
    #[arg(default_value = "smoke")]
    profile: String,

    /// Orders per second, instead of the profile's; the first rate of `step`, the calm one of `spike`
    #[arg(long)]
    rate: Option<f64>,

    /// Seconds, instead of the profile's; the length of each step of `step`, of each calm stretch of `spike`
    #[arg(long)]
    seconds: Option<f64>,

    /// The distribution of arrivals
    #[arg(long, value_enum, default_value_t = Arrivals::Poisson)]
    arrivals: Arrivals,

    /// The seed of the schedule; the same seed makes the same arrivals
    #[arg(long, default_value_t = 1)]
    seed: u64,

    /// Users of goose: the most requests that can be under way at a time
    #[arg(long, default_value_t = 300)]
    users: usize,

    /// The way the orders are coordinated
    #[arg(long, value_enum, default_value_t = Ways::Choreography)]
    coordination: Ways,

    /// Milliseconds within which 99 of 100 orders must be at rest, instead of the profile's
    #[arg(long)]
    p99: Option<f64>,

    /// The share of arrivals that may get no order, from 0 to 1, instead of the profile's
    #[arg(long)]
    errors: Option<f64>,

    /// Orders per second that must be sustained, instead of the profile's
    #[arg(long)]
    sustain: Option<f64>,

    /// The folder for the report and the journal of accepted orders; by default target/load/PROFILE-TIME
    #[arg(long)]
    out: Option<PathBuf>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Arrivals {
    /// A Poisson process, as customers arrive who do not know each other
    Poisson,
    /// Equal distances in time
    Constant,
}

#[expect(clippy::print_stdout, reason = "it is what its user sees")]
#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    let Arguments {
        urls,
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
        "--rate must be more than 0, and at most 10000"
    );
    anyhow::ensure!(
        seconds.is_none_or(|seconds| (4.0..=86_400.0).contains(&seconds)),
        "--seconds must be from 4 to 86400"
    );
    anyhow::ensure!(
        (20..=5000).contains(&users),
        "--users must be from 20 to 5000"
    );
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
    let report = drive(Arc::new(Api::new(urls)?), plan).await?;
    report.write(&out)?;
    println!("{}", report.summary());
    println!("{}", out.join("report.html").display());
    Ok(if report.passed() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Returns the default folder of a report, named after the profile and the present time.
fn folder(profile: &str) -> anyhow::Result<PathBuf> {
    let time = time::format_description::parse_borrowed::<2>(
        "[year]-[month]-[day]T[hour]-[minute]-[second]Z",
    )?;
    let now = time::OffsetDateTime::now_utc().format(&time)?;
    Ok(format!("target/load/{profile}-{now}").into())
}
