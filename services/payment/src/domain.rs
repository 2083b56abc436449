//! A payment's life, as one total function: [`decide`]. No I/O.
//!
//! ```text
//!           ┌── charge, wallet ──► captured ──── cancel ────► refunded
//!           │                        ▲   └── cancel, card ──► refunding ──► refunded
//!  (none) ──┼── charge, card ──► charging ── captured, but cancelled ──►───┘
//!           │                        └── declined ──► declined
//!           ├── charge, too little ──────────────────────┘
//!           └── cancel ──► void: a charge that comes later does nothing
//! ```
//!
//! `charging` and `refunding` wait for the card company; only its definite answer ends them. An operator can end
//! `charging`, `captured` and `refunding` as `settled`. The table, state by input, is in `docs/architecture.md`.

use contracts::payment::DeclineReason;

/// Where the payment of an order stands. There is one for ever once we heard of the order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// The intent is stored; the card company has not answered.
    Charging {
        /// A cancel came meanwhile: a capture is refunded.
        cancel_requested: bool,
    },
    /// The money is taken.
    Captured(Method),
    /// It was not, and will not be.
    Declined(DeclineReason),
    /// The intent to give it back is stored; the card company has not answered.
    Refunding,
    /// It is back.
    Refunded,
    /// The tombstone: the order was undone before anything was taken, and nothing will be.
    Void,
    /// An operator wrote it off.
    Settled,
}

/// From where the money is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Method {
    /// Our own account: taken in the same transaction.
    Wallet,
    /// The card company's: asked for, and answered later.
    Card,
}

/// How an order is to be charged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Means {
    /// From the wallet; says whether it holds enough now, and if not, why.
    Wallet(Result<(), DeclineReason>),
    /// By card.
    Card,
}

/// What can happen to a payment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Input {
    /// `order.created`, `orchestrator.charge_payment`
    Charge(Means),
    /// `order.cancelling`, `orchestrator.refund_payment`
    Cancel,
    /// `order.settling`, `orchestrator.settle_payment`
    Settle,
    /// The card company took the money.
    CardCaptured,
    /// The card company will not take it.
    CardDeclined(DeclineReason),
    /// The card company gave it back.
    CardRefunded,
}

/// What happens to the wallet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Booking {
    /// The amount is taken from it.
    Debit,
    /// The amount is put back.
    Credit,
}

/// What is answered, to whoever asked. The same question, asked again, gets the same answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Answer {
    /// `payment.completed`
    Completed,
    /// `payment.declined`
    Declined(DeclineReason),
    /// `payment.refunded`
    Refunded,
    /// `payment.nothing_to_undo`
    NothingToUndo,
    /// `payment.settled`
    Settled,
}

/// What [`decide`] decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Decision {
    /// The payment as it is now.
    pub state: State,
    /// What happens to the wallet.
    pub booking: Option<Booking>,
    /// What is published.
    pub answer: Option<Answer>,
}

/// That cannot have happened: it contradicts what we know, so a person must look at it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{input:?} is not possible while the payment is {state:?}")]
pub struct Illegal {
    /// The state; none before we heard of the order.
    pub state: Option<State>,
    /// What came.
    pub input: Input,
}

