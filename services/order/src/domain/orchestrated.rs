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
//! asks payment and inventory, and asks this service to confirm, to complete or to cancel. The order's row arbitrates
//! between confirming and cancelling: the first one wins. Each command gets a reply, and the same reply however often
//! and however late it comes again; `was_confirmed` remembers what that needs once the order has moved on.

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
    /// The saga that the orchestrator is asked to start, unless it has before: `order.start_saga`.
    pub start: Option<Saga>,
    /// The reason for which the orchestrator is then asked to give the saga up: `order.cancel_requested`.
    pub give_up: Option<CancelReason>,
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
    use Input as I;
    use State as S;

    let same = Decision {
        order,
        was_confirmed,
        reply: None,
        start: None,
        give_up: None,
    };
    let illegal = Err(Illegal {
        state: order.state,
        was_confirmed,
        input,
    });
    // A change that other services are told of.
    let change = |state| Decision {
        order: Order {
            state,
            version: order.version + 1,
        },
        ..same
    };
    // A reply about what the first change decided, which no later change alters.
    let answer = |decision, answer| {
        let version = DECIDED;
        Ok(Decision {
            reply: Some(Reply { answer, version }),
            ..decision
        })
    };
    // The reply that the order is cancelled, with its reason and outcome.
    let cancelled = |decision: Decision, undoing: Undoing| match undoing.payment {
        Some(payment) => Ok(Decision {
            reply: Some(Reply {
                answer: Answer::Cancelled {
                    reason: undoing.reason,
                    payment,
                },
                version: decision.order.version,
            }),
            ..decision
        }),
        // Only an order with both outcomes is cancelled.
        None => illegal,
    };
    let cancelling = |reason| {
        change(S::Cancelling(Undoing {
            reason,
            payment: None,
            inventory: None,
        }))
    };

    match (order.state, input) {
        // Pending -> Confirmed
        (S::Pending, I::Confirm) => {
            let confirmed = Decision {
                was_confirmed: true,
                ..change(S::Confirmed { committed: false })
            };
            answer(confirmed, Answer::Confirmed)
        }
        // Pending -> Cancelling: the saga is told that it need not try any longer.
        (
            S::Pending,
            I::AskedToCancel(reason @ (CancelReason::Customer | CancelReason::Operator)),
        ) => Ok(Decision {
            give_up: Some(reason),
            ..cancelling(reason)
        }),
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
        ) => {
            let undoing = Undoing {
                reason,
                payment: Some(payment),
                inventory: Some(inventory),
            };
            cancelled(change(S::Cancelled(undoing)), undoing)
        }
        (S::Cancelled(undoing), I::Cancel { .. }) => cancelled(same, undoing),
        // A saga cannot have given up an order that it was told is confirmed.
        (S::Confirmed { .. }, I::Cancel { .. }) => illegal,

        (S::Confirmed { .. }, I::Confirm) => answer(same, Answer::Confirmed),
        // Confirmed -> Confirmed, at rest
        (S::Confirmed { committed: false }, I::Complete) => {
            let order = Order {
                state: S::Confirmed { committed: true },
                ..order
            };
            answer(Decision { order, ..same }, Answer::Completed)
        }
        (S::Confirmed { committed: true }, I::Complete) => answer(same, Answer::Completed),
        // Confirmed -> Cancelling: the first saga ended, or will end, well; a second one undoes it.
        (S::Confirmed { .. }, I::AskedToCancel(CancelReason::Customer)) => Ok(Decision {
            start: Some(Saga::UndoOrder),
            ..cancelling(CancelReason::Customer)
        }),

        // A saga that asks about the past of an order gets the reply that it would have got then.
        (S::Cancelling(_) | S::Cancelled(_), I::Confirm) if was_confirmed => {
            answer(same, Answer::Confirmed)
        }
        (S::Cancelling(undoing) | S::Cancelled(undoing), I::Confirm) => {
            answer(same, Answer::ConfirmRejected(undoing.reason))
        }
        (S::Cancelling(_) | S::Cancelled(_), I::Complete) if was_confirmed => {
            answer(same, Answer::Completed)
        }
        // An order that was never confirmed cannot be completed.
        (S::Pending | S::Cancelling(_) | S::Cancelled(_), I::Complete) => illegal,

        (
            S::Cancelling(_) | S::Cancelled(_),
            I::AskedToCancel(CancelReason::Customer | CancelReason::Operator),
        ) => Ok(same),
        // Only the customer undoes a confirmed order, and no other reason is requested here.
        (_, I::AskedToCancel(_)) => illegal,

        (S::Pending | S::Confirmed { committed: false }, I::Sweep) => Ok(Decision {
            start: Some(Saga::PlaceOrder),
            ..same
        }),
        (S::Cancelling(_), I::Sweep) if was_confirmed => Ok(Decision {
            start: Some(Saga::UndoOrder),
            ..same
        }),
        // Asks for the saga, too: a saga that was never begun has nothing to undo, and its end is the order's.
        (S::Cancelling(undoing), I::Sweep) => Ok(Decision {
            start: Some(Saga::PlaceOrder),
            give_up: Some(undoing.reason),
            ..same
        }),
        (S::Confirmed { committed: true } | S::Cancelled(_), I::Sweep) => Ok(same),
    }
}

#[cfg(test)]
mod tests;
