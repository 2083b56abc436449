//! A damaged row is rebuilt from its log; one that cannot be read stops only its own saga.

use holdfast::saga::{Action, Direction, Error};
use uuid::Uuid;

use super::fixture::{Program, cancel, does, refuses};

#[tokio::test]
async fn damaged_state_is_rebuilt_from_the_log() {
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

/// Statements that damage the log too, each with the error that is reported.
const BEYOND_REPAIR: [(&str, &str); 6] = [
    (
        "update saga_log set input = '\"nonsense\"' where saga_id = $1 and seq = 2",
        "the state is damaged, and so is the log: entry 2 of the log: unknown variant `nonsense`",
    ),
    (
        "update saga_log set input = jsonb_set(input, '{reply,step}', '99') where saga_id = $1 and seq = 2",
        "the state is damaged, and so is the log: entry 2 of the log names a step that does not exist",
    ),
    (
        "update saga_log set input = '\"start\"' where saga_id = $1 and seq = 2",
        "the state is damaged, and so is the log: entry 2 of the log changes nothing",
    ),
    (
        "delete from saga_log where saga_id = $1 and seq = 2",
        "the state is damaged, and so is the log: its 1 entries are not numbered 1 to 2",
    ),
    (
        "update saga_log set seq = 3 where saga_id = $1 and seq = 2",
        "the state is damaged, and so is the log: its 2 entries are not numbered 1 to 2",
    ),
    (
        "delete from saga_log where saga_id = $1",
        "the state is damaged, and so is the log: its 0 entries are not numbered 1 to 2",
    ),
];

#[tokio::test]
async fn unreadable_saga_is_broken_and_its_batch_goes_on() {
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

        // The row keeps its position, with the error.
        let row = program.row(id).await;
        assert_eq!(program.stands(id).await, "broken car/do 1");
        assert_eq!((row.due_at, row.error.as_ref()), (None, Some(why)));
        assert!(row.stuck_since.is_some());

        // It is found broken once; all later inputs are ignored.
        let applied = program
            .hears_all(&[(id, does("car", Direction::Do)), (id, cancel())])
            .await;
        assert_eq!((applied.ignored, applied.broken.len()), (2, 0));
        assert_eq!(program.sweeps(3600).await.0, 0);

        // No operator's action is possible before the row is repaired.
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
        assert_eq!(program.actions(id).await, [""; 0]);
        program.is_consistent().await;
    }
}

#[tokio::test]
async fn unreadable_saga_stops_no_sweep() {
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
    // Damaged data do not stop a sweep either.
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

/// A stored state may fit its plan and still have an attempt that no `i32` can hold.
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
async fn repaired_saga_is_resumed_and_resends_its_command() {
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
    // The saga is broken but not stuck, so it can only be resumed.
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
        .expect("it is repaired");
    assert_eq!((applied.changed, applied.sent.len()), (0, 0));
    assert_eq!(
        program.actions(id).await,
        ["olivia: resume ticket: resume it"]
    );
    assert_eq!(program.stands(id).await, "running ticket/do 1");
    let row = program.row(id).await;
    assert_eq!((row.error, row.stuck_since), (None, None));
    program.is_consistent().await;

    // The reply was ignored while the saga was broken, so the command is resent by the next sweep.
    assert_eq!(program.sweeps(0).await.0, 1);
    assert_eq!(program.asks().await, ["ticket/do 2"]);
    program.hears(id, does("ticket", Direction::Do)).await;
    assert_eq!(program.stands(id).await, "running mail/do 1");
    program.is_consistent().await;
}

#[tokio::test]
async fn saga_that_broke_while_stuck_is_stuck_after_its_repair() {
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
            .expect("it is repaired, and stuck");
        let asks = if action == Action::Resume {
            "undo"
        } else {
            "settle"
        };
        assert_eq!(program.asks().await, [format!("hotel/{asks} 1")]);
        assert_eq!(program.actions(id).await.len(), 1);
        program.is_consistent().await;
    }
}
