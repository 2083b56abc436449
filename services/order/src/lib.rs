//! The order service: takes orders over HTTP, keeps their state, and begins and ends their choreography.
//!
//! Where to look:
//!
//! - [`domain`]: an order's life as one pure function;
//! - `http`: the API; `consumer`: what it hears from the broker; `worker`: deadlines and sweeps;
//! - `commands`: the use cases that these three have in common, on the caller's transaction;
//! - `client`: prices from inventory; `store`: all SQL; `app`: how the parts are put together.

mod app;
mod client;
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
