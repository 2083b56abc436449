//! `cargo xtask mutants --generated`: cargo-mutants over the files in which a defect would lose a message.
//!
//! It changes every condition, operator and return value in turn. A change that no test finds is listed in
//! `shared/holdfast/mutants/SURVIVORS.md` with the reason why it loses nothing. A survivor that is not listed fails the
//! command; a listed one that was found is reported.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    time::Duration,
};

use super::Bench;
use crate::{Context, Result, error, progress::say, workspace};

/// The tool that changes the code, with its version.
const TOOL: &str = "cargo-mutants@27.1.0";

/// The time limit of the tests of a file with one change, in seconds.
const PATIENCE: &str = "120";

/// Allows the test binaries their unstable flags. If the variable were set for the build as well, all dependencies
/// would be built again.
const RUNNER: &str =
    r#"--cargo-arg=--config=target."cfg(all())".runner=["env", "RUSTC_BOOTSTRAP=1"]"#;

/// A file to be changed.
struct Subject {
    /// Its path below `shared/holdfast/src`.
    file: &'static str,
    /// The target that tests it.
    target: &'static str,
    /// The beginnings of the names of its tests.
    tests: &'static [&'static str],
    /// Tests that find most changes, and are tried first; empty if all of them are quick.
    first: &'static [&'static str],
}

const SUBJECTS: [Subject; 7] = [
    Subject {
        file: "outbox/relay.rs",
        target: "--test=it",
        tests: &["outbox::"],
        first: &[],
    },
    Subject {
        file: "messaging/batch.rs",
        target: "--test=it",
        tests: CONSUMING,
        first: WORKING,
    },
    Subject {
        file: "messaging/consumer.rs",
        target: "--test=it",
        tests: CONSUMING,
        first: WORKING,
    },
    Subject {
        file: "messaging/queue.rs",
        target: "--test=it",
        tests: CONSUMING,
        first: WORKING,
    },
    Subject {
        file: "messaging/deliveries.rs",
        target: "--test=it",
        tests: CONSUMING,
        first: WORKING,
    },
    Subject {
        file: "inbox/mod.rs",
        target: "--test=it",
        tests: &["inbox::", "consumer::"],
        first: &["inbox::"],
    },
    Subject {
        file: "saga/transition.rs",
        target: "--lib",
        tests: &["saga::"],
        first: &[],
    },
];

const CONSUMING: &[&str] = &[
    "acknowledging::",
    "consumer::",
    "database_in_need::",
    "diverting::",
    "observer::",
    "parking::",
    "strangers::",
];

const WORKING: &[&str] = &[
    "acknowledging::message_is_acknowledged_only_after_the_commit",
    "consumer::bad_messages_are_parked_and_good_ones_are_unaffected",
    "consumer::message_that_succeeds_at_the_third_attempt_is_handled",
    "consumer::message_takes_effect_once_however_often_it_is_delivered",
];

