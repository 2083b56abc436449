//! The notification service: tells customers by mail, and programs by webhooks, how orders ended.
//!
//! Where to look:
//!
//! - `domain`: decides which messages are news to a customer; `template`: the mails' texts;
//! - `consumer`: messages from the broker; `worker`: sends queued mails; `client`: the mail server;
//! - `commands`: the use case; `http`: the operators' API; `store`: the SQL of mails; `app`: puts the parts together;
//! - `webhooks`: all that is about webhooks, in layers of its own.

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
mod webhooks;
mod worker;

pub use app::App;
pub use config::Config;
pub use webhooks::{Lookup, Lookups};
