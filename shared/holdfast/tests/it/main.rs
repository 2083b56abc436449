//! Tests of the patterns on real servers.

mod acknowledging;
mod classify;
mod consumer;
mod database_in_need;
#[cfg(feature = "distributed_lock")]
mod distributed_lock;
mod diverting;
mod helpers;
mod inbox;
mod leased_work;
mod observer;
mod outbox;
mod parking;
mod publisher;
mod saga;
mod strangers;
mod telemetry;
mod transaction;
