//! The steps that can happen next to an orchestrated order.

use holdfast::saga::{Action, Direction, Phase, State};

use super::{
    super::{
        company::{Ask, CardAnswer},
        guards::Without,
    },
    World,
    message::{Message, Saga},
};

/// A step of the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    /// A service handles a message, and acknowledges it.
    Deliver(Message),
    /// A service handles a message, and the broker delivers it again.
    DeliverAndKeep(Message),
    /// A message is lost, or parked and dropped.
    Lose(Message),
    /// Payment's worker calls the card processor.
    AskCard(Ask),
    /// A response of the card processor arrives.
    CardAnswers(CardAnswer),
    /// A response of the card processor is lost.
    AnswerLost(CardAnswer),
    /// A saga has waited for too long.
    TimeOut(Saga),
    /// The order service resends its requests to the orchestrator.
    Sweep,
    /// An operator decides about a stuck saga.
    Operate(Saga, Action),
    /// The customer cancels.
    Cancel,
}

impl World {
    /// Returns whether only the clock and operators can move anything.
    pub fn is_quiet(&self) -> bool {
        let company = &self.books.company;
        self.on_the_way.is_empty()
            && company.answers.is_empty()
            && company.asks(self.books.payment).is_empty()
    }

    /// Returns the steps that have to happen, sooner or later: everything on its way arrives. If nothing is on its way,
    /// the clock goes on: waiting sagas time out, an operator decides about stuck ones, the order service sweeps.
    pub(super) fn musts(&self, without: Without) -> Vec<Step> {
        if self.is_quiet() {
            return self.by_the_clock(without);
        }
        let company = &self.books.company;
        let mut musts: Vec<Step> = self.on_the_way.each().map(Step::Deliver).collect();
        musts.extend(company.answers.each().map(Step::CardAnswers));
        if company.answers.is_empty() {
            musts.extend(self.asks());
        }
        musts
    }

    fn asks(&self) -> impl Iterator<Item = Step> + use<> {
        let asks = self.books.company.asks(self.books.payment);
        asks.iter().copied().map(Step::AskCard)
    }

    fn by_the_clock(&self, without: Without) -> Vec<Step> {
        let mut steps = self.overdue(without);
        steps.extend(self.decisions(without));
        // A saga that goes on comes back to the order by itself.
        if !self.sagas.go_on() && !self.order.is_at_rest() && without != Without::Sweeps {
            steps.push(Step::Sweep);
        }
        steps
    }

    fn overdue(&self, without: Without) -> Vec<Step> {
        let waiting = self
            .sagas
            .started()
            .filter(|(_, state)| state.phase == Phase::Active && without != Without::Timeouts);
        waiting.map(|(saga, _)| Step::TimeOut(saga)).collect()
    }

    fn decisions(&self, without: Without) -> impl Iterator<Item = Step> {
        let stuck = self
            .sagas
            .started()
            .filter(|(_, state)| state.phase == Phase::Stuck);
        stuck.flat_map(move |(saga, state)| {
            let actions = actions(state, without).iter();
            actions.map(move |action| Step::Operate(saga, *action))
        })
    }

    /// Returns the steps that may happen, within the budget.
    pub(super) fn mays(&self, without: Without) -> Vec<Step> {
        let mut mays = Vec::new();
        let budget = &self.budget;
        if budget.repeats > 0 {
            mays.extend(self.on_the_way.each().map(Step::DeliverAndKeep));
        }
        if budget.losses > 0 {
            mays.extend(self.on_the_way.each().map(Step::Lose));
        }
        let company = &self.books.company;
        if budget.card_trouble > 0 && !company.answers.is_empty() {
            mays.extend(company.answers.each().map(Step::AnswerLost));
            mays.extend(self.asks());
        }
        if budget.cancels > 0 {
            mays.push(Step::Cancel);
        }
        // The clock goes on also while something is on its way.
        let quiet = self.is_quiet();
        if budget.timeouts > 0 && !quiet {
            mays.extend(self.overdue(without));
        }
        if budget.decisions > 0 && !quiet {
            mays.extend(self.decisions(without));
        }
        if budget.sweeps > 0 && !self.order.is_at_rest() && (!quiet || self.sagas.go_on()) {
            mays.push(Step::Sweep);
        }
        mays
    }
}

/// Returns the actions of an operator on a stuck saga.
///
/// An operator whose settlement gets no reply can go on all the same. Then only the operator knows the outcome: the
/// order's row has the part as settled, and `reconcile` reports it, because its participant's row has something else.
/// This search leaves that out, except as a missing guard.
fn actions(state: &State, without: Without) -> &'static [Action] {
    if state.direction == Direction::Settle && without != Without::AnsweredSettlement {
        &[Action::Resume]
    } else {
        &[Action::Resume, Action::Skip, Action::Abandon]
    }
}
