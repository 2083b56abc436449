//! The order service: takes orders over HTTP, keeps their state, and starts each on its way to an end: by choreography,
//! which this service begins and ends, or by a saga, which the orchestrator carries out.
//!
//! The modules:
//!
//! - [`domain`]: the life of an order as one pure function for each way of coordination;
//! - `http`: the API; `consumer`: the messages from the broker; `worker`: deadlines and sweeps;
//! - `commands`: the use cases that these three have in common, on the caller's transaction;
//! - `client`: prices from inventory; `store`: all SQL; `app`: the assembly of the parts.

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
