//! The production transition functions, and the same with one guard removed: a model that cannot find what is wrong with
//! those would prove nothing about the real ones.

use contracts::{order::CancelReason, payment::DeclineReason};
use order::domain::{Fact as OrderFact, Order, State as OrderState, Undo, Undoing};
use payment::domain::{Booking, Input as PaymentInput, State as PaymentState};

/// Which guard is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Without {
    /// None: production.
    Nothing,
    /// A cancel that comes before the charge leaves no tombstone: the late charge charges.
    PaymentTombstone,
    /// A release that comes before the reserve leaves no tombstone: the late reserve reserves.
    InventoryTombstone,
    /// A cancel that comes while the card company is being asked is not noted: a capture that lands later stays.
    CancelRequested,
    /// A timeout of the card company is taken for a decline.
    DefiniteAnswers,
    /// A second cancel refunds a second time.
    OneRefund,
    /// The order is called cancelled as soon as payment has answered, whatever inventory does.
    BothAnswers,
    /// Messages are published after the commit, from memory: a crash loses them.
    Outbox,
}

impl Without {
    /// Every guard that can be removed.
    pub const EACH: [Self; 7] = [
        Self::PaymentTombstone,
        Self::InventoryTombstone,
        Self::CancelRequested,
        Self::DefiniteAnswers,
        Self::OneRefund,
        Self::BothAnswers,
        Self::Outbox,
    ];

    pub(super) fn decide_order(
        self,
        order: Order,
        input: order::domain::Input,
    ) -> Result<order::domain::Decision, order::domain::Illegal> {
        let decision = order::domain::decide(order, input);
        if self == Self::BothAnswers
            && let (OrderState::Cancelling(undoing), order::domain::Input::PaymentUndo(answer)) =
                (order.state, input)
        {
            let undoing = Undoing {
                payment: Some(answer),
                inventory: Some(Undo::NothingToUndo),
                ..undoing
            };
            let fact = OrderFact::Cancelled {
                reason: CancelReason::Customer,
                payment: answer,
            };
            return Ok(order::domain::Decision {
                order: Order {
                    state: OrderState::Cancelled(undoing),
                    version: order.version + 1,
                },
                effect: Some(order::domain::Effect::Publish(fact)),
            });
        }
        decision
    }

    pub(super) fn decide_payment(
        self,
        state: Option<PaymentState>,
        input: PaymentInput,
    ) -> Result<payment::domain::Decision, payment::domain::Illegal> {
        match (self, state, input) {
            (Self::PaymentTombstone, Some(PaymentState::Void), PaymentInput::Charge(_)) => {
                payment::domain::decide(None, input)
            }
            (
                Self::CancelRequested,
                Some(PaymentState::Charging { .. }),
                PaymentInput::CardCaptured,
            ) => payment::domain::decide(
                Some(PaymentState::Charging {
                    cancel_requested: false,
                }),
                input,
            ),
            (Self::OneRefund, Some(PaymentState::Refunded), PaymentInput::Cancel) => {
                let mut decision = payment::domain::decide(state, input)?;
                decision.booking = Some(Booking::Credit);
                Ok(decision)
            }
            _ => payment::domain::decide(state, input),
        }
    }

    /// What a worker makes of no answer.
    pub(super) fn no_answer(self) -> Option<PaymentInput> {
        (self == Self::DefiniteAnswers)
            .then_some(PaymentInput::CardDeclined(DeclineReason::CardDeclined))
    }

    pub(super) fn decide_inventory(
        self,
        state: Option<&inventory::domain::State>,
        input: inventory::domain::Input,
    ) -> Result<inventory::domain::Decision, inventory::domain::Illegal> {
        match (self, state, &input) {
            (
                Self::InventoryTombstone,
                Some(inventory::domain::State::Void),
                inventory::domain::Input::Reserve(_),
            ) => inventory::domain::decide(None, input),
            _ => inventory::domain::decide(state, input),
        }
    }
}
