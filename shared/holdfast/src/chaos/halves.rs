//! A publisher that can crash between two messages of a batch.

use crate::{
    failpoint,
    outbox::{Message, Outcome, Publisher, Unavailable},
};

/// A publisher that publishes a batch in two parts, with the failpoint `outbox.mid_publish` between them. In a build
/// without failpoints it publishes the batch whole.
#[derive(Clone, Debug)]
pub struct Halves<P>(pub P);

impl<P: Publisher> Publisher for Halves<P> {
    async fn ready(&self) -> Result<(), Unavailable> {
        self.0.ready().await
    }

    async fn publish(&self, batch: &[Message]) -> Vec<Outcome> {
        if !failpoint::ENABLED || batch.len() < 2 {
            return self.0.publish(batch).await;
        }
        let (first, second) = batch.split_at(batch.len() / 2);
        let mut outcomes = self.0.publish(first).await;
        failpoint!("outbox.mid_publish");
        outcomes.extend(self.0.publish(second).await);
        outcomes
    }
}
