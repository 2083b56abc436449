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

/// The results of a run, from which a report is made.
pub struct Run<'a> {
    /// The load that was run.
    pub profile: Profile,
    /// The distribution of arrivals.
    pub spread: Spread,
    /// The seed of the schedule.
    pub seed: u64,
    /// Users of goose.
    pub users: usize,
    /// The ways that orders took.
    pub ways: Ways,
    /// The outcome of the orders.
    pub board: &'a Board,
    /// The samples, by their own clock.
    pub samples: Vec<Sample>,
    /// The moment of the first arrival on that clock, in seconds.
    pub offset: f64,
    /// The number of phases that ran to their end.
    pub phases_done: usize,
    /// True if a signal stopped the run.
    pub interrupted: bool,
    /// The cost of watching the orders.
    pub watching: Cost,
    /// The statistics of goose.
    pub requests: Vec<Requests>,
    /// The result of reconciling; `None` if no books were named.
    pub books: Option<Books>,
}

/// The statistics of one kind of request by goose: from sending to the first byte, not corrected for late starts.
#[derive(Clone, Debug, Serialize)]
pub struct Requests {
    /// Method and path.
    pub name: String,
    /// Requests that were sent.
    pub count: usize,
    /// Requests that got an error status, or no response.
    pub failed: usize,
    /// Responses by status.
    pub statuses: BTreeMap<u16, usize>,
    /// Median, in milliseconds.
    pub p50_ms: f64,
    /// 99th percentile, in milliseconds.
    pub p99_ms: f64,
}

/// The result of reconciling.
#[derive(Clone, Debug, Serialize)]
pub struct Books {
    /// True if the books agree.
    pub clean: bool,
    /// The lines of the report of `reconcile`.
    pub lines: Vec<String>,
}

/// A condition of a passed run, and its result.
#[derive(Clone, Debug, Serialize)]
pub struct Check {
    /// The condition, in words.
    pub what: String,
    /// The measured value, in words.
    pub measured: String,
    /// True if the condition held.
    pub held: bool,
}

/// The results of a phase.
#[derive(Clone, Debug, Serialize)]
pub struct PhaseReport {
    /// Orders that were to arrive per second.
    pub rate: f64,
    /// The phase's duration, in seconds.
    pub seconds: f64,
    /// True if the stack kept up, within the limits.
    pub kept_up: bool,
    /// The counts and latencies.
    pub result: PhaseResult,
    /// Processor time per order that came to rest, in milliseconds, by part.
    pub cpu_ms_per_order: BTreeMap<String, f64>,
    /// Processors in use, by part.
    pub cores: BTreeMap<String, f64>,
}

/// A part of the stack.
#[derive(Clone, Debug, Serialize)]
pub struct Part {
    /// The part's name, as in a [`Snapshot`].
    pub name: String,
    /// Processor time per order that came to rest, in milliseconds, from the first arrival to the last rest.
    pub cpu_ms_per_order: f64,
    /// Processors in use before the first arrival.
    pub calm_cores: f64,
    /// The most memory that the part had, in MiB.
    pub memory_mib: f64,
}

/// The whole report of a run, as it is written to `report.json`.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The load that was run.
    pub profile: Profile,
    /// The distribution of arrivals: `Poisson` or `Constant`.
    pub spread: String,
    /// The seed of the schedule.
    pub seed: u64,
    /// Users of goose.
    pub users: usize,
    /// The ways that orders took: `choreography`, `orchestration` or `both`.
    pub coordination: &'static str,
    /// The number of the machine's processors.
    pub processors: usize,
    /// The processors' model name.
    pub machine: String,
    /// True if a signal stopped the run.
    pub interrupted: bool,
    /// The conditions of a passed run.
    pub checks: Vec<Check>,
    /// The highest rate of a phase at which the stack kept up, as it did at every lower one.
    pub sustained: f64,
    /// The counts and latencies of the whole run.
    pub totals: Totals,
    /// The phases in which customers arrived, in order.
    pub phases: Vec<PhaseReport>,
    /// Latencies to rest by scenario.
    pub scenarios: Vec<(&'static str, Summary)>,
    /// The statistics of goose.
    pub requests: Vec<Requests>,
    /// The cost of watching the orders.
    pub watching: Cost,
    /// The parts, by falling processor time per order.
    pub parts: Vec<Part>,
    /// The result of reconciling; `None` if no books were named.
    pub books: Option<Books>,
    /// The counts of each second.
    pub seconds: Vec<SecondResult>,
    /// The samples; the first arrival is at 0 s.
    pub samples: Vec<Sample>,
}

impl Report {
    /// Sums up a run, and judges it.
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

    /// Returns true if every condition held, and the run was not stopped.
    pub fn passed(&self) -> bool {
        !self.interrupted && self.checks.iter().all(|check| check.held)
    }

    fn judge(&self) -> Vec<Check> {
        let limits = self.profile.limits;
        // Phases beyond saturation are looked for, and do not count.
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
                    // After a spike its backlog comes to rest, too.
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
                    "not reconciled: no books were named".to_owned(),
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

    /// Writes `report.html` and `report.json` into a folder.
    pub fn write(&self, folder: &Path) -> anyhow::Result<()> {
        let write = |name: &str, text: String| {
            let path = folder.join(name);
            std::fs::write(&path, text).with_context(|| path.display().to_string())
        };
        write("report.json", serde_json::to_string(self)?)?;
        write("report.html", page::render(self))
    }

    /// Returns the verdict and the tables, for a terminal.
    pub fn summary(&self) -> String {
        page::terminal(self)
    }
}

/// Returns the model name of the processors, or an empty string.
fn machine() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info
        .lines()
        .find_map(|line| line.strip_prefix("model name"));
    model.map_or_else(String::new, |line| {
        line.trim_start_matches([' ', '\t', ':']).to_owned()
    })
}

/// Returns, by part, the processor time per order that came to rest in milliseconds, and the processors in use, within
/// a span of time.
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
    // Orders are counted by whole seconds, processor time by the samples in between: both become rates.
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
