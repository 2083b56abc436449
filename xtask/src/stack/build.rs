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

/// The packages of a stack beside its services; and `benches`, which has no program: see [`workspace::FEATURES`].
const OF_NO_SERVICE: [&str; 4] = ["chassis", "load-tests", "testkit", workspace::FEATURES];

/// A `cargo build`, under way.
pub(super) struct Build(Child);

impl Build {
    /// Begins to build the programs of a stack.
    pub(super) fn start(options: &Options) -> Result<Self> {
        let mut command = workspace::cargo();
        command.arg("build");
        for service in SERVICES {
            command.args(["-p", service]);
        }
        if options.room {
            command.args(["-p", ROOM]);
        }
        for package in OF_NO_SERVICE {
            command.args(["-p", package]);
        }
        command.arg("--bins");
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

    /// Waits until the build has ended.
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
        // An error means that it has ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Returns every crate of a build, with its features.
    fn crates(packages: &[&str], edges: &str) -> BTreeSet<String> {
        let output = workspace::cargo()
            .args(["tree", "--offline", "--prefix=none", "--format={p} {f}"])
            .args(["--features=holdfast/failpoints", "--edges", edges])
            .args(packages)
            .output()
            .expect("cargo tree");
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{told}");
        String::from_utf8_lossy(&output.stdout)
            .lines()
            .map(|line| line.trim_end_matches(" (*)").to_owned())
            .collect()
    }

    /// A crate with other features is another crate to the compiler, and so are all crates that depend on it: one more
    /// feature of tokio compiles sqlx, lapin, actix, reqwest and every crate of this workspace once more.
    #[test]
    fn binaries_tests_and_stack_are_built_of_the_same_crates() {
        let tests = crates(&["--workspace"], "normal,build,dev");
        let stack: Vec<&str> = SERVICES
            .into_iter()
            .chain([ROOM])
            .chain(OF_NO_SERVICE)
            .flat_map(|package| ["-p", package])
            .collect();
        let alone = ["-p", "order", "-p", workspace::FEATURES];
        for (what, packages, edges) in [
            ("binaries", &["--workspace"][..], "normal,build"),
            ("the stack", &stack[..], "normal,build"),
            ("one package's tests", &alone[..], "normal,build,dev"),
        ] {
            let built = crates(packages, edges);
            assert!(built.len() > 100, "{what}: {built:?}");
            let others: Vec<_> = built.difference(&tests).collect();
            assert!(others.is_empty(), "{what}: not as in tests: {others:#?}");
        }
    }
}
