//! A choreographed order's life, as one total function: [`decide`]. No I/O. An orchestrated order's is beside it, in
//! [`orchestrated`], with the same states.
//!
//! ```text
//!  pending ───────── reserved ─────────► confirmed ──── committed ───► confirmed, at rest
//!     │ declined, rejected,                  │ cancelled by the customer
//!     │ cancelled, deadline                  │
//!     └──────────────► cancelling ◄──────────┘
//!                          │ payment and inventory have both answered
//!                          └──────────────► cancelled, at rest
//! ```
//!
//! The table, state by input, is in `docs/architecture.md`.

pub mod orchestrated;

use contracts::order::{CancelReason, Participant};

/// How the services agree on an order's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Coordination {
    /// Each reacts to the events of the others: [`decide`].
    Choreography,
    /// A saga orchestrator asks each in turn: [`orchestrated::decide`].
    Orchestration,
}

/// Where an order stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// Accepted; waits for payment and inventory.
    Pending,
    /// Paid and reserved. At rest once inventory has committed the reservation.
    Confirmed {
        /// Whether it has.
        committed: bool,
    },
    /// Being undone. Ends only when both have answered.
    Cancelling(Undoing),
    /// Undone. At rest.
    Cancelled(Undoing),
}

/// An order that is being undone: why, and who has answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Undoing {
    /// Why.
    pub reason: CancelReason,
    /// What payment answered.
    pub payment: Option<Undo>,
    /// What inventory answered.
    pub inventory: Option<Undo>,
}

/// What a participant answered to `order.cancelling`. It answers the same for ever: its row is permanent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Undo {
    /// Refunded; released.
    Undone,
    /// It had done nothing, and will do nothing.
    NothingToUndo,
    /// An operator wrote it off.
    Settled,
}

/// An order's state, and how often it has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Order {
    /// Where it stands.
    pub state: State,
    /// 1 at first, one more for each change that is published.
    pub version: u32,
}

/// What can happen to an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Input {
    /// Our own `order.created` came back from the broker: now somebody can have heard of the order.
    Heard,
    /// `payment.declined`
    PaymentDeclined,
    /// `inventory.reserved`
    Reserved,
    /// `inventory.rejected`
    Rejected,
    /// `inventory.committed`
    Committed,
    /// `payment.refunded`, `payment.nothing_to_undo`, `payment.settled`
    PaymentUndo(Undo),
    /// `inventory.released`, `inventory.nothing_to_undo`, `inventory.settled`
    InventoryUndo(Undo),
    /// Somebody asked to cancel it: the customer, or an operator, or (by the clock) the deadline.
    Cancel(CancelReason),
    /// What is awaited has not come for a while.
    Sweep,
    /// An operator writes off what a participant cannot undo.
    Settle(Participant),
}

/// What a change leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Effect {
    /// The clock of the deadline starts.
    StartDeadline,
    /// The others hear of it.
    Publish(Fact),
}

/// What the others hear.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fact {
    /// `order.created`
    Created,
    /// `order.confirmed`
    Confirmed,
    /// `order.cancelling`
    Cancelling(CancelReason),
    /// `order.settling`, to this participant
    Settling(Participant),
    /// `order.cancelled`
    Cancelled {
        /// Why.
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
    /// What follows.
    pub effect: Option<Effect>,
}

/// That cannot happen in this state. From a message: it contradicts what we know, so a person must look at it. From a
/// request: the answer is 409.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{input:?} is not possible while the order is {state:?}")]
pub struct Illegal {
    /// The state.
    pub state: State,
    /// What came.
    pub input: Input,
}

impl Order {
    /// A new order.
    pub const NEW: Self = Self {
        state: State::Pending,
        version: 1,
    };

    /// Whether nothing more will happen to it by itself.
    pub fn is_at_rest(&self) -> bool {
        matches!(
            self.state,
            State::Confirmed { committed: true } | State::Cancelled(_)
        )
    }
}

