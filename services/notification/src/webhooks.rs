//! Webhooks: programs are told by HTTP requests how orders ended.
//!
//! The folder is a component: it has the layers of a service, so that webhooks can be read, and copied, in one place.
//!
//! - `domain`: the payload, and the meaning of an answer; `store`: all SQL of webhooks;
//! - `commands`: queues webhooks with the news, and in `resend`, on request;
//! - `client`: forbidden hosts, signatures, circuit breakers; `worker`: sends webhooks, and keeps their secrets sealed;
//! - `http`: the API of endpoints and of webhooks; `config`: the settings.

pub(crate) mod client;
pub(crate) mod commands;
pub(crate) mod config;
mod domain;
pub(crate) mod http;
mod store;
pub(crate) mod worker;
