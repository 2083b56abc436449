//! `cargo xtask token`: prints a development token.

use std::process::ExitCode;

use lexopt::Parser;

use super::exit_code;
use crate::{Context, Result, workspace};

/// Signs in a program of its own, as cryptography takes longer to compile than all of xtask.
pub(super) fn run(mut arguments: Parser) -> Result<ExitCode> {
    let mut command = workspace::cargo();
    command.args(["run", "--quiet", "-p", "chassis", "--bin", "token", "--"]);
    command.args(arguments.raw_args()?);
    Ok(exit_code(command.status().context("cannot run cargo")?))
}
