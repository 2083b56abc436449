//! Failpoints: lines at which tests make the process fail.
//!
//! # Problem
//!
//! "What if it dies here?" is the question behind every pattern in this crate, and *here* is a line: after the commit,
//! before the publish. A test that kills the process from outside almost never hits it.
//!
//! # Guarantee
//!
//! With the feature `failpoints` a line marked `failpoint!("name")` does what the environment variable `FAILPOINTS` (or
//! [`set`]) says for it, in the grammar of the `fail` crate:
//!
//! - `FAILPOINTS='outbox.after_publish=return(abort)'` ends the process there, as `kill -9` would;
//! - `'consumer.before_commit=5*off->return(abort)'` at the sixth time;
//! - `'payment.cancel=return(0198…)'` makes [`inject`] fail for that key alone, for as long as it is set;
//! - `=pause`, `=delay(ms)`, `=print`, `=off` as in that crate.
//!
//! # Not guaranteed
//!
//! Anything without the feature: then each failpoint is an empty inlined function.
//!
//! # States
//!
//! One global table in the process, kept by the `fail` crate.
//!
//! # Failure modes
//!
//! A name that is misspelt in `FAILPOINTS` does nothing: a test must check that its point was hit (an aborted process
//! has the exit signal SIGABRT).
//!
//! ```
//! use holdfast::failpoint;
//!
//! # fn commit() {}
//! # fn publish() {}
//! commit();
//! failpoint!("example.after_commit");
//! publish();
//! ```
//!
//! # Copying this
//!
//! This file and the crate `fail`, which comes from TiKV.

/// Fails here if a test or a drill has set this failpoint. See the module [`failpoint`](mod@crate::failpoint).
#[macro_export]
macro_rules! failpoint {
    ($name:expr) => {
        $crate::failpoint::hit($name)
    };
}

/// A failure that a test has set.
#[derive(Clone, Copy, Debug)]
pub struct Injected;

impl std::fmt::Display for Injected {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a failure injected by a failpoint")
    }
}

impl std::error::Error for Injected {}

/// The reason why a fault cannot be requested.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotCompiledIn;

impl std::fmt::Display for NotCompiledIn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("this build has no failpoints: build with the feature holdfast/failpoints")
    }
}

impl std::error::Error for NotCompiledIn {}

/// Fails in a build without failpoints.
pub fn compiled_in() -> Result<(), NotCompiledIn> {
    if ENABLED { Ok(()) } else { Err(NotCompiledIn) }
}

#[cfg(feature = "failpoints")]
mod active {
    use super::Injected;

    /// True: failpoints are compiled in.
    pub const ENABLED: bool = true;

    /// Reads `FAILPOINTS`. Call it in the first line of `main`.
    pub fn setup() {
        // The guard would clear the table on drop; the process keeps it until it ends.
        std::mem::forget(fail::FailScenario::setup());
    }

    /// Sets the actions of a failpoint of this process, in the grammar of the `fail` crate; `off` ends them.
    pub fn set(name: &str, actions: &str) -> Result<(), String> {
        fail::cfg(name, actions)
    }

    /// Runs the actions of a failpoint; [`failpoint!`](crate::failpoint!) expands to this.
    pub fn hit(name: &str) {
        fail::fail_point!(
            name,
            |arg: Option<String>| if arg.as_deref() == Some("abort") {
                // Not a panic: the task would catch it, unwind and clean up. A crash does none of that.
                std::process::abort()
            }
        );
    }

    /// Fails if the failpoint is set to `return`, or to `return(key)` with this key.
    pub fn inject(name: &str, key: &str) -> Result<(), Injected> {
        fail::fail_point!(name, |arg: Option<String>| match arg.as_deref() {
            None => Err(Injected),
            Some(wanted) if wanted == key => Err(Injected),
            Some(_) => Ok(()),
        });
        Ok(())
    }
}

#[cfg(not(feature = "failpoints"))]
mod active {
    use super::Injected;

    /// False: failpoints are not compiled in.
    pub const ENABLED: bool = false;

    /// Warns if `FAILPOINTS` is set, because this build ignores it.
    pub fn setup() {
        if std::env::var_os("FAILPOINTS").is_some() {
            eprintln!(
                "FAILPOINTS is set, but this build has no failpoints: build with --features holdfast/failpoints"
            );
        }
    }

    /// Fails always: this build has no failpoints.
    pub fn set(name: &str, _actions: &str) -> Result<(), String> {
        Err(format!(
            "cannot set {name}: build with the feature holdfast/failpoints"
        ))
    }

    /// Does nothing: this build has no failpoints. [`failpoint!`](crate::failpoint!) expands to this.
    #[inline]
    pub fn hit(_name: &str) {}

    /// Returns `Ok` always: this build has no failpoints.
    #[inline]
    pub fn inject(_name: &str, _key: &str) -> Result<(), Injected> {
        Ok(())
    }
}

pub use active::{ENABLED, hit, inject, set, setup};