/// Tries the files whose names contain one of `wanted`, or all files if it is empty.
pub(super) fn run(bench: &mut Bench, wanted: &[String]) -> Result<ExitCode> {
    let program = installed()?;
    let explained = explained()?;
    let mut survivors = BTreeSet::new();
    let mut tried = Vec::new();
    for subject in &SUBJECTS {
        if wanted.is_empty() || wanted.iter().any(|part| subject.file.contains(&**part)) {
            say(format!("{}: every change of it", subject.file));
            survivors.extend(change(bench, &program, subject)?);
            tried.push(subject.file);
        }
    }
    if tried.is_empty() {
        return Err(error(format!("no file is called {}", wanted.join(", "))));
    }
    for found in explained.difference(&survivors) {
        if tried.iter().any(|file| found.contains(file)) {
            say(format!("listed as a survivor, and found: {found}"));
        }
    }
    let unexplained: Vec<&String> = survivors.difference(&explained).collect();
    for survivor in &unexplained {
        say(format!("SURVIVED, and is not explained: {survivor}"));
    }
    say(format!(
        "{} survived, {} of them explained",
        survivors.len(),
        survivors.len() - unexplained.len()
    ));
    Ok(if unexplained.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Installs the tool below `target/tools` unless it is there, and returns its program.
fn installed() -> Result<PathBuf> {
    let home = workspace::target().join("tools");
    let program = home.join("bin/cargo-mutants");
    if !program.exists() {
        say(format!("installing {TOOL}"));
        let status = workspace::cargo()
            .args(["install", "--quiet", "--locked", "--debug", "--root"])
            .arg(&home)
            .arg(TOOL)
            .status()
            .context("cargo install")?;
        if !status.success() {
            return Err(error(format!("cargo install {TOOL}: {status}")));
        }
    }
    Ok(program)
}

/// Tries every change of a file in the copy, and returns the names of those that no test found.
fn change(bench: &mut Bench, program: &Path, subject: &Subject) -> Result<Vec<String>> {
    let output = workspace::target().join("mutants/generated");
    if output.exists() {
        fs::remove_dir_all(&output).context(output.display())?;
    }
    if !subject.first.is_empty() {
        tested_by(bench, program, subject, &output, (subject.first, "12"))?;
    }
    tested_by(bench, program, subject, &output, (subject.tests, "45"))?;
    let missed = output.join("mutants.out/missed.txt");
    let missed = fs::read_to_string(&missed).context(missed.display())?;
    Ok(numbered(missed.lines().map(name)))
}

/// Has every change tried that no earlier call has found, by the tests whose names begin with one of these. They wait
/// for anything at most `patience` seconds.
fn tested_by(
    bench: &mut Bench,
    program: &Path,
    subject: &Subject,
    output: &Path,
    (tests, patience): (&[&str], &str),
) -> Result {
    let mut mutants = Command::new(program);
    mutants
        .args(["mutants", "--in-place", "--iterate", "--no-shuffle"])
        .args(["--caught", "--timeout", PATIENCE, "--output"])
        .arg(output)
        .args(["--package=holdfast", "--features=holdfast/failpoints"])
        // With the features of every other build: what the workspace depends on is built already.
        .arg(format!("--cargo-arg=--package={}", workspace::FEATURES))
        .arg(format!("--cargo-arg={}", subject.target))
        .arg(RUNNER)
        .arg("--file")
        .arg(format!("shared/holdfast/src/{}", subject.file))
        .args(["--", "--"])
        .args(tests)
        // One failure is enough. The flag is not stable; where it is unknown, the unchanged code fails, too, which ends
        // the command.
        .args(["-Zunstable-options", "--fail-fast"])
        // They wait for servers and for time more than they work.
        .env("RUST_TEST_THREADS", "8")
        // Most changes are found by a wait that times out. The unchanged code passes with this limit, or all is
        // refused.
        .env("HOLDFAST_SHORT_PATIENCE", patience);
    let status = bench
        .run_in_copy(&mut mutants, Duration::MAX)?
        .ok_or_else(|| error(format!("{TOOL} did not end")))?;
    // 0: all were found; 2: some were missed; 3: some took too long, which is found as well.
    if matches!(status.code(), Some(0 | 2 | 3)) {
        Ok(())
    } else {
        Err(error(format!("{TOOL}: {status}")))
    }
}

/// Numbers changes of one name, to distinguish them: the second is listed as such.
pub(super) fn numbered(names: impl Iterator<Item = String>) -> Vec<String> {
    let mut seen = BTreeMap::new();
    names
        .map(|name| {
            let times = seen.entry(name.clone()).or_insert(0);
            *times += 1;
            match times {
                1 => name,
                times => format!("{name} ({times})"),
            }
        })
        .collect()
}

/// Returns the name of a change without its line and column, which vary.
fn name(line: &str) -> String {
    let mut parts = line.splitn(4, ':');
    match (parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some(file), Some(_), Some(_), Some(change)) => format!("{file}:{change}"),
        _ => line.to_owned(),
    }
}

/// Returns the survivors that are listed with their reasons.
fn explained() -> Result<BTreeSet<String>> {
    let list = super::book::folder().join("SURVIVORS.md");
    let text = fs::read_to_string(&list).context(list.display())?;
    let names = text
        .lines()
        .filter_map(|line| line.strip_prefix("- `")?.split_once('`'));
    Ok(names.map(|(name, _)| name.to_owned()).collect())
}
