//! The steps that can happen next to a choreographed order.

use contracts::order::Participant;
use order::domain as orders;

use super::{
    super::{
        company::{Ask, CardAnswer},
        facts::Fact,
        routing::Queue,
    },
    World,
};

/// A step of the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    /// The relay publishes, and deletes the row.
    Publish(Fact),
    /// The relay publishes, and dies before it deletes the row.
    PublishAndDie(Fact),
    /// A service handles a message, and acknowledges it.
    Deliver(Queue, Fact),
    /// A service handles a message, and the broker delivers it again.
    DeliverAndKeep(Queue, Fact),
    /// Payment's worker calls the card processor.
    AskCard(Ask),
    /// A response of the card processor arrives.
    CardAnswers(CardAnswer),
    /// A response of the card processor is lost.
    AnswerLost(CardAnswer),
    /// The customer cancels.
    Cancel,
    /// The deadline passes.
    Deadline,
    /// The order service resends the messages whose answers are missing.
    Sweep,
    /// An operator settles a participant's part.
    Settle(Participant),
}

impl World {
    /// Returns the steps that have to happen, sooner or later. When there are none, the order must be at rest.
    pub fn musts(&self) -> Vec<Step> {
        let mut musts: Vec<Step> = self.outbox.each().map(Step::Publish).collect();
        let queued = self.queued.each();
        musts.extend(queued.map(|(queue, fact)| Step::Deliver(queue, fact)));
        musts.extend(self.books.company.answers.each().map(Step::CardAnswers));
        if self.books.company.answers.is_empty() {
            musts.extend(self.asks());
        }
        musts
    }

    fn asks(&self) -> impl Iterator<Item = Step> + use<> {
        let asks = self.books.company.asks(self.books.payment);
        asks.iter().copied().map(Step::AskCard)
    }

    /// Returns the steps that may happen, within the budget.
    pub(super) fn mays(&self) -> Vec<Step> {
        let mut mays = Vec::new();
        if self.budget.repeats > 0 {
            mays.extend(self.outbox.each().map(Step::PublishAndDie));
            let queued = self.queued.each();
            mays.extend(queued.map(|(queue, fact)| Step::DeliverAndKeep(queue, fact)));
        }
        if self.budget.card_trouble > 0 {
            mays.extend(self.books.company.answers.each().map(Step::AnswerLost));
            if !self.books.company.answers.is_empty() {
                mays.extend(self.asks());
            }
        }
        if self.budget.cancels > 0 {
            mays.push(Step::Cancel);
        }
        if self.budget.deadlines > 0
            && self.deadline_runs
            && self.order.state == orders::State::Pending
        {
            mays.push(Step::Deadline);
        }
        if self.budget.sweeps > 0 && !self.order.is_at_rest() {
            mays.push(Step::Sweep);
        }
        if self.budget.settlements > 0
            && let orders::State::Cancelling(undoing) = self.order.state
        {
            if undoing.payment.is_none() {
                mays.push(Step::Settle(Participant::Payment));
            }
            if undoing.inventory.is_none() {
                mays.push(Step::Settle(Participant::Inventory));
            }
        }
        mays
    }
}
