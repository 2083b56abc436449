//! Whole runs of a saga, and batches.

use holdfast::{
    outbox::Message,
    saga::{Direction, End, Outgoing},
};
use serde_json::json;
use uuid::Uuid;

use super::{
    definitions::Command,
    fixture::{Program, cancel, dispatch, does, refuses},
};

#[tokio::test]
async fn a_whole_run_forward() {
    let program = Program::new().await;
    let id = Uuid::now_v7();
    let applied = program.start(&[id]).await;
    assert!(applied.ended.is_empty() && applied.unknown.is_empty());
    let mut stands = vec![program.stands(id).await];
    for step in ["hotel", "car", "ticket"] {
        let applied = program.hears(id, does(step, Direction::Do)).await;
        assert_eq!(
            (applied.changed, applied.ignored, applied.ended.len()),
            (1, 0, 0),
            "{step}"
        );
        stands.push(program.stands(id).await);
    }
    let sent = program.sent().await;
    let says: Vec<&str> = sent.iter().map(|sent| &*sent.command.says).collect();
    assert_eq!(
        says,
        [
            "book a room",
            "hire a car",
            "buy a ticket",
            "send the tickets"
        ]
    );
    let applied = program.hears(id, does("mail", Direction::Do)).await;
    stands.push(program.stands(id).await);
    assert_eq!(
        stands,
        [
            "running hotel/do 1",
            "running car/do 1",
            "running ticket/do 1",
            "running mail/do 1",
            "completed"
        ]
    );
    let [ended] = &applied.ended[..] else {
        panic!("{applied:?}")
    };
    assert_eq!(
        (ended.saga, ended.definition, ended.end),
        (id, "book_trip", End::Completed)
    );
    let created_at: time::OffsetDateTime =
        sqlx::query_scalar("select created_at from saga where id = $1")
            .bind(id)
            .fetch_one(&program.pool)
            .await
            .expect("it is there");
    assert_eq!(ended.created_at, created_at);
    let row = program.row(id).await;
    assert_eq!((row.entries, row.due_at), (5, None));

    // This is stored for years: after a change here, older rows can no longer be read.
    let done = |step: usize, kind: &str| json!({"reply": {"step": step, "asked": "do", "outcome": "done", "answer": {"kind": kind}}});
    let expected = [
        (json!("start"), "send hotel/do, attempt 1"),
        (done(1, "hotel.do"), "send car/do, attempt 1"),
        (done(2, "car.do"), "send ticket/do, attempt 1"),
        (done(3, "ticket.do"), "send mail/do, attempt 1"),
        (done(4, "mail.do"), "completed"),
    ];
    let expected = expected.map(|(input, effect)| (input, Some(effect.to_owned())));
    assert_eq!(program.log(id).await, expected);
    assert_eq!(
        row.state,
        json!({
            "phase": {"ended": "completed"}, "at": 4, "asked": "do", "attempt": 1,
            "marks": [
                {"done": {"kind": "before"}}, {"done": {"kind": "hotel.do"}}, {"done": {"kind": "car.do"}},
                {"done": {"kind": "ticket.do"}}, {"done": {"kind": "mail.do"}},
            ],
            "cause": null, "skipped_by": null, "abandoned_by": null, "error": null,
        })
    );

    // Inputs after the end have no effect.
    for late in [
        does("mail", Direction::Do),
        refuses("hotel", Direction::Do),
        does("car", Direction::Undo),
        cancel(),
    ] {
        let applied = program.hears(id, late).await;
        assert_eq!((applied.changed, applied.ignored), (0, 1));
    }
    assert_eq!(program.row(id).await.entries, 5);
    assert!(program.sent().await.is_empty());
    program.is_consistent().await;
}

