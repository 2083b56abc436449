//! The queues of the broker.

use anyhow::Context;
use serde_json::Value;

use super::Sources;

/// A client of the broker's management API.
pub(crate) struct Broker {
    http: reqwest::Client,
    url: String,
}

impl Broker {
    pub(crate) fn new(sources: &Sources) -> anyhow::Result<Self> {
        // An error means that a provider is installed already, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder()
            .no_proxy()
            .timeout(std::time::Duration::from_secs(10))
            .build()?;
        let api = sources.open(&sources.rabbitmq_api)?;
        let rabbitmq_vhost = &sources.rabbitmq_vhost;
        let url =
            format!("{api}/queues/{rabbitmq_vhost}?disable_stats=true&enable_queue_totals=true");
        Ok(Self { http, url })
    }

    /// Returns the queues that hold messages: name, messages ready, messages unacknowledged.
    pub(crate) async fn busy(&self) -> anyhow::Result<Vec<(String, u64, u64)>> {
        let queues: Vec<Value> = async {
            self.http
                .get(&self.url)
                .send()
                .await?
                .error_for_status()?
                .json()
                .await
        }
        .await
        .context("the broker's management API")?;
        anyhow::ensure!(!queues.is_empty(), "the broker shows no queues");
        let mut busy = Vec::new();
        for queue in &queues {
            let name = queue["name"]
                .as_str()
                .context("a queue has a name")?
                .to_owned();
            // The control room's own queues: messages there are copies, and no work depends on them.
            if name.starts_with("control-room.live.") {
                continue;
            }
            let count = |field: &str| {
                queue[field]
                    .as_u64()
                    .with_context(|| format!("the broker does not count {field} of {name}"))
            };
            let (ready, unacknowledged) =
                (count("messages_ready")?, count("messages_unacknowledged")?);
            if ready + unacknowledged > 0 {
                busy.push((name, ready, unacknowledged));
            }
        }
        Ok(busy)
    }
}
