//! `cargo xtask bench`: the cost of the patterns beside that of their alternatives, measured in one run, in one table.

mod table;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs,
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, ExitCode, Stdio},
    time::Duration,
};

use lexopt::Parser;

use self::table::Measured;
use super::{exit_code, install};
use crate::{
    Context, Result, error, process,
    progress::{say, show},
    servers::{Durability, Redis, find_or_install},
    workspace::{self, Claim},
};

/// The page that keeps the table, between the next two lines.
const PAGE: &str = "docs/benchmarks.md";
const BEGIN: &str = "<!-- what `UPDATE_DOCS=1 cargo xtask bench` printed -->\n";
const END: &str = "<!-- end -->\n";
/// The largest share of the processors that other programs may use while figures that are kept are measured, in per
/// cent.
const MOST_BUSY: f64 = 10.0;

pub(super) fn run(mut arguments: Parser) -> Result<ExitCode> {
    let (mut no_install, mut passed_on) = (false, Vec::new());
    for argument in arguments.raw_args()? {
        if argument == "--no-install" {
            no_install = true;
        } else {
            passed_on.push(argument);
        }
    }
    let is_kept = std::env::var_os("UPDATE_DOCS").is_some();
    if is_kept && !passed_on.is_empty() {
        return Err(error(format!(
            "{PAGE} holds a whole run: run without a filter"
        )));
    }
    let claim = Claim::take("bench")?;
    build()?;
    let installed = find_or_install(install(no_install), &claim.folder.join("install.log"))?;
    let redis = Redis::create(
        &installed,
        &claim.data,
        &claim.folder,
        &claim.folder,
        Durability::None,
    )?;
    let mut server = redis.start()?;
    redis.wait(&mut server)?;

    let busy = busy();
    let machine = machine(busy);
    if is_kept && busy > MOST_BUSY {
        return Err(error(format!(
            "{PAGE} is renewed on an idle machine only, and this one is {busy:.0} % busy"
        )));
    }
    say(format!(
        "measuring for some minutes, in which nothing else should run on this machine. {machine}"
    ));
    let results = claim.folder.join("criterion");
    let mut benches = start(&passed_on, &redis, &results)?;
    let (allocations, in_turns) = follow(&mut benches)?;
    let status = benches.wait()?;
    server.kill()?;
    claim.discard_data();
    if process::is_interrupted() {
        return Err(error("interrupted"));
    }
    if !status.success() {
        return Ok(exit_code(status));
    }
    let table = table::markdown(&measured(&results)?, &in_turns, &allocations)?;
    let text = format!("{machine}\n\n{table}");
    show("");
    show(&text);
    if is_kept {
        keep(&workspace::root().join(PAGE), &text)?;
        say(format!("{PAGE} is renewed"));
    }
    Ok(ExitCode::SUCCESS)
}

/// Builds the benchmarks.
fn build() -> Result {
    say("building the benchmarks, optimised; the first time takes minutes");
    let built = workspace::cargo()
        .args(["bench", "--quiet", "-p", "benches", "--no-run"])
        .status()
        .context("cargo bench")?;
    if built.success() {
        Ok(())
    } else {
        Err(error(format!("cargo bench failed ({built})")))
    }
}

/// Starts the benchmarks that the arguments name, or all. Criterion writes its estimates to `results`.
fn start(passed_on: &[OsString], redis: &Redis, results: &Path) -> Result<Child> {
    workspace::cargo()
        .args(["bench", "--quiet", "-p", "benches", "--"])
        .args(passed_on)
        .env("HOLDFAST_BENCH_REDIS", redis.url("admin"))
        // Emptied by each run, so that the table holds only this run.
        .env("CRITERION_HOME", results)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("cargo bench")
}

/// Reads the output of the benchmarks to its end, and shows each time. Returns the allocations per call of each row,
/// and the ratios that were measured in turns.
fn follow(benches: &mut Child) -> Result<(BTreeMap<String, f64>, Measured)> {
    let (mut allocations, mut in_turns) = (BTreeMap::new(), Measured::new());
    let output = benches.stdout.take().into_iter();
    for line in output.flat_map(|output| BufReader::new(output).lines()) {
        let line = line?;
        if let Some((row, each)) = table::allocations(&line) {
            allocations.insert(row, each);
        } else if let Some((cell, ratio)) = table::ratio(&line) {
            in_turns.insert(cell, ratio);
        } else if line.contains("time:") {
            show(&line);
        }
    }
    Ok((allocations, in_turns))
}

/// Returns all of criterion's estimates, by GROUP/ROW/COLUMN.
fn measured(results: &Path) -> Result<Measured> {
    let mut measured = Measured::new();
    for row in table::rows() {
        let Ok(columns) = fs::read_dir(results.join(&row)) else {
            continue; // filtered out
        };
        for column in columns {
            let column = column?;
            let estimates = column.path().join("new/estimates.json");
            let Ok(text) = fs::read_to_string(&estimates) else {
                continue; // criterion's report on the whole row
            };
            let name = column.file_name().to_string_lossy().into_owned();
            measured.insert((row.clone(), name), table::median(&text)?);
        }
    }
    Ok(measured)
}

/// Describes the machine: a figure means little without it.
fn machine(busy: f64) -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let processors = read("/proc/cpuinfo");
    let models = processors
        .lines()
        .filter_map(|line| line.strip_prefix("model name"));
    let model = models
        .map(|line| line.trim_start_matches(['\t', ' ', ':']))
        .next();
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let compiler = std::process::Command::new("rustc")
        .arg("--version")
        .output();
    let compiler = compiler.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    format!(
        "{threads} × {}, {}, Linux {}; {busy:.0} % busy with other things.",
        model.unwrap_or("a processor without a name"),
        compiler.unwrap_or_default(),
        read("/proc/sys/kernel/osrelease").trim(),
    )
}

/// Returns the share of the processors' time that is in use, in per cent, over three seconds. The load average would
/// still include the compiler.
fn busy() -> f64 {
    let times = || -> Option<(f64, f64)> {
        let stat = fs::read_to_string("/proc/stat").ok()?;
        let times = stat.lines().next()?.split_whitespace().skip(1);
        // user, nice, system, idle, iowait, irq, softirq, steal; what follows is part of the first two.
        let times: Vec<f64> = times.take(8).filter_map(|time| time.parse().ok()).collect();
        Some((times.iter().sum(), times.get(3)? + times.get(4)?))
    };
    let before = times();
    process::nap(Duration::from_secs(3));
    match (before, times()) {
        (Some((all, idle)), Some((all_then, idle_then))) if all_then > all => {
            100.0 * (1.0 - (idle_then - idle) / (all_then - all))
        }
        _ => 0.0,
    }
}

fn keep(page: &Path, text: &str) -> Result {
    let old = fs::read_to_string(page).context(page.display())?;
    let parts = old.split_once(BEGIN).and_then(|(before, rest)| {
        let (_, after) = rest.split_once(END)?;
        Some((before, after))
    });
    let (before, after) =
        parts.ok_or_else(|| error(format!("{} has no markers for the table", page.display())))?;
    fs::write(page, format!("{before}{BEGIN}{text}\n{END}{after}")).context(page.display())
}
