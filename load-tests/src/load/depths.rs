//! What waits: messages in queues, rows in outboxes.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::reconcile::{Backlogs, Broker, Sources};

/// What waits at one moment.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Depths {
    /// Messages in queues, ready or with a consumer: those queues that hold any.
    pub queues: BTreeMap<String, u64>,
    /// Rows in each service's outbox.
    pub outboxes: BTreeMap<String, i64>,
}

impl Depths {
    /// In all queues.
    pub fn in_queues(&self) -> u64 {
        self.queues.values().sum()
    }

    /// In all outboxes.
    pub fn in_outboxes(&self) -> i64 {
        self.outboxes.values().sum()
    }
}

/// Reads depths, as the auditor.
pub struct Gauge {
    broker: Broker,
    backlogs: Backlogs,
}

impl Gauge {
    /// Connects when it is asked.
    pub fn new(sources: &Sources) -> anyhow::Result<Self> {
        Ok(Self {
            broker: Broker::new(sources)?,
            backlogs: Backlogs::new(sources)?,
        })
    }

    /// Reads them now.
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
