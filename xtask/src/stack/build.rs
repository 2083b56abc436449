//! Builds the programs of a stack, while its servers are installed and started.

use std::{
    process::{Child, Stdio},
    time::Duration,
};

use super::Options;
use crate::{
    Context, Result, error, process,
    wiring::{ROOM, SERVICES},
    workspace,
};

/// A `cargo build`, under way.
pub(super) struct Build(Child);

impl Build {
    /// Begins to build what a stack runs.
    pub(super) fn start(options: &Options) -> Result<Self> {
        let mut command = workspace::cargo();
        command.arg("build");
        for service in SERVICES {
            command.args(["-p", service]);
        }
        if options.room {
            command.args(["-p", ROOM]);
        }
        command.args([
            "-p",
            "chassis",
            "-p",
            "load-tests",
            "-p",
            "testkit",
            "--bins",
        ]);
        if options.failpoints {
            command.args(["--features", "holdfast/failpoints"]);
        }
        if options.release {
            command.arg("--release");
        }
        Ok(Self(
            command
                .stdin(Stdio::null())
                .spawn()
                .context("cannot run cargo")?,
        ))
    }

    /// Waits until it is built.
    pub(super) fn wait(mut self) -> Result {
        process::wait_for("cargo build", Duration::from_secs(3600), || {
            Ok(self.0.try_wait()?)
        })
        .and_then(|status| {
            if status.success() {
                Ok(())
            } else {
                Err(error(format!("cargo build failed ({status})")))
            }
        })
    }
}

impl Drop for Build {
    fn drop(&mut self) {
        // An error means that it is done.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
