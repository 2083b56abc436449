//! The report on the copies, and on their tests.

use std::{fmt::Write as _, time::Duration};

/// A copy that builds and passes its tests.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) pattern: String,
    /// The pattern's folder and those that it has edges to.
    pub(super) folders: usize,
    /// Lines of the pattern's own folder, without comments and tests.
    pub(super) lines_of_code: usize,
    /// Dependencies in its manifest, without theirs.
    pub(super) dependencies: usize,
    pub(super) unit_tests: usize,
    pub(super) doc_tests: usize,
    pub(super) took: Duration,
}

/// Returns the number of tests that passed, by the closing lines of cargo's test runner.
pub(super) fn passed(log: &str) -> usize {
    let results = log
        .lines()
        .filter_map(|line| line.strip_prefix("test result: ok. "));
    results
        .filter_map(|line| line.split(' ').next()?.parse::<usize>().ok())
        .sum()
}

/// Returns the table, for a person.
pub(super) fn table(rows: &[Row]) -> String {
    let width = rows
        .iter()
        .map(|row| row.pattern.len())
        .max()
        .unwrap_or(0)
        .max("pattern".len());
    let mut text = format!(
        "{:width$}  lines of code  folders  crates  unit tests  doc tests  seconds",
        "pattern"
    );
    for row in rows {
        let _ = write!(
            text,
            "\n{:width$}  {:13}  {:7}  {:6}  {:10}  {:9}  {:7.1}",
            row.pattern,
            row.lines_of_code,
            row.folders,
            row.dependencies,
            row.unit_tests,
            row.doc_tests,
            row.took.as_secs_f64()
        );
    }
    let (unit, doc) = rows.iter().fold((0, 0), |(unit, doc), row| {
        (unit + row.unit_tests, doc + row.doc_tests)
    });
    let _ = write!(
        text,
        "\n{} patterns copied, each built alone: {unit} unit tests and {doc} doc tests passed",
        rows.len()
    );
    text
}
