//! Tests across services.
//!
//! [`traces`] defines the trace that an order must have; `tests/it/traces.rs` checks it on the services' consoles, and
//! the binary `jaeger-traces` in the Jaeger of a running stack.

#[cfg(feature = "page")]
pub mod page;
pub mod traces;