/// What becomes of a payment by `input`.
///
/// Messages come late, twice and in any order, so an undo may come before what it undoes: it leaves a tombstone, and what
/// comes later is answered without being done. The card company's answers come late and twice too.
pub fn decide(state: Option<State>, input: Input) -> Result<Decision, Illegal> {
    use Answer as A;
    use Input as I;
    use State as S;

    let turn = |state, answer| {
        Ok(Decision {
            state,
            booking: None,
            answer: Some(answer),
        })
    };
    let wait = |state| {
        Ok(Decision {
            state,
            booking: None,
            answer: None,
        })
    };
    let book = |state, booking, answer| {
        Ok(Decision {
            state,
            booking: Some(booking),
            answer: Some(answer),
        })
    };
    let illegal = Err(Illegal { state, input });

    let Some(state) = state else {
        return match input {
            // (none) -> Captured, Declined, Charging
            I::Charge(Means::Wallet(Ok(()))) => {
                book(S::Captured(Method::Wallet), Booking::Debit, A::Completed)
            }
            I::Charge(Means::Wallet(Err(reason))) => turn(S::Declined(reason), A::Declined(reason)),
            I::Charge(Means::Card) => wait(S::Charging {
                cancel_requested: false,
            }),
            // (none) -> Void
            I::Cancel | I::Settle => turn(S::Void, A::NothingToUndo),
            // Nobody asked the card company.
            I::CardCaptured | I::CardDeclined(_) | I::CardRefunded => illegal,
        };
    };
    let again = |answer| {
        Ok(Decision {
            state,
            booking: None,
            answer: Some(answer),
        })
    };
    let ignore = Ok(Decision {
        state,
        booking: None,
        answer: None,
    });

    match (state, input) {
        // Asked again: the same answer, and nothing done.
        (S::Charging { .. }, I::Charge(_)) => ignore, // the card company's answer will be the answer
        (S::Captured(_), I::Charge(_)) => again(A::Completed),
        (S::Declined(reason), I::Charge(_)) => again(A::Declined(reason)),
        // Asked too late: answered, and nothing done.
        (S::Refunding | S::Refunded | S::Void | S::Settled, I::Charge(_)) => {
            again(A::Declined(DeclineReason::OrderCancelled))
        }

        // Charging -> Captured
        (
            S::Charging {
                cancel_requested: false,
            },
            I::CardCaptured,
        ) => turn(S::Captured(Method::Card), A::Completed),
        // Charging -> Refunding: it was cancelled meanwhile; answered when the money is back
        (
            S::Charging {
                cancel_requested: true,
            },
            I::CardCaptured,
        ) => wait(S::Refunding),
        // Charging -> Declined
        (
            S::Charging {
                cancel_requested: false,
            },
            I::CardDeclined(reason),
        ) => turn(S::Declined(reason), A::Declined(reason)),
        (
            S::Charging {
                cancel_requested: true,
            },
            I::CardDeclined(reason),
        ) => turn(S::Declined(reason), A::NothingToUndo),
        // Refunding -> Refunded
        (S::Refunding, I::CardRefunded) => turn(S::Refunded, A::Refunded),
        // The card company answers twice, or after an operator has ended it.
        (S::Captured(Method::Card) | S::Refunding | S::Refunded | S::Settled, I::CardCaptured) => {
            ignore
        }
        (S::Declined(_) | S::Settled, I::CardDeclined(_)) => ignore,
        (S::Refunded | S::Settled, I::CardRefunded) => ignore,
        (S::Captured(Method::Wallet) | S::Declined(_) | S::Void, I::CardCaptured) => illegal,
        (S::Captured(_) | S::Refunding | S::Refunded | S::Void, I::CardDeclined(_)) => illegal,
        (S::Charging { .. } | S::Captured(_) | S::Declined(_) | S::Void, I::CardRefunded) => {
            illegal
        }

        // Charging -> Charging: nobody knows yet what there is to undo
        (S::Charging { .. }, I::Cancel) => wait(S::Charging {
            cancel_requested: true,
        }),
        // Captured -> Refunded
        (S::Captured(Method::Wallet), I::Cancel) => book(S::Refunded, Booking::Credit, A::Refunded),
        // Captured -> Refunding
        (S::Captured(Method::Card), I::Cancel) => wait(S::Refunding),
        (S::Refunding, I::Cancel) => ignore, // the card company's answer will be the answer
        // Charging, Captured, Refunding -> Settled
        (S::Charging { .. } | S::Captured(_) | S::Refunding, I::Settle) => {
            turn(S::Settled, A::Settled)
        }
        // Undone already, or nothing to undo: the same answer for ever.
        (S::Refunded, I::Cancel | I::Settle) => again(A::Refunded),
        (S::Declined(_) | S::Void, I::Cancel | I::Settle) => again(A::NothingToUndo),
        (S::Settled, I::Cancel | I::Settle) => again(A::Settled),
    }
}

#[cfg(test)]
mod tests;