/// What becomes of `order` by `input`.
///
/// Messages come late, twice and in any order. Whatever can still arrive from the past of an order is ignored in every
/// later state; only what contradicts the order's state is [`Illegal`].
pub fn decide(order: Order, input: Input) -> Result<Decision, Illegal> {
    use Fact as F;
    use Input as I;
    use State as S;

    let ignore = Ok(Decision {
        order,
        effect: None,
    });
    let publish = |fact| {
        Ok(Decision {
            order,
            effect: Some(Effect::Publish(fact)),
        })
    };
    let illegal = Err(Illegal {
        state: order.state,
        input,
    });
    // A change that others hear of.
    let change = |state, fact| {
        let order = Order {
            state,
            version: order.version + 1,
        };
        Ok(Decision {
            order,
            effect: Some(Effect::Publish(fact)),
        })
    };
    // A change that only we need to know.
    let note = |state| {
        Ok(Decision {
            order: Order { state, ..order },
            effect: None,
        })
    };
    let cancelling = |reason| {
        change(
            S::Cancelling(Undoing {
                reason,
                payment: None,
                inventory: None,
            }),
            F::Cancelling(reason),
        )
    };
    // An answer to `order.cancelling`; with the second of the two it is over.
    let answered = |undoing: Undoing| match undoing {
        Undoing {
            reason,
            payment: Some(payment),
            inventory: Some(_),
        } => change(S::Cancelled(undoing), F::Cancelled { reason, payment }),
        _ => note(S::Cancelling(undoing)),
    };

    match (order.state, input) {
        // Pending -> Pending
        (S::Pending, I::Heard) => Ok(Decision {
            order,
            effect: Some(Effect::StartDeadline),
        }),
        (S::Pending, I::Sweep) => publish(F::Created),
        // Pending -> Confirmed
        (S::Pending, I::Reserved) => change(S::Confirmed { committed: false }, F::Confirmed),
        // Pending -> Cancelling
        (S::Pending, I::PaymentDeclined) => cancelling(CancelReason::PaymentDeclined),
        (S::Pending, I::Rejected) => cancelling(CancelReason::OutOfStock),
        (S::Pending, I::Cancel(reason)) => cancelling(reason),
        // Nobody was asked to commit or to undo anything yet.
        (S::Pending, I::Committed | I::PaymentUndo(_) | I::InventoryUndo(_) | I::Settle(_)) => {
            illegal
        }

        // Confirmed -> Confirmed, at rest
        (S::Confirmed { committed: false }, I::Committed) => note(S::Confirmed { committed: true }),
        (S::Confirmed { committed: false }, I::Sweep) => publish(F::Confirmed),
        // Confirmed -> Cancelling
        (S::Confirmed { .. }, I::Cancel(CancelReason::Customer)) => {
            cancelling(CancelReason::Customer)
        }
        // The deadline passed just when it was confirmed.
        (S::Confirmed { .. }, I::Cancel(CancelReason::Deadline)) => ignore,
        (S::Confirmed { .. }, I::Heard | I::Reserved) => ignore,
        (S::Confirmed { committed: true }, I::Committed | I::Sweep) => ignore,
        // Only the customer undoes a confirmed order; and what is reserved was neither declined nor rejected.
        (S::Confirmed { .. }, I::Cancel(_) | I::Settle(_)) => illegal,
        (
            S::Confirmed { .. },
            I::PaymentDeclined | I::Rejected | I::PaymentUndo(_) | I::InventoryUndo(_),
        ) => illegal,

        // Cancelling -> Cancelling, Cancelling -> Cancelled
        (S::Cancelling(undoing), I::PaymentUndo(answer)) => match undoing.payment {
            None => answered(Undoing {
                payment: Some(answer),
                ..undoing
            }),
            Some(before) if before == answer => ignore,
            Some(_) => illegal,
        },
        (S::Cancelling(undoing), I::InventoryUndo(answer)) => match undoing.inventory {
            None => answered(Undoing {
                inventory: Some(answer),
                ..undoing
            }),
            Some(before) if before == answer => ignore,
            Some(_) => illegal,
        },
        (S::Cancelling(undoing), I::Sweep) => publish(F::Cancelling(undoing.reason)),
        (S::Cancelling(Undoing { payment: None, .. }), I::Settle(Participant::Payment)) => {
            publish(F::Settling(Participant::Payment))
        }
        (
            S::Cancelling(Undoing {
                inventory: None, ..
            }),
            I::Settle(Participant::Inventory),
        ) => publish(F::Settling(Participant::Inventory)),
        (S::Cancelling(_), I::Settle(_)) => illegal,

        // Cancelled: only a contradiction matters.
        (S::Cancelled(undoing), I::PaymentUndo(answer)) if undoing.payment != Some(answer) => {
            illegal
        }
        (S::Cancelled(undoing), I::InventoryUndo(answer)) if undoing.inventory != Some(answer) => {
            illegal
        }
        (S::Cancelled(_), I::Settle(_)) => illegal,
        (S::Cancelled(_), I::PaymentUndo(_) | I::InventoryUndo(_) | I::Sweep) => ignore,

        // The past of an order that is, or was, being undone.
        (
            S::Cancelling(_) | S::Cancelled(_),
            I::Heard | I::PaymentDeclined | I::Reserved | I::Rejected | I::Committed | I::Cancel(_),
        ) => ignore,
    }
}

#[cfg(test)]
mod tests;
