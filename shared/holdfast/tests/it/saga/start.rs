//! A saga starts once.

use std::collections::HashSet;

use holdfast::saga::{Direction, Error};
use uuid::Uuid;

use super::{
    definitions::start,
    fixture::{Program, dispatch, does, wait_for_a_lock},
};

#[tokio::test]
async fn saga_starts_once_however_often_it_is_requested() {
    let program = Program::new().await;
    let [id, other] = [Uuid::now_v7(), Uuid::now_v7()];

    // Twice in one batch, with different cities: the first start counts.
    let mut tx = program.begin().await;
    let starts = [
        start(id, "book_trip", "Lisbon"),
        start(id, "book_trip", "Porto"),
        start(other, "book_trip", "Faro"),
    ];
    let (new, applied) = program
        .executor
        .start(&mut tx, &starts, &mut dispatch)
        .await
        .expect("it starts");
    tx.commit().await.expect("a commit");
    assert_eq!(new, HashSet::from([id, other]));
    assert_eq!((applied.changed, applied.ignored), (2, 0));
    assert_eq!(
        applied.sent.into_iter().collect::<Vec<_>>(),
        [(("hotel", Direction::Do), 2)]
    );
    let sent = program.sent().await;
    let cities: Vec<(Uuid, &str)> = sent
        .iter()
        .map(|sent| (sent.saga, &*sent.command.city))
        .collect();
    assert_eq!(cities, [(id, "Lisbon"), (other, "Faro")]);

    // Once more, while the saga is running.
    program.hears(id, does("hotel", Direction::Do)).await;
    assert_eq!(program.asks().await, ["car/do 1"]);
    let mut tx = program.begin().await;
    let (new, applied) = program
        .executor
        .start(&mut tx, &[start(id, "book_trip", "Braga")], &mut dispatch)
        .await
        .expect("it is asked");
    tx.commit().await.expect("a commit");
    assert_eq!((new.len(), applied.changed, applied.ignored), (0, 0, 0));
    assert!(program.sent().await.is_empty());
    assert_eq!(program.stands(id).await, "running car/do 1");
    program.is_consistent().await;
}

#[tokio::test]
async fn two_connections_start_it_once() {
    let program = Program::new().await;
    let ids = [Uuid::now_v7(), Uuid::now_v7()];
    let starts = ids.map(|id| start(id, "book_trip", "Lisbon"));

    let mut first = program.begin().await;
    let (new, _) = program
        .executor
        .start(&mut first, &starts, &mut dispatch)
        .await
        .expect("it starts");
    assert_eq!(new.len(), 2);
    let mut second = program.begin().await;
    let waits = async {
        let (new, applied) = program
            .executor
            .start(&mut second, &starts, &mut dispatch)
            .await
            .expect("it is asked");
        assert!(new.is_empty(), "{new:?}");
        assert_eq!((applied.changed, applied.ignored), (0, 0));
        second.commit().await.expect("a commit");
    };
    let commits = async {
        wait_for_a_lock(&program).await;
        first.commit().await.expect("a commit");
    };
    tokio::join!(waits, commits);
    assert_eq!(program.asks().await, ["hotel/do 1", "hotel/do 1"]);
    program.is_consistent().await;
}

#[tokio::test]
async fn second_start_wins_if_the_first_does_not_commit() {
    let program = Program::new().await;
    let starts = [start(Uuid::now_v7(), "book_trip", "Lisbon")];
    let mut first = program.begin().await;
    program
        .executor
        .start(&mut first, &starts, &mut dispatch)
        .await
        .expect("it starts");
    let mut second = program.begin().await;
    let waits = async {
        let (new, _) = program
            .executor
            .start(&mut second, &starts, &mut dispatch)
            .await
            .expect("it starts");
        assert_eq!(new.len(), 1);
        second.commit().await.expect("a commit");
    };
    let dies = async {
        wait_for_a_lock(&program).await;
        first.rollback().await.expect("a rollback");
    };
    tokio::join!(waits, dies);
    assert_eq!(program.asks().await, ["hotel/do 1"]);
    program.is_consistent().await;
}

#[tokio::test]
async fn unknown_definition_starts_nothing_of_its_batch() {
    let program = Program::new().await;
    let mut tx = program.begin().await;
    let starts = [
        start(Uuid::now_v7(), "book_trip", "Lisbon"),
        start(Uuid::now_v7(), "fly_to_the_moon", "Tycho"),
    ];
    let error = program
        .executor
        .start(&mut tx, &starts, &mut dispatch)
        .await
        .expect_err("there is no such definition");
    assert!(
        matches!(&error, Error::UnknownDefinition(name) if name == "fly_to_the_moon"),
        "{error}"
    );
    // Nothing was written, so a commit changes nothing.
    tx.commit().await.expect("a commit");
    assert_eq!(program.rows().await, [0, 0, 0, 0]);
}
