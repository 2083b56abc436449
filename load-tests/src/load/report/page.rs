//! The page: one file that needs no other.

use std::{collections::BTreeSet, fmt::Write};

use super::{
    Report,
    plot::{Line, Plot, escape},
};
use crate::{
    load::{processes::ELSE, quantiles::Summary, sampler::Sample},
    table,
};

const STYLE: &str = include_str!("page.css");

/// The head and the rows of a table.
type Table = (Vec<&'static str>, Vec<Vec<String>>);

/// Returns the whole page as HTML.
pub(super) fn render(report: &Report) -> String {
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>Load: {name}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<h1>Load: {name}</h1>\n\
         <p class=\"{class}\">{verdict}</p>\n",
        name = report.profile.name,
        class = if report.passed() { "good" } else { "bad" },
        verdict = verdict(report),
    );
    let _ = writeln!(
        page,
        "<p>{} orders arrived (coordination: {}; seed {}, {} arrivals), served by {} users of goose; {} processors ({}).</p>",
        report.totals.offered,
        report.coordination,
        report.seed,
        report.spread,
        report.users,
        report.processors,
        escape(&report.machine),
    );
    let mut section = |title: &str, about: &str, table: &Table| {
        let _ = write!(page, "<h2>{title}</h2>\n<p>{about}</p>\n{}", html(table));
    };
    section("What must hold", "", &checks(report));
    section(
        "Phases",
        "Latency begins when an order was meant to arrive. \"Late\" is a request that could only be sent more than 20 ms after \
         that. Processor time is that of the whole stack without the load generator, per order that came to rest.",
        &phases(report),
    );
    for plot in plots(report) {
        page.push_str(&plot.render());
    }
    let mut section = |title: &str, about: &str, table: &Table| {
        let _ = write!(page, "<h2>{title}</h2>\n<p>{about}</p>\n{}", html(table));
    };
    section(
        "Processor time and memory by part",
        "From the first arrival to the last order's rest. \"Cores before\" is a part's use while the stack is idle.",
        &parts(report),
    );
    section("To rest, by scenario", "", &scenarios(report));
    section(
        "Requests, as goose measured them",
        "From sending to the first byte: not corrected for late starts. To see what customers saw, use the table of phases.",
        &requests(report),
    );
    section("Errors", "", &errors(report));
    let watching = report.watching;
    let _ = writeln!(
        page,
        "<h2>Cost of watching the orders</h2>\n<p>{} requests to the order service looked at {} orders, {:.1} s in all; {} failed. \
         The service's clock is known to {:.1} ms.</p>",
        watching.pages,
        watching.orders,
        watching.busy_seconds,
        watching.failed,
        report.totals.clock_uncertainty_ms
    );
    let books = report.books.as_ref().map_or_else(
        || "Not reconciled: no books were named.".to_owned(),
        |books| books.lines.join("\n"),
    );
    let _ = writeln!(
        page,
        "<h2>Reconcile</h2>\n<pre>{}</pre>\n</body>\n</html>",
        escape(&books)
    );
    page
}

/// Returns the verdict and the tables, for a terminal.
pub(super) fn terminal(report: &Report) -> String {
    let mut text = String::new();
    for (head, rows) in [checks(report), phases(report), parts(report)] {
        let _ = write!(text, "\n{}\n", table::render(&head, &rows));
    }
    let _ = write!(text, "\n{}", verdict(report));
    text
}

fn verdict(report: &Report) -> String {
    let outcome = match (report.interrupted, report.passed()) {
        (true, _) => "Stopped before its end",
        (false, true) => "Passed",
        (false, false) => "Failed",
    };
    let sustained = if report.profile.to_saturation {
        format!("; {:.0} orders per second are sustained", report.sustained)
    } else {
        String::new()
    };
    let to_rest = report.totals.to_rest;
    format!(
        "{outcome}: {} of {} accepted orders at rest, after p50 {:.0} ms, p95 {:.0} ms, p99 {:.0} ms{sustained}.",
        report.totals.rested,
        report.totals.accepted,
        to_rest.p50_ms,
        to_rest.p95_ms,
        to_rest.p99_ms
    )
}

fn checks(report: &Report) -> Table {
    let rows = report.checks.iter().map(|check| {
        let held = if check.held { "yes" } else { "NO" };
        vec![check.what.clone(), check.measured.clone(), held.to_owned()]
    });
    (vec!["what must hold", "measured", "holds"], rows.collect())
}

/// Returns true for a part of the stack itself; false for generator, auditor and other programs.
fn is_of_the_stack(name: &str) -> bool {
    name != ELSE && name != "load generator" && name != "postgres (the auditor's)"
}

