//! The life of a choreographed order, as one total function without I/O: [`decide`]. An orchestrated order's is beside
//! it, in [`orchestrated`], with the same states.
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
pub(crate) mod pricing;

use contracts::order::{CancelReason, Participant};

/// The way in which services agree on an order's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Coordination {
    /// Each service reacts to the events of the others: [`decide`].
    Choreography,
    /// A saga orchestrator sends commands to each service in turn: [`orchestrated::decide`].
    Orchestration,
}

/// The state of an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// Accepted, and waiting for payment and inventory.
    Pending,
    /// Paid and reserved. At rest once inventory has committed the reservation.
    Confirmed {
        /// True once inventory has committed it.
        committed: bool,
    },
    /// Being undone. Ends only when both participants have answered.
    Cancelling(Undoing),
    /// Undone. At rest.
    Cancelled(Undoing),
}

/// The undoing of an order: its reason, and the answers so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Undoing {
    /// The reason of the cancel.
    pub reason: CancelReason,
    /// Payment's answer, if it has come.
    pub payment: Option<Undo>,
    /// Inventory's answer, if it has come.
    pub inventory: Option<Undo>,
}

/// A participant's answer to `order.cancelling`. It stays the same for ever, because the participant's row is
/// permanent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Undo {
    /// The part was refunded or released.
    Undone,
    /// The participant had done nothing, and will do nothing.
    NothingToUndo,
    /// An operator wrote the part off.
    Settled,
}

/// An order's state, and its version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Order {
    /// The state after the last change.
    pub state: State,
    /// The version: 1 at first, one more for each published change.
    pub version: u32,
}

/// An input to a choreographed order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Input {
    /// Our own `order.created` came back from the broker, so other services can have received it.
    Heard,
    /// The event `payment.declined`.
    PaymentDeclined,
    /// The event `inventory.reserved`.
    Reserved,
    /// The event `inventory.rejected`.
    Rejected,
    /// The event `inventory.committed`.
    Committed,
    /// The events `payment.refunded`, `payment.nothing_to_undo`, `payment.settled`.
    PaymentUndo(Undo),
    /// The events `inventory.released`, `inventory.nothing_to_undo`, `inventory.settled`.
    InventoryUndo(Undo),
    /// A cancel by the customer, by an operator, or, by the clock, at the deadline.
    Cancel(CancelReason),
    /// A wait for answers that has lasted too long.
    Sweep,
    /// An operator's request that a participant write off what it cannot undo.
    Settle(Participant),
}

/// An effect of a decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Effect {
    /// The clock of the deadline starts.
    StartDeadline,
    /// A fact is published.
    Publish(Fact),
}

/// A fact that is published about an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fact {
    /// The event `order.created`.
    Created,
    /// The event `order.confirmed`.
    Confirmed,
    /// The event `order.cancelling`.
    Cancelling(CancelReason),
    /// The event `order.settling`, for this participant.
    Settling(Participant),
    /// The event `order.cancelled`.
    Cancelled {
        /// The reason of the cancel.
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
    /// The effect, if there is one.
    pub effect: Option<Effect>,
}

impl Decision {
    fn unchanged(order: Order) -> Self {
        Self {
            order,
            effect: None,
        }
    }

    /// A pending order whose event other services can have received.
    fn starting_the_deadline(order: Order) -> Self {
        Self {
            order,
            effect: Some(Effect::StartDeadline),
        }
    }

    /// Publishes a fact again.
    fn published(order: Order, fact: Fact) -> Self {
        Self {
            order,
            effect: Some(Effect::Publish(fact)),
        }
    }

    /// A change that is published.
    fn changed(order: Order, state: State, fact: Fact) -> Self {
        let version = order.version + 1;
        Self::published(Order { state, version }, fact)
    }

    /// A change that only this service needs to know.
    fn noted(order: Order, state: State) -> Self {
        Self::unchanged(Order { state, ..order })
    }

    fn cancelling(order: Order, reason: CancelReason) -> Self {
        let undoing = Undoing {
            reason,
            payment: None,
            inventory: None,
        };
        Self::changed(order, State::Cancelling(undoing), Fact::Cancelling(reason))
    }

    /// An answer to `order.cancelling`. The second of the two ends the order.
    fn answered(order: Order, undoing: Undoing) -> Self {
        match undoing {
            Undoing {
                reason,
                payment: Some(payment),
                inventory: Some(_),
            } => {
                let cancelled = Fact::Cancelled { reason, payment };
                Self::changed(order, State::Cancelled(undoing), cancelled)
            }
            _ => Self::noted(order, State::Cancelling(undoing)),
        }
    }
}

/// An input that is not possible in the order's state. A message contradicts what we know, so it is parked for a person
/// to look at; a request is answered 409.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{input:?} is not possible while the order is {state:?}")]
pub struct Illegal {
    /// The state of the order.
    pub state: State,
    /// The input that is not possible.
    pub input: Input,
}

impl Order {
    /// A new order: pending, version 1.
    pub const NEW: Self = Self {
        state: State::Pending,
        version: 1,
    };

