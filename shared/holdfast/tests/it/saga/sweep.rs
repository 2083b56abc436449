//! Overdue commands are resent, given up, or make the saga stuck.

use std::{collections::HashSet, time::Duration};

use holdfast::saga::{Direction, End, Executor, Invalid};
use uuid::Uuid;

use super::{
    definitions::{BOOK, BOOK_2, start},
    fixture::{Program, dispatch, does, refuses},
};

/// An overdue command is resent under the same key as a new message, after a wait that doubles up to the longest.
#[tokio::test]
async fn overdue_command_is_resent_under_its_key_after_doubling_waits() {
    let program = Program::new().await;
    let id = program.started(&["hotel", "car"]).await;
    program.hears(id, does("ticket", Direction::Do)).await;
    let first = program.sent().await.pop().expect("it asks");
    let mut messages = HashSet::from([first.message]);
    let mut waits = vec![program.waits(id).await];
    for attempt in 2..=6 {
        let applied = program.times_out(id).await;
        assert_eq!(
            (applied.changed, applied.sent[&("mail", Direction::Do)]),
            (1, 1)
        );
        let [sent] = &program.sent().await[..] else {
            panic!("attempt {attempt}: one command")
        };
        assert_eq!(
            (sent.saga, &*sent.asks, sent.attempt),
            (id, "mail/do", attempt)
        );
        assert_eq!(sent.command, first.command);
        assert!(messages.insert(sent.message), "it is a new message");
        let row = program.row(id).await;
        let due_in = row.due_at.expect("it is awaited") - row.updated_at;
        assert!(
            (due_in.as_seconds_f64() - row.wait_seconds).abs() < 1e-3,
            "{row:?}"
        );
        waits.push(program.waits(id).await);
    }
    assert_eq!(waits, [10_000, 20_000, 40_000, 60_000, 60_000, 60_000]);
    let log = program.log(id).await;
    assert_eq!(
        log[4],
        (
            serde_json::json!({"timed_out": {"step": 4, "asked": "do", "attempt": 1}}),
            Some("send mail/do, attempt 2".to_owned())
        )
    );
    // A reply to any of the attempts counts.
    let applied = program.hears(id, does("mail", Direction::Do)).await;
    assert_eq!(applied.ended[0].end, End::Completed);
    program.is_consistent().await;
}

/// A reply is overdue only after messages have come in for as long as the wait itself.
#[tokio::test]
async fn time_without_messages_does_not_make_a_reply_overdue() {
    let program = Program::new().await;
    let id = program.started(&[]).await;
    assert_eq!(program.sweeps(3600).await.0, 0, "it has ten seconds");
    program.is_late(id).await;
    for heard_for in [0, 1, 9] {
        assert_eq!(
            program.sweeps(heard_for).await.0,
            0,
            "messages have come in for only {heard_for} s"
        );
    }
    assert_eq!(program.stands(id).await, "running hotel/do 1");
    assert_eq!(program.sweeps(10).await.0, 1);
    program.is_late(id).await;
    assert_eq!(
        program.sweeps(19).await.0,
        0,
        "the second time it has twenty"
    );
    assert_eq!(program.sweeps(20).await.0, 1);
    assert_eq!(program.asks().await, ["hotel/do 2", "hotel/do 3"]);
    program.is_consistent().await;
}

/// A step that never replies is undone with those before it. If its compensation has no reply either, the saga gets
/// stuck, and goes on when the reply comes late.
#[tokio::test]
async fn silent_step_is_undone_and_a_silent_undo_gets_stuck() {
    let program = Program::new().await;
    let id = program.started(&["hotel"]).await;
    program.times_out(id).await;
    let applied = program.times_out(id).await;
    assert_eq!(
        applied.sent.into_iter().collect::<Vec<_>>(),
        [(("car", Direction::Undo), 1)]
    );
    assert_eq!(program.stands(id).await, "compensating car/undo 1");
    let sent = program.sent().await;
    let because: Vec<Option<&str>> = sent
        .iter()
        .map(|sent| sent.command.because.as_deref())
        .collect();
    assert_eq!(because, [None, Some("car: no answer: ")]);
    assert_eq!(program.waits(id).await, 10_000, "the waits begin anew");

    program.times_out(id).await;
    assert_eq!(program.waits(id).await, 20_000);
    let applied = program.times_out(id).await;
    assert_eq!(applied.stuck, [(id, "no answer to 2 attempts".to_owned())]);
    assert_eq!(program.asks().await, ["car/undo 2"]);
    let row = program.row(id).await;
    assert_eq!(program.stands(id).await, "stuck car/undo 2");
    assert_eq!(
        (row.due_at, row.error.as_deref()),
        (None, Some("no answer to 2 attempts"))
    );
    assert!(row.stuck_since.is_some());
    assert_eq!(program.sweeps(3600).await.0, 0, "it waits for an operator");

    // Only a late success helps: a refusal changes nothing.
    program.hears(id, refuses("car", Direction::Undo)).await;
    assert_eq!(program.stands(id).await, "stuck car/undo 2");
    program.hears(id, does("car", Direction::Undo)).await;
    assert_eq!(program.stands(id).await, "compensating hotel/undo 1");
    let row = program.row(id).await;
    assert_eq!((row.error, row.stuck_since), (None, None));
    program.is_consistent().await;
}

