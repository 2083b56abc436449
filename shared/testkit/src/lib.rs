//! The common parts of the tests. A dev-dependency only.
//!
//! - [`TestApp`]: a service under test, in the test's process;
//! - [`Database`], [`Vhost`]: of their own for each test, on the servers that `cargo xtask test` started;
//! - [`Probe`]: sees every event, command and reply on a vhost, and publishes messages that a test makes up;
//! - [`Interposer`]: is bound between exchanges and queues, and loses, holds or repeats messages by a test's rules;
//! - [`Redis`], [`RedisServer`]: names of its own on the shared Redis, or a Redis that may be killed and emptied;
//! - [`Proxy`]: a TCP proxy that can be cut, paused and slowed;
//! - [`SmtpSink`]: a mail server that keeps the mails that it gets, and can refuse them;
//! - [`cut`]: drops a call at each place where it waits;
//! - [`relay`]: a service that makes the calls that a request lists, for tests of the headers that are sent along;
//! - [`eventually`]: waits for a condition, and panics with the last state that it saw;
//! - [`token`]: a token for any caller that a test needs.

#![warn(missing_docs)]

mod app;
mod cut;
mod database;
mod eventually;
mod interposer;
mod probe;
mod proxy;
mod redis;
mod relay;
mod smtp;
mod token;
mod vhost;

pub use app::{Answer, TestApp, answer, arguments, broker_arguments};
pub use cut::cut;
pub use database::Database;
pub use eventually::{PATIENCE, eventually};
pub use interposer::{Interposer, Passage};
pub use probe::{Probe, Seen};
pub use proxy::Proxy;
pub use redis::{Redis, RedisServer};
pub use relay::{RelayConfig, relay};
pub use smtp::{Mail, SmtpMode, SmtpSink};
pub use token::{client, service_token_file, token, token_with};
pub use vhost::{DeletedQueue, Depth, Vhost};

/// Returns an environment variable that `cargo xtask test` sets.
fn setting(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| {
        panic!("{name} is not set: run the tests with `cargo xtask test`, which starts the servers")
    })
}
