//! Operators' actions on stuck sagas, and only on those.

use holdfast::saga::{Action, Direction, End, Error};
use uuid::Uuid;

use super::fixture::{Program, does, refuses};

const ACTIONS: [Action; 3] = [Action::Resume, Action::Skip, Action::Abandon];

fn by_olivia(note: &str) -> (String, String) {
    ("olivia".to_owned(), note.to_owned())
}

#[tokio::test]
async fn operator_action_on_a_saga_that_is_not_stuck_fails() {
    let program = Program::new().await;
    let running = program.started(&[]).await;
    let compensating = program.started(&["hotel"]).await;
    program
        .hears(compensating, refuses("car", Direction::Do))
        .await;
    let completed = program.started(&["hotel", "car", "ticket", "mail"]).await;
    program.sent().await;
    let before = program.rows().await;
    for (id, state) in [
        (running, "running"),
        (compensating, "compensating"),
        (completed, "completed"),
    ] {
        for action in ACTIONS {
            let error = program.operates(id, action).await.expect_err(state);
            assert!(
                matches!(&error, Error::NotStuck(not) if not.state == state),
                "{state}: {error}"
            );
        }
    }
    let nobody = Uuid::now_v7();
    let error = program
        .operates(nobody, Action::Resume)
        .await
        .expect_err("there is none");
    assert!(
        matches!(error, Error::NotFound(id) if id == nobody),
        "{error}"
    );
    assert_eq!(program.rows().await, before);
    program.is_consistent().await;
}

#[tokio::test]
async fn resume_resends_from_the_first_attempt_on() {
    let program = Program::new().await;
    let id = program.stuck().await;
    let applied = program
        .operates(id, Action::Resume)
        .await
        .expect("it is stuck");
    assert_eq!(
        (applied.changed, applied.sent[&("hotel", Direction::Undo)]),
        (1, 1)
    );
    assert_eq!(program.stands(id).await, "compensating hotel/undo 1");
    let row = program.row(id).await;
    assert_eq!(
        (row.wait_seconds, row.error, row.stuck_since),
        (10.0, None, None)
    );
    // The saga gets stuck for another reason, and can be resumed again.
    program.times_out(id).await;
    program.times_out(id).await;
    assert_eq!(program.stands(id).await, "stuck hotel/undo 2");
    program
        .operates(id, Action::Resume)
        .await
        .expect("it is stuck");
    assert_eq!(
        program.asks().await,
        ["hotel/undo 1", "hotel/undo 2", "hotel/undo 1"]
    );
    program.hears(id, does("hotel", Direction::Undo)).await;
    let applied = program
        .hears(id, does("tell_traveller", Direction::Undo))
        .await;
    assert_eq!(
        applied.ended[0].end,
        End::Compensated,
        "nothing was left out"
    );
    assert_eq!(
        program.actions(id).await,
        ["olivia: resume hotel: resume it"; 2]
    );
    program.is_consistent().await;
}

#[tokio::test]
async fn only_the_skipped_step_is_written_off_by_its_participant() {
    let program = Program::new().await;
    let id = program.stuck().await;
    program
        .operates(id, Action::Skip)
        .await
        .expect("it is stuck");
    assert_eq!(program.stands(id).await, "compensating hotel/settle 1");
    let [sent] = &program.sent().await[..] else {
        panic!("one command")
    };
    assert_eq!(
        (&*sent.asks, &*sent.command.says),
        ("hotel/settle", "write the room off")
    );
    assert_eq!(sent.command.operator, Some(by_olivia("skip it")));
    assert_eq!(
        sent.command.because.as_deref(),
        Some("car: refused: car.refused (whatever)")
    );

    // A resent settlement is the same command. A late reply to the compensation is not a reply to the settlement.
    program.times_out(id).await;
    assert_eq!(program.sent().await[0].command, sent.command);
    program.hears(id, does("hotel", Direction::Undo)).await;
    assert_eq!(program.stands(id).await, "compensating hotel/settle 2");

    program.hears(id, does("hotel", Direction::Settle)).await;
    let [sent] = &program.sent().await[..] else {
        panic!("one command")
    };
    assert_eq!(
        (&*sent.asks, &sent.command.operator),
        ("tell_traveller/undo", &None)
    );
    let applied = program
        .hears(id, does("tell_traveller", Direction::Undo))
        .await;
    assert_eq!(applied.ended[0].end, End::Compensated);
    assert_eq!(program.actions(id).await, ["olivia: skip hotel: skip it"]);
    program.is_consistent().await;
}