#[tokio::test]
async fn sweep_leaves_ended_and_stuck_sagas_alone() {
    let program = Program::new().await;
    program.stuck().await;
    let ended = program.started(&["hotel", "car", "ticket", "mail"]).await;
    assert_eq!(program.stands(ended).await, "completed");
    let (found, applied) = program.sweeps(3600).await;
    assert_eq!((found, applied.changed), (0, 0));
    program.is_consistent().await;
}

#[tokio::test]
async fn two_sweeps_never_take_the_same_saga() {
    let program = Program::new().await;
    let ids: Vec<Uuid> = (0..10).map(|_| Uuid::now_v7()).collect();
    program.start(&ids).await;
    program.sent().await;
    for id in &ids {
        program.is_late(*id).await;
    }
    let hour = Duration::from_secs(3600);
    let (mut first, mut second) = (program.begin().await, program.begin().await);
    let (found, _) = program
        .executor
        .sweep(&mut first, 4, hour, &mut dispatch)
        .await
        .expect("it sweeps");
    assert_eq!(found, 4);
    // The second sweep skips the rows of the first one instead of waiting for them.
    let (found, _) = program
        .executor
        .sweep(&mut second, 100, hour, &mut dispatch)
        .await
        .expect("it sweeps");
    assert_eq!(found, 6);
    second.commit().await.expect("a commit");
    first.commit().await.expect("a commit");
    let asked: HashSet<Uuid> = program.sent().await.iter().map(|sent| sent.saga).collect();
    assert_eq!(asked, ids.iter().copied().collect());
    assert_eq!(program.sweeps(3600).await.0, 0);
    for id in &ids {
        assert_eq!(program.stands(*id).await, "running hotel/do 2");
    }
    program.is_consistent().await;
}

#[tokio::test]
async fn sweep_skips_a_saga_whose_reply_is_being_applied() {
    let program = Program::new().await;
    let id = program.started(&[]).await;
    program.is_late(id).await;
    let mut tx = program.begin().await;
    let inputs = [(id, does("hotel", Direction::Do))];
    program
        .executor
        .apply(&mut tx, &inputs, &mut dispatch)
        .await
        .expect("it is taken in");
    assert_eq!(
        program.sweeps(3600).await.0,
        0,
        "another transaction has it"
    );
    tx.commit().await.expect("a commit");
    assert_eq!(
        program.sweeps(3600).await.0,
        0,
        "it awaits something else now"
    );
    assert_eq!(program.asks().await, ["car/do 1"]);
    program.is_consistent().await;
}

#[tokio::test]
async fn longest_overdue_saga_is_swept_first() {
    let program = Program::new().await;
    let ids: Vec<Uuid> = (0..3).map(|_| Uuid::now_v7()).collect();
    program.start(&ids).await;
    program.sent().await;
    for id in ids.iter().rev() {
        program.is_late(*id).await;
    }
    let mut swept = Vec::new();
    for _ in 0..3 {
        let mut tx = program.begin().await;
        let hour = Duration::from_secs(3600);
        program
            .executor
            .sweep(&mut tx, 1, hour, &mut dispatch)
            .await
            .expect("it sweeps");
        tx.commit().await.expect("a commit");
        swept.extend(program.sent().await.into_iter().map(|sent| sent.saga));
    }
    assert_eq!(swept, [ids[2], ids[1], ids[0]]);
    program.is_consistent().await;
}

#[tokio::test]
async fn every_wait_is_multiplied_by_the_pace() {
    let program = Program::new().await;
    let fast = Executor::new(&[&BOOK], 0.01).expect("valid definitions");
    let id = Uuid::now_v7();
    let mut tx = program.begin().await;
    fast.start(&mut tx, &[start(id, "book_trip", "Lisbon")], &mut dispatch)
        .await
        .expect("it starts");
    tx.commit().await.expect("a commit");
    assert_eq!(program.waits(id).await, 100);
    program.is_consistent().await;
}

#[test]
fn pace_out_of_range_is_refused() {
    for pace in [0.0, -1.0, 0.0009, 100.1, f64::NAN, f64::INFINITY] {
        let refused = Executor::new(&[&BOOK], pace).map(drop);
        assert_eq!(refused, Err(Invalid::Pace(pace.to_string())));
    }
    for pace in [0.001, 1.0, 100.0] {
        assert_eq!(Executor::new(&[&BOOK], pace).map(drop), Ok(()));
    }
}

#[tokio::test]
async fn two_definitions_of_one_version_are_refused() {
    let refused = Executor::new(&[&BOOK, &BOOK_2, &BOOK], 1.0).map(drop);
    assert_eq!(refused, Err(Invalid::SameVersion("book_trip", 1)));
}