#[tokio::test]
async fn a_whole_run_back() {
    let program = Program::new().await;
    let id = program.started(&["hotel", "car"]).await;
    program.hears(id, refuses("ticket", Direction::Do)).await;
    let mut stands = vec![program.stands(id).await];
    for step in ["car", "hotel"] {
        program.hears(id, does(step, Direction::Undo)).await;
        stands.push(program.stands(id).await);
    }
    let sent = program.sent().await;
    let says: Vec<&str> = sent.iter().map(|sent| &*sent.command.says).collect();
    assert_eq!(says, ["return the car", "cancel the room", "it is off"]);
    let because = Some("ticket: refused: ticket.refused (whatever)".to_owned());
    assert!(
        sent.iter().all(|sent| sent.command.because == because),
        "{sent:#?}"
    );
    let applied = program
        .hears(id, does("tell_traveller", Direction::Undo))
        .await;
    assert_eq!(applied.ended[0].end, End::Compensated);
    stands.push(program.stands(id).await);
    assert_eq!(
        stands,
        [
            "compensating car/undo 1",
            "compensating hotel/undo 1",
            "compensating tell_traveller/undo 1",
            "compensated"
        ]
    );
    program.is_consistent().await;
}

#[tokio::test]
async fn cancel_before_the_pivot_undoes_what_may_have_been_done() {
    let program = Program::new().await;
    let [early, late] = [
        program.started(&[]).await,
        program.started(&["hotel", "car"]).await,
    ];
    let applied = program
        .hears_all(&[(late, cancel()), (early, cancel()), (early, cancel())])
        .await;
    assert_eq!((applied.changed, applied.ignored), (1, 2));
    // The room may have been booked, so it is cancelled. A late reply to the booking has no effect.
    assert_eq!(program.stands(early).await, "compensating hotel/undo 1");
    program.hears(early, does("hotel", Direction::Do)).await;
    assert_eq!(program.stands(early).await, "compensating hotel/undo 1");
    assert_eq!(program.stands(late).await, "running ticket/do 1");
    assert_eq!(program.asks().await, ["hotel/undo 1"]);
    program.is_consistent().await;
}

#[tokio::test]
async fn a_batch_is_folded_over_its_sagas() {
    let program = Program::new().await;
    let [one, two, three] = [
        program.started(&[]).await,
        program.started(&[]).await,
        program.started(&[]).await,
    ];
    let stranger = Uuid::now_v7();
    let inputs = [
        (two, does("hotel", Direction::Do)),
        (one, does("hotel", Direction::Do)),
        (stranger, does("hotel", Direction::Do)),
        (one, does("car", Direction::Do)),
        (three, does("no such step", Direction::Do)),
        (one, does("hotel", Direction::Do)),
        (three, refuses("hotel", Direction::Do)),
        (three, does("tell_traveller", Direction::Undo)),
        (one, does("ticket", Direction::Do)),
    ];
    // Each command knows the input that led to it.
    let mut led = Vec::new();
    let mut noting = |outgoing: &Outgoing<'_>, command: Command| -> Message {
        led.push((
            outgoing.cause,
            outgoing.saga,
            outgoing.step,
            outgoing.direction,
        ));
        assert_eq!(outgoing.subject, format!("trip {}", outgoing.saga));
        dispatch(outgoing, command)
    };
    let mut tx = program.begin().await;
    let applied = program
        .executor
        .apply(&mut tx, &inputs, &mut noting)
        .await
        .expect("it is taken in");
    tx.commit().await.expect("a commit");
    assert_eq!(
        led,
        [
            (0, two, "car", Direction::Do),
            (1, one, "car", Direction::Do),
            (3, one, "ticket", Direction::Do),
            (6, three, "tell_traveller", Direction::Undo),
            (8, one, "mail", Direction::Do),
        ]
    );
    assert_eq!(applied.unknown, [2, 4]);
    assert_eq!((applied.changed, applied.ignored), (6, 1));
    assert_eq!(applied.sent[&("car", Direction::Do)], 2);
    assert_eq!(applied.ended.len(), 1);
    assert_eq!(
        [
            program.stands(one).await,
            program.stands(two).await,
            program.stands(three).await
        ],
        ["running mail/do 1", "running car/do 1", "compensated"]
    );
    let sent: Vec<(Uuid, String)> = program
        .sent()
        .await
        .into_iter()
        .map(|sent| (sent.saga, sent.asks))
        .collect();
    let dispatched = led
        .into_iter()
        .map(|(_, saga, step, direction)| (saga, format!("{step}/{}", direction.name())));
    assert_eq!(sent, dispatched.collect::<Vec<_>>());
    program.is_consistent().await;

    let nothing = program.hears_all(&[]).await;
    assert_eq!(
        (nothing.changed, nothing.ignored, nothing.unknown.len()),
        (0, 0, 0)
    );
}
