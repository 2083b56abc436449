//! The inventory service: catalogue, prices, stock and reservations.
//!
//! Where to look:
//!
//! - [`domain`]: a reservation's states as one pure function;
//! - `http`: the catalogue, prices for the order service, deliveries; `consumer`: messages from the broker;
//! - `commands`: the use cases, on the caller's transaction;
//! - `store`: all SQL; `app`: puts the parts together.

mod app;
mod commands;
mod config;
mod consumer;
pub mod domain;
mod error;
mod http;
mod store;

pub use app::App;
pub use config::Config;
