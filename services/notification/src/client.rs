//! The client of the mail server.

use std::{error::Error as _, time::Duration};

use chassis::dependencies::{self, Dependency};
use holdfast::{
    bulkhead::{Bulkhead, Limits},
    circuit_breaker::{CircuitBreaker, Class, Classify, Config, HalfOpen, Policy},
    completion::complete,
    deadline::{Deadline, Exceeded},
    pipeline::{Error, Pipeline},
    retry::{Advice, GaveUp, Retryable},
};
use lettre::{
    AsyncSmtpTransport, AsyncTransport, Message, Tokio1Executor,
    message::{Mailbox, header::ContentType},
};

use crate::{
    config::MailSettings,
    store::{Claimed, Outcome},
};

/// The dependency's name in metrics and in the operators' API.
const NAME: &str = "smtp";

/// The client of the mail server.
pub(crate) struct Post {
    dependency: Dependency,
    transport: AsyncSmtpTransport<Tokio1Executor>,
    from: Mailbox,
    timeout: Duration,
    server: String,
}

/// The mail server's reply, or the error that stands for one.
pub(crate) struct Reply {
    pub(crate) outcome: Outcome,
    pub(crate) text: String,
}

/// A rejection of the mail by the open breaker or the full bulkhead: it was not handed over, which is no attempt.
pub(crate) struct NotAsked {
    pub(crate) why: String,
    /// The wait before the breaker permits a call, if that is known.
    pub(crate) retry_after: Option<Duration>,
}

/// A reply other than "accepted".
#[derive(Debug)]
struct NotAccepted {
    outcome: Outcome,
    text: String,
    class: Class,
}

impl Post {
    pub(crate) fn new(settings: &MailSettings) -> anyhow::Result<Self> {
        let timeout = Duration::from_millis(settings.smtp_timeout_ms);
        let transport = AsyncSmtpTransport::<Tokio1Executor>::from_url(&settings.smtp_url)?
            .timeout(Some(timeout))
            .build();
        Ok(Self {
            dependency: Dependency::new(pipeline(settings, timeout)?),
            transport,
            from: settings.mail_from.parse()?,
            timeout,
            server: host(&settings.smtp_url).to_owned(),
        })
    }

    /// Returns the host of the mail server.
    pub(crate) fn server(&self) -> &str {
        &self.server
    }

    /// Returns the dependency that every mail goes to.
    pub(crate) fn dependency(&self) -> &Dependency {
        &self.dependency
    }

    /// Sends a mail once, within twice the timeout. Its Message-ID is fixed, so that a receiver recognises a mail that
    /// comes twice.
    pub(crate) async fn send(&self, mail: &Claimed) -> Result<Reply, NotAsked> {
        let message = match self.message(mail) {
            Ok(message) => message,
            Err(error) => {
                return Ok(Reply {
                    outcome: Outcome::Refused,
                    text: format!("it cannot be written: {error}"),
                });
            }
        };
        let send = |_| self.hand_over(message.clone());
        // The transport's timeout is per command; this one is for all of them.
        let deadline = Deadline::after(self.timeout.saturating_mul(2));
        match self.dependency.run(deadline, send).await {
            Ok(text) => Ok(Reply {
                outcome: Outcome::Accepted,
                text,
            }),
            Err(GaveUp { last, .. }) => match last {
                Error::Call(NotAccepted { outcome, text, .. }) => Ok(Reply { outcome, text }),
                Error::Open(rejected) => Err(NotAsked {
                    why: rejected.to_string(),
                    retry_after: rejected.retry_after,
                }),
                Error::Full(full) => Err(NotAsked {
                    why: full.to_string(),
                    retry_after: None,
                }),
            },
        }
    }

    async fn hand_over(&self, message: Message) -> Result<String, NotAccepted> {
        let transport = self.transport.clone();
        #[expect(
            clippy::disallowed_methods,
            reason = "run to its end: the pool would lend the connection out with our replies still to come"
        )]
        let send = complete(async move { transport.send(message).await });
        match send.await {
            Ok(response) => {
                let text: Vec<&str> = response.message().collect();
                Ok(format!("{} {}", response.code(), text.join(" ")))
            }
            Err(error) => {
                let cause = error
                    .source()
                    .map(|cause| format!(": {cause}"))
                    .unwrap_or_default();
                Err(NotAccepted {
                    outcome: outcome(&error),
                    text: format!("{error}{cause}"),
                    class: class(&error),
                })
            }
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

/// Returns the host of `smtp://USER:PASSWORD@HOST:PORT`: the password must not be shown.
fn host(url: &str) -> &str {
    let authority = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = authority.split(['/', '?']).next().unwrap_or_default();
    let address = authority
        .rsplit_once('@')
        .map_or(authority, |(_, address)| address);
    address.rsplit_once(':').map_or(address, |(host, _)| host)
}

/// Returns the outcome of an error. A 5xx is about this mail and final, unless it is about this client's account (530
/// to 538: authentication). A 4xx means later. Any other error is a broken connection, before or after the server took
/// the mail.
fn outcome(error: &lettre::transport::smtp::Error) -> Outcome {
    if error.is_permanent() && !is_about_us(error) {
        Outcome::Refused
    } else if error.is_permanent() || error.is_transient() {
        Outcome::Deferred
    } else {
        Outcome::Unknown
    }
}

fn is_about_us(error: &lettre::transport::smtp::Error) -> bool {
    error
        .status()
        .is_some_and(|code| (530..=538).contains(&u16::from(code)))
}

/// Classifies an error by the server's health. A reply about one mail is a success. Failures are no reply, 421 (the
/// server closes), 454 (it cannot authenticate this client now), and 530 to 538 (it refuses to authenticate it).
fn class(error: &lettre::transport::smtp::Error) -> Class {
    match error.status().map(u16::from) {
        None | Some(421 | 454) => Class::Failure,
        Some(_) if is_about_us(error) => Class::Failure,
        Some(_) => Class::Success,
    }
}

impl From<Exceeded> for NotAccepted {
    fn from(_: Exceeded) -> Self {
        Self {
            outcome: Outcome::Unknown,
            text: "no answer in time".to_owned(),
            class: Class::Failure,
        }
    }
}

impl Retryable for NotAccepted {
    /// Returns [`Advice::Never`]: the mail is stored, and the worker tries it again later.
    fn advice(&self) -> Advice {
        Advice::Never
    }
}

impl Classify for NotAccepted {
    fn class(&self) -> Class {
        self.class
    }
}

/// Builds the circuit breaker and the bulkhead before the mail server.
fn pipeline(settings: &MailSettings, timeout: Duration) -> anyhow::Result<Pipeline> {
    let policy = Policy::Consecutive { failures: 5 };
    let open_for = Duration::from_millis(settings.mail_breaker_open_ms);
    let breaker = Config {
        half_open: HalfOpen {
            maximum_wait: timeout * 3,
            ..HalfOpen::default()
        },
        ..dependencies::breaker(policy, open_for)
    };
    let limits = Limits {
        max_concurrent: settings.mail_concurrency.into(),
        // A mail without a permit does not wait: it is stored, and the worker claims it again later.
        max_waiting: 0,
        max_wait: Duration::ZERO,
    };
    Ok(Pipeline::new(NAME)
        .breaker(CircuitBreaker::new(NAME, breaker)?)
        .bulkhead(Bulkhead::new(NAME, limits)?))
}
