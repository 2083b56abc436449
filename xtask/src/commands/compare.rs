//! `cargo xtask compare`: the same orders each way, on an optimised stack of its own.

use std::process::ExitCode;

use lexopt::Parser;

use super::{exit_code, install, up::attend};
use crate::{
    Result,
    progress::say,
    settings::Given,
    stack::{Options, Stack},
};

pub(super) fn run(mut arguments: Parser) -> Result<ExitCode> {
    let (mut no_install, mut passed_on) = (false, Vec::new());
    for argument in arguments.raw_args()? {
        if argument == "--no-install" {
            no_install = true;
        } else {
            passed_on.push(argument);
        }
    }
    let mut stack = Stack::start(&Options {
        name: "compare",
        install: install(no_install),
        database_each: false,
        failpoints: false,
        release: true,
        room: false,
        given: Given::default(),
        extra: Vec::new(),
    })?;
    say("comparing for some minutes, in which nothing else should run on this machine");
    let mut tool = stack.tool("compare");
    let status = attend(&mut stack, tool.args(passed_on));
    let reconciled = match &status {
        Ok(status) if status.success() => {
            let mut reconcile = stack.tool("reconcile");
            Some(attend(&mut stack, &mut reconcile))
        }
        _ => None,
    };
    say("stopping");
    stack.shut_down()?;
    Ok(exit_code(match reconciled {
        Some(reconciled) => reconciled?,
        None => status?,
    }))
}
