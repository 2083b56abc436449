//! A payment's states, as one total function: [`decide`]. No I/O.
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
//! `charging` and `refunding` wait for a definite answer of the card processor. An operator can end `charging`,
//! `captured` and `refunding` as `settled`. The table, state by input, is in `docs/architecture.md`.

use contracts::payment::DeclineReason;

/// The state of an order's payment, which is kept for ever from the first message about the order on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// The intent to charge is stored; the card processor has not answered.
    Charging {
        /// Set if a cancel has come meanwhile: a capture will be refunded.
        cancel_requested: bool,
    },
    /// The money is taken.
    Captured(Method),
    /// The charge was declined, for good.
    Declined(DeclineReason),
    /// The intent to refund is stored; the card processor has not answered.
    Refunding,
    /// The money has been given back.
    Refunded,
    /// The tombstone: the order was undone before any money was taken, and none will be.
    Void,
    /// The payment was written off by an operator.
    Settled,
}

/// The source of the money.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Method {
    /// The customer's wallet, which is charged in the message's transaction.
    Wallet,
    /// The customer's card, which the card processor charges later.
    Card,
}

/// The means of payment of a charge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Means {
    /// The wallet; an error is the reason for which it cannot pay now.
    Wallet(Result<(), DeclineReason>),
    /// The card, whose cover only the card processor knows.
    Card,
}

/// An input of the state machine: a message, or an answer of the card processor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Input {
    /// A charge: `order.created` or `orchestrator.charge_payment`.
    Charge(Means),
    /// An undo: `order.cancelling` or `orchestrator.refund_payment`.
    Cancel,
    /// An operator's write-off: `order.settling` or `orchestrator.settle_payment`.
    Settle,
    /// The card processor has taken the money.
    CardCaptured,
    /// The card processor has declined the charge.
    CardDeclined(DeclineReason),
    /// The card processor has given the money back.
    CardRefunded,
}

/// A change of the wallet's balance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Booking {
    /// The amount is taken from the wallet.
    Debit,
    /// The amount is put back.
    Credit,
}

/// The answer to an event or a command. It depends on the payment's state alone, so a repetition gets the same answer
/// until the state changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Answer {
    /// The money was taken: `payment.completed`.
    Completed,
    /// The charge was declined: `payment.declined`.
    Declined(DeclineReason),
    /// The money was given back: `payment.refunded`.
    Refunded,
    /// No money had been taken: `payment.nothing_to_undo`.
    NothingToUndo,
    /// An operator wrote the payment off: `payment.settled`.
    Settled,
}

/// The result of [`decide`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Decision {
    /// The payment's new state.
    pub state: State,
    /// The change of the wallet, if there is one.
    pub booking: Option<Booking>,
    /// The answer to publish, if there is one now.
    pub answer: Option<Answer>,
}

impl Decision {
    /// No answer: there is none yet, or it was given.
    fn silent(state: State) -> Self {
        Self {
            state,
            booking: None,
            answer: None,
        }
    }

    fn answered(state: State, answer: Answer) -> Self {
        Self {
            answer: Some(answer),
            ..Self::silent(state)
        }
    }

    /// Moves the amount to or from the wallet.
    fn booked(state: State, booking: Booking, answer: Answer) -> Self {
        Self {
            booking: Some(booking),
            ..Self::answered(state, answer)
        }
    }
}

/// An input that contradicts the payment's state, so an operator must look at it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{input:?} is not possible while the payment is {state:?}")]
pub struct Illegal {
    /// The state; `None` before the first message about the order.
    pub state: Option<State>,
    /// The input that was refused.
    pub input: Input,
}

