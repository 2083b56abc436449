//! Waiting until nothing moves.

use std::{collections::HashSet, fmt, time::Duration};

use holdfast::backoff::pause;
use tokio::time::Instant;

use super::{books::Reader, broker::Broker};

/// All that still moves, or waits for an operator.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unrest {
    /// Orders that are not at rest.
    pub orders: Vec<String>,
    /// Orders that are stuck, and wait for an operator.
    pub stuck: Vec<String>,
    /// Sagas that are running or compensating.
    pub sagas: Vec<String>,
    /// Sagas that are stuck or broken, each with its order.
    pub stuck_sagas: Vec<(String, String)>,
    /// Outboxes with rows: service, waiting, quarantined.
    pub outboxes: Vec<(String, i64, i64)>,
    /// Queues with messages: name, ready, unacknowledged.
    pub queues: Vec<(String, u64, u64)>,
    /// Payments that wait for the card processor.
    pub card_calls: i64,
    /// Mails that wait to be sent.
    pub mails: i64,
}

impl Unrest {
    pub(super) fn is_over(&self) -> bool {
        *self == Self::default()
    }

    /// Returns true if some of it may end without an operator.
    fn can_end_by_itself(&self) -> bool {
        let stuck_with_their_sagas = self.stuck_sagas.iter().map(|(_, order)| order);
        let left_alone: HashSet<&String> =
            self.stuck.iter().chain(stuck_with_their_sagas).collect();
        left_alone.is_empty()
            || !self.sagas.is_empty()
            || self.orders.iter().any(|order| !left_alone.contains(order))
    }
}

impl fmt::Display for Unrest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let some = |ids: &[String]| {
            let more = ids.len().saturating_sub(10);
            let shown = ids[..ids.len().min(10)].join(", ");
            if more > 0 {
                format!("{shown} and {more} more")
            } else {
                shown
            }
        };
        let mut parts = Vec::new();
        if !self.orders.is_empty() {
            parts.push(format!(
                "{} orders not at rest ({})",
                self.orders.len(),
                some(&self.orders)
            ));
        }
        if !self.stuck.is_empty() {
            parts.push(format!(
                "{} of them stuck ({})",
                self.stuck.len(),
                some(&self.stuck)
            ));
        }
        if !self.sagas.is_empty() {
            parts.push(format!(
                "{} sagas on their way ({})",
                self.sagas.len(),
                some(&self.sagas)
            ));
        }
        if !self.stuck_sagas.is_empty() {
            let ids: Vec<String> = self.stuck_sagas.iter().map(|(id, _)| id.clone()).collect();
            parts.push(format!(
                "{} sagas stuck or broken ({})",
                ids.len(),
                some(&ids)
            ));
        }
        for (service, waiting, quarantined) in &self.outboxes {
            parts.push(format!(
                "{service}'s outbox: {waiting} waiting, {quarantined} quarantined"
            ));
        }
        for (queue, ready, unacknowledged) in &self.queues {
            parts.push(format!(
                "{queue}: {ready} waiting, {unacknowledged} unacknowledged"
            ));
        }
        if self.card_calls > 0 {
            parts.push(format!(
                "{} payments wait for the card processor",
                self.card_calls
            ));
        }
        if self.mails > 0 {
            parts.push(format!("{} mails wait to be sent", self.mails));
        }
        f.write_str(&parts.join("; "))
    }
}

/// The end of a wait: its duration, and all that moved still.
pub(super) struct Waited {
    pub(super) took: Duration,
    pub(super) unrest: Option<Unrest>,
}

/// Waits until nothing moves at two looks in a row, as a message may be between an outbox and a queue during one of
/// them. Ends early if only an operator can act.
pub(super) async fn wait(
    reader: &Reader,
    broker: &Broker,
    within: Duration,
) -> anyhow::Result<Waited> {
    let begun = Instant::now();
    let mut calm = 0;
    loop {
        let unrest = look(reader, broker).await?;
        calm = if unrest.is_over() { calm + 1 } else { 0 };
        if calm == 2 {
            return Ok(Waited {
                took: begun.elapsed(),
                unrest: None,
            });
        }
        let only_an_operator = !unrest.is_over() && !unrest.can_end_by_itself();
        if begun.elapsed() > within
            || (only_an_operator && begun.elapsed() > Duration::from_secs(5))
        {
            return Ok(Waited {
                took: begun.elapsed(),
                unrest: Some(unrest),
            });
        }
        pause(Duration::from_millis(250)).await;
    }
}

/// Returns all that moves now.
pub(super) async fn look(reader: &Reader, broker: &Broker) -> anyhow::Result<Unrest> {
    let mut unrest = reader.unrest().await?;
    unrest.queues = broker.busy().await?;
    Ok(unrest)
}
