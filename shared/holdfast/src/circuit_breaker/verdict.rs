//! The results of calls.

/// The result of a call, as far as it tells about the dependency's health.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Success {
        slow: bool,
    },
    Failure {
        slow: bool,
    },
    /// The result says nothing about the dependency.
    Ignored,
    /// The result is unknown: the call was dropped.
    Cancelled,
}
