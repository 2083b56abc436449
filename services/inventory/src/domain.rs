//! A reservation's states, as one total function: [`decide`]. No I/O.
//!
//! ```text
//!           ┌── reserve ──► reserved ──── commit ────► sold
//!  (none) ──┤                   └── release ──┬── release ──┘
//!           │                                 ▼
//!           │                             released
//!           ├── reserve, too little ──► rejected
//!           └── release ──► void: a reserve that comes later does nothing
//! ```
//!
//! An operator can end `reserved` and `sold` as `settled`. The table, state by input, is in `docs/architecture.md`.

use contracts::{inventory::RejectReason, value::Sku};

/// The state of an order's reservation, which is kept for ever from the first message about the order on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// The units are set aside.
    Reserved,
    /// The reservation was rejected, for good.
    Rejected(Rejection),
    /// The units are sold.
    Sold,
    /// The units are available again.
    Released {
        /// True if they had been sold.
        restocked: bool,
    },
    /// The tombstone: the order was undone before any units were set aside, and none will be.
    Void,
    /// The units were written off by an operator.
    Settled,
}

/// The reason for which no units were set aside, and the product at fault.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Rejection {
    /// The reason, as `inventory.rejected` names it.
    pub reason: RejectReason,
    /// The product of the first line that could not be served; `None` for a cancelled order.
    pub sku: Option<Sku>,
}

impl Rejection {
    const CANCELLED: Self = Self {
        reason: RejectReason::OrderCancelled,
        sku: None,
    };
}

/// An input of the state machine: an event or a command.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Input {
    /// A reserve: `payment.completed` or `orchestrator.reserve_inventory`. An error is the reason for which the lines
    /// cannot all be served now.
    Reserve(Result<(), Rejection>),
    /// A sale: `order.confirmed` or `orchestrator.commit_inventory`.
    Commit,
    /// An undo: `order.cancelling` or `orchestrator.release_inventory`.
    Release,
    /// An operator's write-off: `order.settling` or `orchestrator.settle_inventory`.
    Settle,
}

/// A place in the books where units are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Shelf {
    /// Free to be reserved.
    Available,
    /// Set aside for an order.
    Reserved,
    /// Sold to a customer.
    Sold,
    /// Written off by an operator.
    WrittenOff,
}

/// The answer to an event or a command. A repetition gets the same answer until the state changes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Answer {
    /// The units are set aside: `inventory.reserved`.
    Reserved,
    /// No units were set aside: `inventory.rejected`.
    Rejected(Rejection),
    /// The units are sold: `inventory.committed`.
    Committed,
    /// The units are available again: `inventory.released`.
    Released {
        /// True if the units had been sold.
        restocked: bool,
    },
    /// The order held no units: `inventory.nothing_to_undo`.
    NothingToUndo,
    /// An operator wrote the units off: `inventory.settled`.
    Settled,
}

/// The result of [`decide`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Decision {
    /// The reservation's new state.
    pub state: State,
    /// The shelves that the order's units move from and to; `None` if they stay.
    pub moves: Option<(Shelf, Shelf)>,
    /// The answer to publish. Every input that is possible has one, also a commit that comes too late.
    pub answer: Option<Answer>,
}

impl Decision {
    fn answered(state: State, answer: Answer) -> Self {
        Self {
            state,
            moves: None,
            answer: Some(answer),
        }
    }

    /// Moves the units from one shelf to another.
    fn moved(state: State, from: Shelf, to: Shelf, answer: Answer) -> Self {
        Self {
            moves: Some((from, to)),
            ..Self::answered(state, answer)
        }
    }

    /// Answers, and leaves the reservation as it is.
    fn unchanged(state: Option<&State>, answer: Answer) -> Self {
        Self::answered(state.cloned().unwrap_or(State::Void), answer)
    }
}

/// An input that contradicts the reservation's state, so an operator must look at it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{input:?} is not possible while the reservation is {state:?}")]
pub struct Illegal {
    /// The state; `None` before the first message about the order.
    pub state: Option<State>,
    /// The input that was refused.
    pub input: Input,
}

