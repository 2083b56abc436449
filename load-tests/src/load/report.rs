//! The verdict, the data, and the page.

mod page;
mod plot;

use std::{collections::BTreeMap, path::Path};

use anyhow::Context;
use serde::Serialize;

use super::{
    board::{Board, PhaseResult, SecondResult, Totals},
    processes::{ELSE, Snapshot, used},
    profile::Profile,
    quantiles::Summary,
    sampler::Sample,
    schedule::Spread,
    watch::Cost,
};
use crate::traffic::Ways;

/// What a run leaves to be told.
pub struct Run<'a> {
    /// What was to be done.
    pub profile: Profile,
    /// How arrivals were spread.
    pub spread: Spread,
    /// By which seed.
    pub seed: u64,
    /// Users of goose.
    pub users: usize,
    /// Which ways orders took.
    pub ways: Ways,
    /// What became of the orders.
    pub board: &'a Board,
    /// What the stack looked like, by the samples' own clock.
    pub samples: Vec<Sample>,
    /// When the arrivals began, on that clock, in seconds.
    pub offset: f64,
    /// How many phases were gone through.
    pub phases_done: usize,
    /// Whether somebody stopped it.
    pub interrupted: bool,
    /// What the watching cost.
    pub watching: Cost,
    /// What goose measured.
    pub requests: Vec<Requests>,
    /// What the books say.
    pub books: Option<Books>,
}

/// One kind of request, as goose measured it: from sending to the first byte, corrected by nothing.
#[derive(Clone, Debug, Serialize)]
pub struct Requests {
    /// Method and path.
    pub name: String,
    /// How many.
    pub count: usize,
    /// How many were answered with an error, or not at all.
    pub failed: usize,
    /// Answers by status.
    pub statuses: BTreeMap<u16, usize>,
    /// Median, in milliseconds.
    pub p50_ms: f64,
    /// 99th percentile.
    pub p99_ms: f64,
}

/// What reconcile found.
#[derive(Clone, Debug, Serialize)]
pub struct Books {
    /// Whether they agree.
    pub clean: bool,
    /// Its lines.
    pub lines: Vec<String>,
}

/// What must hold, and whether it did.
#[derive(Clone, Debug, Serialize)]
pub struct Check {
    /// What.
    pub what: String,
    /// What was measured.
    pub measured: String,
    /// Whether it held.
    pub held: bool,
}

/// A phase.
#[derive(Clone, Debug, Serialize)]
pub struct PhaseReport {
    /// Orders that were to arrive per second.
    pub rate: f64,
    /// For how long.
    pub seconds: f64,
    /// Whether the stack followed, within the limits.
    pub kept_up: bool,
    /// What it came to.
    pub result: PhaseResult,
    /// Processor time per order that came to rest, in milliseconds, by part.
    pub cpu_ms_per_order: BTreeMap<String, f64>,
    /// Processors in use, by part.
    pub cores: BTreeMap<String, f64>,
}

/// A part of the stack.
#[derive(Clone, Debug, Serialize)]
pub struct Part {
    /// Its name.
    pub name: String,
    /// Processor time per order that came to rest, in milliseconds, from the first arrival to the last rest.
    pub cpu_ms_per_order: f64,
    /// Processors in use before the first arrival.
    pub calm_cores: f64,
    /// The most memory that it had, in MiB.
    pub memory_mib: f64,
}

/// Everything about a run.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// What was to be done.
    pub profile: Profile,
    /// How arrivals were spread: `Poisson` or `Constant`.
    pub spread: String,
    /// By which seed.
    pub seed: u64,
    /// Users of goose.
    pub users: usize,
    /// Which ways orders took: `choreography`, `orchestration` or `both`.
    pub coordination: &'static str,
    /// Processors of the machine.
    pub processors: usize,
    /// The processors' name.
    pub machine: String,
    /// Whether somebody stopped it.
    pub interrupted: bool,
    /// What must hold.
    pub checks: Vec<Check>,
    /// The highest rate of a phase at which the stack kept up, and at every lower one.
    pub sustained: f64,
    /// Of the whole run.
    pub totals: Totals,
    /// Phase by phase, as far as it went.
    pub phases: Vec<PhaseReport>,
    /// Latencies to rest by scenario.
    pub scenarios: Vec<(&'static str, Summary)>,
    /// What goose measured.
    pub requests: Vec<Requests>,
    /// What the watching cost.
    pub watching: Cost,
    /// The parts, the greediest first.
    pub parts: Vec<Part>,
    /// What reconcile found; nothing if it could not look.
    pub books: Option<Books>,
    /// Second by second.
    pub seconds: Vec<SecondResult>,
    /// Sample by sample; the first arrival is at 0 s.
    pub samples: Vec<Sample>,
}

