//! Transactions are all or nothing, and concurrent ones apply each input once.

use std::time::Duration;

use holdfast::saga::{Action, By, Direction};
use uuid::Uuid;

use super::{
    definitions::start,
    fixture::{self, Program, dispatch, does, wait_for_a_lock},
};

#[tokio::test]
async fn uncommitted_changes_leave_no_trace() {
    let program = Program::new().await;
    let mut tx = program.begin().await;
    let starts = [start(Uuid::now_v7(), "book_trip", "Lisbon")];
    program
        .executor
        .start(&mut tx, &starts, &mut dispatch)
        .await
        .expect("it starts");
    tx.rollback().await.expect("a rollback");
    assert_eq!(program.rows().await, [0, 0, 0, 0]);

    let (id, stuck) = (program.started(&["hotel"]).await, program.stuck().await);
    let before = (
        program.rows().await,
        program.stands(id).await,
        program.stands(stuck).await,
    );
    let mut tx = program.begin().await;
    let inputs = [
        (id, does("car", Direction::Do)),
        (stuck, does("hotel", Direction::Undo)),
    ];
    let applied = program
        .executor
        .apply(&mut tx, &inputs, &mut dispatch)
        .await
        .expect("it is taken in");
    assert_eq!(applied.changed, 2);
    let seen: Vec<String> = fixture::sent(&mut tx)
        .await
        .into_iter()
        .map(|sent| sent.asks)
        .collect();
    assert_eq!(seen, ["ticket/do", "tell_traveller/undo"]);
    tx.rollback().await.expect("a rollback");
    assert_eq!(
        (
            program.rows().await,
            program.stands(id).await,
            program.stands(stuck).await
        ),
        before
    );

    program.is_late(id).await;
    let mut tx = program.begin().await;
    let (found, _) = program
        .executor
        .sweep(&mut tx, 10, Duration::from_secs(60), &mut dispatch)
        .await
        .expect("it sweeps");
    assert_eq!(found, 1);
    let by = By {
        operator: "olivia".to_owned(),
        note: String::new(),
    };
    let action = Action::Skip;
    program
        .executor
        .operate(&mut tx, stuck, action, &by, &mut dispatch)
        .await
        .expect("it is stuck");
    tx.rollback().await.expect("a rollback");
    assert_eq!(
        (
            program.rows().await,
            program.stands(id).await,
            program.stands(stuck).await
        ),
        before
    );

    // The same inputs are applied once the transaction commits.
    let applied = program.hears_all(&inputs).await;
    assert_eq!(applied.changed, 2);
    program.is_consistent().await;
}

#[tokio::test]
async fn reply_applied_by_two_connections_counts_once() {
    let program = Program::new().await;
    let id = program.started(&[]).await;
    let inputs = [(id, does("hotel", Direction::Do))];
    let (mut first, mut second) = (program.begin().await, program.begin().await);
    let applied = program
        .executor
        .apply(&mut first, &inputs, &mut dispatch)
        .await
        .expect("it is taken in");
    assert_eq!(applied.changed, 1);
    let waits = async {
        let applied = program
            .executor
            .apply(&mut second, &inputs, &mut dispatch)
            .await
            .expect("it is taken in");
        assert_eq!((applied.changed, applied.ignored), (0, 1));
        second.commit().await.expect("a commit");
    };
    let commits = async {
        wait_for_a_lock(&program).await;
        first.commit().await.expect("a commit");
    };
    tokio::join!(waits, commits);
    assert_eq!(program.asks().await, ["car/do 1"]);
    program.is_consistent().await;
}

#[tokio::test]
async fn batches_in_opposite_orders_do_not_deadlock() {
    let program = Program::new().await;
    let ids: Vec<Uuid> = (0..20).map(|_| Uuid::now_v7()).collect();
    program.start(&ids).await;
    let answers = |step: &'static str| ids.iter().map(move |id| (*id, does(step, Direction::Do)));
    for step in ["hotel", "car", "ticket"] {
        let forwards: Vec<_> = answers(step).collect();
        let backwards: Vec<_> = answers(step).rev().collect();
        let (one, two) = tokio::join!(program.hears_all(&forwards), program.hears_all(&backwards));
        assert_eq!(
            (one.changed + two.changed, one.ignored + two.ignored),
            (20, 20),
            "{step}"
        );
    }
    assert_eq!(program.asks().await.len(), 80);
    program.is_consistent().await;
}
