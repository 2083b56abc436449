//! Tests across services, and the model of the protocol.
//!
//! [`model`] runs the production transition functions of order, payment and inventory under everything that brokers, crashes
//! and card companies may do, and is searched exhaustively by `tests/it/model.rs`.
//!
//! [`traces`] says what the trace of an order must look like; `tests/it/traces.rs` asks the services' consoles, and the
//! binary `jaeger-traces` asks the Jaeger of a running stack.

pub mod model;
#[cfg(feature = "page")]
pub mod page;
pub mod topology;
pub mod traces;
