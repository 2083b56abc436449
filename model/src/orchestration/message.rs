//! The messages of the orchestrator and its participants about one order.

use std::fmt;

use holdfast::saga::{Direction, Outcome, Plan, State, Status};
use order::domain::Undo;

use super::super::facts::Fact;

/// The two sagas of an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Saga {
    Place,
    Undo,
}

impl From<contracts::order::Saga> for Saga {
    fn from(saga: contracts::order::Saga) -> Self {
        match saga {
            contracts::order::Saga::PlaceOrder => Self::Place,
            contracts::order::Saga::UndoOrder => Self::Undo,
        }
    }
}

/// The idempotency key of a command and of its reply.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    pub saga: Saga,
    /// The step's index in the saga's plan.
    pub step: usize,
    pub direction: Direction,
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}/{}/{}", self.saga, self.step, self.direction.name())
    }
}

/// A message on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Message {
    /// The request to start a saga, `order.start_saga`.
    Start(Saga),
    /// The request to cancel, `order.cancel_requested`.
    CancelRequested,
    /// A command of the orchestrator.
    Ask(Key, Command),
    /// The reply to a command.
    Answer(Key, Fact),
}

/// A command of the orchestrator, which goes to one service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Command {
    Charge,
    Refund,
    SettlePayment,
    Reserve,
    Commit,
    Release,
    SettleInventory,
    Confirm,
    Complete,
    Cancel { payment: Became, inventory: Became },
    Tell(News),
}

/// The outcome of undoing a participant's part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Became {
    Undone,
    NothingToUndo,
    Settled,
}

/// The news for a customer, the older ones first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum News {
    Confirmed,
    Cancelled,
}

impl From<Became> for Undo {
    fn from(became: Became) -> Self {
        match became {
            Became::Undone => Self::Undone,
            Became::NothingToUndo => Self::NothingToUndo,
            Became::Settled => Self::Settled,
        }
    }
}

impl Became {
    /// Returns the outcome that the orchestrator reads from the saga's status of the step.
    fn of(status: &Status) -> Self {
        let kind = status.answer().map(|answer| answer.kind.as_str());
        match (status, kind) {
            (Status::Waiting | Status::Refused(_), _) => Self::NothingToUndo,
            (_, Some("payment.refunded" | "inventory.released")) => Self::Undone,
            (_, Some("payment.nothing_to_undo" | "inventory.nothing_to_undo")) => {
                Self::NothingToUndo
            }
            _ => Self::Settled,
        }
    }
}

/// Returns the command of a step, in a saga with this state. The names are those of the definitions, and a test checks
/// that production sends the same commands.
pub(super) fn command(plan: &Plan, state: &State, step: usize, direction: Direction) -> Command {
    let became = |names: [&str; 2]| {
        let status = |name| plan.step(name).map(|step| &state.statuses[step]);
        let status = names.into_iter().find_map(status);
        Became::of(status.unwrap_or(&Status::Waiting))
    };
    match (plan.steps[step].name, direction) {
        ("charge_payment", Direction::Do) => Command::Charge,
        ("charge_payment" | "refund_payment", Direction::Settle) => Command::SettlePayment,
        ("charge_payment", Direction::Undo) | ("refund_payment", _) => Command::Refund,
        ("reserve_inventory", Direction::Do) => Command::Reserve,
        ("reserve_inventory" | "release_inventory", Direction::Settle) => Command::SettleInventory,
        ("reserve_inventory", Direction::Undo) | ("release_inventory", _) => Command::Release,
        ("confirm_order", Direction::Do) => Command::Confirm,
        ("commit_inventory", Direction::Do) => Command::Commit,
        ("complete_order", Direction::Do) => Command::Complete,
        ("create_order", Direction::Undo) | ("cancel_order", Direction::Do) => Command::Cancel {
            payment: became(["charge_payment", "refund_payment"]),
            inventory: became(["reserve_inventory", "release_inventory"]),
        },
        ("tell_customer", Direction::Undo) => Command::Tell(News::Cancelled),
        ("send_notification", Direction::Do) => {
            // Only `place_order` has a step that charges.
            if plan.step("charge_payment").is_some() {
                Command::Tell(News::Confirmed)
            } else {
                Command::Tell(News::Cancelled)
            }
        }
        (name, direction) => panic!("the model does not know {name}/{}", direction.name()),
    }
}

/// Returns the meaning of a reply for the saga: done, or refused, which means that it never will be done.
pub(super) fn outcome(answer: Fact) -> Outcome {
    match answer {
        Fact::PaymentDeclined | Fact::InventoryRejected | Fact::OrderConfirmRejected => {
            Outcome::Refused
        }
        _ => Outcome::Done,
    }
}

