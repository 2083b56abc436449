//! A saga ends under the version that it began with.

use holdfast::saga::{Action, Direction, End, Error};

use super::{
    definitions::{BOOK, BOOK_2},
    fixture::{Program, does, refuses},
};

#[tokio::test]
async fn each_saga_ends_under_the_version_that_it_began_with() {
    let old = Program::new().await;
    let first = old.started(&["hotel"]).await;

    // After a deployment the program knows both versions. New sagas begin under the newer one, in whatever order the
    // two are given.
    let new = old.knowing(&[&BOOK_2, &BOOK]);
    let second = uuid::Uuid::now_v7();
    new.start(&[second]).await;
    assert_eq!(new.sent().await[0].command.says, "book a suite");

    // One batch has replies to sagas of both versions, in which the same step has a different place.
    let applied = new
        .hears_all(&[
            (first, does("car", Direction::Do)),
            (second, does("hotel", Direction::Do)),
        ])
        .await;
    assert_eq!(applied.changed, 2);
    assert_eq!(new.asks().await, ["ticket/do 1", "ticket/do 1"]);
    let applied = new
        .hears_all(&[
            (first, does("ticket", Direction::Do)),
            (second, does("ticket", Direction::Do)),
        ])
        .await;
    assert_eq!(applied.changed, 2);
    assert_eq!(new.asks().await, ["mail/do 1", "insurance/do 1"]);
    // A step that only the other version has is unknown to the saga.
    let applied = new
        .hears_all(&[
            (second, does("mail", Direction::Do)),
            (first, does("insurance", Direction::Do)),
        ])
        .await;
    assert_eq!((applied.changed, applied.unknown), (0, vec![0, 1]));
    let applied = new
        .hears_all(&[
            (first, does("mail", Direction::Do)),
            (second, does("insurance", Direction::Do)),
        ])
        .await;
    let ends: Vec<End> = applied.ended.iter().map(|ended| ended.end).collect();
    assert_eq!(ends, [End::Completed, End::Completed]);
    assert_eq!(
        (
            new.row(first).await.definition_version,
            new.row(second).await.definition_version
        ),
        (1, 2)
    );
    new.is_consistent().await;
}

#[tokio::test]
async fn saga_compensates_under_the_version_that_it_began_with() {
    let old = Program::new().await;
    let id = old.started(&["hotel", "car"]).await;
    let new = old.knowing(&[&BOOK, &BOOK_2]);
    new.hears(id, refuses("ticket", Direction::Do)).await;
    new.hears(id, does("car", Direction::Undo)).await;
    let says: Vec<String> = new
        .sent()
        .await
        .into_iter()
        .map(|sent| sent.command.says)
        .collect();
    assert_eq!(says, ["return the car", "cancel the room"]);
    new.is_consistent().await;
}

#[tokio::test]
async fn saga_of_an_unknown_version_is_broken_until_it_is_known() {
    let old = Program::new().await;
    let new = old.knowing(&[&BOOK, &BOOK_2]);
    let [swept, heard, own] = [
        new.started(&[]).await,
        new.started(&[]).await,
        old.started(&[]).await,
    ];
    new.is_late(swept).await;

    let (found, applied) = old.sweeps(3600).await;
    let why = "this program has no definition book_trip of version 2";
    assert_eq!((found, applied.broken), (1, vec![(swept, why.to_owned())]));
    let applied = old
        .hears_all(&[
            (heard, does("hotel", Direction::Do)),
            (own, does("hotel", Direction::Do)),
        ])
        .await;
    assert_eq!(
        (applied.changed, applied.broken),
        (1, vec![(heard, why.to_owned())])
    );
    assert_eq!(old.asks().await, ["car/do 1"]);
    assert!(
        matches!(old.operates(heard, Action::Resume).await, Err(Error::Broken(error)) if error == why)
    );

    for id in [swept, heard] {
        new.operates(id, Action::Resume)
            .await
            .expect("this one knows it");
        assert_eq!(new.stands(id).await, "running hotel/do 1");
    }
    assert_eq!(new.sweeps(0).await.0, 2);
    assert_eq!(new.asks().await, ["hotel/do 2", "hotel/do 2"]);
    new.hears(heard, does("hotel", Direction::Do)).await;
    assert_eq!(new.stands(heard).await, "running ticket/do 1");
    new.is_consistent().await;
}

#[tokio::test]
async fn ended_saga_of_a_forgotten_version_stays_ended() {
    let program = Program::new().await;
    let id = program.started(&["hotel", "car", "ticket", "mail"]).await;
    assert_eq!(program.stands(id).await, "completed");
    let newer = program.knowing(&[&BOOK_2]);
    let applied = newer
        .hears_all(&[
            (id, does("mail", Direction::Do)),
            (id, refuses("hotel", Direction::Undo)),
        ])
        .await;
    assert_eq!((applied.changed, applied.ignored), (0, 2));
    assert!(
        applied.broken.is_empty() && applied.unknown.is_empty(),
        "{applied:?}"
    );
    assert_eq!(newer.sweeps(3600).await.0, 0);
    assert_eq!(newer.stands(id).await, "completed");
    program.is_consistent().await;
}