fn phases(report: &Report) -> Table {
    let head = vec![
        "per second",
        "for",
        "arrived",
        "accepted",
        "at rest per s",
        "to rest p50",
        "p95",
        "p99",
        "to answer p99",
        "late",
        "no order",
        "stack ms/order",
        "generator ms/order",
        "cores: stack",
        "cores: others",
        "kept up",
    ];
    let rows = report.phases.iter().map(|phase| {
        let result = &phase.result;
        let sum = |of: &std::collections::BTreeMap<String, f64>| -> f64 {
            of.iter()
                .filter(|(name, _)| is_of_the_stack(name))
                .map(|(_, value)| value)
                .sum()
        };
        let one = |of: &std::collections::BTreeMap<String, f64>, name: &str| {
            of.get(name).copied().unwrap_or(0.0)
        };
        vec![
            format!("{:.0}", phase.rate),
            format!("{:.0} s", phase.seconds),
            result.offered.to_string(),
            result.accepted.to_string(),
            format!("{:.1}", result.rest_rate),
            millis(result.to_rest.p50_ms),
            millis(result.to_rest.p95_ms),
            millis(result.to_rest.p99_ms),
            millis(result.to_answer.p99_ms),
            result.late.to_string(),
            result.failed.to_string(),
            format!("{:.2}", sum(&phase.cpu_ms_per_order)),
            format!("{:.2}", one(&phase.cpu_ms_per_order, "load generator")),
            format!("{:.2}", sum(&phase.cores)),
            format!("{:.2}", one(&phase.cores, ELSE)),
            if phase.kept_up { "yes" } else { "no" }.to_owned(),
        ]
    });
    (head, rows.collect())
}

fn parts(report: &Report) -> Table {
    let total: f64 = report.parts.iter().map(|part| part.cpu_ms_per_order).sum();
    let rows = report.parts.iter().map(|part| {
        vec![
            part.name.clone(),
            format!("{:.2}", part.cpu_ms_per_order),
            format!("{:.0} %", 100.0 * part.cpu_ms_per_order / total.max(0.001)),
            format!("{:.3}", part.calm_cores),
            format!("{:.0}", part.memory_mib),
        ]
    });
    let mut rows: Vec<Vec<String>> = rows.collect();
    let stack: f64 = report
        .parts
        .iter()
        .filter(|part| is_of_the_stack(&part.name))
        .map(|part| part.cpu_ms_per_order)
        .sum();
    let memory: f64 = report
        .parts
        .iter()
        .filter(|part| is_of_the_stack(&part.name))
        .map(|part| part.memory_mib)
        .sum();
    rows.push(vec![
        "the stack, without generator and auditor".to_owned(),
        format!("{stack:.2}"),
        format!("{:.0} %", 100.0 * stack / total.max(0.001)),
        String::new(),
        format!("{memory:.0}"),
    ]);
    let head = vec![
        "part",
        "ms of processor per order",
        "share",
        "cores before",
        "most MiB",
    ];
    (head, rows)
}

fn latencies((name, summary): (&str, Summary)) -> Vec<String> {
    let Summary {
        count,
        p50_ms,
        p95_ms,
        p99_ms,
        max_ms,
    } = summary;
    let mut row = vec![name.to_owned(), count.to_string()];
    row.extend([p50_ms, p95_ms, p99_ms, max_ms].map(millis));
    row
}

fn scenarios(report: &Report) -> Table {
    let undone = (
        "cancelled after the confirmation, from the cancel to the undoing",
        report.totals.undone,
    );
    let all = ("all", report.totals.to_rest);
    let rows = report
        .scenarios
        .iter()
        .copied()
        .chain([all, undone])
        .map(latencies);
    (
        vec!["scenario", "orders", "p50", "p95", "p99", "longest"],
        rows.collect(),
    )
}

fn requests(report: &Report) -> Table {
    let rows = report.requests.iter().map(|request| {
        let statuses: Vec<String> = request
            .statuses
            .iter()
            .map(|(status, count)| format!("{count} × {status}"))
            .collect();
        vec![
            request.name.clone(),
            request.count.to_string(),
            request.failed.to_string(),
            statuses.join(", "),
            millis(request.p50_ms),
            millis(request.p99_ms),
        ]
    });
    (
        vec!["request", "sent", "failed", "answers", "p50", "p99"],
        rows.collect(),
    )
}

fn errors(report: &Report) -> Table {
    let mut rows: Vec<Vec<String>> = report
        .totals
        .errors
        .iter()
        .map(|(kind, count)| vec![kind.clone(), count.to_string()])
        .collect();
    if rows.is_empty() {
        rows.push(vec!["none".to_owned(), String::new()]);
    }
    (vec!["kind", "how often"], rows)
}

