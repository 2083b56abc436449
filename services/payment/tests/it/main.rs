//! The payment service, through its API, its queues and the card processor that it calls.

mod card;
mod commands;
mod commands_card;
mod crossing;
mod helpers;
mod outward;
mod wallet;
