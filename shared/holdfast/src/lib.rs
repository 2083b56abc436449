//! Distributed-systems patterns that people copy: one folder and one Cargo feature each.
//!
//! Each module opens with the problem it solves, what it guarantees and what it does not, how it fails, and what to take
//! along when you copy it. The only edges between the folders are the ones in `Cargo.toml`'s feature list.
//!
//! | module | what for |
//! | --- | --- |
//! | [`outbox`] | a state change and the message about it happen both or not at all |
//! | [`inbox`] | a message that comes twice takes effect once |
//! | [`messaging`] | confirmed publishing, batching consumers, delayed retry, parking, over AMQP 0-9-1 |
//! | [`saga`] | a long transaction over several services ends, whatever happens |
//! | [`backoff`] | how long to wait before the next try |
//! | [`retry`] | whether to try again at all |
//! | [`deadline`] | one time budget for a call and all the calls below it |
//! | [`telemetry`] | logs with trace ids, W3C trace context, Prometheus metrics |
//! | [`failpoint`](mod@failpoint) | where tests make the process fail |

#![warn(missing_docs)]

#[cfg(feature = "backoff")]
pub mod backoff;
#[cfg(feature = "deadline")]
pub mod deadline;
pub mod failpoint;
#[cfg(feature = "inbox")]
pub mod inbox;
#[cfg(feature = "messaging")]
pub mod messaging;
#[cfg(feature = "outbox")]
pub mod outbox;
#[cfg(feature = "retry")]
pub mod retry;
#[cfg(feature = "saga")]
pub mod saga;
#[cfg(feature = "telemetry")]
pub mod telemetry;