/// Decides what `input` does to a reservation in `state`, which is `None` before the first message about the order.
///
/// Messages come late, twice and in any order, so an undo may come before its reserve: it leaves a tombstone, and the
/// late reserve is answered without being carried out.
pub fn decide(state: Option<&State>, input: Input) -> Result<Decision, Illegal> {
    use Answer as A;
    use Decision as D;
    use Input as I;
    use Shelf::{Available, Reserved, Sold, WrittenOff};
    use State as S;

    let decision = match (state, input) {
        // (none) -> Reserved, Rejected
        (None, I::Reserve(Ok(()))) => D::moved(S::Reserved, Available, Reserved, A::Reserved),
        (None, I::Reserve(Err(rejection))) => {
            D::answered(S::Rejected(rejection.clone()), A::Rejected(rejection))
        }
        // (none) -> Void
        (None, I::Release | I::Settle) => D::answered(S::Void, A::NothingToUndo),
        // An order is confirmed only after its units were reserved.
        (None | Some(S::Rejected(_) | S::Void), I::Commit) => {
            return Err(Illegal {
                state: state.cloned(),
                input: I::Commit,
            });
        }

        // A repetition: the same answer, and nothing is done.
        (Some(S::Reserved | S::Sold), I::Reserve(_)) => D::unchanged(state, A::Reserved),
        (Some(S::Rejected(rejection)), I::Reserve(_)) => {
            D::unchanged(state, A::Rejected(rejection.clone()))
        }
        // A reserve that comes too late: answered, and nothing is done.
        (Some(S::Released { .. } | S::Void | S::Settled), I::Reserve(_)) => {
            D::unchanged(state, A::Rejected(Rejection::CANCELLED))
        }

        // Reserved -> Sold
        (Some(S::Reserved), I::Commit) => D::moved(S::Sold, Reserved, Sold, A::Committed),
        (Some(S::Sold), I::Commit) => D::unchanged(state, A::Committed),
        // Confirmed, then cancelled by the customer, with the messages in the other order: the answer is the outcome.
        (Some(S::Released { restocked }), I::Commit) => D::unchanged(
            state,
            A::Released {
                restocked: *restocked,
            },
        ),
        (Some(S::Settled), I::Commit) => D::unchanged(state, A::Settled),

        // Reserved, Sold -> Released
        (Some(S::Reserved), I::Release) => D::moved(
            S::Released { restocked: false },
            Reserved,
            Available,
            A::Released { restocked: false },
        ),
        (Some(S::Sold), I::Release) => D::moved(
            S::Released { restocked: true },
            Sold,
            Available,
            A::Released { restocked: true },
        ),
        // Reserved, Sold -> Settled
        (Some(S::Reserved), I::Settle) => D::moved(S::Settled, Reserved, WrittenOff, A::Settled),
        (Some(S::Sold), I::Settle) => D::moved(S::Settled, Sold, WrittenOff, A::Settled),
        // Undone already, or nothing to undo: always the same answer.
        (Some(S::Released { restocked }), I::Release | I::Settle) => D::unchanged(
            state,
            A::Released {
                restocked: *restocked,
            },
        ),
        (Some(S::Rejected(_) | S::Void), I::Release | I::Settle) => {
            D::unchanged(state, A::NothingToUndo)
        }
        (Some(S::Settled), I::Release | I::Settle) => D::unchanged(state, A::Settled),
    };
    Ok(decision)
}

/// The units of one product, by shelf.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Stock {
    /// Units that are free to be reserved.
    pub available: i64,
    /// Units that are set aside for orders.
    pub reserved: i64,
    /// Units that were sold to customers.
    pub sold: i64,
    /// Units that operators wrote off.
    pub written_off: i64,
}

/// A move of more units than the shelf holds: a bug, because [`decide`] moves only what it put there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot move {quantity} units from {from:?}: there are {there_are}")]
pub struct Shortfall {
    from: Shelf,
    quantity: i64,
    there_are: i64,
}

impl Stock {
    fn shelf(&mut self, shelf: Shelf) -> &mut i64 {
        match shelf {
            Shelf::Available => &mut self.available,
            Shelf::Reserved => &mut self.reserved,
            Shelf::Sold => &mut self.sold,
            Shelf::WrittenOff => &mut self.written_off,
        }
    }

    /// Moves units from one shelf to another. Fails, and moves none, if the first holds fewer.
    pub fn move_units(&mut self, quantity: i64, from: Shelf, to: Shelf) -> Result<(), Shortfall> {
        let there_are = *self.shelf(from);
        if there_are < quantity {
            return Err(Shortfall {
                from,
                quantity,
                there_are,
            });
        }
        *self.shelf(from) -= quantity;
        *self.shelf(to) += quantity;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
