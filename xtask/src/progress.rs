//! Output for a person, while a command runs.

use std::{
    io::Write,
    sync::OnceLock,
    time::{Duration, Instant},
};

static BEGUN: OnceLock<Instant> = OnceLock::new();

/// Returns the time since the first call.
pub fn elapsed() -> Duration {
    BEGUN.get_or_init(Instant::now).elapsed()
}

/// Prints a line with the time since the start.
#[expect(clippy::print_stdout, reason = "it is what its user sees")]
pub fn say(line: impl std::fmt::Display) {
    println!("[{:6.1} s] {line}", elapsed().as_secs_f64());
    // A pipe is not flushed by itself.
    let _ = std::io::stdout().flush();
}

/// Prints text as it is.
#[expect(clippy::print_stdout, reason = "it is what its user sees")]
pub fn show(text: impl std::fmt::Display) {
    println!("{text}");
    let _ = std::io::stdout().flush();
}
