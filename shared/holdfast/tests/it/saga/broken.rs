//! A damaged row is made anew from its log; one that cannot be read stops nothing but itself.

use holdfast::saga::{Action, Direction, Error};
use uuid::Uuid;

use super::fixture::{Program, cancel, does, refuses};

#[tokio::test]
async fn a_damaged_state_is_made_anew_from_the_log() {
    for damage in [
        "update saga set state = '{}' where id = $1",
        "update saga set state = '\"nonsense\"' where id = $1",
        "update saga set state = 'null' where id = $1",
        "update saga set state = state - 'marks' where id = $1",
        "update saga set state = jsonb_set(state, '{marks}', '[]') where id = $1",
        "update saga set state = jsonb_set(state, '{at}', '99') where id = $1",
        "update saga set state = jsonb_set(state, '{asked}', '\"sideways\"') where id = $1",
        "update saga set state = jsonb_set(state, '{attempt}', '0') where id = $1",
        "update saga set state = jsonb_set(state, '{phase}', '\"asleep\"') where id = $1",
        "update saga set state = jsonb_set(state, '{cause}', '{\"refused\": {\"step\": 99}}') where id = $1",
    ] {
        let program = Program::new().await;
        let id = program.started(&["hotel"]).await;
        program.times_out(id).await;
        program.sent().await;

        program.execute(damage, id).await;
        let applied = program.hears(id, refuses("car", Direction::Do)).await;
        assert_eq!((applied.changed, applied.broken.len()), (1, 0), "{damage}");
        assert_eq!(program.asks().await, ["hotel/undo 1"], "{damage}");

        program.execute(damage, id).await;
        program.times_out(id).await;
        assert_eq!(program.asks().await, ["hotel/undo 2"], "{damage}");

        program.execute(damage, id).await;
        program.times_out(id).await;
        assert_eq!(program.stands(id).await, "stuck hotel/undo 2", "{damage}");

        program.execute(damage, id).await;
        program
            .operates(id, Action::Resume)
            .await
            .expect("it is stuck");
        assert_eq!(program.asks().await, ["hotel/undo 1"], "{damage}");
        program.is_consistent().await;
    }
}

/// Ways to damage a log as well, and what is said then.
const BEYOND_REPAIR: [(&str, &str); 6] = [
    (
        "update saga_log set input = '\"nonsense\"' where saga_id = $1 and seq = 2",
        "the state is damaged, and so is the log: entry 2 of the log: unknown variant `nonsense`",
    ),
    (
        "update saga_log set input = jsonb_set(input, '{reply,step}', '99') where saga_id = $1 and seq = 2",
        "the state is damaged, and so is the log: entry 2 of the log names a step that there is not",
    ),
    (
        "update saga_log set input = '\"start\"' where saga_id = $1 and seq = 2",
        "the state is damaged, and so is the log: entry 2 of the log changes nothing",
    ),
    (
        "delete from saga_log where saga_id = $1 and seq = 2",
        "the state is damaged, and so is the log: it has 1 entries that are not 1 to 2",
    ),
    (
        "update saga_log set seq = 3 where saga_id = $1 and seq = 2",
        "the state is damaged, and so is the log: it has 2 entries that are not 1 to 2",
    ),
    (
        "delete from saga_log where saga_id = $1",
        "the state is damaged, and so is the log: it has 0 entries that are not 1 to 2",
    ),
];

#[tokio::test]
async fn what_cannot_be_read_is_set_aside_and_the_rest_of_the_batch_goes_on() {
    for (damage, says) in BEYOND_REPAIR {
        let program = Program::new().await;
        let [before, id, after] = [
            program.started(&["hotel"]).await,
            program.started(&["hotel"]).await,
            program.started(&["hotel"]).await,
        ];
        program
            .execute("update saga set state = '{}' where id = $1", id)
            .await;
        program.execute(damage, id).await;

        let answers = [before, id, after].map(|id| (id, does("car", Direction::Do)));
        let applied = program.hears_all(&answers).await;
        assert_eq!((applied.changed, applied.ignored), (2, 1), "{damage}");
        let [(broken, why)] = &applied.broken[..] else {
            panic!("{damage}: {applied:?}")
        };
        assert_eq!(*broken, id);
        assert!(why.starts_with(says), "{damage}: {why}");
        assert_eq!(program.asks().await, ["ticket/do 1", "ticket/do 1"]);
        assert_eq!(program.stands(before).await, "running ticket/do 1");
        assert_eq!(program.stands(after).await, "running ticket/do 1");

        // It says where it was, and why it is not any more.
        let row = program.row(id).await;
        assert_eq!(program.stands(id).await, "broken car/do 1");
        assert_eq!((row.due_at, row.error.as_ref()), (None, Some(why)));
        assert!(row.stuck_since.is_some());

        // Found once; what comes from now on is heard by nobody.
        let applied = program
            .hears_all(&[(id, does("car", Direction::Do)), (id, cancel())])
            .await;
        assert_eq!((applied.ignored, applied.broken.len()), (2, 0));
        assert_eq!(program.sweeps(3600).await.0, 0);

        // No operator can do anything about it before it is mended.
        for action in [Action::Resume, Action::Skip, Action::Abandon] {
            let error = program
                .operates(id, action)
                .await
                .expect_err("it cannot be read");
            assert!(
                matches!(&error, Error::Broken(error) if error == why),
                "{damage}: {error}"
            );
        }
        assert_eq!(program.deeds(id).await, [""; 0]);
        program.is_consistent().await;
    }
}

