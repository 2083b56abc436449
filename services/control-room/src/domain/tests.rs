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
        kind: kind.to_owned(),
        source: "order".to_owned(),
        at: at(seconds),
    }
}

fn created() -> News {
    News::Created(Box::new(Opening {
        customer: "alice".into(),
        amount: Money {
            amount_minor: 690,
            currency: "EUR".parse().expect("a currency"),
        },
        items: 2,
        payment: "wallet".into(),
    }))
}

fn moved(version: u32, state: State) -> News {
    News::Moved {
        version,
        state,
        reason: None,
    }
}

fn hear(board: &mut Board, order: u128, message: u128, seconds: i64, news: News) {
    let trace = trace_id("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
    let step = step(message, "order.something.v1", seconds);
    board.hear(id(order), "choreography", step, trace, news, at(seconds));
}

fn view(order: u128, state: &str, version: u32, at_rest: bool) -> View {
    // As the order service writes it.
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
    hear(&mut board, 1, 11, 1, News::Other);
    hear(&mut board, 1, 12, 2, moved(2, State::Confirmed));
    let line = board.newest(10).remove(0);
    assert_eq!((line.state, line.at_rest), (State::Confirmed, false));
    hear(&mut board, 1, 13, 3, News::Committed);
    let line = board.newest(10).remove(0);
    assert!(line.at_rest);
    let ms: Vec<i64> = line.steps.iter().map(|step| step.ms).collect();
    assert_eq!(ms, [0, 1000, 2000, 3000]);
    assert_eq!(
        line.trace_id.as_deref(),
        Some("0af7651916cd43dd8448eb211c80319c")
    );
    assert_eq!((line.items, line.customer.as_str()), (2, "alice"));
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
fn what_was_missed_is_asked_for_and_heals() {
    let mut board = Board::default();
    // Its beginning was missed.
    hear(&mut board, 7, 11, 1, News::Other);
    assert!(board.newest(10).is_empty());
    assert_eq!(board.wants(at(1), Duration::from_secs(3), 10), [id(7)]);
    board.read(view(7, "pending", 1, false), Vec::new(), at(1));
    let line = board.newest(10).remove(0);
    assert_eq!((line.customer.as_str(), line.items), ("bob", 3));
    // In flight, and nothing heard: asked for again, but not before a while.
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
    assert_eq!(line.steps[0].source, "order");
    assert!(board.wants(at(60), Duration::from_secs(3), 10).is_empty());
}

#[test]
fn a_view_that_is_older_than_what_was_heard_is_ignored() {
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
        hear(&mut board, 1000, 5_000_000 + message, 1, News::Other);
        hear(
            &mut board,
            2_000 + message,
            6_000_000 + message,
            1,
            News::Other,
        );
        hear(&mut board, 1, 7_000_000 + message, 1, News::Other);
    }
    assert_eq!(board.newest(usize::MAX).len(), ORDERS);
    assert_eq!(board.newest(1)[0].steps.len(), STEPS);
    assert_eq!(board.missing.len(), MISSING);
    assert!(!board.missing.contains(&id(1)), "too old to be shown");
}
