//! The notification service through its queue, and the mail server behind it.

mod commands;
mod helpers;
mod mails;
