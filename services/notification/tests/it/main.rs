//! The notification service through its queue, and the mail server behind it.

mod helpers;
mod mails;
