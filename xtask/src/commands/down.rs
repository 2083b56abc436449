//! `cargo xtask down`: ends what a killed `up` left.

use std::{process::ExitCode, time::Duration};

use crate::{
    Result,
    process::{self, marked},
    progress::say,
    workspace,
};

/// The stacks that there may be.
const STACKS: [&str; 4] = ["stack", "once", "test", "verify"];

pub(super) fn run() -> Result<ExitCode> {
    let mut ended = 0;
    for stack in STACKS {
        let folder = workspace::target().join(stack);
        let left = marked(&folder);
        if left.is_empty() {
            continue;
        }
        for pid in &left {
            let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            say(format!(
                "ending {} (process {pid}) of target/{stack}",
                name.trim()
            ));
            if let Ok(pid) = i32::try_from(*pid) {
                // SAFETY: sends a signal; whether anyone gets it is checked below.
                #[expect(
                    unsafe_code,
                    reason = "the standard library kills only its own children"
                )]
                unsafe {
                    libc::kill(pid, libc::SIGKILL);
                }
            }
        }
        ended += left.len();
        process::wait_for("the processes to end", Duration::from_secs(20), || {
            Ok(marked(&folder).is_empty().then_some(()))
        })?;
    }
    say(if ended == 0 {
        "nothing is left to end".to_owned()
    } else {
        format!("{ended} processes ended")
    });
    Ok(ExitCode::SUCCESS)
}