#[cfg(test)]
mod tests {
    use contracts::{
        orchestrator::{self as wire, Undoing},
        order::StartSaga,
        value::{Currency, Money, OrderId, PaymentMethod},
    };
    use holdfast::saga::{
        Action, Definition,
        testing::{Given, given},
    };
    use orchestrator::domain::{self as production, PLACE_ORDER, UNDO_ORDER};

    use super::*;

    type Started = Given<StartSaga, production::Command>;

    fn start(definition: &'static Definition<StartSaga, production::Command>) -> Started {
        let data = StartSaga {
            order_id: OrderId::new(),
            order_version: 1,
            saga: contracts::order::Saga::PlaceOrder,
            customer: contracts::order::Customer {
                id: "alice".parse().expect("an id"),
                email: None,
            },
            lines: Vec::new(),
            amount: Money::new(1250, Currency::EUR),
            payment: PaymentMethod::Wallet,
        };
        given(definition, data)
    }

    fn as_modelled(command: production::Command) -> Command {
        use production::Command as C;
        let became = |undoing| match undoing {
            Undoing::Undone => Became::Undone,
            Undoing::NothingToUndo => Became::NothingToUndo,
            Undoing::Settled => Became::Settled,
        };
        match command {
            C::ChargePayment(_) => Command::Charge,
            C::RefundPayment(_) => Command::Refund,
            C::SettlePayment(_) => Command::SettlePayment,
            C::ReserveInventory(_) => Command::Reserve,
            C::CommitInventory(_) => Command::Commit,
            C::ReleaseInventory(_) => Command::Release,
            C::SettleInventory(_) => Command::SettleInventory,
            C::ConfirmOrder(_) => Command::Confirm,
            C::CompleteOrder(_) => Command::Complete,
            C::CancelOrder(cancel) => Command::Cancel {
                payment: became(cancel.payment),
                inventory: became(cancel.inventory),
            },
            C::SendNotification(told) => Command::Tell(match told.news {
                wire::News::Confirmed => News::Confirmed,
                wire::News::Cancelled { .. } => News::Cancelled,
            }),
        }
    }

    /// Checks that the model sends what the saga has just sent, and replies with `fact`.
    #[track_caller]
    fn sends(plan: &Plan, saga: Started, fact: Fact) -> Started {
        let (step, direction, sent) = saga.sent().expect("something is sent");
        let step_number = plan.step(step).expect("a step of the plan");
        let modelled = command(plan, saga.state(), step_number, direction);
        assert_eq!(modelled, as_modelled(sent), "{step}/{}", direction.name());
        match outcome(fact) {
            Outcome::Done => saga.does(fact.kind()),
            Outcome::Refused => saga.refuses(fact.kind(), "because"),
        }
    }

    #[track_caller]
    fn all_sent(plan: &Plan, saga: Started, facts: &[Fact]) {
        let saga = facts
            .iter()
            .fold(saga, |saga, fact| sends(plan, saga, *fact));
        assert!(saga.state().is_ended(), "{:?}", saga.state());
    }

    #[test]
    fn model_and_sagas_send_the_same_commands() {
        use Fact as F;
        let (place, undo) = (PLACE_ORDER.plan(), UNDO_ORDER.plan());
        let reserved = [F::PaymentCompleted, F::InventoryReserved];
        let confirmed = [
            F::OrderConfirmed,
            F::InventoryCommitted,
            F::OrderCompleted,
            F::NotificationQueued,
        ];
        let cancelled = [F::OrderCancelled, F::NotificationQueued];
        let facts = |parts: &[&[Fact]]| parts.concat();

        all_sent(
            &place,
            start(&PLACE_ORDER),
            &facts(&[&reserved, &confirmed]),
        );
        let declined = [F::PaymentDeclined];
        all_sent(
            &place,
            start(&PLACE_ORDER),
            &facts(&[&declined, &cancelled]),
        );
        for undone in [
            [F::InventoryReleased, F::PaymentRefunded],
            [F::InventoryNothingToUndo, F::PaymentNothingToUndo],
            [F::InventorySettled, F::PaymentSettled],
        ] {
            let rejected = facts(&[&reserved, &[F::OrderConfirmRejected], &undone, &cancelled]);
            all_sent(&place, start(&PLACE_ORDER), &rejected);
            let abandoned = reserved
                .iter()
                .fold(start(&PLACE_ORDER), |saga, fact| sends(&place, saga, *fact));
            let abandoned = sends(&place, abandoned, F::OrderConfirmRejected)
                .gives_up()
                .operator(Action::Abandon, "olga", "by hand");
            all_sent(&place, abandoned, &facts(&[&undone, &cancelled]));

            let undone = [undone[1], undone[0]];
            all_sent(&undo, start(&UNDO_ORDER), &facts(&[&undone, &cancelled]));
            let abandoned =
                start(&UNDO_ORDER)
                    .gives_up()
                    .operator(Action::Abandon, "olga", "by hand");
            all_sent(&undo, abandoned, &facts(&[&undone, &cancelled]));
        }
    }
}