#[expect(clippy::cast_precision_loss, reason = "counts")]
fn plots(report: &Report) -> Vec<Plot<'static>> {
    let mut marks: Vec<f64> = vec![0.0];
    for phase in &report.phases {
        marks.push(marks.last().copied().unwrap_or(0.0) + phase.seconds);
    }
    let by_second = |of: fn(&crate::load::board::SecondResult) -> Option<f64>| {
        report
            .seconds
            .iter()
            .filter_map(|second| Some((second.second as f64, of(second)?)))
            .collect::<Vec<_>>()
    };
    let by_sample = |of: &dyn Fn(&Sample) -> Option<f64>| {
        report
            .samples
            .iter()
            .filter_map(|sample| Some((sample.at, of(sample)?)))
            .collect::<Vec<_>>()
    };
    let line = |name: &str, points| Line {
        name: name.to_owned(),
        points,
    };
    let names: BTreeSet<&str> = report.parts.iter().map(|part| part.name.as_str()).collect();
    let per_part = |of: &dyn Fn(&str) -> Vec<(f64, f64)>| {
        let lines = names.iter().map(|name| line(name, of(name)));
        lines
            .filter(|line| line.points.iter().any(|(_, y)| *y > 0.001))
            .collect::<Vec<_>>()
    };
    let queues: BTreeSet<&String> = depths(report)
        .flat_map(|depths| depths.queues.keys())
        .collect();
    let outboxes: BTreeSet<&String> = depths(report)
        .flat_map(|depths| depths.outboxes.keys())
        .collect();
    let plot = |title, unit, logarithmic, lines| Plot {
        title,
        unit,
        logarithmic,
        lines,
        marks: marks.clone(),
    };
    vec![
        plot(
            "Orders",
            "per second",
            false,
            vec![
                line("arrive", by_second(|second| Some(second.offered as f64))),
                line("accepted", by_second(|second| Some(second.accepted as f64))),
                line(
                    "come to rest",
                    by_second(|second| Some(second.rested as f64)),
                ),
                line("no order", by_second(|second| Some(second.failed as f64))),
            ],
        ),
        plot(
            "Latency to rest, by the second of the rest",
            "ms, logarithmic",
            true,
            [
                ("p50", (|s| s.p50_ms) as fn(Summary) -> f64),
                ("p95", |s| s.p95_ms),
                ("p99", |s| s.p99_ms),
            ]
            .map(|(name, of)| Line {
                name: name.to_owned(),
                points: report
                    .seconds
                    .iter()
                    .filter(|second| second.to_rest.count > 0)
                    .map(|second| (second.second as f64, of(second.to_rest)))
                    .collect(),
            })
            .into(),
        ),
        plot(
            "In flight: accepted, not at rest",
            "orders",
            false,
            vec![line(
                "in flight",
                by_second(|second| Some(second.in_flight as f64)),
            )],
        ),
        plot(
            "Queues",
            "messages",
            false,
            queues
                .iter()
                .map(|name| {
                    let of = |sample: &Sample| {
                        let depths = sample.depths.as_ref()?;
                        Some(depths.queues.get(*name).copied().unwrap_or(0) as f64)
                    };
                    line(name, by_sample(&of))
                })
                .collect(),
        ),
        plot(
            "Outboxes",
            "rows",
            false,
            outboxes
                .iter()
                .map(|name| {
                    let of = |sample: &Sample| {
                        let depths = sample.depths.as_ref()?;
                        Some(depths.outboxes.get(*name).copied().unwrap_or(0) as f64)
                    };
                    line(name, by_sample(&of))
                })
                .collect(),
        ),
        plot("Processors in use", "cores", false, {
            let mut lines = per_part(&|name| cores(report, name));
            lines.push(line(ELSE, cores(report, ELSE)));
            lines
        }),
        plot(
            "Memory",
            "MiB, own pages",
            false,
            per_part(&|name| by_sample(&|sample| Some(sample.parts.get(name)?.memory_mib))),
        ),
    ]
}

fn depths(report: &Report) -> impl Iterator<Item = &crate::load::depths::Depths> {
    report
        .samples
        .iter()
        .filter_map(|sample| sample.depths.as_ref())
}

/// Returns the processors that a part uses between one sample and the next.
fn cores(report: &Report, name: &str) -> Vec<(f64, f64)> {
    report
        .samples
        .windows(2)
        .filter_map(|pair| {
            let (before, after) = (pair[0].parts.get(name)?, pair[1].parts.get(name)?);
            #[expect(clippy::cast_precision_loss, reason = "milliseconds")]
            let ms = after.cpu_ms.saturating_sub(before.cpu_ms) as f64;
            Some((pair[1].at, ms / 1000.0 / (pair[1].at - pair[0].at)))
        })
        .collect()
}

fn html((head, rows): &Table) -> String {
    let cells = |tag: &str, cells: &mut dyn Iterator<Item = &str>| {
        cells.fold(String::new(), |row, cell| {
            let class = if cell == "NO" { " class=\"bad\"" } else { "" };
            format!("{row}<{tag}{class}>{}</{tag}>", escape(cell))
        })
    };
    let mut html = format!(
        "<div class=\"table\"><table>\n<thead><tr>{}</tr></thead>\n<tbody>\n",
        cells("th", &mut head.iter().copied())
    );
    for row in rows {
        let _ = writeln!(
            html,
            "<tr>{}</tr>",
            cells("td", &mut row.iter().map(String::as_str))
        );
    }
    html + "</tbody>\n</table></div>\n"
}

fn millis(ms: f64) -> String {
    if ms < 10.0 {
        format!("{ms:.1} ms")
    } else {
        format!("{ms:.0} ms")
    }
}