impl Report {
    /// Sums a run up, and judges it.
    pub fn new(run: Run) -> Self {
        let samples: Vec<Sample> = run
            .samples
            .iter()
            .map(|sample| Sample {
                at: sample.at - run.offset,
                ..sample.clone()
            })
            .collect();
        let seconds = run.board.seconds();
        let totals = run.board.totals();
        let (profile, limits) = (&run.profile, run.profile.limits);
        let phases: Vec<PhaseReport> = profile
            .phases
            .iter()
            .zip(profile.spans())
            .enumerate()
            .map(|(index, (phase, span))| {
                let result = run.board.phase(index, span);
                let (cpu_ms_per_order, cores) = cost(&samples, &seconds, span);
                PhaseReport {
                    rate: phase.rate,
                    seconds: phase.seconds,
                    kept_up: index < run.phases_done && result.keeps_up(&limits),
                    result,
                    cpu_ms_per_order,
                    cores,
                }
            })
            .filter(|phase| phase.result.offered > 0)
            .collect();
        let sustained = phases
            .iter()
            .take_while(|phase| phase.kept_up)
            .map(|phase| phase.rate)
            .fold(0.0, f64::max);
        let mut report = Self {
            spread: format!("{:?}", run.spread),
            seed: run.seed,
            users: run.users,
            coordination: run.ways.name(),
            processors: std::thread::available_parallelism().map_or(0, usize::from),
            machine: machine(),
            interrupted: run.interrupted,
            checks: Vec::new(),
            sustained,
            parts: parts(&samples, totals.rested),
            totals,
            phases,
            scenarios: run.board.scenarios(),
            requests: run.requests,
            watching: run.watching,
            books: run.books,
            seconds,
            samples,
            profile: run.profile,
        };
        report.checks = report.judge();
        report
    }

    /// Whether everything held.
    pub fn passed(&self) -> bool {
        !self.interrupted && self.checks.iter().all(|check| check.held)
    }

    fn judge(&self) -> Vec<Check> {
        let limits = self.profile.limits;
        // What lies beyond saturation is looked for, and is no fault.
        let counted: Vec<&PhaseReport> = self
            .phases
            .iter()
            .filter(|phase| !self.profile.to_saturation || phase.kept_up)
            .collect();
        let worst = counted
            .iter()
            .map(|phase| phase.result.to_rest.p99_ms)
            .fold(0.0, f64::max);
        let sum = |of: fn(&PhaseReport) -> u64| counted.iter().map(|phase| of(phase)).sum::<u64>();
        let (offered, failed) = (sum(|p| p.result.offered), sum(|p| p.result.failed));
        let unexpected: u64 = self
            .totals
            .errors
            .iter()
            .filter(|(kind, _)| kind.contains(" ended "))
            .map(|(_, count)| count)
            .sum();
        #[expect(clippy::cast_precision_loss, reason = "counts of orders")]
        let errors = failed as f64 / offered.max(1) as f64;
        let check = |what: String, measured: String, held: bool| Check {
            what,
            measured,
            held,
        };
        vec![
            check(
                format!(
                    "99 of 100 orders are at rest within {:.0} ms",
                    limits.p99_to_rest_ms
                ),
                format!("{worst:.0} ms in the worst phase"),
                offered > 0 && worst <= limits.p99_to_rest_ms,
            ),
            check(
                format!(
                    "at most {} % of the arrivals get no order",
                    limits.errors * 100.0
                ),
                format!("{:.3} % ({failed} of {offered})", errors * 100.0),
                offered > 0 && errors <= limits.errors,
            ),
            check(
                "orders end as their scenario says".to_owned(),
                format!("{unexpected} otherwise"),
                unexpected == 0,
            ),
            check(
                format!("{:.0} orders per second are sustained", limits.sustained),
                if self.profile.to_saturation {
                    format!("{:.0} per second", self.sustained)
                } else {
                    let least = self
                        .phases
                        .iter()
                        .map(|p| p.result.rest_rate / p.result.offered_rate.max(0.01));
                    let least = least.fold(f64::INFINITY, f64::min);
                    format!(
                        "in the worst phase {:.0} % of what arrived",
                        least.min(1.0) * 100.0
                    )
                },
                if self.profile.to_saturation {
                    self.sustained >= limits.sustained
                } else {
                    // After a spike the backlog of the spike comes to rest, too.
                    self.phases
                        .iter()
                        .all(|p| p.result.rest_rate >= 0.9 * p.result.offered_rate.min(p.rate))
                },
            ),
            check(
                "every accepted order comes to rest".to_owned(),
                format!("{} of {}", self.totals.rested, self.totals.accepted),
                self.totals.waiting == 0,
            ),
            match &self.books {
                None => check(
                    "the books agree".to_owned(),
                    "not looked at: no books were named".to_owned(),
                    true,
                ),
                Some(books) => check(
                    "the books agree".to_owned(),
                    books.lines.last().cloned().unwrap_or_default(),
                    books.clean,
                ),
            },
        ]
    }

