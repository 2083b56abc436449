//! `cargo xtask sagas`, `cargo xtask drill`: programs of `load-tests`, on the stack that runs.

use std::process::ExitCode;

use lexopt::Parser;

use super::exit_code;
use crate::{Context, Result, error, process, workspace};

/// Runs `program` on the stack that the shell's variables name, or else on the stack of `cargo xtask up`.
///
/// It is a program of its own, as JSON takes longer to compile than all of xtask.
pub(super) fn run(program: &str, mut arguments: Parser) -> Result<ExitCode> {
    let (release, passed_on): (Vec<_>, Vec<_>) = arguments
        .raw_args()?
        .partition(|argument| argument == "--release");
    let mut command = workspace::cargo();
    command.args(["run", "--quiet", "-p", "load-tests", "--bin", program]);
    command.args(release).arg("--").args(passed_on);
    let stack = workspace::target().join("stack");
    let text = std::fs::read_to_string(stack.join("env")).unwrap_or_default();
    let here: Vec<(&str, &str)> = text
        .lines()
        .filter_map(|line| line.strip_prefix("export ")?.split_once('='))
        .map(|(name, value)| (name, value.trim_matches('\'')))
        .collect();
    let given = std::env::var("ORCHESTRATOR_URL").ok();
    let is_here = |url: &String| here.contains(&("ORCHESTRATOR_URL", url.as_str()));
    if given.is_none() && here.is_empty() {
        return Err(error(
            "no stack runs here: start one by `cargo xtask up`, or set ORCHESTRATOR_URL and the other services' variables",
        ));
    }
    if given.is_none() {
        command.envs(here.iter().copied());
    }
    if given.as_ref().is_none_or(is_here) {
        // By this variable it finds the stack's processes, and their use of the machine.
        command.env(process::MARK, stack);
    }
    Ok(exit_code(command.status().context("cannot run cargo")?))
}
