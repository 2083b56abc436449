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
//! between being confirmed and being cancelled: who comes first wins. Each command is answered, and answered alike however
//! often and however late it comes again; that is what `was_confirmed` remembers when the order has moved on.

use contracts::order::{CancelReason, Saga};

use super::{Order, State, Undo, Undoing};

/// Whether an order is confirmed is decided by its first change. What it answers about that carries this version for ever.
const DECIDED: u32 = Order::NEW.version + 1;

/// What can happen to an orchestrated order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Input {
    /// `orchestrator.confirm_order`: paid and reserved.
    Confirm,
    /// `orchestrator.complete_order`: everything is done that a confirmed order leads to.
    Complete,
    /// `orchestrator.cancel_order`: everything is undone.
    Cancel {
        /// Why the saga undid it.
        reason: CancelReason,
        /// What became of payment's part.
        payment: Undo,
        /// What became of inventory's part.
        inventory: Undo,
    },
    /// The customer, or an operator, wants it cancelled.
    AskedToCancel(CancelReason),
    /// Nothing was heard from the orchestrator for a while.
    Sweep,
}

/// What is answered to a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Reply {
    /// The answer.
    pub answer: Answer,
    /// The version of the order that decided it.
    pub version: u32,
}

/// The answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Answer {
    /// `order.confirmed`
    Confirmed,
    /// `order.confirm_rejected`
    ConfirmRejected(CancelReason),
    /// `order.completed`
    Completed,
    /// `order.cancelled`
    Cancelled {
        /// Why, as the order has it.
        reason: CancelReason,
        /// What became of what payment had taken.
        payment: Undo,
    },
}

/// What [`decide`] decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Decision {
    /// The order as it is now.
    pub order: Order,
    /// Whether it is, or was, confirmed.
    pub was_confirmed: bool,
    /// The answer, to a command; to nothing else.
    pub reply: Option<Reply>,
    /// `order.start_saga`: the orchestrator is asked to start this, unless it has before.
    pub start: Option<Saga>,
    /// `order.cancel_requested`: and then to give up what it is at.
    pub give_up: Option<CancelReason>,
}

/// That cannot happen in this state. From a command: it contradicts what we know, so a person must look at it. From a
/// request: the answer is 409.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{input:?} is not possible while the order is {state:?}{}", if *.was_confirmed { ", and was confirmed" } else { "" })]
pub struct Illegal {
    /// The state.
    pub state: State,
    /// Whether it is, or was, confirmed.
    pub was_confirmed: bool,
    /// What came.
    pub input: Input,
}

/// What becomes of `order` by `input`. `was_confirmed` is what the decision before said of it; false at first.
///
/// Commands come late, twice and in any order, and each is answered; only what contradicts the order's state is
/// [`Illegal`].
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
    // A change that others hear of.
    let change = |state| Decision {
        order: Order {
            state,
            version: order.version + 1,
        },
        ..same
    };
    // An answer to what its first change decided, and nothing can change any more.
    let answer = |decision, answer| {
        let version = DECIDED;
        Ok(Decision {
            reply: Some(Reply { answer, version }),
            ..decision
        })
    };
    // It is undone; the order as it is then says why, and what became of what.
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
        // Only what both have undone is cancelled.
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
        // Pending, Cancelling -> Cancelled. Who asked first keeps the reason.
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
        // Its saga cannot have given up what we told it is confirmed.
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

        // A saga that asks about the past of an order hears what it would have heard then.
        (S::Cancelling(_) | S::Cancelled(_), I::Confirm) if was_confirmed => {
            answer(same, Answer::Confirmed)
        }
        (S::Cancelling(undoing) | S::Cancelled(undoing), I::Confirm) => {
            answer(same, Answer::ConfirmRejected(undoing.reason))
        }
        (S::Cancelling(_) | S::Cancelled(_), I::Complete) if was_confirmed => {
            answer(same, Answer::Completed)
        }
        // Nobody can complete what was never confirmed.
        (S::Pending | S::Cancelling(_) | S::Cancelled(_), I::Complete) => illegal,

        (
            S::Cancelling(_) | S::Cancelled(_),
            I::AskedToCancel(CancelReason::Customer | CancelReason::Operator),
        ) => Ok(same),
        // Only the customer undoes a confirmed order; and nobody else asks for it here.
        (_, I::AskedToCancel(_)) => illegal,

        (S::Pending | S::Confirmed { committed: false }, I::Sweep) => Ok(Decision {
            start: Some(Saga::PlaceOrder),
            ..same
        }),
        (S::Cancelling(_), I::Sweep) if was_confirmed => Ok(Decision {
            start: Some(Saga::UndoOrder),
            ..same
        }),
        // Also the start: it undoes nothing that was never begun, and its end is the order's.
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
