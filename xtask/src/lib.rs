//! What `cargo xtask` is made of: private servers, the services on them, and what a person or a drill does to both.
//!
//! A library too, so that `e2e/` starts services with the same wiring as `cargo xtask up`. Standard library only, but for
//! signals and arguments: it is compiled before anyone sees a line of progress.
//!
//! - [`workspace`]: where things are;
//! - [`process`]: children that never outlive their parent;
//! - [`servers`]: finds or installs PostgreSQL, RabbitMQ and Redis, and starts private ones;
//! - [`wiring`]: which service is told what; [`settings`]: and what by whoever starts it;
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

/// What goes wrong in a task is told to a person, once, and ends it.
pub type Result<T = ()> = std::result::Result<T, Error>;

/// A sentence for a person.
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

/// An [`Error`] from a sentence.
pub fn error(sentence: impl Into<String>) -> Error {
    Error(sentence.into())
}

/// Says what was being done when something went wrong.
pub trait Context<T> {
    /// Puts `doing` before the error.
    fn context(self, doing: impl std::fmt::Display) -> Result<T>;
}

impl<T, E: std::fmt::Display> Context<T> for std::result::Result<T, E> {
    fn context(self, doing: impl std::fmt::Display) -> Result<T> {
        self.map_err(|e| Error(format!("{doing}: {e}")))
    }
}