#[tokio::test]
async fn failed_settlement_can_be_skipped() {
    let program = Program::new().await;
    for action in [Action::Skip, Action::Abandon] {
        let id = program.stuck().await;
        program
            .operates(id, Action::Skip)
            .await
            .expect("it is stuck");
        program.hears(id, refuses("hotel", Direction::Settle)).await;
        assert_eq!(program.stands(id).await, "stuck hotel/settle 1");
        program
            .operates(id, Action::Resume)
            .await
            .expect("it is stuck");
        program.times_out(id).await;
        program.times_out(id).await;
        assert_eq!(program.stands(id).await, "stuck hotel/settle 2");
        program.sent().await;
        program.operates(id, action).await.expect("it is stuck");
        assert_eq!(
            program.asks().await,
            ["tell_traveller/undo 1"],
            "no participant writes it off"
        );
        assert_eq!(program.actions(id).await.len(), 3);
        program.is_consistent().await;
    }
}

#[tokio::test]
async fn step_without_settlement_is_passed_over_by_a_skip() {
    let program = Program::new().await;
    let id = program.started(&["hotel", "car"]).await;
    program.hears(id, refuses("ticket", Direction::Do)).await;
    program.hears(id, refuses("car", Direction::Undo)).await;
    program.sent().await;
    program
        .operates(id, Action::Skip)
        .await
        .expect("it is stuck");
    assert_eq!(program.asks().await, ["hotel/undo 1"]);
    let state = program.row(id).await.state;
    assert_eq!(state["marks"][2], "skipped");
    program.is_consistent().await;
}

#[tokio::test]
async fn abandoned_saga_settles_what_it_can_and_undoes_the_rest() {
    let program = Program::new().await;
    let id = program.started(&["hotel", "car"]).await;
    program.hears(id, refuses("ticket", Direction::Do)).await;
    program.hears(id, refuses("car", Direction::Undo)).await;
    program.sent().await;
    program
        .operates(id, Action::Abandon)
        .await
        .expect("it is stuck");
    program.hears(id, does("hotel", Direction::Settle)).await;
    let sent = program.sent().await;
    let asks: Vec<(&str, &Option<(String, String)>)> = sent
        .iter()
        .map(|sent| (&*sent.asks, &sent.command.operator))
        .collect();
    let olivia = Some(by_olivia("abandon it"));
    assert_eq!(
        asks,
        [("hotel/settle", &olivia), ("tell_traveller/undo", &olivia)]
    );
    let applied = program
        .hears(id, does("tell_traveller", Direction::Undo))
        .await;
    assert_eq!(applied.ended[0].end, End::Abandoned);
    assert_eq!(program.stands(id).await, "abandoned");
    assert_eq!(
        program.actions(id).await,
        ["olivia: abandon car: abandon it"]
    );
    program.is_consistent().await;
}

#[tokio::test]
async fn step_after_the_pivot_can_be_written_off() {
    let program = Program::new().await;
    let [skipped, abandoned] = [Uuid::now_v7(), Uuid::now_v7()];
    program.start_as(&[skipped, abandoned], "refund_trip").await;
    let refusals = [skipped, abandoned].map(|id| (id, refuses("hotel", Direction::Do)));
    let applied = program.hears_all(&refusals).await;
    assert_eq!(applied.stuck.len(), 2);
    program.sent().await;
    program
        .operates(skipped, Action::Skip)
        .await
        .expect("it is stuck");
    program
        .operates(abandoned, Action::Abandon)
        .await
        .expect("it is stuck");
    let settled = [skipped, abandoned].map(|id| (id, does("hotel", Direction::Settle)));
    program.hears_all(&settled).await;
    let sent = program.sent().await;
    let asks = |id: Uuid| -> Vec<&str> {
        sent.iter()
            .filter(|sent| sent.saga == id)
            .map(|sent| &*sent.asks)
            .collect()
    };
    assert_eq!(asks(skipped), ["hotel/settle", "ticket/do"]);
    assert_eq!(asks(abandoned), ["hotel/settle", "ticket/settle"]);

    program.hears(skipped, does("ticket", Direction::Do)).await;
    program
        .hears(abandoned, does("ticket", Direction::Settle))
        .await;
    // A step without a settlement is done as usual.
    let applied = program
        .hears_all(&[skipped, abandoned].map(|id| (id, does("mail", Direction::Do))))
        .await;
    let ends: Vec<(Uuid, End)> = applied
        .ended
        .iter()
        .map(|ended| (ended.saga, ended.end))
        .collect();
    assert_eq!(
        ends,
        [(skipped, End::Completed), (abandoned, End::Abandoned)]
    );
    program.is_consistent().await;
}

#[tokio::test]
async fn second_of_two_operators_comes_too_late() {
    let program = Program::new().await;
    let id = program.stuck().await;
    let (one, two) = tokio::join!(
        program.operates(id, Action::Skip),
        program.operates(id, Action::Resume)
    );
    assert!(one.is_ok() != two.is_ok(), "{one:?} {two:?}");
    let late = one.and(two).expect_err("one of them");
    assert!(
        matches!(&late, Error::NotStuck(not) if not.state == "compensating"),
        "{late}"
    );
    assert_eq!(
        (program.actions(id).await.len(), program.sent().await.len()),
        (1, 1)
    );
    program.is_consistent().await;
}
