//! The notification service through its queue, the mail server behind it, and who listens to webhooks.

mod breaker;
mod commands;
mod helpers;
mod leases;
mod mails;
mod receiver;
mod webhooks;
mod webhooks_api;
mod webhooks_crash;
mod webhooks_failing;
mod webhooks_resend;
mod webhooks_secrets;
