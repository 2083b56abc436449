//! Proves from the books of all services that nothing was lost.

use std::{collections::HashSet, path::PathBuf, process::ExitCode, time::Duration};

use anyhow::Context;
use clap::Parser;
use load_tests::reconcile::{Sources, Wanted, reconcile};

/// Proves from the books of all services that nothing was lost; exits 1 if something was
#[derive(Parser)]
#[command(name = "reconcile")]
struct Arguments {
    #[command(flatten)]
    sources: Sources,

    /// Seconds to wait until nothing moves
    #[arg(long, default_value_t = 120)]
    within: u64,

    /// A file with the ids of accepted orders, one a line, each of which must exist; `-` is standard input
    #[arg(long)]
    journal: Option<PathBuf>,

    /// Report each order that was cancelled by its deadline: no outage may lead to that
    #[arg(long)]
    none_by_deadline: bool,
}

#[expect(clippy::print_stdout, reason = "it is what its user sees")]
#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    let Arguments {
        sources,
        within,
        journal,
        none_by_deadline,
    } = Arguments::parse();
    let accepted = match journal {
        None => HashSet::new(),
        Some(path) => {
            let text = if path.as_os_str() == "-" {
                std::io::read_to_string(std::io::stdin())
            } else {
                std::fs::read_to_string(&path)
            };
            let text = text.with_context(|| path.display().to_string())?;
            text.lines()
                .map(str::parse)
                .collect::<Result<_, _>>()
                .with_context(|| format!("{}: a line is not an order id", path.display()))?
        }
    };
    let wanted = Wanted {
        accepted,
        none_by_deadline,
    };
    let report = reconcile(&sources, Duration::from_secs(within), &wanted).await?;
    println!("{report}");
    Ok(if report.is_clean() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
