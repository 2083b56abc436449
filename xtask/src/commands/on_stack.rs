//! `cargo xtask sagas`, `cargo xtask drill`: programs of `load-tests`, on the stack that runs.

use std::process::ExitCode;

use lexopt::Parser;

use super::exit_code;
use crate::{Context, Result, error, process, workspace};

/// Runs `program` where the shell's variables say, or on the stack of `cargo xtask up`.
///
/// A program of its own: JSON takes longer to compile than all of xtask.
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
            "no stack runs here: `cargo xtask up`, or set ORCHESTRATOR_URL and the other services' variables",
        ));
    }
    if given.is_none() {
        command.envs(here.iter().copied());
    }
    if given.as_ref().is_none_or(is_here) {
        // By this it tells the stack's processes from others, and how much each has used.
        command.env(process::MARK, stack);
    }
    Ok(exit_code(command.status().context("cannot run cargo")?))
}
