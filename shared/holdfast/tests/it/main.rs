//! The patterns on real servers.

mod classify;
mod consumer;
mod helpers;
mod inbox;
mod observer;
mod outbox;
mod parking;
mod publisher;
mod saga;
mod telemetry;
