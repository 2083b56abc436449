//! Tests of both sagas without a broker, a database or a clock.

use contracts::{
    orchestrator::{News, Undoing},
    order::{CancelReason, Customer, Saga, StartSaga},
    value::{Currency, Money, OrderId, PaymentMethod},
};
use holdfast::saga::{
    Action, Direction, End, Outcome,
    testing::{Given, given},
};

use super::{Command, DEFINITIONS, Data, PLACE_ORDER, UNDO_ORDER, participant, saga_id};

fn data(saga: Saga, order_version: u32) -> Data {
    StartSaga {
        order_id: OrderId::new(),
        order_version,
        saga,
        customer: Customer {
            id: "alice".parse().expect("an id"),
            email: None,
        },
        lines: Vec::new(),
        amount: Money::new(1250, Currency::EUR),
        payment: PaymentMethod::Wallet,
    }
}

fn place() -> Given<Data, Command> {
    given(&PLACE_ORDER, data(Saga::PlaceOrder, 1))
}

fn undo() -> Given<Data, Command> {
    given(&UNDO_ORDER, data(Saga::UndoOrder, 3))
}

/// Checks the current step and its direction, then has its command carried out.
#[track_caller]
fn does(
    saga: Given<Data, Command>,
    step: &'static str,
    direction: Direction,
    kind: &str,
) -> Given<Data, Command> {
    assert_eq!(
        saga.in_hand(),
        Some((step, direction)),
        "{:?}",
        saga.state()
    );
    saga.does(kind)
}

fn charged() -> Given<Data, Command> {
    does(
        place(),
        "charge_payment",
        Direction::Do,
        "payment.completed",
    )
}

fn reserved() -> Given<Data, Command> {
    does(
        charged(),
        "reserve_inventory",
        Direction::Do,
        "inventory.reserved",
    )
}

/// Checks the command that cancels the order, and the news for its customer.
#[track_caller]
fn cancelled(
    saga: Given<Data, Command>,
    reason: CancelReason,
    payment: Undoing,
    inventory: Undoing,
) -> Given<Data, Command> {
    let Some((_, _, Command::CancelOrder(cancel))) = saga.sent() else {
        panic!("{:?} is sent", saga.sent());
    };
    assert_eq!(
        (cancel.reason, cancel.payment, cancel.inventory),
        (reason, payment, inventory)
    );
    let saga = saga.does("order.cancelled");
    let Some((_, _, Command::SendNotification(told))) = saga.sent() else {
        panic!("{:?} is sent", saga.sent());
    };
    assert_eq!(told.news, News::Cancelled { reason, payment });
    saga.does("notification.queued")
}

#[test]
fn definitions_are_valid_and_saga_ids_distinct() {
    for definition in DEFINITIONS {
        assert_eq!(definition.check(), Ok(()));
    }
    let order = OrderId::new();
    assert_ne!(
        saga_id(order, Saga::PlaceOrder),
        saga_id(order, Saga::UndoOrder)
    );
    assert_ne!(
        saga_id(order, Saga::PlaceOrder),
        saga_id(OrderId::new(), Saga::PlaceOrder)
    );
}

#[test]
fn each_step_has_a_participant_that_answers_for_it() {
    for step in DEFINITIONS.iter().flat_map(|definition| definition.steps) {
        assert!(participant(step.name).is_some(), "{}", step.name);
    }
    assert_eq!(participant("no_such_step"), None);
}

#[test]
fn an_order_is_charged_reserved_confirmed_and_sold() {
    let saga = does(
        reserved(),
        "confirm_order",
        Direction::Do,
        "order.confirmed",
    );
    let saga = does(
        saga,
        "commit_inventory",
        Direction::Do,
        "inventory.committed",
    );
    let saga = does(saga, "complete_order", Direction::Do, "order.completed");
    let Some((_, _, Command::SendNotification(told))) = saga.sent() else {
        panic!("{:?} is sent", saga.sent());
    };
    assert_eq!((told.news, told.order_version), (News::Confirmed, 2));
    does(
        saga,
        "send_notification",
        Direction::Do,
        "notification.queued",
    )
    .expect_end(End::Completed);
}

#[test]
fn declined_payment_undoes_only_the_order() {
    let saga = place().refuses("payment.declined", "insufficient_funds");
    cancelled(
        saga,
        CancelReason::PaymentDeclined,
        Undoing::NothingToUndo,
        Undoing::NothingToUndo,
    )
    .expect_end(End::Compensated);
}

#[test]
fn order_out_of_stock_is_refunded() {
    let saga = charged().refuses("inventory.rejected", "out_of_stock");
    let saga = does(saga, "charge_payment", Direction::Undo, "payment.refunded");
    cancelled(
        saga,
        CancelReason::OutOfStock,
        Undoing::Undone,
        Undoing::NothingToUndo,
    )
    .expect_end(End::Compensated);
}

/// The customer's cancel comes before the confirmation, which the order refuses.
#[test]
fn who_cancels_first_is_not_confirmed() {
    let saga = reserved().refuses("order.confirm_rejected", "customer");
    let saga = does(
        saga,
        "reserve_inventory",
        Direction::Undo,
        "inventory.released",
    );
    let saga = does(saga, "charge_payment", Direction::Undo, "payment.refunded");
    cancelled(
        saga,
        CancelReason::Customer,
        Undoing::Undone,
        Undoing::Undone,
    )
    .expect_end(End::Compensated);
}

