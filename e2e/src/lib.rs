//! Tests across services.
//!
//! [`traces`] says what the trace of an order must look like; `tests/it/traces.rs` asks the services' consoles, and the
//! binary `jaeger-traces` asks the Jaeger of a running stack.

#[cfg(feature = "page")]
pub mod page;
pub mod traces;
