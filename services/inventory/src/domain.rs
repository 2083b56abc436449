//! A reservation's life, as one total function: [`decide`]. No I/O.
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

/// Where the reservation of an order stands. There is one for ever once we heard of the order.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// The units are set aside.
    Reserved,
    /// Nothing was set aside, and nothing will be.
    Rejected(Rejection),
    /// The units are sold.
    Sold,
    /// The units are available again.
    Released {
        /// Whether they had been sold.
        restocked: bool,
    },
    /// The tombstone: the order was undone before anything was set aside, and nothing will be.
    Void,
    /// An operator wrote the units off.
    Settled,
}

/// Why nothing was set aside.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Rejection {
    /// The reason.
    pub reason: RejectReason,
    /// The first line that could not be served.
    pub sku: Option<Sku>,
}

impl Rejection {
    const CANCELLED: Self = Self {
        reason: RejectReason::OrderCancelled,
        sku: None,
    };
}

/// What can happen to a reservation.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Input {
    /// `payment.completed`, `orchestrator.reserve_inventory`; says whether every line could be served now, and if not, why.
    Reserve(Result<(), Rejection>),
    /// `order.confirmed`, `orchestrator.commit_inventory`
    Commit,
    /// `order.cancelling`, `orchestrator.release_inventory`
    Release,
    /// `order.settling`, `orchestrator.settle_inventory`
    Settle,
}

/// Where units are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Shelf {
    /// Anyone may have them.
    Available,
    /// Set aside for an order.
    Reserved,
    /// Gone to a customer.
    Sold,
    /// An operator's business.
    WrittenOff,
}

/// What is answered, to whoever asked. The same question, asked again, gets the same answer.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Answer {
    /// `inventory.reserved`
    Reserved,
    /// `inventory.rejected`
    Rejected(Rejection),
    /// `inventory.committed`
    Committed,
    /// `inventory.released`
    Released {
        /// Whether the units had been sold.
        restocked: bool,
    },
    /// `inventory.nothing_to_undo`
    NothingToUndo,
    /// `inventory.settled`
    Settled,
}

/// What [`decide`] decided.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Decision {
    /// The reservation as it is now.
    pub state: State,
    /// Where the order's units go: from, to.
    pub moves: Option<(Shelf, Shelf)>,
    /// What is published. Whatever is possible is answered: who asks for a commit that comes too late, as well.
    pub answer: Option<Answer>,
}

/// That cannot have happened: it contradicts what we know, so a person must look at it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{input:?} is not possible while the reservation is {state:?}")]
pub struct Illegal {
    /// The state; none before we heard of the order.
    pub state: Option<State>,
    /// What came.
    pub input: Input,
}

/// What becomes of a reservation by `input`.
///
/// Messages come late, twice and in any order, so an undo may come before what it undoes: it leaves a tombstone, and what
/// comes later is answered without being done.
pub fn decide(state: Option<&State>, input: Input) -> Result<Decision, Illegal> {
    use Answer as A;
    use Input as I;
    use Shelf::{Available, Reserved, Sold, WrittenOff};
    use State as S;

    let moved = |state, from, to, answer| {
        Ok(Decision {
            state,
            moves: Some((from, to)),
            answer: Some(answer),
        })
    };
    let turn = |state, answer| {
        Ok(Decision {
            state,
            moves: None,
            answer: Some(answer),
        })
    };
    let again = |answer| {
        Ok(Decision {
            state: state.cloned().unwrap_or(S::Void),
            moves: None,
            answer: Some(answer),
        })
    };

    match (state, input) {
        // (none) -> Reserved, Rejected
        (None, I::Reserve(Ok(()))) => moved(S::Reserved, Available, Reserved, A::Reserved),
        (None, I::Reserve(Err(rejection))) => {
            turn(S::Rejected(rejection.clone()), A::Rejected(rejection))
        }
        // (none) -> Void
        (None, I::Release | I::Settle) => turn(S::Void, A::NothingToUndo),
        // An order is confirmed because we reserved.
        (None | Some(S::Rejected(_) | S::Void), I::Commit) => Err(Illegal {
            state: state.cloned(),
            input: I::Commit,
        }),

        // Asked again: the same answer, and nothing done.
        (Some(S::Reserved | S::Sold), I::Reserve(_)) => again(A::Reserved),
        (Some(S::Rejected(rejection)), I::Reserve(_)) => again(A::Rejected(rejection.clone())),
        // Asked too late: answered, and nothing done.
        (Some(S::Released { .. } | S::Void | S::Settled), I::Reserve(_)) => {
            again(A::Rejected(Rejection::CANCELLED))
        }

        // Reserved -> Sold
        (Some(S::Reserved), I::Commit) => moved(S::Sold, Reserved, Sold, A::Committed),
        (Some(S::Sold), I::Commit) => again(A::Committed),
        // Confirmed, then cancelled by the customer, and heard in the other order: whoever asks hears how it ended.
        (Some(S::Released { restocked }), I::Commit) => again(A::Released {
            restocked: *restocked,
        }),
        (Some(S::Settled), I::Commit) => again(A::Settled),

        // Reserved, Sold -> Released
        (Some(S::Reserved), I::Release) => moved(
            S::Released { restocked: false },
            Reserved,
            Available,
            A::Released { restocked: false },
        ),
        (Some(S::Sold), I::Release) => moved(
            S::Released { restocked: true },
            Sold,
            Available,
            A::Released { restocked: true },
        ),
        // Reserved, Sold -> Settled
        (Some(S::Reserved), I::Settle) => moved(S::Settled, Reserved, WrittenOff, A::Settled),
        (Some(S::Sold), I::Settle) => moved(S::Settled, Sold, WrittenOff, A::Settled),
        // Undone already, or nothing to undo: the same answer for ever.
        (Some(S::Released { restocked }), I::Release | I::Settle) => again(A::Released {
            restocked: *restocked,
        }),
        (Some(S::Rejected(_) | S::Void), I::Release | I::Settle) => again(A::NothingToUndo),
        (Some(S::Settled), I::Release | I::Settle) => again(A::Settled),
    }
}

/// How much there is of one product, by shelf.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Stock {
    /// Anyone may have them.
    pub available: i64,
    /// Set aside for orders.
    pub reserved: i64,
    /// Gone to customers.
    pub sold: i64,
    /// Operators' business.
    pub written_off: i64,
}

/// Fewer units are on the shelf than should be moved: a defect, as [`decide`] moves only what it put there.
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

    /// Moves units from one shelf to another.
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
