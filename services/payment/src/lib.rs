//! The payment service: wallet accounts, charges and refunds; calls the card processor.
//!
//! Where to look:
//!
//! - [`domain`]: a payment's life as one pure function;
//! - `http`: wallets; `consumer`: what it hears from the broker; `worker`: asks the card company;
//! - `commands`: the use cases, on the caller's transaction;
//! - `client`: the card company's API, and the locks by which each account is asked for once at a time; `store`: all SQL;
//!   `app`: how the parts are put together.

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