    /// Returns true if the order changes no more without a customer or an operator.
    pub fn is_at_rest(&self) -> bool {
        matches!(
            self.state,
            State::Confirmed { committed: true } | State::Cancelled(_)
        )
    }
}

/// Returns the decision that `input` leads to in the state of `order`.
///
/// Messages come late, twice and in any order. An input that can still arrive from an order's past is ignored in every
/// later state; only an input that contradicts the order's state is [`Illegal`].
pub fn decide(order: Order, input: Input) -> Result<Decision, Illegal> {
    use Decision as D;
    use Fact as F;
    use Input as I;
    use State as S;

    let illegal = Illegal {
        state: order.state,
        input,
    };
    let decision = match (order.state, input) {
        // Pending -> Pending
        (S::Pending, I::Heard) => D::starting_the_deadline(order),
        (S::Pending, I::Sweep) => D::published(order, F::Created),
        // Pending -> Confirmed
        (S::Pending, I::Reserved) => {
            D::changed(order, S::Confirmed { committed: false }, F::Confirmed)
        }
        // Pending -> Cancelling
        (S::Pending, I::PaymentDeclined) => D::cancelling(order, CancelReason::PaymentDeclined),
        (S::Pending, I::Rejected) => D::cancelling(order, CancelReason::OutOfStock),
        (S::Pending, I::Cancel(reason)) => D::cancelling(order, reason),
        // No participant was sent a commit or an undo yet.
        (S::Pending, I::Committed | I::PaymentUndo(_) | I::InventoryUndo(_) | I::Settle(_)) => {
            return Err(illegal);
        }

        // Confirmed -> Confirmed, at rest
        (S::Confirmed { committed: false }, I::Committed) => {
            D::noted(order, S::Confirmed { committed: true })
        }
        (S::Confirmed { committed: false }, I::Sweep) => D::published(order, F::Confirmed),
        // Confirmed -> Cancelling
        (S::Confirmed { .. }, I::Cancel(CancelReason::Customer)) => {
            D::cancelling(order, CancelReason::Customer)
        }
        // The deadline passed just when the order was confirmed.
        (S::Confirmed { .. }, I::Cancel(CancelReason::Deadline)) => D::unchanged(order),
        (S::Confirmed { .. }, I::Heard | I::Reserved) => D::unchanged(order),
        (S::Confirmed { committed: true }, I::Committed | I::Sweep) => D::unchanged(order),
        // Only the customer undoes a confirmed order; and what is reserved was neither declined nor rejected.
        (S::Confirmed { .. }, I::Cancel(_) | I::Settle(_)) => return Err(illegal),
        (
            S::Confirmed { .. },
            I::PaymentDeclined | I::Rejected | I::PaymentUndo(_) | I::InventoryUndo(_),
        ) => return Err(illegal),

        // Cancelling -> Cancelling, Cancelling -> Cancelled
        (S::Cancelling(undoing), I::PaymentUndo(answer)) => match undoing.payment {
            None => D::answered(
                order,
                Undoing {
                    payment: Some(answer),
                    ..undoing
                },
            ),
            Some(before) if before == answer => D::unchanged(order),
            Some(_) => return Err(illegal),
        },
        (S::Cancelling(undoing), I::InventoryUndo(answer)) => match undoing.inventory {
            None => D::answered(
                order,
                Undoing {
                    inventory: Some(answer),
                    ..undoing
                },
            ),
            Some(before) if before == answer => D::unchanged(order),
            Some(_) => return Err(illegal),
        },
        (S::Cancelling(undoing), I::Sweep) => D::published(order, F::Cancelling(undoing.reason)),
        (S::Cancelling(Undoing { payment: None, .. }), I::Settle(Participant::Payment)) => {
            D::published(order, F::Settling(Participant::Payment))
        }
        (
            S::Cancelling(Undoing {
                inventory: None, ..
            }),
            I::Settle(Participant::Inventory),
        ) => D::published(order, F::Settling(Participant::Inventory)),
        (S::Cancelling(_), I::Settle(_)) => return Err(illegal),

        // Cancelled: only a contradiction matters.
        (S::Cancelled(undoing), I::PaymentUndo(answer)) if undoing.payment != Some(answer) => {
            return Err(illegal);
        }
        (S::Cancelled(undoing), I::InventoryUndo(answer)) if undoing.inventory != Some(answer) => {
            return Err(illegal);
        }
        (S::Cancelled(_), I::Settle(_)) => return Err(illegal),
        (S::Cancelled(_), I::PaymentUndo(_) | I::InventoryUndo(_) | I::Sweep) => {
            D::unchanged(order)
        }

        // The past of an order that is, or was, being undone.
        (
            S::Cancelling(_) | S::Cancelled(_),
            I::Heard | I::PaymentDeclined | I::Reserved | I::Rejected | I::Committed | I::Cancel(_),
        ) => D::unchanged(order),
    };
    Ok(decision)
}

#[cfg(test)]
mod tests;
