//! `cargo xtask test`: runs every test, on real servers.

use std::{
    ffi::OsString,
    process::{Command, ExitCode, Stdio},
    time::Duration,
};

use lexopt::Parser;

use super::{exit_code, install, test_servers::TestServers};
use crate::{
    Context, Result, error, process,
    progress::say,
    workspace::{self, Claim},
};

/// The features of every build for tests.
const FEATURES: [&str; 2] = ["--features", "holdfast/failpoints"];

pub(super) fn run(mut arguments: Parser) -> Result<ExitCode> {
    let mut no_install = false;
    let mut passed_on = Vec::new();
    for argument in arguments.raw_args()? {
        if argument == "--no-install" && passed_on.is_empty() {
            no_install = true;
        } else {
            passed_on.push(argument);
        }
    }
    let claim = Claim::take("test")?;
    say(format!("private servers in {}", claim.folder.display()));

    // The compiler needs the processor, while the servers mostly wait: both at once.
    // The binaries as well, as e2e starts the services as processes.
    let mut binaries = cargo()
        .args(["build", "--workspace", "--bins"])
        .args(FEATURES)
        .spawn()
        .context("cargo build")?;

    let servers = TestServers::start(&claim, install(no_install))
        .and_then(|mut servers| servers.wait().map(|()| servers));
    // Without this, the build would go on after this command has failed.
    let mut servers = servers.inspect_err(|_| drop(binaries.kill()))?;
    say("PostgreSQL, RabbitMQ and Redis are ready");

    let built = process::wait_for("cargo build", Duration::from_secs(3600), || {
        Ok(binaries.try_wait()?)
    });
    if !built.inspect_err(|_| drop(binaries.kill()))?.success() {
        return Err(error("cargo build failed"));
    }
    let mut tests = tests(&passed_on)?;
    servers.tell(&mut tests)?;
    let mut tests = tests.spawn().context("cargo test")?;
    let status = process::wait_for("cargo test", Duration::from_secs(6 * 3600), || {
        servers.all_run()?;
        Ok(tests.try_wait()?)
    });
    if status.is_err() {
        let _ = tests.kill();
        let _ = tests.wait();
    }
    drop(servers);
    // A process that a test left running carries our mark.
    for pid in process::marked(&claim.folder) {
        say(format!("a test left process {pid} running"));
    }
    claim.discard_data();
    Ok(exit_code(status?))
}

/// Returns a cargo that does not read from the terminal.
fn cargo() -> Command {
    let mut cargo = workspace::cargo();
    cargo.stdin(Stdio::null());
    cargo
}

/// Returns the command that runs the tests that the arguments name, or all.
fn tests(passed_on: &[OsString]) -> Result<Command> {
    let mut tests = cargo();
    tests.arg("test").args(FEATURES);
    // A package that is named is tested alone.
    let names_package = passed_on
        .iter()
        .any(|argument| argument == "-p" || argument == "--package");
    if names_package {
        tests.args(["--package", workspace::FEATURES]);
    } else {
        tests.arg("--workspace");
    }
    tests.args(passed_on);
    // Tests wait for servers and for time more than they compute.
    if std::env::var_os("RUST_TEST_THREADS").is_none() {
        let processors = std::thread::available_parallelism().context("processors")?;
        tests.env("RUST_TEST_THREADS", (2 * processors.get()).to_string());
    }
    Ok(tests)
}
