//! Publishing with confirms: `Ok` means that the broker stored the message and routed it to a queue.

use std::{
    collections::HashMap,
    fmt,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::StreamExt;
use lapin::{
    BasicProperties, Channel, Connection, ErrorKind, Event, PublisherConfirm,
    options::{BasicPublishOptions, ConfirmSelectOptions},
    protocol::{AMQPErrorKind, AMQPHardError},
    types::{AMQPValue, FieldTable, LongString, ShortString},
};
use metrics::{Unit, describe_gauge, describe_histogram, gauge, histogram};
use tokio::{
    sync::{Mutex, watch},
    time::{Instant, timeout},
};
use tracing::{Instrument, info, warn};

use super::{
    connection::{self, Link},
    headers,
    trace::{self, Sent},
};
use crate::outbox::{self, Message, Outcome, Unavailable};

/// The time within which the broker must confirm a batch.
const CONFIRM: Duration = Duration::from_secs(10);

/// A connection that only publishes. Clones share it.
#[derive(Clone)]
pub struct Publisher(Arc<Inner>);

struct Inner {
    url: String,
    name: String,
    /// `None` before the first connect and after any failure. The lock is held while a batch is under way, so there is
    /// one batch on the channel at a time: a returned message can be matched to its batch.
    session: Mutex<Option<Session>>,
    up: watch::Sender<bool>,
    link: Link,
    /// The number of bytes of headers that a message may have on the last connection.
    room: AtomicUsize,
}

struct Session {
    connection: Connection,
    /// `None` before the first use, and after a batch that the broker left unconfirmed while it blocked the connection.
    channel: Option<Channel>,
}

impl Session {
    /// Returns whether the connection is worth keeping. A blocked one is: the broker does not even reply to its close,
    /// and announces on it alone that it takes messages again.
    fn is_connected(&self) -> bool {
        self.connection.status().connected()
    }

    fn is_blocked(&self) -> bool {
        self.is_connected() && self.connection.status().blocked()
    }

    fn open_channel(&self) -> Option<&Channel> {
        let channel = self.channel.as_ref();
        channel.filter(|channel| channel.status().connected())
    }
}

/// The loss of a channel, and with it of the broker's replies to a batch, which has no outcome.
struct Broken {
    /// Set if the broker closed the channel, or the connection, because of one message of the batch; it does not say
    /// which.
    refusal: Option<String>,
}

/// The reason why there is no session.
enum NotOpen {
    /// The connection was there, and is broken.
    Broken(String),
    /// The broker is not there, or takes nothing now.
    Unavailable(String),
}

impl NotOpen {
    fn into_text(self) -> String {
        let (Self::Broken(why) | Self::Unavailable(why)) = self;
        why
    }
}

impl Publisher {
    /// Makes a publisher that connects, as `name`, when it is first used.
    pub fn new(url: impl Into<String>, name: impl Into<String>) -> Self {
        describe_histogram!(
            "publish_duration_seconds",
            Unit::Seconds,
            "From sending a batch of messages to the broker's last confirm of it; failed, if one of them was not confirmed"
        );
        describe_gauge!(
            "publisher_blocked",
            Unit::Count,
            "1 while the broker takes nothing from this publisher because it is short of memory or disk"
        );
        let (up, link) = Link::new();
        Self(Arc::new(Inner {
            url: url.into(),
            name: name.into(),
            session: Mutex::new(None),
            up,
            link,
            room: AtomicUsize::new(headers::room(headers::FRAME_MAX)),
        }))
    }

    /// Returns a link that is up while the publisher is connected and the broker takes what it sends.
    pub fn link(&self) -> Link {
        self.0.link.clone()
    }

    /// Returns the number of bytes of headers that a message may have. One that has more is refused before it is sent.
    pub(super) fn room(&self) -> usize {
        self.0.room.load(Ordering::Relaxed)
    }

    /// Closes the connection, once the batch that is under way has ended. A later use opens a new one.
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
        self.0.ensure(&mut session).await.map_err(Unavailable)
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
        if let Err(error) = self.ensure(&mut session).await {
            warn!(publisher = self.name, %error, "cannot publish");
            return vec![Outcome::Unknown; batch.len()];
        }
        // A message that cannot be sent is refused here: on the wire it would cost all messages the connection.
        let room = self.room.load(Ordering::Relaxed);
        let (mut ready, mut refusals) = (Vec::with_capacity(batch.len()), Vec::new());
        for sent in batch {
            match Ready::new(sent, room) {
                Ok(message) => {
                    ready.push(message);
                    refusals.push(None);
                }
                Err(refusal) => refusals.push(Some(refusal)),
            }
        }
        let mut outcomes = self.publish_ready(&mut session, &ready).await.into_iter();
        let merged = refusals.into_iter().map(|refusal| match refusal {
            Some(refusal) => Outcome::Refused(refusal),
            None => outcomes.next().unwrap_or(Outcome::Unknown),
        });
        merged.collect()
    }

    async fn publish_ready(
        &self,
        session: &mut Option<Session>,
        batch: &[Ready<'_>],
    ) -> Vec<Outcome> {
        if batch.is_empty() {
            return Vec::new();
        }
        match self.publish(session, batch).await {
            Ok(outcomes) => outcomes,
            Err(Broken { refusal: None }) => vec![Outcome::Unknown; batch.len()],
            // One message made the broker close the channel (no such exchange, no right to write to it). Each is
            // published alone, so that only that one is refused. Some are published twice by that, under the same id.
            Err(Broken { refusal: Some(_) }) => {
                let mut outcomes = Vec::with_capacity(batch.len());
                let (mut tried_again, mut gone) = (false, false);
                for message in batch {
                    // Each further message would wait for a broker that is gone.
                    let mut outcome = Outcome::Unknown;
                    if !gone {
                        outcome = self.publish_alone(session, message).await;
                    }
                    // The broker may have closed the connection because of a publish that came after the refused one.
                    if outcome == Outcome::Unknown && !tried_again {
                        tried_again = true;
                        outcome = self.publish_alone(session, message).await;
                    }
                    gone = outcome == Outcome::Unknown;
                    outcomes.push(outcome);
                }
                outcomes
            }
        }
    }

    async fn publish_alone(&self, session: &mut Option<Session>, message: &Ready<'_>) -> Outcome {
        match self.publish(session, std::slice::from_ref(message)).await {
            Ok(mut outcome) => outcome.pop().unwrap_or(Outcome::Unknown),
            Err(Broken {
                refusal: Some(refusal),
            }) => Outcome::Refused(refusal),
            Err(Broken { refusal: None }) => Outcome::Unknown,
        }
    }

    /// Makes sure that there is a session on which a batch can be sent now.
    ///
    /// A connection from an earlier batch may be broken without a sign of it yet: RabbitMQ closes it if it reads a
    /// publish on a channel that a refused message has closed. Nothing of this batch has been sent by then, so a new
    /// one is made at once.
    async fn ensure(&self, session: &mut Option<Session>) -> Result<(), String> {
        let was_connected = session.as_ref().is_some_and(Session::is_connected);
        match self.open(session).await {
            Err(NotOpen::Broken(error)) if was_connected => {
                info!(publisher = self.name, error, "connects again");
                self.open(session).await.map_err(NotOpen::into_text)
            }
            opened => opened.map_err(NotOpen::into_text),
        }
    }

    /// Opens what is missing of the session: the connection, the channel.
    async fn open(&self, session: &mut Option<Session>) -> Result<(), NotOpen> {
        if !session.as_ref().is_some_and(Session::is_connected) {
            if let Some(old) = session.take() {
                self.up.send_replace(false);
                warn!(publisher = self.name, "lost the broker");
                connection::close(&old.connection, "lost").await;
            }
            let connected = connection::connect(&self.url, &self.name).await;
            let connection = connected.map_err(NotOpen::Unavailable)?;
            let room = headers::room(connection.configuration().frame_max());
            self.room.store(room, Ordering::Relaxed);
            *session = Some(Session {
                connection,
                channel: None,
            });
        }
        let Some(current) = session else {
            return Err(NotOpen::Unavailable("not connected".to_owned()));
        };
        if current.is_blocked() {
            self.blocked("it still is");
            let why = "the broker takes nothing from its publishers now";
            return Err(NotOpen::Unavailable(why.to_owned()));
        }
        if current.open_channel().is_none() {
            match timeout(CONFIRM, confirming(&current.connection)).await {
                Ok(Ok(channel)) => current.channel = Some(channel),
                failed => {
                    self.up.send_replace(false);
                    let dropped = session.take_if(|current| !current.is_blocked());
                    if let Some(old) = &dropped {
                        connection::close(&old.connection, "no channel").await;
                    }
                    return Err(match failed {
                        Ok(Err(error)) if dropped.is_some() => NotOpen::Broken(error.to_string()),
                        Ok(Err(error)) => NotOpen::Unavailable(error.to_string()),
                        _ => NotOpen::Unavailable("no channel".to_owned()),
                    });
                }
            }
        }
        self.unblocked();
        Ok(())
    }

    /// Records that the broker takes messages.
    fn unblocked(&self) {
        gauge!("publisher_blocked").set(0.0);
        if !self.up.send_replace(true) {
            info!(publisher = self.name, "connected");
        }
    }

    /// Records that the broker blocks this publisher.
    fn blocked(&self, reason: &str) {
        gauge!("publisher_blocked").set(1.0);
        if self.up.send_replace(false) {
            warn!(
                publisher = self.name,
                reason, "the broker takes nothing from its publishers now"
            );
        }
    }

    async fn publish(
        &self,
        session: &mut Option<Session>,
        batch: &[Ready<'_>],
    ) -> Result<Vec<Outcome>, Broken> {
        if let Err(error) = self.ensure(session).await {
            warn!(publisher = self.name, %error, "cannot publish");
            return Err(Broken { refusal: None });
        }
        // The session is taken out: if this future is dropped half way, the channel is dropped with its open confirms.
        let Some(Session {
            connection,
            channel: Some(channel),
        }) = session.take()
        else {
            return Err(Broken { refusal: None });
        };
        let published = self.send(&connection, &channel, batch).await;
        match &published {
            Ok(_) => {
                *session = Some(Session {
                    connection,
                    channel: Some(channel),
                });
            }
            Err(Broken { refusal }) => {
                warn!(
                    publisher = self.name,
                    refusal, "the channel broke while publishing"
                );
                let status = connection.status();
                // The channel is never used again: its confirms mean nothing to a later batch. The connection stays if
                // the broker closed the channel alone, or blocks the connection: then what was handed over may still
                // leave when the broker takes messages again.
                if status.connected() && (refusal.is_some() || status.blocked()) {
                    *session = Some(Session {
                        connection,
                        channel: None,
                    });
                } else {
                    self.up.send_replace(false);
                    connection::close(&connection, "broken channel").await;
                }
            }
        }
        published
    }

    /// Sends a batch and waits at most [`CONFIRM`] for the broker's confirms. Meanwhile records if the broker blocks
    /// the connection.
    async fn send(
        &self,
        connection: &Connection,
        channel: &Channel,
        batch: &[Ready<'_>],
    ) -> Result<Vec<Outcome>, Broken> {
        let mut events = pin!(connection.events_listener());
        let mut sending = pin!(timeout(CONFIRM, on_channel(channel, batch)));
        loop {
            tokio::select! {
                published = &mut sending => {
                    return published.unwrap_or(Err(Broken { refusal: None }));
                }
                // The broker reports a block at the first message that it does not take, which may be one of these. The
                // event may be an old one that no batch has read, so the connection's own state decides.
                Some(event) = events.next() => {
                    let status = connection.status();
                    match event {
                        Event::ConnectionBlocked(reason) if status.blocked() => self.blocked(&reason),
                        Event::ConnectionUnblocked if status.connected() && !status.blocked() => {
                            self.unblocked();
                        }
                        _ => {}
                    }
                }
            }
        }
    }
}

/// Opens a channel in confirm mode.
async fn confirming(connection: &Connection) -> Result<Channel, lapin::Error> {
    let channel = connection.create_channel().await?;
    channel
        .confirm_select(ConfirmSelectOptions::default())
        .await?;
    Ok(channel)
}

/// A message in the form in which it is sent: each part of it is known to fit.
struct Ready<'a> {
    message: &'a Message,
    exchange: ShortString,
    routing_key: ShortString,
    properties: BasicProperties,
}

impl<'a> Ready<'a> {
    /// Puts a message into the form in which it is sent. Returns the reason if that is impossible: its headers take
    /// more than `room`, or a name is too long.
    fn new(sent: &'a Sent<'_>, room: usize) -> Result<Self, String> {
        let message = sent.message;
        Ok(Self {
            message,
            exchange: short("the exchange", &message.exchange)?,
            routing_key: short("the routing key", &message.routing_key)?,
            properties: properties(sent, room)?,
        })
    }
}

fn short(what: &str, text: &str) -> Result<ShortString, String> {
    match headers::too_long(what, text) {
        Some(why) => Err(why),
        None => ShortString::try_new(text).map_err(|error| error.to_string()),
    }
}

/// Publishes the batch and collects the broker's confirm or refusal of each message.
///
/// All or nothing: a returned message may be handed over with the confirm of *another* message of the batch (lapin
/// gives it to whichever confirm completes next). So a batch that was not awaited to its end says nothing about any of
/// its messages. Awaited to its end, the set of returned messages is exact, and they are matched by message id.
async fn on_channel(channel: &Channel, batch: &[Ready<'_>]) -> Result<Vec<Outcome>, Broken> {
    let confirms = hand_over(channel, batch).await?;
    let mut outcomes = Vec::with_capacity(batch.len());
    let mut returned: HashMap<String, String> = HashMap::new();
    for confirm in confirms {
        let confirmation = confirm.await.map_err(|error| Broken {
            refusal: refused(&error),
        })?;
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
    for (ready, outcome) in batch.iter().zip(&mut outcomes) {
        if let Some(reply) = returned.get(&ready.message.id.to_string()) {
            *outcome = Outcome::Refused(format!("the broker returned it: {reply}"));
        }
    }
    Ok(outcomes)
}

/// Hands a batch over to the broker. Returns the confirm of each message, to be awaited.
async fn hand_over(
    channel: &Channel,
    batch: &[Ready<'_>],
) -> Result<Vec<PublisherConfirm>, Broken> {
    let mut confirms = Vec::with_capacity(batch.len());
    for ready in batch {
        let options = BasicPublishOptions {
            mandatory: true,
            ..BasicPublishOptions::default()
        };
        let published = channel
            .basic_publish(
                ready.exchange.clone(),
                ready.routing_key.clone(),
                options,
                &ready.message.payload,
                ready.properties.clone(),
            )
            .await;
        match published {
            Ok(confirm) => confirms.push(confirm),
            // An earlier message may have made the broker close the channel: then that message's confirm says so.
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
    Ok(confirms)
}

/// Returns the broker's reason if it closed the channel, or the connection, because of a message; `None` if anything
/// else happened.
fn refused(error: &lapin::Error) -> Option<String> {
    let ErrorKind::ProtocolError(said) = error.kind() else {
        return None;
    };
    let is_about_a_message = match said.kind() {
        AMQPErrorKind::Soft(_) => true,
        // Other codes are about the connection: an operator closed it, or the broker is stopping.
        AMQPErrorKind::Hard(kind) => {
            matches!(kind, AMQPHardError::FRAMEERROR | AMQPHardError::SYNTAXERROR)
        }
    };
    is_about_a_message.then(|| error.to_string())
}

fn properties(sent: &Sent<'_>, room: usize) -> Result<BasicProperties, String> {
    let mut table = FieldTable::default();
    let mut weight = 0;
    for (name, value) in sent.headers() {
        weight += headers::weight(name, &value);
        table.insert(
            short("the name of a header", name)?,
            AMQPValue::LongString(LongString::from(value.as_bytes())),
        );
    }
    if weight > room {
        return Err(format!(
            "its headers take {weight} bytes, and at most {room} are allowed"
        ));
    }
    Ok(BasicProperties::default()
        .with_message_id(sent.message.id.to_string().into())
        .with_content_type("application/json".into())
        .with_delivery_mode(2) // persistent
        .with_headers(table))
}