    /// Writes `report.html` and `report.json`.
    pub fn write(&self, folder: &Path) -> anyhow::Result<()> {
        let write = |name: &str, text: String| {
            let path = folder.join(name);
            std::fs::write(&path, text).with_context(|| path.display().to_string())
        };
        write("report.json", serde_json::to_string(self)?)?;
        write("report.html", page::render(self))
    }

    /// The verdict and the tables, for a terminal.
    pub fn summary(&self) -> String {
        page::terminal(self)
    }
}

/// What the processors are called.
fn machine() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info
        .lines()
        .find_map(|line| line.strip_prefix("model name"));
    model.map_or_else(String::new, |line| {
        line.trim_start_matches([' ', '\t', ':']).to_owned()
    })
}

/// Processor time per order that came to rest, and processors in use, by part, within a span of time.
fn cost(
    samples: &[Sample],
    seconds: &[SecondResult],
    (from, to): (f64, f64),
) -> (BTreeMap<String, f64>, BTreeMap<String, f64>) {
    let within: Vec<&Sample> = samples
        .iter()
        .filter(|sample| sample.at >= from && sample.at <= to)
        .collect();
    let (Some(first), Some(last)) = (within.first(), within.last()) else {
        return (BTreeMap::new(), BTreeMap::new());
    };
    let length = last.at - first.at;
    if length < 2.0 {
        return (BTreeMap::new(), BTreeMap::new());
    }
    // Orders by whole seconds, processor time by the samples in between: both as rates.
    #[expect(clippy::cast_precision_loss, reason = "counts and seconds")]
    let rested = {
        let inside = |second: &&SecondResult| {
            let at = second.second as f64;
            at >= from && at + 1.0 <= to
        };
        let rested: u64 = seconds
            .iter()
            .filter(inside)
            .map(|second| second.rested)
            .sum();
        rested as f64 / seconds.iter().filter(inside).count().max(1) as f64
    };
    let cores: BTreeMap<String, f64> = used(&first.parts, &last.parts)
        .into_iter()
        .map(|(name, ms)| (name, ms / 1000.0 / length))
        .collect();
    let per_order = cores
        .iter()
        .filter(|_| rested > 0.0)
        .map(|(name, cores)| (name.clone(), cores * 1000.0 / rested))
        .collect();
    (per_order, cores)
}

fn parts(samples: &[Sample], rested: u64) -> Vec<Part> {
    let none = Snapshot::new();
    let first = samples.first().map_or(&none, |sample| &sample.parts);
    let begin = samples.iter().rfind(|sample| sample.at <= 0.0);
    let (begin, calm) = begin.map_or((first, 0.0), |sample| {
        (&sample.parts, sample.at - samples[0].at)
    });
    let last = samples.last().map_or(&none, |sample| &sample.parts);
    let (before, during) = (used(first, begin), used(begin, last));
    let mut parts: Vec<Part> = during
        .into_iter()
        .filter(|(name, _)| name != ELSE)
        .map(|(name, ms)| Part {
            #[expect(clippy::cast_precision_loss, reason = "a count of orders")]
            cpu_ms_per_order: ms / rested.max(1) as f64,
            calm_cores: before
                .get(&name)
                .map_or(0.0, |ms| ms / 1000.0 / calm.max(1.0)),
            memory_mib: samples
                .iter()
                .filter_map(|sample| Some(sample.parts.get(&name)?.memory_mib))
                .fold(0.0, f64::max),
            name,
        })
        .collect();
    parts.sort_by(|a, b| b.cpu_ms_per_order.total_cmp(&a.cpu_ms_per_order));
    parts
}
