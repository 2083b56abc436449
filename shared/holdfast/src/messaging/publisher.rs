//! Publishing with confirms: `Ok` means that the broker stored the message and routed it to a queue.

use std::{collections::HashMap, fmt, sync::Arc, time::Duration};

use lapin::{
    BasicProperties, Channel, Connection,
    options::{BasicPublishOptions, ConfirmSelectOptions},
    types::{AMQPValue, FieldTable, LongString, ShortString},
};
use metrics::{Unit, describe_histogram, histogram};
use tokio::{
    sync::{Mutex, watch},
    time::{Instant, timeout},
};
use tracing::{Instrument, info, warn};

use super::{
    connection::{self, Link},
    trace::{self, Sent},
};
use crate::{
    outbox::{self, Message, Outcome, Unavailable},
    telemetry::TRACEPARENT,
};

/// How long the broker may take to confirm a batch.
const CONFIRM: Duration = Duration::from_secs(10);

/// A connection that only publishes. Clones share it.
#[derive(Clone)]
pub struct Publisher(Arc<Inner>);

struct Inner {
    url: String,
    name: String,
    /// `None` before the first connect and after anything went wrong. The lock is held while a batch is under way, so
    /// there is one batch on the channel at a time: a returned message can be matched to its batch.
    session: Mutex<Option<Session>>,
    up: watch::Sender<bool>,
    link: Link,
}

struct Session {
    connection: Connection,
    channel: Channel,
}

impl Session {
    fn is_usable(&self) -> bool {
        self.connection.status().connected() && self.channel.status().connected()
    }
}

/// Why a batch has no outcome: the channel is gone, and with it the rest of the broker's answers.
struct Broken {
    /// Set if the broker closed the channel because of one message of the batch; it does not say which.
    refusal: Option<String>,
}

impl Publisher {
    /// A publisher that connects when it is first used, under `name`.
    pub fn new(url: impl Into<String>, name: impl Into<String>) -> Self {
        describe_histogram!(
            "publish_duration_seconds",
            Unit::Seconds,
            "From sending a batch of messages to the broker's last confirm of it; failed, if one of them was not confirmed"
        );
        let (up, link) = Link::new();
        Self(Arc::new(Inner {
            url: url.into(),
            name: name.into(),
            session: Mutex::new(None),
            up,
            link,
        }))
    }

    /// Whether it is connected.
    pub fn link(&self) -> Link {
        self.0.link.clone()
    }

    /// Closes the connection. A later use opens a new one.
    pub async fn close(&self) {
        if let Some(session) = self.0.session.lock().await.take() {
            connection::close(&session.connection, "shutdown").await;
        }
        self.0.up.send_replace(false);
    }
}

impl fmt::Debug for Publisher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Publisher")
            .field("name", &self.0.name)
            .field("up", &self.0.link.is_up())
            .finish()
    }
}

impl outbox::Publisher for Publisher {
    async fn ready(&self) -> Result<(), Unavailable> {
        let mut session = self.0.session.lock().await;
        self.0
            .ensure(&mut session)
            .await
            .map(|_| ())
            .map_err(Unavailable)
    }

    async fn publish(&self, batch: &[Message]) -> Vec<Outcome> {
        let begun = Instant::now();
        let sent: Vec<Sent<'_>> = batch.iter().map(Sent::begin).collect();
        let outcomes = self
            .0
            .publish_each(&sent)
            .instrument(trace::of_sending(&sent))
            .await;
        for (sent, outcome) in sent.iter().zip(&outcomes) {
            sent.end(outcome);
        }
        let all = outcomes
            .iter()
            .all(|outcome| *outcome == Outcome::Confirmed);
        let outcome = if all { "confirmed" } else { "failed" };
        histogram!("publish_duration_seconds", "outcome" => outcome).record(begun.elapsed());
        outcomes
    }
}

