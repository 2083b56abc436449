//! The notification service: tells customers by mail, and programs by webhooks, how orders ended.
//!
//! Where to look:
//!
//! - `domain`: decides which messages are news to a customer; `template`: the mails' texts;
//! - `consumer`: messages from the broker; `worker`: sends queued mails; `client`: the mail server;
//! - `commands`: the use case; `http`: the operators' API; `store`: all SQL; `app`: puts the parts together;
//! - webhooks have a file of their own in each: `domain::webhook`: the payload, and the meaning of an answer;
//!   `client::webhook`: forbidden hosts, signatures, circuit breakers; `worker::webhook`; `http::webhooks`;
//!   `store::endpoints` and `store::webhooks`.

mod app;
mod client;
mod commands;
mod config;
mod consumer;
mod domain;
mod error;
mod http;
mod store;
mod template;
mod worker;

pub use app::App;
pub use client::webhook::{Lookup, Lookups};
pub use config::Config;
