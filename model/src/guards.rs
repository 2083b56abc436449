//! The production transition functions, and the same with one guard removed. A model that does not find the faults of
//! those would prove nothing about the real ones.

mod orchestrated;

use contracts::{order::CancelReason, payment::DeclineReason};
use inventory::domain as stock;
use order::domain::{self as orders, Order, Undo, Undoing};
use payment::domain::{self as money, Booking};

/// A guard that is removed from the production functions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Without {
    /// No guard is removed: production.
    Nothing,
    /// A cancel before the charge leaves no tombstone: the late charge charges.
    PaymentTombstone,
    /// A release before the reserve leaves no tombstone: the late reserve reserves.
    InventoryTombstone,
    /// A cancel during a call to the card processor is not noted: a later capture stays.
    CancelRequested,
    /// A timeout of the card processor counts as a decline.
    DefiniteAnswers,
    /// A second cancel refunds a second time.
    OneRefund,
    /// Choreography: the order is cancelled as soon as payment has answered, whatever inventory does.
    BothAnswers,
    /// Choreography: messages are published after the commit, from memory: a crash loses them.
    Outbox,
    /// Orchestration: a participant replies to a command once, and not when the command is resent.
    SameAnswer,
    /// Orchestration: a commit after its release gets no reply.
    LateCommit,
    /// Orchestration: a step without a reply for too long counts as refused, and is not undone.
    UnknownOutcome,
    /// Orchestration: a saga gives up on its pivot, too.
    Pivot,
    /// Orchestration: any reply of a step counts as the reply to its last command.
    AnswersByKey,
    /// Orchestration: a saga does not resend.
    Timeouts,
    /// Orchestration: the order service does not sweep.
    Sweeps,
    /// Orchestration: an operator goes on without a reply to a settlement.
    AnsweredSettlement,
    /// Orchestration: a cancelled order is confirmed all the same.
    Arbitration,
    /// Orchestration: an order that moved on has forgotten that it was confirmed.
    WasConfirmed,
}

impl Without {
    /// Every guard of choreography that can be removed.
    pub const CHOREOGRAPHY: [Self; 7] = [
        Self::PaymentTombstone,
        Self::InventoryTombstone,
        Self::CancelRequested,
        Self::DefiniteAnswers,
        Self::OneRefund,
        Self::BothAnswers,
        Self::Outbox,
    ];

    /// Every guard of orchestration that can be removed.
    pub const ORCHESTRATION: [Self; 15] = [
        Self::PaymentTombstone,
        Self::InventoryTombstone,
        Self::CancelRequested,
        Self::DefiniteAnswers,
        Self::OneRefund,
        Self::SameAnswer,
        Self::LateCommit,
        Self::UnknownOutcome,
        Self::Pivot,
        Self::AnswersByKey,
        Self::Timeouts,
        Self::Sweeps,
        Self::AnsweredSettlement,
        Self::Arbitration,
        Self::WasConfirmed,
    ];

    pub(super) fn decide_order(
        self,
        order: Order,
        input: orders::Input,
    ) -> Result<orders::Decision, orders::Illegal> {
        let decision = orders::decide(order, input);
        if self == Self::BothAnswers
            && let (orders::State::Cancelling(undoing), orders::Input::PaymentUndo(answer)) =
                (order.state, input)
        {
            let undoing = Undoing {
                payment: Some(answer),
                inventory: Some(Undo::NothingToUndo),
                ..undoing
            };
            let fact = orders::Fact::Cancelled {
                reason: CancelReason::Customer,
                payment: answer,
            };
            return Ok(orders::Decision {
                order: Order {
                    state: orders::State::Cancelled(undoing),
                    version: order.version + 1,
                },
                effect: Some(orders::Effect::Publish(fact)),
            });
        }
        decision
    }

    pub(super) fn decide_payment(
        self,
        state: Option<money::State>,
        input: money::Input,
    ) -> Result<money::Decision, money::Illegal> {
        use money::State as S;
        match (self, state, input) {
            (Self::PaymentTombstone, Some(S::Void), money::Input::Charge(_)) => {
                money::decide(None, input)
            }
            (Self::CancelRequested, Some(S::Charging { .. }), money::Input::CardCaptured) => {
                let not_noted = S::Charging {
                    cancel_requested: false,
                };
                money::decide(Some(not_noted), input)
            }
            (Self::OneRefund, Some(S::Refunded), money::Input::Cancel) => {
                let mut decision = money::decide(state, input)?;
                decision.booking = Some(Booking::Credit);
                Ok(decision)
            }
            _ => money::decide(state, input),
        }
    }

    /// Returns the input that payment makes of a lost response; `None` in production.
    pub(super) fn no_answer(self) -> Option<money::Input> {
        (self == Self::DefiniteAnswers)
            .then_some(money::Input::CardDeclined(DeclineReason::CardDeclined))
    }

    pub(super) fn decide_inventory(
        self,
        state: Option<&stock::State>,
        input: stock::Input,
    ) -> Result<stock::Decision, stock::Illegal> {
        use stock::{Input as I, State as S};
        let silent = match (self, state, &input) {
            (Self::InventoryTombstone, Some(S::Void), I::Reserve(_)) => {
                return stock::decide(None, input);
            }
            (Self::SameAnswer, Some(S::Sold), I::Commit) => true,
            (Self::LateCommit, Some(S::Released { .. } | S::Settled), I::Commit) => true,
            _ => false,
        };
        let mut decision = stock::decide(state, input)?;
        if silent {
            decision.answer = None;
        }
        Ok(decision)
    }
}
