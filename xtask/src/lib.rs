//! The parts of `cargo xtask`: private servers, the services on them, and the commands that use and break both.
//!
//! A library as well, so that `e2e/` starts services with the wiring of `cargo xtask up`. It uses the standard library
//! only, except for signals and arguments, as it is compiled before its first line of progress.
//!
//! - [`workspace`]: folders and binaries;
//! - [`process`]: children that never outlive their parent;
//! - [`servers`]: finds or installs PostgreSQL, RabbitMQ and Redis, and starts private ones;
//! - [`wiring`]: the environment of each service; [`settings`]: the part of it that a person gives;
//! - [`stack`]: all of it together, supervised;
//! - [`compose`]: the same in containers.

pub mod commands;
pub mod compose;
pub mod http;
pub mod ports;
pub mod process;
pub mod progress;
pub mod servers;
pub mod settings;
pub mod stack;
pub mod wiring;
pub mod workspace;

/// The result of a task. An error is reported to a person once, and ends the task.
pub type Result<T = ()> = std::result::Result<T, Error>;

/// An error, in a sentence for a person.
#[derive(Debug)]
pub struct Error(pub String);

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Error {}

impl From<std::io::Error> for Error {
    fn from(error: std::io::Error) -> Self {
        Self(error.to_string())
    }
}

impl From<lexopt::Error> for Error {
    fn from(error: lexopt::Error) -> Self {
        Self(error.to_string())
    }
}

/// Returns an [`Error`] from a sentence.
pub fn error(sentence: impl Into<String>) -> Error {
    Error(sentence.into())
}

/// Adds to an error what was being done.
pub trait Context<T> {
    /// Puts `doing` before the error's text.
    fn context(self, doing: impl std::fmt::Display) -> Result<T>;
}

impl<T, E: std::fmt::Display> Context<T> for std::result::Result<T, E> {
    fn context(self, doing: impl std::fmt::Display) -> Result<T> {
        self.map_err(|e| Error(format!("{doing}: {e}")))
    }
}
