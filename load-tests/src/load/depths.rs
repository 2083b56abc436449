//! The depths of queues and outboxes.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::reconcile::{Backlogs, Broker, Sources};

/// The depths at one moment.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Depths {
    /// Messages, ready or unacknowledged, of each queue that holds any.
    pub queues: BTreeMap<String, u64>,
    /// Rows in each service's outbox.
    pub outboxes: BTreeMap<String, i64>,
}

impl Depths {
    /// Returns the number of messages in all queues.
    pub fn in_queues(&self) -> u64 {
        self.queues.values().sum()
    }

    /// Returns the number of rows in all outboxes.
    pub fn in_outboxes(&self) -> i64 {
        self.outboxes.values().sum()
    }
}

/// Reads the depths, by the auditor's role.
pub struct Gauge {
    broker: Broker,
    backlogs: Backlogs,
}

impl Gauge {
    /// Creates a gauge, which connects at its first reading.
    pub fn new(sources: &Sources) -> anyhow::Result<Self> {
        Ok(Self {
            broker: Broker::new(sources)?,
            backlogs: Backlogs::new(sources)?,
        })
    }

    /// Reads the depths now.
    pub async fn read(&self) -> anyhow::Result<Depths> {
        let (queues, outboxes) = tokio::try_join!(self.broker.busy(), self.backlogs.read())?;
        Ok(Depths {
            queues: queues
                .into_iter()
                .map(|(name, ready, unacknowledged)| (name, ready + unacknowledged))
                .collect(),
            outboxes,
        })
    }
}
