//! Tests across services, and the model of the protocol.
//!
//! [`model`] runs the production transition functions of order, payment, inventory and the sagas under everything that
//! brokers, crashes, card companies and operators may do, and is searched exhaustively by `tests/it/model.rs` and
//! `tests/it/model_orchestrated.rs`.
//!
//! [`traces`] says what the trace of an order must look like; `tests/it/traces.rs` asks the services' consoles, and the
//! binary `jaeger-traces` asks the Jaeger of a running stack.

pub mod model;
#[cfg(feature = "page")]
pub mod page;
pub mod topology;
pub mod traces;
