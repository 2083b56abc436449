//! The notification service: tells customers what became of their orders, by mail, and programs, by webhooks.
//!
//! Where to look:
//!
//! - `domain`: what is news, and what is too late to tell; `template`: the mails' texts;
//! - `consumer`: what it hears from the broker; `worker`: sends what is queued; `client`: the mail server;
//! - `commands`: the use case; `http`: what operators see; `store`: all SQL; `app`: how the parts are put together;
//! - webhooks have a file of their own in each: `domain::webhook`: payload, and what an answer means; `client::webhook`: where
//!   nothing is sent, signatures, circuit breakers; `worker::webhook`; `http::webhooks`; `store::endpoints` and `webhooks`.

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
