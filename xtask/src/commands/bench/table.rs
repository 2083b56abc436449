//! The table, made from criterion's estimates.

use std::{collections::BTreeMap, fmt::Write as _};

use crate::{Result, error};

/// Medians in nanoseconds, by row and column.
pub(super) type Measured = BTreeMap<(String, String), f64>;

/// Rows that are measured in the same way, and so can be compared.
struct Group {
    name: &'static str,
    /// The columns: numbers of threads, or of operations in flight.
    columns: [&'static str; 2],
    /// The row that the others are compared with.
    reference: &'static str,
    rows: &'static [(&'static str, &'static str, Asked)],
}

/// The project's budget for a row.
#[derive(Clone, Copy)]
enum Asked {
    Nothing,
    /// At most so many times the reference, in both columns.
    Times(f64),
    /// At most so many nanoseconds, in both columns.
    Nanoseconds(f64),
    /// At most so many times the reference in the first column, and at least so many a second in the second.
    TimesAndRate(f64, f64),
}

const GROUPS: &[Group] = &[
    Group {
        name: "breaker",
        columns: ["1", "2"],
        reference: "recloser",
        rows: &[
            ("recloser", "`recloser`", Asked::Nothing),
            ("failsafe", "`failsafe`, consecutive", Asked::Nothing),
            (
                "holdfast-consecutive",
                "**breaker, consecutive**",
                Asked::Times(1.5),
            ),
            ("holdfast-rate", "**breaker, failure rate**", Asked::Nothing),
            (
                "holdfast-slow-call-rate",
                "**breaker, slow-call rate** (two clock reads)",
                Asked::Nothing,
            ),
        ],
    },
    Group {
        name: "breaker-awaited",
        columns: ["1", "2"],
        reference: "recloser",
        rows: &[
            ("recloser", "`recloser`, awaited", Asked::Nothing),
            (
                "failsafe",
                "`failsafe`, consecutive, awaited",
                Asked::Nothing,
            ),
            (
                "tower-resilience",
                "`tower-resilience`, consecutive, awaited",
                Asked::Nothing,
            ),
            (
                "holdfast-consecutive",
                "**breaker, consecutive**, awaited",
                Asked::Times(1.5),
            ),
            (
                "holdfast-rate",
                "**breaker, failure rate**, awaited",
                Asked::Nothing,
            ),
            (
                "holdfast-slow-call-rate",
                "**breaker, slow-call rate** (two clock reads), awaited",
                Asked::Nothing,
            ),
        ],
    },
    Group {
        name: "pipeline",
        columns: ["1", "2"],
        reference: "tower",
        rows: &[
            (
                "nothing",
                "the call without anything around it",
                Asked::Nothing,
            ),
            (
                "tower",
                "`tower`: timeout, retry with budget, `tower-resilience`, concurrency limit",
                Asked::Nothing,
            ),
            (
                "holdfast-without-clock",
                "**pipeline** without clock reads",
                Asked::Nanoseconds(150.0),
            ),
            (
                "holdfast-with-clock",
                "**pipeline** with all clock reads",
                Asked::Nothing,
            ),
        ],
    },
    Group {
        name: "lock",
        columns: ["1", "64"],
        reference: "get",
        rows: &[
            ("get", "a bare GET", Asked::Nothing),
            ("rslock", "`rslock`: lock, unlock", Asked::Nothing),
            (
                "holdfast",
                "**lock, with fence, and unlock**",
                Asked::TimesAndRate(2.2, 60_000.0),
            ),
        ],
    },
];

/// Returns the GROUP/ROW of each line of the table.
pub(super) fn rows() -> impl Iterator<Item = String> {
    let rows = |group: &'static Group| {
        group
            .rows
            .iter()
            .map(|(row, ..)| format!("{}/{row}", group.name))
    };
    GROUPS.iter().flat_map(rows)
}

/// Parses `ratio GROUP/ROW COLUMN R`: a row as a multiple of the reference, both measured in turns.
pub(super) fn ratio(line: &str) -> Option<((String, String), f64)> {
    let mut words = line.strip_prefix("ratio ")?.split(' ');
    let (row, column) = (words.next()?.to_owned(), words.next()?.to_owned());
    Some(((row, column), words.next()?.parse().ok()?))
}

