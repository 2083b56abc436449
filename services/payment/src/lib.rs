//! The payment service: wallet accounts, charges and refunds; calls the card processor.
//!
//! Where to look:
//!
//! - [`domain`]: a payment's states as one pure function;
//! - `http`: wallets; `consumer`: messages from the broker; `worker`: calls of the card processor;
//! - `commands`: the use cases, on the caller's transaction;
//! - `client`: the card processor's API, and the locks that allow one call at a time for each account;
//! - `store`: all SQL; `app`: puts the parts together.

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