impl Inner {
    async fn publish_each(&self, batch: &[Sent<'_>]) -> Vec<Outcome> {
        let mut session = self.session.lock().await;
        match self.publish(&mut session, batch).await {
            Ok(outcomes) => outcomes,
            Err(Broken { refusal: None }) => vec![Outcome::Unknown; batch.len()],
            // One message made the broker close the channel (no such exchange, no right to write to it). Each goes
            // alone, so that only the one is refused. Some go twice by that, under the same id.
            Err(Broken { refusal: Some(_) }) => {
                let mut outcomes = Vec::with_capacity(batch.len());
                let mut gone = false;
                for message in batch {
                    // Each would wait for a broker that is gone.
                    if gone {
                        outcomes.push(Outcome::Unknown);
                        continue;
                    }
                    outcomes.push(
                        match self
                            .publish(&mut session, std::slice::from_ref(message))
                            .await
                        {
                            Ok(mut outcome) => outcome.pop().unwrap_or(Outcome::Unknown),
                            Err(Broken {
                                refusal: Some(refusal),
                            }) => Outcome::Refused(refusal),
                            Err(Broken { refusal: None }) => {
                                gone = true;
                                Outcome::Unknown
                            }
                        },
                    );
                }
                outcomes
            }
        }
    }

    /// The session, made anew if it is not usable.
    async fn ensure<'s>(&self, session: &'s mut Option<Session>) -> Result<&'s Session, String> {
        if !session.as_ref().is_some_and(Session::is_usable) {
            if let Some(old) = session.take() {
                self.up.send_replace(false);
                warn!(publisher = self.name, "lost the broker");
                connection::close(&old.connection, "broken channel").await;
            }
            let connection = connection::connect(&self.url, &self.name).await?;
            let channel = async {
                let channel = connection.create_channel().await?;
                channel
                    .confirm_select(ConfirmSelectOptions::default())
                    .await?;
                Ok::<_, lapin::Error>(channel)
            };
            let channel = timeout(CONFIRM, channel)
                .await
                .map_err(|_| "no channel".to_owned())?;
            let channel = channel.map_err(|e| e.to_string())?;
            *session = Some(Session {
                connection,
                channel,
            });
            self.up.send_replace(true);
            info!(publisher = self.name, "connected");
        }
        session.as_ref().ok_or_else(|| "not connected".to_owned())
    }

    async fn publish(
        &self,
        session: &mut Option<Session>,
        batch: &[Sent<'_>],
    ) -> Result<Vec<Outcome>, Broken> {
        if let Err(error) = self.ensure(session).await {
            warn!(publisher = self.name, %error, "cannot publish");
            return Err(Broken { refusal: None });
        }
        // Taken out: if this future is dropped half way, the channel with its open confirms goes with it.
        let Some(current) = session.take() else {
            return Err(Broken { refusal: None });
        };
        let published = match timeout(CONFIRM, on_channel(&current.channel, batch)).await {
            Ok(published) => published,
            Err(_) => Err(Broken { refusal: None }),
        };
        match &published {
            Ok(_) => *session = Some(current),
            Err(Broken { refusal }) => {
                warn!(
                    publisher = self.name,
                    refusal, "the channel broke while publishing"
                );
                self.up.send_replace(false);
                connection::close(&current.connection, "broken channel").await;
            }
        }
        published
    }
}

/// Publishes the batch and collects the broker's word on each message.
///
/// All or nothing: a returned message may be handed over with the confirm of *another* message of the batch (lapin gives
/// it to whichever confirm completes next), so a batch that was not awaited to its end says nothing about any of its
/// messages. Awaited to its end, the set of returned messages is exact, and they are matched by message id.
async fn on_channel(channel: &Channel, batch: &[Sent<'_>]) -> Result<Vec<Outcome>, Broken> {
    let broken = |error: &lapin::Error| Broken {
        refusal: refused(error),
    };
    let mut confirms = Vec::with_capacity(batch.len());
    for sent in batch {
        let message = sent.message;
        let options = BasicPublishOptions {
            mandatory: true,
            ..BasicPublishOptions::default()
        };
        let exchange = message.exchange.as_str().into();
        let routing_key = message.routing_key.as_str().into();
        let published = channel
            .basic_publish(
                exchange,
                routing_key,
                options,
                &message.payload,
                properties(sent),
            )
            .await;
        match published {
            Ok(confirm) => confirms.push(confirm),
            // The channel may have been closed because of a message before this one: then that one's confirm says so.
            Err(error) => {
                let mut refusal = refused(&error);
                for confirm in confirms {
                    if let Err(error) = confirm.await {
                        refusal = refusal.or_else(|| refused(&error));
                    }
                }
                return Err(Broken { refusal });
            }
        }
    }
    let mut outcomes = Vec::with_capacity(batch.len());
    let mut returned: HashMap<String, String> = HashMap::new();
    for confirm in confirms {
        let confirmation = confirm.await.map_err(|error| broken(&error))?;
        outcomes.push(if confirmation.is_nack() {
            Outcome::Nacked
        } else {
            Outcome::Confirmed
        });
        if let Some(message) = confirmation.take_message() {
            let id = message
                .delivery
                .properties
                .message_id()
                .as_ref()
                .map(ToString::to_string);
            returned.insert(
                id.unwrap_or_default(),
                format!("{} {}", message.reply_code, message.reply_text),
            );
        }
    }
    for (sent, outcome) in batch.iter().zip(&mut outcomes) {
        if let Some(reply) = returned.get(&sent.message.id.to_string()) {
            *outcome = Outcome::Refused(format!("the broker returned it: {reply}"));
        }
    }
    Ok(outcomes)
}

/// What the broker said when it closed the channel, if that is what happened.
fn refused(error: &lapin::Error) -> Option<String> {
    error.is_amqp_soft_error().then(|| error.to_string())
}

fn properties(sent: &Sent<'_>) -> BasicProperties {
    let mut headers = FieldTable::default();
    let context = sent.traceparent.as_ref();
    let context = context.map(|context| (TRACEPARENT, context.as_str()));
    let own = sent.message.headers.iter();
    // The later one wins.
    for (name, value) in own
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .chain(context)
    {
        if let Ok(name) = ShortString::try_new(name) {
            headers.insert(
                name,
                AMQPValue::LongString(LongString::from(value.as_bytes())),
            );
        }
    }
    BasicProperties::default()
        .with_message_id(sent.message.id.to_string().into())
        .with_content_type("application/json".into())
        .with_delivery_mode(2) // persistent
        .with_headers(headers)
}
