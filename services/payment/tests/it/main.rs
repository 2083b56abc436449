//! The payment service through its API, its queue, and the card company behind it.

mod card;
mod commands;
mod commands_card;
mod crossing;
mod helpers;
mod outward;
mod wallet;