/// A cancel turns the saga around until `confirm_order` is written.
#[test]
fn cancel_turns_the_saga_around_until_confirm_order_is_written() {
    // The charge's outcome is unknown, so it is undone.
    let saga = place().is_cancelled("customer");
    let saga = does(
        saga,
        "charge_payment",
        Direction::Undo,
        "payment.nothing_to_undo",
    );
    cancelled(
        saga,
        CancelReason::Customer,
        Undoing::NothingToUndo,
        Undoing::NothingToUndo,
    )
    .expect_end(End::Compensated);

    let saga = charged().is_cancelled("operator");
    let saga = does(
        saga,
        "reserve_inventory",
        Direction::Undo,
        "inventory.nothing_to_undo",
    );
    let saga = does(saga, "charge_payment", Direction::Undo, "payment.refunded");
    cancelled(
        saga,
        CancelReason::Operator,
        Undoing::Undone,
        Undoing::NothingToUndo,
    )
    .expect_end(End::Compensated);

    // From here on the order's row decides.
    let saga = reserved().is_cancelled("customer").expect_nothing();
    assert_eq!(saga.state().name(), "running");
}

/// A step without a reply may have been done, so it is undone with the others.
#[test]
fn step_without_a_reply_is_undone() {
    let saga = charged().gives_up();
    let saga = does(
        saga,
        "reserve_inventory",
        Direction::Undo,
        "inventory.nothing_to_undo",
    );
    let saga = does(saga, "charge_payment", Direction::Undo, "payment.refunded");
    cancelled(
        saga,
        CancelReason::Deadline,
        Undoing::Undone,
        Undoing::NothingToUndo,
    )
    .expect_end(End::Compensated);
}

#[test]
fn late_reply_changes_nothing() {
    let saga = place()
        .gives_up()
        .replies_late(
            "charge_payment",
            Direction::Do,
            Outcome::Done,
            "payment.completed",
        )
        .expect_nothing();
    let saga = saga.does("payment.refunded");
    cancelled(
        saga,
        CancelReason::Deadline,
        Undoing::Undone,
        Undoing::NothingToUndo,
    )
    .expect_end(End::Compensated);
}

#[test]
fn failing_refund_is_left_to_an_operator() {
    let stuck = || {
        charged()
            .refuses("inventory.rejected", "out_of_stock")
            .gives_up()
            .expect_stuck()
    };

    let saga = stuck().operator(Action::Resume, "olga", "the bank is back");
    let saga = does(saga, "charge_payment", Direction::Undo, "payment.refunded");
    cancelled(
        saga,
        CancelReason::OutOfStock,
        Undoing::Undone,
        Undoing::NothingToUndo,
    )
    .expect_end(End::Compensated);

    for (action, end) in [
        (Action::Skip, End::Compensated),
        (Action::Abandon, End::Abandoned),
    ] {
        let saga = stuck().operator(action, "olga", "paid back by hand");
        let Some(("charge_payment", Direction::Settle, Command::SettlePayment(settle))) =
            saga.sent()
        else {
            panic!("{:?} is sent", saga.sent());
        };
        assert_eq!(
            (settle.operator.as_str(), settle.note.as_str()),
            ("olga", "paid back by hand")
        );
        let saga = saga.does("payment.settled");
        cancelled(
            saga,
            CancelReason::OutOfStock,
            Undoing::Settled,
            Undoing::NothingToUndo,
        )
        .expect_end(end);
    }

    // Payment had made the refund when the request to write it off came.
    let saga = stuck()
        .operator(Action::Skip, "olga", "paid back by hand")
        .does("payment.refunded");
    cancelled(
        saga,
        CancelReason::OutOfStock,
        Undoing::Undone,
        Undoing::NothingToUndo,
    )
    .expect_end(End::Compensated);
}

#[test]
fn a_confirmed_order_is_undone_and_only_forward() {
    let saga = does(undo(), "refund_payment", Direction::Do, "payment.refunded");
    let saga = saga.is_cancelled("customer").expect_nothing();
    let saga = does(
        saga,
        "release_inventory",
        Direction::Do,
        "inventory.released",
    );
    cancelled(
        saga,
        CancelReason::Customer,
        Undoing::Undone,
        Undoing::Undone,
    )
    .expect_end(End::Completed);
}

#[test]
fn failing_undo_is_left_to_an_operator() {
    let stuck = || undo().gives_up().expect_stuck();
    let saga = stuck()
        .operator(Action::Skip, "olga", "by hand")
        .does("payment.settled");
    let saga = does(
        saga,
        "release_inventory",
        Direction::Do,
        "inventory.released",
    );
    cancelled(
        saga,
        CancelReason::Customer,
        Undoing::Settled,
        Undoing::Undone,
    )
    .expect_end(End::Completed);

    let saga = stuck()
        .operator(Action::Abandon, "olga", "by hand")
        .does("payment.settled");
    let saga = does(
        saga,
        "release_inventory",
        Direction::Settle,
        "inventory.settled",
    );
    cancelled(
        saga,
        CancelReason::Customer,
        Undoing::Settled,
        Undoing::Settled,
    )
    .expect_end(End::Abandoned);
}