/// Parses `allocations GROUP/ROW N in M calls` into a row and the allocations per call.
pub(super) fn allocations(line: &str) -> Option<(String, f64)> {
    let mut words = line.strip_prefix("allocations ")?.split(' ');
    let row = words.next()?.to_owned();
    let all: f64 = words.next()?.parse().ok()?;
    let calls: f64 = words.nth(1)?.parse().ok()?;
    Some((row, all / calls))
}

/// Returns the median from criterion's `estimates.json`: unlike the mean it is not moved by a machine's hiccups.
pub(super) fn median(estimates: &str) -> Result<f64> {
    let after = |text: &str, key: &str| {
        let found = text.split_once(&format!("\"{key}\":"));
        found.map(|(_, rest)| rest.to_owned())
    };
    let number = after(estimates, "median").and_then(|rest| after(&rest, "point_estimate"));
    let number = number.and_then(|rest| rest.split([',', '}']).next()?.trim().parse().ok());
    number.ok_or_else(|| error("criterion's estimates have no median"))
}

/// Returns the table of all rows that were measured. The ratios in `in_turns` replace those computed from the medians.
pub(super) fn markdown(
    measured: &Measured,
    in_turns: &Measured,
    allocations: &BTreeMap<String, f64>,
) -> Result<String> {
    let mut text = String::from(
        "| a call that succeeds | 1 thread | 2 threads | ratio | allocations | asked for |\n\
         | --- | ---: | ---: | --- | ---: | --- |",
    );
    let mut lines = 0;
    for group in GROUPS {
        let cell = |row: &str, column: usize| {
            let row = format!("{}/{row}", group.name);
            (row, group.columns[column].to_owned())
        };
        let of = |row: &str, column: usize| measured.get(&cell(row, column)).copied();
        let times = |row: &str, column: usize| {
            let reckoned = || Some(of(row, column)? / of(group.reference, column)?);
            let in_turns = in_turns.get(&cell(row, column)).copied();
            in_turns.or_else(reckoned)
        };
        if group.name == "lock" && of(group.reference, 0).is_some() {
            text.push_str("\n| | **1 in flight** | **64 in flight** | | | |");
        }
        for (row, title, asked) in group.rows {
            let (Some(one), Some(more)) = (of(row, 0), of(row, 1)) else {
                continue;
            };
            lines += 1;
            let ratios = times(row, 0).zip(times(row, 1));
            let ratios = ratios.filter(|_| *row != group.reference);
            let ratio =
                ratios.map(|(one, more)| format!("{one:.2} and {more:.2} × `{}`", group.reference));
            let each = allocations.get(&format!("{}/{row}", group.name));
            let _ = write!(
                text,
                "\n| {title} | {} | {} | {} | {} | {} |",
                span(one),
                if group.name == "lock" {
                    rate(more)
                } else {
                    span(more)
                },
                ratio.unwrap_or_default(),
                each.map(|each| format!("{each:.0}")).unwrap_or_default(),
                answer(*asked, one, more, ratios),
            );
        }
    }
    if lines == 0 {
        return Err(error("nothing was measured: no benchmark has that name"));
    }
    Ok(text)
}

/// Returns a row's budget, and "yes" or "no" for whether the row is within it.
fn answer(asked: Asked, one: f64, more: f64, ratios: Option<(f64, f64)>) -> String {
    let (wanted, is_so) = match (asked, ratios) {
        (Asked::Nothing, _) | (Asked::Times(_) | Asked::TimesAndRate(..), None) => {
            return String::new();
        }
        (Asked::Times(most), Some((one, more))) => {
            (format!("≤ {most} ×"), one <= most && more <= most)
        }
        (Asked::Nanoseconds(most), _) => (format!("≤ {most} ns"), one <= most && more <= most),
        (Asked::TimesAndRate(most, least), Some((ratio, _))) => (
            format!("≤ {most} × 1 in flight, ≥ {:.0} k/s with 64", least / 1e3),
            ratio <= most && per_second(more) >= least,
        ),
    };
    format!("{wanted}: {}", if is_so { "yes" } else { "**no**" })
}

fn per_second(nanoseconds: f64) -> f64 {
    1e9 / nanoseconds
}

fn span(nanoseconds: f64) -> String {
    match nanoseconds {
        ..100.0 => format!("{nanoseconds:.1} ns"),
        ..10_000.0 => format!("{nanoseconds:.0} ns"),
        _ => format!("{:.1} µs", nanoseconds / 1e3),
    }
}

fn rate(nanoseconds: f64) -> String {
    format!("{:.1} k/s", per_second(nanoseconds) / 1e3)
}
