//! The notification service, through its queues, the mail server that it calls, and receivers of webhooks.

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
