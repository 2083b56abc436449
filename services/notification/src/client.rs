//! The mail server.

use std::{error::Error as _, time::Duration};

use lettre::{
    AsyncSmtpTransport, AsyncTransport, Message, Tokio1Executor,
    message::{Mailbox, header::ContentType},
};

use crate::{
    config::MailSettings,
    store::{Claimed, Outcome},
};

/// Hands mails to the mail server.
pub(crate) struct Post {
    transport: AsyncSmtpTransport<Tokio1Executor>,
    from: Mailbox,
    timeout: Duration,
    server: String,
}

/// What the mail server said.
pub(crate) struct Reply {
    pub(crate) outcome: Outcome,
    pub(crate) text: String,
}

impl Post {
    pub(crate) fn new(settings: &MailSettings) -> anyhow::Result<Self> {
        let timeout = Duration::from_millis(settings.smtp_timeout_ms);
        let transport = AsyncSmtpTransport::<Tokio1Executor>::from_url(&settings.smtp_url)?
            .timeout(Some(timeout))
            .build();
        Ok(Self {
            transport,
            from: settings.mail_from.parse()?,
            timeout,
            server: host(&settings.smtp_url).to_owned(),
        })
    }

    /// The mail server's name.
    pub(crate) fn server(&self) -> &str {
        &self.server
    }

    /// Sends a mail. Its Message-ID is its own, so that a receiver knows a mail that comes twice.
    pub(crate) async fn send(&self, mail: &Claimed) -> Reply {
        let message = match self.message(mail) {
            Ok(message) => message,
            Err(error) => {
                return Reply {
                    outcome: Outcome::Refused,
                    text: format!("it cannot be written: {error}"),
                };
            }
        };
        // The transport's timeout is per command; this one is for all of them.
        match tokio::time::timeout(self.timeout.saturating_mul(2), self.transport.send(message))
            .await
        {
            Ok(Ok(response)) => {
                let text: Vec<&str> = response.message().collect();
                Reply {
                    outcome: Outcome::Accepted,
                    text: format!("{} {}", response.code(), text.join(" ")),
                }
            }
            Ok(Err(error)) => {
                let cause = error
                    .source()
                    .map(|cause| format!(": {cause}"))
                    .unwrap_or_default();
                Reply {
                    outcome: outcome(&error),
                    text: format!("{error}{cause}"),
                }
            }
            Err(_) => Reply {
                outcome: Outcome::Unknown,
                text: "no answer in time".to_owned(),
            },
        }
    }

    fn message(&self, mail: &Claimed) -> anyhow::Result<Message> {
        let recipient = mail.recipient.as_deref().unwrap_or_default();
        Ok(Message::builder()
            .from(self.from.clone())
            .to(recipient.parse()?)
            .subject(mail.subject.clone())
            .message_id(Some(format!("<{}@{}>", mail.id, self.from.email.domain())))
            .header(ContentType::TEXT_PLAIN)
            .body(mail.body.clone())?)
    }
}

/// The host of `smtp://USER:PASSWORD@HOST:PORT`: the rest is nothing to show.
fn host(url: &str) -> &str {
    let authority = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = authority.split(['/', '?']).next().unwrap_or_default();
    let address = authority
        .rsplit_once('@')
        .map_or(authority, |(_, address)| address);
    address.rsplit_once(':').map_or(address, |(host, _)| host)
}

/// A 5xx is about this mail and final, unless it is about us (530 to 538: authentication). A 4xx means later. Anything else
/// is a connection that broke, before or after the server took the mail.
fn outcome(error: &lettre::transport::smtp::Error) -> Outcome {
    let is_about_us = error.status().is_some_and(|code| {
        let code: u16 = code.into();
        (530..=538).contains(&code)
    });
    if error.is_permanent() && !is_about_us {
        Outcome::Refused
    } else if error.is_permanent() || error.is_transient() {
        Outcome::Deferred
    } else {
        Outcome::Unknown
    }
}
