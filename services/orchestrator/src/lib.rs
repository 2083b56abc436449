//! The orchestrator: carries orchestrated orders to their end, by durable sagas.
//!
//! Where to look:
//!
//! - [`domain`]: the two sagas as data, and the payloads of their commands;
//! - `consumer`: requests to start and cancel sagas, and participants' replies; `worker`: resends of overdue commands;
//! - `http`: the operators' API;
//! - `commands`: the use cases that these have in common, on the caller's transaction; `app`: builds the service from
//!   its parts.
//!
//! [`holdfast::saga`] carries the sagas out, and has their tables.

mod app;
mod commands;
mod config;
mod consumer;
pub mod domain;
mod error;
mod http;
mod store;
mod worker;

pub use app::App;
pub use config::Config;
