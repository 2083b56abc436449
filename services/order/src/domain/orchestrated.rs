//! An orchestrated order's life, as one total function: [`decide`]. No I/O.
//!
//! ```text
//!  pending ───────── confirm ─────► confirmed ──── complete ───► confirmed, at rest
//!   │   │ the customer or an             │ the customer cancels
//!   │   │ operator cancels               │
//!   │   └──────────► cancelling ◄────────┘
//!   │                    │ cancel
//!   └──── cancel ────────┴─────────► cancelled, at rest
//! ```
//!
//! The states are those of [`choreography`](super), but what happens between them is the orchestrator's work: its saga
//! sends commands to payment and inventory, and commands this service to confirm, to complete or to cancel. The order's
//! row arbitrates between confirming and cancelling: the first one wins. Each command gets a reply, and the same reply
//! however often and however late it comes again; `was_confirmed` keeps what these replies need once the order has
//! changed further.

use contracts::order::{CancelReason, Saga};

use super::{Order, State, Undo, Undoing};

/// The version of an order's first change, which decides whether it is confirmed. Replies about that carry this version
/// for ever.
const DECIDED: u32 = Order::NEW.version + 1;

/// An input to an orchestrated order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Input {
    /// The command `orchestrator.confirm_order`: the order is paid and reserved.
    Confirm,
    /// The command `orchestrator.complete_order`: everything is done that a confirmed order leads to.
    Complete,
    /// The command `orchestrator.cancel_order`: everything is undone.
    Cancel {
        /// The saga's reason for undoing it.
        reason: CancelReason,
        /// The outcome at payment.
        payment: Undo,
        /// The outcome at inventory.
        inventory: Undo,
    },
    /// A request to cancel, by the customer or an operator.
    AskedToCancel(CancelReason),
    /// A wait for the orchestrator that has lasted too long.
    Sweep,
}

/// A reply to a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Reply {
    /// The answer, by its message type.
    pub answer: Answer,
    /// The version of the order that decided it.
    pub version: u32,
}

/// An answer to a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Answer {
    /// The reply `order.confirmed`.
    Confirmed,
    /// The reply `order.confirm_rejected`.
    ConfirmRejected(CancelReason),
    /// The reply `order.completed`.
    Completed,
    /// The reply `order.cancelled`.
    Cancelled {
        /// The order's own reason for the cancel.
        reason: CancelReason,
        /// The outcome at payment.
        payment: Undo,
    },
}

/// A decision of [`decide`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Decision {
    /// The order as it is now.
    pub order: Order,
    /// Set if the order is, or was, confirmed.
    pub was_confirmed: bool,
    /// The reply, if the input was a command.
    pub reply: Option<Reply>,
    /// The saga that the orchestrator is requested to start, unless it was started before: `order.start_saga`.
    pub start: Option<Saga>,
    /// The reason for which the orchestrator is then requested to give the saga up: `order.cancel_requested`.
    pub give_up: Option<CancelReason>,
}

impl Decision {
    /// Leaves the order as it is, and sends nothing.
    fn unchanged(order: Order, was_confirmed: bool) -> Self {
        Self {
            order,
            was_confirmed,
            reply: None,
            start: None,
            give_up: None,
        }
    }

    /// Changes the state under a new version, which other services learn of.
    fn changed(self, state: State) -> Self {
        let order = Order {
            state,
            version: self.order.version + 1,
        };
        Self { order, ..self }
    }

    fn confirmed(self) -> Self {
        Self {
            was_confirmed: true,
            ..self.changed(State::Confirmed { committed: false })
        }
    }

    /// Changes the state under the same version, because only the orchestrator needs to know.
    fn committed(self) -> Self {
        let order = Order {
            state: State::Confirmed { committed: true },
            ..self.order
        };
        Self { order, ..self }
    }

    fn cancelling(self, reason: CancelReason) -> Self {
        self.changed(State::Cancelling(Undoing {
            reason,
            payment: None,
            inventory: None,
        }))
    }

    fn cancelled(self, reason: CancelReason, payment: Undo, inventory: Undo) -> Self {
        let undoing = Undoing {
            reason,
            payment: Some(payment),
            inventory: Some(inventory),
        };
        self.changed(State::Cancelled(undoing))
            .replying_cancelled(reason, payment)
    }

    /// Replies what the first change decided, which no later change alters.
    fn replying(self, answer: Answer) -> Self {
        let version = DECIDED;
        Self {
            reply: Some(Reply { answer, version }),
            ..self
        }
    }

    /// Replies that the order is cancelled, with its own reason.
    fn replying_cancelled(self, reason: CancelReason, payment: Undo) -> Self {
        let version = self.order.version;
        let answer = Answer::Cancelled { reason, payment };
        Self {
            reply: Some(Reply { answer, version }),
            ..self
        }
    }

    /// Requests a saga of the orchestrator.
    fn starting(self, saga: Saga) -> Self {
        Self {
            start: Some(saga),
            ..self
        }
    }

