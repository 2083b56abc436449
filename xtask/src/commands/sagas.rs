//! `cargo xtask sagas`: the sagas of the stack that runs, and what an operator does about one.

use std::process::ExitCode;

use lexopt::Parser;

use super::exit_code;
use crate::{Context, Result, error, workspace};

/// Asks a program of its own: JSON takes longer to compile than all of xtask.
pub(super) fn run(arguments: Parser) -> Result<ExitCode> {
    on_the_running_stack("sagas", arguments)
}

/// Runs a program of `load-tests` on the stack that runs: where the shell's variables say, or that of `cargo xtask up`.
pub(super) fn on_the_running_stack(program: &str, mut arguments: Parser) -> Result<ExitCode> {
    let mut command = workspace::cargo();
    command.args(["run", "--quiet", "-p", "load-tests", "--bin", program, "--"]);
    command.args(arguments.raw_args()?);
    // Where the services are: as the shell says, or as the stack of `cargo xtask up` is.
    if std::env::var_os("ORCHESTRATOR_URL").is_none() {
        let path = workspace::target().join("stack/env");
        let text = std::fs::read_to_string(&path)
            .map_err(|_| error("no stack runs here: `cargo xtask up`, or set ORCHESTRATOR_URL and the other services' variables"))?;
        for line in text.lines().filter_map(|line| line.strip_prefix("export ")) {
            if let Some((name, value)) = line.split_once('=') {
                command.env(name, value.trim_matches('\''));
            }
        }
    }
    Ok(exit_code(command.status().context("cannot run cargo")?))
}