#[tokio::test]
async fn what_cannot_be_read_stops_no_sweep() {
    let program = Program::new().await;
    let ids: Vec<Uuid> = (0..3).map(|_| Uuid::now_v7()).collect();
    program.start(&ids).await;
    program.sent().await;
    program
        .execute("update saga set state = '{}' where id = $1", ids[1])
        .await;
    program
        .execute(
            "update saga_log set input = '{}' where saga_id = $1",
            ids[1],
        )
        .await;
    // Nor does one whose data are damaged, whatever its state is.
    program
        .execute(
            "update saga set data = '{\"city\": 7}' where id = $1",
            ids[2],
        )
        .await;
    for id in &ids {
        program.is_late(*id).await;
    }
    let (found, applied) = program.sweeps(3600).await;
    assert_eq!((found, applied.changed, applied.broken.len()), (3, 1, 2));
    assert!(
        applied
            .broken
            .iter()
            .any(|(id, why)| *id == ids[2] && why.starts_with("data: ")),
        "{applied:?}"
    );
    assert_eq!(program.asks().await, ["hotel/do 2"]);
    assert_eq!(program.stands(ids[1]).await, "broken hotel/do 1");
    assert_eq!(program.sweeps(3600).await.0, 0);
    program.is_consistent().await;
}

/// A stored state that fits may still be beyond counting.
#[tokio::test]
async fn an_absurd_number_of_attempts_stops_no_sweep() {
    let program = Program::new().await;
    let [absurd, other] = [
        program.started(&["hotel", "car"]).await,
        program.started(&[]).await,
    ];
    program
        .execute(
            "update saga set state = jsonb_set(state, '{attempt}', '4294967295') where id = $1",
            absurd,
        )
        .await;
    program.is_late(absurd).await;
    program.is_late(other).await;
    assert_eq!(program.sweeps(3600).await.0, 2);
    assert_eq!(program.asks().await, ["ticket/do 4294967295", "hotel/do 2"]);
    assert_eq!(program.waits(absurd).await, 60_000);
}

#[tokio::test]
async fn what_is_mended_is_taken_up_and_asks_again() {
    let program = Program::new().await;
    let id = program.started(&["hotel", "car"]).await;
    program
        .execute("update saga set state = '{}' where id = $1", id)
        .await;
    program
        .execute("update saga_log set input = jsonb_build_object('mangled', input) where saga_id = $1 and seq = 2", id)
        .await;
    let applied = program.hears(id, does("ticket", Direction::Do)).await;
    assert_eq!(applied.broken.len(), 1);
    assert!(matches!(
        program.operates(id, Action::Resume).await,
        Err(Error::Broken(_))
    ));

    program
        .execute(
            "update saga_log set input = input -> 'mangled' where saga_id = $1 and seq = 2",
            id,
        )
        .await;
    // It is not stuck: there is nothing to skip.
    for action in [Action::Skip, Action::Abandon] {
        let error = program
            .operates(id, action)
            .await
            .expect_err("it can only be resumed");
        assert!(
            matches!(&error, Error::NotStuck(not) if not.state == "broken"),
            "{error}"
        );
    }
    let applied = program
        .operates(id, Action::Resume)
        .await
        .expect("it is mended");
    assert_eq!((applied.changed, applied.sent.len()), (0, 0));
    assert_eq!(
        program.deeds(id).await,
        ["olivia: resume ticket: resume it"]
    );
    assert_eq!(program.stands(id).await, "running ticket/do 1");
    let row = program.row(id).await;
    assert_eq!((row.error, row.stuck_since), (None, None));
    program.is_consistent().await;

    // The answer was not heard. Whatever came in meanwhile counts for nothing: it is asked again, at once.
    assert_eq!(program.sweeps(0).await.0, 1);
    assert_eq!(program.asks().await, ["ticket/do 2"]);
    program.hears(id, does("ticket", Direction::Do)).await;
    assert_eq!(program.stands(id).await, "running mail/do 1");
    program.is_consistent().await;
}

#[tokio::test]
async fn what_was_stuck_when_it_broke_is_stuck_when_it_is_mended() {
    let program = Program::new().await;
    for action in [Action::Resume, Action::Skip, Action::Abandon] {
        let id = program.stuck().await;
        program
            .execute(
                "update saga set data = jsonb_build_object('mangled', data) where id = $1",
                id,
            )
            .await;
        let applied = program.hears(id, does("hotel", Direction::Do)).await;
        assert_eq!(applied.broken.len(), 1);
        program
            .execute("update saga set data = data -> 'mangled' where id = $1", id)
            .await;

        program
            .operates(id, action)
            .await
            .expect("it is mended, and stuck");
        let asks = if action == Action::Resume {
            "undo"
        } else {
            "settle"
        };
        assert_eq!(program.asks().await, [format!("hotel/{asks} 1")]);
        assert_eq!(program.deeds(id).await.len(), 1);
        program.is_consistent().await;
    }
}
