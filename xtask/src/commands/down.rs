//! `cargo xtask down`: ends the stacks that run, and the processes that a killed `up` left.

use std::{process::ExitCode, time::Duration};

use crate::{
    Result,
    process::{self, marked},
    progress::say,
    workspace::{self, Claim},
};

/// The longest time for a stack to shut down: its services have 45 s to finish their work in progress.
const GOOD_ORDER: Duration = Duration::from_secs(120);

pub(super) fn run() -> Result<ExitCode> {
    let mut ended = 0;
    for stack in Claim::all()? {
        ended += usize::from(stop_its_owner(&stack)?);
        ended += kill_what_is_left(&stack)?;
    }
    say(if ended == 0 {
        "nothing is left to end".to_owned()
    } else {
        format!("{ended} processes ended")
    });
    Ok(ExitCode::SUCCESS)
}

/// Stops the `cargo xtask` that runs a stack, and waits until it has ended the stack. Killing its servers would only
/// make it start them again.
fn stop_its_owner(stack: &str) -> Result<bool> {
    let Some(owner) = Claim::holder(stack)? else {
        return Ok(false);
    };
    say(format!(
        "target/{stack} is run by process {owner}: asking it to end"
    ));
    signal(owner, libc::SIGTERM);
    process::wait_for("the stack to stop", GOOD_ORDER, || {
        Ok(Claim::holder(stack)?.is_none().then_some(()))
    })?;
    Ok(true)
}

/// Kills the processes of a stack that has lost its owner, and returns their number.
fn kill_what_is_left(stack: &str) -> Result<usize> {
    let folder = workspace::target().join(stack);
    let left = marked(&folder);
    for pid in &left {
        let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        say(format!(
            "ending {} (process {pid}) of target/{stack}",
            name.trim()
        ));
        signal(*pid, libc::SIGKILL);
    }
    process::wait_for("the processes to end", Duration::from_secs(20), || {
        Ok(marked(&folder).is_empty().then_some(()))
    })?;
    Ok(left.len())
}

fn signal(pid: u32, signal: i32) {
    if let Ok(pid) = i32::try_from(pid) {
        // SAFETY: sends a signal; the caller waits for its effect.
        #[expect(
            unsafe_code,
            reason = "the standard library kills only its own children"
        )]
        unsafe {
            libc::kill(pid, signal);
        }
    }
}
