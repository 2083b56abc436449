use contracts::value::Money;

use super::{order::STEPS, *};

fn at(seconds: i64) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(1_800_000_000 + seconds).expect("a time")
}

fn id(n: u128) -> Uuid {
    Uuid::from_u128(n)
}

fn step(message: u128, kind: &str, seconds: i64) -> Step {
    Step {
        message_id: id(message),
        cause: None,
        kind: kind.to_owned(),
        source: "order".to_owned(),
        at: at(seconds),
        detail: Detail::default(),
    }
}

/// Returns a step of an orchestrated order, with this cause and payload.
fn said(message: u128, cause: Option<u128>, kind: &str, seconds: i64, data: &str) -> Step {
    Step {
        cause: cause.map(id),
        detail: serde_json::from_str(data).expect("a detail"),
        ..step(message, kind, seconds)
    }
}

fn hear_all(board: &mut Board, order: u128, steps: impl IntoIterator<Item = (Step, Change)>) {
    for (step, change) in steps {
        let now = step.at;
        board.hear(id(order), "orchestration", step, None, change, now);
    }
}

fn created() -> Change {
    Change::Created(Box::new(Opening {
        customer: "alice".into(),
        amount: Money {
            amount_minor: 690,
            currency: "EUR".parse().expect("a currency"),
        },
        items: 2,
        payment: "wallet".into(),
    }))
}

fn moved(version: u32, state: State) -> Change {
    Change::Moved {
        version,
        state,
        reason: None,
    }
}

fn hear(board: &mut Board, order: u128, message: u128, seconds: i64, change: Change) {
    let trace = trace_id("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
    let step = step(message, "order.something.v1", seconds);
    board.hear(id(order), "choreography", step, trace, change, at(seconds));
}

fn view(order: u128, state: &str, version: u32, at_rest: bool) -> View {
    // The order service's own format.
    let json = format!(
        r#"{{"id":"{}","customer":"bob","coordination":"choreography","state":"{state}","at_rest":{at_rest},
            "version":{version},"lines":[{{"sku":"TEA","quantity":3,"unit_price":{{"amount_minor":1,"currency":"EUR"}}}}],
            "amount":{{"amount_minor":3,"currency":"EUR"}},"payment":{{"method":"card","token":"tok_visa"}},
            "created_at":"2027-01-15T08:00:00Z","updated_at":"2027-01-15T08:00:01Z"}}"#,
        id(order)
    );
    serde_json::from_str(&json).expect("a view")
}

#[test]
fn an_order_comes_to_rest_as_its_events_come_in() {
    let mut board = Board::default();
    hear(&mut board, 1, 10, 0, created());
    hear(&mut board, 1, 11, 1, Change::Other);
    hear(&mut board, 1, 12, 2, moved(2, State::Confirmed));
    let line = board.newest(10).remove(0);
    assert_eq!((line.state, line.at_rest), (State::Confirmed, false));
    hear(&mut board, 1, 13, 3, Change::Committed);
    let line = board.newest(10).remove(0);
    assert!(line.at_rest);
    let ms: Vec<i64> = line.steps.iter().map(|step| step.said.ms).collect();
    assert_eq!(ms, [0, 1000, 2000, 3000]);
    assert_eq!(
        line.trace_id.as_deref(),
        Some("0af7651916cd43dd8448eb211c80319c")
    );
    assert_eq!((line.items, line.customer.as_str()), (2, "alice"));
}

