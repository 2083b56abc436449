//! `cargo xtask sagas`, `cargo xtask drill`: programs of `load-tests`, on the stack that runs.

use std::process::ExitCode;

use lexopt::Parser;

use super::exit_code;
use crate::{Context, Result, error, process, workspace};

/// Runs `program` where the shell's variables say, or on the stack of `cargo xtask up`.
///
/// A program of its own: JSON takes longer to compile than all of xtask.
pub(super) fn run(program: &str, mut arguments: Parser) -> Result<ExitCode> {
    let mut command = workspace::cargo();
    command.args(["run", "--quiet", "-p", "load-tests", "--bin", program, "--"]);
    command.args(arguments.raw_args()?);
    if std::env::var_os("ORCHESTRATOR_URL").is_none() {
        let stack = workspace::target().join("stack");
        let text = std::fs::read_to_string(stack.join("env"))
            .map_err(|_| error("no stack runs here: `cargo xtask up`, or set ORCHESTRATOR_URL and the other services' variables"))?;
        for line in text.lines().filter_map(|line| line.strip_prefix("export ")) {
            if let Some((name, value)) = line.split_once('=') {
                command.env(name, value.trim_matches('\''));
            }
        }
        // By this it tells the stack's processes from others, and how much each has used.
        command.env(process::MARK, stack);
    }
    Ok(exit_code(command.status().context("cannot run cargo")?))
}
