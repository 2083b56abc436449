//! Distributed-systems patterns that people copy: one folder and one Cargo feature each.
//!
//! Each module opens with the problem that it solves, what it guarantees and what it does not, how it fails, and what
//! to take along when you copy it. The only edges between the folders are the ones in `Cargo.toml`'s feature list.
//!
//! | module | purpose |
//! | --- | --- |
//! | [`outbox`] | a state change and the message about it happen both or not at all |
//! | [`inbox`] | a message that arrives twice takes effect once |
//! | [`messaging`] | confirmed publishing, batching consumers, delayed retry, parking, over AMQP 0-9-1 |
//! | [`saga`] | a long transaction over several services ends, whatever happens |
//! | [`leased_work`] | a call that a row requests is made, even if workers die |
//! | [`backoff`] | the wait before the next attempt |
//! | [`retry`] | repeating a failed call only where that is safe, and within a budget |
//! | [`deadline`] | one time budget for a call and all the calls below it |
//! | [`circuit_breaker`] | a dependency that fails is not called until it is back |
//! | [`bulkhead`] | a slow dependency takes its own places, and no others |
//! | [`pipeline`] | deadline, retry, circuit breaker and bulkhead in the right order |
//! | [`distributed_lock`] | one holder at a time across processes, and a fence against writes of an earlier one |
//! | [`telemetry`] | logs with trace ids, W3C trace context, Prometheus metrics |
//! | [`transaction`] | all or nothing, even for a caller that is cut short |
//! | [`completion`] | a call that ends even if its caller does not wait for the end |
//! | [`failpoint`](mod@failpoint) | lines at which tests make the process fail |
//! | [`chaos`] | the faults that drills put around these parts |

#![warn(missing_docs)]

#[cfg(feature = "backoff")]
pub mod backoff;
#[cfg(feature = "bulkhead")]
pub mod bulkhead;
#[cfg(feature = "chaos")]
pub mod chaos;
#[cfg(feature = "circuit_breaker")]
pub mod circuit_breaker;
#[cfg(feature = "completion")]
pub mod completion;
#[cfg(feature = "deadline")]
pub mod deadline;
#[cfg(feature = "distributed_lock")]
pub mod distributed_lock;
pub mod failpoint;
#[cfg(feature = "inbox")]
pub mod inbox;
#[cfg(feature = "leased_work")]
pub mod leased_work;
#[cfg(feature = "messaging")]
pub mod messaging;
#[cfg(feature = "outbox")]
pub mod outbox;
#[cfg(feature = "pipeline")]
pub mod pipeline;
#[cfg(feature = "retry")]
pub mod retry;
#[cfg(feature = "saga")]
pub mod saga;
#[cfg(feature = "telemetry")]
pub mod telemetry;
#[cfg(feature = "transaction")]
pub mod transaction;
