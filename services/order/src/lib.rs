//! The order service: takes orders over HTTP, keeps their state, and sets each on its way: that of choreography, which it
//! begins and ends, or that of a saga, which the orchestrator carries out.
//!
//! Where to look:
//!
//! - [`domain`]: an order's life as one pure function, one for each way;
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