/// Decides what `input` does to a payment in `state`, which is `None` before the first message about the order.
///
/// Messages come late, twice and in any order, so an undo may come before its charge: it leaves a tombstone, and the
/// late charge is answered without being carried out. The card processor's answers come late and twice too.
pub fn decide(state: Option<State>, input: Input) -> Result<Decision, Illegal> {
    use Answer as A;
    use Decision as D;
    use Input as I;
    use State as S;

    let illegal = Illegal { state, input };
    let Some(state) = state else {
        let decision = match input {
            // (none) -> Captured, Declined, Charging
            I::Charge(Means::Wallet(Ok(()))) => {
                D::booked(S::Captured(Method::Wallet), Booking::Debit, A::Completed)
            }
            I::Charge(Means::Wallet(Err(reason))) => {
                D::answered(S::Declined(reason), A::Declined(reason))
            }
            I::Charge(Means::Card) => D::silent(S::Charging {
                cancel_requested: false,
            }),
            // (none) -> Void
            I::Cancel | I::Settle => D::answered(S::Void, A::NothingToUndo),
            // The card processor was never called.
            I::CardCaptured | I::CardDeclined(_) | I::CardRefunded => return Err(illegal),
        };
        return Ok(decision);
    };
    let decision = match (state, input) {
        // A repetition: the same answer, and nothing is done.
        (S::Charging { .. }, I::Charge(_)) => D::silent(state), // answered when the card processor answers
        (S::Captured(_), I::Charge(_)) => D::answered(state, A::Completed),
        (S::Declined(reason), I::Charge(_)) => D::answered(state, A::Declined(reason)),
        // A charge that comes too late: answered, and nothing is done.
        (S::Refunding | S::Refunded | S::Void | S::Settled, I::Charge(_)) => {
            D::answered(state, A::Declined(DeclineReason::OrderCancelled))
        }

        // Charging -> Captured
        (
            S::Charging {
                cancel_requested: false,
            },
            I::CardCaptured,
        ) => D::answered(S::Captured(Method::Card), A::Completed),
        // Charging -> Refunding: it was cancelled meanwhile; answered when the money is back
        (
            S::Charging {
                cancel_requested: true,
            },
            I::CardCaptured,
        ) => D::silent(S::Refunding),
        // Charging -> Declined
        (
            S::Charging {
                cancel_requested: false,
            },
            I::CardDeclined(reason),
        ) => D::answered(S::Declined(reason), A::Declined(reason)),
        (
            S::Charging {
                cancel_requested: true,
            },
            I::CardDeclined(reason),
        ) => D::answered(S::Declined(reason), A::NothingToUndo),
        // Refunding -> Refunded
        (S::Refunding, I::CardRefunded) => D::answered(S::Refunded, A::Refunded),
        // The card processor answers twice, or after an operator has settled the payment.
        (S::Captured(Method::Card) | S::Refunding | S::Refunded | S::Settled, I::CardCaptured) => {
            D::silent(state)
        }
        (S::Declined(_) | S::Settled, I::CardDeclined(_)) => D::silent(state),
        (S::Refunded | S::Settled, I::CardRefunded) => D::silent(state),
        (S::Captured(Method::Wallet) | S::Declined(_) | S::Void, I::CardCaptured) => {
            return Err(illegal);
        }
        (S::Captured(_) | S::Refunding | S::Refunded | S::Void, I::CardDeclined(_)) => {
            return Err(illegal);
        }
        (S::Charging { .. } | S::Captured(_) | S::Declined(_) | S::Void, I::CardRefunded) => {
            return Err(illegal);
        }

        // Charging -> Charging: it is not known yet what there is to undo
        (S::Charging { .. }, I::Cancel) => D::silent(S::Charging {
            cancel_requested: true,
        }),
        // Captured -> Refunded
        (S::Captured(Method::Wallet), I::Cancel) => {
            D::booked(S::Refunded, Booking::Credit, A::Refunded)
        }
        // Captured -> Refunding
        (S::Captured(Method::Card), I::Cancel) => D::silent(S::Refunding),
        (S::Refunding, I::Cancel) => D::silent(state), // answered when the card processor answers
        // Charging, Captured, Refunding -> Settled
        (S::Charging { .. } | S::Captured(_) | S::Refunding, I::Settle) => {
            D::answered(S::Settled, A::Settled)
        }
        // Undone already, or nothing to undo: always the same answer.
        (S::Refunded, I::Cancel | I::Settle) => D::answered(state, A::Refunded),
        (S::Declined(_) | S::Void, I::Cancel | I::Settle) => D::answered(state, A::NothingToUndo),
        (S::Settled, I::Cancel | I::Settle) => D::answered(state, A::Settled),
    };
    Ok(decision)
}

#[cfg(test)]
mod tests;