    /// Requests of the orchestrator that it give the order's saga up.
    fn giving_up(self, reason: CancelReason) -> Self {
        Self {
            give_up: Some(reason),
            ..self
        }
    }
}

/// An input that is not possible in the order's state. A command contradicts what we know, so it is parked for a person
/// to look at; a request is answered 409.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{input:?} is not possible while the order is {state:?}{}", if *.was_confirmed { ", and was confirmed" } else { "" })]
pub struct Illegal {
    /// The state of the order.
    pub state: State,
    /// Set if the order is, or was, confirmed.
    pub was_confirmed: bool,
    /// The input that is not possible.
    pub input: Input,
}

/// Returns the decision that `input` leads to in the state of `order`. `was_confirmed` comes from the decision before;
/// it is false at first.
///
/// Commands come late, twice and in any order, and each gets a reply; only an input that contradicts the order's state
/// is [`Illegal`].
pub fn decide(order: Order, was_confirmed: bool, input: Input) -> Result<Decision, Illegal> {
    use Answer as A;
    use CancelReason as R;
    use Input as I;
    use State as S;

    let unchanged = Decision::unchanged(order, was_confirmed);
    let illegal = Illegal {
        state: order.state,
        was_confirmed,
        input,
    };
    let decision = match (order.state, input) {
        // Pending -> Confirmed
        (S::Pending, I::Confirm) => unchanged.confirmed().replying(A::Confirmed),
        // Pending -> Cancelling: the saga gets a hint that it need not try any longer.
        (S::Pending, I::AskedToCancel(reason @ (R::Customer | R::Operator))) => {
            unchanged.cancelling(reason).giving_up(reason)
        }
        // Pending, Cancelling -> Cancelled. The first cancel keeps its reason.
        (
            S::Pending,
            I::Cancel {
                reason,
                payment,
                inventory,
            },
        )
        | (
            S::Cancelling(Undoing { reason, .. }),
            I::Cancel {
                payment, inventory, ..
            },
        ) => unchanged.cancelled(reason, payment, inventory),
        (
            S::Cancelled(Undoing {
                reason,
                payment: Some(payment),
                ..
            }),
            I::Cancel { .. },
        ) => unchanged.replying_cancelled(reason, payment),
        // Only an order with both outcomes is cancelled.
        (S::Cancelled(Undoing { payment: None, .. }), I::Cancel { .. }) => return Err(illegal),
        // A saga that got the reply `order.confirmed` cannot have given the order up.
        (S::Confirmed { .. }, I::Cancel { .. }) => return Err(illegal),

        (S::Confirmed { .. }, I::Confirm) => unchanged.replying(A::Confirmed),
        // Confirmed -> Confirmed, at rest
        (S::Confirmed { committed: false }, I::Complete) => {
            unchanged.committed().replying(A::Completed)
        }
        (S::Confirmed { committed: true }, I::Complete) => unchanged.replying(A::Completed),
        // Confirmed -> Cancelling: the first saga ended, or will end, well; a second one undoes it.
        (S::Confirmed { .. }, I::AskedToCancel(R::Customer)) => {
            unchanged.cancelling(R::Customer).starting(Saga::UndoOrder)
        }

        // A command about the past of an order gets the reply that it would have got then.
        (S::Cancelling(_) | S::Cancelled(_), I::Confirm) if was_confirmed => {
            unchanged.replying(A::Confirmed)
        }
        (S::Cancelling(undoing) | S::Cancelled(undoing), I::Confirm) => {
            unchanged.replying(A::ConfirmRejected(undoing.reason))
        }
        (S::Cancelling(_) | S::Cancelled(_), I::Complete) if was_confirmed => {
            unchanged.replying(A::Completed)
        }
        // An order that was never confirmed cannot be completed.
        (S::Pending | S::Cancelling(_) | S::Cancelled(_), I::Complete) => return Err(illegal),

        (S::Cancelling(_) | S::Cancelled(_), I::AskedToCancel(R::Customer | R::Operator)) => {
            unchanged
        }
        // Only the customer undoes a confirmed order, and no other reason is requested here.
        (_, I::AskedToCancel(_)) => return Err(illegal),

        (S::Pending | S::Confirmed { committed: false }, I::Sweep) => {
            unchanged.starting(Saga::PlaceOrder)
        }
        (S::Cancelling(_), I::Sweep) if was_confirmed => unchanged.starting(Saga::UndoOrder),
        // Requests the saga, too: a saga that was never begun has nothing to undo, and its end is the order's.
        (S::Cancelling(undoing), I::Sweep) => unchanged
            .starting(Saga::PlaceOrder)
            .giving_up(undoing.reason),
        (S::Confirmed { committed: true } | S::Cancelled(_), I::Sweep) => unchanged,
    };
    Ok(decision)
}

#[cfg(test)]
mod tests;
