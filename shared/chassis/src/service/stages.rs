//! The parts of a service that run in the background, and the order in which they stop.

use std::{future::Future, time::Duration};

use tokio::{task::JoinSet, time::timeout};
use tokio_util::sync::CancellationToken;
use tracing::warn;

/// The time limit of each stage of stopping, after which the rest of the stage is abandoned.
pub(super) const LIMIT: Duration = Duration::from_secs(12);

/// Everything that runs in the background. The stages are stopped one after the other, in the order of these fields.
pub(super) struct Stages {
    pub(super) consuming: Stage<()>,
    /// Background work, each by its name.
    working: Stage<&'static str>,
    pub(super) relaying: Stage<()>,
}

impl Stages {
    /// Returns the stages, in which nothing runs yet.
    pub(super) fn new() -> Self {
        Self {
            consuming: Stage::new("consumers"),
            working: Stage::new("background work"),
            relaying: Stage::new("outbox relay"),
        }
    }

    /// Starts background work.
    pub(super) fn work<F>(&mut self, name: &'static str, work: impl FnOnce(CancellationToken) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.working.start(|token| {
            let running = work(token);
            async move {
                running.await;
                name
            }
        });
    }

    /// Waits for `shutdown`. Returns the reason if a part ends before that: a panic in one part must not leave half a
    /// service running.
    pub(super) async fn first_end(&mut self, shutdown: &CancellationToken) -> Option<String> {
        tokio::select! {
            () = shutdown.cancelled() => None,
            Some(ended) = self.working.tasks.join_next() => Some(format!("background work ended early: {ended:?}")),
            Some(ended) = self.consuming.tasks.join_next() => Some(format!("the consumers ended early: {ended:?}")),
            Some(ended) = self.relaying.tasks.join_next() => Some(format!("the relay ended early: {ended:?}")),
        }
    }

    /// Stops one stage after the other.
    pub(super) async fn stop(mut self) {
        self.consuming.stop().await;
        self.working.stop().await;
        self.relaying.stop().await;
    }
}

/// Parts that are stopped together.
pub(super) struct Stage<T> {
    name: &'static str,
    token: CancellationToken,
    tasks: JoinSet<T>,
}

impl<T: Send + 'static> Stage<T> {
    fn new(name: &'static str) -> Self {
        Self {
            name,
            token: CancellationToken::new(),
            tasks: JoinSet::new(),
        }
    }

    /// Starts a part, which must run until its token is cancelled.
    pub(super) fn start<F>(&mut self, part: impl FnOnce(CancellationToken) -> F)
    where
        F: Future<Output = T> + Send + 'static,
    {
        self.tasks.spawn(part(self.token.clone()));
    }

    /// Cancels the parts' token, and waits for them; aborts them after [`LIMIT`].
    async fn stop(&mut self) {
        self.token.cancel();
        let ended = async { while self.tasks.join_next().await.is_some() {} };
        if timeout(LIMIT, ended).await.is_err() {
            warn!(
                stage = self.name,
                "abandoned; what it had in hand is done again after the next start"
            );
            self.tasks.abort_all();
        }
    }
}