/// A resend is counted and not shown, a reply belongs to its command whatever its time, and a compensation is marked.
#[test]
fn command_is_shown_once_with_its_reply() {
    let start = r#"{"saga":"place_order"}"#;
    let told = r#"{"news":{"cancelled":{"reason":"out_of_stock","payment":"undone"}}}"#;
    let mut board = Board::default();
    let charge = "orchestrator.charge_payment.v1";
    hear_all(
        &mut board,
        1,
        [
            (said(10, None, "order.start_saga.v1", 0, start), created()),
            (said(11, Some(10), charge, 1, "{}"), Change::Other),
            // A resend, and a reply that is older than both by payment's clock.
            (said(12, None, charge, 4, "{}"), Change::Other),
            (
                said(13, Some(12), "payment.completed.v1", 0, "{}"),
                Change::Other,
            ),
            (
                said(14, Some(11), "payment.completed.v1", 5, "{}"),
                Change::Other,
            ),
            (
                said(15, Some(13), "orchestrator.reserve_inventory.v1", 6, "{}"),
                Change::Other,
            ),
            (
                said(16, Some(15), "inventory.rejected.v1", 7, r#"{"saga":7}"#),
                Change::Other,
            ),
            (
                said(17, Some(16), "orchestrator.refund_payment.v1", 8, "[]"),
                Change::Other,
            ),
        ],
    );
    let line = board.newest(1).remove(0);
    assert_eq!(
        (line.state, line.at_rest, line.steps.len()),
        (State::Pending, false, 4)
    );
    let ask = |n: usize| line.steps[n].ask.as_ref().expect("a command");
    assert_eq!(
        (ask(0).of, ask(0).about),
        ("orchestrator", Some("place_order"))
    );
    assert_eq!(
        (ask(1).of, ask(1).attempts, ask(1).undoes),
        ("payment", 2, false)
    );
    let answer = ask(1).answer.as_ref().expect("it was answered");
    assert_eq!(answer.kind, "payment.completed.v1");
    assert!(ask(2).answer.is_some());
    assert!(ask(3).undoes && ask(3).answer.is_none());

    hear_all(
        &mut board,
        1,
        [
            (
                said(18, Some(17), "payment.refunded.v1", 9, "{}"),
                Change::Other,
            ),
            (
                said(19, Some(18), "orchestrator.cancel_order.v1", 10, "{}"),
                Change::Other,
            ),
            (
                said(20, Some(19), "order.cancelled.v1", 11, "{}"),
                moved(2, State::Cancelled),
            ),
            (
                said(21, Some(20), "orchestrator.send_notification.v1", 12, told),
                Change::Other,
            ),
        ],
    );
    let line = board.newest(1).remove(0);
    assert_eq!((line.state, line.at_rest), (State::Cancelled, true));
    let last = line.steps.last().expect("steps").ask.as_ref();
    let last = last.expect("a command");
    assert_eq!((last.about, last.undoes), (Some("cancelled"), true));
}

#[test]
fn missed_orchestrated_order_is_shown_from_its_timeline() {
    let mut board = Board::default();
    hear_all(
        &mut board,
        7,
        [(
            said(12, Some(11), "order.completed.v1", 2, "{}"),
            Change::Committed,
        )],
    );
    assert_eq!(board.wants(at(2), Duration::from_secs(3), 10), [id(7)]);
    let entry = |message: u128, cause: Option<u128>, kind: &str, data: &str| {
        let cause = cause.map(|cause| format!(r#""causation_id":"{}","#, id(cause)));
        format!(
            r#"{{"type":"{kind}","source":"/orchestrator","message_id":"{}",{}"recorded_at":"2027-01-15T08:00:00Z","data":{data}}}"#,
            id(message),
            cause.unwrap_or_default()
        )
    };
    let entries = [
        entry(10, None, "order.start_saga.v1", r#"{"saga":"place_order"}"#),
        entry(11, Some(10), "orchestrator.complete_order.v1", "{}"),
        entry(12, Some(11), "order.completed.v1", "null"),
    ];
    let timeline = serde_json::from_str(&format!("[{}]", entries.join(",")));
    let view = view(7, "confirmed", 2, true);
    board.read(view, timeline.expect("a timeline"), at(5));
    let line = board.newest(1).remove(0);
    assert!(line.at_rest);
    assert_eq!(line.steps.len(), 2);
    let complete = line.steps[1].ask.as_ref().expect("a command");
    let answer = complete.answer.as_ref().expect("it was answered");
    assert_eq!(answer.kind, "order.completed.v1");
}

#[test]
fn repeated_and_late_events_change_nothing() {
    let mut board = Board::default();
    hear(&mut board, 1, 10, 0, created());
    hear(&mut board, 1, 14, 4, moved(4, State::Cancelled));
    hear(&mut board, 1, 12, 2, moved(2, State::Confirmed));
    hear(&mut board, 1, 12, 2, moved(2, State::Confirmed));
    hear(&mut board, 1, 10, 0, created());
    let line = board.newest(10).remove(0);
    assert_eq!((line.state, line.at_rest), (State::Cancelled, true));
    assert_eq!(line.steps.len(), 3);
}

#[test]
fn missed_order_is_asked_for_and_filled_in() {
    let mut board = Board::default();
    // Its first message was missed.
    hear(&mut board, 7, 11, 1, Change::Other);
    assert!(board.newest(10).is_empty());
    assert_eq!(board.wants(at(1), Duration::from_secs(3), 10), [id(7)]);
    board.read(view(7, "pending", 1, false), Vec::new(), at(1));
    let line = board.newest(10).remove(0);
    assert_eq!((line.customer.as_str(), line.items), ("bob", 3));
    // In flight without a message: the order is read again once the patience is over.
    assert!(board.wants(at(3), Duration::from_secs(3), 10).is_empty());
    assert_eq!(board.wants(at(5), Duration::from_secs(3), 10), [id(7)]);
    let entry = format!(
        r#"[{{"type":"order.created.v1","source":"/order","message_id":"{}","recorded_at":"2027-01-15T08:00:00Z"}}]"#,
        id(70)
    );
    let timeline: Vec<Entry> = serde_json::from_str(&entry).expect("a timeline");
    board.read(view(7, "confirmed", 2, true), timeline, at(5));
    let line = board.newest(10).remove(0);
    assert!(line.at_rest);
    assert_eq!(line.steps[0].said.source, "order");
    assert!(board.wants(at(60), Duration::from_secs(3), 10).is_empty());
}

#[test]
fn view_that_is_older_than_a_message_is_ignored() {
    let mut board = Board::default();
    hear(&mut board, 1, 10, 0, created());
    hear(&mut board, 1, 12, 2, moved(2, State::Confirmed));
    board.read(view(1, "pending", 1, false), Vec::new(), at(3));
    assert_eq!(board.newest(1)[0].state, State::Confirmed);
}

#[test]
fn changes_are_told_once_and_only_of_the_newest() {
    let mut board = Board::default();
    for order in 1..=3 {
        hear(&mut board, order, order * 10, 0, created());
    }
    let changed = board.take_changed(2);
    let ids: Vec<Uuid> = changed.iter().map(|line| line.id).collect();
    assert_eq!(ids, [id(2), id(3)]);
    assert!(board.take_changed(2).is_empty());
    board.stuck([id(3)].into());
    assert!(board.take_changed(2)[0].stuck);
    board.stuck(BTreeSet::new());
    assert!(!board.take_changed(2)[0].stuck);
}

#[test]
fn memory_is_bounded() {
    let mut board = Board::default();
    for order in 1..=1000 {
        hear(&mut board, order, order * 1000, 0, created());
    }
    for message in 0..1000 {
        hear(&mut board, 1000, 5_000_000 + message, 1, Change::Other);
        hear(
            &mut board,
            2_000 + message,
            6_000_000 + message,
            1,
            Change::Other,
        );
        hear(&mut board, 1, 7_000_000 + message, 1, Change::Other);
    }
    assert_eq!(board.newest(usize::MAX).len(), ORDERS);
    assert_eq!(board.newest(1)[0].steps.len(), STEPS);
    assert_eq!(board.missing.len(), MISSING);
    assert!(!board.missing.contains(&id(1)), "too old to be shown");
}
