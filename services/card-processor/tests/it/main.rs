//! The card processor, through its API.

mod charges;
mod helpers;
